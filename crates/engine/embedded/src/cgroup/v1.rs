//! Controllers on cgroup v1, each in a hierarchy of its own or a few together.
//!
//! A container has a group in the hierarchies of cpu, cpuacct, memory and pids. Devices and cpuset
//! have one group for all containers of the instance ([`SHARED`]), which the spawners sit in: a
//! child inherits it and pays nothing for it. blkio and freezer are not used.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, Signal};
use wharf_engine::{ContainerId, Resources, SandboxId, SandboxResources, Stats};

use super::{
    CgroupError, CgroupMounts, ContainerMount, DeviceControl, Directory, Driver, EMPTY_WAIT_MS, Kind,
    Membership, RETRY_MS, keyed_value, pause, quota_us, retry_busy, shares_of_millis,
};

/// The group in devices and cpuset that all containers share. No sandbox has this name: an id does
/// not start with a dot.
const SHARED: &str = ".containers";

/// What Docker lets containers open, devices(5) of the kernel's v1 documentation.
const DEVICES_ALLOWED: [&str; 11] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",   // null
    "c 1:5 rwm",   // zero
    "c 1:7 rwm",   // full
    "c 1:8 rwm",   // random
    "c 1:9 rwm",   // urandom
    "c 5:0 rwm",   // tty
    "c 5:1 rwm",   // console
    "c 5:2 rwm",   // ptmx
    "c 136:* rwm", // pts
];

/// Controllers with a group for each container.
const PER_CONTAINER: [&str; 4] = ["cpu", "cpuacct", "memory", "pids"];

#[derive(Debug)]
struct Hierarchy {
    controllers: Vec<String>,
    top: Directory,
    /// `wharf-<instance>`.
    parent: Directory,
}

#[derive(Debug)]
pub struct V1 {
    name: String,
    /// One entry a mount, by its first controller's name.
    hierarchies: Vec<Hierarchy>,
    /// Controller → index.
    of: BTreeMap<String, usize>,
    devices: Option<Directory>,
    cpuset: Option<Directory>,
}

impl V1 {
    pub fn open(mounts: &CgroupMounts, parent: &str) -> Result<Self, CgroupError> {
        for needed in ["cpu", "memory", "pids"] {
            if mounts.of(needed).is_none() {
                return Err(CgroupError::NoController(needed));
            }
        }
        let mut v1 = Self {
            name: parent.to_owned(),
            hierarchies: Vec::new(),
            of: BTreeMap::new(),
            devices: None,
            cpuset: None,
        };
        for mount in &mounts.v1 {
            let has = |name: &str| mount.controllers.iter().any(|controller| controller == name);
            if !PER_CONTAINER.iter().any(|name| has(name)) {
                continue;
            }
            let top = Directory::open(&mount.path)?;
            top.make(parent)?;
            let parent = top.open_below(parent)?;
            for controller in &mount.controllers {
                v1.of.insert(controller.clone(), v1.hierarchies.len());
            }
            v1.hierarchies.push(Hierarchy { controllers: mount.controllers.clone(), top, parent });
        }
        v1.devices = mounts.of("devices").map(|mount| shared_devices(&mount.path, parent)).transpose()?;
        v1.cpuset = mounts.of("cpuset").map(|mount| shared_cpuset(&mount.path, parent)).transpose()?;
        Ok(v1)
    }

    fn hierarchy(&self, controller: &'static str) -> Result<&Directory, CgroupError> {
        let index = self.of.get(controller).ok_or(CgroupError::NoController(controller))?;
        Ok(&self.hierarchies[*index].parent)
    }

    fn set_memory(memory: &Directory, path: &str, limit: Option<u64>) -> Result<(), CgroupError> {
        memory.write_if_there(&format!("{path}/memory.swappiness"), "0")?;
        let Some(limit) = limit else { return Ok(()) };
        let limit = limit.to_string();
        let (with_swap, without) =
            (format!("{path}/memory.memsw.limit_in_bytes"), format!("{path}/memory.limit_in_bytes"));
        // The limit with swap may never be below the one without: which goes first depends on
        // whether the limit rises or falls.
        if memory.write(&without, &limit).is_err() {
            memory.write_if_there(&with_swap, &limit)?;
            memory.write(&without, &limit)?;
        }
        memory.write_if_there(&with_swap, &limit)
    }

