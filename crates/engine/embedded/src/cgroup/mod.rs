//! Control groups: limits on sandboxes and containers, and what they used.
//!
//! Layout in every hierarchy: `wharf-<instance>/<sandbox>/<container>`. The sandbox's group bears
//! the limits of all its containers together, the container's its own. Three kinds of host, one
//! [`Driver`] each: controllers on cgroup v1 ([`v1`]), the same with an empty v2 hierarchy beside it
//! ([`hybrid`]), all on v2 ([`v2`]). The kind is found once, from `/proc/self/mountinfo`.
//!
//! Drivers speak to directories through descriptors that they opened first, so they work in a mount
//! namespace where `/sys/fs/cgroup` is gone, and on a tree of plain files in the tests.

mod devices;
mod directory;
#[cfg(test)]
mod fake;
pub mod hybrid;
mod mounts;
mod reading;
pub mod v1;
pub mod v2;

use std::os::fd::OwnedFd;

pub use devices::DeviceRules;
pub use directory::Directory;
pub(crate) use mounts::unescape;
pub use mounts::{CgroupMount, CgroupMounts};
pub use reading::{Kept, Reading};
use wharf_engine::{BlockLimit, ContainerId, Resources, SandboxId, SandboxResources, Stats};

/// How long killed processes may take to leave their group.
const EMPTY_WAIT_MS: i32 = 10_000;
const RETRY_MS: i32 = 2;

#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("cgroup {path}: {action}")]
    File {
        path: String,
        action: &'static str,
        #[source]
        source: rustix::io::Errno,
    },
    #[error("the cgroup controller {0} is not there")]
    NoController(&'static str),
    #[error("processes in cgroup {0} do not end")]
    Busy(String),
    #[error("the processes in cgroup {0} do not freeze")]
    NotFrozen(String),
    #[error("{what} is not supported: {reason}")]
    Unsupported { what: String, reason: String },
}

impl CgroupError {
    /// What the kernel said, if it was the kernel.
    pub fn errno(&self) -> Option<rustix::io::Errno> {
        match self {
            Self::File { source, .. } => Some(*source),
            Self::NoController(_) | Self::Busy(_) | Self::NotFrozen(_) | Self::Unsupported { .. } => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    V1,
    Hybrid,
    V2,
}

/// Whether the driver keeps containers from devices that are not theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceControl {
    /// By the v1 `devices` controller.
    Confined,
    /// Not at all: whoever starts the container must take `CAP_MKNOD` away and mount `nodev`.
    None,
}

/// How a new process gets into its groups.
#[derive(Debug)]
pub struct Membership {
    /// `cgroup.procs` files: the process writes `0` to each.
    pub join: Vec<OwnedFd>,
    /// A v2 directory for `CLONE_INTO_CGROUP`.
    pub into: Option<OwnedFd>,
}

/// Whether a driver makes the instance's own groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// What is missing is made.
    Make,
    /// For a reader beside the engine: what is missing is an error.
    Existing,
}

/// What a container's groups are made for.
#[derive(Clone, Debug)]
pub struct ContainerLimits<'a> {
    pub resources: &'a Resources,
    /// Major and minor number of each of the block limits' devices, at their index.
    pub block_devices: Vec<(u32, u32)>,
    pub devices: DeviceRules,
}

/// Of a container's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Freezer {
    Frozen,
    Thawed,
}

/// One kind of host.
pub trait Driver: Send + Sync + std::fmt::Debug {
    fn kind(&self) -> Kind;

    fn device_control(&self) -> DeviceControl;

    /// Puts the calling process where its children need not move: into the groups that all
    /// containers share (devices, cpuset). For spawners.
    fn enter_shared(&self) -> Result<(), CgroupError>;

    /// Makes the sandbox's group and sets its limits; repeatable.
    fn create_sandbox(&self, sandbox: &SandboxId, resources: &SandboxResources) -> Result<(), CgroupError>;

    /// Makes a container's group with its limits, below that of its sandbox; repeatable.
    fn create_container(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
        limits: &ContainerLimits<'_>,
    ) -> Result<Membership, CgroupError>;

    /// How one more program of a running container gets into its groups.
    fn enter_container(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
    ) -> Result<Membership, CgroupError>;

    /// Makes a group for one more program of a running container (`name` is unique among them, and
    /// an id): it has the container's limits, and can be killed with all that it started.
    fn create_exec(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
        name: &str,
    ) -> Result<Membership, CgroupError>;

    /// Kills whatever is in such a group, waits for its end and removes the group; what is gone is
    /// fine.
    fn remove_exec(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
        name: &str,
    ) -> Result<(), CgroupError>;

