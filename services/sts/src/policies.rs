//! Session policies: what a request brings to narrow a session with, and how much of a token it and
//! the session's tags take.

use std::collections::BTreeMap;

use wharf_core::{AccountId, ApiError};
use wharf_policy::{Kind, Policy};
use wharf_sts_api::{errors, types};

use crate::Sts;
use crate::handlers::validation;
use crate::token::compress;

/// "The plaintext that you use for both inline and managed session policies can't exceed 2,048
/// characters."
const PLAINTEXT_CHARACTERS_MAX: usize = 2048;
const POLICY_ARNS_MAX: usize = 10;
/// What policies, their ARNs and tags may take in a token, compressed: `PackedPolicySize` is the part
/// of it in per cent. AWS does not tell its own figure.
const PACKED_BYTES_MAX: usize = 2048;

pub(crate) struct SessionPolicies {
    pub inline: Vec<String>,
    pub arns: Vec<String>,
}

/// Checks what a request brings. Managed policies must be of the account, or AWS's.
///
/// # Errors
/// `MalformedPolicyDocument`, `ValidationError`.
pub(crate) fn of_session(
    sts: &Sts,
    account: AccountId,
    inline: Option<String>,
    arns: Option<Vec<types::PolicyDescriptorType>>,
) -> Result<SessionPolicies, ApiError> {
    let arns: Vec<String> = arns.unwrap_or_default().into_iter().filter_map(|policy| policy.arn).collect();
    if arns.len() > POLICY_ARNS_MAX {
        return Err(validation(format!(
            "1 validation error detected: Value at 'policyArns' failed to satisfy constraint: Member must have \
             length less than or equal to {POLICY_ARNS_MAX}"
        )));
    }
    let characters = |text: &String| text.chars().count();
    let plaintext: usize = inline.iter().chain(&arns).map(characters).sum();
    if plaintext > PLAINTEXT_CHARACTERS_MAX {
        return Err(validation(format!(
            "1 validation error detected: Value at 'policy' failed to satisfy constraint: Member must have length \
             less than or equal to {PLAINTEXT_CHARACTERS_MAX}"
        )));
    }
    if let Some(document) = &inline {
        Policy::parse(Kind::Identity, document)
            .map_err(|error| errors::malformed_policy_document_exception(error.to_string()))?;
    }
    for arn in &arns {
        if sts.identities.managed_policy(account, arn).is_none() {
            return Err(validation(format!("Policy {arn} does not exist or is not attachable.")));
        }
    }
    Ok(SessionPolicies { inline: inline.into_iter().collect(), arns })
}

/// `PackedPolicySize`; `None` when there is nothing to pack.
///
/// # Errors
/// `PackedPolicyTooLarge` above 100 per cent.
pub(crate) fn packed_percent(
    policies: &SessionPolicies,
    tags: &BTreeMap<String, String>,
) -> Result<Option<i32>, ApiError> {
    let has_policies = !policies.inline.is_empty() || !policies.arns.is_empty();
    if !has_policies && tags.is_empty() {
        return Ok(None);
    }
    let mut plain = Vec::new();
    let mut add = |text: &str| {
        plain.extend_from_slice(text.as_bytes());
        plain.push(0);
    };
    policies.inline.iter().chain(&policies.arns).for_each(|text| add(text));
    for (key, value) in tags {
        add(key);
        add(value);
    }
    let percent = (compress(&plain).len() * 100).div_ceil(PACKED_BYTES_MAX);
    if percent > 100 {
        return Err(errors::packed_policy_too_large_exception(if has_policies {
            format!("Packed policy consumes {percent}% of allotted space, please use smaller policy.")
        } else {
            format!("Packed size of session tags consumes {percent}% of allotted space.")
        }));
    }
    // At most 100.
    Ok(Some(percent as i32))
}
