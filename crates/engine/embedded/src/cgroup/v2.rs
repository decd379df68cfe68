//! All controllers on cgroup v2 (kernel documentation, `admin-guide/cgroup-v2`).
//!
//! Devices are controlled on v2 by BPF programs alone, which this driver does not write: it says
//! [`DeviceControl::None`], and a container gets no `CAP_MKNOD` and a root mounted `nodev`.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::io::Errno;
use wharf_engine::{BlockStats, ContainerId, CpuStats, MemoryStats, SandboxId, SandboxResources, Stats};

use super::{
    CPU_PERIOD_US, CgroupError, CgroupMounts, ContainerLimits, ContainerMount, DeviceControl, Directory,
    Driver, EMPTY_WAIT_MS, Freezer, Kind, Membership, Open, Reading, check_resources, keyed_value, quota_us,
    refuse_device, retry_busy, shares_of_millis, weight_of_shares,
};

const CONTROLLERS: &str = "+cpu +memory +pids";
const CONTROLLERS_WITH_IO: &str = "+cpu +memory +pids +io";
/// Where processes of the group that we were started in go, if it is in our way.
const HOST_LEAF: &str = "wharf-host";

#[derive(Debug)]
pub struct V2 {
    name: String,
    top: Directory,
    parent: Directory,
    /// Given to every group.
    controllers: &'static str,
}

impl V2 {
    pub fn open(mounts: &CgroupMounts, parent: &str, open: Open) -> Result<Self, CgroupError> {
        let mut v2 = Self::open_without_controllers(mounts, parent, open)?;
        let available = v2.top.read("cgroup.controllers")?;
        for needed in ["cpu", "memory", "pids"] {
            if !available.split_whitespace().any(|name| name == needed) {
                return Err(CgroupError::NoController(needed));
            }
        }
        if available.split_whitespace().any(|name| name == "io") {
            v2.controllers = CONTROLLERS_WITH_IO;
        }
        if open == Open::Make {
            v2.delegate_from_top()?;
            v2.parent.write("cgroup.subtree_control", v2.controllers)?;
        }
        Ok(v2)
    }

    /// For a hybrid host: the groups alone, for killing and counting CPU time.
    pub(super) fn open_without_controllers(
        mounts: &CgroupMounts,
        parent: &str,
        open: Open,
    ) -> Result<Self, CgroupError> {
        let path = mounts.v2.as_ref().ok_or(CgroupError::NoController("cgroup2"))?;
        let top = Directory::open(path)?;
        if open == Open::Make {
            top.make(parent)?;
        }
        let below = top.open_below(parent)?;
        Ok(Self { name: parent.to_owned(), top, parent: below, controllers: CONTROLLERS })
    }

