//! Everything that can be decided and refused about a container before a process exists.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::OFlags;
use seccompiler::BpfProgram;
use wharf_engine::{ContainerSpec, EngineError, Mount, SandboxSpec, Tmpfs};

use crate::capability::{Capability, CapabilitySet};
use crate::cgroup::{ContainerMount, DeviceControl};
use crate::host::{Host, OverlayLayers};
use crate::rlimit::{self, Limit};
use crate::sys;

/// Docker's default size of `/dev/shm`.
const SHM_BYTES: u64 = 64 << 20;
/// overlayfs stacks no more.
const LAYERS_MAX: usize = 500;

/// The ends that become a container's standard streams.
#[derive(Clone, Copy, Debug)]
pub struct Stdio<'a> {
    /// `None`: `/dev/null`.
    pub stdin: Option<BorrowedFd<'a>>,
    pub stdout: BorrowedFd<'a>,
    pub stderr: BorrowedFd<'a>,
}

/// What the child carries out. Every field is checked.
pub struct Plan<'a> {
    pub sandbox: &'a SandboxSpec,
    pub spec: &'a ContainerSpec,
    pub stdio: Stdio<'a>,
    pub netns: OwnedFd,
    /// Lowest last, the skeleton with its mount points at the very end.
    pub layers: Vec<PathBuf>,
    pub overlay: OverlayLayers,
    pub sandboxes_dir: PathBuf,
    pub sandbox_dir: PathBuf,
    pub container_dir: PathBuf,
    pub mask_dir: PathBuf,
    pub capabilities: CapabilitySet,
    pub filter: Arc<BpfProgram>,
    pub limits: Vec<Limit>,
    pub cgroup_mounts: Vec<ContainerMount>,
    pub device_control: DeviceControl,
    pub shm_bytes: u64,
}

impl<'a> Plan<'a> {
    /// # Errors
    /// `Unsupported` for what cannot be done here, `Start` for a program that cannot exist.
    pub fn new(
        host: &Host,
        sandbox: &'a SandboxSpec,
        spec: &'a ContainerSpec,
        stdio: Stdio<'a>,
    ) -> Result<Self, EngineError> {
        check_process(spec)?;
        spec.mounts.iter().try_for_each(|mount| check_mount(host, mount))?;
        spec.tmpfs.iter().try_for_each(check_tmpfs)?;
        if spec.layers.len() >= LAYERS_MAX {
            return Err(unsupported(
                "the number of layers",
                &format!("overlayfs stacks {LAYERS_MAX} at most"),
            ));
        }
        if spec.layers.iter().any(|layer| !layer.is_absolute()) {
            return Err(unsupported("a layer", "its path is not absolute"));
        }

        let process = &spec.process;
        let mut capabilities = CapabilitySet::resolve(&process.capabilities_add, &process.capabilities_drop)?;
        for name in &process.capabilities_add {
            // `ALL` means all that we have ourselves.
            if let Some(capability) = Capability::parse(name)
                && !host.permitted.has(capability)
            {
                return Err(unsupported(
                    &format!("the capability {name}"),
                    "this host does not give it to us",
                ));
            }
        }
        capabilities = capabilities.intersection(host.permitted);
        let device_control = host.driver.device_control();
        if device_control == DeviceControl::None {
            capabilities = capabilities.without(Capability::MKNOD);
        }
        let filter = host.filters.0.get(capabilities).map_err(|message| EngineError::Internal { message })?;

        let sandbox_dir = host.sandbox_dir(&sandbox.id);
        let own_netns = sandbox_dir.join("netns");
        let netns = sandbox.netns.as_deref().unwrap_or(&own_netns);
        let netns = host.open_on_host(netns, OFlags::RDONLY).map_err(|error| match error {
            rustix::io::Errno::NOENT => EngineError::NoSandbox(sandbox.id.clone()),
            other => EngineError::Internal {
                message: format!(
                    "cannot open the network namespace of sandbox {}: {}",
                    sandbox.id,
                    std::io::Error::from(other)
                ),
            },
        })?;

        let mut layers = spec.layers.clone();
        layers.push(host.skeleton_dir());
        Ok(Self {
            limits: rlimit::resolve(&process.rlimits, host.raise_limits(), sys::hard_limit)?,
            netns,
            layers,
            overlay: host.overlay,
            sandboxes_dir: host.config.sandboxes_dir.clone(),
            container_dir: host.container_dir(&sandbox.id, &spec.id),
            sandbox_dir,
            mask_dir: host.mask_dir(),
            capabilities,
            filter,
            cgroup_mounts: host.driver.container_mounts(),
            device_control,
            shm_bytes: spec.shm_bytes.unwrap_or(SHM_BYTES),
            sandbox,
            spec,
            stdio,
        })
    }
}

