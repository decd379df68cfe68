//! The connection to the keeper, and the task that carries it: numbers calls, matches answers, passes
//! events on, and gets a new connection when one breaks.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use wharf_core::{Clock, SystemClock};
use wharf_engine::{
    ContainerId, ContainerState, ContainerStatus, EngineError, Event, EventKind, SandboxId, SandboxStatus,
};

use super::{Command, Connected, KeeperError, Known, Run, Shared, start};
use crate::config::KeeperConfig;
use crate::protocol::{
    Answer, Call, HELLO_BYTES, ProtocolError, Request, RequestNumber, Told, decode, encode, hello, read_hello,
};

const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Between a keeper that served and a keeper that was told to serve, others may come and go.
const CONNECT_ATTEMPTS_MAX: u32 = 12;
const CONNECT_BACKOFF: Duration = Duration::from_millis(20);
const READ_BYTES: usize = 64 * 1024;
/// The number of our own call to list after a connection or a gap.
const OWN_LIST: RequestNumber = 0;

pub struct Link {
    stream: UnixStream,
    inbox: Vec<u8>,
}

impl Link {
    pub async fn connect_or_start(config: &KeeperConfig) -> Result<(Self, Connected), KeeperError> {
        start::make_dir(config)?;
        let mut connected = Connected::Found;
        let mut backoff = CONNECT_BACKOFF;
        let mut attempts = 0;
        let mut has_handed_over = false;
        loop {
            attempts += 1;
            match Self::connect(config).await {
                Ok(link) => return Ok((link, connected)),
                // It died between two words, or another is about to serve.
                Err(KeeperError::Connect(error)) if attempts < CONNECT_ATTEMPTS_MAX => {
                    let started = match start::says_nobody_is_there(&error) {
                        true => start::start(config).await?,
                        false => start::Started::Another,
                    };
                    if started == start::Started::Ours {
                        connected = Connected::Started;
                    } else {
                        tokio::time::sleep(backoff).await;
                        backoff *= 2;
                    }
                }
                Err(KeeperError::Protocol(ProtocolError::Version { keeper, client }))
                    if keeper < client && !has_handed_over =>
                {
                    tracing::info!(keeper, client, "an older keeper is asked to hand over");
                    start::hand_over(config, keeper).await?;
                    has_handed_over = true;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn connect(config: &KeeperConfig) -> Result<Self, KeeperError> {
        let mut stream = start::connect(config).await.map_err(KeeperError::Connect)?;
        let greeting = async {
            stream.write_all(&hello(config.protocol)).await?;
            let mut theirs = [0; HELLO_BYTES];
            stream.read_exact(&mut theirs).await?;
            Ok::<_, io::Error>(theirs)
        };
        let theirs = tokio::time::timeout(HELLO_TIMEOUT, greeting)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(KeeperError::Connect)?;
        let keeper = read_hello(theirs)?;
        if keeper != config.protocol {
            return Err(ProtocolError::Version { keeper, client: config.protocol }.into());
        }
        Ok(Self { stream, inbox: Vec::new() })
    }

    pub fn keeper_pid(&self) -> Option<u32> {
        self.stream.peer_cred().ok().and_then(|peer| peer.pid()).and_then(|pid| u32::try_from(pid).ok())
    }

    async fn send(&mut self, number: RequestNumber, request: &Request) -> Result<(), SendError> {
        let mut frame = Vec::new();
        encode(&Call { number, request: request.clone() }, &mut frame).map_err(SendError::Refused)?;
        self.stream.write_all(&frame).await.map_err(|_| SendError::Broken)
    }

    /// Reads more; an error means that the connection is of no use. May be cancelled.
    async fn receive(&mut self) -> io::Result<()> {
        self.inbox.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.inbox).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The messages that are whole.
    fn messages(&mut self) -> io::Result<Vec<Told>> {
        let (mut messages, mut used) = (Vec::new(), 0);
        while let Some((message, length)) = decode(&self.inbox[used..]).map_err(io::Error::other)? {
            messages.push(message);
            used += length;
        }
        self.inbox.drain(..used);
        Ok(messages)
    }
}

enum SendError {
    Refused(ProtocolError),
    Broken,
}

/// Why a connection was given up.
enum Parted {
    Broken,
    /// The keeper was told to shut down, and did.
    Shutdown,
    /// Nobody holds the engine any more.
    Unused,
}

/// Calls that wait for an answer.
struct Pending {
    calls: BTreeMap<RequestNumber, Command>,
    last: RequestNumber,
}

/// Carries the connection until the engine is dropped or shut down.
pub async fn carry(mut link: Link, mut commands: mpsc::Receiver<Command>, shared: Arc<Shared>) {
    let mut pending = Pending { calls: BTreeMap::new(), last: OWN_LIST };
    loop {
        let parted = session(&mut link, &mut commands, &mut pending, &shared).await;
        *shared.keeper_pid.lock() = None;
        match parted {
            Parted::Shutdown | Parted::Unused => return,
            Parted::Broken => tracing::warn!("the connection to the keeper is lost: connecting again"),
        }
        link = loop {
            match Link::connect_or_start(&shared.config).await {
                Ok((link, _)) => break link,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "no keeper");
                    let error = EngineError::Internal { message: error.to_string() };
                    for (_, command) in std::mem::take(&mut pending.calls) {
                        // The caller may have gone away.
                        let _ = command.reply.send(Err(error.clone()));
                    }
                }
            }
            // Tried again when there is something to ask for.
            match commands.recv().await {
                Some(command) => pending.add(command),
                None => return,
            };
        };
        *shared.keeper_pid.lock() = link.keeper_pid();
    }
}

async fn session(
    link: &mut Link,
    commands: &mut mpsc::Receiver<Command>,
    pending: &mut Pending,
    shared: &Shared,
) -> Parted {
    if let Err(SendError::Broken) = link.send(OWN_LIST, &Request::List).await {
        return Parted::Broken;
    }
    // From the last connection: every operation may be repeated.
    for number in pending.calls.keys().copied().collect::<Vec<_>>() {
        if let Err(SendError::Broken) = pending.send(number, link).await {
            return Parted::Broken;
        }
    }
    let mut is_shut_down = false;
    loop {
        tokio::select! {
            // First: an engine that nobody holds must not start another keeper.
            biased;
            command = commands.recv() => {
                let Some(command) = command else { return Parted::Unused };
                let number = pending.add(command);
                if let Err(SendError::Broken) = pending.send(number, link).await {
                    return if is_shut_down { Parted::Shutdown } else { Parted::Broken };
                }
            }
            received = link.receive() => {
                let messages = received.and_then(|()| link.messages());
                let Ok(messages) = messages else {
                    return if is_shut_down { Parted::Shutdown } else { Parted::Broken };
                };
                for message in messages {
                    match message {
                        Told::Event(event) => shared.pass_on(event),
                        Told::Lagged => {
                            tracing::warn!("the keeper dropped events: listing again");
                            if let Err(SendError::Broken) = link.send(OWN_LIST, &Request::List).await {
                                return Parted::Broken;
                            }
                        }
                        Told::Reply { number: OWN_LIST, result } => {
                            if let Ok(Answer::Sandboxes(sandboxes)) = result {
                                shared.catch_up(&sandboxes);
                            }
                        }
                        Told::Reply { number, result } => {
                            pending.answer(number, result, shared);
                        }
                        // Those of a session alone, which has its own connection.
                        Told::LogGrew | Told::SessionEnded { .. } => {}
                        Told::ShutDown => is_shut_down = true,
                    }
                }
            }
        }
    }
}

impl Pending {
    fn add(&mut self, command: Command) -> RequestNumber {
        self.last += 1;
        self.calls.insert(self.last, command);
        self.last
    }

    async fn send(&mut self, number: RequestNumber, link: &mut Link) -> Result<(), SendError> {
        let Some(command) = self.calls.get(&number) else { return Ok(()) };
        match link.send(number, &command.request).await {
            Err(SendError::Refused(error)) => {
                let error = EngineError::Unsupported {
                    what: "a request of this size".to_owned(),
                    reason: error.to_string(),
                };
                if let Some(command) = self.calls.remove(&number) {
                    // The caller may have gone away.
                    let _ = command.reply.send(Err(error));
                }
                Ok(())
            }
            sent => sent,
        }
    }

    /// Passes an answer on. Returns whether it says that the keeper has shut down.
    fn answer(&mut self, number: RequestNumber, result: Result<Answer, EngineError>, shared: &Shared) {
        let Some(Command { request, reply }) = self.calls.remove(&number) else { return };
        match (&request, &result) {
            (Request::StartContainer { .. }, Ok(Answer::Container(status))) => {
                shared.learn(&status.id, &status.sandbox, Known::of(status));
            }
            (Request::RemoveSandbox(sandbox), Ok(_)) => shared.forget(sandbox),
            _ => {}
        }
        // The caller may have gone away.
        let _ = reply.send(result);
    }
}

impl Shared {
    fn pass_on(&self, event: Event) {
        match &event.kind {
            EventKind::Started { pid } => {
                let run = Run { pid: Some(*pid), health: None };
                self.learn(&event.container, &event.sandbox, Known::Running(run));
            }
            EventKind::Exited(_) => {
                self.learn(&event.container, &event.sandbox, Known::Exited);
            }
            EventKind::Health(health) => {
                if let Some((_, Known::Running(run))) = self.known.lock().get_mut(&event.container) {
                    run.health = Some(*health);
                }
            }
            EventKind::Created
            | EventKind::OutOfMemory
            | EventKind::Paused
            | EventKind::Resumed
            | EventKind::Restarting { .. }
            | EventKind::Logged { .. } => {}
        }
        // No receiver is no error.
        let _ = self.events.send(event);
    }

    /// An exit is never taken back: an answer may be overtaken by an event.
    fn learn(&self, container: &ContainerId, sandbox: &SandboxId, is: Known) {
        let mut known = self.known.lock();
        let held = known.entry(container.clone()).or_insert_with(|| (sandbox.clone(), is));
        match (held.1, is) {
            (_, Known::Exited) => held.1 = is,
            (Known::Running(_), Known::Running(run)) if run.pid.is_some() => held.1 = is,
            (Known::Running(_) | Known::Exited, Known::Running(_)) => {}
        }
    }

    fn forget(&self, sandbox: &SandboxId) {
        self.known.lock().retain(|_, (of, _)| of != sandbox);
    }

    /// Tells what happened while nobody listened.
    fn catch_up(&self, sandboxes: &[SandboxStatus]) {
        let now = SystemClock.now();
        let mut missed = Vec::new();
        let mut known = self.known.lock();
        let mut found = std::collections::HashMap::new();
        for container in sandboxes.iter().flat_map(|sandbox| &sandbox.containers) {
            let is = Known::of(container);
            let was = known.get(&container.id).map(|(_, was)| *was);
            found.insert(container.id.clone(), (container.sandbox.clone(), is));
            let mut kinds = Vec::new();
            match (is, &container.state, was) {
                (Known::Running(run), _, Some(Known::Running(before))) if run.pid == before.pid => {
                    kinds.extend(run.health.filter(|_| run.health != before.health).map(EventKind::Health));
                }
                (_, ContainerState::Running { pid, .. } | ContainerState::Paused { pid, .. }, _) => {
                    kinds.push(EventKind::Started { pid: *pid });
                    kinds.extend(container.health.map(EventKind::Health));
                }
                (_, ContainerState::Exited { exit, .. }, was) if was != Some(Known::Exited) => {
                    kinds.push(EventKind::Exited(exit.clone()));
                }
                _ => {}
            }
            for kind in kinds {
                let (sandbox, container) = (container.sandbox.clone(), container.id.clone());
                missed.push(Event { at: now, sandbox, container, kind });
            }
        }
        *known = found;
        drop(known);
        for event in missed {
            // No receiver is no error.
            let _ = self.events.send(event);
        }
    }
}

impl Known {
    fn of(status: &ContainerStatus) -> Self {
        let pid = match &status.state {
            ContainerState::Running { pid, .. } | ContainerState::Paused { pid, .. } => Some(*pid),
            ContainerState::Restarting { .. } => None,
            ContainerState::Exited { .. } => return Self::Exited,
        };
        Self::Running(Run { pid, health: status.health })
    }
}
