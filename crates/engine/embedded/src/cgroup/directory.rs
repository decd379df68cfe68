//! A directory of a cgroup hierarchy, by descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{CgroupError, retry_busy};
use crate::faults;

/// Control files are small; a longer one is read to here.
const FILE_BYTES_MAX: usize = 64 * 1024;
/// A list of processes is read to here: more than a hundred thousand of them.
const LIST_BYTES_MAX: usize = 1 << 20;

/// Reads and writes below one directory. Paths are relative and made of validated ids.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    /// For messages.
    name: String,
}

impl Directory {
    pub fn open(path: &Path) -> Result<Self, CgroupError> {
        let name = path.display().to_string();
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|source| CgroupError::File { path: name.clone(), action: "open", source })?;
        Ok(Self { fd, name })
    }

    pub(super) fn from_fd(fd: OwnedFd, name: &str) -> Self {
        Self { fd, name: name.to_owned() }
    }

    pub fn open_below(&self, path: &str) -> Result<Self, CgroupError> {
        let fd = self.open_file(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(Self { fd, name: format!("{}/{path}", self.name) })
    }

    fn failed(&self, path: &str, action: &'static str) -> impl FnOnce(Errno) -> CgroupError {
        let path = format!("{}/{path}", self.name);
        move |source| CgroupError::File { path, action, source }
    }

    pub fn open_file(&self, path: &str, flags: OFlags) -> Result<OwnedFd, CgroupError> {
        faults::strike()
            .and_then(|()| {
                let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                rustix::fs::openat(&self.fd, path, flags, Mode::empty())
            })
            .map_err(self.failed(path, "open"))
    }

    /// Makes a directory; one that is there is fine.
    pub fn make(&self, path: &str) -> Result<(), CgroupError> {
        match faults::strike().and_then(|()| rustix::fs::mkdirat(&self.fd, path, Mode::from(0o755))) {
            Err(Errno::EXIST) => Ok(()),
            other => other.map_err(self.failed(path, "mkdir")),
        }
    }

    /// Removes a directory; one that is gone is fine.
    pub fn remove(&self, path: &str) -> Result<(), CgroupError> {
        match faults::strike().and_then(|()| rustix::fs::unlinkat(&self.fd, path, AtFlags::REMOVEDIR)) {
            Err(Errno::NOENT) => Ok(()),
            other => other.map_err(self.failed(path, "rmdir")),
        }
    }

    /// Removes a directory with all groups below it.
    pub fn remove_all(&self, path: &str) -> Result<(), CgroupError> {
        for child in self.children(path)? {
            self.remove_all(&format!("{path}/{child}"))?;
        }
        retry_busy(path, || self.remove(path))
    }

    /// The processes of the group at `path` and of all below it; none if it is gone.
    pub fn processes(&self, path: &str) -> Result<Vec<u32>, CgroupError> {
        let mut processes = match self.members(path) {
            Ok(members) => members,
            // Removed while it was opened, or while it was read.
            Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NODEV)) => Vec::new(),
            Err(error) => return Err(error),
        };
        for child in self.children(path)? {
            processes.extend(self.processes(&format!("{path}/{child}"))?);
        }
        processes.sort_unstable();
        Ok(processes)
    }

    /// The processes of the group at `path` itself.
    pub fn members(&self, path: &str) -> Result<Vec<u32>, CgroupError> {
        let text = self.read_list(&format!("{path}/cgroup.procs"))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// The whole lines of a file that the kernel gives out about a page at a time.
    fn read_list(&self, path: &str) -> Result<String, CgroupError> {
        let file = self.open_file(path, OFlags::RDONLY)?;
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        while bytes.len() < LIST_BYTES_MAX {
            match rustix::io::read(&file, &mut buffer).map_err(self.failed(path, "read"))? {
                0 => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                length => bytes.extend_from_slice(&buffer[..length]),
            }
        }
        // Half a number would be another process's.
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        Ok(String::from_utf8_lossy(&bytes[..whole]).into_owned())
    }

    pub fn write(&self, path: &str, value: &str) -> Result<(), CgroupError> {
        let file = self.open_file(path, OFlags::WRONLY)?;
        rustix::io::write(&file, value.as_bytes()).map_err(self.failed(path, "write"))?;
        Ok(())
    }

    /// Writes where the kernel has the file; a kernel without it has nothing to be told.
    pub fn write_if_there(&self, path: &str, value: &str) -> Result<(), CgroupError> {
        match self.write(path, value) {
            Err(CgroupError::File { source: Errno::NOENT, .. }) => Ok(()),
            other => other,
        }
    }

    pub fn read(&self, path: &str) -> Result<String, CgroupError> {
        let file = self.open_file(path, OFlags::RDONLY)?;
        self.read_from(&file, path)
    }

    /// A file of this hierarchy that is open already.
    pub fn read_from(&self, file: &OwnedFd, path: &str) -> Result<String, CgroupError> {
        let mut bytes = vec![0; 4096];
        let mut length = 0;
        loop {
            let read = rustix::io::pread(file, &mut bytes[length..], length as u64)
                .map_err(self.failed(path, "read"))?;
            length += read;
            // The kernel writes such a file in one piece where there is room.
            if read == 0 || length < bytes.len() || length >= FILE_BYTES_MAX {
                break;
            }
            bytes.resize(length * 2, 0);
        }
        bytes.truncate(length);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A file that holds one number; `max` is `u64::MAX`.
    pub fn read_number(&self, path: &str) -> Result<u64, CgroupError> {
        let text = self.read(path)?;
        number_of(&text).ok_or_else(|| self.failed(path, "parse")(Errno::INVAL))
    }

    /// The names of the directories below `path` (`.` for this one), sorted; none if it is gone.
    pub fn children(&self, path: &str) -> Result<Vec<String>, CgroupError> {
        let fd = match self.open_file(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(CgroupError::File { source: Errno::NOENT, .. }) => return Ok(Vec::new()),
            other => other?,
        };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&fd).map_err(self.failed(path, "list"))? {
            let entry = entry.map_err(self.failed(path, "list"))?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if entry.file_type() == rustix::fs::FileType::Directory && name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// `max` is `u64::MAX`.
pub(super) fn number_of(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_comes_in_pieces_is_read_to_its_end() {
        // Made of many records, as `cgroup.procs` is, and longer than what one read gives.
        let here = Directory::open(Path::new("/proc/self")).unwrap();
        let text = here.read_list("smaps").unwrap();
        assert!(text.len() > 8192 && text.trim_end().lines().last().unwrap().starts_with("VmFlags:"));
    }

    #[test]
    fn many_processes_are_listed_and_none_by_half_its_number() {
        let place = tempfile::tempdir().unwrap();
        let directory = Directory::open(place.path()).unwrap();
        let write = |count: u32| {
            let text: String = (0..count).map(|number| format!("{}\n", 1_000_000 + number)).collect();
            std::fs::write(place.path().join("cgroup.procs"), text).unwrap();
        };
        write(50_000);
        assert_eq!(directory.processes(".").unwrap().len(), 50_000);
        write(200_000);
        let processes = directory.processes(".").unwrap();
        assert!(processes.len() > 100_000 && processes.iter().all(|&number| number >= 1_000_000));
    }
}
