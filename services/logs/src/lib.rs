//! CloudWatch Logs: groups, streams and events, and the sink that containers' output goes to.
//!
//! # What is where
//!
//! Groups and streams are records, in memory ([`records`]). Events grow without bound: they are
//! history, on disk, under keys of (stream, time, sequence) so that every read is a range
//! ([`events`]). A stream's record and its new events are written in one transaction, so a stream
//! never counts an event that is not there.
//!
//! Deleting a stream or a group takes its records at once and dooms its events: a
//! [`records::DoomedStream`] is written in the same transaction and the sweeper ([`sweep`]) deletes
//! the events behind it in bounded steps. Retention is exact for readers (an expired event is never
//! shown) and the sweeper gives the space back.
//!
//! Operations that are not here answer `NotImplemented`: Insights queries, subscription and metric
//! filters, exports, live tail, data protection.
#![forbid(unsafe_code)]

mod authorization;
mod events;
mod handlers;
mod plan;
pub mod records;
mod sink;
mod sweep;

use std::sync::Arc;

pub use authorization::authorization;
use tokio::sync::Notify;
use wharf_core::{ApiError, Clock, RequestContext, Scope};
use wharf_logs_api::errors;
use wharf_state::{Builder, Snapshot, Store, Transaction};

use records::{LogGroup, LogStream};

/// Adds the tables and histories of this service to a store.
pub fn register(builder: Builder) -> Builder {
    builder.table::<LogGroup>().table::<LogStream>().table::<records::DoomedStream>().history(events::HISTORY)
}

/// The service. A clone of its `Arc` is also the [`wharf_contracts::LogSink`] of others.
pub struct Logs {
    store: Store,
    clock: Arc<dyn Clock>,
    /// Wakes the sweeper.
    swept: Notify,
}

impl Logs {
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { store, clock, swept: Notify::new() })
    }
}

fn no_group() -> ApiError {
    errors::resource_not_found_exception("The specified log group does not exist.")
}

fn no_stream() -> ApiError {
    errors::resource_not_found_exception("The specified log stream does not exist.")
}

fn find_group(snapshot: &Snapshot, scope: &Scope, name: &str) -> Result<Arc<LogGroup>, ApiError> {
    snapshot.get::<LogGroup>(&(scope.clone(), name.to_owned())).ok_or_else(no_group)
}

fn find_stream(
    snapshot: &Snapshot,
    scope: &Scope,
    group: &str,
    name: &str,
) -> Result<Arc<LogStream>, ApiError> {
    find_group(snapshot, scope, group)?;
    snapshot.get::<LogStream>(&(scope.clone(), group.to_owned(), name.to_owned())).ok_or_else(no_stream)
}

/// The name of a group that a request names by name, or by name or ARN in another member.
fn group_name(
    context: &RequestContext,
    name: Option<String>,
    identifier: Option<String>,
) -> Result<String, ApiError> {
    match (name, identifier) {
        (Some(name), None) => Ok(name),
        (None, Some(identifier)) if identifier.starts_with("arn:") => {
            records::group_of_arn(&context.scope, &identifier).ok_or_else(|| {
                errors::invalid_parameter_exception(format!("Invalid log group identifier: {identifier}"))
            })
        }
        (None, Some(identifier)) => Ok(identifier),
        _ => Err(errors::invalid_parameter_exception(
            "Exactly one of logGroupName and logGroupIdentifier must be specified.",
        )),
    }
}

/// Deletes a stream's record and dooms its events.
fn doom(transaction: &mut Transaction<'_>, stream: &LogStream) {
    use wharf_state::Record as _;
    transaction.delete::<LogStream>(&stream.key());
    transaction.put(records::DoomedStream { id: stream.id });
}
