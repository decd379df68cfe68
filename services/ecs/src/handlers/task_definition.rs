//! Families and revisions of task definitions.

use std::collections::BTreeSet;
use std::sync::Arc;

use wharf_core::{ApiError, Arn, RequestContext};
use wharf_ecs_api::errors::{client_exception, invalid_parameter_exception};
use wharf_ecs_api::types;
use wharf_state::{Key as _, Record as _, Snapshot};

use super::register;
use crate::convert;
use crate::names::{self, TaskDefinitionName};
use crate::pages::PageRequest;
use crate::reconcile::Platform;
use crate::records::{Family, TaskDefinition, TaskDefinitionStatus};
use crate::tags;

/// Definitions of one `DeleteTaskDefinitions`.
const DELETED_MAX: usize = 10;

/// The definition that is meant: with a revision that one, whatever its status; without, the newest
/// active one.
pub fn find(
    snapshot: &Snapshot,
    context: &RequestContext,
    name: &TaskDefinitionName,
) -> Option<Arc<TaskDefinition>> {
    let family = (context.scope.clone(), name.family.clone());
    match name.revision {
        Some(revision) => snapshot.get(&(family.0, family.1, revision)),
        None => snapshot
            .prefix::<TaskDefinition>(&family.to_bytes())
            .rev()
            .find(|definition| definition.status == TaskDefinitionStatus::Active),
    }
}

pub async fn register_task_definition(
    platform: &Arc<Platform>,
    context: &RequestContext,
    mut input: types::RegisterTaskDefinitionRequest,
) -> Result<types::RegisterTaskDefinitionResponse, ApiError> {
    let given_tags = input.tags.take().filter(|tags| !tags.is_empty());
    let with_tags = given_tags.is_some();
    let tags = tags::from_api(given_tags)?;
    let name = input.family.clone();
    let checked = register::check(input)?;
    let mut definition = TaskDefinition {
        scope: context.scope.clone(),
        family: name,
        revision: 0,
        arn: String::new(),
        status: TaskDefinitionStatus::Active,
        execution_role_arn: checked.execution_role_arn,
        network_mode: checked.network_mode,
        containers: checked.containers,
        requires_compatibilities: checked.requires_compatibilities,
        compatibilities: checked.compatibilities,
        requires_attributes: checked.requires_attributes,
        volumes: checked.volumes,
        ephemeral_storage_gib: checked.ephemeral_storage_gib,
        cpu: checked.cpu,
        memory_mib: checked.memory_mib,
        cpu_architecture: checked.cpu_architecture,
        operating_system_family: checked.operating_system_family,
        tags,
        registered_at: context.now,
        registered_by: context.principal.arn(context.partition()),
        deregistered_at: None,
        delete_requested_at: None,
    };
    let registered = platform
        .store
        .transact(|transaction| {
            let key = (definition.scope.clone(), definition.family.clone());
            let latest = transaction.get::<Family>(&key).map_or(0, |family| family.latest_revision);
            let revision = latest + 1;
            definition.revision = revision;
            let resource = format!("task-definition/{}:{revision}", definition.family);
            definition.arn = Arn::regional("ecs", context.region(), context.account(), resource).to_string();
            transaction.put(Family { scope: key.0, name: key.1, latest_revision: revision });
            transaction.put(definition.clone());
            Ok::<_, ApiError>(definition)
        })
        .await?;
    Ok(types::RegisterTaskDefinitionResponse {
        task_definition: Some(convert::task_definition(&registered)),
        tags: with_tags.then(|| tags::to_api(&registered.tags)),
    })
}

pub async fn describe_task_definition(
    platform: &Arc<Platform>,
    context: &RequestContext,
    input: types::DescribeTaskDefinitionRequest,
) -> Result<types::DescribeTaskDefinitionResponse, ApiError> {
    let name = names::task_definition(context, &input.task_definition)?;
    let definition = find(&platform.store.snapshot(), context, &name)
        .ok_or_else(|| client_exception("Unable to describe task definition."))?;
    let with_tags = input.include.iter().flatten().any(|field| *field == types::TaskDefinitionField::Tags);
    Ok(types::DescribeTaskDefinitionResponse {
        task_definition: Some(convert::task_definition(&definition)),
        tags: with_tags.then(|| tags::to_api(&definition.tags)),
    })
}

