//! `RunTask`: checks, chooses, and writes the tasks that are wanted. Nothing is started here.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use wharf_contracts::InterfaceError;
use wharf_core::{ApiError, Arn, RequestContext, RequestId};
use wharf_ecs_api::errors::{
    client_exception, conflict_exception, invalid_parameter_exception, platform_unknown_exception,
};
use wharf_ecs_api::types;

use super::{capacity_provider, cluster, container_definition, register, task_definition, volume};
use crate::convert::{self, Include};
use crate::fields;
use crate::names;
use crate::plan::strategy;
use crate::reconcile::Platform;
use crate::records::{
    AttachmentStatus, Cluster, ClusterStatus, Container, ContainerHealth, ContainerOverride, ContainerStatus,
    DesiredStatus, IdempotencyToken, Overrides, StrategyItem, Task, TaskDefinition, TaskDefinitionStatus,
    TaskNetwork, TaskStatus, TaskTimes,
};
use crate::tags::{self, Tags};

const OPERATION: &str = "RunTask";
/// Tasks of one call.
const COUNT_MAX: i32 = 10;
/// The platform version that `LATEST` means.
const PLATFORM_VERSION: &str = "1.4.0";
const SUBNETS_MAX: usize = 16;
const SECURITY_GROUPS_MAX: usize = 5;
const STARTED_BY_BYTES_MAX: usize = 128;
const GROUP_BYTES_MAX: usize = 255;
const CLIENT_TOKEN_BYTES_MAX: usize = 64;
/// All overrides together (API reference, `TaskOverride`).
const OVERRIDES_BYTES_MAX: usize = 8192;
/// Tasks that are not stopped, in an account and region.
const TASKS_MAX: usize = 100_000;

fn invalid<T>(message: impl Into<String>) -> Result<T, ApiError> {
    Err(invalid_parameter_exception(message))
}

/// Where a task's interface may lie.
struct Placement {
    /// (subnet, availability zone)
    subnets: Vec<(String, String)>,
    security_groups: Vec<String>,
    assign_public_ip: bool,
}

pub async fn run_task(
    platform: &Arc<Platform>,
    context: &RequestContext,
    mut input: types::RunTaskRequest,
) -> Result<types::RunTaskResponse, ApiError> {
    fields::check(&input, fields::RUN_TASK, OPERATION)?;
    let token = input.client_token.take().filter(|token| !token.is_empty());
    check_texts(&input, token.as_deref())?;
    let fingerprint = token.as_ref().map(|_| Sha256::digest(format!("{input:?}").as_bytes()).to_vec());
    let count = match input.count.unwrap_or(1) {
        count @ 1..=COUNT_MAX => usize::try_from(count).unwrap_or(1),
        _ => return invalid("Count should be between 1 and 10."),
    };
    let cluster =
        cluster::find(platform, context, &names::cluster(context, input.cluster.as_deref())?).await?;
    if let (Some(token), Some(fingerprint)) = (&token, &fingerprint)
        && let Some(answer) = answer_again(platform, context, &cluster, token, fingerprint)?
    {
        return Ok(answer);
    }
    let name = names::task_definition(context, &input.task_definition)?;
    let definition = task_definition::find(&platform.store.snapshot(), context, &name)
        .ok_or_else(|| client_exception("TaskDefinition not found."))?;
    if definition.status != TaskDefinitionStatus::Active {
        return Err(client_exception("TaskDefinition is inactive"));
    }
    let providers = providers(&input, &cluster, count)?;
    if !definition.runs_on("FARGATE") {
        return invalid("Task definition does not support launch_type FARGATE.");
    }
    match input.platform_version.as_deref() {
        None | Some("" | "LATEST" | PLATFORM_VERSION) => {}
        Some("1.0.0" | "1.1.0" | "1.2.0" | "1.3.0") => {
            return Err(ApiError::not_implemented(
                "a value of the field \"platformVersion\" of ecs:RunTask other than LATEST and 1.4.0",
            ));
        }
        Some(_) => return Err(platform_unknown_exception("The specified platform does not exist.")),
    }
    let overrides = overrides(input.overrides.take(), &definition)?;
    let (cpu, memory_mib) = effective_size(&definition, &overrides)?;
    let placement = placement(platform, context, input.network_configuration.take()).await?;
    let tags = task_tags(&input, &definition, &cluster)?;
    let group = input.group.filter(|group| !group.is_empty());
    let group = group.unwrap_or_else(|| format!("family:{}", definition.family));

    let new = NewTask {
        context,
        cluster: &cluster,
        definition: &definition,
        overrides: &overrides,
        cpu,
        memory_mib,
        group,
        started_by: input.started_by.filter(|text| !text.is_empty()),
        tags,
    };
    let tasks: Vec<Task> =
        (0..count).map(|index| new.task(platform, providers[index].clone(), &placement)).collect();

    let token = token.zip(fingerprint);
    let written = write(platform, context, &cluster, &definition, &tasks, token.as_ref()).await?;
    if !written {
        // The same call ran at the same time and was first.
        if let Some((token, fingerprint)) = &token
            && let Some(answer) = answer_again(platform, context, &cluster, token, fingerprint)?
        {
            return Ok(answer);
        }
    }
    for task in &tasks {
        platform.signal(wharf_state::Record::key(task));
    }
    Ok(types::RunTaskResponse {
        tasks: Some(tasks.iter().map(|task| convert::task(task, Include::Tags)).collect()),
        failures: Some(Vec::new()),
    })
}

