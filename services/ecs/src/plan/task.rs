//! What is known of a task, and what is to be done about it next.
//!
//! Two functions, both pure. [`progress`] folds what was seen into the record: it never invents a
//! state, it only writes down what the engine and the network have reported. [`next`] says what to
//! do. An executor does that, sees more, and asks again.
//!
//! Kept by both, and tested as properties below:
//! - a task is `RUNNING` only after the engine has started every container that it waits for;
//! - an exit code comes from the engine alone;
//! - a status only moves along [`TaskStatus::may_become`], and `STOPPED` is the end;
//! - a state that is not the end always has a next step, or waits for something that will come.

use std::time::Duration;

use wharf_core::Timestamp;
use wharf_engine::HealthStatus;
use wharf_engine::order::{self, Condition, Obstacle};

use crate::records::{
    AttachmentStatus, Container, ContainerDefinition, ContainerHealth, ContainerStatus, DependencyCondition,
    DesiredStatus, InterfaceRecord, StopCode, StopRecord, Task, TaskDefinition, TaskStatus,
};

/// What is seen of a container in the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The engine does not have it: not started, or already removed.
    Absent,
    Running {
        started_at: Timestamp,
        /// `None` without a health check.
        health: Option<HealthStatus>,
    },
    Exited {
        /// `None`: its program never ran.
        started_at: Option<Timestamp>,
        at: Timestamp,
        code: Option<i32>,
        oom_killed: bool,
        storage_exceeded: bool,
        start_error: Option<String>,
    },
    /// It ran, and the engine no longer knows of it: the host was restarted.
    Lost { at: Timestamp },
}

/// Whether a container's output has reached its log stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogProgress {
    /// It has no log driver, or never ran.
    None,
    Forwarding,
    Drained,
}

/// A container as it is outside the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenContainer {
    pub engine: Seen,
    pub image_digest: Option<String>,
    pub stop_signal: Option<i32>,
    pub log: LogProgress,
    /// It has been told to stop.
    pub stop_sent: bool,
}

impl Default for SeenContainer {
    fn default() -> Self {
        Self {
            engine: Seen::Absent,
            image_digest: None,
            stop_signal: None,
            log: LogProgress::None,
            stop_sent: false,
        }
    }
}

/// Why a task cannot be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartFailure {
    pub code: StopCode,
    /// In AWS's words.
    pub reason: String,
}

/// What is seen of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    pub interface: Option<(InterfaceRecord, Timestamp)>,
    /// The task's images are here and unpacked.
    pub images: bool,
    /// Its log streams are open, as far as it has any.
    pub streams: bool,
    pub pull_started: Option<Timestamp>,
    pub pull_stopped: Option<Timestamp>,
    /// The sandbox exists.
    pub prepared: bool,
    pub failure: Option<StartFailure>,
    /// Sandbox and interface have been removed.
    pub cleaned: bool,
    /// At the index of their definitions.
    pub containers: Vec<SeenContainer>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the interface and the sandbox, bring the images, open the log streams: whatever is missing.
    Provision,
    /// Make the sandbox.
    Prepare,
    /// Start these containers, all at once.
    Start(Vec<usize>),
    /// Tell these containers to stop.
    Stop(Vec<usize>),
    /// Remove the sandbox and the interface.
    CleanUp,
    /// Remove the record.
    Forget,
    /// For a signal.
    Wait,
    WaitUntil(Timestamp),
}

/// How long a stopped task is still described.
pub const STOPPED_TASK_RETENTION: Duration = Duration::from_secs(60 * 60);
/// How long a container is given to end when its definition does not say (Amazon ECS, `stopTimeout`).
pub const STOP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

pub const REASON_ESSENTIAL_EXITED: &str = "Essential container in task exited";
pub const REASON_FAILED_TO_START: &str = "Task failed to start";
const REASON_OOM: &str = "OutOfMemoryError: Container killed due to memory usage";
const REASON_STORAGE: &str = "Container killed due to ephemeral storage usage";
const REASON_LOST: &str = "The container was gone when the host started again";

/// Writes what was seen into the record. Returns whether anything changed that a caller can see;
/// `version` grows by one for each move of the status, or by one when only containers changed.
pub fn progress(task: &mut Task, definition: &TaskDefinition, seen: &Observation, now: Timestamp) -> bool {
    let before = task.version;
    let containers_changed = progress_containers(task, definition, seen, now);
    decide_to_stop(task, definition, seen);
    while let Some(next) = next_status(task, definition, seen) {
        enter(task, next, seen, now);
    }
    if task.version == before && containers_changed {
        task.version += 1;
    }
    task.version != before
}

