//! Values that a service needs on behalf of a principal: the `secrets` of a container, the password
//! of a private registry.

use async_trait::async_trait;
use wharf_core::{ApiError, RequestContext};
use wharf_vault::Secret;

/// Parameters of Parameter Store.
#[async_trait]
pub trait ParameterSource: Send + Sync {
    /// The value, in clear, of the parameter that a name or an ARN with or without a selector points
    /// at, in the account and region of `context`. `context.principal` must be allowed
    /// `ssm:GetParameters` on it; `called_via` is the service that asks (`ecs-tasks.amazonaws.com`).
    ///
    /// # Errors
    /// As Systems Manager words them: `AccessDeniedException`, `ParameterNotFound`,
    /// `ParameterVersionNotFound`, `ValidationException`.
    async fn parameter(
        &self,
        context: &RequestContext,
        called_via: &str,
        name_or_arn: &str,
    ) -> Result<Secret, ApiError>;
}

/// Secrets of Secrets Manager.
#[async_trait]
pub trait SecretSource: Send + Sync {
    /// The value, in clear, of a secret or of one key of its JSON. `context.principal` must be
    /// allowed `secretsmanager:GetSecretValue` on it; `called_via` is the service that asks.
    ///
    /// # Errors
    /// As Secrets Manager words them: `AccessDeniedException`, `ResourceNotFoundException`,
    /// `InvalidRequestException`, `ValidationException`.
    async fn secret(
        &self,
        context: &RequestContext,
        called_via: &str,
        reference: &SecretReference,
    ) -> Result<Secret, ApiError>;
}

/// Which value of which secret (Amazon ECS Developer Guide, "Pass Secrets Manager secrets through
/// Amazon ECS environment variables").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretReference {
    /// A name or an ARN.
    pub secret_id: String,
    pub json_key: Option<String>,
    /// `AWSCURRENT` when neither a stage nor a version is named.
    pub version_stage: Option<String>,
    pub version_id: Option<String>,
}

impl SecretReference {
    /// `NAME`, `ARN` or `ARN:json-key:version-stage:version-id`, of which the last three may be empty
    /// or left out.
    pub fn parse(text: &str) -> Self {
        let whole =
            || Self { secret_id: text.to_owned(), json_key: None, version_stage: None, version_id: None };
        if !text.starts_with("arn:") {
            return whole();
        }
        // arn:partition:secretsmanager:region:account:secret:NAME, then the three.
        let parts: Vec<&str> = text.splitn(11, ':').collect();
        if parts.len() < 8 || parts.len() > 10 {
            return whole();
        }
        let given =
            |index: usize| parts.get(index).filter(|part| !part.is_empty()).map(|&part| part.to_owned());
        Self {
            secret_id: parts[..7].join(":"),
            json_key: given(7),
            version_stage: given(8),
            version_id: given(9),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_behind_an_arn_are_optional() {
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf";
        let parse = SecretReference::parse;
        let plain =
            SecretReference { secret_id: arn.into(), json_key: None, version_stage: None, version_id: None };
        assert_eq!(parse(arn), plain);
        assert_eq!(parse(&format!("{arn}:::")), plain);
        let keyed = SecretReference { json_key: Some("password".into()), ..plain.clone() };
        assert_eq!(parse(&format!("{arn}:password::")), keyed);
        assert_eq!(parse(&format!("{arn}:password")), keyed);
        let staged = SecretReference { version_stage: Some("AWSPREVIOUS".into()), ..plain.clone() };
        assert_eq!(parse(&format!("{arn}::AWSPREVIOUS:")), staged);
        let version = SecretReference { version_id: Some("v".into()), ..plain };
        assert_eq!(parse(&format!("{arn}:::v")), version);
        assert_eq!(parse("db").secret_id, "db");
        let long = format!("{arn}:a:b:c:d");
        assert_eq!(parse(&long).secret_id, long);
    }
}
