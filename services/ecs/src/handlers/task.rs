//! Tasks that exist: described, listed, stopped.

use std::sync::Arc;

use wharf_core::{ApiError, Arn, RequestContext};
use wharf_ecs_api::errors::{
    cluster_not_found_exception, invalid_parameter_exception, service_not_found_exception,
};
use wharf_ecs_api::types;
use wharf_state::Key as _;

use super::cluster;
use crate::convert::{self, Include};
use crate::names;
use crate::pages::PageRequest;
use crate::reconcile::Platform;
use crate::records::{Cluster, DesiredStatus, StopCode, StopRecord, Task, TaskKey, TaskStatus};

/// Tasks of one `DescribeTasks`.
const DESCRIBED_MAX: usize = 100;
const REASON_BYTES_MAX: usize = 255;
/// What is said of a task that was stopped without a reason.
const REASON_BY_USER: &str = "Task stopped by user";

/// The key of a task given by id, or by an ARN whose cluster must be the one named.
fn key(context: &RequestContext, cluster: &Cluster, given: &str) -> Result<Option<TaskKey>, ApiError> {
    let of = |id: String| (context.scope.clone(), cluster.name.clone(), id);
    // The usual case, without parsing: the cluster's own ARN with another kind, then the id.
    if let Some((before, name)) = cluster.arn.split_once(":cluster/")
        && let Some(id) = given
            .strip_prefix(before)
            .and_then(|rest| rest.strip_prefix(":task/"))
            .and_then(|rest| rest.strip_prefix(name))
            .and_then(|rest| rest.strip_prefix('/'))
    {
        return Ok(Some(of(id.to_owned())));
    }
    let (of_arn, id) = names::task(context, given)?;
    let matches = of_arn.is_none_or(|of_arn| of_arn == cluster.name);
    Ok(matches.then(|| of(id)))
}

pub async fn describe_tasks(
    platform: &Arc<Platform>,
    context: &RequestContext,
    input: types::DescribeTasksRequest,
) -> Result<types::DescribeTasksResponse, ApiError> {
    let convert = |_: TaskKey, task: Arc<Task>, include| convert::task(&task, include);
    let (tasks, failures) = describe_tasks_as(platform, context, &input, convert).await?;
    Ok(types::DescribeTasksResponse { tasks: Some(tasks), failures: Some(failures) })
}

/// As [`describe_tasks`]; `convert` makes what a task is described as.
pub async fn describe_tasks_as<T>(
    platform: &Arc<Platform>,
    context: &RequestContext,
    input: &types::DescribeTasksRequest,
    convert: impl Fn(TaskKey, Arc<Task>, Include) -> T,
) -> Result<(Vec<T>, Vec<types::Failure>), ApiError> {
    if input.tasks.is_empty() {
        return Err(invalid_parameter_exception("Tasks cannot be empty."));
    }
    if input.tasks.len() > DESCRIBED_MAX {
        return Err(invalid_parameter_exception("Tasks can have at most 100 items."));
    }
    let cluster =
        cluster::find(platform, context, &names::cluster(context, input.cluster.as_deref())?).await?;
    let tags = input.include.iter().flatten().any(|field| *field == types::TaskField::Tags);
    let include = if tags { Include::Tags } else { Include::Nothing };
    let snapshot = platform.store.snapshot();
    let mut tasks = Vec::with_capacity(input.tasks.len());
    let mut failures = Vec::new();
    for given in &input.tasks {
        let key = key(context, &cluster, given)?;
        match key.and_then(|key| Some((snapshot.get::<Task>(&key)?, key))) {
            Some((task, key)) => tasks.push(convert(key, task, include)),
            None => {
                let (of_arn, id) = names::task(context, given)?;
                let of = of_arn.as_deref().unwrap_or(&cluster.name);
                let arn =
                    Arn::regional("ecs", context.region(), context.account(), format!("task/{of}/{id}"));
                failures.push(types::Failure {
                    arn: Some(arn.to_string()),
                    reason: Some("MISSING".to_owned()),
                    detail: None,
                });
            }
        }
    }
    Ok((tasks, failures))
}

