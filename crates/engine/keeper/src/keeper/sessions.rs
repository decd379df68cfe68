//! Sessions: programs run beside a container's own, files copied, and clients that watch a container.
//!
//! The data path: a session's bytes never pass through the keeper. A spawner makes the pipes (the
//! program itself its terminal) and clones the process; the keeper waits until `execve` has
//! succeeded, and then hands the caller's ends over to the client, together with a pidfd. From there
//! on client and program speak to each other; the client resizes the terminal and sends signals by
//! itself. The keeper keeps what only a parent can: it reaps the process and tells its exit code. An
//! attached client reads the container's log, and the keeper only tells it when there is more.
//!
//! Each session has a connection of its own, and is as old as that: when the client closes it, or
//! dies, a program that was run for it is killed. A keeper that dies takes nothing along: the client
//! learns the exit code from its pidfd.
//!
//! ```text
//! Queued ──▶ Starting ──▶ Running ──▶ gone      (a client that goes away: killed in each)
//! ```

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use wharf_engine::copy::CopyRoot;
use wharf_engine::session::{ExecSpec, SESSIONS_PER_CONTAINER_MAX, SessionEnd};
use wharf_engine::{ContainerId, EngineError, Signal, WritableLayer};

use super::clients::{Caller, ClientId};
use super::embedded::copy::{CopyJob, CopyRequest};
use super::embedded::exec::{ExecGroup, ExecRequest, REPORT_BYTES_MAX, read_report};
use super::embedded::spawner::Reply;
use super::output::Now;
use super::process::{self, End};
use super::spawners::{Job, Outcome};
use super::{ContainerNumber, Keeper, Phase, SandboxPhase, Source, Timer, daemon};
use crate::protocol::{Answer, SessionEnds};
use crate::state::ProcessRef;

/// Sessions of all containers at a time.
const SESSIONS_MAX: usize = 4096;
/// A program that does not run after so long (the container has stopped or frozen it) is killed.
const START_MAX_MS: u64 = 30_000;

/// Stands for the container of a session that belongs to none which runs.
const NO_CONTAINER: ContainerNumber = 0;

/// Sessions are numbered with the containers: no number is given twice.
pub(super) type SessionNumber = u64;

pub(super) struct Session {
    owner: Owner,
    container: ContainerNumber,
    phase: SessionPhase,
}

/// For whom a program runs.
#[derive(Clone, Copy)]
pub(super) enum Owner {
    /// Its connection is the session's life.
    Client(Caller),
    /// As `Client`, for a copy: the client itself reads the report.
    Copy(Caller),
    /// One probe of a container's health.
    Probe { container: ContainerNumber, probe: u64 },
}

enum SessionPhase {
    /// A spawner has it, or will.
    Queued(Wanted),
    Starting(Box<Starting>),
    Running {
        process: Option<ProcessRef>,
        pid: u32,
        pidfd: OwnedFd,
    },
}

/// Whether the client is still there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Yes,
    No,
}

struct Starting {
    pid: u32,
    pidfd: OwnedFd,
    report: OwnedFd,
    text: Vec<u8>,
    /// What the client gets beside the pidfd.
    ends: Vec<OwnedFd>,
}

impl Keeper {
    /// Answers once the program runs.
    pub(super) fn exec(&mut self, caller: Caller, container: &ContainerId, exec: ExecSpec) {
        match self.begin_exec(Owner::Client(caller), container, exec, ExecGroup::Container) {
            Ok(_) => self.clients.becomes_session(caller.client),
            Err(error) => self.clients.reply(caller, Err(error)),
        }
    }

    /// What becomes of it is told to its owner: [`Keeper::owner_fails`], [`Keeper::owner_starts`],
    /// [`Keeper::owner_ends`].
    pub(super) fn begin_exec(
        &mut self,
        owner: Owner,
        container: &ContainerId,
        exec: ExecSpec,
        group: ExecGroup,
    ) -> Result<SessionNumber, EngineError> {
        let missing = || EngineError::NoContainer(container.clone());
        let number = *self.numbers.get(container).ok_or_else(missing)?;
        let held = self.containers.get(&number).ok_or_else(missing)?;
        if !matches!(held.phase, Phase::Running(_)) {
            return Err(EngineError::NotRunning(container.clone()));
        }
        if held.is_paused() {
            return Err(EngineError::Unsupported {
                what: format!("a program in container {container}"),
                reason: "it is paused".to_owned(),
            });
        }
        let sandbox = self.sandboxes.get(&held.sandbox).map(|sandbox| sandbox.spec.clone());
        let sandbox = sandbox.ok_or_else(|| EngineError::NoSandbox(held.sandbox.clone()))?;
        let base = held.exec_base.to_vec();
        if base.is_empty() {
            return Err(EngineError::Unsupported {
                what: format!("a program in container {container}"),
                reason: "an earlier release started it".to_owned(),
            });
        }
        let request = ExecRequest { sandbox, container: container.clone(), base, exec, group };
        let session = self.add_session(owner, number)?;
        self.spawners.push(Job::Exec { session, container: number, request: Box::new(request) });
        Ok(session)
    }

