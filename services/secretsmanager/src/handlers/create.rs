//! CreateSecret.

use wharf_core::{ApiError, RequestContext, Rng, Scope};
use wharf_secretsmanager_api::{errors, types};
use wharf_state::Transaction;

use super::{refused, replica, tag, token};
use crate::change::Change;
use crate::plan::id::{NAME_CHARS_MAX, SUFFIX_CHARS, is_name};
use crate::records::{Role, Secret, Version};
use crate::replicate::Existing;
use crate::sealing::{self, Value};
use crate::{SecretsManager, remove, validation};

const OPERATION: &str = "CreateSecret";
/// Secrets of an account in a region (AWS General Reference, "AWS Secrets Manager endpoints and
/// quotas").
const SECRETS_MAX: usize = 500_000;
const SUFFIX_ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

impl SecretsManager {
    pub(super) async fn create_secret(
        &self,
        context: &RequestContext,
        input: types::CreateSecretRequest,
    ) -> Result<types::CreateSecretResponse, ApiError> {
        for (field, given) in [
            ("Type", input.r#type.is_some()),
            ("CrossAccountPrimaryARN", input.cross_account_primary_arn.is_some()),
        ] {
            if given {
                return Err(refused(OPERATION, field));
            }
        }
        let value = Value::from_request(input.secret_string, input.secret_binary)?;
        let version_id = match &value {
            Some(_) => Some(token(input.client_request_token)?),
            None => None,
        };
        if !is_name(&input.name) || input.name.len() > NAME_CHARS_MAX {
            return Err(validation(
                "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: \
                 -/_+=.@!",
            ));
        }
        let existing = if input.force_overwrite_replica_secret == Some(true) {
            Existing::Overwrite
        } else {
            Existing::Keep
        };
        let secret = Secret {
            scope: context.scope.clone(),
            name: input.name,
            suffix: suffix(&*self.rng),
            description: input.description,
            key: sealing::key_name(input.kms_key_id.as_deref(), &context.scope)?,
            tags: tag::from_api(input.tags.unwrap_or_default())?,
            policy: None,
            created_at: context.now,
            changed_at: context.now,
            accessed_on: None,
            deleted_at: None,
            role: Role::Primary {
                replicas: replica::from_api(&context.scope, input.add_replica_regions.unwrap_or_default())?,
            },
        };
        let new = New { secret, value, version_id, existing };
        let secret = self
            .store
            .transact(|transaction| self.create(transaction, context, new))
            .await
            .map_err(ApiError::from)?;
        let (secret, version_id) = secret;
        let replication_status = self.replication_status(&secret);
        Ok(types::CreateSecretResponse {
            arn: Some(secret.arn()),
            name: Some(secret.name),
            version_id,
            replication_status: (!replication_status.is_empty()).then_some(replication_status),
        })
    }

    fn create(
        &self,
        transaction: &mut Transaction<'_>,
        context: &RequestContext,
        new: New,
    ) -> Result<(Secret, Option<String>), ApiError> {
        use wharf_state::Record as _;
        let New { mut secret, value, version_id, existing } = new;
        if let Some(found) = transaction.get::<Secret>(&secret.key()) {
            match found.deleted_at {
                // Deleted for everybody, and not yet swept away.
                Some(at) if at <= context.now => remove(transaction, &secret.scope, &secret.name),
                Some(_) => {
                    return Err(errors::invalid_request_exception(
                        "You can't create this secret because a secret with this name is already scheduled for \
                         deletion.",
                    ));
                }
                None => return self.created_before(transaction, &found, value.as_ref(), version_id),
            }
        }
        if transaction.count::<Secret>() >= SECRETS_MAX && in_scope(transaction, &secret.scope) >= SECRETS_MAX
        {
            return Err(errors::limit_exceeded_exception(format!(
                "You've reached the limit of {SECRETS_MAX} secrets in this Region."
            )));
        }
        if let Role::Primary { replicas } = &mut secret.role {
            let mut replicas = std::mem::take(replicas);
            replica::claim_all(transaction, &secret, &mut replicas, existing, context.now);
            secret.role = Role::Primary { replicas };
        }
        let mut change = Change { transaction, context, vault: &self.vault, secret };
        if let (Some(value), Some(id)) = (&value, &version_id) {
            change.add_version(id, value, &[])?;
        }
        Ok((change.finish()?, version_id))
    }

    /// A request that is sent again is answered again.
    fn created_before(
        &self,
        transaction: &Transaction<'_>,
        found: &Secret,
        value: Option<&Value>,
        version_id: Option<String>,
    ) -> Result<(Secret, Option<String>), ApiError> {
        let exists = || {
            errors::resource_exists_exception(format!(
                "The operation failed because the secret {} already exists.",
                found.name
            ))
        };
        let (Some(value), Some(id)) = (value, version_id) else { return Err(exists()) };
        let key = (found.scope.clone(), found.name.clone(), id.clone());
        let version = transaction.get::<Version>(&key).ok_or_else(exists)?;
        if sealing::unseal(&self.vault, &version)?.equals(value) {
            Ok((found.clone(), Some(id)))
        } else {
            Err(token_in_use(&id, found))
        }
    }
}

struct New {
    secret: Secret,
    value: Option<Value>,
    version_id: Option<String>,
    existing: Existing,
}

/// A token stands for another value.
pub fn token_in_use(token: &str, secret: &Secret) -> ApiError {
    errors::resource_exists_exception(format!(
        "You can't use ClientRequestToken {token} because that value is already in use for a version of secret {}.",
        secret.arn()
    ))
}

fn suffix(rng: &dyn Rng) -> String {
    let one = |_| char::from(SUFFIX_ALPHABET[rng.below(SUFFIX_ALPHABET.len() as u64) as usize]);
    (0..SUFFIX_CHARS).map(one).collect()
}

fn in_scope(transaction: &Transaction<'_>, scope: &Scope) -> usize {
    use wharf_state::Key as _;
    transaction.prefix::<Secret>(&scope.to_bytes()).count()
}
