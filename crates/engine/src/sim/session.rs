//! Sessions and copies of the fake: scripted, like all of it.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, watch};

use super::Sim;
use super::world::World;
use crate::error::EngineError;
use crate::log::Stream;
use crate::session::{
    AttachSpec, Chunk, ExecSpec, OutputFrom, SESSION_CHUNK_BYTES_MAX, SESSIONS_PER_CONTAINER_MAX, Session,
    SessionControl, SessionEnd, SessionInput, SessionStdin, Stdin, TerminalSize,
};
use crate::spec::{ContainerId, Signal};
use crate::status::ContainerState;

/// Chunks that a scripted session holds for a reader; a script that prints more is wrong.
const CHUNKS_MAX: usize = 4096;

/// What a program run by [`crate::Engine::exec`] does.
#[derive(Clone, Debug)]
pub struct ExecBehaviour {
    output: Vec<(Stream, Vec<u8>)>,
    then: Then,
}

#[derive(Clone, Debug)]
enum Then {
    Exits(i32),
    /// Gives its input back, and exits with 0 at its end.
    Echoes,
    /// Until a signal, or the container's end.
    Runs,
    Fails(EngineError),
}

impl ExecBehaviour {
    pub fn exits(code: i32) -> Self {
        Self { output: Vec::new(), then: Then::Exits(code) }
    }

    pub fn echoes() -> Self {
        Self { output: Vec::new(), then: Then::Echoes }
    }

    pub fn runs() -> Self {
        Self { output: Vec::new(), then: Then::Runs }
    }

    /// It cannot be run: not found (127), not executable (126), …
    pub fn cannot_start(exit_code: i32, message: &str) -> Self {
        let error = EngineError::Start { exit_code, message: message.to_owned() };
        Self { output: Vec::new(), then: Then::Fails(error) }
    }

    #[must_use]
    pub fn printing(mut self, stream: Stream, bytes: impl Into<Vec<u8>>) -> Self {
        self.output.push((stream, bytes.into()));
        self
    }
}

type Rule = (Arc<dyn Fn(&ExecSpec) -> bool + Send + Sync>, ExecBehaviour);

#[derive(Default)]
pub(super) struct Sessions {
    rules: Vec<Rule>,
    held: BTreeMap<u64, Held>,
    made: u64,
    /// What was asked of containers, for tests to look at.
    execs: Vec<(ContainerId, ExecSpec)>,
    typed: BTreeMap<ContainerId, Vec<u8>>,
    sizes: BTreeMap<ContainerId, TerminalSize>,
}

struct Held {
    container: ContainerId,
    kind: Kind,
    /// Dropped at the end, so that the reader sees it.
    output: Option<mpsc::Sender<Chunk>>,
    end: watch::Sender<Option<SessionEnd>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exec,
    Attached,
}

impl Sessions {
    fn add(&mut self, container: &ContainerId, kind: Kind) -> (u64, mpsc::Receiver<Chunk>) {
        self.made += 1;
        let (output, receiver) = mpsc::channel(CHUNKS_MAX);
        let end = watch::channel(None).0;
        self.held.insert(self.made, Held { container: container.clone(), kind, output: Some(output), end });
        (self.made, receiver)
    }

    fn print(&self, id: u64, stream: Stream, bytes: &[u8]) {
        let Some(output) = self.held.get(&id).and_then(|held| held.output.as_ref()) else { return };
        for piece in bytes.chunks(SESSION_CHUNK_BYTES_MAX) {
            // A reader that has gone away misses nothing.
            let _ = output.try_send(Chunk { stream, bytes: piece.to_vec() });
        }
    }

    fn end(&mut self, id: u64, code: Option<i32>) {
        let Some(held) = self.held.get_mut(&id) else { return };
        held.output = None;
        held.end.send_if_modified(|end| {
            end.is_none() && {
                *end = Some(SessionEnd { code });
                true
            }
        });
    }