    /// Every process in the group at `path` and in those right below it.
    fn processes(&self, path: &str) -> Result<Vec<Pid>, CgroupError> {
        let pids = self.hierarchy("pids")?;
        let mut groups = vec![path.to_owned()];
        groups.extend(pids.children(path)?.iter().map(|child| format!("{path}/{child}")));
        let mut processes = Vec::new();
        for group in groups {
            match pids.read(&format!("{group}/cgroup.procs")) {
                Ok(text) => {
                    processes.extend(text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)));
                }
                Err(error) if error.errno() == Some(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(processes)
    }

    fn kill_all(&self, path: &str) -> Result<(), CgroupError> {
        for _ in 0..EMPTY_WAIT_MS / RETRY_MS {
            let processes = self.processes(path)?;
            if processes.is_empty() {
                return Ok(());
            }
            for pid in processes {
                // A pidfd first, then the group again: the number may have passed to another.
                let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { continue };
                if self.processes(path)?.contains(&pid) {
                    let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
                }
            }
            pause();
        }
        Err(CgroupError::Busy(path.to_owned()))
    }

    /// Removes the sandbox's groups, once nothing runs in them.
    pub(super) fn remove_groups(&self, sandbox: &SandboxId) -> Result<(), CgroupError> {
        for hierarchy in &self.hierarchies {
            for container in hierarchy.parent.children(sandbox.as_str())? {
                let path = format!("{sandbox}/{container}");
                retry_busy(&path, || hierarchy.parent.remove(&path))?;
            }
            retry_busy(sandbox.as_str(), || hierarchy.parent.remove(sandbox.as_str()))?;
        }
        Ok(())
    }

    pub(super) fn memory_and_pids(&self, path: &str) -> Result<Stats, CgroupError> {
        let (memory, pids) = (self.hierarchy("memory")?, self.hierarchy("pids")?);
        Ok(Stats {
            cpu_nanos: 0,
            memory_bytes: memory.read_number(&format!("{path}/memory.usage_in_bytes"))?,
            memory_max_bytes: memory.read_number(&format!("{path}/memory.max_usage_in_bytes"))?,
            pids: pids.read_number(&format!("{path}/pids.current"))?,
        })
    }
}

fn shared_devices(path: &std::path::Path, parent: &str) -> Result<Directory, CgroupError> {
    let top = Directory::open(path)?;
    top.make(parent)?;
    let group = format!("{parent}/{SHARED}");
    let made = !top.children(parent)?.iter().any(|child| child == SHARED);
    top.make(&group)?;
    let shared = top.open_below(&group)?;
    if made {
        shared.write("devices.deny", "a")?;
        for rule in DEVICES_ALLOWED {
            shared.write("devices.allow", rule)?;
        }
    }
    Ok(shared)
}

fn shared_cpuset(path: &std::path::Path, parent: &str) -> Result<Directory, CgroupError> {
    let top = Directory::open(path)?;
    for group in [parent.to_owned(), format!("{parent}/{SHARED}")] {
        top.make(&group)?;
        // A new group has no CPU and no memory node, and takes no process before it has.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            top.write(&format!("{group}/{file}"), top.read(file)?.trim())?;
        }
    }
    top.open_below(&format!("{parent}/{SHARED}"))
}

impl Driver for V1 {
    fn kind(&self) -> Kind {
        Kind::V1
    }

    fn device_control(&self) -> DeviceControl {
        if self.devices.is_some() { DeviceControl::Confined } else { DeviceControl::None }
    }

    fn enter_shared(&self) -> Result<(), CgroupError> {
        for shared in [&self.devices, &self.cpuset].into_iter().flatten() {
            shared.write("cgroup.procs", "0")?;
        }
        Ok(())
    }

