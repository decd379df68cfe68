//! A tree of plain files with the names that the kernel's hierarchies have, for the drivers' tests.

use std::path::PathBuf;

use wharf_engine::{BlockIo, BlockLimit, ContainerId, Resources, SandboxId};

use super::{CgroupMount, CgroupMounts, ContainerLimits, DeviceRules};

/// Limits on the device 8:16.
pub fn limits(resources: &Resources) -> ContainerLimits<'_> {
    let block_devices = vec![(8, 16); resources.block_io.limits.len()];
    ContainerLimits { resources, block_devices, devices: DeviceRules::Default }
}

pub fn block_io() -> BlockIo {
    let limit = BlockLimit {
        device: "/dev/sdb".into(),
        read_bytes_per_second: Some(1_000_000),
        writes_per_second: Some(50),
        ..BlockLimit::default()
    };
    BlockIo { weight: Some(300), limits: vec![limit] }
}

pub fn sandbox() -> SandboxId {
    SandboxId::new("s").unwrap()
}

pub fn container() -> ContainerId {
    ContainerId::new("c").unwrap()
}

pub struct Fake {
    root: tempfile::TempDir,
    pub mounts: CgroupMounts,
}

const V1: [(&str, &[&str]); 8] = [
    ("cpu", &["cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.stat"]),
    ("cpuacct", &["cpuacct.usage", "cpuacct.usage_user", "cpuacct.usage_sys"]),
    (
        "blkio",
        &[
            "blkio.bfq.weight",
            "blkio.throttle.read_bps_device",
            "blkio.throttle.write_bps_device",
            "blkio.throttle.read_iops_device",
            "blkio.throttle.write_iops_device",
            "blkio.throttle.io_service_bytes_recursive",
            "blkio.throttle.io_serviced_recursive",
        ],
    ),
    ("freezer", &["freezer.state"]),
    (
        "memory",
        &[
            "memory.limit_in_bytes",
            "memory.memsw.limit_in_bytes",
            "memory.soft_limit_in_bytes",
            "memory.swappiness",
            "memory.usage_in_bytes",
            "memory.max_usage_in_bytes",
            "memory.oom_control",
            "memory.stat",
        ],
    ),
    ("pids", &["pids.max", "pids.current"]),
    ("devices", &["devices.allow", "devices.deny"]),
    ("cpuset", &["cpuset.cpus", "cpuset.mems"]),
];
const V2: [&str; 23] = [
    "cgroup.controllers",
    "cgroup.subtree_control",
    "cgroup.kill",
    "cgroup.events",
    "cpu.max",
    "cpu.weight",
    "cpu.stat",
    "memory.max",
    "memory.low",
    "memory.swap.max",
    "memory.current",
    "memory.peak",
    "memory.events",
    "pids.max",
    "pids.current",
    "cgroup.threads",
    "cgroup.freeze",
    "memory.stat",
    "memory.swap.current",
    "io.max",
    "io.weight",
    "io.stat",
    "io.bfq.weight",
];
const GROUPS: [&str; 5] = ["", "wharf-t", "wharf-t/s", "wharf-t/s/c", "wharf-t/s/c/e"];

impl Fake {
    fn empty() -> Self {
        Self { root: tempfile::tempdir().unwrap(), mounts: CgroupMounts::default() }
    }

    fn group(&self, path: &str, files: &[&str]) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(&path).unwrap();
        for file in files.iter().chain(&["cgroup.procs"]) {
            std::fs::write(path.join(file), "").unwrap();
        }
    }

    pub fn v1() -> Self {
        let mut fake = Self::empty();
        for (controller, files) in V1 {
            for group in GROUPS {
                fake.group(&format!("{controller}/{group}"), files);
            }
            if ["devices", "cpuset"].contains(&controller) {
                fake.group(&format!("{controller}/wharf-t/.containers"), files);
            }
            fake.mounts.v1.push(CgroupMount {
                path: fake.root.path().join(controller),
                controllers: vec![controller.to_owned()],
            });
        }
        fake
    }

    pub fn v2() -> Self {
        let mut fake = Self::empty();
        GROUPS.iter().for_each(|group| fake.group(group, &V2));
        fake.write("cgroup.controllers", "cpuset cpu io memory pids\n");
        fake.mounts.v2 = Some(fake.root.path().to_owned());
        fake
    }

    pub fn hybrid() -> Self {
        let mut fake = Self::v1();
        GROUPS.iter().for_each(|group| fake.group(&format!("unified/{group}"), &V2));
        fake.mounts.v2 = Some(fake.root.path().join("unified"));
        fake
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    pub fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    pub fn remove(&self, path: &str) {
        std::fs::remove_file(self.path(path)).unwrap();
    }

    pub fn write(&self, path: &str, text: &str) {
        std::fs::write(self.path(path), text).unwrap();
    }
}
