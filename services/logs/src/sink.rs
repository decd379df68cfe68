//! Where the output of containers arrives.

use async_trait::async_trait;
use wharf_contracts::{LogDestination, LogEvent, LogSink, LogSinkError};
use wharf_core::ApiError;
use wharf_state::TransactError;

use crate::records::{LogGroup, LogStream};
use crate::{Logs, events, no_group, no_stream};

#[async_trait]
impl LogSink for Logs {
    async fn open(&self, destination: &LogDestination, create_group: bool) -> Result<u64, LogSinkError> {
        let now = self.clock.now();
        let LogDestination { scope, group, stream } = destination;
        let stream_key = (scope.clone(), group.clone(), stream.clone());
        // Most containers of a family find their group there; a stream is new to each.
        if let Some(found) = self.store.snapshot().get::<LogStream>(&stream_key) {
            return Ok(found.source_position);
        }
        self.store
            .transact(|transaction| {
                if transaction.get::<LogGroup>(&(scope.clone(), group.clone())).is_none() {
                    if !create_group {
                        return Err(no_group());
                    }
                    transaction.put(LogGroup {
                        scope: scope.clone(),
                        name: group.clone(),
                        created_at: now,
                        retention_days: None,
                        tags: std::collections::BTreeMap::new(),
                    });
                }
                if let Some(found) = transaction.get::<LogStream>(&stream_key) {
                    return Ok(found.source_position);
                }
                let id = transaction.revision();
                transaction.put(LogStream::new(scope.clone(), group.clone(), stream.clone(), id, now));
                Ok(0)
            })
            .await
            .map_err(sink_error)
    }

    async fn append(&self, destination: &LogDestination, events: Vec<LogEvent>) -> Result<(), LogSinkError> {
        let ingestion = self.clock.now().as_millis();
        let LogDestination { scope, group, stream } = destination;
        let key = (scope.clone(), group.clone(), stream.clone());
        self.store
            .transact(|transaction| {
                let mut stream =
                    LogStream::clone(&*transaction.get::<LogStream>(&key).ok_or_else(no_stream)?);
                let stored = stream.source_position;
                let position = events.iter().map(|event| event.next_position).max().unwrap_or(stored);
                if position <= stored {
                    return Ok(());
                }
                stream.source_position = position;
                let new = events.into_iter().filter(|event| event.next_position > stored);
                let new = new.map(|event| (event.timestamp_ms, event.message));
                events::append(transaction, &mut stream, ingestion, new);
                transaction.put(stream);
                Ok(())
            })
            .await
            .map_err(sink_error)
    }
}

fn sink_error(error: TransactError<ApiError>) -> LogSinkError {
    match error {
        TransactError::Aborted(refused) => LogSinkError::Refused(refused),
        other => LogSinkError::Unavailable {
            message: std::error::Error::source(&other)
                .map_or_else(|| other.to_string(), |source| format!("{other}: {source}")),
        },
    }
}
