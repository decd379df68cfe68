//! One container of a task definition: checked, and made normal.

use std::collections::BTreeMap;

use wharf_core::{ApiError, Region};
use wharf_ecs_api::types;
use wharf_engine::order;

use super::container_life;
use super::register::invalid;
use crate::fields;
use crate::names;
use crate::records::{
    AwsLogs, ContainerDefinition, Dependency, DependencyCondition, LogConfiguration, NetworkMode,
    PortMapping, TmpfsMount, Ulimit,
};

const OPERATION: &str = "RegisterTaskDefinition";
/// Docker's least memory of a container (Developer Guide, `memory`).
const MEMORY_MIB_MIN: u32 = 6;
const PORT_MAPPINGS_MAX: usize = 100;
/// Fargate's longest `stopTimeout` and `startTimeout`.
const FARGATE_TIMEOUT_SECS_MAX: u32 = 120;
const TIMEOUT_SECS_MIN: u32 = 2;
/// `max-buffer-size` of the `non-blocking` mode (Developer Guide, `LogConfiguration`).
const LOG_BUFFER_BYTES_DEFAULT: u64 = 10 << 20;

/// Options of the `awslogs` driver that are acted on. With `mode` `non-blocking`, output beyond
/// `max-buffer-size` that no log stream has taken is dropped, the oldest first; otherwise it is kept on
/// disk for as long as that takes.
const AWSLOGS_OPTIONS: [&str; 6] = [
    "awslogs-group",
    "awslogs-region",
    "awslogs-stream-prefix",
    "awslogs-create-group",
    "mode",
    "max-buffer-size",
];

const CAPABILITIES: [&str; 39] = [
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "SYSLOG",
    "WAKE_ALARM",
];

/// # Errors
/// As `register::check`. Dependencies are filled in by [`link`].
pub fn check(
    given: types::ContainerDefinition,
    network_mode: Option<NetworkMode>,
    task_has_memory: bool,
) -> Result<ContainerDefinition, ApiError> {
    fields::check(&given, fields::CONTAINER_DEFINITION, OPERATION)?;
    let name = given.name.unwrap_or_default();
    if name.is_empty() {
        return invalid("Container.name should not be null or empty.");
    }
    if !names::is_well_formed(&name) {
        return invalid("Container.name contains invalid characters.");
    }
    let image = given.image.unwrap_or_default();
    if image.is_empty() {
        return invalid("Container.image should not be null or empty.");
    }
    if image.len() > 255 || image.chars().any(char::is_whitespace) {
        return invalid("Container.image contains invalid characters.");
    }
    let (memory_mib, memory_reservation_mib) =
        memory(&name, given.memory, given.memory_reservation, task_has_memory)?;
    let mut container = ContainerDefinition {
        cpu: not_negative(given.cpu, "cpu", &name)?.unwrap_or(0),
        memory_mib,
        memory_reservation_mib,
        port_mappings: port_mappings(given.port_mappings, network_mode)?,
        essential: given.essential.unwrap_or(true),
        entry_point: given.entry_point.filter(|list| !list.is_empty()),
        command: given.command.filter(|list| !list.is_empty()),
        environment: environment(given.environment)?,
        user: given.user.filter(|user| !user.is_empty()),
        working_directory: given.working_directory.filter(|directory| !directory.is_empty()),
        readonly_root_filesystem: given.readonly_root_filesystem,
        start_timeout_secs: timeout(given.start_timeout, "startTimeout")?,
        stop_timeout_secs: timeout(given.stop_timeout, "stopTimeout")?,
        ulimits: ulimits(given.ulimits)?,
        docker_labels: given.docker_labels.unwrap_or_default(),
        log_configuration: given.log_configuration.map(log_configuration).transpose()?,
        health_check: given.health_check.map(container_life::health_check).transpose()?.flatten(),
        restart_policy: given.restart_policy.map(container_life::restart_policy).transpose()?,
        name,
        image,
        ..ContainerDefinition::default()
    };
    let directory = container.working_directory.as_deref();
    if directory.is_some_and(|directory| !directory.starts_with('/') || directory.contains('\0')) {
        return invalid("Container.workingDirectory must be an absolute path.");
    }
    check_texts(&container)?;
    if let Some(linux) = given.linux_parameters {
        linux_parameters(linux, &mut container)?;
    }
    Ok(container)
}

