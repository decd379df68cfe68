//! Log events (API Reference: PutLogEvents, GetLogEvents, FilterLogEvents).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Bound;
use std::sync::Arc;

use wharf_core::{ApiError, RequestContext};
use wharf_logs_api::{errors, types};
use wharf_state::{Direction, Snapshot};

use super::{bad_token, refused};
use crate::events::{self, Event, Place, Walk};
use crate::plan::batch::{self, BatchError};
use crate::plan::pattern::{Pattern, PatternError};
use crate::records::{LogGroup, LogStream};
use crate::{Logs, find_group, find_stream, group_name, no_group, no_stream};

/// An answer holds at most this many bytes of events, and this many events.
const ANSWER_BYTES_MAX: usize = 1_048_576;
const ANSWER_EVENTS_MAX: i32 = 10_000;
/// FilterLogEvents looks at this many events for one answer, then hands out a token.
const SCANNED_EVENTS_MAX: usize = 100_000;

impl Logs {
    pub(super) async fn put_log_events(
        &self,
        context: &RequestContext,
        input: types::PutLogEventsRequest,
    ) -> Result<types::PutLogEventsResponse, ApiError> {
        if input.entity.is_some() {
            return Err(refused("PutLogEvents", "entity"));
        }
        let sizes: Vec<_> =
            input.log_events.iter().map(|event| (event.timestamp, event.message.len())).collect();
        let (group, stream) = (input.log_group_name, input.log_stream_name);
        let (taken, token) = self
            .store
            .transact(|transaction| {
                let group =
                    transaction.get::<LogGroup>(&(context.scope.clone(), group)).ok_or_else(no_group)?;
                let stream = transaction
                    .get::<LogStream>(&(context.scope.clone(), group.name.clone(), stream))
                    .ok_or_else(no_stream)?;
                let taken = batch::plan(&sizes, context.now.as_millis(), group.expired_before(context.now))
                    .map_err(|error: BatchError| {
                    errors::invalid_parameter_exception(error.to_string())
                })?;
                let mut stream = LogStream::clone(&stream);
                let events = input.log_events.into_iter().skip(taken.start).take(taken.end - taken.start);
                let events = events.map(|event| (event.timestamp, event.message));
                events::append(transaction, &mut stream, context.now.as_millis(), events);
                let token = stream.sequence_token();
                transaction.put(stream);
                Ok((taken, token))
            })
            .await
            .map_err(ApiError::from)?;
        let index = |index: usize| i32::try_from(index).unwrap_or(i32::MAX);
        let rejected = types::RejectedLogEventsInfo {
            expired_log_event_end_index: taken.expired_end.map(index),
            too_new_log_event_start_index: taken.too_new_start.map(index),
            too_old_log_event_end_index: taken.too_old_end.map(index),
        };
        Ok(types::PutLogEventsResponse {
            next_sequence_token: Some(token),
            rejected_log_events_info: (rejected != types::RejectedLogEventsInfo::default())
                .then_some(rejected),
            ..types::PutLogEventsResponse::default()
        })
    }

