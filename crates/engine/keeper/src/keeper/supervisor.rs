//! The supervisor: the keeper's parent. It does next to nothing, so that it need never be replaced.
//!
//! - It is the subreaper of all that a keeper leaves when it dies: a container that ends while no
//!   keeper lives stays a zombie, with its exit code, until the next keeper has read it.
//! - It holds the pipes of every container open, so that the last output of such a container waits.
//! - It starts another keeper when one has died, and becomes the next release's supervisor when it
//!   is told to: the same process, whose children the containers then still are.
//! - When it is killed itself, the keeper takes its place, and forks a keeper.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags};
use rustix::time::Timespec;
use serde::{Deserialize, Serialize};
use wharf_engine::ContainerId;
use wharf_engine::log::Stream;

use super::daemon::{self, Starter};
use super::output::Now;
use super::process;
use crate::config::{KeeperConfig, LOCK_ARGUMENT};
use crate::paths;

/// One message. An upgrade's command line is the longest.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Messages that wait for a supervisor that does not read.
const WAITING_MAX: usize = 64 * 1024;
/// A keeper that dies sooner than this failed to start.
const KEEPER_AGE_MIN_MS: u64 = 1_000;
const RESTART_PAUSE_MIN_MS: u64 = 50;
const RESTART_PAUSE_MAX_MS: u64 = 5_000;
/// Of one [`Message::Containers`].
pub const PIDS_MAX: usize = 4096;

/// What a keeper tells its supervisor. Both are of one build.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    Serves,
    /// A container is about to be started.
    Hold(ContainerId),
    /// All its output is in its log.
    Release(ContainerId),
    /// Adopted containers, whose exit codes are still to be read.
    Containers(Vec<u32>),
    /// Every other child of the supervisor may be reaped.
    AllNamed,
    /// The exit of this container is known.
    Reap(u32),
    /// Become this program when the keeper has ended.
    Succeed(Vec<Vec<u8>>),
    /// The keeper has shut down for good.
    Ends,
}

/// The keeper's end.
pub struct Supervisor {
    /// `None` when it has died.
    socket: Option<OwnedFd>,
    waiting: VecDeque<Vec<u8>>,
}

impl Supervisor {
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket: Some(socket), waiting: VecDeque::new() }
    }

    /// For a keeper that has none.
    pub fn nobody() -> Self {
        Self { socket: None, waiting: VecDeque::new() }
    }

    pub fn socket(&self) -> Option<&OwnedFd> {
        self.socket.as_ref()
    }

    /// Never waits. What a dead supervisor is told is lost: it holds nothing any more.
    pub fn tell(&mut self, message: &Message) {
        if self.socket.is_some()
            && self.waiting.len() < WAITING_MAX
            && let Ok(bytes) = postcard::to_allocvec(message)
        {
            self.waiting.push_back(bytes);
            self.flush();
        }
    }

    pub fn flush(&mut self) {
        while let (Some(socket), Some(bytes)) = (&self.socket, self.waiting.front()) {
            match rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // A broken one is noticed by its hang-up.
                Ok(_) | Err(_) => drop(self.waiting.pop_front()),
            }
        }
    }

    /// Sends what waits, and tells whether the supervisor lives.
    pub fn look(&mut self) -> super::Health {
        self.flush();
        let Some(socket) = &self.socket else { return super::Health::Gone };
        match rustix::net::recv(socket, &mut [0u8; 1][..], RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => super::Health::Lives,
            Ok(_) | Err(_) => {
                self.socket = None;
                super::Health::Gone
            }
        }
    }
}

/// The pipes of each container.
#[derive(Default)]
pub struct Held(HashMap<ContainerId, Vec<OwnedFd>>);

impl Held {
    pub fn add(&mut self, container: ContainerId, pipes: Vec<OwnedFd>) {
        self.0.insert(container, pipes);
    }

    /// Those that lie in the keeper's directory.
    fn all() -> Self {
        let mut held = Self::default();
        for entry in std::fs::read_dir(paths::PIPES).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(id) = name.strip_suffix(".out").and_then(ContainerId::new) {
                held.hold(id);
            }
        }
        held
    }

    fn hold(&mut self, container: ContainerId) {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let pipes = [Stream::Stdout, Stream::Stderr]
            .into_iter()
            .filter_map(|stream| rustix::fs::open(paths::pipe(&container, stream), flags, Mode::empty()).ok())
            .collect();
        self.0.insert(container, pipes);
    }
}

