//! All controllers on cgroup v2 (kernel documentation, `admin-guide/cgroup-v2`).
//!
//! Devices are controlled on v2 by BPF programs alone, which this driver does not write: it says
//! [`DeviceControl::None`], and a container gets no `CAP_MKNOD` and a root mounted `nodev`.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::io::Errno;
use wharf_engine::{ContainerId, Resources, SandboxId, SandboxResources, Stats};

use super::{
    CPU_PERIOD_US, CgroupError, CgroupMounts, ContainerMount, DeviceControl, Directory, Driver,
    EMPTY_WAIT_MS, Kind, Membership, keyed_value, quota_us, retry_busy, shares_of_millis, weight_of_shares,
};

const CONTROLLERS: &str = "+cpu +memory +pids";
/// Where processes of the group that we were started in go, if it is in our way.
const HOST_LEAF: &str = "wharf-host";

#[derive(Debug)]
pub struct V2 {
    name: String,
    top: Directory,
    parent: Directory,
}

impl V2 {
    pub fn open(mounts: &CgroupMounts, parent: &str) -> Result<Self, CgroupError> {
        let v2 = Self::open_without_controllers(mounts, parent)?;
        let available = v2.top.read("cgroup.controllers")?;
        for needed in ["cpu", "memory", "pids"] {
            if !available.split_whitespace().any(|name| name == needed) {
                return Err(CgroupError::NoController(needed));
            }
        }
        v2.delegate_from_top()?;
        v2.parent.write("cgroup.subtree_control", CONTROLLERS)?;
        Ok(v2)
    }

    /// For a hybrid host: the groups alone, for killing and counting CPU time.
    pub(super) fn open_without_controllers(mounts: &CgroupMounts, parent: &str) -> Result<Self, CgroupError> {
        let path = mounts.v2.as_ref().ok_or(CgroupError::NoController("cgroup2"))?;
        let top = Directory::open(path)?;
        top.make(parent)?;
        let below = top.open_below(parent)?;
        Ok(Self { name: parent.to_owned(), top, parent: below })
    }