fn unsupported(what: &str, reason: &str) -> EngineError {
    EngineError::Unsupported { what: what.into(), reason: reason.into() }
}

fn check_process(spec: &ContainerSpec) -> Result<(), EngineError> {
    let process = &spec.process;
    if process.args.first().is_none_or(String::is_empty) {
        return Err(EngineError::Start { exit_code: 127, message: "no command specified".into() });
    }
    let texts = process.args.iter().chain(&process.env).chain([&process.working_dir, &process.user]);
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err(unsupported(
            "a zero byte in the command, the environment or the directory",
            "C has no such text",
        ));
    }
    if !process.working_dir.is_empty() && !process.working_dir.starts_with('/') {
        return Err(unsupported(
            &format!("the working directory {:?}", process.working_dir),
            "it is not an absolute path",
        ));
    }
    Ok(())
}

fn check_target(target: &str) -> Result<(), EngineError> {
    let parts: Vec<&str> = target.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let reason = if !target.starts_with('/') {
        "it is not an absolute path"
    } else if parts.contains(&"..") || target.contains('\0') {
        "it is not a plain path"
    } else if parts.is_empty() {
        "it is the root"
    } else if matches!(parts[0], "proc" | "sys") {
        "it would hide what isolates the container"
    } else {
        return Ok(());
    };
    Err(unsupported(&format!("the mount target {target:?}"), reason))
}

fn check_mount(host: &Host, mount: &Mount) -> Result<(), EngineError> {
    check_target(&mount.target)?;
    let refused = |reason: &str| unsupported(&format!("the mount source {}", mount.source.display()), reason);
    if !mount.source.is_absolute() {
        return Err(refused("it is not an absolute path"));
    }
    // A spawner has the mounts of the time when it started: what was mounted since is refused
    // rather than that the empty directory below it is mounted.
    let on_host = host.open_on_host(&mount.source, OFlags::PATH).and_then(rustix::fs::fstat);
    let here = rustix::fs::stat(&mount.source);
    match (on_host, here) {
        (Ok(on_host), Ok(here)) if (on_host.st_dev, on_host.st_ino) == (here.st_dev, here.st_ino) => Ok(()),
        (Ok(_), _) => Err(refused("its file system was mounted after the engine started")),
        (Err(error), _) => Err(refused(&std::io::Error::from(error).to_string())),
    }
}

fn check_tmpfs(tmpfs: &Tmpfs) -> Result<(), EngineError> {
    check_target(&tmpfs.target)?;
    tmpfs.options.iter().try_for_each(|option| TmpfsOption::parse(option).map(drop))
}

/// An option of a tmpfs mount, mount(8) and tmpfs(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TmpfsOption {
    Flag {
        set: rustix::mount::MountFlags,
    },
    Clear {
        flag: rustix::mount::MountFlags,
    },
    /// Passed on as it stands.
    Data(String),
}

impl TmpfsOption {
    pub fn parse(option: &str) -> Result<Self, EngineError> {
        use rustix::mount::MountFlags;
        let set = |set| Ok(Self::Flag { set });
        let clear = |flag| Ok(Self::Clear { flag });
        match option {
            "ro" => set(MountFlags::RDONLY),
            "rw" => clear(MountFlags::RDONLY),
            "noexec" => set(MountFlags::NOEXEC),
            "exec" => clear(MountFlags::NOEXEC),
            "nosuid" => set(MountFlags::NOSUID),
            "suid" => clear(MountFlags::NOSUID),
            "nodev" => set(MountFlags::NODEV),
            "noatime" => set(MountFlags::NOATIME),
            "relatime" => set(MountFlags::RELATIME),
            _ => {
                let known = option.split_once('=').is_some_and(|(key, value)| {
                    matches!(key, "mode" | "uid" | "gid" | "nr_inodes")
                        && (1..=20).contains(&value.len())
                        && value.bytes().all(|byte| byte.is_ascii_alphanumeric())
                });
                if known {
                    Ok(Self::Data(option.to_owned()))
                } else {
                    Err(unsupported(&format!("the tmpfs option {option:?}"), "it is not known here"))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_target_stays_out_of_what_isolates() {
        for good in ["/data", "/a/b", "/dev/shm", "/etc/hosts"] {
            assert!(check_target(good).is_ok(), "{good}");
        }
        for bad in ["data", "/", "//.", "/proc", "/./proc/sys", "/sys/fs", "/a/../proc", "/a\0"] {
            assert!(check_target(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn tmpfs_options_are_known_or_refused() {
        assert_eq!(TmpfsOption::parse("mode=1777").unwrap(), TmpfsOption::Data("mode=1777".into()));
        for bad in ["size=1g,mpol=x", "mode=", "mode=1,uid=0", "dev", "huge=always", ""] {
            assert!(TmpfsOption::parse(bad).is_err(), "{bad:?}");
        }
    }
}