    fn add_session(
        &mut self,
        owner: Owner,
        container: ContainerNumber,
    ) -> Result<SessionNumber, EngineError> {
        let of_container = self.sessions.values().filter(|session| session.container == container).count();
        for (count, max) in [(of_container, SESSIONS_PER_CONTAINER_MAX), (self.sessions.len(), SESSIONS_MAX)]
        {
            if count >= max {
                let message = format!("{max} are open already");
                return Err(EngineError::Exhausted { resource: "sessions".to_owned(), message });
            }
        }
        if self.spawners.is_full() {
            return Err(super::lifecycle::too_many_jobs());
        }
        self.next_number += 1;
        let number = self.next_number;
        self.sessions.insert(number, Session { owner, container, phase: SessionPhase::Queued(Wanted::Yes) });
        Ok(number)
    }

    fn owner_fails(&mut self, owner: Owner, error: EngineError) {
        match owner {
            Owner::Client(caller) | Owner::Copy(caller) => self.clients.reply(caller, Err(error)),
            Owner::Probe { container, probe } => self.probe_fails(container, probe, &error, Now::read()),
        }
    }

    /// `ends` are the owner's: a terminal's master, or stdin where it is open, stdout and stderr.
    fn owner_starts(&mut self, owner: Owner, pid: u32, pidfd: &OwnedFd, ends: Vec<OwnedFd>) {
        match owner {
            Owner::Probe { container, probe } => self.probe_starts(container, probe, ends),
            Owner::Client(caller) | Owner::Copy(caller) => {
                let answer = match (owner, ends.len()) {
                    (Owner::Copy(_), _) => Answer::Copying,
                    (_, 1) => Answer::Session { pid, ends: SessionEnds::Terminal },
                    (_, 2) => Answer::Session { pid, ends: SessionEnds::Pipes },
                    _ => Answer::Session { pid, ends: SessionEnds::PipesWithStdin },
                };
                match rustix::io::fcntl_dupfd_cloexec(pidfd, 3) {
                    Ok(for_client) => {
                        let descriptors = std::iter::once(for_client).chain(ends).collect();
                        self.clients.reply_with(caller, Ok(answer), descriptors);
                    }
                    Err(error) => {
                        kill(pidfd);
                        let message = std::io::Error::from(error).to_string();
                        self.clients.reply(caller, Err(EngineError::Internal { message }));
                    }
                }
            }
        }
    }

    fn owner_ends(&mut self, owner: Owner, code: Option<i32>) {
        match owner {
            Owner::Client(caller) | Owner::Copy(caller) => {
                self.clients.session_ended(caller, SessionEnd { code });
            }
            Owner::Probe { container, probe } => self.probe_ends(container, probe, code, Now::read()),
        }
    }

    pub(super) fn kill_session(&self, number: SessionNumber) {
        match self.sessions.get(&number).map(|session| &session.phase) {
            Some(SessionPhase::Starting(starting)) => kill(&starting.pidfd),
            Some(SessionPhase::Running { pidfd, .. }) => kill(pidfd),
            Some(SessionPhase::Queued(_)) | None => {}
        }
    }