    /// A group that is not the true root (in a container) may not both hold processes and give
    /// controllers to its children: its processes move into a leaf.
    fn delegate_from_top(&self) -> Result<(), CgroupError> {
        match self.top.write("cgroup.subtree_control", CONTROLLERS) {
            Err(CgroupError::File { source: Errno::BUSY, .. }) => {}
            other => return other,
        }
        self.top.make(HOST_LEAF)?;
        for pid in self.top.read("cgroup.procs")?.lines() {
            // One that has ended meanwhile needs no move.
            match self.top.write(&format!("{HOST_LEAF}/cgroup.procs"), pid) {
                Err(CgroupError::File { source: Errno::SRCH, .. }) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        self.top.write("cgroup.subtree_control", CONTROLLERS)
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

    /// `cpu.stat` counts time with and without the controller.
    pub(super) fn cpu_nanos(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<u64, CgroupError> {
        let text = self.parent.read(&format!("{sandbox}/{container}/cpu.stat"))?;
        Ok(keyed_value(&text, "usage_usec").unwrap_or(0).saturating_mul(1000))
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
        let events = self.parent.open_file(&path, OFlags::RDONLY)?;
        loop {
            // Reading arms the notification.
            let text = self.parent.read(&path)?;
            let mut buffer = [0; 256];
            let _ = rustix::io::pread(events.as_fd(), &mut buffer, 0);
            if keyed_value(&text, "populated") != Some(1) {
                return Ok(());
            }
            let timeout = Timespec { tv_sec: i64::from(EMPTY_WAIT_MS / 1000), tv_nsec: 0 };
            let mut poll = [PollFd::new(&events, PollFlags::PRI)];
            if matches!(rustix::event::poll(&mut poll, Some(&timeout)), Ok(0)) {
                return Err(CgroupError::Busy(group.to_owned()));
            }
        }
    }

    pub(super) fn remove_groups(&self, sandbox: &SandboxId) -> Result<(), CgroupError> {
        for container in self.parent.children(sandbox.as_str())? {
            let path = format!("{sandbox}/{container}");
            retry_busy(&path, || self.parent.remove(&path))?;
        }
        retry_busy(sandbox.as_str(), || self.parent.remove(sandbox.as_str()))
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
        self.parent.write(&format!("{sandbox}/cgroup.subtree_control"), CONTROLLERS)?;
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
        resources: &Resources,
    ) -> Result<Membership, CgroupError> {
        let path = format!("{sandbox}/{container}");
        self.parent.make(&path)?;
        if let Some(shares) = resources.cpu_shares {
            let weight = weight_of_shares(shares).to_string();
            self.parent.write(&format!("{path}/cpu.weight"), &weight)?;
        }
        if let Some(limit) = resources.memory_bytes {
            self.parent.write(&format!("{path}/memory.max"), &limit.to_string())?;
        }
        self.parent.write_if_there(&format!("{path}/memory.swap.max"), "0")?;
        if let Some(low) = resources.memory_reservation_bytes {
            self.parent.write(&format!("{path}/memory.low"), &low.to_string())?;
        }
        if let Some(limit) = resources.pids_max {
            self.parent.write(&format!("{path}/pids.max"), &limit.to_string())?;
        }
        Ok(Membership { join: Vec::new(), into: Some(self.entry(sandbox, container)?) })
    }

    fn stats(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<Stats, CgroupError> {
        let path = format!("{sandbox}/{container}");
        let memory_bytes = self.parent.read_number(&format!("{path}/memory.current"))?;
        Ok(Stats {
            cpu_nanos: self.cpu_nanos(sandbox, container)?,
            memory_bytes,
            // Since Linux 5.19; before, what is used now is the most that is known.
            memory_max_bytes: self.parent.read_number(&format!("{path}/memory.peak")).unwrap_or(memory_bytes),
            pids: self.parent.read_number(&format!("{path}/pids.current"))?,
        })
    }

    fn oom_kills(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<u64, CgroupError> {
        let text = self.parent.read(&format!("{sandbox}/{container}/memory.events"))?;
        Ok(keyed_value(&text, "oom_kill").unwrap_or(0))
    }

    fn remove_container(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<(), CgroupError> {
        let path = format!("{sandbox}/{container}");
        self.kill_all(&path)?;
        retry_busy(&path, || self.parent.remove(&path))
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
mod tests {
    use super::*;
    use crate::cgroup::fake::{Fake, container, sandbox};

    #[test]
    fn limits_land_in_their_files() {
        let fake = Fake::v2();
        let driver = V2::open(&fake.mounts, "wharf-t").unwrap();
        assert_eq!(fake.read("cgroup.subtree_control"), CONTROLLERS);
        assert_eq!(fake.read("wharf-t/cgroup.subtree_control"), CONTROLLERS);
        let resources =
            SandboxResources { cpu_millis: Some(2000), memory_bytes: Some(1 << 30), pids_max: Some(100) };
        driver.create_sandbox(&sandbox(), &resources).unwrap();
        assert_eq!(fake.read("wharf-t/s/cpu.max"), "200000 100000");
        assert_eq!(fake.read("wharf-t/s/cpu.weight"), "79");
        assert_eq!(fake.read("wharf-t/s/memory.max"), "1073741824");
        assert_eq!(fake.read("wharf-t/s/memory.swap.max"), "0");
        assert_eq!(fake.read("wharf-t/s/pids.max"), "100");
        assert_eq!(fake.read("wharf-t/s/cgroup.subtree_control"), CONTROLLERS);

        let resources = Resources {
            cpu_shares: Some(1024),
            memory_bytes: Some(64 << 20),
            memory_reservation_bytes: Some(32 << 20),
            pids_max: Some(5),
        };
        let membership = driver.create_container(&sandbox(), &container(), &resources).unwrap();
        assert!(membership.join.is_empty() && membership.into.is_some());
        assert_eq!(fake.read("wharf-t/s/c/cpu.weight"), "39");
        assert_eq!(fake.read("wharf-t/s/c/memory.max"), "67108864");
        assert_eq!(fake.read("wharf-t/s/c/memory.low"), "33554432");
        assert_eq!(fake.read("wharf-t/s/c/pids.max"), "5");
    }

    #[test]
    fn use_is_read_from_its_files() {
        let fake = Fake::v2();
        let driver = V2::open(&fake.mounts, "wharf-t").unwrap();
        fake.write("wharf-t/s/c/cpu.stat", "usage_usec 1500\nuser_usec 1000\n");
        fake.write("wharf-t/s/c/memory.current", "4096\n");
        fake.write("wharf-t/s/c/memory.peak", "8192\n");
        fake.write("wharf-t/s/c/pids.current", "3\n");
        fake.write(
            "wharf-t/s/c/memory.events",
            "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n",
        );
        let stats = driver.stats(&sandbox(), &container()).unwrap();
        assert_eq!(
            stats,
            Stats { cpu_nanos: 1_500_000, memory_bytes: 4096, memory_max_bytes: 8192, pids: 3 }
        );
        assert_eq!(driver.oom_kills(&sandbox(), &container()).unwrap(), 1);
    }

    #[test]
    fn a_host_without_the_pids_controller_is_refused() {
        let fake = Fake::v2();
        fake.write("cgroup.controllers", "cpu memory io\n");
        assert!(matches!(V2::open(&fake.mounts, "wharf-t"), Err(CgroupError::NoController("pids"))));
    }

    #[test]
    fn devices_are_not_controlled_here() {
        let fake = Fake::v2();
        assert_eq!(V2::open(&fake.mounts, "wharf-t").unwrap().device_control(), DeviceControl::None);
    }
}
