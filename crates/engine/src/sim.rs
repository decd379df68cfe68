//! The deterministic fake: an [`Engine`] that runs nothing, keeps every rule of the trait, and does
//! what a test tells it to.
//!
//! No real time passes here and no task is spawned. Time is a [`ManualClock`], moved by
//! [`Sim::advance`] alone; what is due happens inside that call, in order. What containers do is
//! given by [`Behaviour`]s, matched against each container's spec at its start, or commanded as the
//! test goes ([`Sim::exit`], [`Sim::log`], …).
//!
//! ```
//! # use std::{sync::Arc, time::Duration};
//! # use wharf_core::{ManualClock, Timestamp};
//! # use wharf_engine::sim::{Behaviour, Sim};
//! let sim = Sim::new(Arc::new(ManualClock::new(Timestamp::from_millis(0))));
//! sim.when_args(&["migrate"], Behaviour::exits(3).after(Duration::from_secs(2)));
//! sim.advance(Duration::from_secs(1));
//! ```

mod behaviour;
mod files;
mod session;
mod world;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{broadcast, oneshot};
use wharf_core::{Clock, ManualClock, Timestamp};

pub use behaviour::{Behaviour, OnSignal};
pub use files::CopiedIn;
pub use session::ExecBehaviour;

use crate::copy::{Archive, CopyOwner, CopyRoot, FileStat, FollowLink};
use crate::health::HealthReport;
use crate::log::{LogChunk, LogPosition, Stream};
use crate::session::{AttachSpec, ExecSpec, Process, Session};
use crate::sim::world::{Begun, World};
use crate::spec::{ContainerId, ContainerSpec, SandboxId, SandboxSpec, Signal, VolumeName};
use crate::status::{ContainerStatus, SandboxStatus, Stats};
use crate::volume::{VolumeSpec, VolumeStatus};
use crate::{Engine, EngineError, Event, EventStream};

/// Events kept for a receiver that does not read.
const EVENTS_QUEUED_MAX: usize = 4096;

/// A handle to the fake; clones share it.
#[derive(Clone)]
pub struct Sim {
    clock: Arc<ManualClock>,
    world: Arc<Mutex<World>>,
    events: broadcast::Sender<Event>,
}

impl Sim {
    pub fn new(clock: Arc<ManualClock>) -> Self {
        Self { clock, world: Arc::default(), events: broadcast::channel(EVENTS_QUEUED_MAX).0 }
    }

    /// Containers whose spec satisfies `matches` behave so; of several rules the newest wins.
    /// Without a rule a container runs until it is told to stop: [`Behaviour::runs`].
    pub fn when(
        &self,
        matches: impl Fn(&ContainerSpec) -> bool + Send + Sync + 'static,
        behaviour: Behaviour,
    ) {
        self.world.lock().rules.push((Arc::new(matches), behaviour));
    }

    /// As [`Sim::when`], for containers with exactly these arguments.
    pub fn when_args(&self, args: &[&str], behaviour: Behaviour) {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        self.when(move |spec| spec.process.args == args, behaviour);
    }

    /// As [`Sim::when`], for containers that have this layer: how the engine sees an image.
    pub fn when_layer(&self, layer: impl Into<std::path::PathBuf>, behaviour: Behaviour) {
        let layer = layer.into();
        self.when(move |spec| spec.layers.contains(&layer), behaviour);
    }

    /// The next start fails so, whatever the container. Several are taken in order.
    /// [`EngineError::Start`] leaves an exited container, as on a real engine; others leave nothing.
    pub fn fail_next_start(&self, error: EngineError) {
        self.world.lock().start_failures.push_back(error);
    }

    /// The next `create_sandbox` fails so. Several are taken in order.
    pub fn fail_next_sandbox(&self, error: EngineError) {
        self.world.lock().sandbox_failures.push_back(error);
    }

    /// From now on every operation fails so, as when the keeper is gone; containers live on.
    /// `None` ends it.
    pub fn set_outage(&self, error: Option<EngineError>) {
        self.world.lock().outage = error;
    }

    /// The next `count` events are never delivered. What they told is still in [`Engine::list`].
    pub fn lose_events(&self, count: usize) {
        self.world.lock().events_to_lose = count;
    }

