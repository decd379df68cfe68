//! A container's output: two named pipes, and the log they end in.
//!
//! The container holds each pipe open for reading too, so the keeper's death neither breaks a write
//! (`EPIPE`) nor drops what is in the pipe: the next keeper opens the same pipe again. An
//! unterminated line stays in its pipe until it is complete, too long for one record, old
//! ([`OPEN_LINE_AGE_MAX_MS`]), or the last; so the keeper holds no output in memory.
//!
//! A log that cannot be written (a full disk) does not stop the workload: what cannot be written is
//! dropped and counted, and the first record that can be written again says how much is missing.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};
use wharf_engine::ContainerId;
use wharf_engine::log::{Decoded, LinePart, LogPolicy, Stream, decode_record, encode_record};

use super::batch::{Batch, PIECE_BYTES_MAX, Taken, Unfinished};
use super::lines::{Cut, Tail, cut};
use super::rotation::Keeping;
use crate::paths;

/// An unterminated line that has waited so long is written as it is, as a part.
pub const OPEN_LINE_AGE_MAX_MS: u64 = 1_000;
/// The scratch pipe's room: a program may widen its own pipe up to this without privilege.
const SCRATCH_BYTES: usize = 1024 * 1024;
/// Read from a terminal at once: what its buffer holds.
const TERMINAL_PIECE_BYTES: usize = 4096;
/// Rounds given to what is left in a pipe after the container's end.
const LAST_ROUNDS_MAX: usize = 1024;

/// One container's.
pub struct Output {
    log: File,
    length: u64,
    keeping: Keeping,
    /// Bytes of output that could not be written, not yet told of in the log.
    dropped: u64,
    stdout: End,
    stderr: End,
}

struct End {
    pipe: OwnedFd,
    /// The last record of this stream is a part of a line.
    open_line: bool,
    /// Since when (monotonic milliseconds) an unterminated line waits in the pipe.
    waiting_since_ms: Option<u64>,
    /// When it is looked whether the log has room again.
    look_at_ms: Option<u64>,
}

/// What a round found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// There may be more.
    Some,
    /// The pipe is empty, or holds an unterminated line.
    Nothing,
}

/// What every container's output passes through, one piece at a time.
pub struct Mover {
    scratch_read: OwnedFd,
    scratch_write: OwnedFd,
    piece: Vec<u8>,
    records: Vec<u8>,
    batch: Batch,
}

/// What is handed to the container: held by the keeper only until the start is over.
pub struct ContainerEnds {
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    /// Of a container that reads from a pipe.
    pub stdin: Option<OwnedFd>,
}

