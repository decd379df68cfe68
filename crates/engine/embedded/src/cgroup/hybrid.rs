//! Controllers on v1, and a v2 hierarchy without controllers beside them.
//!
//! Limits are v1's. The v2 group is entered by `CLONE_INTO_CGROUP`, at no cost, and gives what v1
//! lacks: an atomic kill, an event when the group is empty, and CPU time.

use wharf_engine::{ContainerId, Resources, SandboxId, SandboxResources, Stats};

use super::v1::V1;
use super::v2::V2;
use super::{CgroupError, CgroupMounts, ContainerMount, DeviceControl, Driver, Kind, Membership};

#[derive(Debug)]
pub struct Hybrid {
    v1: V1,
    unified: V2,
}

impl Hybrid {
    pub fn open(mounts: &CgroupMounts, parent: &str) -> Result<Self, CgroupError> {
        Ok(Self { v1: V1::open(mounts, parent)?, unified: V2::open_without_controllers(mounts, parent)? })
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
        resources: &Resources,
    ) -> Result<Membership, CgroupError> {
        let mut membership = self.v1.create_container(sandbox, container, resources)?;
        self.unified.make_container(sandbox, container)?;
        membership.into = Some(self.unified.entry(sandbox, container)?);
        Ok(membership)
    }

    fn stats(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<Stats, CgroupError> {
        let mut stats = self.v1.memory_and_pids(&format!("{sandbox}/{container}"))?;
        stats.cpu_nanos = self.unified.cpu_nanos(sandbox, container)?;
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
    use super::*;
    use crate::cgroup::fake::{Fake, container, sandbox};

    #[test]
    fn limits_are_v1_and_the_way_in_is_v2() {
        let fake = Fake::hybrid();
        let driver = Hybrid::open(&fake.mounts, "wharf-t").unwrap();
        let resources = SandboxResources { cpu_millis: Some(500), ..Default::default() };
        driver.create_sandbox(&sandbox(), &resources).unwrap();
        assert_eq!(fake.read("cpu/wharf-t/s/cpu.cfs_quota_us"), "50000");
        let membership = driver.create_container(&sandbox(), &container(), &Resources::default()).unwrap();
        assert_eq!(membership.join.len(), 4);
        assert!(membership.into.is_some());
        // No controller is asked of a v2 hierarchy that has none.
        assert_eq!(fake.read("unified/wharf-t/cgroup.subtree_control"), "");
    }

    #[test]
    fn use_comes_from_both() {
        let fake = Fake::hybrid();
        let driver = Hybrid::open(&fake.mounts, "wharf-t").unwrap();
        fake.write("unified/wharf-t/s/c/cpu.stat", "usage_usec 7\n");
        fake.write("memory/wharf-t/s/c/memory.usage_in_bytes", "100\n");
        fake.write("memory/wharf-t/s/c/memory.max_usage_in_bytes", "200\n");
        fake.write("memory/wharf-t/s/c/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n");
        fake.write("pids/wharf-t/s/c/pids.current", "2\n");
        let stats = driver.stats(&sandbox(), &container()).unwrap();
        assert_eq!(stats, Stats { cpu_nanos: 7000, memory_bytes: 100, memory_max_bytes: 200, pids: 2 });
        assert_eq!(driver.oom_kills(&sandbox(), &container()).unwrap(), 4);
    }
}
