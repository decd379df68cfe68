//! Sandboxes: made, and removed with all that is in them.

use wharf_engine::{EngineError, SandboxId, SandboxSpec, Signal};

use super::clients::Caller;
use super::lifecycle::{Keep, kill, shutting_down, too_many_jobs};
use super::output::Now;
use super::spawners::Job;
use super::{Container, ContainerNumber, Keeper, Phase, Remains, Sandbox, SandboxPhase, daemon};
use crate::protocol::Answer;
use crate::state::Entry;

impl Keeper {
    pub(super) fn create_sandbox(&mut self, caller: Caller, spec: SandboxSpec) {
        let conflict = || EngineError::Conflict { what: format!("sandbox {}", spec.id) };
        let result = match self.sandboxes.get_mut(&spec.id) {
            _ if self.shutdown.is_some() => Err(shutting_down()),
            Some(held) if held.by == self.version && held.spec != spec => Err(conflict()),
            Some(Sandbox { phase: SandboxPhase::Making(callers), .. }) => {
                callers.push(caller);
                return;
            }
            Some(Sandbox { phase: SandboxPhase::Made, .. }) => Ok(Answer::Done),
            Some(Sandbox { phase: SandboxPhase::Removing { .. }, .. }) => {
                Err(EngineError::Conflict { what: format!("sandbox {} is being removed, and", spec.id) })
            }
            None if self.spawners.is_full() => Err(too_many_jobs()),
            None => {
                let created_at = Now::read().timestamp();
                let phase = SandboxPhase::Making(vec![caller]);
                let by = self.version;
                self.sandboxes.insert(spec.id.clone(), Sandbox { spec: spec.clone(), created_at, by, phase });
                self.spawners.push(Job::MakeSandbox(spec));
                return;
            }
        };
        self.clients.reply(caller, result);
    }

    pub(super) fn remove_sandbox(&mut self, caller: Caller, sandbox: &SandboxId) {
        match self.sandboxes.get_mut(sandbox).map(|held| &mut held.phase) {
            None => self.clients.reply(caller, Ok(Answer::Done)),
            Some(SandboxPhase::Removing { callers, .. }) => callers.push(caller),
            Some(SandboxPhase::Making(_) | SandboxPhase::Made) => {
                self.begin_removal(sandbox, vec![caller]);
            }
        }
    }

    pub(super) fn begin_removal(&mut self, sandbox: &SandboxId, callers: Vec<Caller>) {
        let Some(held) = self.sandboxes.get_mut(sandbox) else { return };
        let phase = SandboxPhase::Removing { callers, remains: Remains::Waiting };
        if let SandboxPhase::Making(creators) = std::mem::replace(&mut held.phase, phase) {
            for creator in creators {
                self.clients.reply(creator, Err(EngineError::NoSandbox(sandbox.clone())));
            }
        }
        self.spawners.forget_cleaning(sandbox);
        let paused: Vec<ContainerNumber> = self
            .containers
            .iter()
            .filter(|(_, container)| container.sandbox == *sandbox && container.is_paused())
            .map(|(number, _)| *number)
            .collect();
        for number in paused {
            self.thaw_for_signal(number);
        }
        self.all_stay(sandbox, Now::read());
        for container in self.containers.values_mut().filter(|container| container.sandbox == *sandbox) {
            match &mut container.phase {
                Phase::Starting(starting) => starting.signal = Some((Signal::KILL, None)),
                Phase::Running(running) => kill(&container.id, &running.pidfd),
                Phase::Restarting(_) | Phase::Exited { .. } => {}
            }
        }
        self.go_on_with_removal(sandbox);
    }

    /// Hands the remains to a spawner once nothing of the sandbox runs, or is being worked on.
    pub(super) fn go_on_with_removal(&mut self, sandbox: &SandboxId) {
        let Some(Sandbox { phase: SandboxPhase::Removing { remains, .. }, .. }) =
            self.sandboxes.get_mut(sandbox)
        else {
            return;
        };
        let is_alive = |container: &Container| {
            container.sandbox == *sandbox && matches!(container.phase, Phase::Starting(_) | Phase::Running(_))
        };
        if *remains == Remains::Waiting
            && !self.spawners.works_on(sandbox)
            && !self.containers.values().any(is_alive)
        {
            *remains = Remains::BeingRemoved;
            self.spawners.forget_cleaning(sandbox);
            self.spawners.push(Job::RemoveSandbox(sandbox.clone()));
        }
    }

    pub(super) fn sandbox_made(&mut self, sandbox: &SandboxId, failure: Option<EngineError>, now: Now) {
        let Some(held) = self.sandboxes.get_mut(sandbox) else { return };
        // It may be asked to go already.
        if !matches!(held.phase, SandboxPhase::Making(_)) {
            return;
        }
        let (spec, created_at, by) = (held.spec.clone(), held.created_at, held.by);
        let SandboxPhase::Making(callers) = std::mem::replace(&mut held.phase, SandboxPhase::Made) else {
            return;
        };
        let result = match failure {
            None => {
                self.begin_measuring(sandbox, now);
                self.persist(&Entry::SandboxMade { spec, created_at, by }, now);
                Ok(Answer::Done)
            }
            Some(error) => {
                self.begin_removal(sandbox, Vec::new());
                Err(error)
            }
        };
        for caller in callers {
            self.clients.reply(caller, result.clone());
        }
    }

    pub(super) fn sandbox_removed(&mut self, sandbox: &SandboxId, failure: Option<EngineError>, now: Now) {
        let Some(held) = self.sandboxes.get_mut(sandbox) else { return };
        let SandboxPhase::Removing { callers, .. } = &mut held.phase else { return };
        let callers = std::mem::take(callers);
        if let Some(error) = failure {
            // It stays, and may be asked to go again.
            daemon::note(&format!("removing sandbox {sandbox}: {error}"));
            held.phase = SandboxPhase::Made;
            if let Some(waiting) = self.shutdown.take() {
                for caller in waiting {
                    self.clients.reply(caller, Err(error.clone()));
                }
            }
            for caller in callers {
                self.clients.reply(caller, Err(error.clone()));
            }
            return;
        }
        self.sandboxes.remove(sandbox);
        let gone: Vec<ContainerNumber> = self
            .containers
            .iter()
            .filter(|(_, container)| container.sandbox == *sandbox)
            .map(|(number, _)| *number)
            .collect();
        for number in gone {
            if let Some(container) = self.containers.remove(&number) {
                self.numbers.remove(&container.id);
                self.remove_files(&container.id, Keep::Nothing);
            }
        }
        self.persist(&Entry::SandboxGone { sandbox: sandbox.clone() }, now);
        for caller in callers {
            self.clients.reply(caller, Ok(Answer::Done));
        }
    }
}
