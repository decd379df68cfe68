//! The service as the pipeline calls it: what the generated dispatch makes of the handlers, but for
//! `DescribeTasks`, whose tasks are shared between the answers that say the same.
//!
//! To turn a hundred records into answers takes several thousand small strings; who waits for tasks
//! asks again and again.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use wharf_core::RequestContext;
use wharf_ecs_api::types;
use wharf_shape::{CallFuture, Service, ServiceModel, Slot, Structure, StructureShape, Value as _, View};

use crate::convert::{self, Include};
use crate::handlers::describe_tasks_as;
use crate::records::{Task, TaskKey};
use crate::service::Ecs;

/// Tasks whose description is kept. Of each some 4 KB.
const KEPT_MAX: usize = 1024;

/// The service, for the pipeline.
pub fn service(ecs: Arc<Ecs>) -> Arc<dyn Service> {
    let dispatch = wharf_ecs_api::service(ecs.clone());
    let describe_tasks = dispatch.model().operation("DescribeTasks");
    Arc::new(Shared { ecs, dispatch, describe_tasks, kept: Mutex::default() })
}

struct Shared {
    ecs: Arc<Ecs>,
    dispatch: Arc<dyn Service>,
    describe_tasks: Option<usize>,
    kept: Mutex<HashMap<TaskKey, Kept>>,
}

/// A record and what it is described as, without its tags.
struct Kept {
    record: Arc<Task>,
    described: Arc<types::Task>,
}

impl Service for Shared {
    fn model(&self) -> &'static ServiceModel {
        self.dispatch.model()
    }

    fn call<'a>(
        &'a self,
        operation: usize,
        context: &'a RequestContext,
        input: Box<dyn Structure>,
    ) -> CallFuture<'a> {
        if Some(operation) != self.describe_tasks {
            return self.dispatch.call(operation, context, input);
        }
        Box::pin(async move {
            let input: types::DescribeTasksRequest = wharf_shape::take(input)?;
            let convert = |key, record, include| self.describe(key, record, include);
            let (tasks, failures) = describe_tasks_as(self.ecs.platform(), context, &input, convert).await?;
            let output: Box<dyn Structure> = Box::new(DescribedTasks { tasks, failures });
            Ok(output)
        })
    }
}

impl Shared {
    fn describe(&self, key: TaskKey, record: Arc<Task>, include: Include) -> Arc<types::Task> {
        if include == Include::Tags {
            return Arc::new(convert::task(&record, include));
        }
        let mut kept = self.kept.lock();
        // A record never changes: another state of the task is another record.
        if let Some(known) = kept.get(&key).filter(|known| Arc::ptr_eq(&known.record, &record)) {
            return Arc::clone(&known.described);
        }
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        let described = Arc::new(convert::task(&record, include));
        kept.insert(key, Kept { record, described: Arc::clone(&described) });
        described
    }
}

/// `DescribeTasksResponse`, of shared tasks.
#[derive(Debug)]
struct DescribedTasks {
    tasks: Vec<Arc<types::Task>>,
    failures: Vec<types::Failure>,
}

impl Structure for DescribedTasks {
    fn shape(&self) -> &'static StructureShape {
        types::DescribeTasksResponse::default().shape()
    }

    fn member(&self, index: usize) -> View<'_> {
        match self.shape().members.get(index).map(|member| member.name) {
            Some("tasks") => self.tasks.view(),
            Some("failures") => self.failures.view(),
            _ => View::Absent,
        }
    }

    /// An answer is not read from anywhere.
    fn member_mut(&mut self, _index: usize) -> Option<Slot<'_>> {
        None
    }
}
