//! The service as the binary holds it: made, started, asked, stopped.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::RwLock;
use wharf_contracts::{ImageSource, Interfaces, LogSink, MetadataResponse, TaskMetadata};
use wharf_control::{Driver, Options, ReconcilerStatus};
use wharf_core::{ApiError, Clock, Rng};
use wharf_engine::Engine;
use wharf_state::{Builder, Record as _, Snapshot, Store};

use crate::handlers::request_stop;
use crate::metadata;
use crate::reconcile::adopt::AdoptError;
use crate::reconcile::{Platform, SweepReconciler, TaskReconciler};
use crate::records::{
    Cluster, Family, IdempotencyToken, StopCode, StopRecord, Task, TaskDefinition, TaskKey, TaskStatus,
};

/// How many tasks are worked on at once. Most of the time of each is waiting.
const TASKS_AT_ONCE: usize = 256;

/// What the service stands on.
pub struct Dependencies {
    /// Built with [`tables`].
    pub store: Store,
    pub engine: Arc<dyn Engine>,
    pub images: Arc<dyn ImageSource>,
    pub interfaces: Arc<dyn Interfaces>,
    pub log_sink: Arc<dyn LogSink>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    /// What tasks are told as `AWS_ENDPOINT_URL`: an address that they can reach.
    pub endpoint_url: Option<String>,
}

/// Names the service's tables in a store that is being built.
#[must_use]
pub fn tables(builder: Builder) -> Builder {
    builder
        .table::<Cluster>()
        .table::<Family>()
        .table::<TaskDefinition>()
        .table::<Task>()
        .table::<IdempotencyToken>()
}

/// A task in a line, for `wharf ps`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TaskSummary {
    pub arn: String,
    pub cluster: String,
    /// `family:revision`.
    pub task_definition: String,
    pub last_status: String,
    pub desired_status: String,
    pub private_ipv4: Option<Ipv4Addr>,
    /// (name, last status)
    pub containers: Vec<(String, String)>,
    pub created_at_ms: i64,
    pub stopped_reason: Option<String>,
}

/// Amazon ECS.
pub struct Ecs {
    platform: Arc<Platform>,
    sweeper: Mutex<Option<Driver<SweepReconciler>>>,
}

impl Ecs {
    pub fn new(dependencies: Dependencies) -> Arc<Self> {
        let Dependencies { store, engine, images, interfaces, log_sink, clock, rng, endpoint_url } =
            dependencies;
        let platform = Arc::new(Platform {
            store,
            engine,
            images,
            interfaces,
            log_sink,
            clock,
            rng,
            endpoint_url,
            live: crate::reconcile::live::LiveTasks::default(),
            gate: RwLock::new(()),
            driver: Mutex::new(None),
            background: Mutex::new(tokio::task::JoinSet::new()),
        });
        Arc::new(Self { platform, sweeper: Mutex::new(None) })
    }

    pub(crate) fn platform(&self) -> &Arc<Platform> {
        &self.platform
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.platform.store.snapshot()
    }

    /// Takes over what runs, then begins to reconcile. Requests may be answered before; tasks start
    /// after.
    ///
    /// # Errors
    /// When the engine or the log store cannot be asked.
    pub async fn start(&self) -> Result<(), AdoptError> {
        let events = self.platform.engine.events();
        self.platform.adopt().await?;
        let follow = Arc::clone(&self.platform).follow(events);
        self.platform.spawn(follow);
        let rng = &self.platform.rng;
        let tasks = Arc::new(TaskReconciler(Arc::clone(&self.platform)));
        let options = Options { concurrency: TASKS_AT_ONCE, ..Options::default() };
        *self.platform.driver.lock() = Some(Driver::spawn(tasks, Arc::clone(rng), options));
        let sweep = Arc::new(SweepReconciler(Arc::clone(&self.platform)));
        *self.sweeper.lock() = Some(Driver::spawn(sweep, Arc::clone(rng), Options::default()));
        Ok(())
    }

    /// Stops reconciling. Tasks run on, and are taken over by the next start.
    pub async fn stop(&self) {
        let driver = self.platform.driver.lock().take();
        if let Some(driver) = driver {
            driver.stop().await;
        }
        let sweeper = self.sweeper.lock().take();
        if let Some(sweeper) = sweeper {
            sweeper.stop().await;
        }
        // Dropping the set ends what is in it; forwarders go on from their streams' positions.
        let background = std::mem::take(&mut *self.platform.background.lock());
        drop(background);
    }

