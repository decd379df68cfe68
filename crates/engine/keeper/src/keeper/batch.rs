//! Moves output from a pipe into a log exactly once, though the keeper may be killed between any two
//! instructions.
//!
//! What is in a pipe is first looked at (`tee`), then written to the log, and only then taken out of
//! the pipe. A keeper that dies between the last two would write it twice. So the batch is noted in
//! a small shared mapping of a file, which outlives the process, and taken out *into* that mapping,
//! where one byte was set to something else before: its value tells whether the taking happened. The
//! next keeper then either leaves the log as it is, or cuts the batch off, since it is still in the
//! pipe.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::{Ordering, compiler_fence};

use wharf_engine::ContainerId;
use wharf_engine::log::Stream;

/// Output moved at once: what a pipe holds.
pub const PIECE_BYTES_MAX: usize = 64 * 1024;
const HEADER_BYTES: usize = 4096;
const ID_BYTES_MAX: usize = 128;

/// At the start of the mapping.
#[repr(C)]
struct Header {
    armed: u32,
    stderr: u32,
    length: u32,
    last: u32,
    log_length: u64,
    id_length: u32,
    id: [u8; ID_BYTES_MAX],
}

/// The mapped file.
pub struct Batch {
    header: NonNull<Header>,
    /// [`PIECE_BYTES_MAX`] bytes.
    piece: NonNull<u8>,
}

/// A batch that a keeper died over.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfinished {
    pub container: ContainerId,
    pub stream: Stream,
    /// Of the log, before the batch.
    pub log_length: u64,
    pub bytes: usize,
    pub taken: Taken,
}

/// Whether the batch left its pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Yes,
    No,
}

impl Batch {
    /// Maps the file, and tells what the last keeper left in it.
    pub fn open(path: &Path) -> io::Result<(Self, Option<Unfinished>)> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        allocate(&file)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice; the file has its full length
        // and its blocks (`allocate`), and no one else cuts it.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                HEADER_BYTES + PIECE_BYTES_MAX,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(address.cast::<u8>()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        // SAFETY: inside the mapping.
        let piece = unsafe { start.add(HEADER_BYTES) };
        let mut batch = Self { header: start.cast(), piece };
        let unfinished = batch.read_unfinished();
        batch.disarm();
        Ok((batch, unfinished))
    }

    /// Notes that `piece` is about to be moved to the log of `container`, whose length is
    /// `log_length`.
    pub fn arm(&mut self, container: &ContainerId, stream: Stream, log_length: u64, piece: &[u8]) {
        let Some(&last) = piece.last().filter(|_| piece.len() <= PIECE_BYTES_MAX) else { return };
        let id = container.as_str().as_bytes();
        // SAFETY: the mapping lives as long as self, is aligned to a page, and only this thread
        // touches it.
        let header = unsafe { self.header.as_mut() };
        header.stderr = u32::from(stream == Stream::Stderr);
        header.length = piece.len() as u32;
        header.last = u32::from(last);
        header.log_length = log_length;
        header.id_length = id.len() as u32;
        header.id[..id.len()].copy_from_slice(id);
        // SAFETY: below PIECE_BYTES_MAX, checked above.
        unsafe { self.piece.add(piece.len() - 1).write_volatile(!last) };
        // The kill may come anywhere: the order of these writes is the point.
        compiler_fence(Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { ptr::write_volatile(&raw mut header.armed, 1) };
        compiler_fence(Ordering::SeqCst);
    }

    /// Takes `length` bytes out of the pipe, into the mapping.
    pub fn take(&mut self, pipe: BorrowedFd<'_>, length: usize) -> io::Result<usize> {
        let length = length.min(PIECE_BYTES_MAX);
        // SAFETY: the mapping has PIECE_BYTES_MAX bytes there, and no reference into it exists.
        let taken = unsafe { libc::read(pipe.as_raw_fd(), self.piece.as_ptr().cast(), length) };
        usize::try_from(taken).map_err(|_| io::Error::last_os_error())
    }

    pub fn disarm(&mut self) {
        compiler_fence(Ordering::SeqCst);
        // SAFETY: inside the mapping, aligned.
        unsafe { ptr::write_volatile(&raw mut (*self.header.as_ptr()).armed, 0) };
        compiler_fence(Ordering::SeqCst);
    }

    fn read_unfinished(&self) -> Option<Unfinished> {
        // SAFETY: as in `arm`; every bit pattern is a Header.
        let header = unsafe { self.header.as_ref() };
        let bytes = header.length as usize;
        if header.armed != 1 || bytes == 0 || bytes > PIECE_BYTES_MAX {
            return None;
        }
        let id = header.id.get(..header.id_length as usize)?;
        // SAFETY: below PIECE_BYTES_MAX, checked above.
        let last = unsafe { self.piece.add(bytes - 1).read_volatile() };
        Some(Unfinished {
            container: ContainerId::new(std::str::from_utf8(id).ok()?)?,
            stream: if header.stderr == 0 { Stream::Stdout } else { Stream::Stderr },
            log_length: header.log_length,
            bytes,
            taken: if u32::from(last) == header.last { Taken::Yes } else { Taken::No },
        })
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // SAFETY: our own mapping, of this length, unmapped once.
        unsafe { libc::munmap(self.header.as_ptr().cast(), HEADER_BYTES + PIECE_BYTES_MAX) };
    }
}

/// Gives the file its length and its blocks: a write to a mapped hole on a full disk would be a
/// SIGBUS.
fn allocate(file: &File) -> io::Result<()> {
    let wanted = (HEADER_BYTES + PIECE_BYTES_MAX) as u64;
    if file.metadata()?.len() < wanted {
        file.set_len(0)?;
        file.write_all_at(&vec![0; HEADER_BYTES + PIECE_BYTES_MAX], 0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_death_before_and_after_the_taking_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("batch");
        let id = ContainerId::new("c").unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"hello\n").unwrap();

        let (mut batch, before) = Batch::open(&path).unwrap();
        assert_eq!(before, None);
        batch.arm(&id, Stream::Stderr, 77, b"hello\n");
        drop(batch);
        let (mut batch, left) = Batch::open(&path).unwrap();
        let expected = Unfinished {
            container: id.clone(),
            stream: Stream::Stderr,
            log_length: 77,
            bytes: 6,
            taken: Taken::No,
        };
        assert_eq!(left, Some(expected));

        batch.arm(&id, Stream::Stderr, 77, b"hello\n");
        assert_eq!(batch.take(reader.as_fd(), 6).unwrap(), 6);
        drop(batch);
        let (mut batch, left) = Batch::open(&path).unwrap();
        assert_eq!(left.map(|left| left.taken), Some(Taken::Yes));

        batch.arm(&id, Stream::Stdout, 0, b"x");
        batch.disarm();
        drop(batch);
        assert_eq!(Batch::open(&path).unwrap().1, None);
    }
}
