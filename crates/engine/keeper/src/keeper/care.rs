//! What a container may want while it runs, and after: to be asked for its health, to be paused, to be
//! started again.
//!
//! No thread and no process waits for any of it: what is due is a [`Timer`], a probe is a session
//! without a client, whose output is read as it comes. A probe has a control group of its own, so
//! that one that hangs is killed with all that it started; as orphans of the container these are reaped
//! by its first process, so one without an init keeps them as zombies. It all goes on while no control plane
//! lives, and a new keeper takes it up from the state file.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use wharf_core::Timestamp;
use wharf_engine::session::ExecSpec;
use wharf_engine::{
    Asked, ContainerId, Ended, EngineError, EventKind, ExitStatus, Health, HealthCheck, HealthReport,
    PROBE_OUTPUT_BYTES_MAX, Probe, SandboxId, Verdict, VolumeName,
};

use super::clients::Caller;
use super::embedded::cgroup::Freezer;
use super::embedded::exec::ExecGroup;
use super::lifecycle::{failure_of, input_of};
use super::output::{Now, Output};
use super::sessions::{Owner, SessionNumber};
use super::spawners::{Job, Outcome};
use super::{Container, ContainerNumber, Keeper, Phase, SandboxPhase, Source, Starting, Timer, daemon};
use crate::state::{CareSpec, CareState, Entry};

/// How soon a restart for which the host had no means is tried again.
const RETRY_MS: u64 = 1_000;
/// Read from a probe at once.
const READ_BYTES: usize = 4096;
/// The names of probes' control groups start so.
const PROBE_GROUP: &str = "probe-";
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// Of a container that takes more than to be run.
pub(super) struct Care {
    pub spec: CareSpec,
    pub now: CareState,
    health: Health,
    probe: Option<RunningProbe>,
    /// When (monotonic milliseconds) the next probe begins. A [`Timer::Probe`] that comes sooner is one of
    /// an earlier run.
    probe_at_ms: Option<u64>,
}

struct RunningProbe {
    /// Tells it apart from one that was given up and has not ended yet.
    number: u64,
    session: SessionNumber,
    group: String,
    started_at: Timestamp,
    overdue_ms: u64,
    output: Vec<u8>,
    ends: Vec<OwnedFd>,
}

/// A container whose program has ended, and will be started again.
pub(super) struct Restarting {
    pub started_at: Timestamp,
    pub exit: ExitStatus,
    pub at: Timestamp,
    /// What the last run left in the kernel is gone.
    pub cleaned: Cleaned,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cleaned {
    Yes,
    NotYet,
}

impl Care {
    pub fn new(spec: CareSpec, now: CareState) -> Option<Box<Self>> {
        let health = now.health.map_or_else(Health::default, Health::from_status);
        (!spec.is_empty() || now != CareState::default())
            .then(|| Box::new(Self { spec, now, health, probe: None, probe_at_ms: None }))
    }

    pub fn health(&self) -> Option<HealthReport> {
        self.spec.health.as_ref().map(|_| self.health.report())
    }
}

impl Container {
    pub(super) fn is_paused(&self) -> bool {
        self.care.as_ref().is_some_and(|care| care.now.paused)
    }

    pub(super) fn storage_exceeded(&self) -> bool {
        matches!(&self.phase, Phase::Running(running) if running.storage_exceeded == super::Set::Yes)
    }

    /// Made when it has none.
    fn care_mut(&mut self) -> &mut Care {
        self.care.get_or_insert_with(|| {
            Box::new(Care {
                spec: CareSpec::default(),
                now: CareState::default(),
                health: Health::default(),
                probe: None,
                probe_at_ms: None,
            })
        })
    }

    fn check(&self) -> Option<&HealthCheck> {
        self.care.as_ref()?.spec.health.as_ref()
    }

    pub(super) fn mounts_volume(&self, volume: &VolumeName) -> bool {
        self.care.as_ref().is_some_and(|care| care.spec.volumes.contains(volume))
    }
}

impl Keeper {
    fn persist_care(&mut self, number: ContainerNumber, now: Now) {
        let Some(container) = self.containers.get(&number) else { return };
        let Some(care) = &container.care else { return };
        let entry = Entry::CareNow { container: container.id.clone(), state: care.now.clone() };
        self.persist(&entry, now);
    }

