//! Parameter policies (Systems Manager User Guide, "Assigning parameter policies").
//!
//! `Expiration` is kept to. The two notification policies tell EventBridge something; there is no
//! EventBridge here, so they are refused.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;
use wharf_core::Timestamp;

const POLICIES_MAX: usize = 10;

/// A policy of a parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// The JSON text that was given for it.
    pub text: String,
    pub expires_at: Timestamp,
}

/// Why the policies are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("the policies are not a JSON array of objects")]
    Malformed,
    #[error("there is no policy of this type")]
    UnknownType,
    #[error("the policy type {0} tells EventBridge, which does not exist here")]
    NotImplemented(&'static str),
    #[error("{0}")]
    Attribute(&'static str),
    #[error("there is more than one policy of a type")]
    Twice,
    #[error("there are more than {POLICIES_MAX} policies")]
    TooMany,
}

/// Reads the `Policies` of a request. `[]` and `[{}]` are no policies.
///
/// # Errors
/// See [`PolicyError`].
pub fn parse(text: &str, now: Timestamp) -> Result<Vec<Policy>, PolicyError> {
    let Ok(Value::Array(given)) = serde_json::from_str(text) else { return Err(PolicyError::Malformed) };
    if given.len() > POLICIES_MAX {
        return Err(PolicyError::TooMany);
    }
    let mut policies = Vec::new();
    for policy in given {
        let Value::Object(members) = &policy else { return Err(PolicyError::Malformed) };
        if members.is_empty() {
            continue;
        }
        match members.get("Type").and_then(Value::as_str) {
            Some("Expiration") => {}
            Some("ExpirationNotification") => {
                return Err(PolicyError::NotImplemented("ExpirationNotification"));
            }
            Some("NoChangeNotification") => return Err(PolicyError::NotImplemented("NoChangeNotification")),
            _ => return Err(PolicyError::UnknownType),
        }
        if members.get("Version").and_then(Value::as_str) != Some("1.0") {
            return Err(PolicyError::Attribute("the version of a policy is \"1.0\""));
        }
        let expires_at = members
            .get("Attributes")
            .and_then(|attributes| attributes.get("Timestamp"))
            .and_then(Value::as_str)
            .and_then(timestamp)
            .ok_or(PolicyError::Attribute("the attribute Timestamp must be a date and time of ISO 8601"))?;
        if expires_at <= now {
            return Err(PolicyError::Attribute("the attribute Timestamp must lie in the future"));
        }
        if !policies.is_empty() {
            return Err(PolicyError::Twice);
        }
        policies.push(Policy { text: policy.to_string(), expires_at });
    }
    Ok(policies)
}

fn timestamp(text: &str) -> Option<Timestamp> {
    let parsed = OffsetDateTime::parse(text, &Iso8601::PARSING).ok()?;
    i64::try_from(parsed.unix_timestamp_nanos() / 1_000_000).ok().map(Timestamp::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn expiration(timestamp: &str) -> String {
        format!(r#"[{{"Type":"Expiration","Version":"1.0","Attributes":{{"Timestamp":"{timestamp}"}}}}]"#)
    }

    #[test]
    fn an_expiration_in_the_future_is_taken() {
        let policies = parse(&expiration("2024-12-02T21:34:33.000Z"), NOW).unwrap();
        assert_eq!(policies[0].expires_at.to_iso8601(), "2024-12-02T21:34:33.000Z");
        assert!(policies[0].text.contains("Expiration"));
        let offset = parse(&expiration("2024-12-02T23:34:33+02:00"), NOW).unwrap();
        assert_eq!(offset[0].expires_at, policies[0].expires_at);
        assert_eq!(parse("[{}]", NOW), Ok(vec![]));
        assert_eq!(parse("[]", NOW), Ok(vec![]));
    }

    #[test]
    fn other_policies_are_refused() {
        assert_eq!(parse("{}", NOW), Err(PolicyError::Malformed));
        assert_eq!(parse("[1]", NOW), Err(PolicyError::Malformed));
        assert_eq!(parse(r#"[{"Type":"X"}]"#, NOW), Err(PolicyError::UnknownType));
        let notice =
            r#"[{"Type":"NoChangeNotification","Version":"1.0","Attributes":{"After":"20","Unit":"Days"}}]"#;
        assert_eq!(parse(notice, NOW), Err(PolicyError::NotImplemented("NoChangeNotification")));
        assert!(matches!(
            parse(&expiration("2020-12-02T21:34:33.000Z"), NOW),
            Err(PolicyError::Attribute(_))
        ));
        assert!(matches!(parse(&expiration("tomorrow"), NOW), Err(PolicyError::Attribute(_))));
        let once = expiration("2024-12-02T21:34:33.000Z");
        let twice = format!("[{0},{0}]", &once[1..once.len() - 1]);
        assert_eq!(parse(&twice, NOW), Err(PolicyError::Twice));
    }
}
