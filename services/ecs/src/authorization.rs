//! What IAM is asked for each operation: the action, the resources, the condition keys.
//!
//! Service Authorization Reference, "Actions, resources, and condition keys for Amazon Elastic
//! Container Service". Whoever asks for an operation that is not here is told that Wharf does not
//! do it.
#![allow(clippy::unnecessary_wraps, reason = "the entries of a table have one form")]

use std::sync::Arc;

use wharf_contracts::{
    AuthorizationTable, Check, Entry, OperationRequest, Required, Resource, ServiceAuthorization, Tags,
};
use wharf_core::ApiError;
use wharf_ecs_api::types;
use wharf_state::Snapshot;

use crate::handlers::find_task_definition;
use crate::names;
use crate::records::{Cluster, ClusterStatus, Task, TaskDefinition};
use crate::service::Ecs;

/// Who takes on the roles of tasks.
const TASKS_SERVICE: &str = "ecs-tasks.amazonaws.com";

const ENTRIES: &[Entry<Ecs>] = &[
    Entry::new("CreateCluster", create_cluster),
    Entry::new("DeleteCluster", on_cluster),
    Entry::new("DeleteTaskDefinitions", delete_task_definitions),
    Entry::new("DeregisterTaskDefinition", on_any),
    Entry::new("DescribeCapacityProviders", describe_capacity_providers),
    Entry::new("DescribeClusters", describe_clusters),
    Entry::new("DescribeTaskDefinition", on_any),
    Entry::new("DescribeTasks", describe_tasks),
    Entry::new("ListAccountSettings", on_any),
    Entry::new("ListClusters", on_any),
    Entry::new("ListTagsForResource", list_tags_for_resource),
    Entry::new("ListTaskDefinitionFamilies", on_any),
    Entry::new("ListTaskDefinitions", on_any),
    Entry::new("ListTasks", list_tasks),
    Entry::new("PutClusterCapacityProviders", put_cluster_capacity_providers),
    // A role of another account is passed by nobody, a root user included.
    Entry::new("RegisterTaskDefinition", register_task_definition).across_accounts(),
    Entry::new("RunTask", run_task).across_accounts(),
    Entry::new("StopTask", stop_task),
    Entry::new("TagResource", tag_resource),
    Entry::new("UntagResource", untag_resource),
    Entry::new("UpdateCluster", on_cluster),
    Entry::new("UpdateClusterSettings", on_cluster),
];

/// The table, for the pipeline.
pub fn authorization(ecs: &Arc<Ecs>) -> Arc<dyn ServiceAuthorization> {
    AuthorizationTable::new(&wharf_ecs_api::MODEL, Arc::clone(ecs), ENTRIES)
}

type Request<'a> = OperationRequest<'a>;
type Answer = Result<Required, ApiError>;

fn on_any(_: &Ecs, request: &Request<'_>) -> Answer {
    Ok(request.on_any().into())
}

fn on_cluster(ecs: &Ecs, request: &Request<'_>) -> Answer {
    let cluster = cluster(request, &ecs.snapshot(), request.text("cluster"));
    Ok(request.on([cluster]).into())
}

fn create_cluster(_: &Ecs, request: &Request<'_>) -> Answer {
    let input: &types::CreateClusterRequest = request.input()?;
    let tags = request.tags("tags");
    let name = request.text("clusterName").unwrap_or(names::DEFAULT_CLUSTER);
    let new = request.regional("ecs", format!("cluster/{name}"));
    let check = request
        .on([new.clone()])
        .with_request_tags(&tags)
        .with_many("ecs:capacity-provider", given(input.capacity_providers.as_deref()));
    Ok(with_tagging(request, check, new, &tags))
}

fn describe_clusters(ecs: &Ecs, request: &Request<'_>) -> Answer {
    let snapshot = ecs.snapshot();
    let named = request.texts("clusters");
    let clusters: Vec<Resource> = if named.is_empty() {
        vec![cluster(request, &snapshot, None)]
    } else {
        named.into_iter().map(|given| cluster(request, &snapshot, Some(given))).collect()
    };
    Ok(request.on(clusters).into())
}

fn put_cluster_capacity_providers(ecs: &Ecs, request: &Request<'_>) -> Answer {
    let input: &types::PutClusterCapacityProvidersRequest = request.input()?;
    let cluster = cluster(request, &ecs.snapshot(), Some(&input.cluster));
    let check = request.on([cluster]);
    Ok(check.with_many("ecs:capacity-provider", given(Some(&input.capacity_providers))).into())
}

fn describe_capacity_providers(_: &Ecs, request: &Request<'_>) -> Answer {
    let named = request.texts("capacityProviders").into_iter();
    Ok(request.on(named.map(|given| plain(request, "capacity-provider", given))).into())
}