/// What this process does next.
pub enum Turn {
    Supervise { lock: File, starter: Option<Starter>, held: Held },
    Keep { supervisor: Supervisor, starter: Option<Starter> },
    End(ExitCode),
}

/// How a keeper came to its end.
#[derive(Default)]
struct Life {
    served: bool,
    ends: bool,
    successor: Option<Vec<OsString>>,
}

struct Process {
    lock: File,
    held: Held,
    /// Readable when a child has ended.
    signals: OwnedFd,
    /// Children whose exit codes are still to be read. `None` until the keeper has named all.
    containers: Option<HashSet<u32>>,
    named: HashSet<u32>,
}

/// Takes the lock that one supervisor of a directory has.
pub fn lock() -> io::Result<Option<File>> {
    daemon::lock(paths::SUPERVISOR_LOCK)
}

/// Goes on as the supervisor of an earlier release, which became this program: its children are
/// ours, its lock is at `lock`, and it has left the pipes open until they are open here.
pub fn succeed(lock: i32) -> io::Result<Turn> {
    let inherited = daemon::open_descriptors()?;
    let held = Held::all();
    let lock = daemon::inherit(lock, &inherited)?;
    rustix::io::fcntl_setfd(&lock, FdFlags::CLOEXEC)?;
    Ok(Turn::Supervise { lock, starter: None, held })
}

/// Starts keepers, one after another, until one has ended for good. Comes back in each keeper's
/// process too.
pub fn supervise(config: &KeeperConfig, lock: File, mut starter: Option<Starter>, held: Held) -> Turn {
    let _ = rustix::thread::set_name(c"wharf-superviso");
    let own = rustix::process::getpid();
    if let Err(error) = rustix::process::set_child_subreaper(Some(own)) {
        daemon::note(&format!("the supervisor is no subreaper: {error}"));
    }
    daemon::raise_descriptor_limit();
    let is_first = starter.is_some();
    let signals = match daemon::child_signals() {
        Ok(signals) => signals,
        Err(error) => {
            daemon::note(&format!("the supervisor cannot see its children: {error}"));
            return Turn::End(ExitCode::FAILURE);
        }
    };
    let mut process = Process { lock, held, signals, containers: None, named: HashSet::new() };
    let (mut pause_ms, mut has_served) = (RESTART_PAUSE_MIN_MS, false);
    loop {
        let begun = Now::read().monotonic_ms;
        let life = match fork_keeper() {
            Ok(Forked::Keeper(socket)) => return Turn::Keep { supervisor: Supervisor::new(socket), starter },
            Ok(Forked::Supervisor(keeper, socket)) => {
                starter = None;
                process.watch(keeper, &socket)
            }
            Err(error) => {
                daemon::note(&format!("a keeper cannot be forked: {error}"));
                Life::default()
            }
        };
        has_served |= life.served;
        if life.ends {
            return Turn::End(ExitCode::SUCCESS);
        }
        if is_first && !has_served {
            return Turn::End(ExitCode::FAILURE);
        }
        if let Some(arguments) = life.successor {
            let error = process.become_program(config, &arguments);
            daemon::note(&format!("the supervisor cannot become {}: {error}", arguments[0].display()));
        }
        let age_ms = Now::read().monotonic_ms.saturating_sub(begun);
        if life.served && age_ms >= KEEPER_AGE_MIN_MS {
            pause_ms = RESTART_PAUSE_MIN_MS;
        } else if !life.served {
            pause(pause_ms);
            pause_ms = (pause_ms * 2).min(RESTART_PAUSE_MAX_MS);
        }
        daemon::note("the keeper has died: another is started");
    }
}

enum Forked {
    Keeper(OwnedFd),
    Supervisor(Pid, OwnedFd),
}

fn fork_keeper() -> io::Result<Forked> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    Ok(match daemon::fork()? {
        None => Forked::Keeper(theirs),
        Some(keeper) => Forked::Supervisor(keeper, ours),
    })
}