fn check_texts(input: &types::RunTaskRequest, token: Option<&str>) -> Result<(), ApiError> {
    if input.started_by.as_ref().is_some_and(|text| text.len() > STARTED_BY_BYTES_MAX) {
        return invalid("startedBy must be at most 128 characters.");
    }
    if input.group.as_ref().is_some_and(|text| text.len() > GROUP_BYTES_MAX) {
        return invalid("group must be at most 255 characters.");
    }
    if input.group.as_ref().is_some_and(|group| group.starts_with("service:")) {
        return invalid("Invalid namespace for group.");
    }
    let printable = |token: &str| token.bytes().all(|byte| (33..=126).contains(&byte));
    if token.is_some_and(|token| token.len() > CLIENT_TOKEN_BYTES_MAX || !printable(token)) {
        return invalid("clientToken has up to 64 characters in the range of 33-126, inclusive.");
    }
    Ok(())
}

/// What a call with this token has already made.
fn answer_again(
    platform: &Platform,
    context: &RequestContext,
    cluster: &Cluster,
    token: &str,
    fingerprint: &[u8],
) -> Result<Option<types::RunTaskResponse>, ApiError> {
    let snapshot = platform.store.snapshot();
    let key = (context.scope.clone(), cluster.name.clone(), token.to_owned());
    let Some(known) = snapshot.get::<IdempotencyToken>(&key) else { return Ok(None) };
    let ids: Vec<String> = known.task_ids.iter().map(|id| format!("{}/{id}", cluster.name)).collect();
    if known.fingerprint != fingerprint {
        return Err(conflict_exception("The clientToken was already used with other parameters.")
            .with_member("resourceIds", ids.join(",")));
    }
    let tasks = known
        .task_ids
        .iter()
        .filter_map(|id| snapshot.get::<Task>(&(context.scope.clone(), cluster.name.clone(), id.clone())))
        .map(|task| convert::task(&task, Include::Tags))
        .collect();
    Ok(Some(types::RunTaskResponse { tasks: Some(tasks), failures: Some(Vec::new()) }))
}

