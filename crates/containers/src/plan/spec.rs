//! From what was asked for, and the image, to what the engine is asked for.

use std::time::Duration;

use wharf_contracts::{ImageConfig, ResolvedImage};
use wharf_engine::session::TerminalSize;
use wharf_engine::{
    ContainerId, ContainerSpec, Device, DeviceAccess, HealthCheck, HostEntry, Init, Mount, MountSource,
    Privileges, ProcessSpec, Resources, RestartPolicy, Rlimit, SandboxId, SandboxResources, SandboxSpec,
    Signal, Sysctl, Tmpfs, VolumeName, WritableLayer,
};

use crate::config::{ContainerConfig, HealthConfig, MountFrom, Restart, Stdin};
use crate::records::Container;

/// The label of this crate's sandboxes.
pub const OWNER_LABEL: (&str, &str) = ("wharf.owner", "run");
/// Docker's grace.
pub const STOP_TIMEOUT_SECS: u32 = 10;
/// Digits of an id that stand for it in names.
const SHORT: usize = 12;
/// A tmpfs without a size, as a bound that no host reaches: it counts against the memory limit.
const TMPFS_BYTES_DEFAULT: u64 = 1 << 40;

/// Why a configuration cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("no command specified: the image has none, and none is given")]
    NoCommand,
    #[error("{value:?} is no signal")]
    Signal { value: String },
    #[error("{value:?} is no access to a device: it is made of r, w and m")]
    DeviceAccess { value: String },
    #[error("{value:?} is no name for a volume")]
    Volume { value: String },
    #[error("{value:?} is no health check: it begins with CMD or CMD-SHELL, or is NONE")]
    Health { value: String },
    #[error("--memory-swap is less than --memory")]
    Swap,
}

/// Entrypoint and command as `docker run` puts them together.
pub fn args(config: &ContainerConfig, image: &ImageConfig) -> Result<Vec<String>, SpecError> {
    let (entrypoint, command) = match &config.entrypoint {
        // The image's command belongs to the image's entrypoint.
        Some(entrypoint) => (entrypoint, &config.command),
        None if config.command.is_empty() => (&image.entrypoint, &image.cmd),
        None => (&image.entrypoint, &config.command),
    };
    let args: Vec<String> = entrypoint.iter().chain(command).cloned().collect();
    if args.first().is_none_or(String::is_empty) { Err(SpecError::NoCommand) } else { Ok(args) }
}

pub fn sandbox_id(id: &str) -> Option<SandboxId> {
    SandboxId::new(format!("run-{}", id.get(..32).unwrap_or(id)))
}

/// The engine's container of one run.
pub fn container_id(id: &str, run: u32) -> Option<ContainerId> {
    ContainerId::new(format!("run-{}-{run}", id.get(..32).unwrap_or(id)))
}

/// The id and run of an engine's container; `None`: it is none of ours.
pub fn parse_container_id(id: &ContainerId) -> Option<(&str, u32)> {
    let (id, run) = id.as_str().strip_prefix("run-")?.rsplit_once('-')?;
    Some((id, run.parse().ok()?))
}

/// The volume that has no name of its own.
pub fn anonymous_volume(id: &str, index: usize) -> Option<VolumeName> {
    VolumeName::new(format!("run-{}-{index}", id.get(..32).unwrap_or(id)))
}

pub fn hostname(container: &Container) -> String {
    container.config.hostname.clone().unwrap_or_else(|| container.id.chars().take(SHORT).collect())
}

pub fn stop_signal(config: &ContainerConfig, image: Option<&ImageConfig>) -> Result<Signal, SpecError> {
    let text = config.stop_signal.as_deref().or(image.and_then(|image| image.stop_signal.as_deref()));
    let Some(text) = text else { return Ok(Signal::TERM) };
    Signal::parse(text).ok_or_else(|| SpecError::Signal { value: text.to_owned() })
}