impl Output {
    /// Makes log and pipes for a new container.
    pub fn create(container: &ContainerId, policy: LogPolicy) -> io::Result<(Self, ContainerEnds)> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let path = paths::pipe(container, stream);
            match rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                rustix::fs::FileType::Fifo,
                Mode::RUSR | Mode::WUSR,
                0,
            ) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let output = Self::open(container, policy)?;
        let held_by_the_container = |stream| {
            let flags = OFlags::RDWR | OFlags::CLOEXEC;
            rustix::fs::open(paths::pipe(container, stream), flags, Mode::empty())
        };
        let ends = ContainerEnds {
            stdout: held_by_the_container(Stream::Stdout)?,
            stderr: held_by_the_container(Stream::Stderr)?,
            stdin: None,
        };
        Ok((output, ends))
    }

    /// Opens the log and the pipes of a container that exists.
    pub fn open(container: &ContainerId, policy: LogPolicy) -> io::Result<Self> {
        let log = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(paths::log(container))?;
        let length = log.metadata()?.len();
        let end = |stream| -> io::Result<End> {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let pipe = rustix::fs::open(paths::pipe(container, stream), flags, Mode::empty())?;
            Ok(End { pipe, open_line: false, waiting_since_ms: None, look_at_ms: None })
        };
        let keeping = Keeping::new(container, policy);
        let (stdout, stderr) = (end(Stream::Stdout)?, end(Stream::Stderr)?);
        Ok(Self { log, length, keeping, dropped: 0, stdout, stderr })
    }

    pub fn pipe(&self, stream: Stream) -> BorrowedFd<'_> {
        match stream {
            Stream::Stdout => self.stdout.pipe.as_fd(),
            Stream::Stderr => self.stderr.pipe.as_fd(),
        }
    }

    pub fn into_pipes(self) -> Vec<OwnedFd> {
        vec![self.stdout.pipe, self.stderr.pipe]
    }

    /// Of the log, in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// When an unterminated line will have waited long enough.
    pub fn open_line_due_ms(&self) -> Option<u64> {
        let due = |end: &End| end.waiting_since_ms.map(|since| since + OPEN_LINE_AGE_MAX_MS);
        [due(&self.stdout), due(&self.stderr)].into_iter().flatten().min()
    }

    /// Streams whose unterminated line is due at `now_ms`.
    pub fn overdue(&self, now_ms: u64) -> impl Iterator<Item = Stream> + use<> {
        let due =
            |end: &End| end.waiting_since_ms.is_some_and(|since| since + OPEN_LINE_AGE_MAX_MS <= now_ms);
        let streams = [(Stream::Stdout, due(&self.stdout)), (Stream::Stderr, due(&self.stderr))];
        streams.into_iter().filter(|(_, due)| *due).map(|(stream, _)| stream)
    }

    /// Puts right what a keeper left half done when it died.
    pub fn repair(&mut self, left: &Unfinished) -> io::Result<()> {
        if left.taken == Taken::Yes {
            return Ok(());
        }
        let waiting = rustix::io::ioctl_fionread(self.pipe(left.stream))?;
        if waiting >= left.bytes as u64 {
            // It will be read again.
            self.length = self.length.min(left.log_length);
        } else {
            // The pipe was emptied by its container's end: the log has the only copy.
            let mut tail = vec![0; usize::try_from(self.length.saturating_sub(left.log_length)).unwrap_or(0)];
            let read = self.log.read_at(&mut tail, left.log_length)?;
            let mut rest = &tail[..read];
            let mut whole = left.log_length;
            while let Decoded::Record(record) = decode_record(rest, whole) {
                rest = &rest[usize::try_from(record.next - whole).unwrap_or(0)..];
                whole = record.next;
            }
            self.length = whole;
        }
        self.log.set_len(self.length)
    }

    fn end_mut(&mut self, stream: Stream) -> &mut End {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Appends whole records, or none.
    fn write(&mut self, records: &[u8]) -> io::Result<()> {
        if let Err(error) = self.log.write_all_at(records, self.length) {
            // A torn record would hide every later one.
            let _ = self.log.set_len(self.length);
            return Err(error);
        }
        let before = self.length;
        self.length += records.len() as u64;
        if let Err(error) = self.keeping.written(&self.log, before, records) {
            super::daemon::note(&format!("a log is not rotated: {error}"));
        }
        Ok(())
    }

    /// Notes that the log is looked at again at `due_ms`; `None` when that is so already.
    pub fn look_later(&mut self, stream: Stream, due_ms: u64, now_ms: u64) -> Option<u64> {
        let end = self.end_mut(stream);
        if end.look_at_ms.is_some_and(|at| at > now_ms) {
            return None;
        }
        end.look_at_ms = Some(due_ms);
        Some(due_ms)
    }

    /// The log has no room, and the container waits.
    pub fn is_full(&mut self) -> bool {
        self.keeping.is_full(&self.log, self.length)
    }
}

impl Mover {
    /// Opens the keeper's batch file, and tells what its last owner left in it.
    pub fn open(batch: &Path) -> io::Result<(Self, Option<Unfinished>)> {
        let (scratch_read, scratch_write) =
            rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A smaller one works too.
        let _ = rustix::pipe::fcntl_setpipe_size(&scratch_write, SCRATCH_BYTES);
        let (batch, unfinished) = Batch::open(batch)?;
        let mover =
            Self { scratch_read, scratch_write, piece: vec![0; PIECE_BYTES_MAX], records: Vec::new(), batch };
        Ok((mover, unfinished))
    }