/// Writes down that a task is `PENDING`, and nothing else: by the time that this is stored its
/// containers may run, or it may have been told to stop, and `seen` knows of neither.
pub fn announce_pending(task: &mut Task, seen: &Observation, now: Timestamp) -> bool {
    let as_it_was = task.status == TaskStatus::Provisioning && task.desired == DesiredStatus::Running;
    if as_it_was && seen.interface.is_some() {
        enter(task, TaskStatus::Pending, seen, now);
        return true;
    }
    false
}

fn progress_containers(
    task: &mut Task,
    definition: &TaskDefinition,
    seen: &Observation,
    now: Timestamp,
) -> bool {
    let mut changed = false;
    for (container, seen) in task.containers.iter_mut().zip(&seen.containers) {
        changed |= progress_container(container, seen);
    }
    // A dependency that can no longer be met: the container will never run.
    for index in 0..task.containers.len() {
        if task.containers[index].status != ContainerStatus::Pending {
            continue;
        }
        if let Some(reason) = unmeetable(task, definition, index, now) {
            let container = &mut task.containers[index];
            container.status = ContainerStatus::Stopped;
            container.reason = Some(reason);
            changed = true;
        }
    }
    changed
}

fn progress_container(container: &mut Container, seen: &SeenContainer) -> bool {
    let before = (container.status, container.image_digest.is_some(), container.health);
    if container.image_digest.is_none() {
        container.image_digest.clone_from(&seen.image_digest);
    }
    if container.stop_signal.is_none() {
        container.stop_signal = seen.stop_signal;
    }
    if container.status != ContainerStatus::Stopped {
        match &seen.engine {
            Seen::Absent => {}
            Seen::Running { started_at, health } => {
                container.status = ContainerStatus::Running;
                container.started_at = Some(*started_at);
                container.health = match health {
                    Some(HealthStatus::Healthy) => ContainerHealth::Healthy,
                    Some(HealthStatus::Unhealthy) => ContainerHealth::Unhealthy,
                    Some(HealthStatus::Starting) | None => ContainerHealth::Unknown,
                };
            }
            Seen::Exited { started_at, at, code, oom_killed, storage_exceeded, start_error } => {
                container.status = ContainerStatus::Stopped;
                container.started_at = *started_at;
                container.finished_at = Some(*at);
                match start_error {
                    Some(error) => container.reason = Some(format!("CannotStartContainerError: {error}")),
                    None => container.exit_code = *code,
                }
                if *oom_killed {
                    container.reason = Some(REASON_OOM.to_owned());
                }
                if *storage_exceeded {
                    container.reason = Some(REASON_STORAGE.to_owned());
                }
            }
            Seen::Lost { at } => {
                container.status = ContainerStatus::Stopped;
                container.finished_at = Some(*at);
                container.reason = Some(REASON_LOST.to_owned());
            }
        }
    }
    before != (container.status, container.image_digest.is_some(), container.health)
}

/// What a container waits for, as the engine's planning has it.
pub fn dependencies(of: &ContainerDefinition) -> Vec<order::Dependency> {
    let dependency = |dependency: &crate::records::Dependency| order::Dependency {
        on: dependency.container,
        condition: condition(dependency.condition),
    };
    of.depends_on.iter().map(dependency).collect()
}

fn condition(of: DependencyCondition) -> Condition {
    match of {
        DependencyCondition::Start => Condition::Start,
        DependencyCondition::Complete => Condition::Complete,
        DependencyCondition::Success => Condition::Success,
        DependencyCondition::Healthy => Condition::Healthy,
    }
}

/// How far each container is.
fn progress_of(task: &Task, definition: &TaskDefinition) -> Vec<order::Progress> {
    let of = |(container, definition): (&Container, &ContainerDefinition)| match container.status {
        ContainerStatus::Pending => order::Progress::Waiting,
        ContainerStatus::Running => {
            let health = match container.health {
                ContainerHealth::Unknown => HealthStatus::Starting,
                ContainerHealth::Healthy => HealthStatus::Healthy,
                ContainerHealth::Unhealthy => HealthStatus::Unhealthy,
            };
            order::Progress::Running { health: definition.health_check.as_ref().map(|_| health) }
        }
        ContainerStatus::Stopped if container.started_at.is_none() => order::Progress::NeverRan,
        ContainerStatus::Stopped => order::Progress::Exited { code: container.exit_code },
    };
    task.containers.iter().zip(&definition.containers).map(of).collect()
}