/// Sorted by family, then revision. `familyPrefix` is a whole family's name here, as on AWS.
pub async fn list_task_definitions(
    platform: &Arc<Platform>,
    context: &RequestContext,
    input: types::ListTaskDefinitionsRequest,
) -> Result<types::ListTaskDefinitionsResponse, ApiError> {
    let status = input.status.unwrap_or(types::TaskDefinitionStatus::Active);
    if let types::TaskDefinitionStatus::Unknown(other) = &status {
        return Err(invalid_parameter_exception(format!("Invalid task definition status: {other}")));
    }
    let descending = input.sort == Some(types::SortOrder::Desc);
    let family = input.family_prefix.filter(|family| !family.is_empty());
    let listing = format!("ListTaskDefinitions {status} {descending} {}", family.as_deref().unwrap_or(""));
    let page = PageRequest::new(listing, input.next_token.as_deref(), input.max_results)?;
    let prefix = match &family {
        Some(family) => (context.scope.clone(), family.clone()).to_bytes(),
        None => context.scope.to_bytes(),
    };
    let after = page.after.as_deref().and_then(|after| {
        let (family, revision) = after.rsplit_once(':')?;
        Some((context.scope.clone(), family.to_owned(), revision.parse::<u64>().ok()?))
    });
    let snapshot = platform.store.snapshot();
    let rows = snapshot.prefix::<TaskDefinition>(&prefix);
    let rows: Box<dyn Iterator<Item = Arc<TaskDefinition>>> =
        if descending { Box::new(rows.rev()) } else { Box::new(rows) };
    let behind = |definition: &Arc<TaskDefinition>| {
        after.as_ref().is_none_or(|after| {
            let key = definition.key();
            if descending { key < *after } else { key > *after }
        })
    };
    let found =
        rows.filter(|definition| definition.status.as_str() == status.as_str()).filter(|row| behind(row));
    let page = page.take(found, |definition| definition.short_name());
    Ok(types::ListTaskDefinitionsResponse {
        task_definition_arns: Some(page.items.iter().map(|definition| definition.arn.clone()).collect()),
        next_token: page.next_token,
    })
}

pub async fn list_task_definition_families(
    platform: &Arc<Platform>,
    context: &RequestContext,
    input: types::ListTaskDefinitionFamiliesRequest,
) -> Result<types::ListTaskDefinitionFamiliesResponse, ApiError> {
    let status = input.status.unwrap_or(types::TaskDefinitionFamilyStatus::All);
    if let types::TaskDefinitionFamilyStatus::Unknown(other) = &status {
        return Err(invalid_parameter_exception(format!("Invalid task definition family status: {other}")));
    }
    let prefix = input.family_prefix.unwrap_or_default();
    let page = PageRequest::new(
        format!("ListTaskDefinitionFamilies {status} {prefix}"),
        input.next_token.as_deref(),
        input.max_results,
    )?;
    let snapshot = platform.store.snapshot();
    let (mut active, mut inactive) = (BTreeSet::new(), BTreeSet::new());
    for definition in snapshot.prefix::<TaskDefinition>(&context.scope.to_bytes()) {
        if !definition.family.starts_with(&prefix) {
            continue;
        }
        match definition.status {
            TaskDefinitionStatus::Active => active.insert(definition.family.clone()),
            TaskDefinitionStatus::Inactive => inactive.insert(definition.family.clone()),
            TaskDefinitionStatus::DeleteInProgress => false,
        };
    }
    // A family is inactive when no revision of it is active.
    inactive.retain(|family| !active.contains(family));
    let families: BTreeSet<String> = match status {
        types::TaskDefinitionFamilyStatus::Active => active,
        types::TaskDefinitionFamilyStatus::Inactive => inactive,
        types::TaskDefinitionFamilyStatus::All | types::TaskDefinitionFamilyStatus::Unknown(_) => {
            active.into_iter().chain(inactive).collect()
        }
    };
    let found = families.into_iter().filter(|family| page.after.as_ref().is_none_or(|after| family > after));
    let page = page.take(found, Clone::clone);
    Ok(types::ListTaskDefinitionFamiliesResponse { families: Some(page.items), next_token: page.next_token })
}