    /// Kills every task and empties the tables: `POST /_wharf/reset`.
    ///
    /// # Errors
    /// `InternalFailure` when the engine, the network or the store fails; call again.
    pub async fn reset(&self) -> Result<(), ApiError> {
        // Nothing reconciles while this is held.
        let _alone = self.platform.gate.write().await;
        let platform = &self.platform;
        platform.remove_all_sandboxes().await.map_err(ApiError::internal)?;
        for task in platform.store.snapshot().prefix::<Task>(&[]) {
            if task.status != TaskStatus::Stopped {
                let deleted = platform.interfaces.delete(&task.scope, &task.network.attachment_id).await;
                deleted.map_err(ApiError::internal)?;
            }
        }
        platform
            .store
            .transact(|transaction| {
                let tasks: Vec<_> = transaction.prefix::<Task>(&[]).map(|of| of.key()).collect();
                tasks.iter().for_each(|key| drop(transaction.delete::<Task>(key)));
                let tokens: Vec<_> = transaction.prefix::<IdempotencyToken>(&[]).map(|of| of.key()).collect();
                tokens.iter().for_each(|key| drop(transaction.delete::<IdempotencyToken>(key)));
                let definitions: Vec<_> =
                    transaction.prefix::<TaskDefinition>(&[]).map(|of| of.key()).collect();
                definitions.iter().for_each(|key| drop(transaction.delete::<TaskDefinition>(key)));
                let families: Vec<_> = transaction.prefix::<Family>(&[]).map(|of| of.key()).collect();
                families.iter().for_each(|key| drop(transaction.delete::<Family>(key)));
                let clusters: Vec<_> = transaction.prefix::<Cluster>(&[]).map(|of| of.key()).collect();
                clusters.iter().for_each(|key| drop(transaction.delete::<Cluster>(key)));
                Ok::<_, ApiError>(())
            })
            .await?;
        platform.live.clear();
        Ok(())
    }

    /// Every task that has not stopped, in every account and region.
    pub fn running_tasks(&self) -> Vec<TaskSummary> {
        self.tasks().into_iter().filter(|task| task.last_status != TaskStatus::Stopped.as_str()).collect()
    }

    /// Every task that is still described, in every account and region.
    pub fn tasks(&self) -> Vec<TaskSummary> {
        self.platform.store.snapshot().prefix::<Task>(&[]).map(|task| summary(&task)).collect()
    }

    /// Asks every task to stop and waits for them, at most until the deadline. Returns those that
    /// have not stopped.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn stop_all(&self, reason: &str, deadline: Duration) -> Result<Vec<TaskSummary>, ApiError> {
        let mut watch = self.platform.store.watch::<Task>();
        let alive = || -> Vec<TaskKey> {
            let snapshot = self.platform.store.snapshot();
            snapshot
                .prefix::<Task>(&[])
                .filter(|task| task.status != TaskStatus::Stopped)
                .map(|task| task.key())
                .collect()
        };
        let mut asked: HashSet<TaskKey> = HashSet::new();
        let wait = async {
            loop {
                let keys = alive();
                if keys.is_empty() {
                    return Ok(());
                }
                for key in keys {
                    if asked.insert(key.clone()) {
                        let stop = StopRecord { code: StopCode::UserInitiated, reason: reason.to_owned() };
                        request_stop(&self.platform, &key, stop).await?;
                    }
                }
                // Falling behind only means to look again.
                let _ = watch.recv().await;
            }
        };
        match tokio::time::timeout(deadline, wait).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) | Err(_) => Ok(self.running_tasks()),
        }
    }

    /// For `wharf status`, metrics and the console.
    pub fn status(&self) -> Vec<ReconcilerStatus> {
        let tasks = self.platform.driver.lock().as_ref().map(Driver::status);
        let sweeper = self.sweeper.lock().as_ref().map(Driver::status);
        tasks.into_iter().chain(sweeper).collect()
    }
}

impl TaskMetadata for Ecs {
    fn get(&self, vpc_id: &str, task_address: Ipv4Addr, path: &str) -> MetadataResponse {
        metadata::get(&self.platform, vpc_id, task_address, path)
    }
}

fn summary(task: &Task) -> TaskSummary {
    TaskSummary {
        arn: task.arn.clone(),
        cluster: task.cluster.clone(),
        task_definition: format!("{}:{}", task.family, task.revision),
        last_status: task.status.as_str().to_owned(),
        desired_status: task.desired.as_str().to_owned(),
        private_ipv4: task.network.interface.as_ref().map(|interface| interface.private_ipv4),
        containers: task
            .containers
            .iter()
            .map(|container| (container.name.clone(), container.status.as_str().to_owned()))
            .collect(),
        created_at_ms: task.times.created.as_millis(),
        stopped_reason: task.stop.as_ref().map(|stop| stop.reason.clone()),
    }
}
