//! Policy documents: their size, their grammar and their form in answers.

use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use wharf_core::ApiError;
use wharf_iam_api::errors;

/// What a document is for, which decides what must stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of a user, group or role, or managed.
    Identity,
    /// Who may assume a role.
    Trust,
}

/// RFC 3986: everything but the unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The form of a document in answers.
pub fn encoded(document: &str) -> String {
    utf8_percent_encode(document, ENCODED).to_string()
}

/// The size that quotas are about: white space does not count.
pub fn size(document: &str) -> usize {
    document.chars().filter(|char| !char.is_whitespace()).count()
}

/// A document that may be stored.
///
/// # Errors
/// `MalformedPolicyDocument`.
pub fn checked(kind: Kind, document: &str) -> Result<Arc<str>, ApiError> {
    let _ = kind;
    let value: serde_json::Value = serde_json::from_str(document)
        .map_err(|_| errors::malformed_policy_document_exception("Syntax errors in policy."))?;
    if !value.is_object() {
        return Err(errors::malformed_policy_document_exception("Syntax errors in policy."));
    }
    Ok(document.into())
}
