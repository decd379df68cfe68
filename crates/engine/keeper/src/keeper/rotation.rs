//! What is kept of a log that nobody releases: all of it, its newest segments, or so much that its
//! writer waits.
//!
//! A log stays one file whose positions only grow. To drop its oldest segment is to give back the
//! space of the file's beginning, as a reader's release does. What goes is counted first, in a file
//! beside the log (`<id>.dropped`: three u64, little-endian: the position up to which, the records, the
//! bytes), so that a reader knows that there is a gap and how large it is: it looks at that file after
//! it has read, and believes nothing that it read before the position named there.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use wharf_engine::log::{Dropped, LogPolicy, RECORD_HEADER_BYTES};
use wharf_engine::{ContainerId, EngineError};

use crate::log_reader::{DroppedFile, LogReader, Writer, first_record};
use crate::paths;

/// A segment holds at least a few of the longest records, and the pieces that output moves in.
pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
/// Read at once when a log is counted again.
const COUNT_BYTES: usize = 1024 * 1024;

/// Refuses what could not be kept.
pub fn check(policy: LogPolicy) -> Result<(), EngineError> {
    let small = match policy {
        LogPolicy::KeepAll => false,
        LogPolicy::DropOldest { segment_bytes, segments_max } => {
            segment_bytes < SEGMENT_BYTES_MIN || segments_max == 0
        }
        LogPolicy::Block { bytes_max } => bytes_max < SEGMENT_BYTES_MIN,
    };
    if small {
        return Err(EngineError::Unsupported {
            what: "so small a log".to_owned(),
            reason: format!("it has at least one segment, of at least {SEGMENT_BYTES_MIN} bytes"),
        });
    }
    Ok(())
}

/// Of one log.
pub enum Keeping {
    All,
    Newest(Box<Rotation>),
    /// `first`: where its data begins, as far as was looked.
    UpTo {
        bytes_max: u64,
        first: u64,
    },
}

impl Keeping {
    pub fn new(container: &ContainerId, policy: LogPolicy) -> Self {
        match policy {
            LogPolicy::KeepAll => Self::All,
            LogPolicy::DropOldest { segment_bytes, segments_max } => {
                Self::Newest(Box::new(Rotation::new(paths::log(container), segment_bytes, segments_max)))
            }
            LogPolicy::Block { bytes_max } => Self::UpTo { bytes_max, first: 0 },
        }
    }

    /// Whether the writer must wait for a reader's release. Cheap unless the log is nearly full.
    pub fn is_full(&mut self, log: &File, length: u64) -> bool {
        let Self::UpTo { bytes_max, first } = self else { return false };
        if length - *first < *bytes_max {
            return false;
        }
        // What cannot be looked at is not waited for.
        *first = first_record(log, *first).ok().flatten().unwrap_or(length);
        length - *first >= *bytes_max
    }

    /// `records` now stand in the log at `before`.
    pub fn written(&mut self, log: &File, before: u64, records: &[u8]) -> io::Result<()> {
        match self {
            Self::All | Self::UpTo { .. } => Ok(()),
            Self::Newest(rotation) => rotation.written(log, before, records),
        }
    }
}

pub struct Rotation {
    path: PathBuf,
    segment_bytes: u64,
    segments_max: u32,
    /// Full ones, oldest first.
    segments: VecDeque<Segment>,
    current: Segment,
    /// What stood in the log before this keeper wrote to it is counted.
    counted: Counted,
}

#[derive(Clone, Copy, Default)]
struct Segment {
    end: u64,
    records: u64,
    bytes: u64,
}

#[derive(PartialEq, Eq)]
enum Counted {
    Yes,
    NotYet,
}

impl Rotation {
    fn new(path: PathBuf, segment_bytes: u64, segments_max: u32) -> Self {
        Self {
            path,
            segment_bytes,
            segments_max,
            segments: VecDeque::new(),
            current: Segment::default(),
            counted: Counted::NotYet,
        }
    }