    /// The running container's program exits with `code`.
    ///
    /// # Panics
    /// When it is not running: the test is wrong.
    pub fn exit(&self, container: &ContainerId, code: i32) {
        self.change(|world, now| world.exit(container, now, Some(code), false));
    }

    /// The kernel kills the container for want of memory. Panics as [`Sim::exit`] does.
    pub fn out_of_memory(&self, container: &ContainerId) {
        self.change(|world, now| world.exit(container, now, Some(137), true));
    }

    /// It ends, and nobody learns how: the exit code is `None`. Panics as [`Sim::exit`] does.
    pub fn lose_exit(&self, container: &ContainerId) {
        self.change(|world, now| world.exit(container, now, None, false));
    }

    /// A probe of its health check ends so; `None`: it did not end in time. No probe ends otherwise.
    ///
    /// # Panics
    /// When the container does not run, or has no health check.
    pub fn probe(&self, container: &ContainerId, exit_code: Option<i32>) {
        self.change(|world, now| world.probed(container, now, exit_code));
    }

    /// The container prints a line. Panics when the container does not exist.
    pub fn log(&self, container: &ContainerId, stream: Stream, line: &str) {
        self.change(|world, now| world.log(container, now, stream, line));
    }

    /// Sets what [`Engine::stats`] answers. Panics when the container does not exist.
    pub fn set_stats(&self, container: &ContainerId, stats: Stats) {
        self.change(|world, _| world.container_mut(container).stats = stats);
    }

    /// Moves time on; what is due on the way happens at its own time, in order.
    pub fn advance(&self, duration: Duration) {
        let until = self.clock.now().plus(duration);
        loop {
            let Some(due) = self.world.lock().next_due().filter(|due| *due <= until) else { break };
            self.clock.advance(due.since(self.clock.now()));
            self.change(World::run_due);
        }
        self.clock.advance(until.since(self.clock.now()));
    }

    /// When the next thing is due, if anything is.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.world.lock().next_due()
    }

    pub fn clock(&self) -> Arc<ManualClock> {
        Arc::clone(&self.clock)
    }

    /// The spec that the container was started with.
    pub fn container_spec(&self, container: &ContainerId) -> Option<ContainerSpec> {
        self.world.lock().containers.get(container).map(|held| held.spec.clone())
    }

    pub fn sandbox_spec(&self, sandbox: &SandboxId) -> Option<SandboxSpec> {
        self.world.lock().sandboxes.get(sandbox).map(|held| held.spec.clone())
    }

    /// The signals that the container was sent, oldest first.
    pub fn signals(&self, container: &ContainerId) -> Vec<Signal> {
        self.world.lock().containers.get(container).map(|held| held.signals.clone()).unwrap_or_default()
    }

    /// How far the container's log was released.
    pub fn released(&self, container: &ContainerId) -> Option<LogPosition> {
        self.world.lock().containers.get(container).map(|held| held.released)
    }

    fn change<T>(&self, change: impl FnOnce(&mut World, Timestamp) -> T) -> T {
        let mut world = self.world.lock();
        let result = change(&mut world, self.clock.now());
        // Sent under the lock, so that events keep the order of what happened.
        for event in world.take_events() {
            // No receiver is no error.
            let _ = self.events.send(event);
        }
        result
    }

    fn operation<T>(
        &self,
        operation: impl FnOnce(&mut World, Timestamp) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        self.change(|world, now| match &world.outage {
            Some(error) => Err(error.clone()),
            None => operation(world, now),
        })
    }
}

#[async_trait]
impl Engine for Sim {
    async fn create_sandbox(&self, spec: SandboxSpec) -> Result<(), EngineError> {
        self.operation(|world, now| world.create_sandbox(spec, now))
    }

    async fn remove_sandbox(&self, sandbox: &SandboxId) -> Result<(), EngineError> {
        self.operation(|world, now| {
            world.remove_sandbox(sandbox, now);
            Ok(())
        })
    }

