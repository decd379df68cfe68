//! Makes one task what it should be: looks, asks `plan::task` what is known and what comes next,
//! does it, and looks again until there is nothing to do but wait.
//!
//! What is written, and when. Accepting a task is one durable write, `RUNNING` is one; that it became
//! `PENDING` is handed to the store while the work goes on, because losing it costs nothing: every
//! step until then can be repeated. An exit code is durable before the sandbox that held it goes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use wharf_contracts::{AssignPublicIp, InterfaceError, InterfaceRequest, LogSinkError};
use wharf_control::{Outcome, Reconciler};
use wharf_core::{Arn, Timestamp};
use wharf_engine::{ContainerId, EngineError, ExitStatus, Signal};
use wharf_state::TransactError;

use super::live::Live;
use super::logs::{Forwarder, destination};
use super::{Platform, spec};
use crate::plan::task::{
    LogProgress, Observation, STOP_TIMEOUT_DEFAULT, Seen, StartFailure, Step, announce_pending, next,
    progress,
};
use crate::records::{InterfaceRecord, StopCode, Task, TaskDefinition, TaskKey, TaskStatus};

/// How often a start is tried again when the host, not the task, is at fault.
const HOST_FAILURES_MAX: u32 = 5;

/// Runs the tasks.
pub struct TaskReconciler(pub Arc<Platform>);

#[async_trait]
impl Reconciler for TaskReconciler {
    type Key = TaskKey;

    fn name(&self) -> &'static str {
        "ecs-task"
    }

    async fn reconcile(&self, key: &TaskKey) -> Outcome {
        let _gate = self.0.gate.read().await;
        self.0.reconcile_task(key).await.unwrap_or_else(|error| Outcome::Retry(error.to_string()))
    }

    fn all_keys(&self) -> Vec<TaskKey> {
        self.0.store.snapshot().prefix::<Task>(&[]).map(|task| wharf_state::Record::key(&*task)).collect()
    }
}

