//! A decision in AWS's words.
//!
//! IAM User Guide, "Troubleshoot access denied error messages"; for the details, STS API Reference,
//! `DecodeAuthorizationMessage`.

use std::fmt::Write as _;

use wharf_core::AccountId;

use crate::context::{Context, Values};
use crate::decide::{Decision, Layer, Verdict};
use crate::policy::{Effect, Statement};
use crate::principal::Caller;

/// Of the value of a condition key in the details of a denial.
const TOLD_CHARS_MAX: usize = 512;

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

/// The JSON that `sts:DecodeAuthorizationMessage` shows. `matched` are the statements that denied,
/// `keys` the condition keys to tell.
pub fn details(
    question: &Question<'_>,
    verdict: &Verdict,
    principal_id: &str,
    matched: &[&Statement],
    keys: &[&str],
) -> String {
    let told: Vec<String> = keys
        .iter()
        .filter_map(|key| {
            let values = match question.context.get(&key.to_ascii_lowercase())? {
                Values::One(value) => vec![value],
                Values::Many(values) => values,
            };
            let values = values.iter().map(|value| cut(value));
            Some(format!("{{\"key\":{},\"values\":{}}}", quoted(key), items(values)))
        })
        .collect();
    let statements: Vec<String> = matched.iter().map(|statement| described(statement)).collect();
    format!(
        "{{\"allowed\":{},\"explicitDeny\":{},\"matchedStatements\":{{\"items\":[{}]}},\"failures\":{{\"items\":[]}},\
         \"context\":{{\"principal\":{{\"id\":{},\"arn\":{}}},\"action\":{},\"resource\":{},\
         \"conditions\":{{\"items\":[{}]}}}}}}",
        verdict.decision == Decision::Allowed,
        verdict.decision == Decision::ExplicitDeny,
        statements.join(","),
        quoted(principal_id),
        quoted(question.caller.name()),
        quoted(question.action),
        quoted(question.resource),
        told.join(",")
    )
}

fn described(statement: &Statement) -> String {
    let effect = match statement.effect {
        Effect::Allow => "ALLOW",
        Effect::Deny => "DENY",
    };
    let (action, resource) = (
        if statement.actions.negated { "notActions" } else { "actions" },
        if statement.resources.as_ref().is_some_and(|of| of.negated) { "notResources" } else { "resources" },
    );
    let resources = statement.resources.as_ref().map_or(&[] as &[String], |resources| &resources.names);
    format!(
        "{{\"statementId\":{},\"effect\":\"{effect}\",\"{action}\":{},\"{resource}\":{}}}",
        quoted(statement.sid().unwrap_or_default()),
        items(statement.actions.names.iter().map(String::as_str)),
        items(resources.iter().map(String::as_str)),
    )
}

fn items<'a>(values: impl Iterator<Item = &'a str>) -> String {
    let values: Vec<String> = values.map(|value| format!("{{\"value\":{}}}", quoted(value))).collect();
    format!("{{\"items\":[{}]}}", values.join(","))
}

/// A header may be long; what is told of it need not be.
fn cut(value: &str) -> &str {
    let end = value.char_indices().map(|(at, _)| at).nth(TOLD_CHARS_MAX);
    end.map_or(value, |end| &value[..end])
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
