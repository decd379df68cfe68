//! From a `RegisterTaskDefinition` request to a definition that can be run: everything is checked and
//! made normal here, once.
//!
//! Codes and words are AWS's (API reference, `RegisterTaskDefinition`; Developer Guide, "Task
//! definition parameters" for Fargate and for EC2). What Wharf does not do is refused by `fields`.

use std::collections::BTreeMap;

use wharf_core::{ApiError, Arn};
use wharf_ecs_api::errors::client_exception;
use wharf_ecs_api::types;

use super::{container_definition, volume};
use crate::fields;
use crate::names;
use crate::plan::fargate;
use crate::records::{ContainerDefinition, NetworkMode, Volume};

const OPERATION: &str = "RegisterTaskDefinition";
/// Containers of a task definition (Amazon ECS quotas).
const CONTAINERS_MAX: usize = 10;
/// The size of a task definition, counted over the texts that make it up (Amazon ECS quotas: 64 KiB).
const DEFINITION_BYTES_MAX: usize = 64 * 1024;

/// What a definition says, before it has a revision.
#[derive(Debug)]
pub struct Checked {
    pub execution_role_arn: Option<String>,
    pub network_mode: Option<NetworkMode>,
    pub containers: Vec<ContainerDefinition>,
    pub volumes: Vec<Volume>,
    pub ephemeral_storage_gib: Option<u32>,
    pub requires_compatibilities: Vec<String>,
    pub compatibilities: Vec<String>,
    pub requires_attributes: Vec<String>,
    pub cpu: Option<u32>,
    pub memory_mib: Option<u32>,
    pub cpu_architecture: Option<String>,
    pub operating_system_family: Option<String>,
}

pub fn invalid<T>(message: impl Into<String>) -> Result<T, ApiError> {
    Err(client_exception(message))
}

/// # Errors
/// `ClientException` in AWS's words; `NotImplemented` for what Wharf does not do.
pub fn check(input: types::RegisterTaskDefinitionRequest) -> Result<Checked, ApiError> {
    fields::check(&input, fields::REGISTER_TASK_DEFINITION, OPERATION)?;
    if input.family.is_empty() {
        return invalid("Family should not be null or empty.");
    }
    if !names::is_well_formed(&input.family) {
        return invalid("Family contains invalid characters.");
    }
    let requires = requires_compatibilities(input.requires_compatibilities)?;
    let wants_fargate = requires.iter().any(|name| name == "FARGATE");
    let network_mode = network_mode(input.network_mode.as_ref())?;
    if wants_fargate && network_mode != Some(NetworkMode::Awsvpc) {
        return invalid("Fargate only supports network mode ‘awsvpc’.");
    }
    let (cpu, memory_mib) = task_size(input.cpu.as_deref(), input.memory.as_deref())?;
    if wants_fargate {
        check_fargate_size(cpu, memory_mib)?;
    }
    let (cpu_architecture, operating_system_family) = runtime_platform(input.runtime_platform)?;
    let execution_role_arn = role(input.execution_role_arn, "executionRoleArn")?;

    let volumes = volume::volumes(input.volumes)?;
    let ephemeral_storage_gib = volume::ephemeral_storage(input.ephemeral_storage.as_ref())?;
    let containers = containers(input.container_definitions, network_mode, cpu, memory_mib, &volumes)?;
    if wants_fargate {
        volume::check_fargate(&volumes)?;
        for container in &containers {
            container_definition::check_fargate(container)?;
        }
    }
    let size_fits = match (cpu, memory_mib) {
        (Some(cpu), Some(memory)) => fargate::has_size(cpu, memory),
        _ => false,
    };
    let fargate = network_mode == Some(NetworkMode::Awsvpc)
        && size_fits
        && volume::check_fargate(&volumes).is_ok()
        && containers.iter().all(|container| container_definition::check_fargate(container).is_ok());
    let mut compatibilities = vec!["EC2".to_owned()];
    if fargate {
        compatibilities.push("FARGATE".to_owned());
    }
    if network_mode != Some(NetworkMode::Awsvpc) {
        compatibilities.insert(0, "EXTERNAL".to_owned());
    } else if requires.iter().any(|name| name == "EXTERNAL") {
        return invalid("External launch type does not support network mode 'awsvpc'.");
    }
    Ok(Checked {
        requires_attributes: requires_attributes(&containers, network_mode, execution_role_arn.is_some()),
        execution_role_arn,
        network_mode,
        containers,
        volumes,
        ephemeral_storage_gib,
        requires_compatibilities: requires,
        compatibilities,
        cpu,
        memory_mib,
        cpu_architecture,
        operating_system_family,
    })
}

