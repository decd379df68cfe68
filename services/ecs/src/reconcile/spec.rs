//! From a task and its definition to what the engine is asked for. Pure.

use std::net::IpAddr;
use std::time::Duration;

use wharf_contracts::{ImageConfig, Interface, ResolvedImage};
use wharf_engine::log::LogPolicy;
use wharf_engine::{
    ContainerId, ContainerSpec, HealthCheck, HostEntry, Init, InitialContent, Mount, MountSource,
    ProcessSpec, Resources, RestartPolicy, Rlimit, SandboxId, SandboxResources, SandboxSpec, Tmpfs, Users,
    VolumeName,
};

use crate::handlers::ATTEMPT_PERIOD_DEFAULT;
use crate::records::{
    ContainerDefinition, ContainerOverride, HealthCheck as HealthCheckRecord, LogConfiguration,
    RestartPolicy as RestartPolicyRecord, Task, TaskDefinition, VolumesFrom,
};

/// Processes of one Fargate task.
const TASK_PIDS_MAX: u32 = 4096;
const MIB: u64 = 1024 * 1024;
/// Of a log whose oldest part may be dropped.
const LOG_SEGMENTS: u64 = 8;
/// The engine's least.
const LOG_SEGMENT_BYTES_MIN: u64 = 64 * 1024;
const GIB: u64 = 1024 * MIB;
/// What `CMD-SHELL` runs its command with.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// The label by which a sandbox is known to be ours after a restart.
pub const OWNER_LABEL: (&str, &str) = ("owner", "ecs");
/// Where a task finds its metadata (Amazon ECS Developer Guide, "task metadata endpoint").
const METADATA_URL: &str = "http://169.254.170.2";

/// `None` when the id is not one that an engine takes; ours always are.
pub fn sandbox_id(task: &Task) -> Option<SandboxId> {
    SandboxId::new(task.id.clone())
}

pub fn sandbox(task: &Task, definition: &TaskDefinition, interface: &Interface) -> Option<SandboxSpec> {
    let (_, domain) = interface.private_dns_name.split_once('.').unwrap_or_default();
    Some(SandboxSpec {
        hostname: interface.private_dns_name.chars().take(64).collect(),
        netns: Some(interface.netns.clone()),
        resources: SandboxResources {
            cpu_millis: Some((task.cpu * 1000).div_ceil(1024)),
            memory_bytes: Some(u64::from(task.memory_mib) * MIB),
            pids_max: Some(TASK_PIDS_MAX),
        },
        name_servers: interface.name_servers.clone(),
        search_domains: (!domain.is_empty()).then(|| domain.to_owned()).into_iter().collect(),
        hosts: vec![HostEntry {
            address: IpAddr::V4(interface.private_ipv4),
            names: vec![interface.private_dns_name.clone()],
        }],
        labels: vec![
            (OWNER_LABEL.0.to_owned(), OWNER_LABEL.1.to_owned()),
            ("task".to_owned(), task.arn.clone()),
        ],
        volumes: (0..definition.volumes.len()).filter_map(volume_name).collect(),
        users: Users::PrivateWherePossible,
        ephemeral_storage_bytes: (task.ephemeral_storage_gib > 0)
            .then(|| u64::from(task.ephemeral_storage_gib) * GIB),
        ..SandboxSpec::new(sandbox_id(task)?)
    })
}

/// Why a container cannot be described to the engine; what follows `CannotCreateContainerError: `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("no command specified")]
    NoCommand,
    #[error("the container's id {0:?} is malformed")]
    Id(String),
}