    pub(super) async fn get_log_events(
        &self,
        context: &RequestContext,
        input: types::GetLogEventsRequest,
    ) -> Result<types::GetLogEventsResponse, ApiError> {
        if input.unmask == Some(true) {
            return Err(refused("GetLogEvents", "unmask"));
        }
        let group = group_name(context, input.log_group_name, input.log_group_identifier)?;
        let snapshot = self.store.snapshot();
        let group = find_group(&snapshot, &context.scope, &group)?;
        let stream = find_stream(&snapshot, &context.scope, &group.name, &input.log_stream_name)?;
        let (start, end) = bounds(&group, context, input.start_time, input.end_time);
        let token = input.next_token.as_deref().map(Token::parse).transpose()?;
        let direction = match &token {
            Some(token) => token.direction,
            None if input.start_from_head == Some(true) => Direction::Forward,
            None => Direction::Backward,
        };
        let (mut low, mut high) = (Bound::Included(start), Bound::Excluded(end));
        match (direction, token.map(|token| token.place)) {
            (Direction::Forward, Some(place)) if place >= start => low = Bound::Excluded(place),
            (Direction::Backward, Some(place)) if place < end => high = Bound::Excluded(place),
            _ => {}
        }
        let limit = usize::try_from(input.limit.unwrap_or(ANSWER_EVENTS_MAX)).unwrap_or(1);
        let history = self.store.history(events::HISTORY);
        let mut walk = Walk::new(&history, stream.id, low, high, direction);
        let mut found = take_answer(&mut walk, limit)?;
        if direction == Direction::Backward {
            found.reverse();
        }
        // With nothing found, both tokens stay where the reader stands.
        let here = token.map_or(
            match direction {
                Direction::Forward => Token::before(start),
                Direction::Backward => Token { direction, place: end },
            },
            |token| token,
        );
        let first = found.first().map_or(here.place, |event| event.place);
        let last = found.last().map_or(here.place, |event| event.place);
        Ok(types::GetLogEventsResponse {
            next_forward_token: Some(Token { direction: Direction::Forward, place: last }.to_text()),
            next_backward_token: Some(Token { direction: Direction::Backward, place: first }.to_text()),
            events: Some(
                found
                    .into_iter()
                    .map(|event| types::OutputLogEvent {
                        ingestion_time: Some(event.ingestion),
                        message: Some(event.message),
                        timestamp: Some(event.place.timestamp),
                    })
                    .collect(),
            ),
        })
    }

    pub(super) async fn filter_log_events(
        &self,
        context: &RequestContext,
        input: types::FilterLogEventsRequest,
    ) -> Result<types::FilterLogEventsResponse, ApiError> {
        if input.unmask == Some(true) {
            return Err(refused("FilterLogEvents", "unmask"));
        }
        if input.start_from_head == Some(false) {
            return Err(refused("FilterLogEvents", "startFromHead"));
        }
        // `interleaved` is deprecated by AWS, and taken as true whatever it says; so it is here.
        if input.log_stream_names.is_some() && input.log_stream_name_prefix.is_some() {
            return Err(errors::invalid_parameter_exception(
                "logStreamNames and logStreamNamePrefix are mutually exclusive parameters.",
            ));
        }
        let pattern = Pattern::parse(input.filter_pattern.as_deref().unwrap_or_default()).map_err(
            |error| match error {
                PatternError::Malformed => errors::invalid_parameter_exception("Invalid filter pattern"),
                PatternError::Unsupported(what) => ApiError::not_implemented(format_args!(
                    "{what} in the field \"filterPattern\" of logs:FilterLogEvents"
                )),
            },
        )?;
        let name = group_name(context, input.log_group_name, input.log_group_identifier)?;
        let snapshot = self.store.snapshot();
        let group = find_group(&snapshot, &context.scope, &name)?;
        let streams = streams(
            &snapshot,
            &group,
            input.log_stream_names.as_deref(),
            input.log_stream_name_prefix.as_deref(),
        )?;
        let (start, end) = bounds(&group, context, input.start_time, input.end_time);
        let after = input.next_token.as_deref().map(parse_merged).transpose()?;
        let limit = usize::try_from(input.limit.unwrap_or(ANSWER_EVENTS_MAX)).unwrap_or(1);
        let history = self.store.history(events::HISTORY);
        let scan = move || -> Result<(Vec<types::FilteredLogEvent>, Option<String>), ApiError> {
            let mut merge = Merge::new(&history, streams, start, end, after)?;
            let mut found = Vec::new();
            let mut bytes = 0;
            for _ in 0..SCANNED_EVENTS_MAX {
                if found.len() == limit || bytes >= ANSWER_BYTES_MAX {
                    break;
                }
                let Some((stream, event)) = merge.next()? else { return Ok((found, None)) };
                if pattern.matches(&event.message) {
                    bytes += event.counted_bytes();
                    found.push(filtered(&stream, event));
                }
            }
            let token = merge.token();
            Ok((found, token))
        };
        // It may read much of the disk.
        let (events, next_token) = tokio::task::spawn_blocking(scan).await.map_err(ApiError::internal)??;
        Ok(types::FilterLogEventsResponse {
            events: Some(events),
            next_token,
            // Deprecated by AWS, and always empty there.
            searched_log_streams: Some(Vec::new()),
        })
    }
}

