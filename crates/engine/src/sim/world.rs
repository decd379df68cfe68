//! The fake's state, and what happens to it. Synchronous; time is an argument.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use wharf_core::Timestamp;

use super::behaviour::{Behaviour, OnSignal};
use super::files::Files;
use super::session::Sessions;
use crate::error::EngineError;
use crate::event::{Event, EventKind};
use crate::health::{Health, HealthReport, Probe};
use crate::log::{LogChunk, LogPosition, LogRecord, RECORD_HEADER_BYTES, RECORD_TEXT_BYTES_MAX, Stream};
use crate::restart::{Asked, Ended, Verdict};
use crate::session::Process;
use crate::spec::{ContainerId, ContainerSpec, SandboxId, SandboxSpec, Signal, VolumeName};
use crate::status::{ContainerState, ContainerStatus, ExitStatus, SandboxStatus, Stats};
use crate::volume::{MountSource, VolumeSpec, VolumeStatus};

/// The first pid the fake gives.
const FIRST_PID: u32 = 1000;

type Rule = (Arc<dyn Fn(&ContainerSpec) -> bool + Send + Sync>, Behaviour);
type StartResult = Result<ContainerStatus, EngineError>;

#[derive(Default)]
pub(super) struct World {
    pub rules: Vec<Rule>,
    pub start_failures: VecDeque<EngineError>,
    pub sandbox_failures: VecDeque<EngineError>,
    pub outage: Option<EngineError>,
    pub events_to_lose: usize,
    pub sandboxes: BTreeMap<SandboxId, Sandbox>,
    pub containers: BTreeMap<ContainerId, Container>,
    pub sessions: Sessions,
    pub files: Files,
    pub volumes: BTreeMap<VolumeName, (VolumeSpec, Timestamp)>,
    events: Vec<Event>,
    /// By time, then by the order of their making.
    due: BTreeMap<(Timestamp, u64), Due>,
    made: u64,
    pids: u32,
}

pub(super) struct Sandbox {
    pub spec: SandboxSpec,
    created_at: Timestamp,
}

pub(super) struct Container {
    pub spec: ContainerSpec,
    pub signals: Vec<Signal>,
    pub stats: Stats,
    pub released: LogPosition,
    sandbox: SandboxId,
    behaviour: Behaviour,
    state: State,
    health: Option<Health>,
    restarts: u32,
    /// What was waited for before this run.
    waited: Duration,
    asked: Asked,
    log: Vec<LogRecord>,
    log_length: LogPosition,
}

enum State {
    Starting(Vec<oneshot::Sender<StartResult>>),
    Told(ContainerState),
}

enum Due {
    Started(ContainerId),
    Ended(ContainerId),
    Killed(ContainerId),
    StartedAgain(ContainerId),
}

pub(super) enum Begun {
    Done(Box<ContainerStatus>),
    Waiting(oneshot::Receiver<StartResult>),
}