    /// The container has ended.
    pub fn container_ended(&mut self, container: &ContainerId, code: Option<i32>) {
        let of: Vec<(u64, Kind)> = self
            .held
            .iter()
            .filter(|(_, held)| held.container == *container)
            .map(|(id, held)| (*id, held.kind))
            .collect();
        for (id, kind) in of {
            self.end(id, if kind == Kind::Exec { Some(137) } else { code });
        }
    }

    /// The container printed a line.
    pub fn container_printed(&self, container: &ContainerId, stream: Stream, line: &str) {
        for (id, held) in &self.held {
            if held.container == *container && held.kind == Kind::Attached {
                self.print(*id, stream, format!("{line}\n").as_bytes());
            }
        }
    }

    fn count(&self, container: &ContainerId) -> usize {
        self.held.values().filter(|held| held.container == *container && held.output.is_some()).count()
    }
}

impl Sim {
    /// Programs that [`crate::Engine::exec`] is asked for behave so when `matches`; of several rules
    /// the newest wins. Without a rule they exit with 0 and print nothing.
    pub fn when_exec(
        &self,
        matches: impl Fn(&ExecSpec) -> bool + Send + Sync + 'static,
        behaviour: ExecBehaviour,
    ) {
        self.world.lock().sessions.rules.push((Arc::new(matches), behaviour));
    }

    /// What was run in containers, oldest first.
    pub fn execs(&self) -> Vec<(ContainerId, ExecSpec)> {
        self.world.lock().sessions.execs.clone()
    }

    /// What attached sessions wrote to the container's input.
    pub fn typed(&self, container: &ContainerId) -> Vec<u8> {
        self.world.lock().sessions.typed.get(container).cloned().unwrap_or_default()
    }

    /// The size that the container's terminal was last given.
    pub fn terminal_size(&self, container: &ContainerId) -> Option<TerminalSize> {
        self.world.lock().sessions.sizes.get(container).copied()
    }

    /// Sessions that have not ended, of all kinds.
    pub fn open_sessions(&self, container: &ContainerId) -> usize {
        self.world.lock().sessions.count(container)
    }

    pub(super) fn begin_exec(
        &self,
        container: &ContainerId,
        spec: &ExecSpec,
    ) -> Result<Session, EngineError> {
        let (id, output) = self.operation(|world, _| world.exec(container, spec))?;
        let echoes = self.operation(|world, _| world.run_script(container, id, spec))?;
        let input = (spec.stdin == SessionStdin::Open).then(|| -> SessionInput {
            let container = container.clone();
            Box::new(Input {
                sim: self.clone(),
                id,
                container,
                kind: if echoes { To::Echo } else { To::Nobody },
            })
        });
        Ok(self.session(id, container, input, output))
    }

    pub(super) fn begin_attach(
        &self,
        container: &ContainerId,
        spec: AttachSpec,
    ) -> Result<Session, EngineError> {
        let (id, output) = self.operation(|world, _| world.attach(container, spec))?;
        let input = (spec.stdin == SessionStdin::Open).then(|| -> SessionInput {
            Box::new(Input { sim: self.clone(), id, container: container.clone(), kind: To::Container })
        });
        Ok(self.session(id, container, input, output))
    }

    fn session(
        &self,
        id: u64,
        container: &ContainerId,
        input: Option<SessionInput>,
        output: mpsc::Receiver<Chunk>,
    ) -> Session {
        let control = Control { sim: self.clone(), id, container: container.clone() };
        Session { input, output, control: Box::new(control) }
    }
}

impl World {
    fn exec(
        &mut self,
        container: &ContainerId,
        spec: &ExecSpec,
    ) -> Result<(u64, mpsc::Receiver<Chunk>), EngineError> {
        if !matches!(self.status(container)?.state, ContainerState::Running { .. }) {
            return Err(EngineError::NotRunning(container.clone()));
        }
        if self.sessions.count(container) >= SESSIONS_PER_CONTAINER_MAX {
            let message = format!("{container} has {SESSIONS_PER_CONTAINER_MAX} already");
            return Err(EngineError::Exhausted { resource: "sessions".to_owned(), message });
        }
        self.sessions.execs.push((container.clone(), spec.clone()));
        Ok(self.sessions.add(container, Kind::Exec))
    }