fn register_task_definition(_: &Ecs, request: &Request<'_>) -> Answer {
    let input: &types::RegisterTaskDefinitionRequest = request.input()?;
    let tags = request.tags("tags");
    let new = request.regional("ecs", format!("task-definition/{}:*", input.family));
    let compatibilities = input.requires_compatibilities.iter().flatten();
    let privileged = input.container_definitions.iter().any(|container| container.privileged == Some(true));
    let check = request
        .on([new.clone()])
        .with_request_tags(&tags)
        .with_many("ecs:compute-compatibility", compatibilities.map(|of| of.as_str().to_owned()))
        .with("ecs:privileged", if privileged { "true" } else { "false" })
        .with_some("ecs:task-cpu", input.cpu.clone())
        .with_some("ecs:task-memory", input.memory.clone());
    let mut checks = vec![check];
    checks.extend(pass_roles(request, [&input.task_role_arn, &input.execution_role_arn]));
    checks.extend(tagging(request, new, &tags));
    Ok(checks.into())
}

fn delete_task_definitions(ecs: &Ecs, request: &Request<'_>) -> Answer {
    let snapshot = ecs.snapshot();
    let named = request.texts("taskDefinitions").into_iter();
    Ok(request.on(named.map(|given| task_definition(request, &snapshot, given).0)).into())
}

fn run_task(ecs: &Ecs, request: &Request<'_>) -> Answer {
    let input: &types::RunTaskRequest = request.input()?;
    let snapshot = ecs.snapshot();
    let tags = request.tags("tags");
    let cluster = cluster(request, &snapshot, input.cluster.as_deref());
    let (resource, definition) = task_definition(request, &snapshot, &input.task_definition);
    let providers = input.capacity_provider_strategy.iter().flatten();
    let check = request
        .on([resource])
        .with("ecs:cluster", &cluster.arn)
        .with_request_tags(&tags)
        .with_many("ecs:capacity-provider", providers.map(|item| item.capacity_provider.clone()))
        .with("ecs:enable-ebs-volumes", "false")
        .with("ecs:enable-execute-command", boolean(input.enable_execute_command));
    let of_definition = definition.and_then(|definition| definition.execution_role_arn.clone());
    let overrides = input.overrides.as_ref();
    let execution_role = overrides
        .and_then(|of| of.execution_role_arn.clone())
        .filter(|role| !role.is_empty())
        .or(of_definition);
    let task_role = overrides.and_then(|of| of.task_role_arn.clone());
    let mut checks = vec![check];
    checks.extend(pass_roles(request, [&task_role, &execution_role]));
    let name = cluster.arn.rsplit('/').next().unwrap_or(names::DEFAULT_CLUSTER);
    checks.extend(tagging(request, request.regional("ecs", format!("task/{name}/*")), &tags));
    Ok(checks.into())
}

fn stop_task(ecs: &Ecs, request: &Request<'_>) -> Answer {
    let input: &types::StopTaskRequest = request.input()?;
    let snapshot = ecs.snapshot();
    let cluster = cluster(request, &snapshot, input.cluster.as_deref());
    let task = task(request, &snapshot, &cluster, &input.task);
    Ok(request.on([task]).with("ecs:cluster", cluster.arn).into())
}

fn describe_tasks(ecs: &Ecs, request: &Request<'_>) -> Answer {
    let snapshot = ecs.snapshot();
    let cluster = cluster(request, &snapshot, request.text("cluster"));
    let named = request.texts("tasks").into_iter();
    let tasks: Vec<Resource> = named.map(|given| task(request, &snapshot, &cluster, given)).collect();
    Ok(request.on(tasks).with("ecs:cluster", cluster.arn).into())
}

/// AWS asks for the container instances of the cluster, on Fargate too.
fn list_tasks(ecs: &Ecs, request: &Request<'_>) -> Answer {
    let cluster = cluster(request, &ecs.snapshot(), request.text("cluster"));
    let name = cluster.arn.rsplit('/').next().unwrap_or(names::DEFAULT_CLUSTER);
    let instance = match request.text("containerInstance") {
        Some(given) if given.starts_with("arn:") => request.named(given),
        given => request.regional("ecs", format!("container-instance/{name}/{}", given.unwrap_or("*"))),
    };
    Ok(request.on([instance]).with("ecs:cluster", cluster.arn).into())
}

fn tag_resource(ecs: &Ecs, request: &Request<'_>) -> Answer {
    let resource = tagged(request, &ecs.snapshot());
    Ok(request.on([resource]).with_request_tags(&request.tags("tags")).into())
}

fn untag_resource(ecs: &Ecs, request: &Request<'_>) -> Answer {
    let resource = tagged(request, &ecs.snapshot());
    let keys = request.texts("tagKeys").into_iter().map(str::to_owned);
    Ok(request.on([resource]).with_tag_keys(keys).into())
}

