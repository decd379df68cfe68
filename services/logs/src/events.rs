//! Events on disk: keys, values and bounded reads.
//!
//! A key is `stream id, timestamp, sequence`, each big-endian with the timestamp's sign flipped, so
//! that key order is (stream, time, order of arrival). A value is the ingestion time and the
//! message.

use std::ops::Bound;

use wharf_core::ApiError;
use wharf_state::{Direction, History, Key as _, Transaction};

use crate::records::LogStream;

pub const HISTORY: &str = "logs.events";

/// How many events one read of the disk takes.
const CHUNK_EVENTS: usize = 512;
/// What CloudWatch Logs counts for an event beside its message.
pub const EVENT_OVERHEAD_BYTES: usize = 26;

/// The place of an event within its stream. Ordered as the events are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub timestamp: i64,
    pub sequence: u64,
}

impl Place {
    /// Before every event at or after `timestamp`.
    pub const fn start_of(timestamp: i64) -> Self {
        Self { timestamp, sequence: 0 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub place: Place,
    pub ingestion: i64,
    pub message: String,
}

impl Event {
    /// What it counts towards the limits of batches and answers.
    pub fn counted_bytes(&self) -> usize {
        self.message.len() + EVENT_OVERHEAD_BYTES
    }
}

fn key(stream: u64, place: Place) -> Vec<u8> {
    let mut key = Vec::with_capacity(24);
    stream.encode(&mut key);
    place.timestamp.encode(&mut key);
    place.sequence.encode(&mut key);
    key
}

/// The encoded beginning of the keys of a stream's events.
pub fn stream_prefix(stream: u64) -> Vec<u8> {
    stream.to_bytes()
}

/// All keys of a stream before a time.
pub fn before(stream: u64, timestamp: i64) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    (Bound::Included(stream_prefix(stream)), Bound::Excluded(key(stream, Place::start_of(timestamp))))
}

fn decode(entry: &(Vec<u8>, Vec<u8>)) -> Option<Event> {
    let (key, value) = entry;
    let (_, timestamp, sequence) = <(u64, i64, u64)>::decode(key)?;
    let (ingestion, message) = value.split_first_chunk::<8>()?;
    Some(Event {
        place: Place { timestamp, sequence },
        ingestion: i64::from_be_bytes(*ingestion),
        message: String::from_utf8(message.to_vec()).ok()?,
    })
}

/// Appends events to a stream within a transaction, and brings its record up to date.
pub fn append(
    transaction: &mut Transaction<'_>,
    stream: &mut LogStream,
    ingestion: i64,
    events: impl IntoIterator<Item = (i64, String)>,
) {
    for (timestamp, message) in events {
        let place = Place { timestamp, sequence: stream.next_sequence };
        stream.next_sequence += 1;
        stream.first_event = Some(stream.first_event.map_or(timestamp, |first| first.min(timestamp)));
        stream.last_event = Some(stream.last_event.map_or(timestamp, |last| last.max(timestamp)));
        stream.last_ingestion = Some(ingestion);
        stream.stored_bytes += (message.len() + EVENT_OVERHEAD_BYTES) as u64;
        let mut value = Vec::with_capacity(8 + message.len());
        value.extend_from_slice(&ingestion.to_be_bytes());
        value.extend_from_slice(message.as_bytes());
        transaction.append(HISTORY, key(stream.id, place), value);
    }
}

/// Walks the events of one stream between two places, from one end, reading the disk in chunks.
pub struct Walk<'h> {
    history: &'h History,
    stream: u64,
    direction: Direction,
    low: Bound<Place>,
    high: Bound<Place>,
    /// In reverse order of delivery.
    chunk: Vec<Event>,
    ended: bool,
}

impl<'h> Walk<'h> {
    pub fn new(
        history: &'h History,
        stream: u64,
        low: Bound<Place>,
        high: Bound<Place>,
        direction: Direction,
    ) -> Self {
        Self { history, stream, direction, low, high, chunk: Vec::new(), ended: false }
    }

    /// The next event, which stays the next one until it is taken with [`Walk::take`].
    pub fn peek(&mut self) -> Result<Option<&Event>, ApiError> {
        if self.chunk.is_empty() && !self.ended {
            self.read()?;
        }
        Ok(self.chunk.last())
    }

    pub fn take(&mut self) -> Option<Event> {
        self.chunk.pop()
    }

    fn read(&mut self) -> Result<(), ApiError> {
        let last = Place { timestamp: i64::MAX, sequence: u64::MAX };
        let low = match self.low {
            Bound::Included(place) => Bound::Included(key(self.stream, place)),
            Bound::Excluded(place) => Bound::Excluded(key(self.stream, place)),
            Bound::Unbounded => Bound::Included(stream_prefix(self.stream)),
        };
        let high = match self.high {
            Bound::Included(place) => Bound::Included(key(self.stream, place)),
            Bound::Excluded(place) => Bound::Excluded(key(self.stream, place)),
            Bound::Unbounded => Bound::Included(key(self.stream, last)),
        };
        let entries =
            self.history.range((low, high), self.direction, CHUNK_EVENTS).map_err(ApiError::internal)?;
        self.ended = entries.len() < CHUNK_EVENTS;
        self.chunk = entries.iter().filter_map(decode).collect();
        if let Some(event) = self.chunk.last() {
            match self.direction {
                Direction::Forward => self.low = Bound::Excluded(event.place),
                Direction::Backward => self.high = Bound::Excluded(event.place),
            }
        }
        self.chunk.reverse();
        Ok(())
    }
}