/// The capacity provider of each task; `None` for a plain launch on Fargate.
fn providers(
    input: &types::RunTaskRequest,
    cluster: &Cluster,
    count: usize,
) -> Result<Vec<Option<String>>, ApiError> {
    let given = input.capacity_provider_strategy.clone().unwrap_or_default();
    if input.launch_type.is_some() && !given.is_empty() {
        return invalid(
            "Specifying both a launch type and capacity provider strategy is not supported. Remove one and try again.",
        );
    }
    let items: Vec<StrategyItem> = if given.is_empty() {
        match &input.launch_type {
            Some(types::LaunchType::Fargate) => return Ok(vec![None; count]),
            None if !cluster.default_strategy.is_empty() => cluster.default_strategy.clone(),
            None | Some(types::LaunchType::Ec2 | types::LaunchType::External) => {
                return invalid("No Container Instances were found in your cluster.");
            }
            Some(types::LaunchType::ManagedInstances) => {
                return Err(ApiError::not_implemented(
                    "the value \"MANAGED_INSTANCES\" of the field \"launchType\" of ecs:RunTask",
                ));
            }
            Some(types::LaunchType::Unknown(other)) => {
                return invalid(format!("Invalid launch type: {other}"));
            }
        }
    } else {
        let items = capacity_provider::strategy(given)?;
        capacity_provider::check(&cluster.capacity_providers, &items)?;
        items
    };
    let placed = strategy::distribute(&items, count)
        .ok_or_else(|| invalid_parameter_exception("The strategy has no capacity provider for all tasks."))?;
    Ok(placed.into_iter().map(|name| Some(name.to_owned())).collect())
}

fn overrides(given: Option<types::TaskOverride>, definition: &TaskDefinition) -> Result<Overrides, ApiError> {
    let Some(given) = given else { return Ok(Overrides::default()) };
    fields::check(&given, fields::TASK_OVERRIDE, OPERATION)?;
    let (cpu, memory_mib) = register::task_size(given.cpu.as_deref(), given.memory.as_deref())?;
    let execution_role_arn = register::role(given.execution_role_arn, "executionRoleArn")?;
    let ephemeral_storage_gib = volume::ephemeral_storage(given.ephemeral_storage.as_ref())?;
    let mut overrides =
        Overrides { containers: Vec::new(), cpu, memory_mib, execution_role_arn, ephemeral_storage_gib };
    let mut bytes = 0;
    for container in given.container_overrides.unwrap_or_default() {
        fields::check(&container, fields::CONTAINER_OVERRIDE, OPERATION)?;
        let name = container.name.unwrap_or_default();
        if !definition.containers.iter().any(|of| of.name == name) {
            return invalid(format!(
                "Override for container named {name} is not a container in the TaskDefinition."
            ));
        }
        if overrides.containers.iter().any(|known| known.name == name) {
            return invalid(format!("Multiple overrides for container named {name}."));
        }
        let unsigned = |value: Option<i32>, member: &str| match value.map(u32::try_from) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(_)) => invalid(format!("Invalid '{member}' override for container '{name}'.")),
        };
        let cpu = unsigned(container.cpu, "cpu")?;
        let memory_mib = unsigned(container.memory, "memory")?;
        let memory_reservation_mib = unsigned(container.memory_reservation, "memoryReservation")?;
        let environment = container_definition::environment(container.environment)?;
        let command = container.command.filter(|command| !command.is_empty());
        if command.iter().flatten().any(|arg| arg.contains('\0')) {
            return invalid(format!("The command override for container '{name}' contains a zero byte."));
        }
        bytes += command.iter().flatten().map(String::len).sum::<usize>()
            + environment.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        overrides.containers.push(ContainerOverride {
            name,
            command,
            environment,
            cpu,
            memory_mib,
            memory_reservation_mib,
        });
    }
    if bytes > OVERRIDES_BYTES_MAX {
        return invalid("Container Overrides length must be at most 8192");
    }
    Ok(overrides)
}

/// The task's size with its overrides, checked again when these change it.
fn effective_size(definition: &TaskDefinition, overrides: &Overrides) -> Result<(u32, u32), ApiError> {
    let cpu = overrides.cpu.or(definition.cpu);
    let memory = overrides.memory_mib.or(definition.memory_mib);
    let (cpu, memory) = register::check_fargate_size(cpu, memory)?;
    let of = |name: &str| overrides.containers.iter().find(|over| over.name == name);
    let mut cpus = 0_u64;
    for container in &definition.containers {
        let over = of(&container.name);
        cpus += u64::from(over.and_then(|over| over.cpu).unwrap_or(container.cpu));
        let wanted = over.and_then(|over| over.memory_mib).or(container.memory_mib);
        if wanted.is_some_and(|wanted| wanted > memory) {
            return invalid("The 'memory' setting for container is greater than for the task.");
        }
    }
    if cpus > u64::from(cpu) {
        return invalid(
            "The sum of all container 'cpu' values cannot be greater than the value of the task 'cpu'.",
        );
    }
    Ok((cpu, memory))
}