/// A family and a revision, both required.
fn exact(context: &RequestContext, given: &str) -> Result<(String, u64), ApiError> {
    let name = names::task_definition(context, given)?;
    match name.revision {
        Some(revision) => Ok((name.family, revision)),
        None => Err(client_exception(format!("Invalid revision number. Number: {given}"))),
    }
}

pub async fn deregister_task_definition(
    platform: &Arc<Platform>,
    context: &RequestContext,
    input: types::DeregisterTaskDefinitionRequest,
) -> Result<types::DeregisterTaskDefinitionResponse, ApiError> {
    let (family, revision) = exact(context, &input.task_definition)?;
    let key = (context.scope.clone(), family, revision);
    let definition = platform
        .store
        .transact(|transaction| {
            let Some(definition) = transaction.get::<TaskDefinition>(&key) else {
                return Err(client_exception("Unable to describe task definition."));
            };
            let mut definition = (*definition).clone();
            match definition.status {
                TaskDefinitionStatus::Active => {
                    definition.status = TaskDefinitionStatus::Inactive;
                    definition.deregistered_at = Some(context.now);
                    transaction.put(definition.clone());
                }
                TaskDefinitionStatus::Inactive => {}
                TaskDefinitionStatus::DeleteInProgress => {
                    return Err(client_exception("The specified task definition is being deleted."));
                }
            }
            Ok(definition)
        })
        .await?;
    Ok(types::DeregisterTaskDefinitionResponse {
        task_definition: Some(convert::task_definition(&definition)),
    })
}

pub async fn delete_task_definitions(
    platform: &Arc<Platform>,
    context: &RequestContext,
    input: types::DeleteTaskDefinitionsRequest,
) -> Result<types::DeleteTaskDefinitionsResponse, ApiError> {
    if input.task_definitions.is_empty() || input.task_definitions.len() > DELETED_MAX {
        return Err(invalid_parameter_exception("Specify 1 to 10 task definitions."));
    }
    let names: Vec<(String, u64)> =
        input.task_definitions.iter().map(|given| exact(context, given)).collect::<Result<_, _>>()?;
    let (deleted, failures) = platform
        .store
        .transact(|transaction| {
            let (mut deleted, mut failures) = (Vec::new(), Vec::new());
            for (family, revision) in names {
                let resource = format!("task-definition/{family}:{revision}");
                let arn = Arn::regional("ecs", context.region(), context.account(), resource).to_string();
                let failure = |reason: &str| types::Failure {
                    arn: Some(arn.clone()),
                    reason: Some(reason.to_owned()),
                    detail: None,
                };
                let key = (context.scope.clone(), family, revision);
                let Some(definition) = transaction.get::<TaskDefinition>(&key) else {
                    failures.push(failure("The specified task definition does not exist."));
                    continue;
                };
                let mut definition = (*definition).clone();
                match definition.status {
                    TaskDefinitionStatus::Active => {
                        failures.push(failure(
                            "The specified task definition is still in ACTIVE status. Please deregister the target and try again.",
                        ));
                    }
                    TaskDefinitionStatus::Inactive | TaskDefinitionStatus::DeleteInProgress => {
                        definition.status = TaskDefinitionStatus::DeleteInProgress;
                        definition.delete_requested_at.get_or_insert(context.now);
                        transaction.put(definition.clone());
                        deleted.push(definition);
                    }
                }
            }
            Ok::<_, ApiError>((deleted, failures))
        })
        .await?;
    Ok(types::DeleteTaskDefinitionsResponse {
        task_definitions: Some(deleted.iter().map(convert::task_definition).collect()),
        failures: Some(failures),
    })
}