impl Process {
    /// Serves the keeper until it has ended, and its last words are read.
    fn watch(&mut self, keeper: Pid, socket: &OwnedFd) -> Life {
        let mut life = Life::default();
        let Ok(pidfd) = rustix::process::pidfd_open(keeper, PidfdFlags::empty()) else { return life };
        loop {
            let mut fds = [socket.as_fd(), pidfd.as_fd(), self.signals.as_fd()]
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            match rustix::event::poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => daemon::note(&format!("the supervisor cannot wait: {error}")),
            }
            let is_over = !fds[1].revents().is_empty();
            let children_ended = !fds[2].revents().is_empty();
            while let Some(message) = receive(socket) {
                self.take(message, keeper, &mut life);
            }
            if children_ended {
                // More than one signal becomes one.
                while rustix::io::read(&self.signals, &mut [0u8; 1024]).is_ok() {}
                self.reap(keeper);
            }
            if is_over {
                process::reap_killed(keeper);
                // What it leaves may hold containers.
                (self.containers, self.named) = (None, HashSet::new());
                return life;
            }
        }
    }

    /// Reaps what has ended and is no container.
    fn reap(&self, keeper: Pid) {
        let Some(containers) = &self.containers else { return };
        let own = std::process::id();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
        let children = children.unwrap_or_default();
        // Its children become ours in the moment in which it ends: among those that were listed there
        // are none of them if it has not ended now.
        if process::has_ended(keeper) {
            return;
        }
        let others = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
        for pid in others.filter(|pid| !containers.contains(pid)) {
            if pid != keeper.as_raw_nonzero().get().unsigned_abs() {
                process::reap(pid);
            }
        }
    }

    fn take(&mut self, message: Message, keeper: Pid, life: &mut Life) {
        match message {
            Message::Serves => life.served = true,
            Message::Hold(container) => self.held.hold(container),
            Message::Release(container) => drop(self.held.0.remove(&container)),
            Message::Containers(pids) => self.named.extend(pids),
            Message::AllNamed => {
                self.containers = Some(std::mem::take(&mut self.named));
                self.reap(keeper);
            }
            Message::Reap(pid) => {
                if let Some(containers) = &mut self.containers {
                    containers.remove(&pid);
                }
                process::reap(pid);
            }
            Message::Ends => life.ends = true,
            Message::Succeed(arguments) => {
                let arguments: Vec<_> = arguments.into_iter().map(OsString::from_vec).collect();
                life.successor = Some(arguments).filter(|arguments| !arguments.is_empty());
            }
        }
    }

    /// Returns only an error.
    fn become_program(&self, config: &KeeperConfig, arguments: &[OsString]) -> io::Error {
        let kept = self.held.0.values().flatten().map(AsFd::as_fd).chain([self.lock.as_fd()]);
        for fd in kept {
            if let Err(error) = rustix::io::fcntl_setfd(fd, FdFlags::empty()) {
                return error.into();
            }
        }
        let mut program = std::process::Command::new(&arguments[0]);
        program.args(&arguments[1..]).arg(LOCK_ARGUMENT).arg(self.lock.as_raw_fd().to_string());
        daemon::note(&format!("{} is handed over to {}", config.dir.display(), arguments[0].display()));
        program.env_clear().exec()
    }
}

fn receive(socket: &OwnedFd) -> Option<Message> {
    let mut bytes = [0u8; MESSAGE_BYTES_MAX];
    loop {
        match rustix::net::recv(socket, &mut bytes[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => return None,
            Ok((length, _)) => {
                if let Ok(message) = postcard::from_bytes(&bytes[..length]) {
                    return Some(message);
                }
            }
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

fn timespec(ms: u64) -> Timespec {
    Timespec { tv_sec: (ms / 1000) as i64, tv_nsec: ((ms % 1000) * 1_000_000) as i64 }
}

fn pause(ms: u64) {
    let _ = rustix::event::poll(&mut [], Some(&timespec(ms)));
}

/// The command line of an upgrade, for [`Message::Succeed`].
pub fn succession(arguments: &[OsString]) -> Message {
    Message::Succeed(arguments.iter().map(|argument| OsStr::as_bytes(argument).to_vec()).collect())
}
