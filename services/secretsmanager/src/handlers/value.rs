//! PutSecretValue, GetSecretValue, BatchGetSecretValue.

use std::sync::Arc;
use std::time::Duration;

use wharf_core::{ApiError, RequestContext, Timestamp};
use wharf_secretsmanager_api::{errors, types};
use wharf_state::{Record as _, Snapshot};

use super::create::token_in_use;
use super::page::{Order, PageRequest, invalid_token};
use super::{list, refused, token, versions};
use crate::authorization::value_check;
use crate::change::Change;
use crate::plan::stages::CURRENT;
use crate::records::{Form, Secret, Version};
use crate::sealing::{self, Value};
use crate::{SecretsManager, find, no_secret, parse_id, source, usable};

const BATCH_MAX: usize = 20;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Which version of a secret is meant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    pub version_id: Option<&'a str>,
    pub version_stage: Option<&'a str>,
}

impl SecretsManager {
    pub(super) async fn put_secret_value(
        &self,
        context: &RequestContext,
        input: types::PutSecretValueRequest,
    ) -> Result<types::PutSecretValueResponse, ApiError> {
        if input.rotation_token.is_some() {
            return Err(refused("PutSecretValue", "RotationToken"));
        }
        let id = parse_id(&input.secret_id)?;
        let value = Value::from_request(input.secret_string, input.secret_binary)?.ok_or_else(no_value)?;
        let token = token(input.client_request_token)?;
        let stages = input.version_stages.unwrap_or_default();
        let (secret, version) = self
            .store
            .transact(|transaction| {
                let mut change = Change::begin(transaction, context, &self.vault, &id)?;
                if let Some(version) = change.version(&token) {
                    return if sealing::unseal(&self.vault, &version)?.equals(&value) {
                        Ok((change.secret, version))
                    } else {
                        Err(token_in_use(&token, &change.secret))
                    };
                }
                change.add_version(&token, &value, &stages)?;
                let version = change.version(&token).ok_or_else(no_secret)?;
                Ok((change.finish()?, version))
            })
            .await
            .map_err(ApiError::from)?;
        Ok(types::PutSecretValueResponse {
            arn: Some(secret.arn()),
            name: Some(secret.name),
            version_id: Some(version.id.clone()),
            version_stages: Some(version.stages.iter().cloned().collect()),
        })
    }

    pub(super) async fn get_secret_value(
        &self,
        context: &RequestContext,
        input: types::GetSecretValueRequest,
    ) -> Result<types::GetSecretValueResponse, ApiError> {
        let wanted =
            Wanted { version_id: input.version_id.as_deref(), version_stage: input.version_stage.as_deref() };
        let entry = self.read(context, &input.secret_id, wanted).await?;
        Ok(types::GetSecretValueResponse {
            arn: entry.arn,
            created_date: entry.created_date,
            name: entry.name,
            secret_binary: entry.secret_binary,
            secret_string: entry.secret_string,
            version_id: entry.version_id,
            version_stages: entry.version_stages,
        })
    }

    pub(super) async fn batch_get_secret_value(
        &self,
        context: &RequestContext,
        input: types::BatchGetSecretValueRequest,
    ) -> Result<types::BatchGetSecretValueResponse, ApiError> {
        let (ids, next_token) = match (input.secret_id_list, input.filters) {
            (Some(ids), None) => {
                if input.max_results.is_some() {
                    return Err(errors::invalid_parameter_exception(
                        "'Filters' not specified. 'Filters' must also be specified when 'MaxResults' is provided.",
                    ));
                }
                // A list of ids has no pages, so no token is its.
                if input.next_token.is_some() {
                    return Err(invalid_token());
                }
                (ids, None)
            }
            (None, Some(filters)) => {
                let filters = list::from_api(filters)?;
                let page = PageRequest::new(
                    "BatchGetSecretValue".to_owned(),
                    input.next_token.as_deref(),
                    input.max_results,
                    BATCH_MAX,
                )?;
                let secrets = list::matching(&self.store.snapshot(), context, &filters);
                let usable = secrets.into_iter().filter(|secret| secret.deleted_at.is_none());
                page.take(
                    usable.map(|secret| (secret.name.clone(), secret.arn())).collect(),
                    Order::Ascending,
                )
            }
            _ => {
                return Err(errors::invalid_parameter_exception(
                    "Either 'SecretIdList' or 'Filters' must be provided, but not both.",
                ));
            }
        };
        let (mut values, mut failed) = (Vec::new(), Vec::new());
        for id in ids {
            match self.read_if_allowed(context, &id).await {
                Ok(value) => values.push(value),
                // What went wrong with us is told of the whole call, and logged.
                Err(error) if error.cause().is_some() => return Err(error),
                Err(error) => failed.push(types::APIErrorType {
                    error_code: Some(error.code.into_owned()),
                    message: Some(error.message),
                    secret_id: Some(id),
                }),
            }
        }
        Ok(types::BatchGetSecretValueResponse {
            secret_values: Some(values),
            errors: Some(failed),
            next_token,
        })
    }