/// Why a step is to be tried again.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error("the task's record could not be written: {0}")]
    Store(#[from] TransactError<Infallible>),
    #[error("the engine failed: {0}")]
    Engine(#[from] EngineError),
    #[error("the network failed: {0}")]
    Interface(#[from] InterfaceError),
    #[error("the log store failed: {0}")]
    LogSink(#[from] LogSinkError),
    #[error("the task's definition is gone")]
    NoDefinition,
}

impl Platform {
    async fn reconcile_task(self: &Arc<Self>, key: &TaskKey) -> Result<Outcome, StepError> {
        loop {
            let snapshot = self.store.snapshot();
            let Some(stored) = snapshot.get::<Task>(key) else {
                self.live.remove(&key.2);
                return Ok(Outcome::Done);
            };
            let definition =
                snapshot.get::<TaskDefinition>(&stored.definition_key()).ok_or(StepError::NoDefinition)?;
            let live = (stored.status != TaskStatus::Stopped).then(|| self.live.get_or_add(&stored));
            let seen = live.as_ref().map(|live| live.observe()).unwrap_or_default();
            let now = self.clock.now();
            let mut task = (*stored).clone();
            let changed = progress(&mut task, &definition, &seen, now);
            let step = next(&task, &definition, &seen, now);
            let Some(live) = live else { return self.rest(key, &step, now).await };

            if changed {
                let going_on = matches!(step, Step::Provision | Step::Prepare | Step::Start(_));
                if !(task.status == TaskStatus::Pending && going_on) {
                    self.write(key, &definition, &seen, now).await?;
                    continue;
                }
                self.announce(key, &seen, now, &live);
            }
            match step {
                Step::Provision => self.provision(&task, &definition, &live).await?,
                Step::Prepare => self.prepare(&task, &definition, &live).await?,
                Step::Start(indices) => {
                    let starts = indices.iter().map(|&index| self.start(&task, &definition, &live, index));
                    join_all(starts).await.into_iter().collect::<Result<(), _>>()?;
                }
                Step::Stop(indices) => {
                    let stops = indices.iter().map(|&index| self.stop(&task, &definition, &live, index));
                    join_all(stops).await.into_iter().collect::<Result<(), _>>()?;
                }
                Step::CleanUp => self.clean_up(&task, &live).await?,
                Step::Forget | Step::Wait => return Ok(Outcome::Done),
                Step::WaitUntil(until) => return Ok(after(until, now)),
            }
        }
    }

    /// A stopped task: kept for a while, then forgotten.
    async fn rest(&self, key: &TaskKey, step: &Step, now: Timestamp) -> Result<Outcome, StepError> {
        self.live.remove(&key.2);
        match step {
            Step::WaitUntil(until) => Ok(after(*until, now)),
            Step::Forget => {
                self.store
                    .transact(|transaction| {
                        let stopped = |task: &Arc<Task>| task.status == TaskStatus::Stopped;
                        if transaction.get::<Task>(key).as_ref().is_some_and(stopped) {
                            transaction.delete::<Task>(key);
                        }
                        Ok::<_, Infallible>(())
                    })
                    .await?;
                Ok(Outcome::Done)
            }
            _ => Ok(Outcome::Done),
        }
    }

    async fn write(
        &self,
        key: &TaskKey,
        definition: &TaskDefinition,
        seen: &Observation,
        now: Timestamp,
    ) -> Result<(), TransactError<Infallible>> {
        self.store
            .transact(|transaction| {
                if let Some(task) = transaction.get::<Task>(key) {
                    let mut task = (*task).clone();
                    if progress(&mut task, definition, seen, now) {
                        transaction.put(task);
                    }
                }
                Ok(())
            })
            .await
    }

    /// Hands `PENDING` to the store without waiting for it.
    fn announce(self: &Arc<Self>, key: &TaskKey, seen: &Observation, now: Timestamp, live: &Live) {
        if std::mem::replace(&mut live.state.lock().announced, true) {
            return;
        }
        let (platform, key, seen) = (Arc::clone(self), key.clone(), seen.clone());
        self.spawn(async move {
            let written = platform.store.transact(|transaction| {
                if let Some(task) = transaction.get::<Task>(&key) {
                    let mut task = (*task).clone();
                    if announce_pending(&mut task, &seen, now) {
                        transaction.put(task);
                    }
                }
                Ok::<_, Infallible>(())
            });
            if let Err(error) = written.await {
                tracing::debug!(%error, "PENDING was not stored; the next write brings it");
            }
        });
    }

    /// Interface and sandbox, images, log streams: all at once, for none needs another.
    async fn provision(
        &self,
        task: &Task,
        definition: &TaskDefinition,
        live: &Live,
    ) -> Result<(), StepError> {
        let place = async {
            self.make_interface(task, live).await?;
            let ready = {
                let state = live.state.lock();
                state.interface.is_some() && !state.seen.prepared
            };
            if ready { self.prepare(task, definition, live).await } else { Ok(()) }
        };
        let (place, images, streams) = tokio::join!(
            place,
            self.bring_images(task, definition, live),
            self.open_streams(task, definition, live),
        );
        place.and(images).and(streams)
    }

    async fn make_interface(&self, task: &Task, live: &Live) -> Result<(), StepError> {
        if live.state.lock().seen.interface.is_some() {
            return Ok(());
        }
        let network = &task.network;
        let resource = format!("attachment/{}", network.attachment_id);
        let request = InterfaceRequest {
            scope: task.scope.clone(),
            subnet_id: network.subnet_id.clone(),
            security_group_ids: network.security_group_ids.clone(),
            assign_public_ip: if network.assign_public_ip {
                AssignPublicIp::Enabled
            } else {
                AssignPublicIp::Disabled
            },
            owner: network.attachment_id.clone(),
            description: Arn::regional("ecs", &task.scope.region, task.scope.account, resource).to_string(),
        };
        let interface = match self.interfaces.create(request).await {
            Ok(interface) => interface,
            Err(InterfaceError::Refused(error)) => {
                fail(
                    live,
                    format!("ResourceInitializationError: unable to create a network interface: {error}"),
                );
                return Ok(());
            }
            Err(error) => return host_failure(live, error.into()),
        };
        let record = InterfaceRecord {
            id: interface.id.clone(),
            mac_address: interface.mac_address.clone(),
            private_ipv4: interface.private_ipv4,
            private_dns_name: interface.private_dns_name.clone(),
            subnet_cidr: interface.subnet_cidr.clone(),
            gateway: interface.gateway,
            vpc_id: interface.vpc_id.clone(),
            name_servers: interface.name_servers.clone(),
        };
        self.live.add_address(&interface.vpc_id, interface.private_ipv4, &live.key);
        let mut state = live.state.lock();
        state.interface = Some(interface);
        state.seen.interface = Some((record, self.clock.now()));
        Ok(())
    }

    async fn bring_images(
        &self,
        task: &Task,
        definition: &TaskDefinition,
        live: &Live,
    ) -> Result<(), StepError> {
        if live.state.lock().seen.images {
            return Ok(());
        }
        let begin = self.clock.now();
        let images = join_all(definition.containers.iter().map(|of| self.images.resolve(&of.image))).await;
        let end = self.clock.now();
        let mut state = live.state.lock();
        state.seen.pull_started.get_or_insert(begin);
        state.seen.pull_stopped.get_or_insert(end);
        let mut found = Vec::with_capacity(task.containers.len());
        for image in images {
            match image {
                Ok(image) => found.push(image),
                Err(error) => {
                    drop(state);
                    fail(live, format!("CannotPullContainerError: {error}"));
                    return Ok(());
                }
            }
        }
        for (seen, image) in state.seen.containers.iter_mut().zip(&found) {
            seen.image_digest = Some(image.digest.clone());
            seen.stop_signal =
                image.config.stop_signal.as_deref().and_then(Signal::parse).map(|signal| signal.0);
        }
        state.images = found;
        state.seen.images = true;
        Ok(())
    }

    async fn open_streams(
        &self,
        task: &Task,
        definition: &TaskDefinition,
        live: &Live,
    ) -> Result<(), StepError> {
        if live.state.lock().seen.streams {
            return Ok(());
        }
        let opened = join_all(definition.containers.iter().enumerate().map(|(index, of)| async move {
            let Some(logs) = of.log_configuration.as_ref().map(|logs| &logs.awslogs) else { return Ok(0) };
            let Some(destination) = destination(task, index, logs) else { return Ok(0) };
            self.log_sink.open(&destination, logs.create_group).await
        }))
        .await;
        let mut positions = Vec::with_capacity(opened.len());
        for opened in opened {
            match opened {
                Ok(position) => positions.push(position),
                Err(LogSinkError::Refused(error)) => {
                    fail(
                        live,
                        format!(
                            "ResourceInitializationError: failed to validate logger args: create stream: \
                         failed to create Cloudwatch log stream: {error}"
                        ),
                    );
                    return Ok(());
                }
                Err(error) => return host_failure(live, error.into()),
            }
        }
        let mut state = live.state.lock();
        state.log_positions = positions;
        state.seen.streams = true;
        Ok(())
    }

    async fn prepare(&self, task: &Task, definition: &TaskDefinition, live: &Live) -> Result<(), StepError> {
        let wanted = live.state.lock().interface.as_ref().and_then(|on| spec::sandbox(task, definition, on));
        let Some(wanted) = wanted else {
            fail(live, "ResourceInitializationError: the task's sandbox cannot be described".to_owned());
            return Ok(());
        };
        match self.engine.create_sandbox(wanted).await {
            Ok(()) => live.state.lock().seen.prepared = true,
            Err(error) => return engine_failure(live, error),
        }
        Ok(())
    }

    async fn start(
        self: &Arc<Self>,
        task: &Task,
        definition: &TaskDefinition,
        live: &Arc<Live>,
        index: usize,
    ) -> Result<(), StepError> {
        let wanted = {
            let state = live.state.lock();
            spec::container(task, definition, index, &state.images[index], self.endpoint_url.as_deref())
        };
        let (wanted, sandbox) = match (wanted, spec::sandbox_id(task)) {
            (Ok(wanted), Some(sandbox)) => (wanted, sandbox),
            (wanted, _) => {
                let error = wanted.err().map_or_else(String::new, |error| error.to_string());
                self.never_ran(live, index, error);
                return Ok(());
            }
        };
        let id = wanted.id.clone();
        match self.engine.start_container(&sandbox, wanted).await {
            Ok(status) => {
                live.saw(index, &status);
                self.forward(task, definition, live, index, id);
                Ok(())
            }
            Err(EngineError::Start { message, .. }) => {
                self.never_ran(live, index, message);
                Ok(())
            }
            Err(error) => engine_failure(live, error),
        }
    }

    fn never_ran(&self, live: &Live, index: usize, message: String) {
        live.never_ran(index, &ExitStatus::never_ran(self.clock.now(), None, message));
    }

    /// Starts the log forwarder of a container that runs or has run, unless there is one.
    pub fn forward(
        self: &Arc<Self>,
        task: &Task,
        definition: &TaskDefinition,
        live: &Arc<Live>,
        index: usize,
        container: ContainerId,
    ) {
        let logs = definition.containers[index].log_configuration.as_ref();
        let destination = logs.and_then(|logs| destination(task, index, &logs.awslogs));
        let position = {
            let mut state = live.state.lock();
            let log = &mut state.seen.containers[index].log;
            if *log != LogProgress::None {
                return;
            }
            *log = LogProgress::Forwarding;
            state.log_positions[index]
        };
        let forwarder = Forwarder {
            engine: Arc::clone(&self.engine),
            sink: Arc::clone(&self.log_sink),
            container,
            destination,
            logged: Arc::clone(&live.logged[index]),
        };
        let (platform, live) = (Arc::clone(self), Arc::clone(live));
        self.spawn(async move {
            forwarder.run(position).await;
            live.state.lock().seen.containers[index].log = LogProgress::Drained;
            platform.signal(live.key.clone());
        });
    }

    async fn stop(
        &self,
        task: &Task,
        definition: &TaskDefinition,
        live: &Live,
        index: usize,
    ) -> Result<(), StepError> {
        let container = &task.containers[index];
        let Some(id) = ContainerId::new(container.runtime_id.clone()) else { return Ok(()) };
        let signal = container.stop_signal.map_or(Signal::TERM, Signal);
        let grace = definition.containers[index]
            .stop_timeout_secs
            .map_or(STOP_TIMEOUT_DEFAULT, |seconds| Duration::from_secs(u64::from(seconds)));
        match self.engine.stop_container(&id, signal, grace).await {
            Ok(()) => live.state.lock().seen.containers[index].stop_sent = true,
            Err(EngineError::NoContainer(_) | EngineError::NoSandbox(_)) => {
                let at = self.clock.now();
                live.state.lock().seen.containers[index].engine = Seen::Lost { at };
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn clean_up(&self, task: &Task, live: &Live) -> Result<(), StepError> {
        let sandbox = async {
            match spec::sandbox_id(task) {
                Some(id) => self.engine.remove_sandbox(&id).await,
                None => Ok(()),
            }
        };
        // The namespace may go only when nothing runs in it.
        sandbox.await?;
        self.interfaces.delete(&task.scope, &task.network.attachment_id).await?;
        live.state.lock().seen.cleaned = true;
        Ok(())
    }

    /// Runs a future that ends with the service.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let mut background = self.background.lock();
        while background.try_join_next().is_some() {}
        background.spawn(future);
    }
}

fn after(until: Timestamp, now: Timestamp) -> Outcome {
    // A millisecond more: time is told in whole ones.
    Outcome::After(until.since(now) + Duration::from_millis(1))
}

/// The task cannot start, and trying again would not help.
fn fail(live: &Live, reason: String) {
    let failure = StartFailure { code: StopCode::TaskFailedToStart, reason };
    live.state.lock().seen.failure.get_or_insert(failure);
}

/// The host is at fault: tried again a few times, then the task fails.
fn host_failure(live: &Live, error: StepError) -> Result<(), StepError> {
    let failures = {
        let mut state = live.state.lock();
        state.host_failures += 1;
        state.host_failures
    };
    if failures < HOST_FAILURES_MAX {
        return Err(error);
    }
    fail(live, format!("ResourceInitializationError: {error}"));
    Ok(())
}

fn engine_failure(live: &Live, error: EngineError) -> Result<(), StepError> {
    match error {
        EngineError::Unsupported { .. } | EngineError::Exhausted { .. } | EngineError::Conflict { .. } => {
            fail(live, format!("ResourceInitializationError: {error}"));
            Ok(())
        }
        error => host_failure(live, error.into()),
    }
}