    // Health.

    /// The program runs: it is asked for its health from now on.
    pub(super) fn begin_probing(&mut self, number: ContainerNumber, now: Now) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        let Some(interval) = container.check().map(|check| check.interval) else { return };
        let care = container.care_mut();
        care.probe = None;
        care.health = Health::default();
        care.now.health = Some(care.health.status());
        self.probe_later(number, interval, now);
    }

    /// As [`Keeper::begin_probing`], for a container that a new keeper found running.
    pub(super) fn go_on_probing(&mut self, number: ContainerNumber, now: Now) {
        let Some(container) = self.containers.get(&number) else { return };
        let Some(interval) = container.check().map(|check| check.interval) else { return };
        let (sandbox, id) = (container.sandbox.clone(), container.id.clone());
        for group in self.host.exec_groups(&sandbox, &id) {
            if group.starts_with(PROBE_GROUP) {
                self.spawners.push(Job::RemoveExec {
                    sandbox: sandbox.clone(),
                    container: id.clone(),
                    group,
                });
            }
        }
        self.probe_later(number, interval, now);
    }

    fn probe_later(&mut self, number: ContainerNumber, interval: Duration, now: Now) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        let due = now.monotonic_ms.saturating_add(millis(interval.max(INTERVAL_MIN)));
        container.care_mut().probe_at_ms = Some(due);
        self.timers.insert((due, number, Timer::Probe));
    }

    /// [`Timer::Probe`].
    pub(super) fn probe(&mut self, number: ContainerNumber, now: Now) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        let Some(check) = container.check().cloned() else { return };
        let runs = matches!(container.phase, Phase::Running(_));
        let care = container.care_mut();
        if !runs || care.probe.is_some() || care.probe_at_ms.is_none_or(|at| at > now.monotonic_ms) {
            return;
        }
        care.probe_at_ms = None;
        if container.is_paused() {
            return self.probe_later(number, check.interval, now);
        }
        let id = container.id.clone();
        self.next_number += 1;
        let probe = self.next_number;
        let group = format!("{PROBE_GROUP}{probe}");
        let owner = Owner::Probe { container: number, probe };
        let begun = self.begin_exec(owner, &id, ExecSpec::new(check.args), ExecGroup::Own(group.clone()));
        let session = match begun {
            Ok(session) => session,
            Err(error) => {
                let (at, text) = (now.timestamp(), error.to_string());
                return self.fold_probe(number, at, None, text, now);
            }
        };
        let overdue_ms = now.monotonic_ms.saturating_add(millis(check.timeout));
        let running = RunningProbe {
            number: probe,
            session,
            group,
            started_at: now.timestamp(),
            overdue_ms,
            output: Vec::new(),
            ends: Vec::new(),
        };
        if let Some(container) = self.containers.get_mut(&number) {
            container.care_mut().probe = Some(running);
        }
        self.timers.insert((overdue_ms, number, Timer::ProbeOverdue));
    }

    fn probe_mut(&mut self, number: ContainerNumber, probe: u64) -> Option<&mut RunningProbe> {
        let care = self.containers.get_mut(&number)?.care.as_mut()?;
        care.probe.as_mut().filter(|running| running.number == probe)
    }

    /// Its program runs; what it says is read as it comes.
    pub(super) fn probe_starts(&mut self, number: ContainerNumber, probe: u64, ends: Vec<OwnedFd>) {
        let epoll = &self.epoll;
        let Some(care) = self.containers.get_mut(&number).and_then(|container| container.care.as_mut())
        else {
            return;
        };
        let Some(running) = care.probe.as_mut().filter(|running| running.number == probe) else { return };
        for end in &ends {
            // Output that cannot be read is not kept; the exit code counts.
            let _ = rustix::io::ioctl_fionbio(end, true);
            let (data, flags) = (Source::ProbeOutput(number).data(), EventFlags::IN);
            let _ = rustix::event::epoll::add(epoll, end, data, flags);
        }
        running.ends = ends;
    }

    pub(super) fn probe_says(&mut self, number: ContainerNumber) {
        let care = self.containers.get_mut(&number).and_then(|container| container.care.as_mut());
        if let Some(probe) = care.and_then(|care| care.probe.as_mut()) {
            probe.read();
        }
    }

    pub(super) fn probe_fails(&mut self, number: ContainerNumber, probe: u64, error: &EngineError, now: Now) {
        let Some(running) = self.probe_mut(number, probe) else { return };
        let at = running.started_at;
        // As a shell says it of a program that is not there.
        let code = match error {
            EngineError::Start { exit_code, .. } => Some(*exit_code),
            _ => None,
        };
        self.end_probe(number);
        self.fold_probe(number, at, code, error.to_string(), now);
    }

    pub(super) fn probe_ends(&mut self, number: ContainerNumber, probe: u64, code: Option<i32>, now: Now) {
        let Some(running) = self.probe_mut(number, probe) else { return };
        running.read();
        let (at, output) = (running.started_at, String::from_utf8_lossy(&running.output).into_owned());
        self.end_probe(number);
        self.fold_probe(number, at, code, output, now);
    }

    /// [`Timer::ProbeOverdue`].
    pub(super) fn probe_overdue(&mut self, number: ContainerNumber, now: Now) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        let paused = container.is_paused();
        let Some(care) = &mut container.care else { return };
        let Some(check) = &care.spec.health else { return };
        let (timeout, interval) = (check.timeout, check.interval);
        // The timer may be one of an earlier probe.
        let Some(running) = care.probe.as_ref().filter(|running| running.overdue_ms <= now.monotonic_ms)
        else {
            return;
        };
        let (session, at) = (running.session, running.started_at);
        self.kill_session(session);
        self.end_probe(number);
        if paused {
            // It had no time.
            return self.probe_later(number, interval, now);
        }
        let text = format!("Health check exceeded timeout ({} ms)", timeout.as_millis());
        self.fold_probe(number, at, None, text, now);
    }

    /// Kills what it left and forgets it.
    fn end_probe(&mut self, number: ContainerNumber) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        let Some(running) = container.care.as_mut().and_then(|care| care.probe.take()) else { return };
        let (sandbox, container) = (container.sandbox.clone(), container.id.clone());
        self.spawners.push(Job::RemoveExec { sandbox, container, group: running.group });
    }

    fn fold_probe(
        &mut self,
        number: ContainerNumber,
        started_at: Timestamp,
        exit_code: Option<i32>,
        output: String,
        now: Now,
    ) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        let Phase::Running(running) = &container.phase else { return };
        let container_started_at = running.started_at;
        let Some(care) = &mut container.care else { return };
        let Some(check) = care.spec.health.clone() else { return };
        let probe = Probe { started_at, ended_at: now.timestamp(), exit_code, output };
        if let Some(status) = care.health.probed(&check, container_started_at, probe) {
            care.now.health = Some(status);
            self.persist_care(number, now);
            self.tell(number, now.timestamp(), EventKind::Health(status));
        }
        self.probe_later(number, check.interval, now);
    }

    // Pausing.

    /// Answers once the kernel says so.
    pub(super) fn freeze(&mut self, caller: Caller, container: &ContainerId, to: Freezer) {
        let held =
            self.numbers.get(container).and_then(|number| Some((*number, self.containers.get(number)?)));
        let Some((number, held)) = held else {
            return self.clients.reply(caller, Err(EngineError::NoContainer(container.clone())));
        };
        let result = match (&held.phase, to) {
            (Phase::Running(_), _) if self.spawners.is_full() => Err(super::lifecycle::too_many_jobs()),
            (Phase::Running(_), _) => {
                let (sandbox, container) = (held.sandbox.clone(), held.id.clone());
                self.spawners.push(Job::Freeze { number, sandbox, container, to, caller: Some(caller) });
                return;
            }
            (_, Freezer::Thawed) => Ok(crate::protocol::Answer::Done),
            (_, Freezer::Frozen) => Err(EngineError::NotRunning(container.clone())),
        };
        self.clients.reply(caller, result);
    }

    pub(super) fn frozen(
        &mut self,
        number: ContainerNumber,
        to: Freezer,
        caller: Option<Caller>,
        outcome: Outcome,
        now: Now,
    ) {
        let failure = failure_of(outcome);
        if failure.is_none()
            && let Some(container) = self.containers.get_mut(&number)
            && matches!(container.phase, Phase::Running(_))
        {
            let paused = to == Freezer::Frozen;
            let care = container.care_mut();
            if std::mem::replace(&mut care.now.paused, paused) != paused {
                self.persist_care(number, now);
                let kind = if paused { EventKind::Paused } else { EventKind::Resumed };
                self.tell(number, now.timestamp(), kind);
            }
        }
        if let Some(caller) = caller {
            let result = failure.map_or(Ok(crate::protocol::Answer::Done), Err);
            self.clients.reply(caller, result);
        }
    }

    /// So that a signal reaches it.
    pub(super) fn thaw_for_signal(&mut self, number: ContainerNumber) {
        let Some(container) = self.containers.get(&number).filter(|container| container.is_paused()) else {
            return;
        };
        let (sandbox, id) = (container.sandbox.clone(), container.id.clone());
        self.spawners.push(Job::Freeze { number, sandbox, container: id, to: Freezer::Thawed, caller: None });
    }

    // Restarts.

    /// What becomes of a container whose program has ended.
    pub(super) fn verdict(&self, number: ContainerNumber, exit_code: Option<i32>, now: Now) -> Verdict {
        let Some(container) = self.containers.get(&number) else { return Verdict::Stays };
        let Phase::Running(running) = &container.phase else { return Verdict::Stays };
        let Some(care) = &container.care else { return Verdict::Stays };
        let policy = care.spec.restart.as_ref().and_then(|spec| spec.restart.as_ref());
        let Some(policy) = policy else { return Verdict::Stays };
        let removed = self
            .sandboxes
            .get(&container.sandbox)
            .is_none_or(|held| matches!(held.phase, SandboxPhase::Removing { .. }));
        let asked = if removed || running.kill_at.is_some() || running.asked == Asked::Yes {
            Asked::Yes
        } else {
            Asked::No
        };
        policy.decide(Ended {
            exit_code,
            ran_for: now.timestamp().since(running.started_at),
            restarts: care.now.restarts,
            waited: Duration::from_millis(care.now.waited_ms),
            asked,
        })
    }

    /// Its exit is kept; it is started again in a while. `phase` is [`Phase::Restarting`] already.
    pub(super) fn begin_restart(&mut self, number: ContainerNumber, after: Duration, now: Now) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        let Phase::Restarting(restarting) = &container.phase else { return };
        let (exit, at) = (restarting.exit.clone(), restarting.at);
        let (sandbox, id) = (container.sandbox.clone(), container.id.clone());
        let care = container.care_mut();
        care.probe = None;
        care.now.paused = false;
        care.now.waited_ms = millis(after);
        care.now.restarting = Some((exit.clone(), at));
        self.persist_care(number, now);
        if exit.oom_killed {
            self.tell(number, now.timestamp(), EventKind::OutOfMemory);
        }
        self.tell(number, exit.at, EventKind::Restarting { exit, at });
        self.spawners.push(Job::CleanToRestart { number, sandbox, container: id });
        self.timers.insert((now.monotonic_ms.saturating_add(millis(after)), number, Timer::Restart));
    }

    /// The last run's groups are gone, or the host failed to remove them.
    pub(super) fn cleaned_to_restart(&mut self, number: ContainerNumber, outcome: Outcome, now: Now) {
        if let Some(error) = failure_of(outcome) {
            daemon::note(&format!("cleaning up before a restart: {error}"));
        }
        if let Some(Phase::Restarting(restarting)) =
            self.containers.get_mut(&number).map(|container| &mut container.phase)
        {
            restarting.cleaned = Cleaned::Yes;
            self.restart_if_due(number, now);
        }
    }

    /// [`Timer::Restart`]; or what it waited for has come.
    pub(super) fn restart_if_due(&mut self, number: ContainerNumber, now: Now) {
        let Some(container) = self.containers.get(&number) else { return };
        let Phase::Restarting(restarting) = &container.phase else { return };
        let due = restarting.at <= now.timestamp();
        if restarting.cleaned == Cleaned::NotYet || !due {
            if restarting.cleaned == Cleaned::Yes {
                let wait = millis(restarting.at.since(now.timestamp())) + 1;
                self.timers.insert((now.monotonic_ms + wait, number, Timer::Restart));
            }
            return;
        }
        let sandbox = match self.sandboxes.get(&container.sandbox) {
            Some(held) if matches!(held.phase, SandboxPhase::Made) => held.spec.clone(),
            // It goes, and this with it.
            _ => return,
        };
        let Some(care) = &container.care else { return };
        let Some(spec) = care.spec.restart.clone() else { return };
        let log = care.spec.log;
        if self.spawners.is_full() {
            self.timers.insert((now.monotonic_ms + RETRY_MS, number, Timer::Restart));
            return;
        }
        let (output, ends) = match Output::create(&container.id, log) {
            Ok(made) => made,
            Err(error) => {
                daemon::note(&format!("restarting container {}: {error}", container.id));
                self.timers.insert((now.monotonic_ms + RETRY_MS, number, Timer::Restart));
                return;
            }
        };
        let made = input_of(&container.id, spec.stdin, spec.terminal.is_some(), ends);
        let (input, ends) = match made {
            Ok(made) => made,
            Err(error) => {
                daemon::note(&format!("restarting container {}: {error}", container.id));
                self.timers.insert((now.monotonic_ms + RETRY_MS, number, Timer::Restart));
                return;
            }
        };
        let Some(container) = self.containers.get_mut(&number) else { return };
        let starting = Starting { callers: Vec::new(), output, ends, input, signal: None };
        container.phase = Phase::Starting(Box::new(starting));
        self.spawners.push(Job::Start { number, sandbox: Box::new(sandbox), spec });
    }

    /// Its program runs: if that is not for the first time, it counts.
    pub(super) fn count_restart(&mut self, number: ContainerNumber, now: Now) {
        let care = self.containers.get_mut(&number).and_then(|container| container.care.as_mut());
        if let Some(care) = care
            && care.now.restarting.take().is_some()
        {
            care.now.restarts += 1;
            self.persist_care(number, now);
        }
    }

    /// One that waits to be started again stays as it is. Whether there was one.
    pub(super) fn stay(&mut self, number: ContainerNumber, now: Now) -> bool {
        let Some(container) = self.containers.get_mut(&number) else { return false };
        let Phase::Restarting(restarting) = &container.phase else { return false };
        let (started_at, exit) = (Some(restarting.started_at), restarting.exit.clone());
        container.phase = Phase::Exited { started_at, exit: exit.clone() };
        let (id, sandbox) = (container.id.clone(), container.sandbox.clone());
        container.care_mut().now.restarting = None;
        self.remove_files(&id, super::lifecycle::Keep::Log);
        self.persist(&Entry::Exited { container: id, exit: exit.clone() }, now);
        self.tell(number, now.timestamp(), EventKind::Exited(exit));
        self.go_on_with_removal(&sandbox);
        true
    }

    /// Those of a sandbox that is to go.
    pub(super) fn all_stay(&mut self, sandbox: &SandboxId, now: Now) {
        let waiting = |container: &Container| {
            container.sandbox == *sandbox && matches!(container.phase, Phase::Restarting(_))
        };
        let numbers: Vec<ContainerNumber> = self
            .containers
            .iter()
            .filter(|(_, container)| waiting(container))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            self.stay(number, now);
        }
    }
}

impl RunningProbe {
    /// What is there, and no more of it than is kept.
    fn read(&mut self) {
        let mut buffer = [0; READ_BYTES];
        self.ends.retain(|end| {
            loop {
                match rustix::io::read(end, &mut buffer) {
                    // The kernel forgets a closed descriptor's events.
                    Ok(0) => return false,
                    Ok(length) => {
                        let room = PROBE_OUTPUT_BYTES_MAX - self.output.len();
                        self.output.extend_from_slice(&buffer[..length.min(room)]);
                    }
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return true,
                    Err(_) => return false,
                }
            }
        });
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
