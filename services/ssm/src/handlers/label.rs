//! LabelParameterVersion, UnlabelParameterVersion.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_core::{ApiError, RequestContext};
use wharf_ssm_api::{errors, types};
use wharf_state::Transaction;

use super::{plain_name, validation};
use crate::plan::label;
use crate::records::{Parameter, ParameterVersion};
use crate::{Ssm, has_expired, not_found};

const LABEL_CHARS_MAX: usize = 100;

impl Ssm {
    pub(super) async fn label_parameter_version(
        &self,
        context: &RequestContext,
        input: types::LabelParameterVersionRequest,
    ) -> Result<types::LabelParameterVersionResult, ApiError> {
        let name = plain_name(&input.name)?;
        check_lengths(&input.labels)?;
        let (valid, invalid): (Vec<_>, Vec<_>) =
            input.labels.into_iter().partition(|label| label::is_label(label));
        let version = self
            .store
            .transact(|transaction| {
                let (parameter, versions) = versions(transaction, context, &name)?;
                let wanted = input.parameter_version;
                let number = wanted.map_or(Some(parameter.version), |wanted| u64::try_from(wanted).ok());
                let number = number
                    .filter(|number| versions.contains_key(number))
                    .ok_or_else(|| no_version(wanted.unwrap_or_default(), &name))?;
                let labels = versions.iter().map(|(number, version)| (*number, version.labels.clone())).collect();
                let labels = label::attach(labels, number, &valid).map_err(|_| {
                    errors::parameter_version_label_limit_exceeded(
                        "A parameter version can have maximum 10 labels. Move one or more labels to another version \
                         and try again.",
                    )
                })?;
                for (number, labels) in labels {
                    relabel(transaction, &versions[&number], labels);
                }
                Ok(number)
            })
            .await
            .map_err(ApiError::from)?;
        Ok(types::LabelParameterVersionResult {
            invalid_labels: Some(invalid),
            parameter_version: i64::try_from(version).ok(),
        })
    }

    pub(super) async fn unlabel_parameter_version(
        &self,
        context: &RequestContext,
        input: types::UnlabelParameterVersionRequest,
    ) -> Result<types::UnlabelParameterVersionResult, ApiError> {
        let name = plain_name(&input.name)?;
        check_lengths(&input.labels)?;
        let (removed, invalid) = self
            .store
            .transact(|transaction| {
                let (_, versions) = versions(transaction, context, &name)?;
                let number = u64::try_from(input.parameter_version).unwrap_or(0);
                let version =
                    versions.get(&number).ok_or_else(|| no_version(input.parameter_version, &name))?;
                let (removed, invalid): (Vec<_>, Vec<_>) =
                    input.labels.into_iter().partition(|label| version.labels.contains(label));
                let left = version.labels.iter().filter(|label| !removed.contains(label)).cloned().collect();
                relabel(transaction, version, left);
                Ok((removed, invalid))
            })
            .await
            .map_err(ApiError::from)?;
        Ok(types::UnlabelParameterVersionResult {
            removed_labels: Some(removed),
            invalid_labels: Some(invalid),
        })
    }
}

/// The model does not say so in a form that is checked before.
fn check_lengths(labels: &[String]) -> Result<(), ApiError> {
    match labels.iter().find(|label| label.chars().count() > LABEL_CHARS_MAX) {
        None => Ok(()),
        Some(label) => Err(validation(format!(
            "1 validation error detected: Value '[{label}]' at 'labels' failed to satisfy constraint: Member must \
             satisfy constraint: [Member must have length less than or equal to {LABEL_CHARS_MAX}, Member must have \
             length greater than or equal to 1]"
        ))),
    }
}

type Versions = BTreeMap<u64, Arc<ParameterVersion>>;

fn versions(
    transaction: &Transaction<'_>,
    context: &RequestContext,
    name: &str,
) -> Result<(Arc<Parameter>, Versions), ApiError> {
    let parameter = transaction
        .get::<Parameter>(&(context.scope.clone(), name.to_owned()))
        .filter(|parameter| !has_expired(parameter, context.now))
        .ok_or_else(not_found)?;
    let prefix = Parameter::versions_prefix(&context.scope, name);
    let versions = transaction.prefix::<ParameterVersion>(&prefix).map(|version| (version.version, version));
    Ok((parameter, versions.collect()))
}

fn relabel(transaction: &mut Transaction<'_>, version: &ParameterVersion, labels: Vec<String>) {
    if version.labels != labels {
        transaction.put(ParameterVersion { labels, ..version.clone() });
    }
}

fn no_version(version: i64, name: &str) -> ApiError {
    errors::parameter_version_not_found(format!(
        "Systems Manager could not find version {version} of {name}. Verify the version and try again."
    ))
}