    /// Whether it echoes from now on.
    fn run_script(&mut self, container: &ContainerId, id: u64, spec: &ExecSpec) -> Result<bool, EngineError> {
        let rules = &self.sessions.rules;
        let behaviour = rules
            .iter()
            .rev()
            .find(|(matches, _)| matches(spec))
            .map_or_else(|| ExecBehaviour::exits(0), |(_, behaviour)| behaviour.clone());
        if let Some(size) = spec.terminal {
            self.sessions.sizes.insert(container.clone(), size);
        }
        for (stream, bytes) in &behaviour.output {
            self.sessions.print(id, *stream, bytes);
        }
        match behaviour.then {
            Then::Exits(code) => self.sessions.end(id, Some(code)),
            Then::Echoes => return Ok(true),
            Then::Runs => {}
            Then::Fails(error) => {
                self.sessions.held.remove(&id);
                return Err(error);
            }
        }
        Ok(false)
    }

    fn attach(
        &mut self,
        container: &ContainerId,
        spec: AttachSpec,
    ) -> Result<(u64, mpsc::Receiver<Chunk>), EngineError> {
        let state = self.status(container)?.state;
        let held = self.container_mut(container);
        if spec.stdin == SessionStdin::Open && held.spec.stdin == Stdin::Null {
            return Err(no_input(container));
        }
        let before: Vec<(Stream, Vec<u8>)> = match spec.output {
            OutputFrom::Start => held.printed().collect(),
            OutputFrom::Now => Vec::new(),
        };
        let (id, receiver) = self.sessions.add(container, Kind::Attached);
        for (stream, bytes) in before {
            self.sessions.print(id, stream, &bytes);
        }
        if let ContainerState::Exited { exit, .. } = state {
            self.sessions.end(id, exit.code);
        }
        Ok((id, receiver))
    }
}

/// What an engine says of an attempt to write to a container that reads nothing.
fn no_input(container: &ContainerId) -> EngineError {
    EngineError::Unsupported {
        what: format!("input for container {container}"),
        reason: "it was started without".to_owned(),
    }
}

struct Control {
    sim: Sim,
    id: u64,
    container: ContainerId,
}

#[async_trait]
impl SessionControl for Control {
    async fn resize(&self, size: TerminalSize) -> Result<(), EngineError> {
        self.sim.world.lock().sessions.sizes.insert(self.container.clone(), size);
        Ok(())
    }

    async fn signal(&self, signal: Signal) -> Result<(), EngineError> {
        let kind = self.sim.world.lock().sessions.held.get(&self.id).map(|held| held.kind);
        match kind {
            Some(Kind::Attached) => {
                self.sim.operation(|world, now| world.signal(&self.container, signal, now))
            }
            _ => {
                self.sim.world.lock().sessions.end(self.id, Some(128 + signal.0));
                Ok(())
            }
        }
    }

    async fn wait(&self) -> SessionEnd {
        let end = self.sim.world.lock().sessions.held.get(&self.id).map(|held| held.end.subscribe());
        let lost = SessionEnd { code: None };
        let Some(mut end) = end else { return lost };
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.unwrap_or(lost),
            Err(_) => lost,
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let mut world = self.sim.world.lock();
        world.sessions.end(self.id, Some(137));
        world.sessions.held.remove(&self.id);
    }
}

struct Input {
    sim: Sim,
    id: u64,
    container: ContainerId,
    kind: To,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Echo,
    Nobody,
    Container,
}

impl Input {
    fn close(&self) {
        if self.kind == To::Echo {
            self.sim.world.lock().sessions.end(self.id, Some(0));
        }
    }
}

impl AsyncWrite for Input {
    fn poll_write(self: Pin<&mut Self>, _context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut world = self.sim.world.lock();
        match self.kind {
            To::Echo => world.sessions.print(self.id, Stream::Stdout, bytes),
            To::Nobody => {}
            To::Container => {
                world.sessions.typed.entry(self.container.clone()).or_default().extend_from_slice(bytes);
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.close();
    }
}