fn requires_compatibilities(given: Option<Vec<types::Compatibility>>) -> Result<Vec<String>, ApiError> {
    let mut names = Vec::new();
    for compatibility in given.unwrap_or_default() {
        match compatibility {
            types::Compatibility::Ec2 | types::Compatibility::Fargate | types::Compatibility::External => {
                names.push(compatibility.as_str().to_owned());
            }
            types::Compatibility::ManagedInstances => {
                return Err(ApiError::not_implemented(
                    "the value \"MANAGED_INSTANCES\" of \"requiresCompatibilities\" of ecs:RegisterTaskDefinition",
                ));
            }
            types::Compatibility::Unknown(name) => {
                return invalid(format!("Invalid value for requiresCompatibilities: {name}"));
            }
        }
    }
    names.dedup();
    Ok(names)
}

fn network_mode(given: Option<&types::NetworkMode>) -> Result<Option<NetworkMode>, ApiError> {
    Ok(match given {
        None => None,
        Some(types::NetworkMode::Awsvpc) => Some(NetworkMode::Awsvpc),
        Some(types::NetworkMode::Bridge) => Some(NetworkMode::Bridge),
        Some(types::NetworkMode::Host) => Some(NetworkMode::Host),
        Some(types::NetworkMode::None) => Some(NetworkMode::None),
        Some(types::NetworkMode::Unknown(name)) => {
            return invalid(format!("Invalid value for networkMode: {name}"));
        }
    })
}

/// CPU units and MiB of the task, when given.
pub fn task_size(cpu: Option<&str>, memory: Option<&str>) -> Result<(Option<u32>, Option<u32>), ApiError> {
    const MORE: &str =
        "For more information, see the Troubleshooting section of the Amazon ECS Developer Guide.";
    let cpu = match cpu {
        None => None,
        Some(text) => match fargate::parse_cpu(text).filter(|cpu| (128..=196_608).contains(cpu)) {
            None => return invalid(format!("Invalid 'cpu' setting for task. {MORE}")),
            some => some,
        },
    };
    let memory = match memory {
        None => None,
        Some(text) => match fargate::parse_memory(text).filter(|memory| *memory >= 4) {
            None => return invalid(format!("Invalid 'memory' setting for task. {MORE}")),
            some => some,
        },
    };
    Ok((cpu, memory))
}

/// # Errors
/// `ClientException` when Fargate has no such size.
pub fn check_fargate_size(cpu: Option<u32>, memory_mib: Option<u32>) -> Result<(u32, u32), ApiError> {
    let Some(cpu) = cpu else { return invalid("Fargate requires that 'cpu' be defined at the task level.") };
    let Some(memory) = memory_mib else {
        return invalid("Fargate requires that 'memory' be defined at the task level.");
    };
    if !fargate::has_size(cpu, memory) {
        return invalid(format!(
            "No Fargate configuration exists for given values: {cpu} CPU, {memory} memory. \
             See the Amazon ECS documentation for the valid values."
        ));
    }
    Ok((cpu, memory))
}

/// The machine's own architecture, as ECS names it.
pub fn host_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "ARM64" } else { "X86_64" }
}

fn runtime_platform(
    given: Option<types::RuntimePlatform>,
) -> Result<(Option<String>, Option<String>), ApiError> {
    let Some(platform) = given else { return Ok((None, None)) };
    let refused = |value: &str, member: &str| {
        Err(ApiError::not_implemented(format_args!(
            "the value \"{value}\" of the field \"runtimePlatform.{member}\" of ecs:{OPERATION} on this machine"
        )))
    };
    if let Some(architecture) = &platform.cpu_architecture
        && architecture.as_str() != host_architecture()
    {
        return refused(architecture.as_str(), "cpuArchitecture");
    }
    if let Some(family) = &platform.operating_system_family
        && family.as_str() != "LINUX"
    {
        return refused(family.as_str(), "operatingSystemFamily");
    }
    Ok((
        platform.cpu_architecture.map(|value| value.as_str().to_owned()),
        platform.operating_system_family.map(|value| value.as_str().to_owned()),
    ))
}

/// A role's ARN. There are no roles to find it among; its form is checked.
pub fn role(given: Option<String>, member: &str) -> Result<Option<String>, ApiError> {
    let Some(role) = given.filter(|role| !role.is_empty()) else { return Ok(None) };
    let well_formed = role
        .parse::<Arn>()
        .is_ok_and(|arn| arn.service == "iam" && arn.account.is_some() && arn.resource.starts_with("role/"));
    if well_formed {
        Ok(Some(role))
    } else {
        invalid(format!("Invalid '{member}': {role} is not a role's ARN."))
    }
}

