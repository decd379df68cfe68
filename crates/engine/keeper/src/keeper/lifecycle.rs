//! What is asked of sandboxes and containers, and what becomes of them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use wharf_core::Timestamp;
use wharf_engine::log::Stream;
use wharf_engine::session::Stdin;
use wharf_engine::{
    Asked, ContainerId, ContainerSpec, EngineError, Event, EventKind, ExitStatus, SandboxId, Signal, Verdict,
};

use super::attach::Input;
use super::care::{Care, Cleaned, Restarting};
use super::clients::Caller;
use super::embedded::exec::ExecBase;
use super::embedded::spawner::{ClientError, Reply};
use super::output::{ContainerEnds, Now, Output};
use super::pipes;
use super::process::{self, End};
use super::spawners::{Job, Outcome};
use super::supervisor::Message;
use super::{
    Container, ContainerNumber, Keeper, Logged, Parent, Phase, Running, Sandbox, SandboxPhase, Set, Source,
    Starting, Timer, daemon,
};
use crate::fingerprint::Fingerprint;
use crate::paths;
use crate::protocol::{Answer, Request};
use crate::state::{CareSpec, CareState, Entry};

impl Keeper {
    pub(super) fn call(&mut self, caller: Caller, request: Request, now: Now) {
        let result = match request {
            Request::CreateSandbox(spec) => return self.create_sandbox(caller, spec),
            Request::RemoveSandbox(sandbox) => return self.remove_sandbox(caller, &sandbox),
            Request::StartContainer { sandbox, spec } => {
                return self.start_container(caller, &sandbox, spec);
            }
            Request::Shutdown => return self.begin_shutdown(caller),
            Request::Stop { container, signal, grace } => {
                self.signal(&container, signal, Some(grace), now).map(|()| Answer::Done)
            }
            Request::Kill { container, signal } => {
                self.signal(&container, signal, None, now).map(|()| Answer::Done)
            }
            Request::List => Ok(Answer::Sandboxes(self.list())),
            Request::Status(container) => self
                .numbers
                .get(&container)
                .and_then(|number| self.containers.get(number)?.status())
                .map(Answer::Container)
                .ok_or(EngineError::NoContainer(container)),
            Request::Freeze { container, to } => return self.freeze(caller, &container, to),
            Request::Health(container) => self.health(&container),
            Request::CreateVolume(spec) => self.create_volume(spec, now),
            Request::RemoveVolume(volume) => return self.remove_volume(caller, volume),
            Request::ListVolumes => Ok(self.list_volumes()),
            Request::Exec { container, spec } => return self.exec(caller, &container, spec),
            Request::Attach { container, stdin } => return self.attach(caller, &container, stdin),
            Request::Copy { root, job } => return self.copy(caller, root, job),
            Request::Processes(container) => self.processes(&container),
            Request::RemoveContainer(container) => self.remove_container(&container, now),
        };
        self.clients.reply(caller, result);
    }

    fn start_container(&mut self, caller: Caller, sandbox: &SandboxId, spec: ContainerSpec) {
        let fingerprint = Fingerprint::of(&spec);
        if let Some(held) = self.numbers.get(&spec.id).and_then(|number| self.containers.get_mut(number)) {
            let differs = held.by == self.version && held.fingerprint != fingerprint;
            let result = if differs || held.sandbox != *sandbox {
                Err(EngineError::Conflict { what: format!("container {}", spec.id) })
            } else if let Phase::Starting(starting) = &mut held.phase {
                starting.callers.push(caller);
                return;
            } else {
                held.start_result()
            };
            return self.clients.reply(caller, result);
        }
        match self.begin_start(caller, sandbox, spec, fingerprint) {
            Ok(()) => {}
            Err(error) => self.clients.reply(caller, Err(error)),
        }
    }