impl World {
    pub fn take_events(&mut self) -> Vec<Event> {
        let mut events = std::mem::take(&mut self.events);
        let lost = self.events_to_lose.min(events.len());
        self.events_to_lose -= lost;
        events.drain(..lost);
        events
    }

    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    /// Does the first thing that is due at `now`.
    pub fn run_due(&mut self, now: Timestamp) {
        let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now) else { return };
        match entry.remove() {
            Due::Started(container) => {
                if let Some(State::Starting(_)) = self.containers.get(&container).map(|held| &held.state) {
                    self.finish_start(&container, now, None);
                }
            }
            Due::Ended(container) => {
                let end = self.running(&container).and_then(|held| held.behaviour.end);
                if let Some(end) = end {
                    self.exit(&container, now, end.code, end.oom_killed);
                }
            }
            Due::Killed(container) => {
                if self.running(&container).is_some() {
                    self.container_mut(&container).signals.push(Signal::KILL);
                    self.exit(&container, now, Some(137), false);
                }
            }
            Due::StartedAgain(container) => {
                let waits = |held: &Container| matches!(held.state, State::Told(ContainerState::Restarting { at, .. }) if at <= now);
                if self.containers.get(&container).is_some_and(waits) {
                    let held = self.container_mut(&container);
                    held.restarts += 1;
                    held.health = held.spec.health.is_some().then(Health::default);
                    self.finish_start(&container, now, None);
                }
            }
        }
    }

    pub fn create_sandbox(&mut self, spec: SandboxSpec, now: Timestamp) -> Result<(), EngineError> {
        if let Some(error) = self.sandbox_failures.pop_front() {
            return Err(error);
        }
        match self.sandboxes.get(&spec.id) {
            Some(held) if held.spec == spec => Ok(()),
            Some(_) => Err(EngineError::Conflict { what: format!("sandbox {}", spec.id) }),
            None => {
                self.sandboxes.insert(spec.id.clone(), Sandbox { spec, created_at: now });
                Ok(())
            }
        }
    }

    pub fn remove_sandbox(&mut self, sandbox: &SandboxId, now: Timestamp) {
        let held: Vec<ContainerId> = self
            .containers
            .iter()
            .filter(|(_, container)| container.sandbox == *sandbox)
            .map(|(id, _)| id.clone())
            .collect();
        for container in held {
            if self.running(&container).is_some() {
                self.container_mut(&container).asked = Asked::Yes;
                self.exit(&container, now, Some(137), false);
            }
            self.containers.remove(&container);
        }
        self.sandboxes.remove(sandbox);
    }

    pub fn begin_start(
        &mut self,
        sandbox: &SandboxId,
        spec: ContainerSpec,
        now: Timestamp,
    ) -> Result<Begun, EngineError> {
        let Some(within) = self.sandboxes.get(sandbox) else {
            return Err(EngineError::NoSandbox(sandbox.clone()));
        };
        for mount in &spec.mounts {
            match &mount.source {
                MountSource::Sandbox(volume) if !within.spec.volumes.contains(volume) => {
                    return Err(EngineError::NoVolume(volume.clone()));
                }
                MountSource::Named(volume) if !self.volumes.contains_key(volume) => {
                    return Err(EngineError::NoVolume(volume.clone()));
                }
                MountSource::Host(_) | MountSource::Sandbox(_) | MountSource::Named(_) => {}
            }
        }
        let id = spec.id.clone();
        if let Some(held) = self.containers.get_mut(&id) {
            if held.spec != spec || held.sandbox != *sandbox {
                return Err(EngineError::Conflict { what: format!("container {id}") });
            }
            return match &mut held.state {
                State::Starting(waiting) => {
                    let (sender, receiver) = oneshot::channel();
                    waiting.push(sender);
                    Ok(Begun::Waiting(receiver))
                }
                State::Told(_) => started(held.told()).map(|status| Begun::Done(Box::new(status))),
            };
        }
        let failure = self.start_failures.pop_front();
        if let Some(error) = &failure
            && !matches!(error, EngineError::Start { .. })
        {
            return Err(error.clone());
        }
        let behaviour = self
            .rules
            .iter()
            .rev()
            .find(|(matches, _)| matches(&spec))
            .map_or_else(Behaviour::runs, |(_, behaviour)| behaviour.clone());
        let start_after = behaviour.start_after;
        let container = Container {
            health: spec.health.is_some().then(Health::default),
            restarts: 0,
            waited: Duration::ZERO,
            asked: Asked::No,
            spec,
            signals: Vec::new(),
            stats: Stats::default(),
            released: 0,
            sandbox: sandbox.clone(),
            behaviour,
            state: State::Starting(Vec::new()),
            log: Vec::new(),
            log_length: 0,
        };
        self.containers.insert(id.clone(), container);
        self.tell(&id, now, EventKind::Created);
        if start_after.is_zero() || failure.is_some() {
            self.finish_start(&id, now, failure);
            return started(self.container_mut(&id).told()).map(|status| Begun::Done(Box::new(status)));
        }
        let (sender, receiver) = oneshot::channel();
        self.container_mut(&id).state = State::Starting(vec![sender]);
        self.schedule(now.plus(start_after), Due::Started(id));
        Ok(Begun::Waiting(receiver))
    }

    fn finish_start(&mut self, id: &ContainerId, now: Timestamp, failure: Option<EngineError>) {
        self.pids = self.pids.wrapping_add(1);
        let pid = FIRST_PID.wrapping_add(self.pids);
        let container = self.container_mut(id);
        let behaviour = container.behaviour.clone();
        let failure = failure.or(behaviour.start_error);
        let state = match &failure {
            None => ContainerState::Running { pid, started_at: now },
            Some(error) => {
                let code = match error {
                    EngineError::Start { exit_code, .. } => Some(*exit_code),
                    _ => None,
                };
                let exit = ExitStatus::never_ran(now, code, error.to_string());
                ContainerState::Exited { started_at: None, exit }
            }
        };
        let before = std::mem::replace(&mut container.state, State::Told(state));
        let told = container.told();
        let waiting = match before {
            State::Starting(waiting) => waiting,
            State::Told(_) => Vec::new(),
        };
        match &told.state {
            ContainerState::Exited { exit, .. } => self.tell(id, now, EventKind::Exited(exit.clone())),
            ContainerState::Paused { .. } | ContainerState::Restarting { .. } => {}
            ContainerState::Running { .. } => {
                self.tell(id, now, EventKind::Started { pid });
                for (stream, line) in &behaviour.output {
                    self.log(id, now, *stream, line);
                }
                match behaviour.end {
                    Some(end) if end.after.is_zero() => self.exit(id, now, end.code, end.oom_killed),
                    Some(end) => self.schedule(now.plus(end.after), Due::Ended(id.clone())),
                    None => {}
                }
            }
        }
        for sender in waiting {
            // The caller may have gone away.
            let _ = sender.send(started(told.clone()));
        }
    }

    pub fn stop(
        &mut self,
        container: &ContainerId,
        signal: Signal,
        grace: Duration,
        now: Timestamp,
    ) -> Result<(), EngineError> {
        self.resume(container, now)?;
        self.container_mut(container).asked = Asked::Yes;
        self.stay(container, now);
        self.signal(container, signal, now)?;
        if self.running(container).is_some() {
            self.schedule(now.plus(grace), Due::Killed(container.clone()));
        }
        Ok(())
    }

    pub fn signal(
        &mut self,
        container: &ContainerId,
        signal: Signal,
        now: Timestamp,
    ) -> Result<(), EngineError> {
        let held =
            self.containers.get_mut(container).ok_or_else(|| EngineError::NoContainer(container.clone()))?;
        if signal == Signal::KILL {
            held.asked = Asked::Yes;
            self.stay(container, now);
        }
        let held = self.container_mut(container);
        if !held.runs() {
            return Ok(());
        }
        held.signals.push(signal);
        let code = match held.behaviour.on_signal {
            _ if signal == Signal::KILL => Some(137),
            OnSignal::Dies => Some(128 + signal.0),
            OnSignal::Exits(code) => Some(code),
            OnSignal::Ignores => None,
        };
        if code.is_some() {
            self.exit(container, now, code, false);
        }
        Ok(())
    }

    /// Panics unless the container runs.
    pub fn exit(&mut self, container: &ContainerId, now: Timestamp, code: Option<i32>, oom_killed: bool) {
        let held = self.container_mut(container);
        let State::Told(
            ContainerState::Running { started_at, .. } | ContainerState::Paused { started_at, .. },
        ) = held.state
        else {
            panic!("container {container} is not running");
        };
        let exit = ExitStatus { oom_killed, ..ExitStatus::new(now, code) };
        let ended = Ended {
            exit_code: code,
            ran_for: now.since(started_at),
            restarts: held.restarts,
            waited: held.waited,
            asked: held.asked,
        };
        let verdict = held.spec.restart.as_ref().map_or(Verdict::Stays, |policy| policy.decide(ended));
        let kind = match verdict {
            Verdict::StartsAgain { after } => {
                held.waited = after;
                let at = now.plus(after);
                held.state = State::Told(ContainerState::Restarting { exit: exit.clone(), at });
                self.schedule(at, Due::StartedAgain(container.clone()));
                EventKind::Restarting { exit, at }
            }
            Verdict::Stays => {
                let started_at = Some(started_at);
                held.state = State::Told(ContainerState::Exited { started_at, exit: exit.clone() });
                EventKind::Exited(exit)
            }
        };
        self.sessions.container_ended(container, code);
        if oom_killed {
            self.tell(container, now, EventKind::OutOfMemory);
        }
        self.tell(container, now, kind);
    }

    /// One that waits to be started again does not.
    fn stay(&mut self, container: &ContainerId, now: Timestamp) {
        let held = self.container_mut(container);
        if let State::Told(ContainerState::Restarting { exit, .. }) = &held.state {
            let exit = exit.clone();
            // Its last start is not kept; it was before its end.
            held.state =
                State::Told(ContainerState::Exited { started_at: Some(exit.at), exit: exit.clone() });
            self.tell(container, now, EventKind::Exited(exit));
        }
    }

    pub fn pause(&mut self, container: &ContainerId, now: Timestamp) -> Result<(), EngineError> {
        let held =
            self.containers.get_mut(container).ok_or_else(|| EngineError::NoContainer(container.clone()))?;
        match held.state {
            State::Told(ContainerState::Running { pid, started_at }) => {
                held.state = State::Told(ContainerState::Paused { pid, started_at });
                self.tell(container, now, EventKind::Paused);
                Ok(())
            }
            State::Told(ContainerState::Paused { .. }) => Ok(()),
            _ => Err(EngineError::NotRunning(container.clone())),
        }
    }

    pub fn resume(&mut self, container: &ContainerId, now: Timestamp) -> Result<(), EngineError> {
        let held =
            self.containers.get_mut(container).ok_or_else(|| EngineError::NoContainer(container.clone()))?;
        if let State::Told(ContainerState::Paused { pid, started_at }) = held.state {
            held.state = State::Told(ContainerState::Running { pid, started_at });
            self.tell(container, now, EventKind::Resumed);
        }
        Ok(())
    }

    /// Panics unless the container runs and has a health check.
    pub fn probed(&mut self, container: &ContainerId, now: Timestamp, exit_code: Option<i32>) {
        let held = self.container_mut(container);
        let State::Told(ContainerState::Running { started_at, .. }) = held.state else {
            panic!("container {container} is not running");
        };
        let (Some(check), Some(health)) = (&held.spec.health, &mut held.health) else {
            panic!("container {container} has no health check");
        };
        let probe = Probe { started_at: now, ended_at: now, exit_code, output: String::new() };
        if let Some(status) = health.probed(check, started_at, probe) {
            self.tell(container, now, EventKind::Health(status));
        }
    }

    pub fn health(&self, container: &ContainerId) -> Result<Option<HealthReport>, EngineError> {
        let held =
            self.containers.get(container).ok_or_else(|| EngineError::NoContainer(container.clone()))?;
        Ok(held.health.as_ref().map(Health::report))
    }

    pub fn create_volume(&mut self, spec: &VolumeSpec, now: Timestamp) -> Result<VolumeStatus, EngineError> {
        let name = &spec.name;
        let (held, created_at) = self.volumes.entry(name.clone()).or_insert_with(|| (spec.clone(), now));
        let created_at = *created_at;
        if held != spec {
            return Err(EngineError::Conflict { what: format!("volume {name}") });
        }
        Ok(self.volume_status(name, spec, created_at))
    }

    pub fn remove_volume(&mut self, volume: &VolumeName) -> Result<(), EngineError> {
        if let Some(by) = self.users_of(volume).next() {
            return Err(EngineError::InUse {
                what: format!("volume {volume}"),
                by: format!("container {by}"),
            });
        }
        self.volumes.remove(volume);
        Ok(())
    }

    pub fn list_volumes(&self) -> Vec<VolumeStatus> {
        self.volumes.iter().map(|(name, (spec, at))| self.volume_status(name, spec, *at)).collect()
    }

    fn volume_status(&self, name: &VolumeName, spec: &VolumeSpec, created_at: Timestamp) -> VolumeStatus {
        VolumeStatus {
            name: name.clone(),
            labels: spec.labels.clone(),
            created_at,
            path: format!("/sim/volumes/{name}").into(),
            used_by: self.users_of(name).cloned().collect(),
        }
    }

    fn users_of<'a>(&'a self, volume: &'a VolumeName) -> impl Iterator<Item = &'a ContainerId> {
        let mounts = move |container: &Container| {
            container
                .spec
                .mounts
                .iter()
                .any(|mount| matches!(&mount.source, MountSource::Named(name) if name == volume))
        };
        self.containers.iter().filter(move |(_, container)| mounts(container)).map(|(id, _)| id)
    }

    /// Panics unless the container exists.
    pub fn log(&mut self, container: &ContainerId, now: Timestamp, stream: Stream, line: &str) {
        let held = self.container_mut(container);
        let mut chunks = line.as_bytes().chunks(RECORD_TEXT_BYTES_MAX).peekable();
        let mut text = chunks.next().unwrap_or_default();
        loop {
            let after = chunks.next();
            held.log_length += (RECORD_HEADER_BYTES + text.len()) as u64;
            held.log.push(LogRecord {
                unix_nanos: u64::try_from(now.as_millis()).unwrap_or(0).saturating_mul(1_000_000) | 1,
                stream,
                partial: after.is_some(),
                unterminated: false,
                text: text.to_vec(),
                next: held.log_length,
            });
            match after {
                Some(rest) => text = rest,
                None => break,
            }
        }
        let length = held.log_length;
        self.sessions.container_printed(container, stream, line);
        self.tell(container, now, EventKind::Logged { length });
    }

    pub fn list(&self) -> Vec<SandboxStatus> {
        let containers_of = |sandbox: &SandboxId| {
            self.containers
                .values()
                .filter(|held| held.sandbox == *sandbox && matches!(held.state, State::Told(_)))
                .map(Container::told)
                .collect()
        };
        self.sandboxes
            .iter()
            .map(|(id, held)| SandboxStatus {
                id: id.clone(),
                created_at: held.created_at,
                labels: held.spec.labels.clone(),
                containers: containers_of(id),
            })
            .collect()
    }

    pub fn status(&self, container: &ContainerId) -> Result<ContainerStatus, EngineError> {
        self.containers
            .get(container)
            .filter(|held| matches!(held.state, State::Told(_)))
            .map(Container::told)
            .ok_or_else(|| EngineError::NoContainer(container.clone()))
    }

    pub fn stats_of_all(&self) -> Vec<(ContainerId, Stats)> {
        self.containers
            .iter()
            .filter(|(_, held)| held.runs())
            .map(|(id, held)| (id.clone(), held.stats))
            .collect()
    }

    pub fn stats(&self, container: &ContainerId) -> Result<Stats, EngineError> {
        self.running(container)
            .map(|held| held.stats)
            .ok_or_else(|| EngineError::NoContainer(container.clone()))
    }

    pub fn read_log(
        &self,
        container: &ContainerId,
        position: LogPosition,
        bytes_max: usize,
    ) -> Result<LogChunk, EngineError> {
        let held =
            self.containers.get(container).ok_or_else(|| EngineError::NoContainer(container.clone()))?;
        let from = position.max(held.released);
        let mut chunk = LogChunk { next: from.min(held.log_length), ..LogChunk::default() };
        let mut bytes = 0;
        for record in held.log.iter().filter(|record| record.next > from) {
            bytes += RECORD_HEADER_BYTES + record.text.len();
            if bytes > bytes_max && !chunk.records.is_empty() {
                break;
            }
            chunk.next = record.next;
            chunk.records.push(record.clone());
        }
        chunk.ended =
            chunk.next == held.log_length && matches!(held.state, State::Told(ContainerState::Exited { .. }));
        Ok(chunk)
    }

    pub fn release_log(&mut self, container: &ContainerId, position: LogPosition) -> Result<(), EngineError> {
        let held =
            self.containers.get_mut(container).ok_or_else(|| EngineError::NoContainer(container.clone()))?;
        held.released = held.released.max(position.min(held.log_length));
        let released = held.released;
        held.log.retain(|record| record.next > released);
        Ok(())
    }

    /// One a container: the fake has no others.
    pub fn processes(&self, container: &ContainerId, now: Timestamp) -> Result<Vec<Process>, EngineError> {
        let ContainerState::Running { pid, started_at } = self.status(container)?.state else {
            return Err(EngineError::NotRunning(container.clone()));
        };
        let command = self.containers.get(container).map(|held| held.spec.process.args.clone());
        Ok(vec![Process {
            pid,
            parent_pid: 1,
            uid: 0,
            state: 'S',
            threads: 1,
            cpu: Duration::ZERO,
            resident_bytes: 0,
            age: now.since(started_at),
            terminal: None,
            command: command.unwrap_or_default(),
        }])
    }

    pub fn remove_container(&mut self, container: &ContainerId) -> Result<(), EngineError> {
        if self.running(container).is_some() {
            return Err(EngineError::Conflict { what: format!("container {container} runs, and") });
        }
        self.containers.remove(container);
        Ok(())
    }

    /// Panics unless the container exists.
    pub fn container_mut(&mut self, container: &ContainerId) -> &mut Container {
        self.containers.get_mut(container).unwrap_or_else(|| panic!("container {container} does not exist"))
    }

    fn running(&self, container: &ContainerId) -> Option<&Container> {
        self.containers.get(container).filter(|held| held.runs())
    }

    fn schedule(&mut self, at: Timestamp, due: Due) {
        self.made += 1;
        self.due.insert((at, self.made), due);
    }

    fn tell(&mut self, container: &ContainerId, at: Timestamp, kind: EventKind) {
        let sandbox = self.container_mut(container).sandbox.clone();
        self.events.push(Event { at, sandbox, container: container.clone(), kind });
    }
}

