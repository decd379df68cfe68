//! [`KeeperEngine`]: the [`Engine`] of a control plane, spoken over the keeper's socket.
//!
//! Expected flow: [`KeeperEngine::connect_or_start`] at the control plane's start; from then on the
//! engine looks after its keeper. When the connection breaks, it connects again, or starts another
//! keeper; calls in flight are sent again (every operation may be repeated), and what happened in
//! between is found by listing and told as events.
//!
//! An older release's keeper is asked to hand over, and what it holds goes on under ours. A newer
//! one's is an error ([`KeeperError::Protocol`]), not something to end.

mod copy;
mod link;
mod session;
mod start;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc, oneshot};
use wharf_engine::copy::{Archive, CopyOwner, CopyRoot, FileStat, FollowLink};
use wharf_engine::log::{LogChunk, LogPosition};
use wharf_engine::session::{AttachSpec, ExecSpec, Process, Session};
use wharf_engine::{
    ContainerId, ContainerSpec, ContainerState, ContainerStatus, Engine, EngineError, Event, EventStream,
    HealthReport, HealthStatus, NetworkStats, SandboxId, SandboxSpec, SandboxStatus, Signal, Stats,
    VolumeName, VolumeSpec, VolumeStatus,
};
use wharf_engine_embedded::cgroup::Freezer;
use wharf_engine_embedded::stats::{StatsReader, network};

use self::link::Link;
use crate::config::KeeperConfig;
use crate::log_reader::{LogReader, Writer};
use crate::paths;
use crate::protocol::{Answer, ProtocolError, Request};

/// Calls that wait to be sent.
const CALLS_QUEUED_MAX: usize = 1024;
/// Events kept for a receiver that does not read.
const EVENTS_QUEUED_MAX: usize = 16 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    #[error("{path}")]
    Directory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the keeper cannot be started: {message}")]
    Start { message: String },
    #[error("the keeper cannot be reached")]
    Connect(#[source] std::io::Error),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

/// Whether a keeper was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connected {
    /// It may hold containers.
    Found,
    Started,
}

/// Runs containers through a keeper. Clones share the connection.
#[derive(Clone)]
pub struct KeeperEngine {
    calls: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

struct Shared {
    config: KeeperConfig,
    events: broadcast::Sender<Event>,
    /// What was last told of each container.
    known: Mutex<HashMap<ContainerId, (SandboxId, Known)>>,
    keeper_pid: Mutex<Option<u32>>,
    stats: Mutex<Option<StatsReader>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Running(Run),
    Exited,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// `None` while it waits to be started again.
    pid: Option<u32>,
    health: Option<HealthStatus>,
}

struct Command {
    request: Request,
    reply: oneshot::Sender<Result<Answer, EngineError>>,
}

impl KeeperEngine {
    /// Connects to the keeper of `config.dir`; starts one if there is none. Must be called on a tokio
    /// runtime, which then carries the connection.
    pub async fn connect_or_start(config: KeeperConfig) -> Result<(Self, Connected), KeeperError> {
        let (link, connected) = Link::connect_or_start(&config).await?;
        let (calls, commands) = mpsc::channel(CALLS_QUEUED_MAX);
        let shared = Arc::new(Shared {
            config,
            events: broadcast::channel(EVENTS_QUEUED_MAX).0,
            known: Mutex::default(),
            keeper_pid: Mutex::new(link.keeper_pid()),
            stats: Mutex::default(),
        });
        tokio::spawn(link::carry(link, commands, Arc::clone(&shared)));
        Ok((Self { calls, shared }, connected))
    }

    /// Removes every sandbox; then the keeper ends, and nothing is left behind: no process, cgroup,
    /// mount, or file in the keeper's directory. The engine is of no use afterwards.
    pub async fn shutdown(&self) -> Result<(), EngineError> {
        let answer = self.call(Request::Shutdown).await.map(drop);
        if answer.is_ok() {
            // The keeper is gone when the connection is.
            self.calls.closed().await;
        }
        answer
    }

    /// The keeper's process, while connected.
    pub fn keeper_pid(&self) -> Option<u32> {
        *self.shared.keeper_pid.lock()
    }

