//! What the keeper says of what it holds: to clients, and to its state file.

use wharf_engine::{ContainerId, ContainerState, ContainerStatus, EngineError, ExitStatus, SandboxStatus};

use super::{Container, Keeper, Phase, SandboxPhase};
use crate::protocol::Answer;
use crate::state::{ContainerRecord, SandboxRecord, Snapshot};

impl Keeper {
    pub(super) fn list(&self) -> Vec<SandboxStatus> {
        let mut listed: Vec<SandboxStatus> = self
            .sandboxes
            .iter()
            .filter(|(_, held)| !matches!(held.phase, SandboxPhase::Making(_)))
            .map(|(id, held)| SandboxStatus {
                id: id.clone(),
                created_at: held.created_at,
                labels: held.spec.labels.clone(),
                containers: Vec::new(),
            })
            .collect();
        let mut containers: Vec<&Container> = self.containers.values().collect();
        containers.sort_by(|a, b| a.id.cmp(&b.id));
        for container in containers {
            // The list is sorted as the map is.
            if let Ok(index) = listed.binary_search_by(|status| status.id.cmp(&container.sandbox)) {
                listed[index].containers.extend(container.status());
            }
        }
        listed
    }

    pub(super) fn health(&self, container: &ContainerId) -> Result<Answer, EngineError> {
        let held = self.numbers.get(container).and_then(|number| self.containers.get(number));
        let held = held.ok_or_else(|| EngineError::NoContainer(container.clone()))?;
        Ok(Answer::Health(held.care.as_ref().and_then(|care| care.health())))
    }

    /// What the state file must say.
    pub(super) fn snapshot(&self) -> Snapshot {
        let sandboxes = self
            .sandboxes
            .iter()
            .filter(|(_, held)| !matches!(held.phase, SandboxPhase::Making(_)))
            .map(|(id, held)| {
                let (spec, created_at, by) = (held.spec.clone(), held.created_at, held.by);
                (id.clone(), SandboxRecord { spec, created_at, by })
            })
            .collect();
        let containers =
            self.containers.values().map(|container| (container.id.clone(), container.record())).collect();
        Snapshot { boot_id: String::new(), sandboxes, containers }
    }
}

impl Container {
    /// `None` while it starts: nobody is told of it before.
    pub(super) fn status(&self) -> Option<ContainerStatus> {
        let state = match &self.phase {
            Phase::Starting(_) => {
                // Nobody is told of one before it runs, except that it ran before.
                let (exit, at) = self.care.as_ref()?.now.restarting.clone()?;
                ContainerState::Restarting { exit, at }
            }
            Phase::Running(running) if self.is_paused() => {
                ContainerState::Paused { pid: running.process.pid, started_at: running.started_at }
            }
            Phase::Running(running) => {
                ContainerState::Running { pid: running.process.pid, started_at: running.started_at }
            }
            Phase::Restarting(restarting) => {
                ContainerState::Restarting { exit: restarting.exit.clone(), at: restarting.at }
            }
            Phase::Exited { started_at, exit } => {
                ContainerState::Exited { started_at: *started_at, exit: exit.clone() }
            }
        };
        Some(ContainerStatus {
            id: self.id.clone(),
            sandbox: self.sandbox.clone(),
            state,
            labels: self.labels.clone(),
            health: self.care.as_ref().and_then(|care| care.now.health),
            restarts: self.care.as_ref().map_or(0, |care| care.now.restarts),
        })
    }

    /// What `start_container` answers for it.
    pub(super) fn start_result(&self) -> Result<Answer, EngineError> {
        if let Phase::Exited { exit: ExitStatus { start_error: Some(message), code, .. }, .. } = &self.phase {
            return Err(EngineError::Start { exit_code: code.unwrap_or(128), message: message.clone() });
        }
        let status = self.status().ok_or_else(|| EngineError::NoContainer(self.id.clone()))?;
        Ok(Answer::Container(status))
    }

    fn record(&self) -> ContainerRecord {
        let (started, kill_at, exit) = match &self.phase {
            Phase::Starting(_) | Phase::Restarting(_) => (None, None, None),
            Phase::Running(running) => (Some((running.process, running.started_at)), running.kill_at, None),
            Phase::Exited { started_at, exit } => {
                // Of one that is over, only the time counts.
                let nobody = crate::state::ProcessRef { pid: 0, start_ticks: 0 };
                (started_at.map(|at| (nobody, at)), None, Some(exit.clone()))
            }
        };
        ContainerRecord {
            sandbox: self.sandbox.clone(),
            fingerprint: self.fingerprint,
            labels: self.labels.clone(),
            by: self.by,
            started,
            kill_at,
            exit,
            exec_base: self.exec_base.to_vec(),
            care: self.care.as_ref().map(|care| care.spec.clone()).unwrap_or_default(),
            care_now: self.care.as_ref().map(|care| care.now.clone()).unwrap_or_default(),
        }
    }
}
