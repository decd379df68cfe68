//! A decision in AWS's words.
//!
//! IAM User Guide, "Troubleshoot access denied error messages"; for the details, STS API Reference,
//! `DecodeAuthorizationMessage`.

use std::fmt::Write as _;

use wharf_core::AccountId;

use crate::context::{Context, Values};
use crate::decide::{Decision, Layer, Verdict};
use crate::principal::Caller;

/// May `caller` do `action` to `resource`?
#[derive(Clone, Copy)]
pub struct Question<'a> {
    pub caller: &'a Caller,
    /// `ecs:RunTask`.
    pub action: &'a str,
    /// An ARN, or `*`.
    pub resource: &'a str,
    /// The account that the resource belongs to; `None` when that is the caller's.
    pub owner: Option<AccountId>,
    pub context: &'a dyn Context,
}

/// `User: … is not authorized to perform: … on resource: … because …`.
pub fn sentence(question: &Question<'_>, verdict: &Verdict) -> String {
    let action = question.action;
    let mut text = format!(
        "User: {} is not authorized to perform: {action} on resource: {}",
        question.caller.name(),
        question.resource
    );
    // Writing to a text does not fail.
    let _ = match (verdict.decision, verdict.layer) {
        (Decision::ExplicitDeny, layer) => {
            write!(text, " with an explicit deny in {} {}", article(layer), name(layer))
        }
        // AWS tells nobody what a role's trust policy lacks.
        (Decision::ImplicitDeny, Layer::Trust) => Ok(()),
        (Decision::ImplicitDeny | Decision::Allowed, layer) => {
            write!(text, " because no {} allows the {action} action", name(layer))
        }
    };
    text
}

fn article(layer: Layer) -> &'static str {
    match layer {
        Layer::Identity => "an",
        Layer::Trust => "the",
        Layer::ServiceControl | Layer::Resource | Layer::Boundary | Layer::Session => "a",
    }
}

fn name(layer: Layer) -> &'static str {
    match layer {
        Layer::ServiceControl => "service control policy",
        Layer::Resource => "resource-based policy",
        Layer::Trust => "role trust policy",
        Layer::Identity => "identity-based policy",
        Layer::Boundary => "permissions boundary",
        Layer::Session => "session policy",
    }
}

/// The JSON that `sts:DecodeAuthorizationMessage` shows. `keys` are the condition keys to tell.
pub fn details(question: &Question<'_>, verdict: &Verdict, principal_id: &str, keys: &[&str]) -> String {
    let mut conditions = Vec::new();
    for key in keys {
        let values: Vec<String> = match question.context.get(&key.to_ascii_lowercase()) {
            None => continue,
            Some(Values::One(value)) => vec![value.into_owned()],
            Some(Values::Many(values)) => values.into_iter().map(std::borrow::Cow::into_owned).collect(),
        };
        let values: Vec<String> =
            values.iter().map(|value| format!("{{\"value\":{}}}", quoted(value))).collect();
        conditions.push(format!(
            "{{\"key\":{},\"values\":{{\"items\":[{}]}}}}",
            quoted(key),
            values.join(",")
        ));
    }
    format!(
        "{{\"allowed\":{},\"explicitDeny\":{},\"matchedStatements\":{{\"items\":[]}},\"failures\":{{\"items\":[]}},\
         \"context\":{{\"principal\":{{\"id\":{},\"arn\":{}}},\"action\":{},\"resource\":{},\
         \"conditions\":{{\"items\":[{}]}}}}}}",
        verdict.decision == Decision::Allowed,
        verdict.decision == Decision::ExplicitDeny,
        quoted(principal_id),
        quoted(question.caller.name()),
        quoted(question.action),
        quoted(question.resource),
        conditions.join(",")
    )
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}
