//! Bringing records and the engine together: as events come, and after a restart of the server.

use std::collections::{HashMap, HashSet};

use tokio::sync::broadcast::error::RecvError;
use wharf_engine::{ContainerState, ContainerStatus, Event, EventKind, ExitStatus};

use crate::config::Restart;
use crate::event::Action;
use crate::life::owner;
use crate::plan::spec;
use crate::records::{Container, Exit, HealthStatus, State, Wanted};
use crate::{Containers, ContainersError, ports};

impl Containers {
    /// Finds what runs, makes its ports anew, goes on with what was being removed, and starts what
    /// its policy says. Then follows the engine until the last clone of this value is dropped or the
    /// task that it returns is aborted.
    pub async fn recover(&self) -> Result<tokio::task::JoinHandle<()>, ContainersError> {
        let events = self.0.engine.events();
        self.reconcile().await?;
        for container in self.list() {
            let again = matches!(container.config.restart, Restart::Always)
                || matches!(container.config.restart, Restart::UnlessStopped | Restart::OnFailure { .. })
                    && container.wanted == Wanted::Running;
            let lost = matches!(&container.state, State::Exited(exit) if exit.code.is_none());
            if again
                && lost
                && let Err(error) = self.start(&container.id).await
            {
                tracing::error!(%error, container = container.name, "a container cannot be started again");
            }
        }
        let containers = self.clone();
        Ok(tokio::spawn(async move { containers.follow(events).await }))
    }

    async fn follow(&self, mut events: wharf_engine::EventStream) {
        loop {
            let outcome = match events.recv().await {
                Ok(event) => self.engine_told(event).await,
                Err(RecvError::Lagged(_)) => self.reconcile().await,
                Err(RecvError::Closed) => return,
            };
            if let Err(error) = outcome {
                tracing::error!(%error, "what a container does cannot be kept");
            }
        }
    }

    async fn engine_told(&self, event: Event) -> Result<(), ContainersError> {
        let Some((prefix, run)) = spec::parse_container_id(&event.container) else { return Ok(()) };
        let Ok(container) = self.find(prefix) else { return Ok(()) };
        if container.run != run {
            return Ok(());
        }
        match event.kind {
            EventKind::Created | EventKind::Logged { .. } => return Ok(()),
            EventKind::OutOfMemory => {
                self.tell(&container, Action::OutOfMemory);
                return Ok(());
            }
            EventKind::Health(status) => {
                let (status, text) = match status {
                    wharf_engine::HealthStatus::Starting => (HealthStatus::Starting, "starting"),
                    wharf_engine::HealthStatus::Healthy => (HealthStatus::Healthy, "healthy"),
                    wharf_engine::HealthStatus::Unhealthy => (HealthStatus::Unhealthy, "unhealthy"),
                };
                self.change(&container.id, |container| container.health = Some(status)).await?;
                self.tell(&container, Action::Health { status: text.to_owned() });
                return Ok(());
            }
            EventKind::Started { .. }
            | EventKind::Paused
            | EventKind::Resumed
            | EventKind::Restarting { .. }
            | EventKind::Exited(_) => {}
        }
        self.see(&container).await
    }