/// The sandbox of a container, in the network namespace given.
pub fn sandbox(container: &Container, netns: Option<std::path::PathBuf>) -> Option<SandboxSpec> {
    let config = &container.config;
    let hostname = hostname(container);
    let mut hosts: Vec<HostEntry> = Vec::new();
    let mut name_servers = config.name_servers.clone();
    if let Some(network) = &container.network {
        hosts.push(HostEntry { address: network.address.into(), names: vec![hostname.clone()] });
        if name_servers.is_empty() {
            name_servers.clone_from(&network.name_servers);
        }
    }
    hosts.extend(
        config
            .extra_hosts
            .iter()
            .map(|(name, address)| HostEntry { address: *address, names: vec![name.clone()] }),
    );
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Some(SandboxSpec {
        hostname,
        netns,
        resources: SandboxResources::default(),
        name_servers,
        search_domains: config.search_domains.clone(),
        hosts,
        sysctls: config
            .sysctls
            .iter()
            .map(|(name, value)| Sysctl { name: name.clone(), value: value.clone() })
            .collect(),
        labels: vec![label(OWNER_LABEL.0, OWNER_LABEL.1), label("wharf.container", &container.id)],
        ..SandboxSpec::new(sandbox_id(&container.id)?)
    })
}

/// The engine's container of the record's current run.
pub fn container(container: &Container, image: &ResolvedImage) -> Result<Option<ContainerSpec>, SpecError> {
    let config = &container.config;
    let (Some(id), Some(layer)) = (
        container_id(&container.id, container.run),
        ContainerId::new(format!("run-{}", &container.id[..32])),
    ) else {
        return Ok(None);
    };
    let mut process = ProcessSpec {
        env: [image.config.env.clone(), config.env.clone()].concat(),
        working_dir: config.working_dir.clone().unwrap_or_else(|| image.config.working_dir.clone()),
        user: config.user.clone().unwrap_or_else(|| image.config.user.clone()),
        groups: config.groups.clone(),
        capabilities_add: config.capabilities_add.clone(),
        capabilities_drop: config.capabilities_drop.clone(),
        rlimits: config
            .ulimits
            .iter()
            .map(|limit| Rlimit { name: limit.name.clone(), soft: limit.soft, hard: limit.hard })
            .collect(),
        no_new_privileges: config.no_new_privileges,
        ..ProcessSpec::new(container.args.clone())
    };
    let has_term = process.env.iter().any(|variable| variable.starts_with("TERM="));
    if config.terminal.is_some() && !has_term {
        process.env.push("TERM=xterm".to_owned());
    }
    let devices = config
        .devices
        .iter()
        .map(|device| {
            let access = DeviceAccess::parse(&device.access)
                .ok_or_else(|| SpecError::DeviceAccess { value: device.access.clone() })?;
            Ok(Device { source: device.source.clone(), target: device.target.clone(), access })
        })
        .collect::<Result<_, _>>()?;
    Ok(Some(ContainerSpec {
        layers: image.layers.clone(),
        readonly_root: config.read_only,
        process,
        resources: resources(config)?,
        mounts: mounts(container)?,
        tmpfs: config
            .tmpfs
            .iter()
            .map(|tmpfs| Tmpfs {
                target: tmpfs.target.clone(),
                size_bytes: tmpfs.size_bytes.unwrap_or(TMPFS_BYTES_DEFAULT),
                options: tmpfs.options.clone(),
            })
            .collect(),
        shm_bytes: config.limits.shm_bytes,
        health: config.health.as_ref().map(health).transpose()?.flatten(),
        restart: match config.restart {
            Restart::No => None,
            Restart::OnFailure { attempts_max } => Some(RestartPolicy::OnFailure { attempts_max }),
            Restart::Always | Restart::UnlessStopped => Some(RestartPolicy::Always),
        },
        terminal: config.terminal.map(|size| TerminalSize { rows: size.rows, columns: size.columns }),
        stdin: match config.stdin {
            Stdin::Null => wharf_engine::session::Stdin::Null,
            Stdin::Once => wharf_engine::session::Stdin::Once,
            Stdin::Open => wharf_engine::session::Stdin::Open,
        },
        writable_layer: WritableLayer::Kept(layer),
        init: if config.init { Init::Reaper } else { Init::Program },
        devices,
        privileges: if config.privileged { Privileges::Privileged } else { Privileges::Confined },
        labels: config.labels.clone(),
        ..ContainerSpec::new(id, Vec::new())
    }))
}

fn resources(config: &ContainerConfig) -> Result<Resources, SpecError> {
    let limits = &config.limits;
    let swap_bytes = match (limits.memory_bytes, limits.memory_swap_bytes) {
        (Some(memory), Some(both)) => Some(both.checked_sub(memory).ok_or(SpecError::Swap)?),
        _ => None,
    };
    Ok(Resources {
        cpu_shares: limits.cpu_shares,
        cpu_millis: limits.cpu_millis,
        memory_bytes: limits.memory_bytes,
        memory_reservation_bytes: limits.memory_reservation_bytes,
        swap_bytes,
        pids_max: limits.pids_max,
        ..Resources::default()
    })
}

