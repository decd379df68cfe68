//! Paths inside a container's root, which the image controls: every look-up is
//! `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`, so no link in it leads out.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

/// Links followed while a missing path is made, as many as the kernel follows.
const LINKS_MAX: usize = 40;

/// The root of a container, by descriptor.
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    pub fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        self.open_with_mode(path, flags, Mode::empty())
    }

    fn open_with_mode(&self, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // EAGAIN: a rename elsewhere raced with the look-up.
        for _ in 0..LINKS_MAX {
            match rustix::fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// As [`Root::open`], for what must not be reached over a link: `name` right below the root.
    pub fn open_plain(&self, name: &str, flags: OFlags) -> Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.fd, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// The directory `name` right below the root, made where missing. A link there is an error.
    pub fn make_plain_directory(&self, name: &str) -> Result<OwnedFd> {
        match self.open_plain(name, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        rustix::fs::mkdirat(&self.fd, name, Mode::from(0o755))?;
        self.open_plain(name, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// The directory at `path`, made with its parents where missing (mode 0755, root's).
    pub fn make_directory(&self, path: &str) -> Result<OwnedFd> {
        const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);
        match self.open(path, DIRECTORY) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let mut so_far = String::new();
        let mut parent = self.open("/", DIRECTORY)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let before = parent;
            so_far.push('/');
            so_far.push_str(name);
            parent = match self.open(&so_far, DIRECTORY) {
                Err(Errno::NOENT) => {
                    // A link that leads nowhere is there, and is not followed.
                    rustix::fs::mkdirat(&before, name, Mode::from(0o755))?;
                    self.open(&so_far, DIRECTORY)?
                }
                other => other?,
            };
        }
        Ok(parent)
    }

    /// The file at `path` as a mount point, made empty where missing.
    pub fn make_file(&self, path: &str) -> Result<OwnedFd> {
        match self.open(path, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or(("/", path));
        let parent = self.make_directory(parent)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(&parent, name, flags, Mode::from(0o644))?;
        self.open(path, OFlags::PATH)
    }

    /// At most `bytes_max` of a regular file; nothing if it is missing or no regular file.
    pub fn read(&self, path: &str, bytes_max: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A FIFO would block for ever, so not to wait is asked for.
        let Ok(file) = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) else {
            return bytes;
        };
        let Ok(stat) = rustix::fs::fstat(&file) else { return bytes };
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
            return bytes;
        }
        let size = usize::try_from(stat.st_size).unwrap_or(0).min(bytes_max);
        bytes.resize(size, 0);
        let mut length = 0;
        while length < size {
            match rustix::io::read(&file, &mut bytes[length..]) {
                Ok(0) | Err(_) => break,
                Ok(read) => length += read,
            }
        }
        bytes.truncate(length);
        bytes
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root(directory: &std::path::Path) -> Root {
        Root::new(rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap())
    }

    #[test]
    fn no_link_leads_out() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "host").unwrap();
        let inside = tempfile::tempdir().unwrap();
        let root = root(inside.path());
        symlink(outside.path(), inside.path().join("absolute")).unwrap();
        symlink("../../../../../../etc", inside.path().join("relative")).unwrap();
        symlink("/proc/self/root", inside.path().join("magic")).unwrap();

        assert!(root.read("/absolute/secret", 100).is_empty());
        assert_eq!(root.open("relative/passwd", OFlags::PATH).unwrap_err(), Errno::NOENT);
        // What is made through them is made inside, or not at all.
        let _ = root.make_directory("/absolute/made");
        let _ = root.make_file("/relative/made");
        assert!(!outside.path().join("made").exists());
        assert!(!std::path::Path::new("/etc/made").exists());
    }

    #[test]
    fn a_plain_directory_is_no_link() {
        let inside = tempfile::tempdir().unwrap();
        let root = root(inside.path());
        std::fs::create_dir(inside.path().join("elsewhere")).unwrap();
        symlink("elsewhere", inside.path().join("proc")).unwrap();
        assert_eq!(root.make_plain_directory("proc").unwrap_err(), Errno::LOOP);
        assert_eq!(root.open_plain("proc", OFlags::PATH).unwrap_err(), Errno::LOOP);
        root.make_plain_directory("sys").unwrap();
        root.make_plain_directory("sys").unwrap();
        assert!(inside.path().join("sys").is_dir());
    }

    #[test]
    fn what_is_missing_is_made() {
        let inside = tempfile::tempdir().unwrap();
        let root = root(inside.path());
        root.make_directory("/a/b/c").unwrap();
        root.make_file("/a/b/file").unwrap();
        assert!(inside.path().join("a/b/c").is_dir());
        assert!(inside.path().join("a/b/file").is_file());
        assert_eq!(root.make_directory("/a/b/file").unwrap_err(), Errno::NOTDIR);
    }

    #[test]
    fn only_regular_files_are_read_and_not_beyond_the_bound() {
        let inside = tempfile::tempdir().unwrap();
        let root = root(inside.path());
        std::fs::write(inside.path().join("long"), vec![b'x'; 1000]).unwrap();
        assert_eq!(root.read("long", 10).len(), 10);
        rustix::fs::mkfifoat(rustix::fs::CWD, inside.path().join("pipe"), Mode::from(0o600)).unwrap();
        assert!(root.read("pipe", 10).is_empty());
        assert!(root.read("missing", 10).is_empty());
    }
}