/// # Errors
/// [`SpecError::NoCommand`] when neither definition nor image names a program.
pub fn container(
    task: &Task,
    definition: &TaskDefinition,
    index: usize,
    image: &ResolvedImage,
    endpoint_url: Option<&str>,
) -> Result<ContainerSpec, SpecError> {
    let of = &definition.containers[index];
    let record = &task.containers[index];
    let over = task.overrides.containers.iter().find(|over| over.name == of.name);
    let id = ContainerId::new(record.runtime_id.clone())
        .ok_or_else(|| SpecError::Id(record.runtime_id.clone()))?;
    let args = args(of, over, &image.config);
    if args.is_empty() {
        return Err(SpecError::NoCommand);
    }
    Ok(ContainerSpec {
        layers: image.layers.clone(),
        readonly_root: of.readonly_root_filesystem == Some(true),
        process: ProcessSpec {
            env: environment(task, of, over, &image.config, &record.runtime_id, endpoint_url),
            working_dir: of.working_directory.clone().unwrap_or_else(|| image.config.working_dir.clone()),
            user: of.user.clone().unwrap_or_else(|| image.config.user.clone()),
            capabilities_add: of.capabilities_add.clone(),
            capabilities_drop: of.capabilities_drop.clone(),
            rlimits: of.ulimits.iter().map(|limit| rlimit(&limit.name, limit.soft, limit.hard)).collect(),
            ..ProcessSpec::new(args)
        },
        resources: Resources {
            // 0 is no share of its own; the kernel's least is 2.
            cpu_shares: (record.cpu > 0).then(|| record.cpu.clamp(2, 262_144)),
            memory_bytes: record.memory_mib.map(|mib| u64::from(mib) * MIB),
            memory_reservation_bytes: record.memory_reservation_mib.map(|mib| u64::from(mib) * MIB),
            ..Resources::default()
        },
        mounts: mounts(definition, index, &image.config),
        init: match of.init_process_enabled {
            Some(true) => Init::Reaper,
            Some(false) | None => Init::Program,
        },
        health: of.health_check.as_ref().map(health_check),
        log: of.log_configuration.as_ref().map_or(LogPolicy::KeepAll, log_policy),
        restart: of.restart_policy.as_ref().filter(|policy| policy.enabled).map(restart_policy),
        tmpfs: of
            .tmpfs
            .iter()
            .map(|mount| Tmpfs {
                target: mount.path.clone(),
                size_bytes: u64::from(mount.size_mib) * MIB,
                options: mount.options.clone(),
            })
            .collect(),
        shm_bytes: of.shared_memory_mib.map(|mib| u64::from(mib) * MIB),
        labels: labels(task, definition, index),
        ..ContainerSpec::new(id, Vec::new())
    })
}

/// A task's volumes by number: their names may be longer than the engine's.
fn volume_name(index: usize) -> Option<VolumeName> {
    VolumeName::new(format!("v{index}"))
}

/// Its own mount points, then those of the containers that it has volumes from; of two at one path
/// the first. What the image declares a volume starts with what the image has there.
fn mounts(definition: &TaskDefinition, index: usize, image: &ImageConfig) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    // A second look at a container would find nothing but paths that are taken, and there may be
    // more ways to it than can be walked.
    let mut seen = vec![false; definition.containers.len()];
    let mut left = vec![(index, false)];
    while let Some((index, all_read_only)) = left.pop() {
        if std::mem::replace(&mut seen[index], true) {
            continue;
        }
        let of = &definition.containers[index];
        for point in &of.mount_points {
            let Some(volume) = volume_name(point.volume) else { continue };
            if mounts.iter().any(|known| known.target == point.path) {
                continue;
            }
            let declared = image.volumes.iter().any(|path| same_path(path, &point.path));
            mounts.push(Mount {
                source: MountSource::Sandbox(volume),
                target: point.path.clone(),
                readonly: all_read_only || point.read_only == Some(true),
                content: if declared { InitialContent::FromImage } else { InitialContent::AsItIs },
            });
        }
        let inherited = |from: &VolumesFrom| (from.container, all_read_only || from.read_only == Some(true));
        left.extend(of.volumes_from.iter().rev().map(inherited));
    }
    // A mount below another one comes after it.
    mounts.sort_by_key(|mount| mount.target.split('/').filter(|part| !part.is_empty()).count());
    mounts
}

fn same_path(a: &str, b: &str) -> bool {
    let parts =
        |path: &str| path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    parts(a) == parts(b)
}

fn health_check(of: &HealthCheckRecord) -> HealthCheck {
    let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
    let args = match of.command.split_first() {
        Some((first, rest)) if first == "CMD-SHELL" => {
            SHELL.iter().map(|&part| part.to_owned()).chain(rest.iter().cloned()).collect()
        }
        Some((_, rest)) => rest.to_vec(),
        None => Vec::new(),
    };
    HealthCheck {
        args,
        interval: seconds(of.interval),
        timeout: seconds(of.timeout),
        retries: of.retries,
        start_period: seconds(of.start_period.unwrap_or(0)),
    }
}