    fn begin_start(
        &mut self,
        caller: Caller,
        sandbox: &SandboxId,
        spec: ContainerSpec,
        fingerprint: Fingerprint,
    ) -> Result<(), EngineError> {
        let sandbox_spec = match self.sandboxes.get(sandbox) {
            Some(Sandbox { phase: SandboxPhase::Made, spec, .. }) => spec.clone(),
            _ => return Err(EngineError::NoSandbox(sandbox.clone())),
        };
        if self.spawners.is_full() {
            return Err(too_many_jobs());
        }
        self.check_volumes(&spec)?;
        super::rotation::check(spec.log)?;
        let (output, ends) = Output::create(&spec.id, spec.log)
            .map_err(|error| out_of(&error, "the output's pipes and log"))?;
        let (input, ends) = input_of(&spec.id, spec.stdin, spec.terminal.is_some(), ends)?;
        let id = spec.id.clone();
        self.supervisor.tell(&Message::Hold(spec.id.clone()));
        let entry = Entry::Starting {
            container: id.clone(),
            sandbox: sandbox.clone(),
            fingerprint,
            labels: spec.labels.clone(),
            by: self.version,
        };
        let care = CareSpec::of(&spec);
        let exec_base = ExecBase::of(&spec).to_bytes();
        let base = Entry::ExecBase { container: id.clone(), base: exec_base.clone() };
        let kept = self.state.append(&entry).and_then(|()| self.state.append(&base));
        let kept = kept.and_then(|()| match care.is_empty() {
            true => Ok(()),
            false => self.state.append(&Entry::Care { container: id.clone(), spec: care.clone() }),
        });
        if let Err(error) = kept {
            self.remove_files(&id, Keep::Nothing);
            let message = super::describe(&error);
            return Err(EngineError::Exhausted { resource: "disk".to_owned(), message });
        }
        self.next_number += 1;
        let number = self.next_number;
        let starting = Starting { callers: vec![caller], output, ends, input, signal: None };
        let container = Container {
            id: id.clone(),
            sandbox: sandbox.clone(),
            fingerprint,
            labels: spec.labels.clone(),
            by: self.version,
            care: Care::new(care, CareState::default()),
            exec_base: exec_base.into(),
            attached: Vec::new(),
            phase: Phase::Starting(Box::new(starting)),
        };
        self.containers.insert(number, container);
        self.numbers.insert(id, number);
        self.tell(number, Now::read().timestamp(), EventKind::Created);
        self.spawners.push(Job::Start { number, sandbox: Box::new(sandbox_spec), spec: Box::new(spec) });
        Ok(())
    }

    pub(super) fn job_ended(&mut self, job: Job, outcome: Outcome, now: Now) {
        let sandbox = job.sandbox().cloned();
        match job {
            Job::MakeSandbox(spec) => self.sandbox_made(&spec.id, failure_of(outcome), now),
            Job::Start { number, .. } => self.start_ended(number, outcome, now),
            Job::Clean { container, .. } => {
                if let Some(error) = failure_of(outcome) {
                    daemon::note(&format!("cleaning up container {container}: {error}"));
                }
            }
            Job::CleanDebris { number, container, .. } => {
                if let Some(error) = failure_of(outcome) {
                    daemon::note(&format!("cleaning up container {container}: {error}"));
                }
                let error = EngineError::Internal { message: "the spawner died during the start".to_owned() };
                self.not_started(number, &error, now);
            }
            Job::RemoveSandbox(sandbox) => self.sandbox_removed(&sandbox, failure_of(outcome), now),
            Job::CleanToRestart { number, .. } => self.cleaned_to_restart(number, outcome, now),
            Job::RemoveExec { container, .. } => {
                if let Some(error) = failure_of(outcome) {
                    daemon::note(&format!("removing what a probe of {container} left: {error}"));
                }
            }
            Job::Freeze { number, to, caller, .. } => self.frozen(number, to, caller, outcome, now),
            Job::RemoveVolume(volume) => self.volume_removed(&volume, outcome),
            Job::Exec { session, .. } | Job::Copy { session, .. } => {
                self.exec_launched(session, outcome, now);
            }
        }
        if let Some(sandbox) = sandbox {
            self.go_on_with_removal(&sandbox);
        }
    }