fn mounts(container: &Container) -> Result<Vec<Mount>, SpecError> {
    let named =
        |name: &str| VolumeName::new(name).ok_or_else(|| SpecError::Volume { value: name.to_owned() });
    container
        .config
        .mounts
        .iter()
        .enumerate()
        .map(|(index, mount)| {
            let made = match &mount.source {
                MountFrom::Host { path, .. } => Mount::host(path, &mount.target),
                MountFrom::Volume { name } => Mount::volume(MountSource::Named(named(name)?), &mount.target),
                MountFrom::Anonymous => {
                    let name = anonymous_volume(&container.id, index)
                        .ok_or_else(|| SpecError::Volume { value: container.id.clone() })?;
                    Mount::volume(MountSource::Named(name), &mount.target)
                }
            };
            Ok(if mount.read_only { made.read_only() } else { made })
        })
        .collect()
}

fn health(config: &HealthConfig) -> Result<Option<HealthCheck>, SpecError> {
    let bad = || SpecError::Health { value: config.test.join(" ") };
    let args = match config.test.split_first() {
        Some((kind, [])) if kind == "NONE" => return Ok(None),
        Some((kind, words)) if kind == "CMD" && !words.is_empty() => words.to_vec(),
        Some((kind, [line])) if kind == "CMD-SHELL" => {
            vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()]
        }
        _ => return Err(bad()),
    };
    let or_default = |ms: u64, default: u64| Duration::from_millis(if ms == 0 { default } else { ms });
    Ok(Some(HealthCheck {
        args,
        interval: or_default(config.interval_ms, 30_000),
        timeout: or_default(config.timeout_ms, 30_000),
        retries: if config.retries == 0 { 3 } else { config.retries },
        start_period: Duration::from_millis(config.start_period_ms),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn entrypoint_and_command_go_together_as_with_docker() {
        let image =
            ImageConfig { entrypoint: strings(&["/e"]), cmd: strings(&["c"]), ..ImageConfig::default() };
        let config = |entrypoint: Option<&[&str]>, command: &[&str]| ContainerConfig {
            entrypoint: entrypoint.map(strings),
            command: strings(command),
            ..ContainerConfig::default()
        };
        assert_eq!(args(&config(None, &[]), &image).unwrap(), strings(&["/e", "c"]));
        assert_eq!(args(&config(None, &["x"]), &image).unwrap(), strings(&["/e", "x"]));
        assert_eq!(args(&config(Some(&["/o"]), &[]), &image).unwrap(), strings(&["/o"]));
        assert_eq!(args(&config(Some(&["/o"]), &["x"]), &image).unwrap(), strings(&["/o", "x"]));
        assert_eq!(args(&config(None, &[]), &ImageConfig::default()), Err(SpecError::NoCommand));
        // `--entrypoint ""` takes the image's away.
        assert_eq!(args(&config(Some(&[]), &["x"]), &image).unwrap(), strings(&["x"]));
    }

    #[test]
    fn engine_ids_lead_back_to_the_container() {
        let id = "0123456789abcdef".repeat(4);
        let engine_id = container_id(&id, 7).unwrap();
        assert_eq!(parse_container_id(&engine_id), Some((&id[..32], 7)));
        assert_eq!(parse_container_id(&ContainerId::new("ecs-1").unwrap()), None);
    }

    #[test]
    fn health_checks_are_read_as_docker_writes_them() {
        let config = |test: &[&str]| HealthConfig {
            test: strings(test),
            interval_ms: 0,
            timeout_ms: 5,
            retries: 0,
            start_period_ms: 0,
        };
        let check = health(&config(&["CMD-SHELL", "a b"])).unwrap().unwrap();
        assert_eq!(check.args, strings(&["/bin/sh", "-c", "a b"]));
        assert_eq!((check.interval, check.timeout), (Duration::from_secs(30), Duration::from_millis(5)));
        assert_eq!(health(&config(&["NONE"])).unwrap(), None);
        assert!(health(&config(&["a"])).is_err());
        assert!(health(&config(&[])).is_err());
    }
}
