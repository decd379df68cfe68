//! Network namespaces: made, kept by bind mounts, entered by threads of their own.
//!
//! A thread that enters a namespace never goes back to serving anything else: no tokio worker is
//! ever in a foreign namespace.

#![allow(unsafe_code, reason = "unshare has no safe form")]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// `NSFS_MAGIC` of `linux/magic.h`.
const NSFS_MAGIC: u64 = 0x6e73_6673;
const OWN: &str = "/proc/thread-self/ns/net";

/// The calling thread's namespace.
pub fn current() -> io::Result<OwnedFd> {
    Ok(File::open(OWN)?.into())
}

/// Moves the calling thread into a new namespace and keeps it at `path`, a file that must not exist.
pub fn create_and_enter(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path)?;
    // SAFETY: only the network namespace is unshared; file descriptors stay shared.
    let made =
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.and_then(|()| rustix::mount::mount_bind(OWN, path));
    if made.is_err() {
        let _ = fs::remove_file(path);
    }
    Ok(made?)
}

pub fn enter(namespace: impl AsFd) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Runs `work` on a new thread; what it does to its own namespace ends with it.
pub fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("wharf-netns".to_owned())
            .spawn_scoped(scope, work)?
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a thread in a network namespace panicked")))
    })
}

/// Whether a namespace is kept at this path.
pub fn is_kept(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type as u64 == NSFS_MAGIC)
}

/// Ends the keeping. The namespace goes when its last process and descriptor are gone.
pub fn release(path: &Path) -> io::Result<()> {
    // More than one mount may lie here after a crash between mounting and recording.
    loop {
        match rustix::mount::unmount(path, UnmountFlags::DETACH) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Sets a value below `/proc/sys/net` of the calling thread's namespace. What the kernel does not
/// have is left out.
pub fn set_sysctl(name: &str, value: &str) -> io::Result<()> {
    match fs::write(Path::new("/proc/sys/net").join(name), value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether no TCP socket of the calling thread's namespace is left, not even one in TIME-WAIT:
/// such a one would keep the next task from its port.
pub fn is_quiet() -> bool {
    let zero = |file: &str, protocol: &str, counters: &[&str]| {
        let Ok(text) = fs::read_to_string(file) else { return false };
        let line = text.lines().find_map(|line| line.strip_prefix(protocol));
        let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
        counters.iter().all(|counter| words.chunks(2).any(|pair| pair == [*counter, "0"]))
    };
    // TIME-WAIT is counted once for both families.
    zero("/proc/thread-self/net/sockstat", "TCP: ", &["inuse", "tw"])
        && (!Path::new("/proc/thread-self/net/sockstat6").exists()
            || zero("/proc/thread-self/net/sockstat6", "TCP6: ", &["inuse"]))
}
