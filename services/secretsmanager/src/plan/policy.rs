//! Whether a resource policy lets everybody in (Secrets Manager User Guide, "Block broad access to
//! secrets with BlockPublicPolicy").

use std::net::IpAddr;

use serde_json::Value;

/// Condition keys that tie a wildcard principal to somebody ("The meaning of public" in the S3 User
/// Guide, whose list AWS's policy checks share).
const TYING_KEYS: [&str; 13] = [
    "aws:principalaccount",
    "aws:principalarn",
    "aws:principalorgid",
    "aws:principalorgpaths",
    "aws:sourceaccount",
    "aws:sourcearn",
    "aws:sourceip",
    "aws:sourceorgid",
    "aws:sourceorgpaths",
    "aws:sourceowner",
    "aws:sourcevpc",
    "aws:sourcevpce",
    "aws:userid",
];

/// Wider ranges of addresses are public, says the page whose keys these are.
const IPV4_BITS_MIN: u8 = 8;
const IPV6_BITS_MIN: u8 = 32;

/// Whether a statement of the document allows something to everybody. The document's grammar has
/// been checked.
pub fn is_public(document: &str) -> bool {
    let Ok(document) = serde_json::from_str::<Value>(document) else { return false };
    let statements = match document.get("Statement") {
        Some(Value::Array(statements)) => statements.as_slice(),
        Some(statement) => std::slice::from_ref(statement),
        None => &[],
    };
    statements.iter().any(|statement| {
        let allows = statement.get("Effect").and_then(Value::as_str) == Some("Allow");
        let everybody = statement.get("Principal").is_some_and(names_everybody)
            || statement.get("NotPrincipal").is_some();
        allows && everybody && !is_tied(statement.get("Condition"))
    })
}

fn names_everybody(principal: &Value) -> bool {
    match principal {
        Value::String(text) => text == "*",
        Value::Array(all) => all.iter().any(names_everybody),
        Value::Object(kinds) => kinds.get("AWS").is_some_and(names_everybody),
        _ => false,
    }
}

/// Only operators that compare with something certain tie, and only to values that are.
fn is_tied(condition: Option<&Value>) -> bool {
    let Some(Value::Object(operators)) = condition else { return false };
    operators.iter().any(|(operator, keys)| {
        let compares = ["StringEquals", "StringLike", "ArnEquals", "ArnLike", "IpAddress"];
        let compares = compares.iter().any(|known| operator.eq_ignore_ascii_case(known));
        let Value::Object(keys) = keys else { return false };
        compares
            && keys.iter().any(|(key, values)| {
                TYING_KEYS.contains(&key.to_ascii_lowercase().as_str()) && is_certain(values)
            })
    })
}

fn is_certain(values: &Value) -> bool {
    match values {
        Value::String(text) => is_somebody(text),
        Value::Array(values) => !values.is_empty() && values.iter().all(is_certain),
        _ => false,
    }
}

/// Whether a value leaves open neither who is meant nor, in an address range, half of the Internet.
fn is_somebody(text: &str) -> bool {
    if text.is_empty() || text.contains("${") {
        return false;
    }
    if let Some((address, bits)) = text.split_once('/')
        && let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u8>())
    {
        return bits >= if address.is_ipv4() { IPV4_BITS_MIN } else { IPV6_BITS_MIN };
    }
    let Some(wildcard) = text.find(['*', '?']) else { return true };
    let fixed = &text[..wildcard];
    if text.starts_with("arn:") {
        // Whose it is must stand before the wildcard.
        let parts: Vec<&str> = fixed.splitn(6, ':').collect();
        return parts.len() == 6 && !parts[4].is_empty();
    }
    // What lies below an organization is `o-id/*`. The sessions of a role, `AROAID:*`, are public to
    // the page whose keys these are.
    fixed.find('/').is_some_and(|at| at > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(rest: &str) -> String {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"secretsmanager:*","Resource":"*",{rest}}}]}}"#
        )
    }

    #[test]
    fn a_wildcard_principal_without_a_condition_that_ties_is_public() {
        for rest in [
            r#""Principal":"*""#,
            r#""Principal":{"AWS":"*"}"#,
            r#""Principal":{"AWS":["arn:aws:iam::123456789012:root","*"]}"#,
            r#""NotPrincipal":{"AWS":"arn:aws:iam::123456789012:root"}"#,
            r#""Principal":"*","Condition":{"StringLike":{"aws:PrincipalArn":"*"}}"#,
            r#""Principal":"*","Condition":{"StringLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/x"}}"#,
            r#""Principal":"*","Condition":{"ArnLike":{"aws:SourceArn":["arn:aws:iam::123456789012:role/x","arn:*"]}}"#,
            r#""Principal":"*","Condition":{"StringLike":{"aws:PrincipalAccount":"1*"}}"#,
            r#""Principal":"*","Condition":{"StringLike":{"aws:userid":"AROAEXAMPLE:*"}}"#,
            r#""Principal":"*","Condition":{"StringLike":{"aws:PrincipalOrgPaths":"o-*/r-1/"}}"#,
            r#""Principal":"*","Condition":{"IpAddress":{"aws:SourceIp":"0.0.0.0/1"}}"#,
            r#""Principal":"*","Condition":{"IpAddress":{"aws:SourceIp":"::/0"}}"#,
            r#""Principal":"*","Condition":{"StringNotEquals":{"aws:PrincipalAccount":"123456789012"}}"#,
            r#""Principal":"*","Condition":{"StringEquals":{"aws:UserAgent":"x"}}"#,
        ] {
            assert!(is_public(&statement(rest)), "{rest}");
        }
        for rest in [
            r#""Principal":{"AWS":"arn:aws:iam::123456789012:root"}"#,
            r#""Principal":{"Service":"ecs-tasks.amazonaws.com"}"#,
            r#""Principal":"*","Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-1"}}"#,
            r#""Principal":"*","Condition":{"StringLike":{"aws:PrincipalOrgPaths":"o-1/r-1/*"}}"#,
            r#""Principal":"*","Condition":{"IpAddress":{"aws:SourceIp":["10.0.0.0/8","192.0.2.1"]}}"#,
            r#""Principal":"*","Condition":{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::123456789012:role/x*"}}"#,
        ] {
            assert!(!is_public(&statement(rest)), "{rest}");
        }
        assert!(!is_public("{"));
    }
}
