//! Policy documents: their size, their grammar and their form in answers.

use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use wharf_core::{AccountId, ApiError, Arn, RequestContext};
use wharf_iam_api::errors;
use wharf_policy::Policy;
pub use wharf_policy::{Kind, character_count as size};

use crate::find::{Read, named};
use crate::records::{Role, User};

/// RFC 3986: everything but the unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The form of a document in answers.
pub fn encoded(document: &str) -> String {
    utf8_percent_encode(document, ENCODED).to_string()
}

/// A document that may be stored.
///
/// # Errors
/// `MalformedPolicyDocument`, with what is wrong.
pub fn checked(kind: Kind, document: &str) -> Result<Arc<str>, ApiError> {
    Policy::parse(kind, document)
        .map_err(|error| errors::malformed_policy_document_exception(error.to_string()))?;
    Ok(document.into())
}

/// Checks that the users and roles of this account that a trust policy names exist, as AWS does
/// when it is written.
///
/// # Errors
/// `MalformedPolicyDocument`: `Invalid principal in policy: "AWS":"arn:…"`.
pub fn check_principals(read: &impl Read, context: &RequestContext, document: &str) -> Result<(), ApiError> {
    let Ok(Value::Object(policy)) = serde_json::from_str::<Value>(document) else { return Ok(()) };
    for statement in items(policy.get("Statement")) {
        for key in ["Principal", "NotPrincipal"] {
            let Some(Value::Object(principals)) = statement.get(key) else { continue };
            for principal in items(principals.get("AWS")).filter_map(Value::as_str) {
                if !exists(read, context, principal) {
                    return Err(errors::malformed_policy_document_exception(format!(
                        "Invalid principal in policy: \"AWS\":\"{principal}\""
                    )));
                }
            }
        }
    }
    Ok(())
}

/// The items of a list, or the one thing that stands in its place.
fn items(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    let (list, one) = match value {
        Some(Value::Array(list)) => (list.as_slice(), None),
        other => (Default::default(), other),
    };
    list.iter().chain(one)
}

/// `false` for a user or role of this account that does not exist, and for what is no principal.
fn exists(read: &impl Read, context: &RequestContext, principal: &str) -> bool {
    if principal == "*" || principal.parse::<AccountId>().is_ok() {
        return true;
    }
    let Ok(arn) = principal.parse::<Arn>() else { return false };
    let (Some(account), None) = (arn.account, &arn.region) else { return false };
    if arn.partition != context.partition() {
        return false;
    }
    match (arn.service.as_str(), arn.resource.split_once('/')) {
        ("iam", None) => arn.resource == "root",
        // What other accounts have is not told.
        ("iam", Some(("user" | "role", _))) if account != context.account() => true,
        ("iam", Some(("user", rest))) => named::<User>(read, account, last(rest))
            .is_some_and(|user| arn.resource == format!("user{}{}", user.path, user.name)),
        ("iam", Some(("role", rest))) => named::<Role>(read, account, last(rest))
            .is_some_and(|role| arn.resource == format!("role{}{}", role.path, role.name)),
        ("sts", Some(("assumed-role" | "federated-user", rest))) => !rest.is_empty(),
        _ => false,
    }
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}