    async fn call(&self, request: Request) -> Result<Answer, EngineError> {
        let (reply, answer) = oneshot::channel();
        let gone = || EngineError::Internal { message: "the engine is shut down".to_owned() };
        self.calls.send(Command { request, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    fn log(&self, container: &ContainerId) -> LogReader {
        LogReader::new(self.shared.config.dir.join(paths::log(container)))
    }
}

/// For an answer that does not fit its request.
fn unexpected<T>(answer: &Answer) -> Result<T, EngineError> {
    Err(EngineError::Internal { message: format!("the keeper answered something else: {answer:?}") })
}

#[async_trait]
impl Engine for KeeperEngine {
    async fn create_sandbox(&self, spec: SandboxSpec) -> Result<(), EngineError> {
        self.call(Request::CreateSandbox(spec)).await.map(drop)
    }

    async fn remove_sandbox(&self, sandbox: &SandboxId) -> Result<(), EngineError> {
        self.call(Request::RemoveSandbox(sandbox.clone())).await.map(drop)
    }

    async fn start_container(
        &self,
        sandbox: &SandboxId,
        spec: ContainerSpec,
    ) -> Result<ContainerStatus, EngineError> {
        match self.call(Request::StartContainer { sandbox: sandbox.clone(), spec }).await? {
            Answer::Container(status) => Ok(status),
            other => unexpected(&other),
        }
    }

    async fn stop_container(
        &self,
        container: &ContainerId,
        signal: Signal,
        grace: Duration,
    ) -> Result<(), EngineError> {
        self.call(Request::Stop { container: container.clone(), signal, grace }).await.map(drop)
    }

    async fn kill_container(&self, container: &ContainerId, signal: Signal) -> Result<(), EngineError> {
        self.call(Request::Kill { container: container.clone(), signal }).await.map(drop)
    }

    async fn list(&self) -> Result<Vec<SandboxStatus>, EngineError> {
        match self.call(Request::List).await? {
            Answer::Sandboxes(sandboxes) => Ok(sandboxes),
            other => unexpected(&other),
        }
    }

    async fn status(&self, container: &ContainerId) -> Result<ContainerStatus, EngineError> {
        match self.call(Request::Status(container.clone())).await? {
            Answer::Container(status) => Ok(status),
            other => unexpected(&other),
        }
    }

    fn events(&self) -> EventStream {
        self.shared.events.subscribe()
    }

    async fn read_log(
        &self,
        container: &ContainerId,
        position: LogPosition,
        bytes_max: usize,
    ) -> Result<LogChunk, EngineError> {
        // Asked before the read: an exit is told after the last output is in the log.
        let known = self.shared.known.lock().get(container).map(|(_, known)| *known);
        let writer = match known {
            Some(Known::Exited) => Writer::Exited,
            Some(Known::Running(_)) => Writer::Lives,
            None => match self.status(container).await?.state {
                ContainerState::Exited { .. } => Writer::Exited,
                _ => Writer::Lives,
            },
        };
        self.on_log(container, move |log| log.read(position, bytes_max, writer)).await
    }

    async fn release_log(&self, container: &ContainerId, position: LogPosition) -> Result<(), EngineError> {
        self.on_log(container, move |log| log.release(position)).await
    }

    async fn stats(&self, container: &ContainerId) -> Result<Stats, EngineError> {
        let known = self.shared.known.lock().get(container).cloned();
        let (sandbox, run) = match known {
            Some((sandbox, Known::Running(run))) => (sandbox, run),
            Some((_, Known::Exited)) | None => return Err(EngineError::NoContainer(container.clone())),
        };
        let mut read = self.read_stats(vec![(container.clone(), sandbox, run)]).await?;
        read.pop().map(|(_, stats)| stats).ok_or_else(|| EngineError::NoContainer(container.clone()))
    }

    async fn stats_of_all(&self) -> Result<Vec<(ContainerId, Stats)>, EngineError> {
        let running = |(id, (sandbox, known)): (&ContainerId, &(SandboxId, Known))| match known {
            Known::Running(run) => Some((id.clone(), sandbox.clone(), *run)),
            Known::Exited => None,
        };
        let all = self.shared.known.lock().iter().filter_map(running).collect();
        self.read_stats(all).await
    }

    async fn pause_container(&self, container: &ContainerId) -> Result<(), EngineError> {
        self.freeze(container, Freezer::Frozen).await
    }

    async fn resume_container(&self, container: &ContainerId) -> Result<(), EngineError> {
        self.freeze(container, Freezer::Thawed).await
    }

    async fn health(&self, container: &ContainerId) -> Result<Option<HealthReport>, EngineError> {
        match self.call(Request::Health(container.clone())).await? {
            Answer::Health(report) => Ok(report),
            other => unexpected(&other),
        }
    }

    async fn create_volume(&self, spec: VolumeSpec) -> Result<VolumeStatus, EngineError> {
        match self.call(Request::CreateVolume(spec)).await? {
            Answer::Volume(status) => Ok(self.absolute(status)),
            other => unexpected(&other),
        }
    }

    async fn remove_volume(&self, volume: &VolumeName) -> Result<(), EngineError> {
        self.call(Request::RemoveVolume(volume.clone())).await.map(drop)
    }

    async fn list_volumes(&self) -> Result<Vec<VolumeStatus>, EngineError> {
        match self.call(Request::ListVolumes).await? {
            Answer::Volumes(volumes) => Ok(volumes.into_iter().map(|status| self.absolute(status)).collect()),
            other => unexpected(&other),
        }
    }

    async fn exec(&self, container: &ContainerId, spec: ExecSpec) -> Result<Session, EngineError> {
        session::exec(self, container, spec).await
    }

    async fn attach(&self, container: &ContainerId, spec: AttachSpec) -> Result<Session, EngineError> {
        session::attach(self, container, spec).await
    }

    async fn processes(&self, container: &ContainerId) -> Result<Vec<Process>, EngineError> {
        session::processes(self, container).await
    }

    async fn stat_file(
        &self,
        root: &CopyRoot,
        path: &str,
        follow: FollowLink,
    ) -> Result<FileStat, EngineError> {
        copy::stat_file(self, root, path, follow).await
    }

    async fn copy_out(
        &self,
        root: &CopyRoot,
        path: &str,
        follow: FollowLink,
    ) -> Result<(FileStat, Archive), EngineError> {
        copy::copy_out(self, root, path, follow).await
    }

    async fn copy_in(
        &self,
        root: &CopyRoot,
        directory: &str,
        archive: Archive,
        owner: CopyOwner,
    ) -> Result<(), EngineError> {
        copy::copy_in(self, root, directory, archive, owner).await
    }

    async fn remove_container(&self, container: &ContainerId) -> Result<(), EngineError> {
        let answer = self.call(Request::RemoveContainer(container.clone())).await.map(drop);
        if answer.is_ok() {
            self.shared.known.lock().remove(container);
        }
        answer
    }
}

impl KeeperEngine {
    async fn freeze(&self, container: &ContainerId, to: Freezer) -> Result<(), EngineError> {
        self.call(Request::Freeze { container: container.clone(), to }).await.map(drop)
    }

    fn absolute(&self, status: VolumeStatus) -> VolumeStatus {
        VolumeStatus { path: self.shared.config.dir.join(&status.path), ..status }
    }

    /// Read here, from the kernel: the keeper has no part in it. What has ended meanwhile is left out.
    async fn read_stats(
        &self,
        of: Vec<(ContainerId, SandboxId, Run)>,
    ) -> Result<Vec<(ContainerId, Stats)>, EngineError> {
        let shared = Arc::clone(&self.shared);
        let read = tokio::task::spawn_blocking(move || {
            let mut reader = shared.stats.lock();
            let reader = match &mut *reader {
                Some(reader) => reader,
                none => none.insert(StatsReader::open(&shared.config.instance)?),
            };
            {
                let known = shared.known.lock();
                reader.keep_only(|container| matches!(known.get(container), Some((_, Known::Running(_)))));
            }
            let mut networks: HashMap<SandboxId, NetworkStats> = HashMap::new();
            let mut all = Vec::with_capacity(of.len());
            for (container, sandbox, run) in of {
                let Some(pid) = run.pid else { continue };
                let mut stats = match reader.read(&sandbox, &container) {
                    Ok(stats) => stats,
                    Err(EngineError::NoContainer(_)) => continue,
                    Err(error) => return Err(error),
                };
                stats.network = match networks.get(&sandbox) {
                    Some(network) => *network,
                    // Of a process that has just ended there is no network to read.
                    None => *networks.entry(sandbox).or_insert(network(pid).unwrap_or_default()),
                };
                all.push((container, stats));
            }
            Ok(all)
        });
        read.await.unwrap_or_else(|error| Err(EngineError::Internal { message: error.to_string() }))
    }

    async fn on_log<T: Send + 'static>(
        &self,
        container: &ContainerId,
        work: impl FnOnce(&LogReader) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, EngineError> {
        let log = self.log(container);
        let done = tokio::task::spawn_blocking(move || work(&log)).await;
        match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(EngineError::NoContainer(container.clone()))
            }
            Ok(Err(error)) => {
                Err(EngineError::Internal { message: format!("the log of {container}: {error}") })
            }
            Err(error) => Err(EngineError::Internal { message: format!("the log of {container}: {error}") }),
        }
    }
}