/// Why the container at `index` can never start; `None` while it may.
fn unmeetable(task: &Task, definition: &TaskDefinition, index: usize, now: Timestamp) -> Option<String> {
    let progress = progress_of(task, definition);
    definition.containers[index].depends_on.iter().find_map(|dependency| {
        let (wanted, name) = (condition(dependency.condition), &task.containers[dependency.container].name);
        let word = dependency.condition.as_str();
        let on = progress[dependency.container];
        match order::obstacle(wanted, on) {
            Some(Obstacle::NeverRan) => return Some(format!("dependency container {name} did not start")),
            Some(Obstacle::ExitCode(code)) => {
                let code = code.map_or_else(|| "no exit code".to_owned(), |code| format!("code {code}"));
                return Some(format!("dependency container {name} exited with {code}, not {word}"));
            }
            Some(Obstacle::NeverHealthy) => {
                return Some(format!("dependency container {name} ended before it was {word}"));
            }
            None => {}
        }
        let due = start_timeout(task, definition, dependency.container)?;
        (now >= due && !order::holds(wanted, on))
            .then(|| format!("dependency container {name} timed out before {word}"))
    })
}

/// When a container's `startTimeout` runs out; `None` when it has none or was not started.
fn start_timeout(task: &Task, definition: &TaskDefinition, index: usize) -> Option<Timestamp> {
    let seconds = definition.containers[index].start_timeout_secs?;
    let started = task.containers[index].started_at?;
    Some(started.plus(Duration::from_secs(u64::from(seconds))))
}

/// Turns `desired` to stopped when the task cannot go on. The first reason stays.
fn decide_to_stop(task: &mut Task, definition: &TaskDefinition, seen: &Observation) {
    if task.desired == DesiredStatus::Stopped {
        return;
    }
    let ended = definition.containers.iter().zip(&task.containers).filter(|(definition, container)| {
        definition.essential && container.status == ContainerStatus::Stopped
    });
    let never_ran = ended.clone().any(|(_, container)| container.started_at.is_none());
    let stop = if let Some(failure) = &seen.failure {
        StopRecord { code: failure.code, reason: failure.reason.clone() }
    } else if never_ran {
        StopRecord { code: StopCode::TaskFailedToStart, reason: REASON_FAILED_TO_START.to_owned() }
    } else if ended.count() > 0 {
        StopRecord { code: StopCode::EssentialContainerExited, reason: REASON_ESSENTIAL_EXITED.to_owned() }
    } else {
        return;
    };
    task.desired = DesiredStatus::Stopped;
    task.stop = Some(stop);
    task.version += 1;
}

/// The status that the task has already reached beyond the one in the record.
fn next_status(task: &Task, definition: &TaskDefinition, seen: &Observation) -> Option<TaskStatus> {
    let stopping = task.desired == DesiredStatus::Stopped;
    let alive = task.containers.iter().any(|container| container.status == ContainerStatus::Running);
    let ran = task.containers.iter().any(|container| container.started_at.is_some());
    match task.status {
        TaskStatus::Provisioning if seen.interface.is_some() => Some(TaskStatus::Pending),
        // A record can lag behind: what an earlier life of the control plane started may run already.
        TaskStatus::Provisioning if stopping && !alive => Some(TaskStatus::Deprovisioning),
        TaskStatus::Pending if has_started(task, definition) => Some(TaskStatus::Running),
        TaskStatus::Pending if stopping && ran => Some(TaskStatus::Stopping),
        TaskStatus::Pending if stopping => Some(TaskStatus::Deprovisioning),
        TaskStatus::Activating => Some(TaskStatus::Running),
        TaskStatus::Running if stopping => Some(TaskStatus::Stopping),
        TaskStatus::Deactivating => Some(TaskStatus::Stopping),
        TaskStatus::Stopping if !alive => Some(TaskStatus::Deprovisioning),
        TaskStatus::Deprovisioning if seen.cleaned => Some(TaskStatus::Stopped),
        TaskStatus::Provisioning
        | TaskStatus::Pending
        | TaskStatus::Running
        | TaskStatus::Stopping
        | TaskStatus::Deprovisioning
        | TaskStatus::Stopped => None,
    }
}