/// No zero byte reaches an argument vector or an environment.
fn check_texts(container: &ContainerDefinition) -> Result<(), ApiError> {
    let args = container.entry_point.iter().chain(&container.command).flatten();
    if args.chain(&container.user).any(|text| text.contains('\0')) {
        return invalid(format!("Container '{}' contains a zero byte.", container.name));
    }
    Ok(())
}

fn not_negative(value: Option<i32>, member: &str, container: &str) -> Result<Option<u32>, ApiError> {
    match value.map(u32::try_from) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(_)) => invalid(format!("Invalid '{member}' setting for container '{container}'.")),
    }
}

fn memory(
    name: &str,
    hard: Option<i32>,
    soft: Option<i32>,
    task_has_memory: bool,
) -> Result<(Option<u32>, Option<u32>), ApiError> {
    let hard = not_negative(hard, "memory", name)?;
    let soft = not_negative(soft, "memoryReservation", name)?;
    if [hard, soft].into_iter().flatten().any(|memory| memory < MEMORY_MIB_MIN) {
        return invalid(format!(
            "Invalid setting for container '{name}'. 'memory' and 'memoryReservation' must be at least {MEMORY_MIB_MIN} MiB."
        ));
    }
    if hard.is_none() && soft.is_none() && !task_has_memory {
        return invalid(format!(
            "Invalid setting for container '{name}'. At least one of 'memory' or 'memoryReservation' must be specified."
        ));
    }
    if let (Some(hard), Some(soft)) = (hard, soft)
        && hard < soft
    {
        return invalid(format!(
            "Invalid setting for container '{name}'. 'memory' must be greater than or equal to 'memoryReservation'."
        ));
    }
    Ok((hard, soft))
}

fn port_mappings(
    given: Option<Vec<types::PortMapping>>,
    network_mode: Option<NetworkMode>,
) -> Result<Vec<PortMapping>, ApiError> {
    let given = given.unwrap_or_default();
    if given.len() > PORT_MAPPINGS_MAX {
        return invalid(format!("A container has at most {PORT_MAPPINGS_MAX} port mappings."));
    }
    let port = |number: i32| u16::try_from(number).ok();
    let mut mappings = Vec::with_capacity(given.len());
    for mapping in given {
        fields::check(&mapping, fields::PORT_MAPPING, OPERATION)?;
        let Some(container_port) = mapping.container_port.and_then(port).filter(|port| *port > 0) else {
            return invalid("Container port must be between 1 and 65535.");
        };
        let host_port = match mapping.host_port {
            None => None,
            Some(number) => match port(number) {
                None => return invalid("Host port must be between 0 and 65535."),
                some => some,
            },
        };
        let host_port = match network_mode {
            Some(NetworkMode::Awsvpc | NetworkMode::Host) => {
                if host_port.is_some_and(|host| host != container_port) {
                    let mode = network_mode.map_or("", NetworkMode::as_str);
                    return invalid(format!(
                        "When networkMode={mode}, the host ports and container ports in port mappings must match."
                    ));
                }
                Some(container_port)
            }
            _ => host_port.filter(|port| *port > 0),
        };
        let protocol = match mapping.protocol {
            None | Some(types::TransportProtocol::Tcp) => "tcp",
            Some(types::TransportProtocol::Udp) => "udp",
            Some(types::TransportProtocol::Unknown(other)) => {
                return invalid(format!("Invalid protocol: {other}"));
            }
        };
        mappings.push(PortMapping {
            container_port,
            host_port,
            protocol: protocol.to_owned(),
            name: mapping.name,
            app_protocol: mapping.app_protocol.map(|protocol| protocol.as_str().to_owned()),
        });
    }
    Ok(mappings)
}

/// Names are not empty and hold neither `=` nor a zero byte.
pub fn environment(given: Option<Vec<types::KeyValuePair>>) -> Result<Vec<(String, String)>, ApiError> {
    let mut variables = Vec::new();
    for variable in given.unwrap_or_default() {
        let (name, value) = (variable.name.unwrap_or_default(), variable.value.unwrap_or_default());
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return invalid(format!("Invalid environment variable name: {name:?}"));
        }
        variables.push((name, value));
    }
    Ok(variables)
}

