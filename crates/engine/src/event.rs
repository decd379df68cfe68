//! What an engine tells as it happens.

use tokio::sync::broadcast;
use wharf_core::Timestamp;

use crate::health::HealthStatus;
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
    /// The engine has taken the container on; its program does not run yet.
    Created,
    /// Its program runs, for the first time or again.
    Started {
        pid: u32,
    },
    /// Its health check says something new.
    Health(HealthStatus),
    /// The kernel killed one of its processes for want of memory. Told with the next [`EventKind::Exited`]
    /// or [`EventKind::Restarting`] at the latest, once for each run.
    OutOfMemory,
    Paused,
    Resumed,
    /// Its program has ended and will be started again at this time. Its log goes on.
    Restarting {
        exit: ExitStatus,
        at: Timestamp,
    },
    /// Its program has ended for good.
    Exited(ExitStatus),
    /// The container's log has grown, to this length in bytes. Sent at a bounded rate.
    Logged {
        length: u64,
    },
}

/// Receives events. A receiver that falls behind gets `Lagged`, and must [`crate::Engine::list`] again.
pub type EventStream = broadcast::Receiver<Event>;