    async fn read_if_allowed(
        &self,
        context: &RequestContext,
        id: &str,
    ) -> Result<types::SecretValueEntry, ApiError> {
        let check = value_check(self, context, id, Wanted::default());
        source::ask(&*self.authorizer, context, check, &[])?;
        self.read(context, id, Wanted::default()).await
    }

    /// The value in clear. Whether the caller may see it has been asked.
    async fn read(
        &self,
        context: &RequestContext,
        id: &str,
        wanted: Wanted<'_>,
    ) -> Result<types::SecretValueEntry, ApiError> {
        let (secret, version, value) = self.open(context, id, wanted).await?;
        let (secret_string, secret_binary) = match value.form {
            Form::Text => (value.secret.expose_text().map(ToOwned::to_owned), None),
            Form::Binary => (None, Some(value.secret.expose().to_owned())),
        };
        Ok(types::SecretValueEntry {
            arn: Some(secret.arn()),
            created_date: Some(version.created_at),
            name: Some(secret.name.clone()),
            secret_binary,
            secret_string,
            version_id: Some(version.id.clone()),
            version_stages: Some(version.stages.iter().cloned().collect()),
        })
    }

    /// Opens a version, and notes that it was read today.
    pub(crate) async fn open(
        &self,
        context: &RequestContext,
        id: &str,
        wanted: Wanted<'_>,
    ) -> Result<(Arc<Secret>, Arc<Version>, Value), ApiError> {
        let id = parse_id(id)?;
        let snapshot = self.store.snapshot();
        let secret = usable(find(&snapshot, context, &id).ok_or_else(no_secret)?)?;
        let version = choose(&snapshot, &secret, wanted)?;
        if secret.scope.account != context.account() && version.key.is_none() {
            return Err(errors::invalid_request_exception(
                "You can't access a secret from a different AWS account if you encrypt the secret with the default \
                 KMS service key.",
            ));
        }
        let value = sealing::unseal(&self.vault, &version)?;
        self.note_access(&secret, &version, context.now).await?;
        Ok((secret, version, value))
    }

    /// Written once a day, so that reading costs no write.
    async fn note_access(&self, secret: &Secret, version: &Version, now: Timestamp) -> Result<(), ApiError> {
        let today = day_of(now);
        if secret.accessed_on == Some(today) && version.accessed_on == Some(today) {
            return Ok(());
        }
        let (secret_key, version_key) = (secret.key(), version.key());
        self.store
            .transact(|transaction| {
                if let Some(secret) = transaction.get::<Secret>(&secret_key) {
                    transaction.put(Secret { accessed_on: Some(today), ..Secret::clone(&secret) });
                }
                if let Some(version) = transaction.get::<Version>(&version_key) {
                    transaction.put(Version { accessed_on: Some(today), ..Version::clone(&version) });
                }
                Ok(())
            })
            .await
            .map_err(ApiError::from)
    }
}

fn day_of(now: Timestamp) -> Timestamp {
    let day = i64::try_from(DAY.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(now.as_millis().div_euclid(day) * day)
}

/// The version that is meant: by id, by label, by both, or the current one.
fn choose(snapshot: &Snapshot, secret: &Secret, wanted: Wanted<'_>) -> Result<Arc<Version>, ApiError> {
    let missing = |what: &str, name: &str| {
        errors::resource_not_found_exception(format!(
            "Secrets Manager can't find the specified secret value for {what}: {name}"
        ))
    };
    if let Some(id) = wanted.version_id {
        let key = (secret.scope.clone(), secret.name.clone(), id.to_owned());
        let version = snapshot.get::<Version>(&key).ok_or_else(|| missing("VersionId", id))?;
        if wanted.version_stage.is_some_and(|stage| !version.stages.contains(stage)) {
            return Err(errors::invalid_request_exception(
                "You provided a VersionStage that is not associated to the provided VersionId.",
            ));
        }
        return Ok(version);
    }
    let stage = wanted.version_stage.unwrap_or(CURRENT);
    versions(snapshot, secret)
        .into_iter()
        .find(|version| version.stages.contains(stage))
        .ok_or_else(|| missing("staging label", stage))
}

fn no_value() -> ApiError {
    errors::invalid_request_exception("You must provide either SecretString or SecretBinary.")
}