    fn start_ended(&mut self, number: ContainerNumber, outcome: Outcome, now: Now) {
        match outcome {
            Outcome::Replied { reply: Reply::Started { pid }, pidfd, others } => {
                let opened = pidfd.or_else(|| process::adopt(process::identify(pid)?));
                match (process::identify(pid), opened) {
                    (Some(process), Some(pidfd)) => {
                        self.take_terminal(number, others);
                        self.started(number, process, pidfd, now);
                    }
                    _ => self.clean_debris(number),
                }
            }
            Outcome::Replied { reply: Reply::Failed { error, unreaped }, .. } => {
                if let Some(pid) = unreaped {
                    self.unreaped.push(pid);
                }
                match error {
                    EngineError::Start { exit_code, message } => {
                        self.start_failed(number, exit_code, &message, now);
                    }
                    error => self.not_started(number, &error, now),
                }
            }
            Outcome::Replied {
                reply: Reply::Done | Reply::Launched { .. } | Reply::Measured { .. }, ..
            }
            | Outcome::Died => {
                self.clean_debris(number);
            }
            Outcome::NotSent(error) => {
                let message = error.to_string();
                let error = match error {
                    ClientError::TooLarge => EngineError::Unsupported {
                        what: "a container spec of this size".to_owned(),
                        reason: message,
                    },
                    ClientError::Gone | ClientError::Garbled | ClientError::Io(_) => {
                        EngineError::Internal { message }
                    }
                };
                self.not_started(number, &error, now);
            }
        }
    }

