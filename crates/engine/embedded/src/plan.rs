//! Everything that can be decided and refused about a container before a process exists.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use wharf_engine::{
    ContainerSpec, EngineError, IpcMode, Mount, PidMode, Privileges, SandboxSpec, Tmpfs, Users,
};

use crate::cgroup::{ContainerMount, DeviceControl};
use crate::credentials::Credentials;
use crate::devices::{self, Node};
use crate::host::{Host, OverlayLayers};
use crate::rlimit::{self, Limit};
use crate::shared::{self, Init};
use crate::{netns, sys, volume};

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
    pub host: &'a Host,
    pub sandbox: &'a SandboxSpec,
    pub spec: &'a ContainerSpec,
    pub stdio: Stdio<'a>,
    pub netns: OwnedFd,
    /// The sandbox's own process, where it has one.
    pub init: Option<Init>,
    /// Lowest last, the skeleton with its mount points at the very end.
    pub layers: Vec<PathBuf>,
    pub overlay: OverlayLayers,
    pub sandboxes_dir: PathBuf,
    pub sandbox_dir: PathBuf,
    pub container_dir: PathBuf,
    pub upper_dir: PathBuf,
    pub work_dir: PathBuf,
    pub mask_dir: PathBuf,
    /// The host's paths of the mounts, in their order.
    pub volumes: Vec<PathBuf>,
    pub devices: Vec<Node>,
    pub credentials: Credentials,
    pub limits: Vec<Limit>,
    pub cgroup_mounts: Vec<ContainerMount>,
    pub device_control: DeviceControl,
    pub shm_bytes: u64,
}

impl<'a> Plan<'a> {
    /// # Errors
    /// `Unsupported` for what cannot be done here, `Start` for a program that cannot exist.
    pub fn new(
        host: &'a Host,
        sandbox: &'a SandboxSpec,
        spec: &'a ContainerSpec,
        stdio: Stdio<'a>,
    ) -> Result<Self, EngineError> {
        check_process(spec)?;
        if shared::is_reserved(&spec.id) {
            return Err(unsupported(&format!("the container id {}", spec.id), "it is the engine's own"));
        }
        if spec.privileges == Privileges::Privileged && sandbox.users != Users::Host {
            return Err(unsupported("a privileged container", "its sandbox has users of its own"));
        }
        let volumes = spec
            .mounts
            .iter()
            .map(|mount| check_mount(host, sandbox, mount))
            .collect::<Result<Vec<_>, _>>()?;
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
        let init = shared::is_needed(sandbox).then(|| Init::find(host, &sandbox.id)).transpose()?;
        let mut layers = spec.layers.clone();
        layers.push(host.skeleton_dir());
        let container_dir = host.container_dir(&sandbox.id, &spec.id);
        let writable_dir = host.writable_dir(&sandbox.id, spec);
        Ok(Self {
            credentials: Credentials::of(host, sandbox, process, spec.privileges)?,
            limits: rlimit::resolve(&process.rlimits, host.raise_limits(), sys::hard_limit)?,
            netns: netns::open(host, sandbox)?,
            init,
            layers,
            overlay: host.overlay,
            sandboxes_dir: host.config.sandboxes_dir.clone(),
            sandbox_dir: host.sandbox_dir(&sandbox.id),
            upper_dir: writable_dir.join("upper"),
            work_dir: writable_dir.join("work"),
            container_dir,
            mask_dir: host.mask_dir(),
            volumes,
            devices: devices::resolve(host, spec)?,
            cgroup_mounts: host.driver.container_mounts(),
            device_control: host.driver.device_control(),
            shm_bytes: spec.shm_bytes.unwrap_or(SHM_BYTES),
            host,
            sandbox,
            spec,
            stdio,
        })
    }