    fn written(&mut self, log: &File, before: u64, records: &[u8]) -> io::Result<()> {
        if self.counted == Counted::NotYet {
            self.count(before)?;
            self.counted = Counted::Yes;
        }
        let mut rest = records;
        let mut end = before;
        while let Some(length) = record_length(rest) {
            end += length as u64;
            self.add(end, length as u64);
            rest = rest.get(length..).unwrap_or_default();
        }
        while self.segments.len() + usize::from(self.current.records > 0) > self.segments_max as usize {
            let Some(oldest) = self.segments.pop_front() else { break };
            self.drop_segment(log, oldest)?;
        }
        Ok(())
    }

    fn add(&mut self, end: u64, bytes: u64) {
        self.current.end = end;
        self.current.records += 1;
        self.current.bytes += bytes;
        if self.current.bytes >= self.segment_bytes {
            self.segments.push_back(std::mem::take(&mut self.current));
        }
    }

    /// Of a log that an earlier keeper wrote.
    fn count(&mut self, length: u64) -> io::Result<()> {
        let reader = LogReader::new(self.path.clone());
        let mut position = 0;
        while position < length {
            let chunk = reader.read(position, COUNT_BYTES, Writer::Lives)?;
            for record in chunk.records.iter().filter(|record| record.next <= length) {
                self.add(record.next, (RECORD_HEADER_BYTES + record.text.len()) as u64);
            }
            if chunk.next <= position {
                break;
            }
            position = chunk.next;
        }
        Ok(())
    }

