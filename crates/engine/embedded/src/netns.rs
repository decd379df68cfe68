//! Network namespaces: checking one that is given, pinning one of our own.
//!
//! A namespace of our own has loopback and nothing else. It is kept alive by a bind mount in the
//! host's mount namespace, where a later engine finds it again.
#![allow(unsafe_code, reason = "a child process enters other namespaces")]

use std::ffi::CString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::mount::UnmountFlags;
use rustix::process::{WaitOptions, waitpid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use wharf_engine::{EngineError, SandboxSpec};

use crate::host::Host;
use crate::sys;

const NSFS_MAGIC: i128 = 0x6e73_6673;

/// # Errors
/// `Unsupported` unless there is a namespace bound at `path`.
pub fn check(host: &Host, path: &Path) -> Result<(), EngineError> {
    let refused = |reason: String| EngineError::Unsupported {
        what: format!("the network namespace {}", path.display()),
        reason,
    };
    let file = host
        .open_on_host(path, OFlags::RDONLY)
        .map_err(|error| refused(io::Error::from(error).to_string()))?;
    match rustix::fs::fstatfs(&file) {
        Ok(stat) if i128::from(stat.f_type) == NSFS_MAGIC => Ok(()),
        Ok(_) => Err(refused("it is a file, not a namespace".into())),
        Err(error) => Err(refused(io::Error::from(error).to_string())),
    }
}

/// The network namespace of a sandbox: the one that is given, or its own.
///
/// # Errors
/// `NoSandbox` when it is not there.
pub fn open(host: &Host, sandbox: &SandboxSpec) -> Result<OwnedFd, EngineError> {
    host.open_on_host(&path(host, sandbox), OFlags::RDONLY).map_err(|error| match error {
        rustix::io::Errno::NOENT => EngineError::NoSandbox(sandbox.id.clone()),
        other => EngineError::Internal {
            message: format!(
                "cannot open the network namespace of sandbox {}: {}",
                sandbox.id,
                io::Error::from(other)
            ),
        },
    })
}

/// Where the network namespace of a sandbox is bound.
pub fn path(host: &Host, sandbox: &SandboxSpec) -> PathBuf {
    sandbox.netns.clone().unwrap_or_else(|| host.sandbox_dir(&sandbox.id).join("netns"))
}

/// Makes a namespace with `lo` up and binds it to `path` in the mount namespace given. One that is
/// bound there already stays.
pub fn pin(mount_namespace: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    let path = CString::new(path.as_os_str().as_bytes())?;
    in_child(|| {
        sys::unshare(libc::CLONE_NEWNET)?;
        sys::bring_loopback_up()?;
        move_into_link_name_space(mount_namespace, Some(LinkNameSpaceType::Mount))?;
        if let Ok(stat) = rustix::fs::statfs(path.as_c_str())
            && i128::from(stat.f_type) == NSFS_MAGIC
        {
            return Ok(());
        }
        Ok(rustix::mount::mount_bind(c"/proc/self/ns/net", path.as_c_str())?)
    })
}

/// Drops the pin of [`pin`] and its file.
pub fn unpin(mount_namespace: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let text = CString::new(path.as_os_str().as_bytes())?;
    in_child(|| {
        move_into_link_name_space(mount_namespace, Some(LinkNameSpaceType::Mount))?;
        match rustix::mount::unmount(text.as_c_str(), UnmountFlags::DETACH) {
            // Never bound: its maker died in between.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
            other => Ok(other?),
        }
    })?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Runs `work` in a child process, which may change its namespaces; gives its error back as errno.
/// `work` makes system calls alone: the caller may have threads.
fn in_child(work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    // SAFETY: the child makes system calls that allocate nothing and lock nothing, and leaves by _exit.
    let Some(pid) = (unsafe { sys::fork() })? else {
        let code = match work() {
            Ok(()) => 0,
            // Error numbers are below 134; an exit code has 8 bits.
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        };
        sys::exit_now(code)
    };
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => match status.exit_status() {
                Some(0) => return Ok(()),
                Some(code) => return Err(io::Error::from_raw_os_error(code)),
                None => return Err(io::Error::other("the helper process was killed")),
            },
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