    fn started(
        &mut self,
        number: ContainerNumber,
        process: crate::state::ProcessRef,
        pidfd: OwnedFd,
        now: Now,
    ) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        let exited = Phase::Exited { started_at: None, exit: lost_exit(now) };
        let Phase::Starting(starting) = std::mem::replace(&mut container.phase, exited) else { return };
        let Starting { callers, output, ends, input, signal } = *starting;
        // The container has its own copies.
        drop(ends);
        let started_at = now.timestamp();
        container.phase = Phase::Running(Box::new(Running {
            process,
            parent: Parent::Us,
            pidfd,
            started_at,
            output,
            input,
            kill_at: None,
            asked: Asked::No,
            storage_exceeded: Set::No,
            open_line_timer: Set::No,
            logged: Logged::Told { at_ms: 0 },
        }));
        let id = container.id.clone();
        let entry = Entry::Started { container: id.clone(), process, at: started_at };
        self.persist(&entry, now);
        self.count_restart(number, now);
        self.tell(number, now.timestamp(), EventKind::Started { pid: process.pid });
        self.begin_probing(number, now);
        let result = self.containers[&number].start_result();
        for caller in callers {
            self.clients.reply(caller, result.clone());
        }
        if let Err(error) = self.watch_running(number) {
            // Without that, neither its output nor its end would be seen.
            daemon::note(&format!("watching container {id}: {error}"));
            if let Some(running) = self.running_mut(number) {
                kill(&id, &running.pidfd);
            }
        }
        if let Some((signal, grace_ms)) = signal {
            // It was there a moment ago.
            let _ = self.signal(&id, signal, grace_ms.map(Duration::from_millis), now);
        }
    }

    pub(super) fn watch_running(&mut self, number: ContainerNumber) -> io::Result<()> {
        let Some(container) = self.containers.get(&number) else { return Ok(()) };
        let Phase::Running(running) = &container.phase else { return Ok(()) };
        self.watch(&running.pidfd, Source::Process(number), EventFlags::IN)?;
        for stream in [Stream::Stdout, Stream::Stderr] {
            let flags = EventFlags::IN | EventFlags::ET;
            self.watch(&running.output.pipe(stream), Source::Output(number, stream), flags)?;
        }
        if let Some(master) = running.input.master() {
            self.watch(&master, Source::Terminal(number), EventFlags::IN | EventFlags::ET)?;
        }
        Ok(())
    }

    /// Its program cannot be run.
    fn start_failed(&mut self, number: ContainerNumber, exit_code: i32, message: &str, now: Now) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        let exit = ExitStatus::never_ran(now.timestamp(), Some(exit_code), message);
        let phase = Phase::Exited { started_at: None, exit: exit.clone() };
        let Phase::Starting(starting) = std::mem::replace(&mut container.phase, phase) else { return };
        let (id, sandbox) = (container.id.clone(), container.sandbox.clone());
        self.remove_files(&id, Keep::Log);
        self.persist(&Entry::Exited { container: id.clone(), exit: exit.clone() }, now);
        self.tell(number, now.timestamp(), EventKind::Exited(exit));
        let error = EngineError::Start { exit_code, message: message.to_owned() };
        for caller in starting.callers {
            self.clients.reply(caller, Err(error.clone()));
        }
        self.spawners.push(Job::Clean { sandbox: sandbox.clone(), container: id });
        self.go_on_with_removal(&sandbox);
    }

    /// The engine failed: there was never such a container.
    fn not_started(&mut self, number: ContainerNumber, error: &EngineError, now: Now) {
        let was_there =
            |held: &Container| held.care.as_ref().is_some_and(|care| care.now.restarting.is_some());
        if self.containers.get(&number).is_some_and(was_there) {
            // There was, and it had an exit: this one is its last.
            return self.start_failed(number, EXIT_NOT_STARTED, &error.to_string(), now);
        }
        let Some(container) = self.containers.remove(&number) else { return };
        self.numbers.remove(&container.id);
        self.remove_files(&container.id, Keep::Nothing);
        self.persist(&Entry::NotStarted { container: container.id.clone() }, now);
        if let Phase::Starting(starting) = container.phase {
            for caller in starting.callers {
                self.clients.reply(caller, Err(error.clone()));
            }
        }
    }

    fn clean_debris(&mut self, number: ContainerNumber) {
        let Some(container) = self.containers.get(&number) else { return };
        let (sandbox, container) = (container.sandbox.clone(), container.id.clone());
        self.spawners.push(Job::CleanDebris { number, sandbox, container });
    }

    /// Signals a container; with a grace, kills it when that is over.
    fn signal(
        &mut self,
        container: &ContainerId,
        signal: Signal,
        grace: Option<Duration>,
        now: Now,
    ) -> Result<(), EngineError> {
        let missing = || EngineError::NoContainer(container.clone());
        let number = *self.numbers.get(container).ok_or_else(missing)?;
        let grace_ms = grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
        let is_end = grace.is_some() || signal == Signal::KILL;
        if is_end && self.stay(number, now) {
            return Ok(());
        }
        let running = match &mut self.containers.get_mut(&number).ok_or_else(missing)?.phase {
            Phase::Restarting(_) | Phase::Exited { .. } => return Ok(()),
            Phase::Starting(starting) => {
                starting.signal = Some((signal, grace_ms));
                return Ok(());
            }
            Phase::Running(running) => running,
        };
        process::signal(&running.pidfd, signal).map_err(|error| EngineError::Unsupported {
            what: format!("signal {}", signal.0),
            reason: error.to_string(),
        })?;
        if is_end {
            running.asked = Asked::Yes;
            self.thaw_for_signal(number);
        }
        let Some(grace_ms) = grace_ms else { return Ok(()) };
        let Some(running) = self.running_mut(number) else { return Ok(()) };
        let kill_at = now.timestamp().plus(Duration::from_millis(grace_ms));
        // The earliest of several stops counts.
        if running.kill_at.is_some_and(|earlier| earlier <= kill_at) {
            return Ok(());
        }
        running.kill_at = Some(kill_at);
        self.timers.insert((now.monotonic_ms.saturating_add(grace_ms), number, Timer::Kill));
        self.persist(&Entry::Stopping { container: container.clone(), kill_at }, now);
        Ok(())
    }

    pub(super) fn kill_overdue(&mut self, number: ContainerNumber) {
        let Some(container) = self.containers.get(&number) else { return };
        if let Phase::Running(running) = &container.phase {
            kill(&container.id, &running.pidfd);
        }
    }

    /// The pidfd is readable.
    pub(super) fn process_ended(&mut self, number: ContainerNumber, now: Now) {
        let Some(container) = self.containers.get(&number) else { return };
        let Phase::Running(running) = &container.phase else { return };
        let code = match process::end(running.pidfd.as_fd(), running.process) {
            End::NotYet => return,
            End::Code(code) => Some(code),
            End::Unknown => None,
        };
        self.exited(number, code, now);
    }

    /// Everything that it wrote is moved to its log, then its exit is kept, then told.
    pub(super) fn exited(&mut self, number: ContainerNumber, code: Option<i32>, now: Now) {
        let verdict = self.verdict(number, code, now);
        let Some(container) = self.containers.get_mut(&number) else { return };
        let oom_killed = self.host.oom_killed(&container.sandbox, &container.id);
        let storage_exceeded = container.storage_exceeded();
        let exit = ExitStatus { oom_killed, storage_exceeded, ..ExitStatus::new(now.timestamp(), code) };
        let exited = |started_at| Phase::Exited { started_at, exit: exit.clone() };
        let Phase::Running(running) = std::mem::replace(&mut container.phase, exited(None)) else { return };
        let Running { process, parent, started_at, mut output, input, .. } = *running;
        container.phase = exited(Some(started_at));
        let (id, sandbox) = (container.id.clone(), container.sandbox.clone());
        if let Some(master) = input.master() {
            self.mover.finish_terminal(&mut output, master, now);
        }
        if let Err(error) = self.mover.finish(&id, &mut output, now) {
            daemon::note(&format!("the last output of {id}: {error}"));
        }
        drop(output);
        if let Verdict::StartsAgain { after } = verdict {
            let at = exit.at.plus(after);
            let restarting = Restarting { started_at, exit, at, cleaned: Cleaned::NotYet };
            if let Some(container) = self.containers.get_mut(&number) {
                container.phase = Phase::Restarting(Box::new(restarting));
            }
            self.begin_restart(number, after, now);
            return self.reap(parent, process.pid);
        }
        self.persist(&Entry::Exited { container: id.clone(), exit: exit.clone() }, now);
        // It is kept: now the kernel may forget it. That takes a while, so it is told before.
        self.reap(parent, process.pid);
        self.remove_files(&id, Keep::Log);
        if exit.oom_killed {
            self.tell(number, exit.at, EventKind::OutOfMemory);
        }
        self.end_attached(number, exit.code);
        self.tell(number, exit.at, EventKind::Exited(exit));
        self.spawners.push(Job::Clean { sandbox: sandbox.clone(), container: id });
        self.go_on_with_removal(&sandbox);
    }

    fn reap(&mut self, parent: Parent, pid: u32) {
        match parent {
            Parent::Us => self.unreaped.push(pid),
            Parent::Another => self.supervisor.tell(&Message::Reap(pid)),
        }
    }

    pub(super) fn tell_logged(&mut self, number: ContainerNumber, now: Now) {
        let Some(running) = self.running_mut(number) else { return };
        running.logged = Logged::Told { at_ms: now.monotonic_ms };
        let length = running.output.length();
        self.tell(number, now.timestamp(), EventKind::Logged { length });
    }

    pub(super) fn tell(&mut self, number: ContainerNumber, at: Timestamp, kind: EventKind) {
        let Some(container) = self.containers.get(&number) else { return };
        let event = Event { at, sandbox: container.sandbox.clone(), container: container.id.clone(), kind };
        self.clients.tell_all(&event);
    }

    fn begin_shutdown(&mut self, caller: Caller) {
        self.shutdown.get_or_insert_default().push(caller);
        let all: Vec<SandboxId> = self
            .sandboxes
            .iter()
            .filter(|(_, held)| !matches!(held.phase, SandboxPhase::Removing { .. }))
            .map(|(id, _)| id.clone())
            .collect();
        for sandbox in all {
            self.begin_removal(&sandbox, Vec::new());
        }
    }

    /// Removes what there is of a container's files, and has its pipes let go.
    pub(super) fn remove_files(&mut self, container: &ContainerId, keep: Keep) {
        self.supervisor.tell(&Message::Release(container.clone()));
        // What is not there is removed.
        let _ = std::fs::remove_file(paths::pipe(container, Stream::Stdout));
        let _ = std::fs::remove_file(paths::pipe(container, Stream::Stderr));
        for mode in [Stdin::Once, Stdin::Open] {
            if let Some(path) = paths::input(container, mode) {
                let _ = std::fs::remove_file(path);
            }
        }
        if keep == Keep::Nothing {
            let _ = std::fs::remove_file(paths::log(container));
            let _ = std::fs::remove_file(paths::log(container).with_extension("dropped"));
        }
    }

    /// Every sandbox is gone: so is everything else, before the answer.
    pub(super) fn end(mut self) {
        self.spawners.end();
        self.storage.end();
        let result = self.host.tear_down();
        // Volumes outlive the engine; without any, their directory goes too.
        let _ = std::fs::remove_dir(paths::VOLUMES);
        pipes::remove();
        for dir in [paths::LOGS, paths::SANDBOXES] {
            // What is not there is removed.
            let _ = std::fs::remove_dir_all(dir);
        }
        self.supervisor.tell(&Message::Ends);
        let files = [
            paths::SOCKET,
            paths::STATE,
            paths::STATE_NEW,
            paths::BATCH,
            paths::SUPERVISOR_LOCK,
            paths::LOCK,
            paths::OWN_LOG,
        ];
        for file in files {
            let _ = std::fs::remove_file(file);
        }
        for caller in self.shutdown.take().unwrap_or_default() {
            self.clients.reply(caller, result.clone().map(|()| Answer::Done));
        }
        self.clients.tell_shut_down();
    }
}

