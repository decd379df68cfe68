//! UpdateSecret.

use wharf_core::{ApiError, RequestContext};
use wharf_secretsmanager_api::types;

use super::create::token_in_use;
use super::{refused, token};
use crate::change::Change;
use crate::plan::stages::{CURRENT, PENDING, PREVIOUS};
use crate::records::{KeyName, Version};
use crate::sealing::{self, Value};
use crate::{SecretsManager, parse_id};

impl SecretsManager {
    pub(super) async fn update_secret(
        &self,
        context: &RequestContext,
        input: types::UpdateSecretRequest,
    ) -> Result<types::UpdateSecretResponse, ApiError> {
        if input.r#type.is_some() {
            return Err(refused("UpdateSecret", "Type"));
        }
        let id = parse_id(&input.secret_id)?;
        let value = match Value::from_request(input.secret_string, input.secret_binary)? {
            Some(value) => Some((token(input.client_request_token)?, value)),
            None => None,
        };
        let key = match input.kms_key_id {
            Some(given) => Some(sealing::key_name(Some(&given), &context.scope)?),
            None => None,
        };
        let (secret, version_id) = self
            .store
            .transact(|transaction| {
                let mut change = Change::begin(transaction, context, &self.vault, &id)?;
                if let Some(description) = input.description {
                    change.secret.description = Some(description);
                }
                if let Some(key) = key {
                    seal_again(&mut change, key.as_ref())?;
                }
                let version_id = match value {
                    None => None,
                    Some((token, _)) if change.version(&token).is_some() => {
                        return Err(token_in_use(&token, &change.secret));
                    }
                    Some((token, value)) => {
                        change.add_version(&token, &value, &[])?;
                        Some(token)
                    }
                };
                Ok((change.finish()?, version_id))
            })
            .await
            .map_err(ApiError::from)?;
        Ok(types::UpdateSecretResponse { arn: Some(secret.arn()), name: Some(secret.name), version_id })
    }
}

/// Another KMS key: the versions that rotation knows are sealed again with it, older ones stay as
/// they are.
fn seal_again(change: &mut Change<'_, '_>, key: Option<&KeyName>) -> Result<(), ApiError> {
    change.secret.key = key.cloned();
    for version in change.versions() {
        let known = [CURRENT, PREVIOUS, PENDING].iter().any(|&stage| version.stages.contains(stage));
        if known && version.key.as_ref() != key {
            let value = sealing::unseal(change.vault, &version)?;
            let mut again = Version { key: key.cloned(), ..Version::clone(&version) };
            again.value = sealing::seal(change.vault, &again, &value);
            change.transaction.put(again);
        }
    }
    Ok(())
}