async fn placement(
    platform: &Platform,
    context: &RequestContext,
    given: Option<types::NetworkConfiguration>,
) -> Result<Placement, ApiError> {
    let Some(awsvpc) = given.and_then(|network| network.awsvpc_configuration) else {
        return invalid("Network Configuration must be provided when networkMode 'awsvpc' is specified.");
    };
    if awsvpc.subnets.is_empty() {
        return invalid("subnets can not be empty.");
    }
    if awsvpc.subnets.len() > SUBNETS_MAX {
        return invalid("subnets can have at most 16 items.");
    }
    let security_groups = awsvpc.security_groups.unwrap_or_default();
    if security_groups.len() > SECURITY_GROUPS_MAX {
        return invalid("securityGroups can have at most 5 items.");
    }
    let assign_public_ip = match awsvpc.assign_public_ip {
        None | Some(types::AssignPublicIp::Disabled) => false,
        Some(types::AssignPublicIp::Enabled) => true,
        Some(types::AssignPublicIp::Unknown(other)) => {
            return invalid(format!("Invalid value for assignPublicIp: {other}"));
        }
    };
    let zones = platform.interfaces.check(&context.scope, &awsvpc.subnets, &security_groups).await;
    let zones = zones.map_err(|error| match error {
        InterfaceError::Refused(error) => {
            let (what, ids) =
                if error.code.starts_with("InvalidGroup") || error.code.contains("SecurityGroup") {
                    ("security group", &security_groups)
                } else {
                    ("subnet", &awsvpc.subnets)
                };
            invalid_parameter_exception(format!(
                "Error retrieving {what} information for [{}]: {} (ErrorCode: {})",
                ids.join(", "),
                error.message,
                error.code
            ))
        }
        error @ InterfaceError::Unavailable { .. } => ApiError::internal(error),
    })?;
    Ok(Placement {
        subnets: awsvpc.subnets.into_iter().zip(zones).collect(),
        security_groups,
        assign_public_ip,
    })
}

fn task_tags(
    input: &types::RunTaskRequest,
    definition: &TaskDefinition,
    cluster: &Cluster,
) -> Result<Tags, ApiError> {
    let mut tags = match &input.propagate_tags {
        None | Some(types::PropagateTags::None) => Tags::new(),
        Some(types::PropagateTags::TaskDefinition) => definition.tags.clone(),
        Some(types::PropagateTags::Service) => {
            return invalid("Tags of a service can be propagated only to the tasks of a service.");
        }
        Some(types::PropagateTags::Unknown(other)) => {
            return invalid(format!("Invalid value for propagateTags: {other}"));
        }
    };
    tags.extend(tags::from_api(input.tags.clone())?);
    tags::check_count(&tags)?;
    if input.enable_ecs_managed_tags == Some(true) {
        tags.insert("aws:ecs:clusterName".to_owned(), cluster.name.clone());
    }
    Ok(tags)
}

/// What the tasks of one call have in common.
struct NewTask<'a> {
    context: &'a RequestContext,
    cluster: &'a Cluster,
    definition: &'a TaskDefinition,
    overrides: &'a Overrides,
    cpu: u32,
    memory_mib: u32,
    group: String,
    started_by: Option<String>,
    tags: BTreeMap<String, String>,
}