fn list_tags_for_resource(ecs: &Ecs, request: &Request<'_>) -> Answer {
    let resource = tagged(request, &ecs.snapshot());
    Ok(request.on([resource]).into())
}

/// The operation itself, and the tagging of what it makes.
fn with_tagging(request: &Request<'_>, check: Check, new: Resource, tags: &Tags) -> Required {
    let mut checks = vec![check];
    checks.extend(tagging(request, new, tags));
    checks.into()
}

/// Whoever makes something with tags must be allowed to tag it (Amazon ECS Developer Guide, "Grant
/// permission to tag resources on creation").
fn tagging(request: &Request<'_>, new: Resource, tags: &Tags) -> Option<Check> {
    let check = request.action("ecs:TagResource", [new]).with("ecs:CreateAction", request.operation.name);
    (!tags.is_empty()).then(|| check.with_request_tags(tags))
}

fn pass_roles<const N: usize>(request: &Request<'_>, roles: [&Option<String>; N]) -> Vec<Check> {
    let mut given: Vec<&str> = roles.into_iter().flatten().map(String::as_str).collect();
    given.retain(|role| !role.is_empty());
    given.dedup();
    given
        .into_iter()
        .map(|role| {
            if role.starts_with("arn:") {
                request.pass_role(role, TASKS_SERVICE)
            } else {
                request.pass_role(&request.global("iam", format!("role/{role}")).arn, TASKS_SERVICE)
            }
        })
        .collect()
}

fn given(names: Option<&[String]>) -> Vec<String> {
    names.unwrap_or_default().to_vec()
}

fn boolean(value: Option<bool>) -> &'static str {
    if value == Some(true) { "true" } else { "false" }
}

/// A resource named by its name or its ARN.
fn plain(request: &Request<'_>, kind: &str, given: &str) -> Resource {
    if given.starts_with("arn:") {
        request.named(given)
    } else {
        request.regional("ecs", format!("{kind}/{given}"))
    }
}

/// A cluster named by its name or its ARN; the default one when none is.
fn cluster(request: &Request<'_>, snapshot: &Snapshot, given: Option<&str>) -> Resource {
    let given = given.filter(|given| !given.is_empty()).unwrap_or(names::DEFAULT_CLUSTER);
    let resource = plain(request, "cluster", given);
    let Ok(name) = names::cluster(request.context, Some(given)) else { return resource };
    let key = (request.context.scope.clone(), name);
    match snapshot.get::<Cluster>(&key).filter(|cluster| cluster.status == ClusterStatus::Active) {
        Some(cluster) => resource.with_tags(&cluster.tags),
        None => resource,
    }
}

/// A task named by its id or its ARN, in this cluster when neither says another.
fn task(request: &Request<'_>, snapshot: &Snapshot, cluster: &Resource, given: &str) -> Resource {
    let of_cluster = cluster.arn.rsplit('/').next().unwrap_or(names::DEFAULT_CLUSTER);
    let resource = if given.starts_with("arn:") {
        request.named(given)
    } else {
        request.regional("ecs", format!("task/{of_cluster}/{given}"))
    };
    let Ok((in_cluster, id)) = names::task(request.context, given) else { return resource };
    let in_cluster = in_cluster.unwrap_or_else(|| of_cluster.to_owned());
    match snapshot.get::<Task>(&(request.context.scope.clone(), in_cluster, id)) {
        Some(task) => resource.with_tags(&task.tags),
        None => resource,
    }
}

/// A task definition by `family`, `family:revision` or its ARN: the revision that would run, when
/// there is one.
fn task_definition(
    request: &Request<'_>,
    snapshot: &Snapshot,
    given: &str,
) -> (Resource, Option<Arc<TaskDefinition>>) {
    let name = names::task_definition(request.context, given);
    let found = name.as_ref().ok().and_then(|name| find_task_definition(snapshot, request.context, name));
    let resource = match (&found, &name) {
        (Some(found), _) => request.named(&found.arn).with_tags(&found.tags),
        (None, Ok(name)) if name.revision.is_none() && !given.starts_with("arn:") => {
            request.regional("ecs", format!("task-definition/{given}:*"))
        }
        (None, _) => plain(request, "task-definition", given),
    };
    (resource, found)
}

/// What `resourceArn` names.
fn tagged(request: &Request<'_>, snapshot: &Snapshot) -> Resource {
    let arn = request.text("resourceArn").unwrap_or_default();
    let resource = request.named(arn);
    let Ok(Some(parsed)) = names::own_arn(request.context, arn) else { return resource };
    match parsed.resource.split_once('/') {
        Some(("cluster", _)) => cluster(request, snapshot, Some(arn)),
        Some(("task", _)) => task(request, snapshot, &resource, arn),
        Some(("task-definition", _)) => task_definition(request, snapshot, arn).0,
        _ => resource,
    }
}