/// Every container has been started or has nothing left to wait for, and every essential one ran.
fn has_started(task: &Task, definition: &TaskDefinition) -> bool {
    definition.containers.iter().zip(&task.containers).all(|(definition, container)| {
        container.started_at.is_some()
            || (!definition.essential && container.status == ContainerStatus::Stopped)
    })
}

fn enter(task: &mut Task, status: TaskStatus, seen: &Observation, now: Timestamp) {
    debug_assert!(task.status.may_become(status), "{:?} to {status:?}", task.status);
    task.status = status;
    task.version += 1;
    match status {
        TaskStatus::Pending => {
            if let Some((interface, at)) = &seen.interface {
                task.network.interface = Some(interface.clone());
                task.network.status = AttachmentStatus::Attached;
                task.times.connectivity = Some(*at);
            }
        }
        TaskStatus::Running => {
            let started = task.containers.iter().filter_map(|container| container.started_at).max();
            task.times.started = started;
        }
        TaskStatus::Stopping => task.times.stopping = Some(now),
        TaskStatus::Deprovisioning => {
            let finished = task.containers.iter().filter_map(|container| container.finished_at).max();
            task.times.execution_stopped = finished.or(Some(now));
            for container in &mut task.containers {
                container.status = ContainerStatus::Stopped;
            }
            if task.network.interface.is_some() {
                task.network.status = AttachmentStatus::Detaching;
            }
        }
        TaskStatus::Stopped => {
            task.network.status = AttachmentStatus::Deleted;
            task.times.stopped = Some(now);
        }
        TaskStatus::Provisioning | TaskStatus::Activating | TaskStatus::Deactivating => {}
    }
    if status > TaskStatus::Provisioning {
        task.times.pull_started = task.times.pull_started.or(seen.pull_started);
        task.times.pull_stopped = task.times.pull_stopped.or(seen.pull_stopped);
    }
}

/// What to do about a task whose record is up to date with `seen`.
pub fn next(task: &Task, definition: &TaskDefinition, seen: &Observation, now: Timestamp) -> Step {
    match task.status {
        TaskStatus::Provisioning if task.desired == DesiredStatus::Stopped => {
            next_stop(task, definition, seen)
        }
        TaskStatus::Provisioning => Step::Provision,
        TaskStatus::Pending => next_start(task, definition, seen, now),
        TaskStatus::Activating | TaskStatus::Running | TaskStatus::Deactivating => Step::Wait,
        TaskStatus::Stopping => next_stop(task, definition, seen),
        TaskStatus::Deprovisioning => {
            let forwarding = seen.containers.iter().any(|seen| seen.log == LogProgress::Forwarding);
            if forwarding { Step::Wait } else { Step::CleanUp }
        }
        TaskStatus::Stopped => {
            let until = task.times.stopped.unwrap_or(now).plus(STOPPED_TASK_RETENTION);
            if now >= until { Step::Forget } else { Step::WaitUntil(until) }
        }
    }
}

fn next_start(task: &Task, definition: &TaskDefinition, seen: &Observation, now: Timestamp) -> Step {
    if seen.interface.is_none() || !seen.images || !seen.streams {
        return Step::Provision;
    }
    if !seen.prepared {
        return Step::Prepare;
    }
    let waits_for: Vec<_> = definition.containers.iter().map(dependencies).collect();
    let ready = order::startable(&waits_for, &progress_of(task, definition));
    if !ready.is_empty() {
        return Step::Start(ready);
    }
    // Something must still come: an exit, health, or the end of a startTimeout.
    let waiting = (0..task.containers.len())
        .filter(|&index| task.containers[index].status == ContainerStatus::Pending)
        .flat_map(|index| definition.containers[index].depends_on.iter())
        .filter_map(|dependency| start_timeout(task, definition, dependency.container))
        .filter(|&due| due > now)
        .min();
    waiting.map_or(Step::Wait, Step::WaitUntil)
}

/// Containers stop in the reverse of the order in which they started: one that others depend on
/// stays until those have ended.
fn next_stop(task: &Task, definition: &TaskDefinition, seen: &Observation) -> Step {
    let waits_for: Vec<_> = definition.containers.iter().map(dependencies).collect();
    let mut now = order::stoppable(&waits_for, &progress_of(task, definition));
    now.retain(|&index| !seen.containers[index].stop_sent);
    if now.is_empty() { Step::Wait } else { Step::Stop(now) }
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
