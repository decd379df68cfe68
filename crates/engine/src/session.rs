//! Sessions: a program run beside a container's own ([`crate::Engine::exec`]), and being attached to
//! the container's own program ([`crate::Engine::attach`]).
//!
//! A session belongs to whoever holds the [`Session`]. Dropping it ends a program that was started by
//! `exec`, as does the death of the process that held it; an attached container runs on.
//!
//! Input and output have bounds and push back: a program whose output nobody takes waits in its
//! `write`; an attached session that falls behind reads from the container's log, so that it neither
//! holds up the container nor loses a byte that the log still has.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

use crate::error::EngineError;
use crate::log::Stream;
use crate::spec::Signal;

/// Sessions of one container at a time; more are refused.
pub const SESSIONS_PER_CONTAINER_MAX: usize = 64;
/// Pieces of output that wait in a session before its program is held up.
pub const SESSION_CHUNKS_QUEUED_MAX: usize = 16;
/// The largest piece.
pub const SESSION_CHUNK_BYTES_MAX: usize = 64 * 1024;

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    pub rows: u16,
    pub columns: u16,
}

impl Default for TerminalSize {
    fn default() -> Self {
        Self { rows: 24, columns: 80 }
    }
}

/// Where a container's own program reads from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdin {
    /// `/dev/null`, or a terminal on which nobody types.
    #[default]
    Null,
    /// From attached sessions; the end of the first session that had it is the end of the input.
    Once,
    /// From attached sessions, one after another or several at once; it never ends.
    Open,
}

/// Whether a session writes to its program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionStdin {
    /// The program reads nothing.
    #[default]
    Closed,
    Open,
}

/// A program to run beside a container's own: in all its namespaces and its cgroup, with its
/// capabilities, system call filter and limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// As [`crate::ProcessSpec::args`].
    pub args: Vec<String>,
    /// `NAME=value`, on top of the container's own.
    pub env: Vec<String>,
    /// `None`: the container's. It must exist.
    pub working_dir: Option<String>,
    /// As [`crate::ProcessSpec::user`]. `None`: the container's.
    pub user: Option<String>,
    /// `Some`: standard streams are a new terminal of the container, whose output is all
    /// [`Stream::Stdout`].
    pub terminal: Option<TerminalSize>,
    pub stdin: SessionStdin,
}

impl ExecSpec {
    /// With defaults for all else: the container's environment, directory and user, pipes, no input.
    pub fn new(args: Vec<String>) -> Self {
        Self {
            args,
            env: Vec::new(),
            working_dir: None,
            user: None,
            terminal: None,
            stdin: SessionStdin::Closed,
        }
    }
}

/// Which output of a container an attached session gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputFrom {
    /// All that its log still has, and what comes.
    Start,
    /// What comes.
    Now,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachSpec {
    pub output: OutputFrom,
    /// `Open` needs a container whose [`crate::ContainerSpec::stdin`] is not `Null`.
    pub stdin: SessionStdin,
}

/// A piece of output, at most [`SESSION_CHUNK_BYTES_MAX`] bytes, exactly as the program wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub stream: Stream,
    pub bytes: Vec<u8>,
}

/// Bytes for the program. Shutting it down (or dropping it) is the end of the program's input, except
/// on a terminal and where the container's input is [`Stdin::Open`].
pub type SessionInput = Box<dyn AsyncWrite + Send + Unpin>;

/// How a session's program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEnd {
    /// 0 to 255; 128 + n when killed by signal n. `None`: nobody kept it.
    pub code: Option<i32>,
}

/// A running session.
pub struct Session {
    /// With [`SessionStdin::Open`].
    pub input: Option<SessionInput>,
    /// Ends when every holder of the program's output has closed it, or the container has ended.
    pub output: mpsc::Receiver<Chunk>,
    pub control: Box<dyn SessionControl>,
}

/// What can be done to a session's program.
#[async_trait]
pub trait SessionControl: Send + Sync {
    /// # Errors
    /// `Unsupported` where there is no terminal.
    async fn resize(&self, size: TerminalSize) -> Result<(), EngineError>;

    /// Sends a signal to the program: one that has ended takes it without complaint.
    async fn signal(&self, signal: Signal) -> Result<(), EngineError>;

    /// Returns once the program has ended; of an attached session, the container's. May be called
    /// again, and its future may be dropped.
    async fn wait(&self) -> SessionEnd;
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Session").field("input", &self.input.is_some()).finish_non_exhaustive()
    }
}

/// A process of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The host's number.
    pub pid: u32,
    /// The host's number.
    pub parent_pid: u32,
    /// As the host sees it.
    pub uid: u32,
    /// `R`, `S`, `D`, `Z`, … as in proc_pid_stat(5).
    pub state: char,
    pub threads: u32,
    pub cpu: Duration,
    pub resident_bytes: u64,
    /// Since its start.
    pub age: Duration,
    /// As `pts/0`; `None`: no terminal.
    pub terminal: Option<String>,
    /// Program and arguments, or the name in brackets of one that has none.
    pub command: Vec<String>,
}
