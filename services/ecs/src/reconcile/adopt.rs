//! After a start of the control plane: what runs is taken over, what ended meanwhile is written
//! down, what belongs to nobody is removed. Nothing is repeated.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use wharf_contracts::LogSinkError;
use wharf_core::Timestamp;
use wharf_engine::{ContainerId, EngineError, Event, EventKind, EventStream, SandboxId, SandboxStatus};

use super::live::Live;
use super::logs::destination;
use super::{Platform, spec};
use crate::plan::task::Seen;
use crate::records::{ContainerStatus, Task, TaskDefinition, TaskStatus};

/// Why what runs could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    #[error("the engine could not be asked what it runs")]
    Engine(#[from] EngineError),
    #[error("a log stream could not be opened again")]
    LogSink(#[from] LogSinkError),
}

impl Platform {
    /// Compares the engine with the records. Run it with the event stream already taken, and before
    /// any task is reconciled.
    pub async fn adopt(self: &Arc<Self>) -> Result<(), AdoptError> {
        let now = self.clock.now();
        let sandboxes = self.engine.list().await?;
        let ours = |sandbox: &SandboxStatus| {
            sandbox.labels.iter().any(|(name, value)| (name.as_str(), value.as_str()) == spec::OWNER_LABEL)
        };
        let mut by_id: HashMap<String, SandboxStatus> = sandboxes
            .into_iter()
            .filter(ours)
            .map(|sandbox| (sandbox.id.as_str().to_owned(), sandbox))
            .collect();
        let snapshot = self.store.snapshot();
        for task in snapshot.prefix::<Task>(&[]) {
            if task.status == TaskStatus::Stopped {
                continue;
            }
            let Some(definition) = snapshot.get::<TaskDefinition>(&task.definition_key()) else { continue };
            let live = self.live.get_or_add(&task);
            let sandbox = by_id.remove(&task.id);
            self.adopt_task(&task, &definition, &live, sandbox.as_ref(), now).await?;
        }
        for orphan in by_id.into_values() {
            tracing::info!(sandbox = %orphan.id, "removing a sandbox that no task owns");
            self.engine.remove_sandbox(&orphan.id).await?;
        }
        Ok(())
    }

    async fn adopt_task(
        self: &Arc<Self>,
        task: &Task,
        definition: &TaskDefinition,
        live: &Arc<Live>,
        sandbox: Option<&SandboxStatus>,
        now: Timestamp,
    ) -> Result<(), LogSinkError> {
        {
            let mut state = live.state.lock();
            if let (Some(interface), Some(at)) = (&task.network.interface, task.times.connectivity) {
                // Known, though a task that is still to start asks the network for it again.
                if task.status > TaskStatus::Pending {
                    state.seen.interface = Some((interface.clone(), at));
                }
            }
        }
        for (index, container) in task.containers.iter().enumerate() {
            let status = sandbox.and_then(|sandbox| {
                sandbox.containers.iter().find(|of| of.id.as_str() == container.runtime_id)
            });
            match status {
                Some(status) => {
                    live.saw(index, status);
                    let ran = !matches!(
                        &status.state,
                        wharf_engine::ContainerState::Exited { started_at: None, .. }
                    );
                    if ran {
                        self.adopt_output(task, definition, live, index, status.id.clone()).await?;
                    }
                }
                None if container.status == ContainerStatus::Running => {
                    live.state.lock().seen.containers[index].engine = Seen::Lost { at: now };
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Opens the stream again, and goes on where it ends.
    async fn adopt_output(
        self: &Arc<Self>,
        task: &Task,
        definition: &TaskDefinition,
        live: &Arc<Live>,
        index: usize,
        container: ContainerId,
    ) -> Result<(), LogSinkError> {
        let logs = definition.containers[index].log_configuration.as_ref();
        if let Some(logs) = logs
            && let Some(destination) = destination(task, index, &logs.awslogs)
        {
            match self.log_sink.open(&destination, logs.awslogs.create_group).await {
                Ok(position) => live.state.lock().log_positions[index] = position,
                Err(LogSinkError::Refused(error)) => {
                    tracing::warn!(task = %task.arn, %error, "the log stream refuses output");
                }
                Err(error) => return Err(error),
            }
        }
        self.forward(task, definition, live, index, container);
        Ok(())
    }

    /// Reads events until the engine is gone.
    pub async fn follow(self: Arc<Self>, mut events: EventStream) {
        loop {
            match events.recv().await {
                Ok(event) => self.take(&event),
                Err(RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, "engine events were lost; asking for everything");
                    self.catch_up().await;
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn take(&self, event: &Event) {
        let Some(live) = self.live.get(event.sandbox.as_str()) else { return };
        let Some(index) = live.index_of(event.container.as_str()) else { return };
        if !matches!(event.kind, EventKind::Started { .. }) {
            live.logged[index].notify_one();
        }
        if live.happened(index, event.at, &event.kind) {
            self.signal(live.key.clone());
        }
    }

    /// Folds the engine's present state into every live task.
    pub async fn catch_up(&self) {
        let sandboxes = match self.engine.list().await {
            Ok(sandboxes) => sandboxes,
            Err(error) => {
                tracing::warn!(%error, "the engine could not be asked what it runs");
                return;
            }
        };
        for sandbox in sandboxes {
            let Some(live) = self.live.get(sandbox.id.as_str()) else { continue };
            for container in &sandbox.containers {
                if let Some(index) = live.index_of(container.id.as_str()) {
                    live.saw(index, container);
                    live.logged[index].notify_one();
                }
            }
            self.signal(live.key.clone());
        }
    }

    /// Removes every sandbox of ours, whatever runs in it.
    pub async fn remove_all_sandboxes(&self) -> Result<(), EngineError> {
        let mut ids: Vec<SandboxId> = Vec::new();
        for sandbox in self.engine.list().await? {
            let label =
                |(name, value): &(String, String)| (name.as_str(), value.as_str()) == spec::OWNER_LABEL;
            if sandbox.labels.iter().any(label) {
                ids.push(sandbox.id);
            }
        }
        for id in ids {
            self.engine.remove_sandbox(&id).await?;
        }
        Ok(())
    }
}
