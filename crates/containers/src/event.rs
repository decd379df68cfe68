//! What happens to containers run by hand, as `docker events` tells it.

use serde::{Deserialize, Serialize};
use wharf_core::Timestamp;

/// Events kept for a receiver that does not read.
pub(crate) const EVENTS_QUEUED_MAX: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerEvent {
    pub at: Timestamp,
    /// The container's id.
    pub id: String,
    pub name: String,
    pub image: String,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    Create,
    Start,
    Restart,
    /// Its program has ended.
    Die {
        code: Option<i32>,
    },
    OutOfMemory,
    Stop,
    Kill {
        signal: i32,
    },
    Pause,
    Unpause,
    Rename {
        from: String,
    },
    Health {
        status: String,
    },
    ExecStart {
        command: String,
    },
    Attach,
    Detach,
    /// It is gone.
    Destroy,
}

impl Action {
    /// As `docker events` names it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Restart => "restart",
            Self::Die { .. } => "die",
            Self::OutOfMemory => "oom",
            Self::Stop => "stop",
            Self::Kill { .. } => "kill",
            Self::Pause => "pause",
            Self::Unpause => "unpause",
            Self::Rename { .. } => "rename",
            Self::Health { .. } => "health_status",
            Self::ExecStart { .. } => "exec_start",
            Self::Attach => "attach",
            Self::Detach => "detach",
            Self::Destroy => "destroy",
        }
    }
}