    /// A spawner has cloned the process, or could not.
    pub(super) fn exec_launched(&mut self, number: SessionNumber, outcome: Outcome, now: Now) {
        let launched = match outcome {
            Outcome::Replied { reply: Reply::Launched { pid }, pidfd: Some(pidfd), mut others }
                if !others.is_empty() =>
            {
                let report = others.remove(0);
                Ok(Starting { pid, pidfd, report, text: Vec::new(), ends: others })
            }
            Outcome::Replied { reply: Reply::Failed { error, unreaped }, .. } => {
                self.unreaped.extend(unreaped);
                Err(error)
            }
            Outcome::Replied { .. } => {
                Err(EngineError::Internal { message: "the spawner answered something else".to_owned() })
            }
            Outcome::Died => Err(EngineError::Internal { message: "the spawner died over it".to_owned() }),
            Outcome::NotSent(error) => Err(EngineError::Internal { message: error.to_string() }),
        };
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let wanted = matches!(session.phase, SessionPhase::Queued(Wanted::Yes));
        match launched {
            Ok(starting) if matches!(session.owner, Owner::Copy(_)) && wanted => {
                self.copy_runs(number, starting);
            }
            Ok(starting) => {
                let watched = epoll_add(&self.epoll, &starting.pidfd, Source::SessionProcess(number))
                    .and_then(|()| epoll_add(&self.epoll, &starting.report, Source::Report(number)));
                if !wanted || watched.is_err() {
                    kill(&starting.pidfd);
                }
                session.phase = SessionPhase::Starting(Box::new(starting));
                self.timers.insert((now.monotonic_ms + START_MAX_MS, number, Timer::SessionStart));
            }
            Err(error) => self.session_failed(number, error),
        }
    }

    /// Files into or out of a container, by a process that the client speaks to itself.
    pub(super) fn copy(&mut self, caller: Caller, root: CopyRoot, job: CopyJob) {
        match self.begin_copy(caller, root, job) {
            Ok(()) => self.clients.becomes_session(caller.client),
            Err(error) => self.clients.reply(caller, Err(error)),
        }
    }

    fn begin_copy(&mut self, caller: Caller, root: CopyRoot, job: CopyJob) -> Result<(), EngineError> {
        let (sandbox, container, stopped) = match root {
            CopyRoot::Running(id) => {
                let missing = || EngineError::NoContainer(id.clone());
                let number = *self.numbers.get(&id).ok_or_else(missing)?;
                let held = self.containers.get(&number).ok_or_else(missing)?;
                if !matches!(held.phase, Phase::Running(_)) {
                    return Err(EngineError::NotRunning(id));
                }
                (held.sandbox.clone(), Some(number), None)
            }
            CopyRoot::Stopped { sandbox, spec } => {
                let WritableLayer::Kept(layer) = &spec.writable_layer else {
                    return Err(EngineError::NotRunning(spec.id));
                };
                let uses = |held: &super::Container| {
                    held.sandbox == sandbox && !matches!(held.phase, Phase::Exited { .. })
                };
                if self.containers.values().any(uses) {
                    return Err(EngineError::Conflict { what: format!("the layer {layer} is in use, and") });
                }
                (sandbox, None, Some(spec))
            }
        };
        let held = self.sandboxes.get(&sandbox).filter(|held| matches!(held.phase, SandboxPhase::Made));
        let sandbox = held.map(|held| held.spec.clone()).ok_or(EngineError::NoSandbox(sandbox))?;
        let request = Box::new(CopyRequest { sandbox, stopped, job });
        let session = self.add_session(Owner::Copy(caller), container.unwrap_or(NO_CONTAINER))?;
        self.spawners.push(Job::Copy { session, container, request });
        Ok(())
    }

    /// Nothing is to be waited for: the client reads the report.
    fn copy_runs(&mut self, number: SessionNumber, starting: Starting) {
        let Starting { pid, pidfd, report, ends, .. } = starting;
        if epoll_add(&self.epoll, &pidfd, Source::SessionProcess(number)).is_err() {
            kill(&pidfd);
        }
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let owner = session.owner;
        let ends = std::iter::once(report).chain(ends).collect();
        self.owner_starts(owner, pid, &pidfd, ends);
        let process = process::identify(pid);
        if let Some(session) = self.sessions.get_mut(&number) {
            session.phase = SessionPhase::Running { process, pid, pidfd };
        }
        self.session_process_ended(number);
    }

    fn session_failed(&mut self, number: SessionNumber, error: EngineError) {
        if let Some(session) = self.sessions.remove(&number) {
            self.owner_fails(session.owner, error);
        }
    }

    /// The report is readable.
    pub(super) fn report_arrives(&mut self, number: SessionNumber) {
        let Some(Session { phase: SessionPhase::Starting(starting), .. }) = self.sessions.get_mut(&number)
        else {
            return;
        };
        if starting.read() == Report::Whole {
            self.session_started(number);
        }
    }