impl Container {
    /// Its output, as it was written.
    pub fn printed(&self) -> impl Iterator<Item = (Stream, Vec<u8>)> {
        self.log.iter().map(|record| {
            let mut bytes = record.text.clone();
            if !record.partial {
                bytes.push(b'\n');
            }
            (record.stream, bytes)
        })
    }

    /// Panics while it starts: nobody is told of it before.
    fn told(&self) -> ContainerStatus {
        let State::Told(state) = &self.state else { panic!("container {} is starting", self.spec.id) };
        ContainerStatus {
            id: self.spec.id.clone(),
            sandbox: self.sandbox.clone(),
            state: state.clone(),
            labels: self.spec.labels.clone(),
            health: self.health.as_ref().map(Health::status),
            restarts: self.restarts,
        }
    }

    fn runs(&self) -> bool {
        matches!(self.state, State::Told(ContainerState::Running { .. } | ContainerState::Paused { .. }))
    }
}

/// What `start_container` answers for a container in this state.
fn started(status: ContainerStatus) -> StartResult {
    match status.state {
        ContainerState::Exited { exit: ExitStatus { start_error: Some(message), code, .. }, .. } => {
            Err(EngineError::Start { exit_code: code.unwrap_or(128), message })
        }
        ContainerState::Running { .. }
        | ContainerState::Paused { .. }
        | ContainerState::Restarting { .. }
        | ContainerState::Exited { .. } => Ok(status),
    }
}
