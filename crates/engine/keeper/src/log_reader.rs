//! Reads a container's log, and gives back the disk space of what was read. Done by the control
//! plane itself, on the file: the keeper has no part in it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;
use wharf_engine::log::{
    Decoded, Dropped, LogChunk, LogPosition, RECORD_HEADER_BYTES, RECORD_TEXT_BYTES_MAX, decode_record,
};

const RECORD_BYTES_MAX: usize = RECORD_HEADER_BYTES + RECORD_TEXT_BYTES_MAX;
/// Read at once, whatever the caller allows.
const CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One log. Holds nothing open.
pub struct LogReader {
    path: PathBuf,
}

/// Whether the container may still write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    Lives,
    /// It had exited before this read began.
    Exited,
}

impl LogReader {
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Records from `position` on, at most `bytes_max` of them but at least one.
    ///
    /// # Errors
    /// When the file cannot be read, or `position` is not where a record starts.
    pub fn read(&self, position: LogPosition, bytes_max: usize, writer: Writer) -> io::Result<LogChunk> {
        let mut position = position;
        let file = DroppedFile::beside(&self.path);
        loop {
            let result = self.read_once(position, bytes_max, writer);
            // Only now: what was read before this position may have been given back meanwhile.
            let (up_to, dropped) = file.read();
            let start = match &result {
                Ok((start, _)) => *start,
                Err(_) => position,
            };
            if up_to <= start {
                return result.map(|(_, chunk)| LogChunk { dropped, ..chunk });
            }
            position = up_to;
        }
    }

