//! UpdateSecretVersionStage.

use wharf_core::{ApiError, RequestContext};
use wharf_secretsmanager_api::{errors, types};

use crate::change::{Change, stage_refused};
use crate::plan::stages::{self, CURRENT, StageError};
use crate::{SecretsManager, parse_id};

impl SecretsManager {
    pub(super) async fn update_secret_version_stage(
        &self,
        context: &RequestContext,
        input: types::UpdateSecretVersionStageRequest,
    ) -> Result<types::UpdateSecretVersionStageResponse, ApiError> {
        let id = parse_id(&input.secret_id)?;
        let (from, to) = (input.remove_from_version_id.as_deref(), input.move_to_version_id.as_deref());
        let label = input.version_stage.as_str();
        let secret = self
            .store
            .transact(|transaction| {
                let mut change = Change::begin(transaction, context, &self.vault, &id)?;
                let moved = stages::move_label(change.stages(), label, from, to).map_err(|error| match error {
                    StageError::HeldBy { holder } => errors::invalid_parameter_exception(format!(
                        "The parameter RemoveFromVersionId can't be empty. Staging label {label} is currently \
                         attached to version {holder}, so you must explicitly reference that version in \
                         RemoveFromVersionId."
                    )),
                    StageError::NotOn(version) => errors::invalid_parameter_exception(format!(
                        "Staging label {label} is not currently attached to version {version}, so you can't \
                         reference that version in RemoveFromVersionId."
                    )),
                    StageError::CurrentStays => errors::invalid_parameter_exception(format!(
                        "You can only move staging label {CURRENT} to a different secret version. It can’t be \
                         completely removed."
                    )),
                    error => stage_refused(error),
                })?;
                change.relabel(&moved);
                change.finish()
            })
            .await
            .map_err(ApiError::from)?;
        Ok(types::UpdateSecretVersionStageResponse { arn: Some(secret.arn()), name: Some(secret.name) })
    }
}