fn containers(
    given: Vec<types::ContainerDefinition>,
    network_mode: Option<NetworkMode>,
    task_cpu: Option<u32>,
    task_memory: Option<u32>,
    volumes: &[Volume],
) -> Result<Vec<ContainerDefinition>, ApiError> {
    if given.is_empty() {
        return invalid("Container list cannot be empty.");
    }
    if given.len() > CONTAINERS_MAX {
        return invalid(format!("Too many containers: a task definition has at most {CONTAINERS_MAX}."));
    }
    let dependencies: Vec<_> = given.iter().map(|of| of.depends_on.clone().unwrap_or_default()).collect();
    let mounts = given.iter().map(volume::Mounts::of).collect();
    let mut containers = Vec::with_capacity(given.len());
    let mut names = BTreeMap::new();
    for container in given {
        let container = container_definition::check(container, network_mode, task_memory.is_some())?;
        if names.insert(container.name.clone(), containers.len()).is_some() {
            return invalid(format!("Container names must be unique: {} is used twice.", container.name));
        }
        containers.push(container);
    }
    if !containers.iter().any(|container| container.essential) {
        return invalid("A task definition must have at least one essential container.");
    }
    container_definition::link(&mut containers, &names, dependencies)?;
    volume::link(&mut containers, volumes, &names, mounts)?;
    check_sums(&containers, task_cpu, task_memory)?;
    check_size(&containers)?;
    Ok(containers)
}

fn check_sums(
    containers: &[ContainerDefinition],
    cpu: Option<u32>,
    memory: Option<u32>,
) -> Result<(), ApiError> {
    let sum: u64 = containers.iter().map(|of| u64::from(of.cpu)).sum();
    if cpu.is_some_and(|cpu| sum > u64::from(cpu)) {
        return invalid(
            "The sum of all container 'cpu' values cannot be greater than the value of the task 'cpu'.",
        );
    }
    let Some(memory) = memory else { return Ok(()) };
    if containers.iter().any(|of| of.memory_mib.is_some_and(|of| of > memory)) {
        return invalid("The 'memory' setting for container is greater than for the task.");
    }
    let reserved: u64 = containers.iter().map(|of| u64::from(of.memory_reservation_mib.unwrap_or(0))).sum();
    if reserved > u64::from(memory) {
        return invalid(
            "The sum of all container 'memoryReservation' values cannot be greater than the value of the task 'memory'.",
        );
    }
    let mut ports = std::collections::BTreeSet::new();
    for mapping in containers.iter().flat_map(|of| &of.port_mappings) {
        if mapping.host_port.is_some_and(|port| !ports.insert((port, mapping.protocol.as_str()))) {
            return invalid("Host ports must be unique within a task definition.");
        }
    }
    Ok(())
}

fn check_size(containers: &[ContainerDefinition]) -> Result<(), ApiError> {
    let pair = |(name, value): &(String, String)| name.len() + value.len();
    let bytes: usize = containers
        .iter()
        .map(|of| {
            of.name.len()
                + of.image.len()
                + of.entry_point.iter().chain(&of.command).flatten().map(String::len).sum::<usize>()
                + of.environment.iter().map(pair).sum::<usize>()
                + of.health_check.iter().flat_map(|check| &check.command).map(String::len).sum::<usize>()
                + of.mount_points.iter().map(|mount| mount.path.len()).sum::<usize>()
                + of.docker_labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
        })
        .sum();
    if bytes > DEFINITION_BYTES_MAX {
        return invalid("Actual length of the task definition exceeds the maximum of 64 KB.");
    }
    Ok(())
}

/// What an EC2 instance would have to be capable of.
fn requires_attributes(
    containers: &[ContainerDefinition],
    network_mode: Option<NetworkMode>,
    execution_role: bool,
) -> Vec<String> {
    let mut names: Vec<&str> = Vec::new();
    let logs = containers.iter().any(|container| container.log_configuration.is_some());
    if logs {
        names.push("com.amazonaws.ecs.capability.logging-driver.awslogs");
        names.push("com.amazonaws.ecs.capability.docker-remote-api.1.19");
    }
    if logs && execution_role {
        names.push("ecs.capability.execution-role-awslogs");
    }
    if containers.iter().any(|container| !container.depends_on.is_empty()) {
        names.push("ecs.capability.container-ordering");
    }
    if network_mode == Some(NetworkMode::Awsvpc) {
        names.push("ecs.capability.task-eni");
    }
    if containers.iter().any(|container| container.health_check.is_some()) {
        names.push("ecs.capability.container-health-check");
    }
    names.push("com.amazonaws.ecs.capability.docker-remote-api.1.18");
    names.into_iter().map(str::to_owned).collect()
}