#[cfg(test)]
mod tests {
    use wharf_contracts::{ConditionKey, Values};
    use wharf_core::RequestContext;
    use wharf_shape::Structure;

    use super::*;
    use crate::testing::{World, context};

    fn asked(ecs: &Arc<Ecs>, context: &RequestContext, name: &str, input: &dyn Structure) -> Vec<Check> {
        let model = &wharf_ecs_api::MODEL;
        let operation = &model.operations[model.operation(name).unwrap()];
        match authorization(ecs).required(&OperationRequest { context, operation, input }).unwrap() {
            Required::All(checks) => checks,
            Required::Nothing => panic!("{name} is free"),
        }
    }

    fn value(check: &Check, name: &str) -> Option<String> {
        check.keys.iter().find(|key| key.name == name).map(|ConditionKey { values, .. }| match values {
            Values::One(value) => value.clone(),
            Values::Many(values) => values.join(","),
        })
    }

    #[tokio::test]
    async fn to_run_a_task_asks_for_the_revision_the_cluster_the_tags_and_the_roles() {
        let world = World::at_rest();
        let context = context();
        let tag = |key: &str, value: &str| types::Tag { key: Some(key.into()), value: Some(value.into()) };
        let input = types::RunTaskRequest {
            task_definition: "web".into(),
            cluster: Some("prod".into()),
            tags: Some(vec![tag("team", "blue")]),
            overrides: Some(types::TaskOverride {
                execution_role_arn: Some("arn:aws:iam::000000000000:role/pull".into()),
                ..types::TaskOverride::default()
            }),
            ..types::RunTaskRequest::default()
        };
        let checks = asked(&world.ecs, &context, "RunTask", &input);
        let actions: Vec<&str> = checks.iter().map(|check| &*check.action).collect();
        assert_eq!(actions, ["ecs:RunTask", "iam:PassRole", "ecs:TagResource"]);
        assert_eq!(checks[0].resources[0].arn, "arn:aws:ecs:us-east-1:000000000000:task-definition/web:*");
        assert_eq!(
            value(&checks[0], "ecs:cluster").as_deref(),
            Some("arn:aws:ecs:us-east-1:000000000000:cluster/prod")
        );
        assert_eq!(value(&checks[0], "aws:RequestTag/team").as_deref(), Some("blue"));
        assert_eq!(checks[1].resources[0].arn, "arn:aws:iam::000000000000:role/pull");
        assert_eq!(value(&checks[1], "iam:PassedToService").as_deref(), Some("ecs-tasks.amazonaws.com"));
        assert_eq!(checks[2].resources[0].arn, "arn:aws:ecs:us-east-1:000000000000:task/prod/*");
        assert_eq!(value(&checks[2], "ecs:CreateAction").as_deref(), Some("RunTask"));
    }

    #[tokio::test]
    async fn a_role_is_asked_for_by_its_own_account_even_of_root_users() {
        let world = World::at_rest();
        let table = authorization(&world.ecs);
        let model = &wharf_ecs_api::MODEL;
        for name in ["RegisterTaskDefinition", "RunTask"] {
            let operation = &model.operations[model.operation(name).unwrap()];
            assert_eq!(table.reach(operation), wharf_contracts::Reach::AnyAccount, "{name}");
        }
        let role = "arn:aws:iam::111122223333:role/theirs";
        let input = types::RegisterTaskDefinitionRequest {
            family: "web".into(),
            task_role_arn: Some(role.into()),
            execution_role_arn: Some(role.into()),
            ..types::RegisterTaskDefinitionRequest::default()
        };
        let checks = asked(&world.ecs, &context(), "RegisterTaskDefinition", &input);
        let actions: Vec<&str> = checks.iter().map(|check| &*check.action).collect();
        assert_eq!(actions, ["ecs:RegisterTaskDefinition", "iam:PassRole"]);
        assert_eq!(checks[1].resources[0].owner.to_string(), "111122223333");
    }

    #[tokio::test]
    async fn what_belongs_to_another_account_is_asked_for_as_such() {
        let world = World::at_rest();
        let arn = "arn:aws:ecs:us-east-1:111122223333:task/default/0123456789abcdef0123456789abcdef";
        let input = types::StopTaskRequest { task: arn.into(), ..types::StopTaskRequest::default() };
        let checks = asked(&world.ecs, &context(), "StopTask", &input);
        assert_eq!(checks[0].resources[0].arn, arn);
        assert_eq!(checks[0].resources[0].owner.to_string(), "111122223333");
    }
}