    /// Moves one piece of output, at most [`PIECE_BYTES_MAX`], from a pipe to the log.
    pub fn step(
        &mut self,
        container: &ContainerId,
        output: &mut Output,
        stream: Stream,
        tail: Tail,
        now: Now,
    ) -> io::Result<Moved> {
        let length = self.look(output.pipe(stream))?;
        self.records.clear();
        if output.dropped > 0 && length > 0 {
            let notice =
                format!("[wharf: {} bytes of output are lost: the log could not be written]", output.dropped);
            encode_record(
                &mut self.records,
                now.unix_nanos,
                Stream::Stderr,
                LinePart::Ends,
                notice.as_bytes(),
            );
        }
        let piece = &self.piece[..length];
        let Cut { consumed, open_line } = cut(piece, now.unix_nanos, stream, tail, &mut self.records);
        let end = output.end_mut(stream);
        if consumed == 0 {
            if length == 0 {
                end.waiting_since_ms = None;
            } else {
                end.waiting_since_ms.get_or_insert(now.monotonic_ms);
            }
            return Ok(Moved::Nothing);
        }
        end.waiting_since_ms = None;
        end.open_line = open_line;
        self.batch.arm(container, stream, output.length, &piece[..consumed]);
        match output.write(&self.records) {
            Ok(()) => output.dropped = 0,
            Err(_) => output.dropped += consumed as u64,
        }
        let taken = self.batch.take(output.pipe(stream), consumed);
        self.batch.disarm();
        // Less than was seen a moment ago: the container reads its own output. Its affair.
        match taken {
            Ok(_) => Ok(Moved::Some),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Moved::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Moves one piece of a terminal's output to the log. It cannot be looked at before it is taken:
    /// a keeper that dies between the two takes one piece along.
    pub fn step_terminal(
        &mut self,
        output: &mut Output,
        master: BorrowedFd<'_>,
        now: Now,
    ) -> io::Result<Moved> {
        let length = match rustix::io::read(master, &mut self.piece[..TERMINAL_PIECE_BYTES]) {
            Ok(length) => length,
            // EIO: nobody has the terminal any more.
            Err(Errno::AGAIN | Errno::IO | Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        if length == 0 {
            return Ok(Moved::Nothing);
        }
        self.records.clear();
        let Cut { open_line, .. } =
            cut(&self.piece[..length], now.unix_nanos, Stream::Stdout, Tail::Write, &mut self.records);
        output.stdout.open_line = open_line;
        match output.write(&self.records) {
            Ok(()) => output.dropped = 0,
            Err(_) => output.dropped += length as u64,
        }
        Ok(Moved::Some)
    }

    /// Moves what is left in a terminal after the container's end.
    pub fn finish_terminal(&mut self, output: &mut Output, master: BorrowedFd<'_>, now: Now) {
        for _ in 0..LAST_ROUNDS_MAX {
            if !matches!(self.step_terminal(output, master, now), Ok(Moved::Some)) {
                return;
            }
        }
    }

    /// Moves what is left after the container's end, and ends a line that was written in part.
    pub fn finish(&mut self, container: &ContainerId, output: &mut Output, now: Now) -> io::Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            for _ in 0..LAST_ROUNDS_MAX {
                if self.step(container, output, stream, Tail::Keep, now)? == Moved::Nothing {
                    break;
                }
            }
            while self.step(container, output, stream, Tail::Write, now)? == Moved::Some
                && output.end_mut(stream).open_line
            {}
            if output.end_mut(stream).open_line {
                self.records.clear();
                encode_record(&mut self.records, now.unix_nanos, stream, LinePart::Breaks, &[]);
                if output.write(&self.records).is_ok() {
                    output.end_mut(stream).open_line = false;
                }
            }
        }
        if output.dropped > 0 {
            self.records.clear();
            let notice =
                format!("[wharf: {} bytes of output are lost: the log could not be written]", output.dropped);
            encode_record(
                &mut self.records,
                now.unix_nanos,
                Stream::Stderr,
                LinePart::Ends,
                notice.as_bytes(),
            );
            // Still no space: the log ends without it.
            let _ = output.write(&self.records);
        }
        Ok(())
    }

    /// Copies what is in the pipe to `piece`, and leaves it there.
    fn look(&mut self, pipe: BorrowedFd<'_>) -> io::Result<usize> {
        let length =
            match rustix::pipe::tee(pipe, &self.scratch_write, PIECE_BYTES_MAX, SpliceFlags::NONBLOCK) {
                Ok(length) => length,
                Err(Errno::AGAIN) => 0,
                Err(error) => return Err(error.into()),
            };
        let mut read = 0;
        while read < length {
            match rustix::io::read(&self.scratch_read, &mut self.piece[read..length])? {
                0 => break,
                more => read += more,
            }
        }
        Ok(read)
    }
}

/// One reading of both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub unix_nanos: u64,
    pub monotonic_ms: u64,
}

impl Now {
    pub fn read() -> Self {
        use rustix::time::{ClockId, clock_gettime};
        let (real, monotonic) = (clock_gettime(ClockId::Realtime), clock_gettime(ClockId::Boottime));
        let nanos = |time: rustix::time::Timespec| {
            u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
        };
        Self { unix_nanos: nanos(real), monotonic_ms: nanos(monotonic) / 1_000_000 }
    }

    pub fn timestamp(self) -> wharf_core::Timestamp {
        wharf_core::Timestamp::from_millis(i64::try_from(self.unix_nanos / 1_000_000).unwrap_or(i64::MAX))
    }
}