    /// Counts what no reader has released, then gives its space back.
    fn drop_segment(&self, log: &File, segment: Segment) -> io::Result<()> {
        let start = segment.end - segment.bytes;
        let data = first_record(log, start)?.unwrap_or(segment.end);
        let unread = if data >= segment.end {
            Dropped::default()
        } else if data <= start {
            Dropped { records: segment.records, bytes: segment.bytes }
        } else {
            self.count_between(data, segment.end)?
        };
        let file = DroppedFile::beside(&self.path);
        let (_, before) = file.read();
        let records = before.records + unread.records;
        let bytes = before.bytes + unread.bytes;
        file.write(segment.end, Dropped { records, bytes })?;
        match rustix::fs::fallocate(
            log,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            0,
            segment.end,
        ) {
            // Without holes the file grows; its readers see the same.
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A reader has released the beginning of this range.
    fn count_between(&self, start: u64, end: u64) -> io::Result<Dropped> {
        let reader = LogReader::new(self.path.clone());
        let mut dropped = Dropped::default();
        let mut position = start;
        while position < end {
            let chunk = reader.read(position, COUNT_BYTES, Writer::Lives)?;
            let inside = chunk.records.iter().filter(|record| record.next <= end);
            dropped.records += inside.count() as u64;
            if chunk.next <= position {
                break;
            }
            position = chunk.next;
        }
        dropped.bytes = end - start;
        Ok(dropped)
    }
}

/// Of the record at the start of encoded records; `None` at their end.
fn record_length(records: &[u8]) -> Option<usize> {
    let length = records.get(RECORD_HEADER_BYTES - 4..RECORD_HEADER_BYTES)?;
    let text = length.iter().rev().fold(0usize, |sum, &byte| (sum << 8) | usize::from(byte));
    Some(RECORD_HEADER_BYTES + text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use proptest::prelude::*;
    use wharf_engine::log::{LinePart, Stream, encode_record};

    use super::*;

    struct Log {
        _dir: tempfile::TempDir,
        path: PathBuf,
        file: File,
        length: u64,
        lines: u64,
    }

    impl Log {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("c.log");
            let file =
                File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
            Self { _dir: dir, path, file, length: 0, lines: 0 }
        }

        fn rotation(&self) -> Keeping {
            Keeping::Newest(Box::new(Rotation::new(self.path.clone(), SEGMENT_BYTES_MIN, 3)))
        }

        fn write(&mut self, keeping: &mut Keeping, lines: u64) {
            let mut records = Vec::new();
            for _ in 0..lines {
                let text = format!("line {:>7} {}", self.lines, "x".repeat(87));
                encode_record(&mut records, 1, Stream::Stdout, LinePart::Ends, text.as_bytes());
                self.lines += 1;
            }
            self.file.write_all_at(&records, self.length).unwrap();
            let before = self.length;
            self.length += records.len() as u64;
            keeping.written(&self.file, before, &records).unwrap();
        }

        /// (what is told to be dropped, the numbers of the lines that can be read)
        fn read(&self, mut position: u64) -> (Dropped, Vec<u64>) {
            let reader = LogReader::new(self.path.clone());
            let mut lines = Vec::new();
            loop {
                let chunk = reader.read(position, 100_000, Writer::Exited).unwrap();
                lines.extend(chunk.records.iter().map(|record| {
                    String::from_utf8_lossy(&record.text)[5..12].trim().parse::<u64>().unwrap()
                }));
                position = chunk.next;
                if chunk.ended {
                    return (chunk.dropped, lines);
                }
            }
        }
    }

    #[test]
    fn the_oldest_goes_and_is_counted_to_the_line() {
        let mut log = Log::new();
        let mut keeping = log.rotation();
        for _ in 0..100 {
            log.write(&mut keeping, 100);
        }
        let (dropped, lines) = log.read(0);
        assert_eq!(dropped.records + lines.len() as u64, 10_000);
        assert_eq!((lines[0], *lines.last().unwrap()), (dropped.records, 9_999));
        let kept = log.length - dropped.bytes;
        assert!(kept <= 3 * (SEGMENT_BYTES_MIN + 200), "{kept}");
        assert!(kept >= 2 * SEGMENT_BYTES_MIN, "{kept}");
        let blocks = log.file.metadata().unwrap().blocks() * 512;
        assert!(blocks <= kept + 16 * 1024, "{blocks} bytes on disk of {kept}");
    }

    #[test]
    fn what_a_reader_has_released_is_not_dropped() {
        let mut log = Log::new();
        let mut keeping = log.rotation();
        log.write(&mut keeping, 800);
        let reader = LogReader::new(log.path.clone());
        let read = reader.read(0, 45_000, Writer::Lives).unwrap();
        reader.release(read.next).unwrap();
        log.write(&mut keeping, 5_000);
        let (dropped, lines) = log.read(read.next);
        assert_eq!(read.records.len() as u64 + dropped.records + lines.len() as u64, 5_800);
    }

    #[test]
    fn a_new_keeper_goes_on_counting() {
        let mut log = Log::new();
        for _ in 0..10 {
            let mut keeping = log.rotation();
            log.write(&mut keeping, 500);
        }
        let (dropped, lines) = log.read(0);
        assert!(dropped.records > 0);
        assert_eq!(dropped.records + lines.len() as u64, 5_000);
        assert!(log.length - dropped.bytes <= 3 * (SEGMENT_BYTES_MIN + 200));
    }

    #[test]
    fn a_writer_waits_until_something_is_released() {
        let mut log = Log::new();
        let mut keeping = Keeping::UpTo { bytes_max: SEGMENT_BYTES_MIN, first: 0 };
        log.write(&mut keeping, 100);
        assert!(!keeping.is_full(&log.file, log.length));
        log.write(&mut keeping, 600);
        assert!(keeping.is_full(&log.file, log.length));
        let reader = LogReader::new(log.path.clone());
        let read = reader.read(0, 40_000, Writer::Lives).unwrap();
        reader.release(read.next).unwrap();
        assert!(!keeping.is_full(&log.file, log.length));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        /// However it is written, read and released: every line is read, released or counted as dropped.
        #[test]
        fn every_line_has_a_place(steps in prop::collection::vec((1u64..900, 0usize..60_000), 1..12)) {
            let mut log = Log::new();
            let mut keeping = log.rotation();
            let (mut position, mut seen) = (0, 0);
            for (lines, read) in steps {
                log.write(&mut keeping, lines);
                if read > 100 {
                    let reader = LogReader::new(log.path.clone());
                    let chunk = reader.read(position, read, Writer::Lives).unwrap();
                    seen += chunk.records.len() as u64;
                    position = chunk.next;
                    reader.release(position).unwrap();
                }
            }
            let (dropped, rest) = log.read(position);
            prop_assert_eq!(seen + dropped.records + rest.len() as u64, log.lines);
        }
    }
}