/// The first and the last place that a reader may see: `start` inclusive, `end` exclusive, and
/// nothing that has expired.
fn bounds(
    group: &LogGroup,
    context: &RequestContext,
    start_time: Option<i64>,
    end_time: Option<i64>,
) -> (Place, Place) {
    let expired = group.expired_before(context.now).unwrap_or(i64::MIN);
    (
        Place::start_of(start_time.unwrap_or(i64::MIN).max(expired)),
        Place::start_of(end_time.unwrap_or(i64::MAX)),
    )
}

/// Takes up to `limit` events, or as many as one answer holds.
fn take_answer(walk: &mut Walk<'_>, limit: usize) -> Result<Vec<Event>, ApiError> {
    let mut found = Vec::new();
    let mut bytes = 0;
    while found.len() < limit {
        let Some(event) = walk.peek()? else { break };
        bytes += event.counted_bytes();
        if bytes > ANSWER_BYTES_MAX && !found.is_empty() {
            break;
        }
        found.extend(walk.take());
    }
    Ok(found)
}

/// `f/` or `b/`, a place in hexadecimal digits, `/s`: where a reader of one stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    direction: Direction,
    place: Place,
}

impl Token {
    /// Forward from just before a place: no event has this place's predecessor.
    fn before(place: Place) -> Self {
        let place = match place.sequence.checked_sub(1) {
            Some(sequence) => Place { sequence, ..place },
            None => Place { timestamp: place.timestamp.saturating_sub(1), sequence: u64::MAX },
        };
        Self { direction: Direction::Forward, place }
    }

    fn to_text(self) -> String {
        let letter = if self.direction == Direction::Forward { 'f' } else { 'b' };
        format!("{letter}/{:016x}{:016x}/s", self.place.timestamp.cast_unsigned(), self.place.sequence)
    }

    fn parse(text: &str) -> Result<Self, ApiError> {
        let parse = || {
            let (direction, rest) = match text.split_at_checked(2)? {
                ("f/", rest) => (Direction::Forward, rest),
                ("b/", rest) => (Direction::Backward, rest),
                _ => return None,
            };
            let (timestamp, sequence) = rest.strip_suffix("/s")?.split_at_checked(16)?;
            Some(Self { direction, place: place(timestamp, sequence)? })
        };
        parse().ok_or_else(bad_token)
    }
}

fn place(timestamp: &str, sequence: &str) -> Option<Place> {
    Some(Place {
        timestamp: u64::from_str_radix(timestamp, 16).ok()?.cast_signed(),
        sequence: u64::from_str_radix(sequence, 16).ok()?,
    })
}

/// The streams that a filter looks into, each once.
fn streams(
    snapshot: &Snapshot,
    group: &LogGroup,
    names: Option<&[String]>,
    prefix: Option<&str>,
) -> Result<Vec<Arc<LogStream>>, ApiError> {
    let Some(names) = names else {
        let prefix = prefix.unwrap_or_default();
        return Ok(snapshot
            .prefix::<LogStream>(&group.streams_prefix())
            .filter(|stream| stream.name.starts_with(prefix))
            .collect());
    };
    let mut streams = Vec::with_capacity(names.len());
    for name in names {
        let key = (group.scope.clone(), group.name.clone(), name.clone());
        streams.push(snapshot.get::<LogStream>(&key).ok_or_else(no_stream)?);
    }
    streams.sort_by_key(|stream| stream.id);
    streams.dedup_by_key(|stream| stream.id);
    Ok(streams)
}

/// Where an event stands among those of several streams.
type Merged = (i64, u64, u64);

fn merged(stream: &LogStream, place: Place) -> Merged {
    (place.timestamp, stream.id, place.sequence)
}