/// The input of a container that reads from a pipe; a terminal's comes with its start.
pub(super) fn input_of(
    container: &ContainerId,
    mode: Stdin,
    terminal: bool,
    ends: ContainerEnds,
) -> Result<(Input, ContainerEnds), EngineError> {
    if terminal {
        return Ok((Input::None, ends));
    }
    let (input, stdin) =
        Input::create(container, mode).map_err(|error| out_of(&error, "the input's pipe"))?;
    Ok((input, ContainerEnds { stdin, ..ends }))
}

/// As a shell says of a program that could not be begun.
const EXIT_NOT_STARTED: i32 = 128;

/// What stays of a container's files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Log,
    Nothing,
}

/// It ended, and nobody saw how.
pub(super) fn lost_exit(now: Now) -> ExitStatus {
    ExitStatus::new(now.timestamp(), None)
}

pub(super) fn kill(container: &ContainerId, pidfd: &OwnedFd) {
    if let Err(error) = process::signal(pidfd, Signal::KILL) {
        daemon::note(&format!("killing container {container}: {error}"));
    }
}

pub(super) fn failure_of(outcome: Outcome) -> Option<EngineError> {
    let message = match outcome {
        Outcome::Replied { reply: Reply::Failed { error, .. }, .. } => return Some(error),
        Outcome::Replied { .. } => return None,
        Outcome::Died => "the spawner died over it".to_owned(),
        Outcome::NotSent(error) => error.to_string(),
    };
    Some(EngineError::Internal { message })
}

pub(super) fn out_of(error: &io::Error, what: &str) -> EngineError {
    let resource = match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => "disk",
        Some(libc::EMFILE | libc::ENFILE) => "descriptors",
        Some(libc::ENOMEM) => "memory",
        _ => return EngineError::Internal { message: format!("{what}: {error}") },
    };
    EngineError::Exhausted { resource: resource.to_owned(), message: format!("{what}: {error}") }
}

pub(super) fn too_many_jobs() -> EngineError {
    let message = format!("{} operations wait already", super::spawners::JOBS_MAX);
    EngineError::Exhausted { resource: "the engine's queue".to_owned(), message }
}

pub(super) fn shutting_down() -> EngineError {
    EngineError::Internal { message: "the engine is shutting down".to_owned() }
}
