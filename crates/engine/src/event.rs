//! What an engine tells as it happens.

use tokio::sync::broadcast;
use wharf_core::Timestamp;

use crate::spec::{ContainerId, SandboxId};
use crate::status::ExitStatus;

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Event {
    pub at: Timestamp,
    pub sandbox: SandboxId,
    pub container: ContainerId,
    pub kind: EventKind,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum EventKind {
    Started {
        pid: u32,
    },
    Exited(ExitStatus),
    /// The container's log has grown, to this length in bytes. Sent at a bounded rate.
    Logged {
        length: u64,
    },
}

/// Receives events. A receiver that falls behind gets `Lagged`, and must [`crate::Engine::list`] again.
pub type EventStream = broadcast::Receiver<Event>;
