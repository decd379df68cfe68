//! Controllers on cgroup v1, each in a hierarchy of its own or a few together.
//!
//! A container has a group in the hierarchies of cpu, cpuacct, memory, pids and blkio, and where there
//! is no v2 hierarchy to freeze it with, of freezer. Devices and cpuset have one group for all
//! containers of the instance ([`SHARED`]), which the spawners sit in: a child inherits it and pays
//! nothing for it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use wharf_engine::{BlockStats, ContainerId, CpuStats, MemoryStats, SandboxId, SandboxResources, Stats};

use super::devices::Devices;
use super::{
    CgroupError, CgroupMounts, ContainerLimits, ContainerMount, DeviceControl, Directory, Driver,
    EMPTY_WAIT_MS, Freezer, Kind, Membership, Open, RETRY_MS, Reading, check_resources, keyed_value, pause,
    quota_us, refuse_device, retry_busy, shares_of_millis,
};

/// The group in devices and cpuset that all containers share. No sandbox has this name: an id does
/// not start with a dot.
pub(super) const SHARED: &str = ".containers";

/// Controllers with a group for each container.
const PER_CONTAINER: [&str; 6] = ["cpu", "cpuacct", "memory", "pids", "blkio", FREEZER];
/// Processes that are held by a descriptor each while they are killed.
const KILLED_AT_ONCE: usize = 256;
/// Used only without a v2 hierarchy.
const FREEZER: &str = "freezer";

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
    devices: Option<Devices>,
    cpuset: Option<Directory>,
}