impl NewTask<'_> {
    fn task(&self, platform: &Platform, capacity_provider: Option<String>, placement: &Placement) -> Task {
        let rng = &*platform.rng;
        let scope = self.context.scope.clone();
        let id = rng.hex(32);
        let arn = |resource: String| Arn::regional("ecs", &scope.region, scope.account, resource).to_string();
        let task_arn = arn(format!("task/{}/{id}", self.cluster.name));
        let containers = self.definition.containers.iter().map(|of| {
            let over = self.overrides.containers.iter().find(|over| over.name == of.name);
            Container {
                name: of.name.clone(),
                arn: arn(format!("container/{}/{id}/{}", self.cluster.name, RequestId::random(rng))),
                runtime_id: format!("{id}-{:010}", rng.below(10_000_000_000)),
                image: of.image.clone(),
                image_digest: None,
                cpu: over.and_then(|over| over.cpu).unwrap_or(of.cpu),
                memory_mib: over.and_then(|over| over.memory_mib).or(of.memory_mib),
                memory_reservation_mib: over
                    .and_then(|over| over.memory_reservation_mib)
                    .or(of.memory_reservation_mib),
                status: ContainerStatus::Pending,
                started_at: None,
                finished_at: None,
                exit_code: None,
                reason: None,
                stop_signal: None,
                health: ContainerHealth::Unknown,
                essential: of.essential,
            }
        });
        let containers = containers.collect();
        let chosen = usize::try_from(rng.below(placement.subnets.len() as u64)).unwrap_or(0);
        let (subnet_id, availability_zone) = placement.subnets[chosen].clone();
        Task {
            cluster: self.cluster.name.clone(),
            arn: task_arn,
            id,
            cluster_arn: self.cluster.arn.clone(),
            task_definition_arn: self.definition.arn.clone(),
            family: self.definition.family.clone(),
            revision: self.definition.revision,
            status: TaskStatus::Provisioning,
            desired: DesiredStatus::Running,
            version: 1,
            cpu: self.cpu,
            memory_mib: self.memory_mib,
            capacity_provider,
            platform_version: PLATFORM_VERSION.to_owned(),
            cpu_architecture: match super::host_architecture() {
                "ARM64" => "arm64".to_owned(),
                _ => "x86_64".to_owned(),
            },
            group: self.group.clone(),
            started_by: self.started_by.clone(),
            tags: self.tags.clone(),
            overrides: self.overrides.clone(),
            network: TaskNetwork {
                attachment_id: RequestId::random(rng).to_string(),
                subnet_id,
                security_group_ids: placement.security_groups.clone(),
                assign_public_ip: placement.assign_public_ip,
                status: AttachmentStatus::PreCreated,
                interface: None,
            },
            availability_zone,
            containers,
            ephemeral_storage_gib: self
                .overrides
                .ephemeral_storage_gib
                .or(self.definition.ephemeral_storage_gib)
                .unwrap_or(volume::EPHEMERAL_STORAGE_GIB_DEFAULT),
            times: TaskTimes {
                created: self.context.now,
                connectivity: None,
                pull_started: None,
                pull_stopped: None,
                started: None,
                stopping: None,
                execution_stopped: None,
                stopped: None,
            },
            stop: None,
            scope,
        }
    }
}

/// Writes the tasks and their token in one step. `false`: the token was used meanwhile.
async fn write(
    platform: &Platform,
    context: &RequestContext,
    cluster: &Cluster,
    definition: &TaskDefinition,
    tasks: &[Task],
    token: Option<&(String, Vec<u8>)>,
) -> Result<bool, ApiError> {
    let written = platform
        .store
        .transact(|transaction| {
            // What was looked at before may have changed since.
            let still = transaction.get::<Cluster>(&wharf_state::Record::key(cluster));
            if still.is_none_or(|cluster| cluster.status != ClusterStatus::Active) {
                return Err(wharf_ecs_api::errors::cluster_not_found_exception("Cluster not found."));
            }
            let still = transaction.get::<TaskDefinition>(&wharf_state::Record::key(definition));
            if still.is_none_or(|definition| definition.status != TaskDefinitionStatus::Active) {
                return Err(client_exception("TaskDefinition is inactive"));
            }
            if transaction.count::<Task>() >= TASKS_MAX {
                return Err(client_exception(
                    "You've reached the limit on the number of tasks you can run concurrently",
                ));
            }
            if let Some((token, fingerprint)) = token {
                let record = IdempotencyToken {
                    scope: context.scope.clone(),
                    cluster: cluster.name.clone(),
                    token: token.clone(),
                    fingerprint: fingerprint.clone(),
                    task_ids: tasks.iter().map(|task| task.id.clone()).collect(),
                    created_at: context.now,
                };
                if transaction.get::<IdempotencyToken>(&wharf_state::Record::key(&record)).is_some() {
                    return Ok(false);
                }
                transaction.put(record);
            }
            for task in tasks {
                transaction.put(task.clone());
            }
            Ok::<_, ApiError>(true)
        })
        .await?;
    Ok(written)
}