fn timeout(given: Option<i32>, member: &str) -> Result<Option<u32>, ApiError> {
    match given {
        None => Ok(None),
        Some(seconds) => match u32::try_from(seconds) {
            Ok(seconds) if seconds >= TIMEOUT_SECS_MIN || (member == "stopTimeout") => Ok(Some(seconds)),
            _ => invalid(format!("{member} must be at least {TIMEOUT_SECS_MIN} seconds.")),
        },
    }
}

fn ulimits(given: Option<Vec<types::Ulimit>>) -> Result<Vec<Ulimit>, ApiError> {
    let mut limits: Vec<Ulimit> = Vec::new();
    for limit in given.unwrap_or_default() {
        let name = limit.name.as_str().to_owned();
        if limits.iter().any(|known| known.name == name) {
            return invalid(format!("Duplicate ulimit: {name}"));
        }
        let (soft, hard) = (limit.soft_limit, limit.hard_limit);
        let ordered = hard == -1 || (soft != -1 && soft <= hard);
        if soft < -1 || hard < -1 || !ordered {
            return invalid(format!("Invalid ulimit {name}: the soft limit must not exceed the hard limit."));
        }
        limits.push(Ulimit { name, soft, hard });
    }
    Ok(limits)
}

fn linux_parameters(
    given: types::LinuxParameters,
    container: &mut ContainerDefinition,
) -> Result<(), ApiError> {
    fields::check(&given, fields::LINUX_PARAMETERS, OPERATION)?;
    container.linux_parameters_given = true;
    container.init_process_enabled = given.init_process_enabled;
    if let Some(capabilities) = given.capabilities {
        container.capabilities_add = capabilities.add.unwrap_or_default();
        container.capabilities_drop = capabilities.drop.unwrap_or_default();
        for name in container.capabilities_add.iter().chain(&container.capabilities_drop) {
            if !CAPABILITIES.contains(&name.as_str()) {
                return invalid(format!("Invalid capability: {name}"));
            }
        }
    }
    container.shared_memory_mib =
        not_negative(given.shared_memory_size, "sharedMemorySize", &container.name)?;
    for mount in given.tmpfs.unwrap_or_default() {
        let size_mib = u32::try_from(mount.size).ok().filter(|size| *size > 0);
        let Some(size_mib) = size_mib else { return invalid("Invalid tmpfs size.") };
        if !mount.container_path.starts_with('/') || mount.container_path.contains('\0') {
            return invalid("Invalid tmpfs containerPath: it must be an absolute path.");
        }
        container.tmpfs.push(TmpfsMount {
            path: mount.container_path,
            size_mib,
            options: mount.mount_options.unwrap_or_default(),
        });
    }
    Ok(())
}

fn log_configuration(given: types::LogConfiguration) -> Result<LogConfiguration, ApiError> {
    fields::check(&given, fields::LOG_CONFIGURATION, OPERATION)?;
    if given.log_driver != types::LogDriver::Awslogs {
        return Err(ApiError::not_implemented(format_args!(
            "the log driver \"{}\" of ecs:{OPERATION}",
            given.log_driver
        )));
    }
    let options = given.options.unwrap_or_default();
    if let Some(other) = options.keys().find(|name| !AWSLOGS_OPTIONS.contains(&name.as_str())) {
        return Err(ApiError::not_implemented(format_args!(
            "the option \"{other}\" of the log driver \"awslogs\" of ecs:{OPERATION}"
        )));
    }
    let option = |name: &str| options.get(name).filter(|value| !value.is_empty()).cloned();
    let (Some(group), Some(region)) = (option("awslogs-group"), option("awslogs-region")) else {
        let missing: Vec<_> =
            ["awslogs-region", "awslogs-group"].into_iter().filter(|name| option(name).is_none()).collect();
        return invalid(format!("Log driver awslogs requires options: {}", missing.join(", ")));
    };
    if region.parse::<Region>().is_err() {
        return invalid(format!("Log driver awslogs has an invalid option awslogs-region: {region}"));
    }
    let create_group = match options.get("awslogs-create-group").map(String::as_str) {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return invalid("Log driver awslogs option awslogs-create-group must be true or false."),
    };
    let buffer_bytes_max = match options.get("mode").map(String::as_str) {
        None | Some("blocking") => None,
        Some("non-blocking") => Some(buffer_size(options.get("max-buffer-size"))?),
        Some(_) => return invalid("Log driver option mode must be blocking or non-blocking."),
    };
    let stream_prefix = option("awslogs-stream-prefix");
    let awslogs = AwsLogs { group, region, stream_prefix, create_group, buffer_bytes_max };
    Ok(LogConfiguration { options, awslogs })
}