    /// The report is complete: the program runs, or never will.
    fn session_started(&mut self, number: SessionNumber) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let owner = session.owner;
        let SessionPhase::Starting(starting) =
            std::mem::replace(&mut session.phase, SessionPhase::Queued(Wanted::No))
        else {
            return;
        };
        let Starting { pid, pidfd, text, ends, .. } = *starting;
        if let Err(error) = read_report(&text) {
            // It ends by itself, and is reaped.
            self.unreaped.push(pid);
            return self.session_failed(number, error);
        }
        self.owner_starts(owner, pid, &pidfd, ends);
        let process = process::identify(pid);
        if let Some(session) = self.sessions.get_mut(&number) {
            session.phase = SessionPhase::Running { process, pid, pidfd };
        }
        // It may be over already, and its pidfd tells only once with a level that nobody lowers.
        self.session_process_ended(number);
    }

    /// Its pidfd is readable.
    pub(super) fn session_process_ended(&mut self, number: SessionNumber) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let owner = session.owner;
        match &mut session.phase {
            SessionPhase::Running { process, pid, pidfd } => {
                let nobody = ProcessRef { pid: *pid, start_ticks: 0 };
                let code = match process::end(pidfd.as_fd(), process.unwrap_or(nobody)) {
                    End::NotYet => return,
                    End::Code(code) => Some(code),
                    End::Unknown => None,
                };
                self.unreaped.push(*pid);
                self.sessions.remove(&number);
                self.owner_ends(owner, code);
            }
            // Killed before `execve`: nothing more is written to the report.
            SessionPhase::Starting(starting) => {
                if starting.read() == Report::Whole {
                    self.session_started(number);
                }
            }
            SessionPhase::Queued(_) => {}
        }
    }

    pub(super) fn session_overdue(&mut self, number: SessionNumber) {
        let Some(Session { phase: SessionPhase::Starting(starting), .. }) = self.sessions.get(&number) else {
            return;
        };
        kill(&starting.pidfd);
        let pid = starting.pid;
        // A frozen process dies when it thaws; nobody waits for that.
        self.unreaped.push(pid);
        let message = format!("the program does not start: it has been held up for {START_MAX_MS} ms");
        self.session_failed(number, EngineError::Internal { message });
    }

    /// Its sessions end with it.
    pub(super) fn client_gone(&mut self, client: ClientId) {
        for session in self.sessions.values_mut().filter(|session| session.owner.is(client)) {
            match &mut session.phase {
                SessionPhase::Queued(wanted) => *wanted = Wanted::No,
                SessionPhase::Starting(starting) => kill(&starting.pidfd),
                SessionPhase::Running { pidfd, .. } => kill(pidfd),
            }
        }
        for container in self.containers.values_mut() {
            container.attached.retain(|caller| caller.client != client);
        }
    }

    /// Clients that watch the container are told that its log has grown.
    pub(super) fn tell_attached(&mut self, number: ContainerNumber) {
        let Some(container) = self.containers.get(&number) else { return };
        for caller in &container.attached {
            self.clients.log_grew(caller.client);
        }
    }

    /// The container has ended, and its log is complete.
    pub(super) fn end_attached(&mut self, number: ContainerNumber, code: Option<i32>) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        for caller in std::mem::take(&mut container.attached) {
            self.clients.session_ended(caller, SessionEnd { code });
        }
    }
}

impl Owner {
    fn is(self, client: ClientId) -> bool {
        match self {
            Self::Client(caller) | Self::Copy(caller) => caller.client == client,
            Self::Probe { .. } => false,
        }
    }
}

#[derive(PartialEq, Eq)]
enum Report {
    Whole,
    MoreComes,
}

impl Starting {
    fn read(&mut self) -> Report {
        let mut bytes = [0; 4096];
        loop {
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let received = rustix::net::recvmsg(
                &self.report,
                &mut [std::io::IoSliceMut::new(&mut bytes)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
            );
            match received {
                Ok(received) if received.bytes == 0 => return Report::Whole,
                Ok(received) => {
                    let masters = ancillary.drain().filter_map(|message| match message {
                        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                        _ => None,
                    });
                    let mut text = &bytes[..received.bytes];
                    for master in masters.flatten() {
                        self.ends.push(master);
                        // The byte that it came with.
                        text = text.get(1..).unwrap_or_default();
                    }
                    if self.text.len() + text.len() <= REPORT_BYTES_MAX {
                        self.text.extend_from_slice(text);
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Report::MoreComes,
                Err(_) => return Report::Whole,
            }
        }
    }
}

fn epoll_add(epoll: &OwnedFd, fd: &OwnedFd, source: Source) -> rustix::io::Result<()> {
    rustix::event::epoll::add(epoll, fd, source.data(), EventFlags::IN)
}

fn kill(pidfd: &OwnedFd) {
    if let Err(error) = process::signal(pidfd, Signal::KILL) {
        daemon::note(&format!("killing a session's program: {error}"));
    }
}
