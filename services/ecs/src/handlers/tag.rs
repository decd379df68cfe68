//! Tags of clusters, task definitions and tasks.

use std::sync::Arc;

use wharf_core::{ApiError, RequestContext};
use wharf_ecs_api::errors::{cluster_not_found_exception, invalid_parameter_exception};
use wharf_ecs_api::types;
use wharf_state::Transaction;

use crate::names;
use crate::reconcile::Platform;
use crate::records::{Cluster, ClusterKey, ClusterStatus, Task, TaskDefinition, TaskDefinitionKey, TaskKey};
use crate::tags::{self, Tags};

/// Something that has tags.
enum Tagged {
    Cluster(ClusterKey),
    TaskDefinition(TaskDefinitionKey),
    Task(TaskKey),
}

fn tagged(context: &RequestContext, given: &str) -> Result<Tagged, ApiError> {
    let scope = context.scope.clone();
    let arn = names::own_arn(context, given)?
        .ok_or_else(|| invalid_parameter_exception("Invalid identifier: an ARN is required."))?;
    let (kind, name) = arn.resource.split_once('/').unwrap_or_default();
    match kind {
        "cluster" => Ok(Tagged::Cluster((scope, name.to_owned()))),
        "task" => match names::task(context, given)? {
            (Some(cluster), id) => Ok(Tagged::Task((scope, cluster, id))),
            (None, _) => {
                Err(invalid_parameter_exception("Long arn format must be used for tagging operations"))
            }
        },
        "task-definition" => match names::task_definition(context, given)? {
            names::TaskDefinitionName { family, revision: Some(revision) } => {
                Ok(Tagged::TaskDefinition((scope, family, revision)))
            }
            names::TaskDefinitionName { revision: None, .. } => {
                Err(invalid_parameter_exception("Invalid revision number."))
            }
        },
        "service" | "container-instance" | "capacity-provider" | "task-set" => {
            Err(ApiError::not_implemented(format_args!("tags of ecs resources of the kind \"{kind}\"")))
        }
        _ => Err(invalid_parameter_exception("Invalid identifier: the resource cannot be tagged.")),
    }
}

fn not_found(of: &Tagged) -> ApiError {
    match of {
        Tagged::Cluster(_) => cluster_not_found_exception("Cluster not found."),
        Tagged::TaskDefinition(_) => {
            invalid_parameter_exception("The specified task definition does not exist.")
        }
        Tagged::Task(_) => invalid_parameter_exception("The specified task was not found."),
    }
}

fn change(
    transaction: &mut Transaction<'_>,
    of: &Tagged,
    change: impl FnOnce(&mut Tags) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    match of {
        Tagged::Cluster(key) => {
            let found = transaction.get::<Cluster>(key).filter(|of| of.status == ClusterStatus::Active);
            let mut record = (*found.ok_or_else(|| not_found(of))?).clone();
            change(&mut record.tags)?;
            transaction.put(record);
        }
        Tagged::TaskDefinition(key) => {
            let found = transaction.get::<TaskDefinition>(key);
            let mut record = (*found.ok_or_else(|| not_found(of))?).clone();
            change(&mut record.tags)?;
            transaction.put(record);
        }
        Tagged::Task(key) => {
            let found = transaction.get::<Task>(key);
            let mut record = (*found.ok_or_else(|| not_found(of))?).clone();
            change(&mut record.tags)?;
            transaction.put(record);
        }
    }
    Ok(())
}

pub async fn tag_resource(
    platform: &Arc<Platform>,
    context: &RequestContext,
    input: types::TagResourceRequest,
) -> Result<types::TagResourceResponse, ApiError> {
    let of = tagged(context, &input.resource_arn)?;
    let added = tags::from_api(Some(input.tags))?;
    platform
        .store
        .transact(|transaction| {
            change(transaction, &of, |tags| {
                tags.extend(added);
                tags::check_count(tags)
            })
        })
        .await?;
    Ok(types::TagResourceResponse::default())
}

pub async fn untag_resource(
    platform: &Arc<Platform>,
    context: &RequestContext,
    input: types::UntagResourceRequest,
) -> Result<types::UntagResourceResponse, ApiError> {
    let of = tagged(context, &input.resource_arn)?;
    platform
        .store
        .transact(|transaction| {
            change(transaction, &of, |tags| {
                tags.retain(|key, _| !input.tag_keys.contains(key));
                Ok(())
            })
        })
        .await?;
    Ok(types::UntagResourceResponse::default())
}

pub async fn list_tags_for_resource(
    platform: &Arc<Platform>,
    context: &RequestContext,
    input: types::ListTagsForResourceRequest,
) -> Result<types::ListTagsForResourceResponse, ApiError> {
    let of = tagged(context, &input.resource_arn)?;
    let snapshot = platform.store.snapshot();
    let found = match &of {
        Tagged::Cluster(key) => snapshot.get::<Cluster>(key).map(|record| tags::to_api(&record.tags)),
        Tagged::TaskDefinition(key) => {
            snapshot.get::<TaskDefinition>(key).map(|record| tags::to_api(&record.tags))
        }
        Tagged::Task(key) => snapshot.get::<Task>(key).map(|record| tags::to_api(&record.tags)),
    };
    let tags = found.ok_or_else(|| not_found(&of))?;
    Ok(types::ListTagsForResourceResponse { tags: Some(tags) })
}
