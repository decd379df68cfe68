//! Controllers on v1, and a v2 hierarchy without controllers beside them.
//!
//! Limits are v1's. The v2 group is entered by `CLONE_INTO_CGROUP`, at no cost, and gives what v1
//! lacks: an atomic kill, an event when the group is empty, a freezer whose processes can be killed,
//! and CPU time.

use wharf_engine::{ContainerId, CpuStats, SandboxId, SandboxResources, Stats};

use super::v1::V1;
use super::v2::V2;
use super::{
    CgroupError, CgroupMounts, ContainerLimits, ContainerMount, DeviceControl, Driver, Freezer, Kind,
    Membership, Open, Reading,
};

#[derive(Debug)]
pub struct Hybrid {
    v1: V1,
    unified: V2,
}

impl Hybrid {
    pub fn open(mounts: &CgroupMounts, parent: &str, open: Open) -> Result<Self, CgroupError> {
        let unified = V2::open_without_controllers(mounts, parent, open)?;
        Ok(Self { v1: V1::open(mounts, parent, open)?, unified })
    }
}

impl Driver for Hybrid {
    fn kind(&self) -> Kind {
        Kind::Hybrid
    }

    fn device_control(&self) -> DeviceControl {
        self.v1.device_control()
    }

    fn enter_shared(&self) -> Result<(), CgroupError> {
        self.v1.enter_shared()
    }

    fn create_sandbox(&self, sandbox: &SandboxId, resources: &SandboxResources) -> Result<(), CgroupError> {
        self.v1.create_sandbox(sandbox, resources)
    }

    fn create_container(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
        limits: &ContainerLimits<'_>,
    ) -> Result<Membership, CgroupError> {
        let mut membership = self.v1.create_container(sandbox, container, limits)?;
        self.unified.make_container(sandbox, container)?;
        membership.into = Some(self.unified.entry(sandbox, container)?);
        Ok(membership)
    }

    fn enter_container(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
    ) -> Result<Membership, CgroupError> {
        let into = Some(self.unified.entry(sandbox, container)?);
        Ok(Membership { join: self.v1.join_container(sandbox, container)?, into })
    }

    fn create_exec(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
        name: &str,
    ) -> Result<Membership, CgroupError> {
        let into = self.unified.create_exec(sandbox, container, name)?.into;
        Ok(Membership { join: self.v1.join_container(sandbox, container)?, into })
    }

    fn remove_exec(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
        name: &str,
    ) -> Result<(), CgroupError> {
        self.unified.remove_exec(sandbox, container, name)
    }

    fn execs(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<Vec<String>, CgroupError> {
        self.unified.execs(sandbox, container)
    }

    fn processes(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<Vec<u32>, CgroupError> {
        self.unified.processes(sandbox, container)
    }

    fn freeze(&self, sandbox: &SandboxId, container: &ContainerId, to: Freezer) -> Result<(), CgroupError> {
        self.unified.freeze(sandbox, container, to)
    }

    fn frozen(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<Freezer, CgroupError> {
        self.unified.frozen(sandbox, container)
    }

    fn stats(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
        mut reading: Reading<'_>,
    ) -> Result<Stats, CgroupError> {
        let path = format!("{sandbox}/{container}");
        let mut stats = self.v1.use_of(&path, &mut reading)?;
        // Times are v2's, waiting is v1's.
        let CpuStats { total_nanos, user_nanos, system_nanos, .. } =
            self.unified.cpu_use(&path, &mut reading)?;
        stats.cpu = CpuStats { total_nanos, user_nanos, system_nanos, ..stats.cpu };
        Ok(stats)
    }

    fn oom_kills(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<u64, CgroupError> {
        self.v1.oom_kills(sandbox, container)
    }

    fn remove_container(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<(), CgroupError> {
        self.unified.remove_container(sandbox, container)?;
        self.v1.remove_container(sandbox, container)
    }

    fn remove_sandbox(&self, sandbox: &SandboxId) -> Result<(), CgroupError> {
        self.unified.kill_all(sandbox.as_str())?;
        // What a root process in a container moved out of its v2 group is found here.
        self.v1.remove_sandbox(sandbox)?;
        self.unified.remove_groups(sandbox)
    }

    fn sandboxes(&self) -> Result<Vec<String>, CgroupError> {
        let mut names = self.v1.sandboxes()?;
        names.extend(self.unified.sandboxes()?);
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn container_mounts(&self) -> Vec<ContainerMount> {
        let mut mounts = self.v1.container_mounts();
        mounts.push(ContainerMount {
            directory: "unified".to_owned(),
            filesystem: "cgroup2",
            options: String::new(),
        });
        mounts
    }

    fn remove_instance(&self) -> Result<(), CgroupError> {
        self.v1.remove_instance()?;
        self.unified.remove_instance()
    }
}

#[cfg(test)]
mod tests {
    use wharf_engine::Resources;

    use super::*;
    use crate::cgroup::fake::{Fake, container, limits, sandbox};

    #[test]
    fn limits_are_v1_and_the_way_in_is_v2() {
        let fake = Fake::hybrid();
        let driver = Hybrid::open(&fake.mounts, "wharf-t", Open::Make).unwrap();
        let resources = SandboxResources { cpu_millis: Some(500), ..Default::default() };
        driver.create_sandbox(&sandbox(), &resources).unwrap();
        assert_eq!(fake.read("cpu/wharf-t/s/cpu.cfs_quota_us"), "50000");
        let resources = Resources::default();
        let membership = driver.create_container(&sandbox(), &container(), &limits(&resources)).unwrap();
        // cpu, cpuacct, memory, pids, blkio, devices: freezing is v2's.
        assert_eq!(membership.join.len(), 6);
        assert!(membership.into.is_some());
        // No controller is asked of a v2 hierarchy that has none.
        assert_eq!(fake.read("unified/wharf-t/cgroup.subtree_control"), "");
        let exec = driver.create_exec(&sandbox(), &container(), "e").unwrap();
        assert!(exec.join.len() == 6 && exec.into.is_some());
    }

    #[test]
    fn use_comes_from_both() {
        let fake = Fake::hybrid();
        let driver = Hybrid::open(&fake.mounts, "wharf-t", Open::Make).unwrap();
        fake.write("unified/wharf-t/s/c/cpu.stat", "usage_usec 7\nuser_usec 4\nsystem_usec 3\n");
        fake.write("cpu/wharf-t/s/c/cpu.stat", "nr_periods 10\nnr_throttled 4\nthrottled_time 77\n");
        fake.write("memory/wharf-t/s/c/memory.usage_in_bytes", "100\n");
        fake.write("memory/wharf-t/s/c/memory.max_usage_in_bytes", "200\n");
        fake.write("memory/wharf-t/s/c/memory.stat", "hierarchical_memory_limit 4096\n");
        fake.write("memory/wharf-t/s/c/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n");
        fake.write("pids/wharf-t/s/c/pids.current", "2\n");
        fake.write("pids/wharf-t/s/c/pids.max", "9\n");
        let stats = driver.stats(&sandbox(), &container(), Reading::Once).unwrap();
        let cpu = (stats.cpu.total_nanos, stats.cpu.user_nanos, stats.cpu.throttled_nanos);
        assert_eq!(cpu, (7000, 4000, 77));
        assert_eq!((stats.memory.bytes, stats.memory.limit_bytes), (100, Some(4096)));
        assert_eq!(driver.oom_kills(&sandbox(), &container()).unwrap(), 4);
    }
}
