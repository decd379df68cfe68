//! The client's side of a session: its own connection to the keeper, the descriptors that come over
//! it, and the tasks that carry bytes between them and the [`Session`].

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use wharf_engine::log::Stream;
use wharf_engine::session::{
    AttachSpec, Chunk, ExecSpec, OutputFrom, Process, SESSION_CHUNKS_QUEUED_MAX, Session, SessionControl,
    SessionEnd, SessionInput, SessionStdin, TerminalSize,
};
use wharf_engine::{ContainerId, Engine as _, EngineError, Signal};

use super::{KeeperEngine, start, unexpected};
use crate::keeper::{DESCRIPTORS_MAX, exit_of};
use crate::protocol::{
    Answer, Call, HELLO_BYTES, ProtocolError, Request, SessionEnds, Told, decode, encode, hello, read_hello,
};

const CALL_NUMBER: u64 = 1;
const READ_BYTES: usize = 16 * 1024;
/// Of a log, at once.
const LOG_BYTES: usize = 256 * 1024;

pub fn broken(error: impl std::fmt::Display) -> EngineError {
    EngineError::Internal { message: format!("the connection to the keeper: {error}") }
}

/// A connection of a session's own.
pub struct Connection {
    stream: UnixStream,
    inbox: Vec<u8>,
    pub descriptors: Vec<OwnedFd>,
}

impl Connection {
    pub async fn open(engine: &KeeperEngine) -> Result<Self, EngineError> {
        let config = &engine.shared.config;
        let mut stream = match start::connect(config).await {
            Ok(stream) => stream,
            Err(_) => {
                // There is none: whoever carries the engine's own connection starts one.
                engine.list().await?;
                start::connect(config).await.map_err(broken)?
            }
        };
        stream.write_all(&hello(config.protocol)).await.map_err(broken)?;
        let mut theirs = [0; HELLO_BYTES];
        stream.read_exact(&mut theirs).await.map_err(broken)?;
        let keeper = read_hello(theirs).map_err(broken)?;
        if keeper != config.protocol {
            return Err(broken(ProtocolError::Version { keeper, client: config.protocol }));
        }
        Ok(Self { stream, inbox: Vec::new(), descriptors: Vec::new() })
    }

    pub async fn call(&mut self, request: Request) -> Result<Answer, EngineError> {
        let mut frame = Vec::new();
        encode(&Call { number: CALL_NUMBER, request }, &mut frame).map_err(broken)?;
        self.stream.write_all(&frame).await.map_err(broken)?;
        loop {
            match self.next().await.map_err(broken)? {
                Told::Reply { result, .. } => return result,
                Told::Event(_) | Told::Lagged | Told::LogGrew => {}
                Told::SessionEnded { .. } | Told::ShutDown => return Err(broken("it has ended")),
            }
        }
    }