    /// The namespaces that the first process gets by its birth, for `clone3`.
    pub fn namespaces(&self) -> i32 {
        let pid = if self.sandbox.pid == PidMode::Container { libc::CLONE_NEWPID } else { 0 };
        let ipc = match self.sandbox.ipc {
            IpcMode::Container | IpcMode::None => libc::CLONE_NEWIPC,
            IpcMode::Sandbox | IpcMode::Host => 0,
        };
        libc::CLONE_NEWNS | libc::CLONE_NEWUTS | pid | ipc
    }
}

pub fn unsupported(what: &str, reason: &str) -> EngineError {
    EngineError::Unsupported { what: what.into(), reason: reason.into() }
}

/// What a sandbox may be, before anything is made of it.
pub fn check_sandbox(sandbox: &SandboxSpec) -> Result<(), EngineError> {
    if sandbox.users != Users::Host {
        let own = "the sandbox has users of its own";
        if sandbox.pid == PidMode::Host {
            return Err(unsupported("the host's processes", own));
        }
        if sandbox.ipc == IpcMode::Host {
            return Err(unsupported("the host's ipc namespace", own));
        }
    }
    crate::sysctl::check(sandbox)
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

pub fn check_target(target: &str) -> Result<(), EngineError> {
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

/// Where the mount's source is on the host.
fn check_mount(host: &Host, sandbox: &SandboxSpec, mount: &Mount) -> Result<PathBuf, EngineError> {
    check_target(&mount.target)?;
    let source = volume::source(host, sandbox, mount)?;
    check_source(host, &source)?;
    Ok(source)
}

fn check_source(host: &Host, source: &Path) -> Result<(), EngineError> {
    let refused = |reason: &str| unsupported(&format!("the mount source {}", source.display()), reason);
    if !source.is_absolute() {
        return Err(refused("it is not an absolute path"));
    }
    // A spawner has the mounts of the time when it started: what was mounted since is refused
    // rather than that the empty directory below it is mounted.
    let on_host = host.open_on_host(source, OFlags::PATH).and_then(rustix::fs::fstat);
    let here = rustix::fs::stat(source);
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
    /// `uid` or `gid`, as the container knows it.
    Owner {
        key: &'static str,
        id: u32,
    },
    /// Passed on as it stands.
    Data(String),
    /// What a tmpfs does anyway.
    Nothing,
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
            "sync" => set(MountFlags::SYNCHRONOUS),
            "dirsync" => set(MountFlags::DIRSYNC),
            "noatime" => set(MountFlags::NOATIME),
            "nodiratime" => set(MountFlags::NODIRATIME),
            "relatime" => set(MountFlags::RELATIME),
            "strictatime" => set(MountFlags::STRICTATIME),
            "defaults" | "async" | "atime" | "diratime" | "nostrictatime" | "private" | "rprivate" => {
                Ok(Self::Nothing)
            }
            _ => Self::parse_pair(option)
                .ok_or_else(|| unsupported(&format!("the tmpfs option {option:?}"), "it is not known here")),
        }
    }

    fn parse_pair(option: &str) -> Option<Self> {
        const VALUE_BYTES_MAX: usize = 20;
        let (key, value) = option.split_once('=')?;
        let plain = (1..=VALUE_BYTES_MAX).contains(&value.len())
            && value.bytes().all(|byte| byte.is_ascii_alphanumeric());
        match key {
            _ if !plain => None,
            "uid" => Some(Self::Owner { key: "uid", id: value.parse().ok()? }),
            "gid" => Some(Self::Owner { key: "gid", id: value.parse().ok()? }),
            "mode" | "nr_inodes" | "nr_blocks" => Some(Self::Data(option.to_owned())),
            _ => None,
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
        assert_eq!(TmpfsOption::parse("uid=7").unwrap(), TmpfsOption::Owner { key: "uid", id: 7 });
        for bad in ["size=1g,mpol=x", "mode=", "mode=1,uid=0", "dev", "huge=always", "", "uid=root"] {
            assert!(TmpfsOption::parse(bad).is_err(), "{bad:?}");
        }
    }
}
