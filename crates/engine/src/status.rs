//! What an engine reports. Everything here has happened.

use serde::{Deserialize, Serialize};
use wharf_core::Timestamp;

use crate::health::HealthStatus;
use crate::spec::{ContainerId, SandboxId};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SandboxStatus {
    pub id: SandboxId,
    pub created_at: Timestamp,
    pub labels: Vec<(String, String)>,
    pub containers: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerStatus {
    pub id: ContainerId,
    pub sandbox: SandboxId,
    pub state: ContainerState,
    pub labels: Vec<(String, String)>,
    /// `None` without a health check. After the end: the last that was known.
    #[serde(default)]
    pub health: Option<HealthStatus>,
    /// How often it was started again.
    #[serde(default)]
    pub restarts: u32,
}

impl ContainerStatus {
    /// Without a health check, never started again.
    pub fn new(
        id: ContainerId,
        sandbox: SandboxId,
        state: ContainerState,
        labels: Vec<(String, String)>,
    ) -> Self {
        Self { id, sandbox, state, labels, health: None, restarts: 0 }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ContainerState {
    /// `pid` is the host's number of the container's first process.
    Running { pid: u32, started_at: Timestamp },
    /// It runs, and all its processes are frozen.
    Paused { pid: u32, started_at: Timestamp },
    /// Its program has ended, and will be started again at `at`.
    Restarting { exit: ExitStatus, at: Timestamp },
    /// `started_at` is `None` when its program never ran.
    Exited { started_at: Option<Timestamp>, exit: ExitStatus },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    pub at: Timestamp,
    /// 0 to 255; 128 + n when killed by signal n. `None`: the keeper and the kernel both lost it.
    pub code: Option<i32>,
    /// The kernel killed a process of this container for want of memory.
    pub oom_killed: bool,
    /// Why the program never ran.
    pub start_error: Option<String>,
    /// It was killed because its sandbox had more on disk than
    /// [`crate::SandboxSpec::ephemeral_storage_bytes`].
    #[serde(default)]
    pub storage_exceeded: bool,
}

impl ExitStatus {
    /// An end of the program's own.
    pub fn new(at: Timestamp, code: Option<i32>) -> Self {
        Self { at, code, oom_killed: false, start_error: None, storage_exceeded: false }
    }

    /// The program never ran.
    pub fn never_ran(at: Timestamp, code: Option<i32>, message: impl Into<String>) -> Self {
        Self { start_error: Some(message.into()), ..Self::new(at, code) }
    }
}

/// Use since the start, and limits. What a host does not count is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    pub cpu: CpuStats,
    pub memory: MemoryStats,
    pub pids: u64,
    pub pids_max: Option<u64>,
    pub block: BlockStats,
    /// Of the sandbox, whose containers share their interfaces; loopback does not count.
    pub network: NetworkStats,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuStats {
    pub total_nanos: u64,
    pub user_nanos: u64,
    pub system_nanos: u64,
    /// Periods in which it ran under a limit, and how many of them ended in waiting for the next.
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_nanos: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStats {
    /// Everything that is charged, the page cache included.
    pub bytes: u64,
    /// The most that `bytes` has been.
    pub max_bytes: u64,
    /// The least of the container's and its sandbox's limits.
    pub limit_bytes: Option<u64>,
    /// Page cache, tmpfs included.
    pub cache_bytes: u64,
    /// Of no file.
    pub rss_bytes: u64,
    /// Page cache that goes first under pressure. Docker shows `bytes` less this.
    pub inactive_file_bytes: u64,
    pub swap_bytes: u64,
    /// Major page faults.
    pub major_faults: u64,
    pub oom_kills: u64,
}

/// As the block layer saw it: what the page cache holds back is not there yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockStats {
    pub read_bytes: u64,
    pub write_bytes: u64,
    pub reads: u64,
    pub writes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkStats {
    pub received_bytes: u64,
    pub received_packets: u64,
    pub received_errors: u64,
    pub received_dropped: u64,
    pub sent_bytes: u64,
    pub sent_packets: u64,
    pub sent_errors: u64,
    pub sent_dropped: u64,
}
