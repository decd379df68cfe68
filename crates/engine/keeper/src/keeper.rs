//! The keeper's process: what it holds, and its loop. One thread; it waits in one place.
//!
//! - [`lifecycle`]: what is asked of sandboxes and containers, and what becomes of them
//! - [`sandboxes`]: those of sandboxes; [`care`]: health, pauses and restarts; [`volumes`], [`storage`]
//! - [`view`]: what it says of them
//! - [`adoption`]: what an earlier keeper left running
//! - [`spawners`]: the processes that do what blocks
//! - [`turns`], [`output`], [`lines`], [`batch`], [`rotation`]: from a container's pipes to its log
//! - [`clients`]: the control planes
//! - [`attach`]: a container's own streams
//! - [`sessions`]: programs beside a container's own, and who watches a container
//! - [`process`], [`daemon`]: pidfds; becoming a daemon
//! - [`supervisor`]: the process above it
//!
//! Nothing here may block for longer than a write to the page cache takes, except before it serves.

mod adoption;
mod attach;
mod batch;
mod care;
mod clients;
mod daemon;
mod lifecycle;
mod lines;
mod output;
pub mod pipes;
mod process;
mod rotation;
mod sandboxes;
mod sessions;
mod source;
mod spawners;
mod storage;
mod supervisor;
mod turns;
mod view;
mod volumes;

pub use self::clients::DESCRIPTORS_MAX;
pub use self::daemon::{READY, TAKEN};
pub use self::process::{exit_of, signal};

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use wharf_core::Timestamp;
use wharf_engine::log::Stream;
use wharf_engine::{Asked, ContainerId, ExitStatus, SandboxId, SandboxSpec, Signal};
use wharf_engine_embedded as embedded;

use self::attach::Input;
use self::care::{Care, Restarting};
use self::clients::{CLIENTS_MAX, Caller, ClientId, Clients, Fate};
use self::embedded::Host;
use self::output::{ContainerEnds, Mover, Now, Output};
use self::sessions::{Session, SessionNumber};
use self::source::Source;
use self::spawners::{Health, Spawners};
use self::storage::Storage;
use self::supervisor::{Held, Message, Supervisor, Turn};
use self::volumes::Volumes;
use crate::config::KeeperConfig;
use crate::fingerprint::Fingerprint;
use crate::paths;
use crate::protocol::{self, Call};
use crate::state::{Entry, ProcessRef, StateFile, Version};

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 64;
const BACKLOG: i32 = 64;
/// That a log has grown is told at most so often for each container.
const LOGGED_INTERVAL_MS: u64 = 50;
/// How long a hand-over waits for spawners.
const HAND_OVER_MAX_MS: u64 = 5_000;
/// How often a log is looked at that has no room for what its container writes.
const FULL_LOG_LOOK_MS: u64 = 50;
/// How soon a state file that could not be written is tried again.
const STATE_RETRY_MS: u64 = 1_000;

/// Containers, numbered in the order in which this keeper met them.
type ContainerNumber = u64;

struct Keeper {
    version: Version,
    supervisor: Supervisor,
    epoll: OwnedFd,
    listener: OwnedFd,
    host: Host,
    clients: Clients,
    spawners: Spawners,
    state: StateFile,
    /// Since when (monotonic milliseconds) the state file lacks something.
    state_behind_ms: Option<u64>,
    sandboxes: BTreeMap<SandboxId, Sandbox>,
    containers: HashMap<ContainerNumber, Container>,
    numbers: HashMap<ContainerId, ContainerNumber>,
    next_number: u64,
    sessions: HashMap<SessionNumber, Session>,
    volumes: Volumes,
    storage: Storage,
    mover: Mover,
    /// Streams that may have more output than was moved in their last round.
    busy_streams: VecDeque<(ContainerNumber, Stream)>,
    /// As `busy_streams`, of terminals.
    busy_terminals: VecDeque<ContainerNumber>,
    timers: BTreeSet<(u64, ContainerNumber, Timer)>,
    /// Children that have ended, or will in a moment.
    unreaped: Vec<u32>,
    shutdown: Option<Vec<Caller>>,
    /// Asked for by a newer program: this keeper ends as soon as its spawners have done what they
    /// are at, or at the time (monotonic milliseconds).
    handing_over: Option<u64>,
    _lock: File,
}