impl V1 {
    pub fn open(mounts: &CgroupMounts, parent: &str, open: Open) -> Result<Self, CgroupError> {
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
            let freezes = mounts.v2.is_none();
            if !PER_CONTAINER.iter().any(|name| has(name) && (*name != FREEZER || freezes)) {
                continue;
            }
            let top = Directory::open(&mount.path)?;
            if open == Open::Make {
                top.make(parent)?;
            }
            let parent = top.open_below(parent)?;
            for controller in &mount.controllers {
                v1.of.insert(controller.clone(), v1.hierarchies.len());
            }
            v1.hierarchies.push(Hierarchy { controllers: mount.controllers.clone(), top, parent });
        }
        if open == Open::Existing {
            return Ok(v1);
        }
        v1.devices = mounts.of("devices").map(|mount| Devices::open(&mount.path, parent)).transpose()?;
        v1.cpuset = mounts.of("cpuset").map(|mount| shared_cpuset(&mount.path, parent)).transpose()?;
        Ok(v1)
    }

    fn hierarchy(&self, controller: &'static str) -> Result<&Directory, CgroupError> {
        let index = self.of.get(controller).ok_or(CgroupError::NoController(controller))?;
        Ok(&self.hierarchies[*index].parent)
    }

    fn set_memory(memory: &Directory, path: &str, limit: Option<u64>, swap: u64) -> Result<(), CgroupError> {
        if swap == 0 {
            memory.write_if_there(&format!("{path}/memory.swappiness"), "0")?;
        }
        let Some(limit) = limit else { return Ok(()) };
        let with_swap = limit.saturating_add(swap).to_string();
        let limit = limit.to_string();
        let (with_swap_file, without_file) =
            (format!("{path}/memory.memsw.limit_in_bytes"), format!("{path}/memory.limit_in_bytes"));
        // The limit with swap may never be below the one without: which goes first depends on
        // whether the limit rises or falls.
        if memory.write(&without_file, &limit).is_err() {
            memory.write_if_there(&with_swap_file, &with_swap)?;
            memory.write(&without_file, &limit)?;
        }
        memory.write_if_there(&with_swap_file, &with_swap)
    }

    fn set_cpu(
        &self,
        sandbox: &SandboxId,
        path: &str,
        limits: &ContainerLimits<'_>,
    ) -> Result<(), CgroupError> {
        let cpu = self.hierarchy("cpu")?;
        if let Some(shares) = limits.resources.cpu_shares {
            cpu.write(&format!("{path}/cpu.shares"), &shares.max(2).to_string())?;
        }
        let Some(millis) = limits.resources.cpu_millis else { return Ok(()) };
        let quota = quota_us(millis);
        match cpu.write(&format!("{path}/cpu.cfs_quota_us"), &quota.to_string()) {
            // A v1 group may not have more than the one above it, and then does not: it is limited
            // by that.
            Err(error) if error.errno() == Some(Errno::INVAL) => {
                match cpu.read_number(&format!("{sandbox}/cpu.cfs_quota_us")) {
                    Ok(above) if above <= quota => Ok(()),
                    _ => Err(error),
                }
            }
            other => other,
        }
    }

    fn set_block_io(&self, path: &str, limits: &ContainerLimits<'_>) -> Result<(), CgroupError> {
        let wanted = &limits.resources.block_io;
        if wanted.weight.is_none() && wanted.limits.is_empty() {
            return Ok(());
        }
        let blkio = self.hierarchy("blkio").map_err(|_| CgroupError::Unsupported {
            what: "a limit on block I/O".to_owned(),
            reason: "the host has no blkio controller".to_owned(),
        })?;
        if let Some(weight) = wanted.weight {
            let set = |file: &str| blkio.write(&format!("{path}/{file}"), &weight.to_string());
            set("blkio.bfq.weight").or_else(|_| set("blkio.weight")).map_err(|_| {
                CgroupError::Unsupported {
                    what: "the weight of block I/O".to_owned(),
                    reason: "no disk of this host has the BFQ scheduler".to_owned(),
                }
            })?;
        }
        for (limit, (major, minor)) in wanted.limits.iter().zip(&limits.block_devices) {
            for (file, value) in [
                ("read_bps_device", limit.read_bytes_per_second),
                ("write_bps_device", limit.write_bytes_per_second),
                ("read_iops_device", limit.reads_per_second),
                ("write_iops_device", limit.writes_per_second),
            ] {
                let Some(value) = value else { continue };
                blkio
                    .write(&format!("{path}/blkio.throttle.{file}"), &format!("{major}:{minor} {value}"))
                    .map_err(|error| refuse_device(limit, error))?;
            }
        }
        Ok(())
    }

    fn join(&self, path_of: impl Fn(&Hierarchy) -> String) -> Result<Vec<OwnedFd>, CgroupError> {
        let open = |hierarchy: &Hierarchy| {
            let file = format!("{}/cgroup.procs", path_of(hierarchy));
            hierarchy.parent.open_file(&file, OFlags::WRONLY)
        };
        self.hierarchies.iter().map(open).collect()
    }

    /// The `cgroup.procs` files of a container that exists.
    pub(super) fn join_container(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
    ) -> Result<Vec<OwnedFd>, CgroupError> {
        let mut join = self.join(|_| format!("{sandbox}/{container}"))?;
        if let Some(devices) = &self.devices {
            join.extend(devices.join(sandbox.as_str(), container.as_str())?);
        }
        Ok(join)
    }

    /// Once nothing runs in them.
    pub(super) fn remove_container_groups(&self, path: &str) -> Result<(), CgroupError> {
        if let Some(devices) = &self.devices {
            devices.remove(path)?;
        }
        self.hierarchies.iter().try_for_each(|hierarchy| hierarchy.parent.remove_all(path))
    }

    fn kill_all(&self, path: &str) -> Result<(), CgroupError> {
        let pids = self.hierarchy("pids")?;
        for _ in 0..EMPTY_WAIT_MS / RETRY_MS {
            let processes = pids.processes(path)?;
            if processes.is_empty() {
                return Ok(());
            }
            for some in processes.chunks(KILLED_AT_ONCE) {
                // Pidfds first, then the group again: a number may have passed to another.
                let held: Vec<_> = some.iter().filter_map(|&pid| Some((pid, open_process(pid)?))).collect();
                let still = pids.processes(path)?;
                for (_, pidfd) in held.iter().filter(|(pid, _)| still.binary_search(pid).is_ok()) {
                    let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
                }
            }
            self.thaw_all(path);
            pause();
        }
        Err(CgroupError::Busy(path.to_owned()))
    }

    /// What is frozen does not die.
    fn thaw_all(&self, path: &str) {
        let Ok(freezer) = self.hierarchy(FREEZER) else { return };
        for below in freezer.children(path).unwrap_or_default() {
            self.thaw_all(&format!("{path}/{below}"));
        }
        // One that is gone is not frozen.
        let _ = freezer.write_if_there(&format!("{path}/freezer.state"), "THAWED");
    }

    /// Removes the sandbox's groups, once nothing runs in them.
    pub(super) fn remove_groups(&self, sandbox: &SandboxId) -> Result<(), CgroupError> {
        if let Some(devices) = &self.devices {
            devices.remove(sandbox.as_str())?;
        }
        self.hierarchies.iter().try_for_each(|hierarchy| hierarchy.parent.remove_all(sandbox.as_str()))
    }

    /// Everything but CPU time.
    pub(super) fn use_of(&self, path: &str, reading: &mut Reading<'_>) -> Result<Stats, CgroupError> {
        let (memory, pids, cpu) =
            (self.hierarchy("memory")?, self.hierarchy("pids")?, self.hierarchy("cpu")?);
        let detail = reading.read(memory, &format!("{path}/memory.stat"))?;
        let of = |key: &str| keyed_value(&detail, key).unwrap_or(0);
        // The kernel's word for no limit is the largest number of whole pages.
        let limit = keyed_value(&detail, "hierarchical_memory_limit").filter(|limit| *limit < NO_LIMIT);
        let throttling = reading.read(cpu, &format!("{path}/cpu.stat"))?;
        let throttled = |key: &str| keyed_value(&throttling, key).unwrap_or(0);
        let oom = reading.read(memory, &format!("{path}/memory.oom_control"))?;
        let pids_max = reading.read_number(pids, &format!("{path}/pids.max"))?;
        Ok(Stats {
            cpu: CpuStats {
                periods: throttled("nr_periods"),
                throttled_periods: throttled("nr_throttled"),
                throttled_nanos: throttled("throttled_time"),
                ..CpuStats::default()
            },
            memory: MemoryStats {
                bytes: reading.read_number(memory, &format!("{path}/memory.usage_in_bytes"))?,
                max_bytes: reading.read_number(memory, &format!("{path}/memory.max_usage_in_bytes"))?,
                limit_bytes: limit,
                cache_bytes: of("total_cache"),
                rss_bytes: of("total_rss"),
                inactive_file_bytes: of("total_inactive_file"),
                swap_bytes: of("total_swap"),
                major_faults: of("total_pgmajfault"),
                oom_kills: keyed_value(&oom, "oom_kill").unwrap_or(0),
            },
            pids: reading.read_number(pids, &format!("{path}/pids.current"))?,
            pids_max: Some(pids_max).filter(|max| *max != u64::MAX),
            block: self.block_use(path, reading),
            ..Stats::default()
        })
    }

    /// None is counted without the controller.
    fn block_use(&self, path: &str, reading: &mut Reading<'_>) -> BlockStats {
        let Ok(blkio) = self.hierarchy("blkio") else { return BlockStats::default() };
        let mut of = |file: &str| {
            let file = format!("{path}/blkio.throttle.{file}_recursive");
            let text = reading.read(blkio, &file).unwrap_or_default();
            (sum_of(&text, "Read"), sum_of(&text, "Write"))
        };
        let (read_bytes, write_bytes) = of("io_service_bytes");
        let (reads, writes) = of("io_serviced");
        BlockStats { read_bytes, write_bytes, reads, writes }
    }
}

