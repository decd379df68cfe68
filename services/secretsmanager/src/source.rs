//! Secrets for other services, on behalf of a principal.

use async_trait::async_trait;
use wharf_contracts::{
    AuthorizationRequest, Authorizer, Check, Decision, RequestFacts, SecretReference, SecretSource,
};
use wharf_core::{ApiError, RequestContext};
use wharf_secretsmanager_api::errors;
use wharf_vault::Secret;

use crate::SecretsManager;
use crate::authorization::value_check;
use crate::handlers::Wanted;

/// # Errors
/// `AccessDeniedException` with IAM's sentence.
pub fn ask(
    authorizer: &dyn Authorizer,
    context: &RequestContext,
    check: Check,
    called_via: &[&str],
) -> Result<(), ApiError> {
    let facts = RequestFacts { called_via, ..RequestFacts::default() };
    match authorizer.decide(&AuthorizationRequest { context, checks: &[check], facts: &facts }) {
        Decision::Allow => Ok(()),
        Decision::Deny(denial) => Err(ApiError::sender("AccessDeniedException", denial.message)),
    }
}

#[async_trait]
impl SecretSource for SecretsManager {
    async fn secret(
        &self,
        context: &RequestContext,
        called_via: &str,
        reference: &SecretReference,
    ) -> Result<Secret, ApiError> {
        let wanted = Wanted {
            version_id: reference.version_id.as_deref(),
            version_stage: reference.version_stage.as_deref(),
        };
        let check = value_check(self, context, &reference.secret_id, wanted);
        ask(&*self.authorizer, context, check, &[called_via])?;
        let (_, _, value) = self.open(context, &reference.secret_id, wanted).await?;
        match &reference.json_key {
            None => Ok(value.secret),
            Some(key) => json_member(&value.secret, key).ok_or_else(|| {
                errors::invalid_request_exception(format!(
                    "retrieved secret from Secrets Manager did not contain json key {key}"
                ))
            }),
        }
    }
}

/// A text as it is, anything else as JSON.
fn json_member(secret: &Secret, key: &str) -> Option<Secret> {
    let mut document: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(secret.expose()).ok()?;
    Some(match document.remove(key)? {
        serde_json::Value::String(text) => Secret::new(text),
        other => Secret::new(other.to_string()),
    })
}
