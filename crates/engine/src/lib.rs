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

pub mod copy;
mod error;
mod event;
mod health;
mod isolation;
pub mod log;
pub mod order;
mod restart;
pub mod session;
pub mod sim;
mod spec;
mod status;
mod volume;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast::error::RecvError;

pub use error::EngineError;
pub use event::{Event, EventKind, EventStream};
pub use health::{
    Health, HealthCheck, HealthReport, HealthStatus, PROBE_OUTPUT_BYTES_MAX, PROBES_KEPT_MAX, Probe,
};
pub use isolation::{Device, DeviceAccess, Init, IpcMode, PidMode, Privileges, Sysctl, Users};
pub use restart::{Asked, Ended, RestartPolicy, Verdict};
pub use spec::{
    BlockIo, BlockLimit, ContainerId, ContainerSpec, HostEntry, ProcessSpec, Resources, Rlimit, SandboxId,
    SandboxResources, SandboxSpec, Signal, Tmpfs, VolumeName, WritableLayer,
};
pub use status::{
    BlockStats, ContainerState, ContainerStatus, CpuStats, ExitStatus, MemoryStats, NetworkStats,
    SandboxStatus, Stats,
};
pub use volume::{InitialContent, Mount, MountSource, VolumeSpec, VolumeStatus};

use crate::copy::{Archive, CopyOwner, CopyRoot, FileStat, FollowLink};
use crate::log::{LogChunk, LogPosition};
use crate::session::{AttachSpec, ExecSpec, Process, Session};

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

    /// # Errors
    /// `NoContainer` for one that does not run.
    async fn stats(&self, container: &ContainerId) -> Result<Stats, EngineError>;

    /// Those of every container that runs: one call, cheap enough for a thousand each second.
    async fn stats_of_all(&self) -> Result<Vec<(ContainerId, Stats)>, EngineError>;

    /// Freezes all processes of a running container, and returns once they are frozen. Its health
    /// is not asked for meanwhile; stopping or killing it resumes it. Pausing a paused one succeeds.
    ///
    /// # Errors
    /// `NotRunning` unless it runs.
    async fn pause_container(&self, container: &ContainerId) -> Result<(), EngineError>;

    /// Lets a paused container go on. Resuming one that runs succeeds.
    async fn resume_container(&self, container: &ContainerId) -> Result<(), EngineError>;

    /// What its health check has said, and its last probes' output; `None` without a check.
    async fn health(&self, container: &ContainerId) -> Result<Option<HealthReport>, EngineError>;

    /// Waits until the container has exited for good.
    async fn wait_container(&self, container: &ContainerId) -> Result<ExitStatus, EngineError> {
        // First the stream, then the look: nothing is missed between.
        let mut events = self.events();
        loop {
            if let ContainerState::Exited { exit, .. } = self.status(container).await?.state {
                return Ok(exit);
            }
            loop {
                match events.recv().await {
                    Ok(Event { container: of, kind: EventKind::Exited(exit), .. }) if of == *container => {
                        return Ok(exit);
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => {
                        return Err(EngineError::Internal { message: "the engine is shut down".to_owned() });
                    }
                }
            }
        }
    }

    /// Makes a named volume. It outlives every sandbox, and the engine.
    ///
    /// # Errors
    /// `Conflict` when it exists with other labels.
    async fn create_volume(&self, spec: VolumeSpec) -> Result<VolumeStatus, EngineError>;

    /// Removes a named volume with its files; one that is gone is fine.
    ///
    /// # Errors
    /// `InUse` while a container, running or exited, mounts it.
    async fn remove_volume(&self, volume: &VolumeName) -> Result<(), EngineError>;

    /// By name.
    async fn list_volumes(&self) -> Result<Vec<VolumeStatus>, EngineError>;

    /// Runs a program in a running container, and returns once it runs.
    ///
    /// # Errors
    /// [`EngineError::Start`] when the program cannot be run, [`EngineError::NotRunning`],
    /// [`EngineError::Exhausted`] above [`session::SESSIONS_PER_CONTAINER_MAX`].
    async fn exec(&self, container: &ContainerId, spec: ExecSpec) -> Result<Session, EngineError>;

    /// Joins a container's own streams. Several may be attached at once; leaving (dropping the
    /// session) does the container nothing. Of one that has exited, [`session::OutputFrom::Start`]
    /// gives all its output.
    async fn attach(&self, container: &ContainerId, spec: AttachSpec) -> Result<Session, EngineError>;

    /// The processes of a running container, those of its sessions included.
    async fn processes(&self, container: &ContainerId) -> Result<Vec<Process>, EngineError>;

    /// Looks at a file of a container.
    ///
    /// # Errors
    /// [`EngineError::NoPath`] when it is not there.
    async fn stat_file(
        &self,
        root: &CopyRoot,
        path: &str,
        follow: FollowLink,
    ) -> Result<FileStat, EngineError>;

    /// The file or directory at `path` with all below it, as an archive whose names start with the
    /// path's last component (`.` for the root).
    async fn copy_out(
        &self,
        root: &CopyRoot,
        path: &str,
        follow: FollowLink,
    ) -> Result<(FileStat, Archive), EngineError>;

    /// Unpacks an archive into the directory at `directory`, which must exist. What is there is
    /// replaced, except that a directory is never replaced by a file or a file by a directory.
    ///
    /// # Errors
    /// [`EngineError::NoPath`]; `Unsupported` for an entry that no container may have (a device).
    /// What was unpacked before an error stays.
    async fn copy_in(
        &self,
        root: &CopyRoot,
        directory: &str,
        archive: Archive,
        owner: CopyOwner,
    ) -> Result<(), EngineError>;

    /// Forgets a container that has exited, with its log. Forgetting what is gone succeeds.
    ///
    /// # Errors
    /// `Conflict` while it runs.
    async fn remove_container(&self, container: &ContainerId) -> Result<(), EngineError>;
}
