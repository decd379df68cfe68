//! Forwards the output of a container to its log stream. Output that no log driver wants is thrown
//! away, as on Fargate: the engine keeps what nobody takes.
//!
//! One forwarder a container: it reads on where the stream ends, appends, and gives the space back.
//! The stream itself remembers the position, in the same durable write as the events, so a forwarder
//! may die at any point and be started again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use wharf_contracts::{LogDestination, LogEvent, LogSink, LogSinkError};
use wharf_core::Scope;
use wharf_engine::log::Stream;
use wharf_engine::{ContainerId, Engine, EngineError};

use crate::plan::log_lines::{Assembler, Line, Part};
use crate::records::{AwsLogs, Task};

/// How much of a container's log is read at once.
const READ_BYTES_MAX: usize = 256 * 1024;
/// How long to wait when the engine or the log store fails.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// How often a forwarder looks without having been woken: an event may be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// `prefix/container/task id`, or the container's own id without a prefix, as `awslogs` names streams.
/// `None` when the region is not well-formed; registration checks that.
pub fn destination(task: &Task, index: usize, awslogs: &AwsLogs) -> Option<LogDestination> {
    let container = &task.containers[index];
    let stream = match &awslogs.stream_prefix {
        Some(prefix) => format!("{prefix}/{}/{}", container.name, task.id),
        None => container.runtime_id.clone(),
    };
    let scope = Scope { account: task.scope.account, region: awslogs.region.parse().ok()? };
    Some(LogDestination { scope, group: awslogs.group.clone(), stream })
}

pub struct Forwarder {
    pub engine: Arc<dyn Engine>,
    pub sink: Arc<dyn LogSink>,
    pub container: ContainerId,
    /// `None`: the container has no log driver.
    pub destination: Option<LogDestination>,
    /// Told when the container's log has grown or ended.
    pub logged: Arc<Notify>,
}

impl Forwarder {
    /// Returns when the container has ended and all its output is stored, or can never be.
    pub async fn run(&self, position: u64) {
        let mut position = position;
        let mut assembler = Assembler::default();
        let mut destination = self.destination.as_ref();
        loop {
            let chunk = match self.engine.read_log(&self.container, position, READ_BYTES_MAX).await {
                Ok(chunk) => chunk,
                Err(EngineError::NoContainer(_) | EngineError::NoSandbox(_)) => return,
                Err(error) => {
                    tracing::warn!(container = %self.container, %error, "cannot read a container's log");
                    tokio::time::sleep(RETRY_DELAY).await;
                    continue;
                }
            };
            let progressed = chunk.next > position;
            position = chunk.next;
            let mut lines = assembler.push(chunk.records.into_iter().map(part).collect());
            if chunk.ended && !progressed {
                lines.append(&mut assembler.flush());
            }
            if let Some(behind) = lines.last().map(|line| line.next) {
                if let Some(stream) = destination
                    && !self.append(stream, lines).await
                {
                    destination = None;
                }
                if let Err(error) = self.engine.release_log(&self.container, behind).await {
                    tracing::debug!(container = %self.container, %error, "a log's space was not given back");
                }
            }
            if progressed {
                continue;
            }
            if chunk.ended {
                return;
            }
            // A failed wait is a timeout: look again.
            let _ = tokio::time::timeout(LOOK_AGAIN, self.logged.notified()).await;
        }
    }

    /// Appends, trying again for as long as the store is merely unavailable. `false`: the stream
    /// refuses for good (its group was deleted), as the driver would find on AWS; the output is
    /// dropped from here on.
    async fn append(&self, destination: &LogDestination, lines: Vec<Line>) -> bool {
        let events: Vec<LogEvent> = lines
            .into_iter()
            .map(|line| LogEvent {
                timestamp_ms: line.timestamp_ms,
                message: line.message,
                next_position: line.next,
            })
            .collect();
        loop {
            match self.sink.append(destination, events.clone()).await {
                Ok(()) => return true,
                Err(LogSinkError::Refused(error)) => {
                    tracing::warn!(container = %self.container, %error, "the log stream refuses output");
                    return false;
                }
                Err(error @ LogSinkError::Unavailable { .. }) => {
                    tracing::warn!(container = %self.container, %error, "output waits for the log store");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        }
    }
}

fn part(record: wharf_engine::log::LogRecord) -> Part {
    Part {
        unix_nanos: record.unix_nanos,
        stream: match record.stream {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
        },
        partial: record.partial,
        text: record.text,
        next: record.next,
    }
}
