//! How much a sandbox has on disk: the writable layers of its containers and its own volumes.
//!
//! Blocks are counted as the file system gives them out, each inode once, whatever the number of its
//! links. What is counted late or never: a file that is open and has no name any more, and what a
//! container writes between two measurements. A kernel and a file system with project quotas would stop the
//! writer itself; this is what there is everywhere.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use wharf_engine::{EngineError, SandboxId};

use crate::host::{Host, io_error};
use crate::volume;

/// Each level holds a descriptor. What is deeper cannot be measured, and counts as too much.
const DEPTH_MAX: usize = 500;
const BLOCK_BYTES: u64 = 512;
/// Measuring gives way to everything else.
const NICE: i32 = 19;

impl Host {
    /// Bytes on disk. Takes about a microsecond a file; `u64::MAX` for a tree that cannot be measured.
    pub fn measure_storage(&self, sandbox: &SandboxId) -> Result<u64, EngineError> {
        // Ours is a process of its own; it may stay so.
        let _ = rustix::process::setpriority_process(None, NICE);
        let failed =
            |error: io::Error| io_error(&format!("measure the storage of sandbox {sandbox}"), &error);
        let mut bytes = 0_u64;
        for directory in volume::storage_dirs(self, sandbox) {
            bytes = bytes.saturating_add(measure(&directory).map_err(failed)?);
        }
        Ok(bytes)
    }
}

fn measure(directory: &Path) -> io::Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = match rustix::fs::open(directory, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(0),
        other => other?,
    };
    let device = rustix::fs::fstat(&top)?.st_dev;
    let mut linked: HashSet<u64> = HashSet::new();
    let mut bytes = 0_u64;
    let mut levels: Vec<(OwnedFd, Dir)> = vec![level(top)?];
    while let Some((fd, entries)) = levels.last_mut() {
        let Some(entry) = entries.next() else {
            levels.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = match rustix::fs::statat(&*fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            // Removed meanwhile.
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        if stat.st_dev != device {
            continue;
        }
        let is_directory = FileType::from_raw_mode(stat.st_mode).is_dir();
        if is_directory || stat.st_nlink < 2 || linked.insert(stat.st_ino) {
            let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
            bytes = bytes.saturating_add(blocks * BLOCK_BYTES);
        }
        if is_directory {
            if levels.len() == DEPTH_MAX {
                return Ok(u64::MAX);
            }
            let opened = levels.last().map(|(fd, _)| rustix::fs::openat(fd, name, flags, Mode::empty()));
            match opened {
                Some(Ok(below)) => levels.push(level(below)?),
                Some(Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) | None => {}
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }
    Ok(bytes)
}

fn level(fd: OwnedFd) -> io::Result<(OwnedFd, Dir)> {
    let entries = Dir::read_from(&fd)?;
    Ok((fd, entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_once_and_holes_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        let before = measure(dir.path()).unwrap();
        std::fs::write(below.join("file"), vec![1; 1 << 20]).unwrap();
        std::fs::hard_link(below.join("file"), dir.path().join("again")).unwrap();
        std::fs::File::create(below.join("hole")).unwrap().set_len(1 << 30).unwrap();
        // ext4 gives out blocks when it writes back.
        std::fs::File::open(below.join("file")).unwrap().sync_all().unwrap();
        let counted = measure(dir.path()).unwrap() - before;
        assert!(((1 << 20)..(1 << 20) + 64 * 1024).contains(&counted), "{counted}");
        assert_eq!(measure(&dir.path().join("nothing")).unwrap(), 0);
    }

    #[test]
    fn a_tree_that_is_too_deep_is_too_much() {
        let dir = tempfile::tempdir().unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = rustix::fs::open(dir.path(), flags, Mode::empty()).unwrap();
        for _ in 0..DEPTH_MAX + 10 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "d", flags, Mode::empty()).unwrap();
        }
        assert_eq!(measure(dir.path()).unwrap(), u64::MAX);
    }
}
