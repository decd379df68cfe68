//! DeleteSecret, RestoreSecret.

use std::time::Duration;

use wharf_core::{ApiError, RequestContext};
use wharf_secretsmanager_api::{errors, types};

use crate::change::refuse_replica;
use crate::{SecretsManager, find_to_change, parse_id, remove, usable};

const WINDOW_DAYS_DEFAULT: i64 = 30;
const DAY_SECS: u64 = 24 * 60 * 60;

impl SecretsManager {
    pub(super) async fn delete_secret(
        &self,
        context: &RequestContext,
        input: types::DeleteSecretRequest,
    ) -> Result<types::DeleteSecretResponse, ApiError> {
        let id = parse_id(&input.secret_id)?;
        let force = input.force_delete_without_recovery == Some(true);
        let days = match input.recovery_window_in_days {
            Some(_) if force => {
                return Err(errors::invalid_parameter_exception(
                    "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.",
                ));
            }
            Some(days) if !(7..=30).contains(&days) => {
                return Err(errors::invalid_parameter_exception(
                    "The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).",
                ));
            }
            days => days.unwrap_or(WINDOW_DAYS_DEFAULT),
        };
        let window = Duration::from_secs(u64::try_from(days).unwrap_or_default() * DAY_SECS);
        let at = if force { context.now } else { context.now.plus(window) };
        let found = self
            .store
            .transact(|transaction| {
                let mut secret = match find_to_change(transaction, context, &id) {
                    Ok(secret) => secret,
                    // To force what is not there is no error.
                    Err(_) if force => return Ok(None),
                    Err(error) => return Err(error),
                };
                refuse_replica(&secret)?;
                if !secret.replicas().is_empty() {
                    let regions: Vec<&str> =
                        secret.replicas().iter().map(|replica| replica.region.as_str()).collect();
                    return Err(errors::invalid_parameter_exception(format!(
                        "You can't delete secret {} that still has replica regions [{}]",
                        secret.name,
                        regions.join(", ")
                    )));
                }
                if force {
                    remove(transaction, &secret.scope, &secret.name);
                } else {
                    usable(&secret)?;
                    secret.deleted_at = Some(at);
                    transaction.put(secret.clone());
                }
                Ok(Some(secret))
            })
            .await
            .map_err(ApiError::from)?;
        self.deleted.notify_one();
        let (arn, name) = match found {
            Some(secret) => (Some(secret.arn()), Some(secret.name)),
            None if input.secret_id.starts_with("arn:") => (Some(input.secret_id), None),
            None => (None, Some(input.secret_id)),
        };
        Ok(types::DeleteSecretResponse { arn, name, deletion_date: Some(at) })
    }

    pub(super) async fn restore_secret(
        &self,
        context: &RequestContext,
        input: types::RestoreSecretRequest,
    ) -> Result<types::RestoreSecretResponse, ApiError> {
        let id = parse_id(&input.secret_id)?;
        let secret = self
            .store
            .transact(|transaction| {
                let mut secret = find_to_change(transaction, context, &id)?;
                refuse_replica(&secret)?;
                if secret.deleted_at.take().is_some() {
                    transaction.put(secret.clone());
                }
                Ok(secret)
            })
            .await
            .map_err(ApiError::from)?;
        Ok(types::RestoreSecretResponse { arn: Some(secret.arn()), name: Some(secret.name) })
    }
}