    fn create_sandbox(&self, sandbox: &SandboxId, resources: &SandboxResources) -> Result<(), CgroupError> {
        for hierarchy in &self.hierarchies {
            hierarchy.parent.make(sandbox.as_str())?;
        }
        let cpu = self.hierarchy("cpu")?;
        if let Some(millis) = resources.cpu_millis {
            let quota = quota_us(millis).to_string();
            cpu.write(&format!("{sandbox}/cpu.cfs_quota_us"), &quota)?;
            cpu.write(&format!("{sandbox}/cpu.shares"), &shares_of_millis(millis).to_string())?;
        }
        Self::set_memory(self.hierarchy("memory")?, sandbox.as_str(), resources.memory_bytes)?;
        if let Some(limit) = resources.pids_max {
            self.hierarchy("pids")?.write(&format!("{sandbox}/pids.max"), &limit.to_string())?;
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
        for hierarchy in &self.hierarchies {
            hierarchy.parent.make(&path)?;
        }
        if let Some(shares) = resources.cpu_shares {
            self.hierarchy("cpu")?.write(&format!("{path}/cpu.shares"), &shares.max(2).to_string())?;
        }
        let memory = self.hierarchy("memory")?;
        Self::set_memory(memory, &path, resources.memory_bytes)?;
        if let Some(soft) = resources.memory_reservation_bytes {
            memory.write(&format!("{path}/memory.soft_limit_in_bytes"), &soft.to_string())?;
        }
        if let Some(limit) = resources.pids_max {
            self.hierarchy("pids")?.write(&format!("{path}/pids.max"), &limit.to_string())?;
        }
        let join = self
            .hierarchies
            .iter()
            .map(|hierarchy| hierarchy.parent.open_file(&format!("{path}/cgroup.procs"), OFlags::WRONLY))
            .collect::<Result<_, _>>()?;
        Ok(Membership { join, into: None })
    }

    fn stats(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<Stats, CgroupError> {
        let path = format!("{sandbox}/{container}");
        let mut stats = self.memory_and_pids(&path)?;
        if let Ok(cpuacct) = self.hierarchy("cpuacct") {
            stats.cpu_nanos = cpuacct.read_number(&format!("{path}/cpuacct.usage"))?;
        }
        Ok(stats)
    }

    fn oom_kills(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<u64, CgroupError> {
        let text = self.hierarchy("memory")?.read(&format!("{sandbox}/{container}/memory.oom_control"))?;
        Ok(keyed_value(&text, "oom_kill").unwrap_or(0))
    }

    fn remove_container(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<(), CgroupError> {
        let path = format!("{sandbox}/{container}");
        self.kill_all(&path)?;
        for hierarchy in &self.hierarchies {
            retry_busy(&path, || hierarchy.parent.remove(&path))?;
        }
        Ok(())
    }

    fn remove_sandbox(&self, sandbox: &SandboxId) -> Result<(), CgroupError> {
        self.kill_all(sandbox.as_str())?;
        self.remove_groups(sandbox)
    }

    fn sandboxes(&self) -> Result<Vec<String>, CgroupError> {
        let mut names = Vec::new();
        for hierarchy in &self.hierarchies {
            names.extend(hierarchy.parent.children(".")?);
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn container_mounts(&self) -> Vec<ContainerMount> {
        let mount = |controllers: &[String]| ContainerMount {
            directory: controllers.join(","),
            filesystem: "cgroup",
            options: controllers.join(","),
        };
        let mut mounts: Vec<_> =
            self.hierarchies.iter().map(|hierarchy| mount(&hierarchy.controllers)).collect();
        if self.cpuset.is_some() && !self.of.contains_key("cpuset") {
            mounts.push(mount(&["cpuset".to_owned()]));
        }
        mounts
    }

    fn remove_instance(&self) -> Result<(), CgroupError> {
        for shared in [&self.devices, &self.cpuset].into_iter().flatten() {
            // The groups' own parents are two levels up: `wharf-<instance>/.containers`.
            let top = Directory::at(shared.as_fd(), "../..")?;
            let path = format!("{}/{SHARED}", self.name);
            retry_busy(&path, || top.remove(&path))?;
            retry_busy(&self.name, || top.remove(&self.name))?;
        }
        for hierarchy in &self.hierarchies {
            retry_busy(&self.name, || hierarchy.top.remove(&self.name))?;
        }
        Ok(())
    }
}

impl Directory {
    fn at(base: BorrowedFd<'_>, path: &str) -> Result<Self, CgroupError> {
        let fd = rustix::fs::openat(
            base,
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .map_err(|source| CgroupError::File { path: path.to_owned(), action: "open", source })?;
        Ok(Self::from_fd(fd, path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::{Fake, container, sandbox};

    #[test]
    fn limits_land_in_their_files() {
        let fake = Fake::v1();
        let driver = V1::open(&fake.mounts, "wharf-t").unwrap();
        let resources =
            SandboxResources { cpu_millis: Some(250), memory_bytes: Some(512 << 20), pids_max: Some(100) };
        driver.create_sandbox(&sandbox(), &resources).unwrap();
        assert_eq!(fake.read("cpu/wharf-t/s/cpu.cfs_quota_us"), "25000");
        assert_eq!(fake.read("cpu/wharf-t/s/cpu.shares"), "256");
        assert_eq!(fake.read("memory/wharf-t/s/memory.limit_in_bytes"), "536870912");
        assert_eq!(fake.read("memory/wharf-t/s/memory.memsw.limit_in_bytes"), "536870912");
        assert_eq!(fake.read("memory/wharf-t/s/memory.swappiness"), "0");
        assert_eq!(fake.read("pids/wharf-t/s/pids.max"), "100");

        let resources = Resources {
            cpu_shares: Some(1),
            memory_bytes: None,
            memory_reservation_bytes: Some(1 << 20),
            pids_max: Some(7),
        };
        let membership = driver.create_container(&sandbox(), &container(), &resources).unwrap();
        assert_eq!(membership.join.len(), 4);
        assert!(membership.into.is_none());
        assert_eq!(fake.read("cpu/wharf-t/s/c/cpu.shares"), "2");
        assert_eq!(fake.read("memory/wharf-t/s/c/memory.soft_limit_in_bytes"), "1048576");
        assert_eq!(fake.read("memory/wharf-t/s/c/memory.limit_in_bytes"), "");
        assert_eq!(fake.read("pids/wharf-t/s/c/pids.max"), "7");
        assert_eq!(driver.sandboxes().unwrap(), ["s"]);
    }

    #[test]
    fn a_host_without_the_memory_controller_is_refused() {
        let mut fake = Fake::v1();
        fake.mounts.v1.retain(|mount| mount.controllers != ["memory"]);
        assert!(matches!(V1::open(&fake.mounts, "wharf-t"), Err(CgroupError::NoController("memory"))));
    }
}