    /// A group that is not the true root (in a container) may not both hold processes and give
    /// controllers to its children: its processes move into a leaf.
    fn delegate_from_top(&self) -> Result<(), CgroupError> {
        match self.top.write("cgroup.subtree_control", self.controllers) {
            Err(CgroupError::File { source: Errno::BUSY, .. }) => {}
            other => return other,
        }
        self.top.make(HOST_LEAF)?;
        for pid in self.top.members(".")? {
            // One that has ended meanwhile needs no move.
            match self.top.write(&format!("{HOST_LEAF}/cgroup.procs"), &pid.to_string()) {
                Err(CgroupError::File { source: Errno::SRCH, .. }) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        self.top.write("cgroup.subtree_control", self.controllers)
    }

    pub(super) fn make_container(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
    ) -> Result<(), CgroupError> {
        self.parent.make(sandbox.as_str())?;
        self.parent.make(&format!("{sandbox}/{container}"))
    }

    pub(super) fn entry(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
    ) -> Result<std::os::fd::OwnedFd, CgroupError> {
        self.parent.open_file(&format!("{sandbox}/{container}"), OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// `cpu.stat` counts time with and without the controller, waiting only with it.
    pub(super) fn cpu_use(&self, path: &str, reading: &mut Reading<'_>) -> Result<CpuStats, CgroupError> {
        let text = reading.read(&self.parent, &format!("{path}/cpu.stat"))?;
        let of = |key: &str| keyed_value(&text, key).unwrap_or(0);
        Ok(CpuStats {
            total_nanos: of("usage_usec").saturating_mul(1000),
            user_nanos: of("user_usec").saturating_mul(1000),
            system_nanos: of("system_usec").saturating_mul(1000),
            periods: of("nr_periods"),
            throttled_periods: of("nr_throttled"),
            throttled_nanos: of("throttled_usec").saturating_mul(1000),
        })
    }

    /// The controller may be missing.
    fn block_use(&self, path: &str, reading: &mut Reading<'_>) -> BlockStats {
        let text = reading.read(&self.parent, &format!("{path}/io.stat")).unwrap_or_default();
        // Lines `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`, one a device.
        let sum = |key: &str| {
            let of = |word: &str| word.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok();
            text.split_ascii_whitespace().filter_map(of).sum()
        };
        BlockStats {
            read_bytes: sum("rbytes"),
            write_bytes: sum("wbytes"),
            reads: sum("rios"),
            writes: sum("wios"),
        }
    }

    fn set_block_io(&self, path: &str, limits: &ContainerLimits<'_>) -> Result<(), CgroupError> {
        let wanted = &limits.resources.block_io;
        if let Some(weight) = wanted.weight {
            // BFQ's own weight has Docker's range; the controller's is 1 to 10,000 (as runc converts).
            let own = self.parent.write(&format!("{path}/io.bfq.weight"), &weight.to_string());
            let general = (1 + (u64::from(weight) - 10) * 9_999 / 990).to_string();
            own.or_else(|_| self.parent.write(&format!("{path}/io.weight"), &general)).map_err(|_| {
                CgroupError::Unsupported {
                    what: "the weight of block I/O".to_owned(),
                    reason: "this host has neither the BFQ scheduler nor io.weight".to_owned(),
                }
            })?;
        }
        for (limit, (major, minor)) in wanted.limits.iter().zip(&limits.block_devices) {
            let mut line = format!("{major}:{minor}");
            for (key, value) in [
                ("rbps", limit.read_bytes_per_second),
                ("wbps", limit.write_bytes_per_second),
                ("riops", limit.reads_per_second),
                ("wiops", limit.writes_per_second),
            ] {
                if let Some(value) = value {
                    line.push_str(&format!(" {key}={value}"));
                }
            }
            self.parent
                .write(&format!("{path}/io.max"), &line)
                .map_err(|error| refuse_device(limit, error))?;
        }
        Ok(())
    }

    /// Waits until `cgroup.events` says `key value`; whether it came to that.
    fn wait_for_event(&self, path: &str, key: &str, value: u64) -> Result<bool, CgroupError> {
        let name = format!("{path}/cgroup.events");
        let events = self.parent.open_file(&name, OFlags::RDONLY)?;
        loop {
            // Reading arms the notification, so first this, then the look.
            let mut buffer = [0; 256];
            let _ = rustix::io::pread(events.as_fd(), &mut buffer, 0);
            let text = match self.parent.read(&name) {
                // Nothing is in a group that is gone.
                Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NODEV)) => return Ok(true),
                other => other?,
            };
            if keyed_value(&text, key).unwrap_or(0) == value {
                return Ok(true);
            }
            let timeout = Timespec { tv_sec: i64::from(EMPTY_WAIT_MS / 1000), tv_nsec: 0 };
            let mut poll = [PollFd::new(&events, PollFlags::PRI)];
            if matches!(rustix::event::poll(&mut poll, Some(&timeout)), Ok(0)) {
                return Ok(false);
            }
        }
    }

    /// Kills everything in the group at `group` and waits until it is empty.
    pub(super) fn kill_all(&self, group: &str) -> Result<(), CgroupError> {
        let path = format!("{group}/cgroup.events");
        match self.parent.read(&path) {
            Ok(text) if keyed_value(&text, "populated") != Some(1) => return Ok(()),
            Err(CgroupError::File { source: Errno::NOENT, .. }) => return Ok(()),
            other => other?,
        };
        match self.parent.write(&format!("{group}/cgroup.kill"), "1") {
            Err(CgroupError::File { source: Errno::NOENT, .. }) => return Ok(()),
            other => other?,
        }
        if self.wait_for_event(group, "populated", 0)? {
            Ok(())
        } else {
            Err(CgroupError::Busy(group.to_owned()))
        }
    }

    pub(super) fn remove_groups(&self, sandbox: &SandboxId) -> Result<(), CgroupError> {
        self.parent.remove_all(sandbox.as_str())
    }
}

impl Driver for V2 {
    fn kind(&self) -> Kind {
        Kind::V2
    }

    fn device_control(&self) -> DeviceControl {
        DeviceControl::None
    }

    fn enter_shared(&self) -> Result<(), CgroupError> {
        Ok(())
    }

    fn create_sandbox(&self, sandbox: &SandboxId, resources: &SandboxResources) -> Result<(), CgroupError> {
        self.parent.make(sandbox.as_str())?;
        self.parent.write(&format!("{sandbox}/cgroup.subtree_control"), self.controllers)?;
        if let Some(millis) = resources.cpu_millis {
            let limit = format!("{} {CPU_PERIOD_US}", quota_us(millis));
            self.parent.write(&format!("{sandbox}/cpu.max"), &limit)?;
            let weight = weight_of_shares(shares_of_millis(millis));
            self.parent.write(&format!("{sandbox}/cpu.weight"), &weight.to_string())?;
        }
        if let Some(limit) = resources.memory_bytes {
            self.parent.write(&format!("{sandbox}/memory.max"), &limit.to_string())?;
        }
        self.parent.write_if_there(&format!("{sandbox}/memory.swap.max"), "0")?;
        if let Some(limit) = resources.pids_max {
            self.parent.write(&format!("{sandbox}/pids.max"), &limit.to_string())?;
        }
        Ok(())
    }

    fn create_container(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
        limits: &ContainerLimits<'_>,
    ) -> Result<Membership, CgroupError> {
        let resources = limits.resources;
        check_resources(resources)?;
        let path = format!("{sandbox}/{container}");
        self.parent.make(&path)?;
        if let Some(shares) = resources.cpu_shares {
            let weight = weight_of_shares(shares).to_string();
            self.parent.write(&format!("{path}/cpu.weight"), &weight)?;
        }
        if let Some(millis) = resources.cpu_millis {
            let limit = format!("{} {CPU_PERIOD_US}", quota_us(millis));
            self.parent.write(&format!("{path}/cpu.max"), &limit)?;
        }
        if let Some(limit) = resources.memory_bytes {
            self.parent.write(&format!("{path}/memory.max"), &limit.to_string())?;
        }
        let swap = resources.swap_bytes.unwrap_or(0).to_string();
        self.parent.write_if_there(&format!("{path}/memory.swap.max"), &swap)?;
        if let Some(low) = resources.memory_reservation_bytes {
            self.parent.write(&format!("{path}/memory.low"), &low.to_string())?;
        }
        if let Some(limit) = resources.pids_max {
            self.parent.write(&format!("{path}/pids.max"), &limit.to_string())?;
        }
        self.set_block_io(&path, limits)?;
        Ok(Membership { join: Vec::new(), into: Some(self.entry(sandbox, container)?) })
    }

    fn enter_container(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
    ) -> Result<Membership, CgroupError> {
        Ok(Membership { join: Vec::new(), into: Some(self.entry(sandbox, container)?) })
    }

    fn create_exec(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
        name: &str,
    ) -> Result<Membership, CgroupError> {
        // Without controllers of its own, so the group above may hold processes too.
        let path = format!("{sandbox}/{container}/{name}");
        self.parent.make(&path)?;
        let into = self.parent.open_file(&path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(Membership { join: Vec::new(), into: Some(into) })
    }

    fn remove_exec(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
        name: &str,
    ) -> Result<(), CgroupError> {
        let path = format!("{sandbox}/{container}/{name}");
        self.kill_all(&path)?;
        self.parent.remove_all(&path)
    }

    fn execs(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<Vec<String>, CgroupError> {
        self.parent.children(&format!("{sandbox}/{container}"))
    }

    fn processes(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<Vec<u32>, CgroupError> {
        self.parent.processes(&format!("{sandbox}/{container}"))
    }

    fn freeze(&self, sandbox: &SandboxId, container: &ContainerId, to: Freezer) -> Result<(), CgroupError> {
        let path = format!("{sandbox}/{container}");
        let (text, value) = match to {
            Freezer::Frozen => ("1", 1),
            Freezer::Thawed => ("0", 0),
        };
        self.parent.write(&format!("{path}/cgroup.freeze"), text)?;
        if self.wait_for_event(&path, "frozen", value)? {
            return Ok(());
        }
        self.parent.write(&format!("{path}/cgroup.freeze"), "0")?;
        Err(CgroupError::NotFrozen(path))
    }

    fn frozen(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<Freezer, CgroupError> {
        let text = self.parent.read(&format!("{sandbox}/{container}/cgroup.events"))?;
        Ok(if keyed_value(&text, "frozen") == Some(1) { Freezer::Frozen } else { Freezer::Thawed })
    }

    fn stats(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
        mut reading: Reading<'_>,
    ) -> Result<Stats, CgroupError> {
        let path = format!("{sandbox}/{container}");
        let mut text = |file: &str| reading.read(&self.parent, &format!("{path}/{file}"));
        let (detail, events) = (text("memory.stat")?, text("memory.events")?);
        let of = |key: &str| keyed_value(&detail, key).unwrap_or(0);
        let mut number = |path: String| reading.read_number(&self.parent, &path);
        let above = number(format!("{sandbox}/memory.max")).unwrap_or(u64::MAX);
        let limit = number(format!("{path}/memory.max"))?.min(above);
        let bytes = number(format!("{path}/memory.current"))?;
        // Since Linux 5.19; before, what is used now is the most that is known.
        let max_bytes = number(format!("{path}/memory.peak")).unwrap_or(bytes);
        let swap_bytes = number(format!("{path}/memory.swap.current")).unwrap_or(0);
        let pids = number(format!("{path}/pids.current"))?;
        let pids_max = Some(number(format!("{path}/pids.max"))?).filter(|max| *max != u64::MAX);
        Ok(Stats {
            cpu: self.cpu_use(&path, &mut reading)?,
            memory: MemoryStats {
                bytes,
                max_bytes,
                limit_bytes: Some(limit).filter(|limit| *limit != u64::MAX),
                cache_bytes: of("file"),
                rss_bytes: of("anon"),
                inactive_file_bytes: of("inactive_file"),
                swap_bytes,
                major_faults: of("pgmajfault"),
                oom_kills: keyed_value(&events, "oom_kill").unwrap_or(0),
            },
            pids,
            pids_max,
            block: self.block_use(&path, &mut reading),
            ..Stats::default()
        })
    }

    fn oom_kills(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<u64, CgroupError> {
        let text = self.parent.read(&format!("{sandbox}/{container}/memory.events"))?;
        Ok(keyed_value(&text, "oom_kill").unwrap_or(0))
    }

    fn remove_container(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<(), CgroupError> {
        let path = format!("{sandbox}/{container}");
        self.kill_all(&path)?;
        self.parent.remove_all(&path)
    }

    fn remove_sandbox(&self, sandbox: &SandboxId) -> Result<(), CgroupError> {
        self.kill_all(sandbox.as_str())?;
        self.remove_groups(sandbox)
    }

    fn sandboxes(&self) -> Result<Vec<String>, CgroupError> {
        self.parent.children(".")
    }

    fn container_mounts(&self) -> Vec<ContainerMount> {
        vec![ContainerMount { directory: String::new(), filesystem: "cgroup2", options: String::new() }]
    }

    fn remove_instance(&self) -> Result<(), CgroupError> {
        retry_busy(&self.name, || self.top.remove(&self.name))
    }
}

#[cfg(test)]
#[path = "v2_tests.rs"]
mod tests;
