//! The form of a container's own log: what the keeper writes and [`crate::Engine::read_log`] gives.
//!
//! A log is one file of records, each a line of output (without its newline) or a part of a long
//! one: `u64 unix time in nanoseconds, u8 flags, u32 length, bytes`, little-endian. Records stand in
//! the order in which the output was read. A position is a byte offset of a record's start, so it
//! grows, and survives the restart of whoever reads.
//!
//! The time's lowest bit is always set. A record therefore never starts with a zero byte, and the
//! zeros that a released range reads as (a hole in the file) end where the next record starts.

use serde::{Deserialize, Serialize};

/// How much of a log is kept before somebody releases it, and what happens beyond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogPolicy {
    /// All of it.
    #[default]
    KeepAll,
    /// The oldest goes: once there are `segments_max` segments of `segment_bytes` each, a whole
    /// segment, as a rotation removes its oldest file. [`LogChunk::dropped`] tells how much went.
    /// The workload never waits.
    DropOldest { segment_bytes: u64, segments_max: u32 },
    /// The workload waits in its write until some of the log is released.
    Block { bytes_max: u64 },
}

/// Output that a reader will never see, because [`LogPolicy::DropOldest`] made room: all of it since
/// the container was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    pub records: u64,
    /// Of the log, the records' headers included.
    pub bytes: u64,
}

/// A byte offset in a log, at the start of a record or at the end.
pub type LogPosition = u64;

/// Bytes before a record's text.
pub const RECORD_HEADER_BYTES: usize = 8 + 1 + 4;
/// A longer line is cut into records of this size with [`LogRecord::partial`] set on all but the
/// last (Docker cuts at the same size).
pub const RECORD_TEXT_BYTES_MAX: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Stream {
    Stdout,
    Stderr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    pub unix_nanos: u64,
    pub stream: Stream,
    /// The line goes on in the next record of the same stream. Set too on a piece of a line that
    /// the program left without its end for a second; and on a log's last record, where the program
    /// ended without a newline and the keeper was replaced meanwhile.
    pub partial: bool,
    /// The program ended here without a newline.
    pub unterminated: bool,
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
    /// What has been dropped before [`LogChunk::next`] and was not released by a reader.
    pub dropped: Dropped,
}

const FLAG_STDERR: u8 = 1;
const FLAG_PARTIAL: u8 = 1 << 1;
const FLAG_UNTERMINATED: u8 = 1 << 2;

/// Appends one record to `out`, in the form above. `text` is cut to [`RECORD_TEXT_BYTES_MAX`] by
/// the caller.
pub fn encode_record(out: &mut Vec<u8>, unix_nanos: u64, stream: Stream, part: LinePart, text: &[u8]) {
    debug_assert!(text.len() <= RECORD_TEXT_BYTES_MAX, "the caller cuts long lines");
    let mut flags = 0;
    if stream == Stream::Stderr {
        flags |= FLAG_STDERR;
    }
    match part {
        LinePart::GoesOn => flags |= FLAG_PARTIAL,
        LinePart::Ends => {}
        LinePart::Breaks => flags |= FLAG_UNTERMINATED,
    }
    out.extend_from_slice(&(unix_nanos | 1).to_le_bytes());
    out.push(flags);
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(text);
}

/// Whether a record ends its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinePart {
    GoesOn,
    Ends,
    /// It ends with the program, which wrote no newline.
    Breaks,
}

/// What stands at the start of some bytes of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    Record(LogRecord),
    /// The start of a record: this many bytes are needed in all.
    Incomplete(usize),
    /// Not a record's start: a released range, or damage.
    Nothing,
}

/// Decodes the record at the start of `bytes`, which stand at `position` of their log.
pub fn decode_record(bytes: &[u8], position: LogPosition) -> Decoded {
    let Some((&first, _)) = bytes.split_first() else {
        return Decoded::Incomplete(RECORD_HEADER_BYTES);
    };
    if first & 1 == 0 {
        return Decoded::Nothing;
    }
    let Some((header, rest)) = bytes.split_at_checked(RECORD_HEADER_BYTES) else {
        return Decoded::Incomplete(RECORD_HEADER_BYTES);
    };
    let (time, header) = header.split_at(8);
    let (flags, length) = (header[0], &header[1..]);
    let length = length.iter().rev().fold(0usize, |sum, &byte| (sum << 8) | usize::from(byte));
    if flags & !(FLAG_STDERR | FLAG_PARTIAL | FLAG_UNTERMINATED) != 0 || length > RECORD_TEXT_BYTES_MAX {
        return Decoded::Nothing;
    }
    let Some(text) = rest.get(..length) else {
        return Decoded::Incomplete(RECORD_HEADER_BYTES + length);
    };
    Decoded::Record(LogRecord {
        unix_nanos: time.iter().rev().fold(0, |sum, &byte| (sum << 8) | u64::from(byte)),
        stream: if flags & FLAG_STDERR == 0 { Stream::Stdout } else { Stream::Stderr },
        partial: flags & FLAG_PARTIAL != 0,
        unterminated: flags & FLAG_UNTERMINATED != 0,
        text: text.to_vec(),
        next: position + (RECORD_HEADER_BYTES + length) as u64,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(nanos: u64, stderr: bool, partial: bool, text in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..100) {
            let stream = if stderr { Stream::Stderr } else { Stream::Stdout };
            let part = if partial { LinePart::GoesOn } else { LinePart::Ends };
            let mut bytes = Vec::new();
            encode_record(&mut bytes, nanos, stream, part, &text);
            let record = LogRecord { unix_nanos: nanos | 1, stream, partial, unterminated: false, text, next: 7 + bytes.len() as u64 };
            prop_assert_eq!(decode_record(&bytes, 7), Decoded::Record(record));
            let short = &bytes[..cut.min(bytes.len() - 1)];
            prop_assert!(matches!(decode_record(short, 7), Decoded::Incomplete(needed) if needed > short.len()));
        }

        #[test]
        fn damage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            decode_record(&bytes, 0);
        }
    }

    #[test]
    fn zeros_are_no_record() {
        assert_eq!(decode_record(&[0; 32], 0), Decoded::Nothing);
    }
}
