//! What is seen of tasks that are alive: kept in memory, and found again after a restart.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use wharf_contracts::{Interface, ResolvedImage};
use wharf_core::Timestamp;
use wharf_engine::{ContainerState, ContainerStatus, EventKind, ExitStatus, HealthStatus};

use crate::plan::task::{Observation, Seen, SeenContainer};
use crate::records::{Task, TaskKey};

/// A task that has not stopped.
pub struct Live {
    pub key: TaskKey,
    /// The engine's ids of the containers, at the index of their definitions.
    pub runtime_ids: Vec<String>,
    /// Wakes the log forwarder of each container.
    pub logged: Vec<Arc<Notify>>,
    pub state: Mutex<LiveState>,
}

#[derive(Default)]
pub struct LiveState {
    pub seen: Observation,
    pub interface: Option<Interface>,
    /// At the index of the containers; empty until they are all here.
    pub images: Vec<ResolvedImage>,
    /// Where the log stream of each container goes on.
    pub log_positions: Vec<u64>,
    /// That the task is `PENDING` has been handed to the store.
    pub announced: bool,
    /// Failures of the host so far, which are tried again a few times.
    pub host_failures: u32,
}

impl Live {
    fn new(task: &Task) -> Self {
        let count = task.containers.len();
        Self {
            key: (task.scope.clone(), task.cluster.clone(), task.id.clone()),
            runtime_ids: task.containers.iter().map(|container| container.runtime_id.clone()).collect(),
            logged: (0..count).map(|_| Arc::new(Notify::new())).collect(),
            state: Mutex::new(LiveState {
                seen: Observation {
                    containers: vec![SeenContainer::default(); count],
                    ..Observation::default()
                },
                log_positions: vec![0; count],
                ..LiveState::default()
            }),
        }
    }

    pub fn observe(&self) -> Observation {
        self.state.lock().seen.clone()
    }

    pub fn index_of(&self, runtime_id: &str) -> Option<usize> {
        self.runtime_ids.iter().position(|id| id == runtime_id)
    }

    /// Folds what the engine says of a container.
    pub fn saw(&self, index: usize, status: &ContainerStatus) {
        let mut live = self.state.lock();
        let seen = &mut live.seen.containers[index].engine;
        match &status.state {
            ContainerState::Running { started_at, .. } | ContainerState::Paused { started_at, .. } => {
                saw_started(seen, *started_at);
            }
            // As on AWS, a container that is started again in its task does not stop meanwhile.
            ContainerState::Restarting { exit, .. } => saw_started(seen, exit.at),
            ContainerState::Exited { started_at, exit } => saw_exited(seen, *started_at, exit),
        }
        saw_health(seen, status.health);
    }

    /// Its program cannot be run.
    pub fn never_ran(&self, index: usize, exit: &ExitStatus) {
        saw_exited(&mut self.state.lock().seen.containers[index].engine, None, exit);
    }

    /// Folds an event. Returns whether there is something to reconcile.
    pub fn happened(&self, index: usize, at: Timestamp, kind: &EventKind) -> bool {
        let mut live = self.state.lock();
        let seen = &mut live.seen.containers[index].engine;
        match kind {
            EventKind::Started { .. } => {
                saw_started(seen, at);
                // Started again, it has to say anew how it is.
                if let Seen::Running { health: Some(health), .. } = seen {
                    *health = HealthStatus::Starting;
                }
            }
            EventKind::Health(health) => saw_health(seen, Some(*health)),
            EventKind::Exited(exit) => {
                let started_at = if exit.start_error.is_some() {
                    None
                } else if let Seen::Running { started_at, .. } = seen {
                    Some(*started_at)
                } else {
                    Some(exit.at)
                };
                saw_exited(seen, started_at, exit);
            }
            EventKind::Created
            | EventKind::OutOfMemory
            | EventKind::Paused
            | EventKind::Resumed
            | EventKind::Restarting { .. }
            | EventKind::Logged { .. } => return false,
        }
        true
    }
}

fn saw_started(seen: &mut Seen, at: Timestamp) {
    match seen {
        Seen::Absent => *seen = Seen::Running { started_at: at, health: None },
        // The exit was told first.
        Seen::Exited { started_at: Some(started_at), .. } => *started_at = at.min(*started_at),
        Seen::Running { .. } | Seen::Exited { .. } | Seen::Lost { .. } => {}
    }
}

fn saw_health(seen: &mut Seen, says: Option<HealthStatus>) {
    if let Seen::Running { health, .. } = seen {
        *health = says;
    }
}

fn saw_exited(seen: &mut Seen, started_at: Option<Timestamp>, exit: &ExitStatus) {
    if matches!(seen, Seen::Absent | Seen::Running { .. }) {
        *seen = Seen::Exited {
            started_at,
            at: exit.at,
            code: exit.code,
            oom_killed: exit.oom_killed,
            storage_exceeded: exit.storage_exceeded,
            start_error: exit.start_error.clone(),
        };
    }
}

/// All tasks that are alive, by id and by address.
#[derive(Default)]
pub struct LiveTasks {
    by_id: Mutex<HashMap<String, Arc<Live>>>,
    by_address: Mutex<HashMap<(String, Ipv4Addr), TaskKey>>,
}

impl LiveTasks {
    pub fn get(&self, task_id: &str) -> Option<Arc<Live>> {
        self.by_id.lock().get(task_id).cloned()
    }

    pub fn get_or_add(&self, task: &Task) -> Arc<Live> {
        let live = {
            let mut by_id = self.by_id.lock();
            if let Some(live) = by_id.get(&task.id) {
                return Arc::clone(live);
            }
            let live = Arc::new(Live::new(task));
            by_id.insert(task.id.clone(), Arc::clone(&live));
            live
        };
        if let Some(interface) = &task.network.interface {
            self.add_address(&interface.vpc_id, interface.private_ipv4, &live.key);
        }
        live
    }

    pub fn remove(&self, task_id: &str) {
        if self.by_id.lock().remove(task_id).is_some() {
            self.by_address.lock().retain(|_, key| key.2 != task_id);
        }
    }

    pub fn clear(&self) {
        self.by_id.lock().clear();
        self.by_address.lock().clear();
    }

    pub fn add_address(&self, vpc_id: &str, address: Ipv4Addr, key: &TaskKey) {
        self.by_address.lock().insert((vpc_id.to_owned(), address), key.clone());
    }

    pub fn at_address(&self, vpc_id: &str, address: Ipv4Addr) -> Option<TaskKey> {
        self.by_address.lock().get(&(vpc_id.to_owned(), address)).cloned()
    }
}