/// `None`: it has ended.
fn open_process(pid: u32) -> Option<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// `PAGE_COUNTER_MAX` is below 2^63 by less than a page.
const NO_LIMIT: u64 = (1 << 63) - (1 << 20);

/// Over all devices, of lines `8:0 Read 4096`.
fn sum_of(text: &str, operation: &str) -> u64 {
    let of_line = |line: &str| {
        let mut words = line.split(' ').skip(1);
        (words.next() == Some(operation)).then(|| words.next()?.parse::<u64>().ok()).flatten()
    };
    text.lines().filter_map(of_line).sum()
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
        if let Some(devices) = &self.devices {
            devices.enter_shared()?;
        }
        self.cpuset.as_ref().map_or(Ok(()), |cpuset| cpuset.write("cgroup.procs", "0"))
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
        Self::set_memory(self.hierarchy("memory")?, sandbox.as_str(), resources.memory_bytes, 0)?;
        if let Some(limit) = resources.pids_max {
            self.hierarchy("pids")?.write(&format!("{sandbox}/pids.max"), &limit.to_string())?;
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
        for hierarchy in &self.hierarchies {
            hierarchy.parent.make(&path)?;
        }
        self.set_cpu(sandbox, &path, limits)?;
        let memory = self.hierarchy("memory")?;
        Self::set_memory(memory, &path, resources.memory_bytes, resources.swap_bytes.unwrap_or(0))?;
        if let Some(soft) = resources.memory_reservation_bytes {
            memory.write(&format!("{path}/memory.soft_limit_in_bytes"), &soft.to_string())?;
        }
        if let Some(limit) = resources.pids_max {
            self.hierarchy("pids")?.write(&format!("{path}/pids.max"), &limit.to_string())?;
        }
        self.set_block_io(&path, limits)?;
        if let Some(devices) = &self.devices {
            devices.create(sandbox.as_str(), container.as_str(), &limits.devices)?;
        }
        Ok(Membership { join: self.join_container(sandbox, container)?, into: None })
    }

    fn enter_container(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
    ) -> Result<Membership, CgroupError> {
        Ok(Membership { join: self.join_container(sandbox, container)?, into: None })
    }

    fn create_exec(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
        name: &str,
    ) -> Result<Membership, CgroupError> {
        // One hierarchy is enough to find what it started.
        let (path, pids) = (format!("{sandbox}/{container}"), self.hierarchy("pids")?);
        pids.make(&format!("{path}/{name}"))?;
        let has_pids = |hierarchy: &Hierarchy| hierarchy.controllers.iter().any(|name| name == "pids");
        let mut join =
            self.join(|hierarchy| if has_pids(hierarchy) { format!("{path}/{name}") } else { path.clone() })?;
        if let Some(devices) = &self.devices {
            join.extend(devices.join(sandbox.as_str(), container.as_str())?);
        }
        Ok(Membership { join, into: None })
    }

    fn remove_exec(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
        name: &str,
    ) -> Result<(), CgroupError> {
        let path = format!("{sandbox}/{container}/{name}");
        self.kill_all(&path)?;
        self.hierarchy("pids")?.remove_all(&path)
    }

    fn execs(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<Vec<String>, CgroupError> {
        self.hierarchy("pids")?.children(&format!("{sandbox}/{container}"))
    }

    fn processes(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<Vec<u32>, CgroupError> {
        self.hierarchy("pids")?.processes(&format!("{sandbox}/{container}"))
    }

    fn freeze(&self, sandbox: &SandboxId, container: &ContainerId, to: Freezer) -> Result<(), CgroupError> {
        let freezer = self.hierarchy(FREEZER)?;
        let file = format!("{sandbox}/{container}/freezer.state");
        let wanted = match to {
            Freezer::Frozen => "FROZEN",
            Freezer::Thawed => "THAWED",
        };
        for _ in 0..EMPTY_WAIT_MS / RETRY_MS {
            // Written again each time: a process that was being made is missed by the first.
            freezer.write(&file, wanted)?;
            if freezer.read(&file)?.trim() == wanted {
                return Ok(());
            }
            pause();
        }
        freezer.write(&file, "THAWED")?;
        Err(CgroupError::NotFrozen(format!("{sandbox}/{container}")))
    }

    fn frozen(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<Freezer, CgroupError> {
        let state = self.hierarchy(FREEZER)?.read(&format!("{sandbox}/{container}/freezer.state"))?;
        Ok(if state.trim() == "FROZEN" { Freezer::Frozen } else { Freezer::Thawed })
    }

    fn stats(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
        mut reading: Reading<'_>,
    ) -> Result<Stats, CgroupError> {
        let path = format!("{sandbox}/{container}");
        let mut stats = self.use_of(&path, &mut reading)?;
        if let Ok(cpuacct) = self.hierarchy("cpuacct") {
            let mut of = |file: &str| reading.read_number(cpuacct, &format!("{path}/cpuacct.{file}"));
            stats.cpu.total_nanos = of("usage")?;
            stats.cpu.user_nanos = of("usage_user").unwrap_or(0);
            stats.cpu.system_nanos = of("usage_sys").unwrap_or(0);
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
        self.remove_container_groups(&path)
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
        if let Some(devices) = &self.devices {
            devices.remove_instance(&self.name)?;
        }
        if let Some(shared) = &self.cpuset {
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
    pub(super) fn at(base: BorrowedFd<'_>, path: &str) -> Result<Self, CgroupError> {
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
#[path = "v1_tests.rs"]
mod tests;