    /// With the position of the first record.
    fn read_once(
        &self,
        position: LogPosition,
        bytes_max: usize,
        writer: Writer,
    ) -> io::Result<(LogPosition, LogChunk)> {
        let file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        let Some(start) = first_record(&file, position)? else {
            let next = position.max(length);
            let ended = writer == Writer::Exited;
            return Ok((next, LogChunk { next, ended, ..LogChunk::default() }));
        };
        let wanted = bytes_max.clamp(RECORD_BYTES_MAX, CHUNK_BYTES_MAX);
        let available = usize::try_from(length.saturating_sub(start)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; wanted.min(available)];
        let read = read_up_to(&file, &mut bytes, start)?;
        let mut chunk = LogChunk { next: start, ..LogChunk::default() };
        let mut rest = &bytes[..read];
        while !rest.is_empty() {
            match decode_record(rest, chunk.next) {
                Decoded::Record(record) => {
                    let used = usize::try_from(record.next - chunk.next).unwrap_or(usize::MAX);
                    let total = usize::try_from(record.next - start).unwrap_or(usize::MAX);
                    if total > bytes_max && !chunk.records.is_empty() {
                        break;
                    }
                    rest = &rest[used..];
                    chunk.next = record.next;
                    chunk.records.push(record);
                }
                // Being written, or beyond what was read.
                Decoded::Incomplete(_) => break,
                Decoded::Nothing => {
                    let message = format!("{}: no record starts at {}", self.path.display(), chunk.next);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
            }
        }
        chunk.ended = writer == Writer::Exited && chunk.next >= length;
        Ok((start, chunk))
    }

    /// Gives back the space of what is before `position`. A file system that cannot (no holes)
    /// keeps it; reading is the same.
    pub fn release(&self, position: LogPosition) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path)?;
        let position = position.min(file.metadata()?.len());
        if position == 0 {
            return Ok(());
        }
        match rustix::fs::fallocate(
            &file,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            0,
            position,
        ) {
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The file beside a log that tells what was dropped of it, for want of room.
pub struct DroppedFile {
    path: PathBuf,
}

impl DroppedFile {
    pub fn beside(log: &Path) -> Self {
        Self { path: log.with_extension("dropped") }
    }

    /// The position before which nothing is left, and what was dropped in all. Zero without a file.
    pub fn read(&self) -> (LogPosition, Dropped) {
        let mut bytes = [[0; 8]; 3];
        let read = File::open(&self.path).and_then(|file| file.read_exact_at(bytes.as_flattened_mut(), 0));
        match read {
            Ok(()) => {
                let [up_to, records, bytes] = bytes.map(u64::from_le_bytes);
                (up_to, Dropped { records, bytes })
            }
            Err(_) => (0, Dropped::default()),
        }
    }

    /// In one write of 24 bytes, which a reader sees whole.
    pub fn write(&self, up_to: LogPosition, dropped: Dropped) -> io::Result<()> {
        let bytes = [up_to, dropped.records, dropped.bytes].map(u64::to_le_bytes);
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(&self.path)?;
        file.write_all_at(bytes.as_flattened(), 0)
    }
}

/// Where the first record at or after `position` starts: `position` itself unless it is in a
/// released range, whose zeros end where the next record starts. `None`: there is none yet.
pub fn first_record(file: &File, mut position: LogPosition) -> io::Result<Option<LogPosition>> {
    let mut bytes = [0; 4096];
    loop {
        let read = file.read_at(&mut bytes, position)?;
        if read == 0 {
            return Ok(None);
        }
        if let Some(zeros) = bytes[..read].iter().position(|&byte| byte != 0) {
            return Ok(Some(position + zeros as u64));
        }
        position += read as u64;
        position = match rustix::fs::seek(file, SeekFrom::Data(position)) {
            Ok(data) => data.max(position),
            Err(Errno::NXIO) => return Ok(None),
            Err(_) => position,
        };
    }
}

fn read_up_to(file: &File, bytes: &mut [u8], position: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], position + read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use wharf_engine::log::{LinePart, Stream, encode_record};

    use super::*;

    fn log(lines: usize) -> (tempfile::TempDir, LogReader, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        for line in 0..lines {
            // Times whose low bytes are zero but for the lowest bit.
            let text = format!("line {line}");
            encode_record(&mut bytes, (line as u64) << 32, Stream::Stdout, LinePart::Ends, text.as_bytes());
        }
        let path = dir.path().join("log");
        std::fs::write(&path, &bytes).unwrap();
        (dir, LogReader::new(path), bytes)
    }

    fn read_all(reader: &LogReader, mut position: u64, bytes_max: usize) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let chunk = reader.read(position, bytes_max, Writer::Exited).unwrap();
            position = chunk.next;
            lines.extend(chunk.records.into_iter().map(|record| String::from_utf8(record.text).unwrap()));
            if chunk.ended {
                return lines;
            }
        }
    }

    #[test]
    fn every_chunk_size_reads_the_same() {
        let (_dir, reader, _) = log(500);
        let expected: Vec<String> = (0..500).map(|line| format!("line {line}")).collect();
        for bytes_max in [0, 1, 25, 1000, 1 << 20] {
            assert_eq!(read_all(&reader, 0, bytes_max), expected, "{bytes_max}");
        }
    }

    #[test]
    fn a_released_range_is_passed_over_from_anywhere_in_it() {
        use std::os::unix::fs::MetadataExt;
        let (_dir, reader, _) = log(10_000);
        let chunk = reader.read(0, 150_000, Writer::Lives).unwrap();
        let first = chunk.records.len();
        let blocks = std::fs::metadata(&reader.path).unwrap().blocks();
        reader.release(chunk.next).unwrap();
        assert!(std::fs::metadata(&reader.path).unwrap().blocks() < blocks, "space is given back");
        for position in [0, chunk.records[0].next, chunk.records[first / 2].next, chunk.next] {
            let lines = read_all(&reader, position, 1 << 20);
            assert_eq!(lines.first().unwrap(), &format!("line {first}"));
            assert_eq!(lines.len(), 10_000 - first);
        }
    }

    #[test]
    fn a_log_released_to_its_end_ends() {
        let (_dir, reader, bytes) = log(10);
        reader.release(bytes.len() as u64).unwrap();
        let chunk = reader.read(0, 100, Writer::Exited).unwrap();
        assert_eq!((chunk.records.len(), chunk.next, chunk.ended), (0, bytes.len() as u64, true));
    }

    #[test]
    fn a_record_that_is_being_written_is_waited_for() {
        let (_dir, reader, bytes) = log(2);
        std::fs::write(&reader.path, &bytes[..bytes.len() - 1]).unwrap();
        let chunk = reader.read(0, 1000, Writer::Lives).unwrap();
        assert_eq!((chunk.records.len(), chunk.ended), (1, false));
        std::fs::write(&reader.path, &bytes).unwrap();
        let chunk = reader.read(chunk.next, 1000, Writer::Exited).unwrap();
        assert_eq!((chunk.records.len(), chunk.ended), (1, true));
    }
}
