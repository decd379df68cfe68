//! What an engine reports. Everything here has happened.

use serde::{Deserialize, Serialize};
use wharf_core::Timestamp;

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
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ContainerState {
    /// `pid` is the host's number of the container's first process.
    Running { pid: u32, started_at: Timestamp },
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
}

/// Use since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    pub cpu_nanos: u64,
    pub memory_bytes: u64,
    pub memory_max_bytes: u64,
    pub pids: u64,
}