    /// The names of a container's exec groups, in order.
    fn execs(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<Vec<String>, CgroupError>;

    /// The processes of a container, those of its execs included, in order.
    fn processes(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<Vec<u32>, CgroupError>;

    /// Freezes or thaws all processes of a container, and waits until it is done.
    fn freeze(&self, sandbox: &SandboxId, container: &ContainerId, to: Freezer) -> Result<(), CgroupError>;

    /// What the kernel says of it.
    fn frozen(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<Freezer, CgroupError>;

    /// Everything but the network.
    fn stats(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
        reading: Reading<'_>,
    ) -> Result<Stats, CgroupError>;

    /// How often the kernel killed a process of this container for want of memory.
    fn oom_kills(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<u64, CgroupError>;

    /// Kills whatever is in the container's group, waits for its end and removes the group; what is
    /// gone is fine.
    fn remove_container(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<(), CgroupError>;

    /// Kills whatever is in the sandbox's group and waits for its end, then removes all groups of
    /// the sandbox; what is gone is fine.
    fn remove_sandbox(&self, sandbox: &SandboxId) -> Result<(), CgroupError>;

    /// The sandboxes that have a group, in order.
    fn sandboxes(&self) -> Result<Vec<String>, CgroupError>;

    /// What to mount below `/sys/fs/cgroup` of a container: (directory name or empty, file system,
    /// options).
    fn container_mounts(&self) -> Vec<ContainerMount>;

    /// Removes the instance's own groups. Fails while there are sandboxes.
    fn remove_instance(&self) -> Result<(), CgroupError>;
}

/// A cgroup file system as a container sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerMount {
    /// Below `/sys/fs/cgroup`; empty for that directory itself.
    pub directory: String,
    /// `cgroup` or `cgroup2`.
    pub filesystem: &'static str,
    pub options: String,
}

/// Finds the driver for this host and makes the instance's parent groups.
pub fn detect(mounts: &CgroupMounts, instance: &str, open: Open) -> Result<Box<dyn Driver>, CgroupError> {
    let parent = format!("wharf-{instance}");
    match mounts.kind() {
        Kind::V2 => Ok(Box::new(v2::V2::open(mounts, &parent, open)?)),
        Kind::Hybrid => Ok(Box::new(hybrid::Hybrid::open(mounts, &parent, open)?)),
        Kind::V1 => Ok(Box::new(v1::V1::open(mounts, &parent, open)?)),
    }
}

/// v1 `cpu.shares` (2 to 262,144) as v2 `cpu.weight` (1 to 10,000), by the formula of runc and crun.
fn weight_of_shares(shares: u32) -> u64 {
    let shares = u64::from(shares.clamp(2, 262_144));
    1 + ((shares - 2) * 9_999) / 262_142
}

/// The share of a sandbox among sandboxes: in proportion to the CPU it has paid for.
fn shares_of_millis(millis: u32) -> u32 {
    (u64::from(millis) * 1024 / 1000).clamp(2, 262_144) as u32
}

/// The period of CPU bandwidth control, in microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// Microseconds of CPU in a period; the kernel takes no less than 1,000.
fn quota_us(millis: u32) -> u64 {
    (u64::from(millis) * CPU_PERIOD_US / 1000).max(1000)
}

/// What Docker's weight of block I/O may be.
const BLOCK_WEIGHTS: std::ops::RangeInclusive<u16> = 10..=1000;

/// What cannot be, whatever the host.
fn check_resources(resources: &Resources) -> Result<(), CgroupError> {
    let refused = |what: &str, reason: &str| {
        Err(CgroupError::Unsupported { what: what.to_owned(), reason: reason.to_owned() })
    };
    if resources.swap_bytes.is_some_and(|swap| swap > 0) && resources.memory_bytes.is_none() {
        return refused("a limit on swap", "it takes a limit on memory");
    }
    if resources.block_io.weight.is_some_and(|weight| !BLOCK_WEIGHTS.contains(&weight)) {
        return refused("the weight of block I/O", "it is not in 10 to 1000");
    }
    Ok(())
}

/// `Unsupported` with the device's name for a limit that the kernel refuses.
fn refuse_device(limit: &BlockLimit, error: CgroupError) -> CgroupError {
    match error.errno() {
        Some(rustix::io::Errno::NODEV | rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {
            CgroupError::Unsupported {
                what: format!("a limit on the I/O of {}", limit.device.display()),
                reason: "the kernel has none for this device".to_owned(),
            }
        }
        _ => error,
    }
}

/// The value of `key` in a file of `key value` lines.
fn keyed_value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Tries again for a short while as long as the kernel says busy: a dying process leaves its group a
/// moment after its exit is seen.
fn retry_busy(what: &str, mut attempt: impl FnMut() -> Result<(), CgroupError>) -> Result<(), CgroupError> {
    for _ in 0..EMPTY_WAIT_MS / RETRY_MS {
        match attempt() {
            Err(error) if error.errno() == Some(rustix::io::Errno::BUSY) => {
                pause();
            }
            other => return other,
        }
    }
    Err(CgroupError::Busy(what.to_owned()))
}

/// There is no event for "the last task has left" on v1.
fn pause() {
    let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: i64::from(RETRY_MS) * 1_000_000 };
    let _ = rustix::event::poll(&mut [], Some(&timeout));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights_as_runc_converts_them() {
        assert_eq!(weight_of_shares(2), 1);
        assert_eq!(weight_of_shares(1024), 39);
        assert_eq!(weight_of_shares(262_144), 10_000);
        assert_eq!(weight_of_shares(0), 1);
    }

    #[test]
    fn cpu_millis_become_quota_and_shares() {
        assert_eq!(quota_us(250), 25_000);
        assert_eq!(quota_us(1), 1000);
        assert_eq!(shares_of_millis(1000), 1024);
        assert_eq!(shares_of_millis(0), 2);
    }

    #[test]
    fn a_key_is_a_whole_word() {
        assert_eq!(keyed_value("oom 3\noom_kill 2\n", "oom_kill"), Some(2));
        assert_eq!(keyed_value("oom_kill_disable 0\noom_kill 1", "oom_kill"), Some(1));
        assert_eq!(keyed_value("", "oom_kill"), None);
    }
}
