//! Log streams (API Reference: CreateLogStream, DeleteLogStream, DescribeLogStreams).

use std::sync::Arc;

use wharf_core::{ApiError, RequestContext};
use wharf_logs_api::{errors, types};
use wharf_state::Record as _;

use super::{bad_token, decode_token, encode_token, page};
use crate::records::{LogGroup, LogStream};
use crate::{Logs, doom, find_group, group_name, no_group, no_stream};

const PAGE_MAX: i32 = 50;

impl Logs {
    pub(super) async fn create_log_stream(
        &self,
        context: &RequestContext,
        input: types::CreateLogStreamRequest,
    ) -> Result<(), ApiError> {
        let (group, name) = (input.log_group_name, input.log_stream_name);
        self.store
            .transact(|transaction| {
                transaction.get::<LogGroup>(&(context.scope.clone(), group.clone())).ok_or_else(no_group)?;
                let stream =
                    LogStream::new(context.scope.clone(), group, name, transaction.revision(), context.now);
                if transaction.get::<LogStream>(&stream.key()).is_some() {
                    return Err(errors::resource_already_exists_exception(
                        "The specified log stream already exists",
                    ));
                }
                transaction.put(stream);
                Ok(())
            })
            .await
            .map_err(ApiError::from)
    }

    pub(super) async fn delete_log_stream(
        &self,
        context: &RequestContext,
        input: types::DeleteLogStreamRequest,
    ) -> Result<(), ApiError> {
        let (group, name) = (input.log_group_name, input.log_stream_name);
        self.store
            .transact(|transaction| {
                transaction.get::<LogGroup>(&(context.scope.clone(), group.clone())).ok_or_else(no_group)?;
                let stream = transaction
                    .get::<LogStream>(&(context.scope.clone(), group, name))
                    .ok_or_else(no_stream)?;
                doom(transaction, &stream);
                Ok(())
            })
            .await
            .map_err(ApiError::from)?;
        self.swept.notify_one();
        Ok(())
    }

    pub(super) async fn describe_log_streams(
        &self,
        context: &RequestContext,
        input: types::DescribeLogStreamsRequest,
    ) -> Result<types::DescribeLogStreamsResponse, ApiError> {
        let group = group_name(context, input.log_group_name, input.log_group_identifier)?;
        let by_time = input.order_by == Some(types::OrderBy::LastEventTime);
        if by_time && input.log_stream_name_prefix.is_some() {
            return Err(errors::invalid_parameter_exception(
                "Cannot order by LastEventTime with a logStreamNamePrefix.",
            ));
        }
        let token = decode_token(input.next_token.as_deref())?;
        let limit = usize::try_from(input.limit.unwrap_or(PAGE_MAX)).unwrap_or(1);
        let descending = input.descending.unwrap_or(false);
        let snapshot = self.store.snapshot();
        let group = find_group(&snapshot, &context.scope, &group)?;
        let prefix = input.log_stream_name_prefix.unwrap_or_default();
        let named = snapshot
            .prefix::<LogStream>(&group.streams_prefix())
            .filter(move |stream| stream.name.starts_with(&prefix));
        let (streams, next_token) = if by_time || descending {
            ordered(named.collect(), by_time, descending, token.as_deref(), limit)?
        } else {
            page(named, |stream: &Arc<LogStream>| &stream.name, token.as_deref(), limit)
        };
        Ok(types::DescribeLogStreamsResponse {
            log_streams: Some(streams.iter().map(|stream| describe(stream)).collect()),
            next_token,
        })
    }
}

/// A page in an order that is not that of the table. The token is the place of the last stream.
fn ordered(
    mut streams: Vec<Arc<LogStream>>,
    by_time: bool,
    descending: bool,
    token: Option<&str>,
    limit: usize,
) -> Result<(Vec<Arc<LogStream>>, Option<String>), ApiError> {
    let place = |stream: &LogStream| {
        let time = if by_time { stream.last_event.unwrap_or(i64::MIN) } else { 0 };
        (time, stream.name.clone())
    };
    streams.sort_by_key(|stream| place(stream));
    if descending {
        streams.reverse();
    }
    if let Some(token) = token {
        let (time, name) = token.split_once(' ').ok_or_else(bad_token)?;
        let after = (time.parse::<i64>().map_err(|_| bad_token())?, name.to_owned());
        streams.retain(|stream| if descending { place(stream) < after } else { place(stream) > after });
    }
    let more = streams.len() > limit;
    streams.truncate(limit);
    let next = streams.last().filter(|_| more).map(|stream| {
        let (time, name) = place(stream);
        encode_token(&format!("{time} {name}"))
    });
    Ok((streams, next))
}

fn describe(stream: &LogStream) -> types::LogStream {
    types::LogStream {
        arn: Some(stream.arn()),
        creation_time: Some(stream.created_at.as_millis()),
        first_event_timestamp: stream.first_event,
        last_event_timestamp: stream.last_event,
        last_ingestion_time: stream.last_ingestion,
        log_stream_name: Some(stream.name.clone()),
        // Deprecated by AWS, and always zero there.
        stored_bytes: Some(0),
        upload_sequence_token: stream.last_ingestion.map(|_| stream.sequence_token()),
    }
}