    async fn start_container(
        &self,
        sandbox: &SandboxId,
        spec: ContainerSpec,
    ) -> Result<ContainerStatus, EngineError> {
        let waiting: oneshot::Receiver<_> =
            match self.operation(|world, now| world.begin_start(sandbox, spec, now))? {
                Begun::Done(status) => return Ok(*status),
                Begun::Waiting(receiver) => receiver,
            };
        waiting.await.unwrap_or_else(|_| {
            Err(EngineError::Internal { message: "the sandbox was removed during the start".to_owned() })
        })
    }

    async fn stop_container(
        &self,
        container: &ContainerId,
        signal: Signal,
        grace: Duration,
    ) -> Result<(), EngineError> {
        self.operation(|world, now| world.stop(container, signal, grace, now))
    }

    async fn kill_container(&self, container: &ContainerId, signal: Signal) -> Result<(), EngineError> {
        self.operation(|world, now| world.signal(container, signal, now))
    }

    async fn list(&self) -> Result<Vec<SandboxStatus>, EngineError> {
        self.operation(|world, _| Ok(world.list()))
    }

    async fn status(&self, container: &ContainerId) -> Result<ContainerStatus, EngineError> {
        self.operation(|world, _| world.status(container))
    }

    fn events(&self) -> EventStream {
        self.events.subscribe()
    }

    async fn read_log(
        &self,
        container: &ContainerId,
        position: LogPosition,
        bytes_max: usize,
    ) -> Result<LogChunk, EngineError> {
        self.operation(|world, _| world.read_log(container, position, bytes_max))
    }

    async fn release_log(&self, container: &ContainerId, position: LogPosition) -> Result<(), EngineError> {
        self.operation(|world, _| world.release_log(container, position))
    }

    async fn stats(&self, container: &ContainerId) -> Result<Stats, EngineError> {
        self.operation(|world, _| world.stats(container))
    }

    async fn exec(&self, container: &ContainerId, spec: ExecSpec) -> Result<Session, EngineError> {
        self.begin_exec(container, &spec)
    }

    async fn attach(&self, container: &ContainerId, spec: AttachSpec) -> Result<Session, EngineError> {
        self.begin_attach(container, spec)
    }

    async fn processes(&self, container: &ContainerId) -> Result<Vec<Process>, EngineError> {
        self.operation(|world, now| world.processes(container, now))
    }

    async fn stat_file(
        &self,
        root: &CopyRoot,
        path: &str,
        _follow: FollowLink,
    ) -> Result<FileStat, EngineError> {
        self.file(root, path).map(|(stat, _)| stat)
    }

    async fn copy_out(
        &self,
        root: &CopyRoot,
        path: &str,
        _follow: FollowLink,
    ) -> Result<(FileStat, Archive), EngineError> {
        let (stat, archive) = self.file(root, path)?;
        Ok((stat, Box::new(std::io::Cursor::new(archive))))
    }

    async fn copy_in(
        &self,
        root: &CopyRoot,
        directory: &str,
        archive: Archive,
        owner: CopyOwner,
    ) -> Result<(), EngineError> {
        self.take_archive(root, directory, archive, owner).await
    }

    async fn remove_container(&self, container: &ContainerId) -> Result<(), EngineError> {
        self.operation(|world, _| world.remove_container(container))
    }

    async fn stats_of_all(&self) -> Result<Vec<(ContainerId, Stats)>, EngineError> {
        self.operation(|world, _| Ok(world.stats_of_all()))
    }

    async fn pause_container(&self, container: &ContainerId) -> Result<(), EngineError> {
        self.operation(|world, now| world.pause(container, now))
    }

    async fn resume_container(&self, container: &ContainerId) -> Result<(), EngineError> {
        self.operation(|world, now| world.resume(container, now))
    }

    async fn health(&self, container: &ContainerId) -> Result<Option<HealthReport>, EngineError> {
        self.operation(|world, _| world.health(container))
    }

    async fn create_volume(&self, spec: VolumeSpec) -> Result<VolumeStatus, EngineError> {
        self.operation(|world, now| world.create_volume(&spec, now))
    }

    async fn remove_volume(&self, volume: &VolumeName) -> Result<(), EngineError> {
        self.operation(|world, _| world.remove_volume(volume))
    }

    async fn list_volumes(&self) -> Result<Vec<VolumeStatus>, EngineError> {
        self.operation(|world, _| Ok(world.list_volumes()))
    }
}

#[cfg(test)]
mod tests;
