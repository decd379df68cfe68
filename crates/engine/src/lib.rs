//! The Engine trait, its types, and the deterministic fake.
//!
//! An engine runs **sandboxes** (a network namespace, a cgroup with limits, a host name) that hold
//! **containers** (a root from image layers, a process with its limits and output). The shape is
//! that of Kubernetes' CRI. Everything that runs containers above this crate, and everything that
//! implements it below, meets in [`Engine`].
//!
//! Invariants:
//! - No AWS word appears here or below (law 4).
//! - Every operation may be repeated with the same arguments: creating what exists with an equal
//!   spec succeeds, removing what is gone succeeds. Callers crash, and call again.
//! - What an engine reports has happened. `Running` means that `execve` of the container's own
//!   program succeeded; an exit code is the kernel's.
//! - Containers outlive the process that holds the `Engine`: a new one finds them with
//!   [`Engine::list`], and their logs and exit codes are still there.

#![forbid(unsafe_code)]

mod error;
mod event;
pub mod log;
pub mod sim;
mod spec;
mod status;

use std::time::Duration;

use async_trait::async_trait;

pub use error::EngineError;
pub use event::{Event, EventKind, EventStream};
pub use spec::{
    ContainerId, ContainerSpec, HostEntry, Mount, ProcessSpec, Resources, Rlimit, SandboxId,
    SandboxResources, SandboxSpec, Signal, Tmpfs,
};
pub use status::{ContainerState, ContainerStatus, ExitStatus, SandboxStatus, Stats};

use crate::log::{LogChunk, LogPosition};

/// Runs sandboxes and containers.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Makes the sandbox: cgroup with limits, network namespace joined, files written.
    async fn create_sandbox(&self, spec: SandboxSpec) -> Result<(), EngineError>;

    /// Kills what runs in the sandbox and removes every trace of it, its containers' logs and exit
    /// codes included. The network namespace is the caller's.
    async fn remove_sandbox(&self, sandbox: &SandboxId) -> Result<(), EngineError>;

    /// Starts a container and returns once its program runs.
    ///
    /// # Errors
    /// [`EngineError::Start`] when the program cannot be run (not found, not executable, …): the
    /// container is then `Exited` with code 127 or 126 as a shell would say, or 128.
    async fn start_container(
        &self,
        sandbox: &SandboxId,
        spec: ContainerSpec,
    ) -> Result<ContainerStatus, EngineError>;

    /// Sends `signal`, waits for `grace`, then kills. Returns once the signal is sent; the exit
    /// comes as an event. Stopping what has exited succeeds.
    async fn stop_container(
        &self,
        container: &ContainerId,
        signal: Signal,
        grace: Duration,
    ) -> Result<(), EngineError>;

    /// Sends one signal to the container's first process.
    async fn kill_container(&self, container: &ContainerId, signal: Signal) -> Result<(), EngineError>;

    /// Everything that the engine holds, from before a restart of the caller too.
    async fn list(&self) -> Result<Vec<SandboxStatus>, EngineError>;

    async fn status(&self, container: &ContainerId) -> Result<ContainerStatus, EngineError>;

    /// What happens from now on. Take the stream first, then [`Engine::list`], and nothing is missed.
    fn events(&self) -> EventStream;

    /// The container's output from `position` on, at most `bytes_max` of it (at least one record).
    async fn read_log(
        &self,
        container: &ContainerId,
        position: LogPosition,
        bytes_max: usize,
    ) -> Result<LogChunk, EngineError>;

    /// The output before `position` is stored elsewhere: its space on disk may be given back.
    /// Positions stay as they are.
    async fn release_log(&self, container: &ContainerId, position: LogPosition) -> Result<(), EngineError>;

    async fn stats(&self, container: &ContainerId) -> Result<Stats, EngineError>;
}
