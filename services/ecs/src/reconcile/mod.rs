//! Executors: they do what `plan` has decided, and write down what came of it.

pub mod adopt;
pub mod live;
pub mod logs;
pub mod spec;
mod sweep;
mod task;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::RwLock;
use wharf_contracts::{ImageSource, Interfaces, LogSink};
use wharf_control::Driver;
use wharf_core::{Clock, Rng};
use wharf_engine::Engine;
use wharf_state::Store;

use crate::records::TaskKey;

pub use sweep::SweepReconciler;
pub use task::TaskReconciler;

/// What the service stands on, shared by handlers and executors.
pub struct Platform {
    pub store: Store,
    pub engine: Arc<dyn Engine>,
    pub images: Arc<dyn ImageSource>,
    pub interfaces: Arc<dyn Interfaces>,
    pub log_sink: Arc<dyn LogSink>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    /// What tasks are told as `AWS_ENDPOINT_URL`.
    pub endpoint_url: Option<String>,
    pub live: live::LiveTasks,
    /// Held shared by every run of a reconciler, alone by a reset.
    pub gate: RwLock<()>,
    /// `None` before the start and after the stop.
    pub driver: Mutex<Option<Driver<TaskReconciler>>>,
    /// Log forwarders and the reader of events.
    pub background: Mutex<tokio::task::JoinSet<()>>,
}

impl Platform {
    /// Something about this task may have changed. Before the start nothing listens; the start
    /// itself looks at every task.
    pub fn signal(&self, key: TaskKey) {
        let driver = self.driver.lock().clone();
        if let Some(driver) = driver {
            driver.signal(key);
        }
    }
}