    /// May be cancelled.
    async fn next(&mut self) -> io::Result<Told> {
        loop {
            if let Some((message, length)) = decode(&self.inbox).map_err(io::Error::other)? {
                self.inbox.drain(..length);
                return Ok(message);
            }
            self.stream.readable().await?;
            let (stream, inbox, descriptors) = (&self.stream, &mut self.inbox, &mut self.descriptors);
            match stream.try_io(Interest::READABLE, || receive(stream, inbox, descriptors)) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn receive(stream: &UnixStream, inbox: &mut Vec<u8>, descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut bytes = [0; 4096];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        stream,
        &mut [io::IoSliceMut::new(&mut bytes)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            descriptors.extend(came);
        }
    }
    inbox.extend_from_slice(&bytes[..received.bytes]);
    Ok(received.bytes)
}

/// A descriptor that is no socket: a pipe's end, or a terminal's master. Clones share it.
#[derive(Clone)]
pub struct End(Arc<AsyncFd<OwnedFd>>);

impl End {
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        // SAFETY: an OwnedFd is one and the same descriptor, open until the AsyncFd that owns it drops it.
        let registered = unsafe { AsyncFd::register(fd) }?;
        Ok(Self(Arc::new(registered)))
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let read = guard.try_io(|fd| {
                let length = rustix::io::read(fd.get_ref(), buffer.initialize_unfilled())?;
                Ok(length)
            });
            match read {
                Ok(Ok(length)) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                // How a master tells that nobody has the terminal any more.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            match guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                Ok(written) => return Poll::Ready(written),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A pipe's write end, closed by its shutdown.
struct PipeInput(Option<End>);

impl AsyncWrite for PipeInput {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Some(end) => Pin::new(end).poll_write(context, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0 = None;
        Poll::Ready(Ok(()))
    }
}

/// Whom a signal goes to.
enum Target {
    /// The session's own program.
    Program(Arc<AsyncFd<OwnedFd>>),
    Container(KeeperEngine, ContainerId),
}

struct Control {
    end: watch::Receiver<Option<SessionEnd>>,
    terminal: Option<End>,
    target: Target,
    tasks: Vec<JoinHandle<()>>,
}

#[async_trait]
impl SessionControl for Control {
    async fn resize(&self, size: TerminalSize) -> Result<(), EngineError> {
        let Some(terminal) = &self.terminal else {
            return Err(EngineError::Unsupported {
                what: "the size of a terminal".to_owned(),
                reason: "the session has none".to_owned(),
            });
        };
        wharf_engine_embedded::terminal::set_size(terminal.0.get_ref(), size)
            .map_err(|error| EngineError::Internal { message: io::Error::from(error).to_string() })
    }

    async fn signal(&self, signal: Signal) -> Result<(), EngineError> {
        match &self.target {
            Target::Program(pidfd) => crate::keeper::signal(pidfd.get_ref(), signal).map_err(|error| {
                EngineError::Unsupported { what: format!("signal {}", signal.0), reason: error.to_string() }
            }),
            Target::Container(engine, container) => engine.kill_container(container, signal).await,
        }
    }

    async fn wait(&self) -> SessionEnd {
        let lost = SessionEnd { code: None };
        match self.end.clone().wait_for(Option::is_some).await {
            Ok(end) => end.unwrap_or(lost),
            Err(_) => lost,
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The connection goes with its task: for the keeper the end of the session.
        for task in &self.tasks {
            task.abort();
        }
    }
}

pub async fn exec(
    engine: &KeeperEngine,
    container: &ContainerId,
    spec: ExecSpec,
) -> Result<Session, EngineError> {
    let wants_input = spec.stdin == SessionStdin::Open;
    let mut connection = Connection::open(engine).await?;
    let request = Request::Exec { container: container.clone(), spec };
    let ends = match connection.call(request).await? {
        Answer::Session { ends, .. } => ends,
        other => return unexpected(&other),
    };
    let mut descriptors = std::mem::take(&mut connection.descriptors).into_iter();
    let lacks = || broken("a descriptor is missing");
    let pidfd = descriptors.next().ok_or_else(lacks)?;
    // SAFETY: as in `End::new`.
    let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }.map_err(broken)?;
    let pidfd = Arc::new(pidfd);
    let mut next = || descriptors.next().ok_or_else(lacks).and_then(|fd| End::new(fd).map_err(broken));
    let (sender, output) = mpsc::channel(SESSION_CHUNKS_QUEUED_MAX);
    let (mut input, mut terminal): (Option<SessionInput>, _) = (None, None);
    let mut tasks = Vec::new();
    match ends {
        SessionEnds::Terminal => {
            let master = next()?;
            if wants_input {
                input = Some(Box::new(master.clone()));
            }
            tasks.push(tokio::spawn(pump(master.clone(), Stream::Stdout, sender)));
            terminal = Some(master);
        }
        SessionEnds::PipesWithStdin | SessionEnds::Pipes => {
            if ends == SessionEnds::PipesWithStdin {
                input = Some(Box::new(PipeInput(Some(next()?))));
            }
            tasks.push(tokio::spawn(pump(next()?, Stream::Stdout, sender.clone())));
            tasks.push(tokio::spawn(pump(next()?, Stream::Stderr, sender)));
        }
    }
    let (told, end) = watch::channel(None);
    let watched = Arc::clone(&pidfd);
    tasks.push(tokio::spawn(async move {
        let ended = wait_for_end(&mut connection).await;
        let ended = match ended {
            Some(ended) => ended,
            // The keeper is gone: the kernel keeps the code for who holds a pidfd.
            None => {
                let _ = watched.readable().await;
                SessionEnd { code: exit_of(watched.get_ref().as_fd()) }
            }
        };
        let _ = told.send(Some(ended));
        // Held until the session is dropped, or the keeper goes.
        while connection.next().await.is_ok() {}
    }));
    let control = Control { end, terminal, target: Target::Program(pidfd), tasks };
    Ok(Session { input, output, control: Box::new(control) })
}

async fn wait_for_end(connection: &mut Connection) -> Option<SessionEnd> {
    loop {
        match connection.next().await {
            Ok(Told::SessionEnded { end, .. }) => return Some(end),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

/// Carries output until its end, or until nobody takes it.
async fn pump(mut from: End, stream: Stream, to: mpsc::Sender<Chunk>) {
    let mut bytes = vec![0; READ_BYTES];
    loop {
        match from.read(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                if to.send(Chunk { stream, bytes: bytes[..length].to_vec() }).await.is_err() {
                    return;
                }
            }
        }
    }
}

pub async fn attach(
    engine: &KeeperEngine,
    container: &ContainerId,
    spec: AttachSpec,
) -> Result<Session, EngineError> {
    let mut connection = Connection::open(engine).await?;
    let request = Request::Attach { container: container.clone(), stdin: spec.stdin };
    let (log_length, terminal, has_input) = match connection.call(request).await? {
        Answer::Attached { log_length, terminal, input } => (log_length, terminal, input),
        other => return unexpected(&other),
    };
    let end = match std::mem::take(&mut connection.descriptors).into_iter().next() {
        Some(fd) if has_input => Some(End::new(fd).map_err(broken)?),
        _ => None,
    };
    let wants_input = spec.stdin == SessionStdin::Open;
    let (input, terminal): (Option<SessionInput>, _) = match end {
        Some(master) if terminal => {
            (wants_input.then(|| -> SessionInput { Box::new(master.clone()) }), Some(master))
        }
        Some(pipe) => (Some(Box::new(PipeInput(Some(pipe)))), None),
        None => (None, None),
    };
    let position = match spec.output {
        OutputFrom::Start => 0,
        OutputFrom::Now => log_length,
    };
    let (sender, output) = mpsc::channel(SESSION_CHUNKS_QUEUED_MAX);
    let (told, ended) = watch::channel(None);
    let (engine_of_task, id) = (engine.clone(), container.clone());
    let task = tokio::spawn(async move {
        follow(&engine_of_task, &id, position, connection, sender, told).await;
    });
    let target = Target::Container(engine.clone(), container.clone());
    let control = Control { end: ended, terminal, target, tasks: vec![task] };
    Ok(Session { input, output, control: Box::new(control) })
}

/// Reads the container's log from `position` on, whenever the keeper says that there is more.
async fn follow(
    engine: &KeeperEngine,
    container: &ContainerId,
    mut position: u64,
    mut connection: Connection,
    to: mpsc::Sender<Chunk>,
    told: watch::Sender<Option<SessionEnd>>,
) {
    let mut end = None;
    loop {
        // Everything there is.
        while position != u64::MAX {
            let Ok(chunk) = engine.read_log(container, position, LOG_BYTES).await else { break };
            if chunk.records.is_empty() {
                break;
            }
            position = chunk.next;
            for piece in join(chunk.records) {
                if to.send(piece).await.is_err() {
                    return;
                }
            }
        }
        if let Some(end) = end {
            drop(to);
            let _ = told.send(Some(end));
            return;
        }
        end = match connection.next().await {
            Ok(Told::SessionEnded { end, .. }) => Some(end),
            Ok(_) => None,
            // The keeper is gone; another has the container, and tells its end as every container's.
            Err(_) => Some(wait_without_keeper(engine, container).await),
        };
    }
}

async fn wait_without_keeper(engine: &KeeperEngine, container: &ContainerId) -> SessionEnd {
    let code = match engine.wait_container(container).await {
        Ok(exit) => exit.code,
        Err(_) => None,
    };
    SessionEnd { code }
}

/// Records as the bytes that were written, those of one stream together.
fn join(records: Vec<wharf_engine::log::LogRecord>) -> Vec<Chunk> {
    let mut pieces: Vec<Chunk> = Vec::new();
    for record in records {
        let mut bytes = record.text;
        if !record.partial && !record.unterminated {
            bytes.push(b'\n');
        }
        match pieces.last_mut() {
            Some(last)
                if last.stream == record.stream
                    && last.bytes.len() + bytes.len() <= wharf_engine::session::SESSION_CHUNK_BYTES_MAX =>
            {
                last.bytes.extend_from_slice(&bytes);
            }
            _ => pieces.push(Chunk { stream: record.stream, bytes }),
        }
    }
    pieces
}

/// What the kernel says of processes, in the order of their pids. What has ended meanwhile is left out.
pub async fn processes(engine: &KeeperEngine, container: &ContainerId) -> Result<Vec<Process>, EngineError> {
    let pids = match engine.call(Request::Processes(container.clone())).await? {
        Answer::Processes(pids) => pids,
        other => return unexpected(&other),
    };
    let read = tokio::task::spawn_blocking(move || crate::processes::read(&pids)).await;
    read.map_err(|error| EngineError::Internal { message: error.to_string() })
}