struct Sandbox {
    spec: SandboxSpec,
    created_at: Timestamp,
    /// The version of the keeper that made it: specs of different ones are not compared.
    by: Version,
    phase: SandboxPhase,
}

/// Making → Made → Removing → gone; Making → Removing when it cannot be made.
enum SandboxPhase {
    Making(Vec<Caller>),
    Made,
    /// Its containers are being killed, or its remains removed.
    Removing {
        callers: Vec<Caller>,
        remains: Remains,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Remains {
    /// Containers run, or a spawner works on one.
    Waiting,
    /// The job is with the spawners.
    BeingRemoved,
}

struct Container {
    id: ContainerId,
    sandbox: SandboxId,
    fingerprint: Fingerprint,
    labels: Vec<(String, String)>,
    /// The version of the keeper that started it: fingerprints of different ones are not compared.
    by: Version,
    /// `None` for one that is only to be run.
    care: Option<Box<Care>>,
    /// What a program beside its own takes over: [`embedded::exec::ExecBase`]. Empty: an earlier
    /// release, which kept nothing, started it.
    exec_base: Box<[u8]>,
    /// Clients that are told when its log grows, and of its end.
    attached: Vec<Caller>,
    phase: Phase,
}

/// Starting → Running → Exited; Running → Restarting → Starting with a restart policy, and Restarting →
/// Exited when it is told to stay; Starting → Exited when its program cannot be run; Starting → gone
/// when the engine failed.
enum Phase {
    Starting(Box<Starting>),
    Running(Box<Running>),
    Restarting(Box<Restarting>),
    Exited { started_at: Option<Timestamp>, exit: ExitStatus },
}

struct Starting {
    callers: Vec<Caller>,
    output: Output,
    ends: ContainerEnds,
    input: Input,
    /// Asked for before there was anything to send it to.
    signal: Option<(Signal, Option<u64>)>,
}

struct Running {
    process: ProcessRef,
    parent: Parent,
    pidfd: OwnedFd,
    started_at: Timestamp,
    output: Output,
    input: Input,
    kill_at: Option<Timestamp>,
    /// It was killed through the engine.
    asked: Asked,
    /// It was killed because its sandbox has too much on disk.
    storage_exceeded: Set,
    /// An [`Timer::OpenLine`] is set.
    open_line_timer: Set,
    logged: Logged,
}

/// Whose child a container is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parent {
    Us,
    /// The supervisor, to which it came from a keeper that died; or init.
    Another,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Set {
    No,
    Yes,
}

/// Whether clients know that the log has grown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Logged {
    /// They do, since this time.
    Told { at_ms: u64 },
    /// They will, when [`Timer::Logged`] comes.
    Later,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Kill,
    OpenLine,
    Logged,
    FullLog(Stream),
    Probe,
    ProbeOverdue,
    Restart,
    SessionStart,
}

/// Runs a keeper as its program's whole work. `args` are those behind the ones that chose it.
pub fn main_from_args(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match KeeperConfig::from_args(args) {
        Ok(config) => run(&config),
        Err(message) => {
            daemon::note(&format!("keeper: {message}"));
            ExitCode::from(2)
        }
    }
}

/// Detaches from the caller and serves until it is told to shut down. To be called first thing in a
/// process with one thread. The caller waits for `ready` on this process's standard output; anything
/// else there says why not.
pub fn run(config: &KeeperConfig) -> ExitCode {
    if let Err(error) = wharf_engine_embedded::sealed::execute_sealed() {
        daemon::note(&format!("keeper: its program stays as it is: {error}"));
    }
    let begun = match config.lock {
        Some(lock) => supervisor::succeed(lock).map_err(|error| error.to_string()),
        None => begin(config),
    };
    let mut turn = match begun {
        Ok(turn) => turn,
        Err(message) => {
            daemon::note(&format!("keeper: {}: {message}", config.dir.display()));
            return ExitCode::FAILURE;
        }
    };
    // Each fork goes on here as what it then is.
    loop {
        turn = match turn {
            Turn::Supervise { lock, starter, held } => supervisor::supervise(config, lock, starter, held),
            Turn::Keep { supervisor, starter } => keep(config, supervisor, starter),
            Turn::End(code) => return code,
        }
    }
}

fn begin(config: &KeeperConfig) -> Result<Turn, String> {
    daemon::close_inherited();
    let detached = std::env::set_current_dir(&config.dir).and_then(|()| daemon::detach());
    let starter = detached.map_err(|error| error.to_string())?;
    if config.protocol < protocol::HAND_OVER_SINCE {
        return Ok(Turn::Keep { supervisor: Supervisor::nobody(), starter: Some(starter) });
    }
    match supervisor::lock() {
        Ok(Some(lock)) => Ok(Turn::Supervise { lock, starter: Some(starter), held: Held::default() }),
        Ok(None) => {
            starter.tell(TAKEN);
            Ok(Turn::End(ExitCode::SUCCESS))
        }
        Err(error) => {
            let message = format!("{}: {error}", paths::SUPERVISOR_LOCK);
            starter.tell(&message);
            Err(message)
        }
    }
}

fn keep(config: &KeeperConfig, supervisor: Supervisor, starter: Option<daemon::Starter>) -> Turn {
    daemon::take_signals_again();
    let _ = rustix::thread::set_name(c"wharf-keeper");
    let tell = |word: &str| {
        if let Some(starter) = starter {
            starter.tell(word);
        }
    };
    let opened = match daemon::lock(paths::LOCK) {
        Ok(Some(lock)) => Keeper::open(config, lock, supervisor),
        Ok(None) => {
            tell(TAKEN);
            return Turn::End(ExitCode::SUCCESS);
        }
        Err(error) => Err(format!("{}: {error}", paths::LOCK)),
    };
    let keeper = match opened {
        Ok(keeper) => keeper,
        Err(message) => {
            daemon::note(&message);
            tell(&message);
            return Turn::End(ExitCode::FAILURE);
        }
    };
    tell(READY);
    match keeper.serve() {
        Ok(turn) => turn,
        Err(error) => {
            daemon::note(&format!("the keeper ends: {error}"));
            Turn::End(ExitCode::FAILURE)
        }
    }
}

impl Keeper {
    fn open(config: &KeeperConfig, lock: File, supervisor: Supervisor) -> Result<Self, String> {
        let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let made = pipes::make(&config.instance).map_err(failed(paths::PIPES))?;
        for dir in [paths::LOGS, paths::SANDBOXES] {
            match std::fs::create_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(format!("{}: {error}", config.dir.join(dir).display()));
                }
                _ => {}
            }
        }
        let here = std::env::current_dir().map_err(failed("the keeper's directory"))?;
        let host_config = embedded::HostConfig {
            instance: config.instance.clone(),
            sandboxes_dir: here.join(paths::SANDBOXES),
        };
        let host = Host::detect(host_config).map_err(|error| error.to_string())?;
        let boot_id = process::boot_id().map_err(failed("boot_id"))?;
        let (state, snapshot) = StateFile::open(&here, &boot_id).map_err(|error| describe(&error))?;
        // Small, and before anything else is open: they are copies of this process.
        let descriptors = daemon::descriptor_limit();
        let spawners =
            Spawners::fork(&host, config.spawners, descriptors).map_err(failed("forking a spawner"))?;
        daemon::raise_descriptor_limit();
        let volumes = Volumes::open();
        let (mover, unfinished) = Mover::open(paths::BATCH.as_ref()).map_err(failed(paths::BATCH))?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| format!("epoll: {error}"))?;
        let listener = listen().map_err(failed(paths::SOCKET))?;
        let mut keeper = Self {
            version: config.protocol,
            supervisor,
            epoll,
            listener,
            host,
            clients: Clients::speaking(config.protocol),
            spawners,
            state,
            state_behind_ms: None,
            sandboxes: BTreeMap::new(),
            containers: HashMap::new(),
            numbers: HashMap::new(),
            next_number: 0,
            sessions: HashMap::new(),
            volumes,
            storage: Storage::default(),
            mover,
            busy_streams: VecDeque::new(),
            busy_terminals: VecDeque::new(),
            timers: BTreeSet::new(),
            unreaped: Vec::new(),
            shutdown: None,
            handing_over: None,
            _lock: lock,
        };
        keeper.adopt(snapshot, &boot_id, unfinished.as_ref());
        keeper.watch_all().map_err(failed("epoll"))?;
        keeper.name_what_is_left();
        keeper.supervisor.tell(&Message::Serves);
        // Only now can clients find it.
        std::fs::rename(paths::SOCKET_NEW, paths::SOCKET).map_err(failed(paths::SOCKET))?;
        made.into_iter().for_each(pipes::Made::keep);
        daemon::note(&format!(
            "keeper {} serves {} with {} containers: {}",
            std::process::id(),
            here.display(),
            keeper.containers.len(),
            keeper.host.kernel_summary()
        ));
        Ok(keeper)
    }

    fn watch_all(&self) -> io::Result<()> {
        self.watch(&self.listener, Source::Listener, EventFlags::IN)?;
        if let Some(socket) = self.supervisor.socket() {
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            self.watch(socket, Source::Supervisor, flags)?;
        }
        for index in 0..self.spawners.len() {
            self.watch_spawner(index)?;
        }
        Ok(())
    }

    fn watch_spawner(&self, index: usize) -> io::Result<()> {
        match self.spawners.socket(index) {
            Some(socket) => self.watch(&socket, Source::Spawner(index), EventFlags::IN),
            None => Ok(()),
        }
    }

    fn watch(&self, fd: &impl AsFd, source: Source, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, source.data(), flags)?)
    }

    fn serve(mut self) -> io::Result<Turn> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            self.dispatch();
            if self.shutdown.is_some() && self.sandboxes.is_empty() {
                self.end();
                return Ok(Turn::End(ExitCode::SUCCESS));
            }
            if self
                .handing_over
                .is_some_and(|due| self.spawners.are_idle() || due <= Now::read().monotonic_ms)
            {
                return Ok(self.hand_over());
            }
            events.clear();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                self.timeout().as_ref(),
            ) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let now = Now::read();
            for &epoll::Event { data, .. } in &events {
                match Source::from_data(data) {
                    Some(Source::Listener) => self.accept(),
                    Some(Source::Client(id)) => self.serve_client(id, now),
                    Some(Source::Spawner(index)) => self.serve_spawner(index, now),
                    Some(Source::Process(number)) => self.process_ended(number, now),
                    Some(Source::Output(number, stream)) => self.move_output(number, stream, now),
                    Some(Source::ProbeOutput(number)) => self.probe_says(number),
                    Some(Source::Storage) => self.storage_measured(now),
                    Some(Source::Report(number)) => self.report_arrives(number),
                    Some(Source::SessionProcess(number)) => self.session_process_ended(number),
                    Some(Source::Terminal(number)) => self.move_terminal(number, now),
                    Some(Source::Supervisor) => {
                        if self.supervisor.look() == Health::Gone
                            && let Some(lock) = self.replace_supervisor()
                        {
                            return Ok(self.into_supervisor(lock));
                        }
                    }
                    None => {}
                }
            }
            // One piece for each stream that has more, so that none starves another.
            for _ in 0..self.busy_streams.len() {
                if let Some((number, stream)) = self.busy_streams.pop_front() {
                    self.move_output(number, stream, now);
                }
            }
            for _ in 0..self.busy_terminals.len() {
                if let Some(number) = self.busy_terminals.pop_front() {
                    self.move_terminal(number, now);
                }
            }
            self.unreaped.retain(|pid| !process::reap(*pid));
            self.take_waiting_calls(now);
            self.run_timers(now);
            self.measure_due(now);
            self.tend_state_file(now);
        }
    }

    fn accept(&mut self) {
        let accepted = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
        let Ok(socket) = accepted else { return };
        let is_ours = rustix::net::sockopt::socket_peercred(&socket)
            .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid());
        if !is_ours || self.clients.len() >= CLIENTS_MAX {
            daemon::note("a client is refused");
            return;
        }
        self.next_number += 1;
        let id = self.next_number;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        if self.watch(&socket, Source::Client(id), flags).is_ok() {
            self.clients.add(id, socket);
        }
    }

    fn serve_client(&mut self, id: ClientId, now: Now) {
        self.clients.flush(id);
        let mut calls = Vec::new();
        let fate = self.clients.read(id, &mut calls);
        self.take_calls(id, calls, fate, now);
    }

    /// Answers make room for calls that were left in an inbox.
    fn take_waiting_calls(&mut self, now: Now) {
        while let Some(id) = self.clients.with_room_again() {
            let mut calls = Vec::new();
            let fate = self.clients.parse_waiting(id, &mut calls);
            self.take_calls(id, calls, fate, now);
        }
    }

    fn take_calls(&mut self, id: ClientId, calls: Vec<Call>, fate: Fate, now: Now) {
        for call in calls {
            self.call(Caller { client: id, number: call.number }, call.request, now);
        }
        if fate == Fate::Gone {
            self.clients.remove(id);
            self.client_gone(id);
        }
        if let Some(arguments) = self.clients.take_successor()
            && self.handing_over.is_none()
        {
            daemon::note("a newer program takes over");
            self.supervisor.tell(&supervisor::succession(&arguments));
            self.handing_over = Some(now.monotonic_ms + HAND_OVER_MAX_MS);
        }
    }

    fn serve_spawner(&mut self, index: usize, now: Now) {
        let (health, ended) = self.spawners.receive(index);
        if let Some((job, outcome)) = ended {
            self.job_ended(job, outcome, now);
        }
        if health == Health::Gone {
            let replaced = self.spawners.replace(index, &self.host);
            if let Err(error) = replaced.and_then(|()| self.watch_spawner(index)) {
                daemon::note(&format!("a spawner cannot be replaced: {error}"));
            }
        }
    }

    fn dispatch(&mut self) {
        if self.handing_over.is_some() {
            return;
        }
        let containers = &self.containers;
        let stdio = |number| match &containers.get(&number)?.phase {
            Phase::Starting(starting) => Some(embedded::Stdio {
                stdin: starting.ends.stdin.as_ref().map(AsFd::as_fd),
                stdout: starting.ends.stdout.as_fd(),
                stderr: starting.ends.stderr.as_fd(),
            }),
            Phase::Running(_) | Phase::Restarting(_) | Phase::Exited { .. } => None,
        };
        let pidfd = |number| match &containers.get(&number)?.phase {
            Phase::Running(running) => Some(running.pidfd.as_fd()),
            Phase::Starting(_) | Phase::Restarting(_) | Phase::Exited { .. } => None,
        };
        let failed = self.spawners.dispatch(stdio, pidfd);
        let now = Now::read();
        for (job, outcome) in failed {
            self.job_ended(job, outcome, now);
        }
    }

    fn running_mut(&mut self, number: ContainerNumber) -> Option<&mut Running> {
        match &mut self.containers.get_mut(&number)?.phase {
            Phase::Running(running) => Some(running),
            Phase::Starting(_) | Phase::Restarting(_) | Phase::Exited { .. } => None,
        }
    }

    /// Appends to the state file. What cannot be written now is written when the disk allows: until
    /// then this keeper still knows it, and only its death would lose it.
    fn persist(&mut self, entry: &Entry, now: Now) {
        if let Err(error) = self.state.append(entry) {
            daemon::note(&describe(&error));
            self.state_behind_ms.get_or_insert(now.monotonic_ms);
        }
    }

    fn tend_state_file(&mut self, now: Now) {
        let retry = self.state_behind_ms.is_some_and(|since| since + STATE_RETRY_MS <= now.monotonic_ms);
        if !retry && !self.state.is_bloated() {
            return;
        }
        let snapshot = self.snapshot();
        match self.state.compact(snapshot) {
            Ok(()) => self.state_behind_ms = None,
            Err(error) => {
                if self.state_behind_ms.is_none() {
                    daemon::note(&describe(&error));
                }
                self.state_behind_ms = Some(now.monotonic_ms);
            }
        }
    }
}

fn listen() -> io::Result<OwnedFd> {
    let _ = std::fs::remove_file(paths::SOCKET_NEW);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Relative, and so below the 108 bytes that an address may have. The umask makes it 0600.
    rustix::net::bind(&listener, &SocketAddrUnix::new(paths::SOCKET_NEW)?)?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// An error with its causes.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