fn parse_merged(token: &str) -> Result<Merged, ApiError> {
    let parse = || {
        let (timestamp, rest) = token.split_at_checked(16)?;
        let (stream, sequence) = rest.split_at_checked(16)?;
        let place = place(timestamp, sequence)?;
        (sequence.len() == 16).then_some(())?;
        Some((place.timestamp, u64::from_str_radix(stream, 16).ok()?, place.sequence))
    };
    parse().ok_or_else(bad_token)
}

/// Delivers the events of several streams in the order of time.
struct Merge<'h> {
    streams: Vec<(Arc<LogStream>, Walk<'h>)>,
    heads: BinaryHeap<Reverse<(Merged, usize)>>,
    last: Option<Merged>,
}

impl<'h> Merge<'h> {
    fn new(
        history: &'h wharf_state::History,
        streams: Vec<Arc<LogStream>>,
        start: Place,
        end: Place,
        after: Option<Merged>,
    ) -> Result<Self, ApiError> {
        let mut merge = Self { streams: Vec::new(), heads: BinaryHeap::new(), last: after };
        for stream in streams {
            let low = match after {
                None => Bound::Included(start),
                // Streams are taken in the order of their ids within one millisecond.
                Some((timestamp, id, sequence)) => match stream.id.cmp(&id) {
                    std::cmp::Ordering::Equal => Bound::Excluded(Place { timestamp, sequence }),
                    std::cmp::Ordering::Less => Bound::Excluded(Place { timestamp, sequence: u64::MAX }),
                    std::cmp::Ordering::Greater => Bound::Included(Place::start_of(timestamp)),
                },
            };
            let low = match low {
                Bound::Included(place) | Bound::Excluded(place) if place < start => Bound::Included(start),
                low => low,
            };
            let walk = Walk::new(history, stream.id, low, Bound::Excluded(end), Direction::Forward);
            merge.streams.push((stream, walk));
            merge.push_head(merge.streams.len() - 1)?;
        }
        Ok(merge)
    }

    fn push_head(&mut self, index: usize) -> Result<(), ApiError> {
        let (stream, walk) = &mut self.streams[index];
        if let Some(event) = walk.peek()? {
            self.heads.push(Reverse((merged(stream, event.place), index)));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(Arc<LogStream>, Event)>, ApiError> {
        let Some(Reverse((place, index))) = self.heads.pop() else { return Ok(None) };
        let (stream, walk) = &mut self.streams[index];
        let stream = Arc::clone(stream);
        let event = walk.take();
        self.last = Some(place);
        self.push_head(index)?;
        Ok(event.map(|event| (stream, event)))
    }

    /// Where to go on, when there is more.
    fn token(&self) -> Option<String> {
        self.last.filter(|_| !self.heads.is_empty()).map(|(timestamp, stream, sequence)| {
            format!("{:016x}{stream:016x}{sequence:016x}", timestamp.cast_unsigned())
        })
    }
}

fn filtered(stream: &LogStream, event: Event) -> types::FilteredLogEvent {
    let Place { timestamp, sequence } = event.place;
    types::FilteredLogEvent {
        // 56 digits, as CloudWatch Logs gives; unique, and ordered within a stream.
        event_id: Some(format!("{:019}{:018}{sequence:019}", timestamp.max(0), stream.id)),
        ingestion_time: Some(event.ingestion),
        log_stream_name: Some(stream.name.clone()),
        message: Some(event.message),
        timestamp: Some(timestamp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_and_nonsense_is_refused() {
        let token = Token { direction: Direction::Backward, place: Place { timestamp: -5, sequence: 9 } };
        assert_eq!(Token::parse(&token.to_text()).unwrap(), token);
        for bad in ["", "f", "f/", "x/0/s", "f/00/s", "f/é", &format!("f/{}/s", "z".repeat(32))] {
            assert!(Token::parse(bad).is_err(), "{bad}");
        }
        assert!(parse_merged(&"0".repeat(47)).is_err());
        assert_eq!(parse_merged(&"0".repeat(48)).unwrap(), (0, 0, 0));
    }
}