pub async fn list_tasks(
    platform: &Arc<Platform>,
    context: &RequestContext,
    input: types::ListTasksRequest,
) -> Result<types::ListTasksResponse, ApiError> {
    let cluster =
        cluster::find(platform, context, &names::cluster(context, input.cluster.as_deref())?).await?;
    let given = |value: Option<String>| value.filter(|value| !value.is_empty());
    if let Some(name) = given(input.service_name) {
        return Err(service_not_found_exception(format!("Service not found: {name}")));
    }
    if given(input.daemon_name).is_some() {
        return Err(ApiError::not_implemented("the field \"daemonName\" of ecs:ListTasks"));
    }
    if let Some(instance) = given(input.container_instance) {
        return Err(invalid_parameter_exception(format!("The container instance {instance} was not found.")));
    }
    let (family, started_by) = (given(input.family), given(input.started_by));
    let status = input.desired_status.unwrap_or(types::DesiredStatus::Running);
    let desired = match &status {
        types::DesiredStatus::Running => Some(DesiredStatus::Running),
        types::DesiredStatus::Stopped => Some(DesiredStatus::Stopped),
        // AWS never sets a task's desired status to PENDING, and lists none.
        types::DesiredStatus::Pending => None,
        types::DesiredStatus::Unknown(other) => {
            return Err(invalid_parameter_exception(format!("Invalid desiredStatus: {other}")));
        }
    };
    let fargate = match &input.launch_type {
        None | Some(types::LaunchType::Fargate) => true,
        Some(types::LaunchType::Unknown(other)) => {
            return Err(invalid_parameter_exception(format!("Invalid launchType: {other}")));
        }
        Some(_) => false,
    };
    let listing = format!(
        "ListTasks {} {status} {fargate} {} {}",
        cluster.name,
        family.as_deref().unwrap_or(""),
        started_by.as_deref().unwrap_or("")
    );
    let page = PageRequest::new(listing, input.next_token.as_deref(), input.max_results)?;
    let snapshot = platform.store.snapshot();
    let prefix = (context.scope.clone(), cluster.name.clone()).to_bytes();
    let found = snapshot
        .prefix::<Task>(&prefix)
        .filter(|task| fargate && Some(task.desired) == desired)
        .filter(|task| page.after.as_ref().is_none_or(|after| task.id > *after))
        .filter(|task| family.as_ref().is_none_or(|family| task.family == *family))
        .filter(|task| started_by.is_none() || task.started_by == started_by);
    let page = page.take(found, |task| task.id.clone());
    Ok(types::ListTasksResponse {
        task_arns: Some(page.items.iter().map(|task| task.arn.clone()).collect()),
        next_token: page.next_token,
    })
}

pub async fn stop_task(
    platform: &Arc<Platform>,
    context: &RequestContext,
    input: types::StopTaskRequest,
) -> Result<types::StopTaskResponse, ApiError> {
    let cluster =
        cluster::find(platform, context, &names::cluster(context, input.cluster.as_deref())?).await?;
    let not_found = || invalid_parameter_exception("The referenced task was not found.");
    let key = key(context, &cluster, &input.task)?.ok_or_else(not_found)?;
    let reason = input.reason.filter(|reason| !reason.is_empty());
    if reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
        return Err(invalid_parameter_exception("Reason must be at most 255 characters."));
    }
    let stop = StopRecord {
        code: StopCode::UserInitiated,
        reason: reason.unwrap_or_else(|| REASON_BY_USER.to_owned()),
    };
    let task = request_stop(platform, &key, stop).await?.ok_or_else(not_found)?;
    Ok(types::StopTaskResponse { task: Some(convert::task(&task, Include::Tags)) })
}

/// Asks a task to stop; one that is stopping already keeps its reason. `None` when there is none.
pub async fn request_stop(
    platform: &Platform,
    key: &TaskKey,
    stop: StopRecord,
) -> Result<Option<Task>, ApiError> {
    let task = platform
        .store
        .transact(|transaction| {
            if transaction.get::<Cluster>(&(key.0.clone(), key.1.clone())).is_none() {
                return Err(cluster_not_found_exception("Cluster not found."));
            }
            let Some(task) = transaction.get::<Task>(key) else { return Ok(None) };
            let mut task = (*task).clone();
            if task.desired == DesiredStatus::Running && task.status != TaskStatus::Stopped {
                task.desired = DesiredStatus::Stopped;
                task.stop = Some(stop);
                task.version += 1;
                transaction.put(task.clone());
            }
            Ok::<_, ApiError>(Some(task))
        })
        .await?;
    platform.signal(key.clone());
    Ok(task)
}
