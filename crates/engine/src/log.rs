//! The form of a container's own log: what the keeper writes and [`crate::Engine::read_log`] gives.
//!
//! A log is one file of records, each a line of output (without its newline) or a part of a long
//! one: `u64 unix time in nanoseconds, u8 flags, u32 length, bytes`, little-endian. Records stand in
//! the order in which the output was read. A position is a byte offset of a record's start, so it
//! grows, and survives the restart of whoever reads.

/// A byte offset in a log, at the start of a record or at the end.
pub type LogPosition = u64;

/// Bytes before a record's text.
pub const RECORD_HEADER_BYTES: usize = 8 + 1 + 4;
/// A longer line is cut into records of this size with [`LogRecord::partial`] set on all but the
/// last (Docker cuts at the same size).
pub const RECORD_TEXT_BYTES_MAX: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Stream {
    Stdout,
    Stderr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    pub unix_nanos: u64,
    pub stream: Stream,
    /// The line goes on in the next record of the same stream.
    pub partial: bool,
    pub text: Vec<u8>,
    /// The position behind this record.
    pub next: LogPosition,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogChunk {
    pub records: Vec<LogRecord>,
    /// Where to read on.
    pub next: LogPosition,
    /// No more will come: the container has exited and its output is drained.
    pub ended: bool,
}