/// As many segments as make the buffer, so that what is dropped at once is a small part of it.
fn log_policy(of: &LogConfiguration) -> LogPolicy {
    let Some(bytes) = of.awslogs.buffer_bytes_max else { return LogPolicy::KeepAll };
    let segment_bytes = (bytes / LOG_SEGMENTS).max(LOG_SEGMENT_BYTES_MIN);
    let segments = bytes.div_ceil(segment_bytes).max(2);
    LogPolicy::DropOldest { segment_bytes, segments_max: u32::try_from(segments).unwrap_or(u32::MAX) }
}

fn restart_policy(of: &RestartPolicyRecord) -> RestartPolicy {
    RestartPolicy::OncePerPeriod {
        period: Duration::from_secs(u64::from(of.attempt_period.unwrap_or(ATTEMPT_PERIOD_DEFAULT))),
        ignored_exit_codes: of.ignored_exit_codes.clone(),
    }
}

/// As Docker does: an entry point of the definition puts the image's command aside.
fn args(of: &ContainerDefinition, over: Option<&ContainerOverride>, image: &ImageConfig) -> Vec<String> {
    let command = over.and_then(|over| over.command.as_ref()).or(of.command.as_ref());
    let (entry_point, default_command) = match &of.entry_point {
        Some(entry_point) => (entry_point, &[][..]),
        None => (&image.entrypoint, &image.cmd[..]),
    };
    let command = command.map_or(default_command, Vec::as_slice);
    entry_point.iter().chain(command).cloned().collect()
}

/// The image's variables, ours, the definition's, the override's; a later one takes the place of an
/// earlier one with its name. The metadata addresses come last, so that they are always true.
fn environment(
    task: &Task,
    of: &ContainerDefinition,
    over: Option<&ContainerOverride>,
    image: &ImageConfig,
    runtime_id: &str,
    endpoint_url: Option<&str>,
) -> Vec<String> {
    let mut env: Vec<(String, String)> = Vec::with_capacity(image.env.len() + of.environment.len() + 8);
    let mut set = |name: &str, value: &str| match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => env.push((name.to_owned(), value.to_owned())),
    };
    for entry in &image.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        set(name, value);
    }
    let region = task.scope.region.as_str();
    set("AWS_REGION", region);
    set("AWS_DEFAULT_REGION", region);
    if let Some(url) = endpoint_url {
        set("AWS_ENDPOINT_URL", url);
    }
    let overridden = over.map_or(&[][..], |over| &over.environment);
    for (name, value) in of.environment.iter().chain(overridden) {
        set(name, value);
    }
    set("AWS_EXECUTION_ENV", "AWS_ECS_FARGATE");
    set("ECS_CONTAINER_METADATA_URI", &format!("{METADATA_URL}/v3/{runtime_id}"));
    set("ECS_CONTAINER_METADATA_URI_V4", &format!("{METADATA_URL}/v4/{runtime_id}"));
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// -1 is no limit.
fn rlimit(name: &str, soft: i32, hard: i32) -> Rlimit {
    let value = |limit: i32| u64::try_from(limit).unwrap_or(u64::MAX);
    Rlimit { name: name.to_owned(), soft: value(soft), hard: value(hard) }
}

/// The container's own labels and those that the ECS agent sets.
pub fn labels(task: &Task, definition: &TaskDefinition, index: usize) -> Vec<(String, String)> {
    let of = &definition.containers[index];
    let agent = [
        ("com.amazonaws.ecs.cluster", task.cluster_arn.clone()),
        ("com.amazonaws.ecs.container-name", of.name.clone()),
        ("com.amazonaws.ecs.task-arn", task.arn.clone()),
        ("com.amazonaws.ecs.task-definition-family", task.family.clone()),
        ("com.amazonaws.ecs.task-definition-version", task.revision.to_string()),
    ];
    let own = of.docker_labels.iter().map(|(name, value)| (name.clone(), value.clone()));
    own.chain(agent.into_iter().map(|(name, value)| (name.to_owned(), value))).collect()
}