    /// Asks the engine how the container is, and keeps it.
    pub(crate) async fn see(&self, container: &Container) -> Result<(), ContainersError> {
        let engine_id = self.engine_id(container)?;
        match self.0.engine.status(&engine_id).await {
            Ok(status) => self.saw(&container.id, container.run, &status).await,
            Err(wharf_engine::EngineError::NoContainer(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps what the engine says of a run.
    pub(crate) async fn saw(
        &self,
        id: &str,
        run: u32,
        status: &ContainerStatus,
    ) -> Result<(), ContainersError> {
        let Some(before) = self.get(id).filter(|container| container.run == run) else { return Ok(()) };
        let (state, started_at) = match &status.state {
            ContainerState::Running { pid, started_at } => (State::Running { pid: *pid }, Some(*started_at)),
            ContainerState::Paused { pid, started_at } => (State::Paused { pid: *pid }, Some(*started_at)),
            ContainerState::Restarting { exit, .. } => (State::Restarting { exit: exit_of(exit) }, None),
            ContainerState::Exited { started_at, exit } => (State::Exited(exit_of(exit)), *started_at),
        };
        let restarts = status.restarts;
        let after = self
            .change(id, |container| {
                container.state = state;
                container.started_at = started_at.or(container.started_at);
                container.restarts = restarts;
            })
            .await?;
        let Some(after) = after.filter(|after| after.state != before.state) else { return Ok(()) };
        match &after.state {
            State::Restarting { exit } => self.tell(&after, Action::Die { code: exit.code }),
            State::Exited(exit) => {
                self.0.published.lock().remove(id);
                self.tell(&after, Action::Die { code: exit.code });
                if after.config.auto_remove {
                    let (containers, id) = (self.clone(), id.to_owned());
                    tokio::spawn(async move { containers.remove_itself(&id).await });
                }
            }
            State::Running { .. } if before.started_at.is_some() && before.started_at != after.started_at => {
                // By its policy: one that is started by hand is told of by whoever starts it.
                if matches!(before.state, State::Restarting { .. }) {
                    self.tell(&after, Action::Start);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Compares every record with what the engine has.
    async fn reconcile(&self) -> Result<(), ContainersError> {
        let sandboxes = self.0.engine.list().await?;
        let records = self.list();
        let known: HashSet<String> = records.iter().map(|container| owner(&container.id)).collect();
        let mut found: HashMap<String, ContainerStatus> = HashMap::new();
        for sandbox in sandboxes {
            let ours = sandbox
                .labels
                .iter()
                .any(|(name, value)| (name.as_str(), value.as_str()) == spec::OWNER_LABEL);
            if !ours {
                continue;
            }
            if !known.contains(sandbox.id.as_str()) {
                // Its removal was cut off between the record and the engine, or its making before.
                self.0.engine.remove_sandbox(&sandbox.id).await?;
                self.0.network.detach(sandbox.id.as_str()).await?;
                continue;
            }
            found
                .extend(sandbox.containers.into_iter().map(|status| (status.id.as_str().to_owned(), status)));
        }
        for container in records {
            let _guard = self.lock(&container.id).await;
            if container.state == State::Removing {
                if let Err(error) = self.remove_locked(&container.id, true).await {
                    tracing::error!(%error, container = container.name, "a container cannot be removed");
                }
                continue;
            }
            if container.run == 0 {
                continue;
            }
            let engine_id = self.engine_id(&container)?;
            match found.get(engine_id.as_str()) {
                Some(status) => {
                    self.saw(&container.id, container.run, status).await?;
                    self.serve_ports(&container.id).await;
                }
                None if container.state.is_alive() => self.lost(&container).await?,
                None => {}
            }
        }
        Ok(())
    }

    /// The engine knows nothing of it: the host was started anew.
    async fn lost(&self, container: &Container) -> Result<(), ContainersError> {
        let exit = Exit { at: self.0.clock.now(), code: None, oom_killed: false, error: None };
        let after = self.set_state(&container.id, State::Exited(exit)).await?;
        if let Some(after) = after {
            self.tell(&after, Action::Die { code: None });
            if after.config.auto_remove {
                self.remove_locked(&after.id, true).await?;
            }
        }
        Ok(())
    }

    /// Listens again for a container that runs.
    async fn serve_ports(&self, id: &str) {
        let Some(container) = self.get(id).filter(|container| container.state.is_alive()) else { return };
        let Some(network) = &container.network else { return };
        if container.ports.is_empty() || self.0.published.lock().contains_key(id) {
            return;
        }
        match ports::bind(&container.ports).await {
            Ok(bound) => {
                self.0.published.lock().insert(id.to_owned(), bound.serve(network.address));
            }
            Err(error) => {
                tracing::error!(%error, container = container.name, "a published port is not served");
            }
        }
    }

    /// Stops and removes every container, for `wharf down` and a reset.
    pub async fn remove_all(&self) -> Result<usize, ContainersError> {
        let all = self.list();
        for container in &all {
            let _guard = self.lock(&container.id).await;
            self.remove_locked(&container.id, true).await?;
        }
        Ok(all.len())
    }

    /// Stops every running container with its own signal and grace, all at once. Records stay.
    pub async fn stop_all(&self) -> usize {
        let running: Vec<_> =
            self.list().into_iter().filter(|container| container.state.is_alive()).collect();
        let stopping = running.iter().map(|container| {
            let (containers, id) = (self.clone(), container.id.clone());
            tokio::spawn(async move { containers.stop(&id, None).await })
        });
        let stopping: Vec<_> = stopping.collect();
        for stopped in stopping {
            if let Ok(Err(error)) = stopped.await {
                tracing::error!(%error, "a container could not be stopped");
            }
        }
        running.len()
    }
}

fn exit_of(exit: &ExitStatus) -> Exit {
    Exit { at: exit.at, code: exit.code, oom_killed: exit.oom_killed, error: exit.start_error.clone() }
}
