//! Where a container's output goes when its log driver is `awslogs`.

use async_trait::async_trait;
use wharf_core::{ApiError, Scope};

/// A log stream, named as `awslogs` names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogDestination {
    /// `region` is the one of `awslogs-region`, which may differ from the task's.
    pub scope: Scope,
    pub group: String,
    pub stream: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    pub message: String,
    /// Where the source continues behind this event: a position in the container's own log. It
    /// only ever grows within a stream.
    pub next_position: u64,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum LogSinkError {
    /// In CloudWatch Logs' own code and words, such as `ResourceNotFoundException: The specified
    /// log group does not exist.`
    #[error(transparent)]
    Refused(ApiError),
    #[error("log events could not be stored: {message}")]
    Unavailable { message: String },
}

#[async_trait]
pub trait LogSink: Send + Sync {
    /// Makes the stream, and the group too when `create_group`. Returns the position behind the
    /// last event that the stream holds from this source; 0 for a new stream.
    async fn open(&self, destination: &LogDestination, create_group: bool) -> Result<u64, LogSinkError>;

    /// Appends events and the position behind them in one durable write. Events at or below the
    /// position that the stream already holds are dropped, so a repeated call stores nothing twice.
    async fn append(&self, destination: &LogDestination, events: Vec<LogEvent>) -> Result<(), LogSinkError>;
}