/// Bytes from `10m`, `512k`, `1g` or a plain number, as Docker has it.
fn buffer_size(given: Option<&String>) -> Result<u64, ApiError> {
    let Some(text) = given else { return Ok(LOG_BUFFER_BYTES_DEFAULT) };
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let (number, unit) = match lower.as_bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], 1 << 10),
        Some(b'm') => (&lower[..lower.len() - 1], 1 << 20),
        Some(b'g') => (&lower[..lower.len() - 1], 1 << 30),
        _ => (lower, 1),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    match bytes.filter(|bytes| *bytes > 0) {
        Some(bytes) => Ok(bytes),
        None => invalid(format!("Log driver option max-buffer-size is invalid: {text}")),
    }
}

/// What Fargate does not take of a container.
///
/// # Errors
/// `ClientException` in AWS's words.
pub fn check_fargate(container: &ContainerDefinition) -> Result<(), ApiError> {
    if container.log_configuration.as_ref().is_some_and(|logs| logs.awslogs.stream_prefix.is_none()) {
        return invalid("Log driver awslogs requires option awslogs-stream-prefix for tasks on Fargate.");
    }
    for (member, value) in
        [("stopTimeout", container.stop_timeout_secs), ("startTimeout", container.start_timeout_secs)]
    {
        if value.is_some_and(|seconds| seconds > FARGATE_TIMEOUT_SECS_MAX) {
            return invalid(format!(
                "{member} must be at most {FARGATE_TIMEOUT_SECS_MAX} seconds on Fargate."
            ));
        }
    }
    if let Some(name) = container.capabilities_add.iter().find(|name| *name != "SYS_PTRACE") {
        return invalid(format!(
            "The following capabilities are not supported for tasks on Fargate: {name}. Only SYS_PTRACE may be added."
        ));
    }
    if container.shared_memory_mib.is_some() {
        return invalid("The following linuxParameters are not supported on Fargate: sharedMemorySize");
    }
    Ok(())
}

/// Replaces names in `dependsOn` by indexes.
///
/// # Errors
/// `ClientException` for an unknown container, a cycle, or a condition that cannot come true.
pub fn link(
    containers: &mut [ContainerDefinition],
    names: &BTreeMap<String, usize>,
    given: Vec<Vec<types::ContainerDependency>>,
) -> Result<(), ApiError> {
    for (index, dependencies) in given.into_iter().enumerate() {
        for dependency in dependencies {
            let Some(&on) = names.get(&dependency.container_name) else {
                return invalid(format!(
                    "Container '{}' depends on container '{}', which does not exist.",
                    containers[index].name, dependency.container_name
                ));
            };
            let condition = match dependency.condition {
                types::ContainerCondition::Start => DependencyCondition::Start,
                types::ContainerCondition::Complete => DependencyCondition::Complete,
                types::ContainerCondition::Success => DependencyCondition::Success,
                types::ContainerCondition::Healthy => DependencyCondition::Healthy,
                types::ContainerCondition::Unknown(other) => {
                    return invalid(format!("Invalid container dependency condition: {other}"));
                }
            };
            if condition == DependencyCondition::Healthy && containers[on].health_check.is_none() {
                return invalid(format!(
                    "Container '{}' depends on container '{}' to be HEALTHY, which has no health check.",
                    containers[index].name, containers[on].name
                ));
            }
            let ends = matches!(condition, DependencyCondition::Complete | DependencyCondition::Success);
            if ends && containers[on].essential {
                return invalid(
                    "A dependency container with SUCCESS or COMPLETE condition cannot be an essential container",
                );
            }
            containers[index].depends_on.push(Dependency { container: on, condition });
        }
    }
    if order::has_cycle(&containers.iter().map(crate::plan::task::dependencies).collect::<Vec<_>>()) {
        return invalid("There is a cycle in the container dependencies.");
    }
    Ok(())
}
