//! Files into and out of a container: a process of the engine's own code that has the container's
//! mounts, and streams an archive over a pipe.
//!
//! The process joins the mount namespace of a running container (or builds the root of one that does
//! not run, in a mount namespace of its own), so that nothing of the host can be reached by a path. It
//! stays in the host's pid namespace, where the container can neither see nor signal it, and has no
//! descriptor of the host's but the pipe, the report and `/proc`. Paths are resolved with
//! `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`. A file is opened for reading through the
//! descriptor that it was looked at with, so that a file which becomes a device meanwhile is never
//! opened.
//!
//! - [`out`]: the archive of a file or directory
//! - [`into`]: an archive unpacked
//!
//! The process tells on its report socket, in frames ([`Said`]): first what the path is, at the end
//! whether the archive is whole.
#![allow(unsafe_code, reason = "clone3, and the pipe that is given to the copy of this process")]

mod into;
mod out;

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use rustix::thread::ThreadNameSpaceType;
use serde::{Deserialize, Serialize};
use wharf_engine::copy::{CopyOwner, FileKind, FileStat, FollowLink, PATH_BYTES_MAX};
use wharf_engine::{ContainerSpec, EngineError, SandboxSpec};

use crate::credentials::Credentials;
use crate::exec::Launched;
use crate::host::{Host, io_error};
use crate::plan::{Plan, Stdio};
use crate::rootfs::{self, Context};
use crate::spawn::{self, Parent};
use crate::sys::{self, Cloned};

/// A frame of a report is no longer.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Tried so often when a rename elsewhere races with a look-up.
const LOOKUPS_MAX: usize = 40;

/// What a spawner is asked. The pidfd of a container that runs comes with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopyRequest {
    pub sandbox: SandboxSpec,
    /// Of one that does not run.
    pub stopped: Option<Box<ContainerSpec>>,
    pub job: CopyJob,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyJob {
    Stat { path: String, follow: FollowLink },
    Out { path: String, follow: FollowLink },
    In { directory: String, owner: CopyOwner },
}

/// What comes over the report, each with its length (u32, little-endian) before it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Said {
    Stat(FileStat),
    Done,
    Failed(EngineError),
}

/// Why a copy stopped: names the path.
type Copied<T> = Result<T, EngineError>;

/// Clones the process that copies, and returns without waiting for it. Its only end is the archive's,
/// where there is one.
///
/// # Safety
/// The calling process must have one thread, and should be small: it is copied.
pub unsafe fn launch(
    host: &Host,
    request: &CopyRequest,
    container: Option<BorrowedFd<'_>>,
    parent: Parent,
) -> Result<Launched, EngineError> {
    let path = match &request.job {
        CopyJob::Stat { path, .. } | CopyJob::Out { path, .. } => path,
        CopyJob::In { directory, .. } => directory,
    };
    if path.is_empty() || path.contains('\0') || path.len() >= PATH_BYTES_MAX {
        return Err(no_path(path, "it is no path"));
    }
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
    let failed = |what: &'static str| move |error: Errno| io_error(what, &error.into());
    let (data, ends) = match &request.job {
        CopyJob::Stat { .. } => (None, Vec::new()),
        CopyJob::Out { .. } => {
            let (read, write) = pipe().map_err(failed("make a pipe"))?;
            (Some(write), vec![read])
        }
        CopyJob::In { .. } => {
            let (read, write) = pipe().map_err(failed("make a pipe"))?;
            (Some(read), vec![write])
        }
    };
    let (report, report_in) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(failed("make a socket"))?;
    // Its standard streams are never used.
    let null = host.open_on_host(std::path::Path::new("/dev/null"), OFlags::RDWR);
    let null = null.map_err(failed("open /dev/null"))?;
    let stdio = Stdio { stdin: None, stdout: null.as_fd(), stderr: null.as_fd() };
    let plan = match &request.stopped {
        Some(spec) => {
            let plan = Plan::new(host, &request.sandbox, spec, stdio)?;
            spawn::make_kept_layer(&plan).map_err(|error| io_error("open the writable layer", &error))?;
            Some(plan)
        }
        None => None,
    };
    let from = match (&plan, container) {
        (Some(plan), _) => From::Layers(plan),
        (None, Some(container)) => From::Running(container),
        (None, None) => {
            return Err(EngineError::Internal { message: "a copy came without its container".to_owned() });
        }
    };
    let credentials = Credentials::of_users(host, &request.sandbox)?;
    let namespaces = if plan.is_some() { libc::CLONE_NEWNS } else { 0 };
    // SAFETY: the caller's promise; the child leaves by exit_now.
    match unsafe { sys::clone3(namespaces, None, parent) } {
        Ok(Cloned::Parent { pid, pidfd }) => {
            Ok(Launched { pid: pid.as_raw_nonzero().get().unsigned_abs(), pidfd, report, ends })
        }
        Err(error) => Err(io_error("make a process", &error)),
        Ok(Cloned::Child) => {
            drop((report, ends));
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                copy(host, &from, &credentials, request, data, &report_in)
            }));
            let said = match outcome {
                Ok(Ok(())) => Said::Done,
                Ok(Err(error)) => Said::Failed(error),
                Err(_) => Said::Failed(EngineError::Internal { message: "the copy panicked".to_owned() }),
            };
            say(&report_in, &said);
            sys::exit_now(0)
        }
    }
}

enum From<'a> {
    Running(BorrowedFd<'a>),
    Layers(&'a Plan<'a>),
}

fn say(report: &OwnedFd, said: &Said) {
    let Ok(body) = postcard::to_allocvec(said) else { return };
    let mut frame = u32::try_from(body.len()).unwrap_or(0).to_le_bytes().to_vec();
    frame.extend(body);
    let mut rest = frame.as_slice();
    while !rest.is_empty() {
        match rustix::net::send(report, rest, rustix::net::SendFlags::NOSIGNAL) {
            Ok(sent) => rest = &rest[sent..],
            Err(Errno::INTR) => {}
            // Nobody listens.
            Err(_) => return,
        }
    }
}

fn copy(
    host: &Host,
    from: &From<'_>,
    credentials: &Credentials,
    request: &CopyRequest,
    data: Option<OwnedFd>,
    report: &OwnedFd,
) -> Copied<()> {
    let _ = rustix::thread::set_name(c"wharf-copy");
    let internal = |(what, error): (String, io::Error)| io_error(&what, &error);
    sys::reset_signals();
    // A broken pipe is an error here, not a death.
    sys::ignore_broken_pipes();
    let mut keep = vec![host.proc.as_raw_fd(), report.as_raw_fd()];
    keep.extend(data.as_ref().map(AsRawFd::as_raw_fd));
    match from {
        From::Running(container) => {
            crate::exec::join(*container, ThreadNameSpaceType::MOUNT)
                .step("enter the container")
                .map_err(internal)?;
        }
        From::Layers(plan) => {
            rootfs::mount_alone(plan).map_err(internal)?;
        }
    }
    sys::close_all_but(&mut keep).step("close what is the host's").map_err(internal)?;
    rustix::process::umask(Mode::empty());
    credentials.make_files_as_root(host.permitted).map_err(internal)?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .step("open the root")
        .map_err(internal)?;
    let tree = Tree { root, proc: host.proc.as_fd(), credentials };
    match (&request.job, data) {
        (CopyJob::Stat { path, follow }, _) => {
            tree.find(path, *follow).map(|found| say(report, &Said::Stat(found.file_stat())))
        }
        (CopyJob::Out { path, follow }, Some(data)) => {
            let found = tree.find(path, *follow)?;
            say(report, &Said::Stat(found.file_stat()));
            out::write(&tree, &found, File::from(data))
        }
        (CopyJob::In { directory, owner }, Some(data)) => {
            into::unpack(&tree, directory, *owner, File::from(data))
        }
        (CopyJob::Out { .. } | CopyJob::In { .. }, None) => {
            Err(EngineError::Internal { message: "a copy has no pipe".to_owned() })
        }
    }
}

fn no_path(path: &str, message: impl Into<String>) -> EngineError {
    EngineError::NoPath { path: path.to_owned(), message: message.into() }
}

/// An error on a path: what is not there is told apart from what is broken.
fn path_error(path: &[u8], error: Errno) -> EngineError {
    let path = String::from_utf8_lossy(path).into_owned();
    match error {
        Errno::NOENT => no_path(&path, "no such file or directory"),
        Errno::NOTDIR => no_path(&path, "not a directory"),
        Errno::LOOP => no_path(&path, "too many levels of links"),
        Errno::NAMETOOLONG => no_path(&path, "the name is too long"),
        Errno::ACCESS | Errno::PERM => no_path(&path, "permission denied"),
        Errno::ROFS => no_path(&path, "the file system is read-only"),
        other => io_error(&format!("copy {path}"), &other.into()),
    }
}

/// The files of a container.
struct Tree<'a> {
    root: OwnedFd,
    proc: BorrowedFd<'a>,
    credentials: &'a Credentials,
}

/// A file that was looked at.
struct Found {
    fd: OwnedFd,
    /// What the archive calls it.
    name: Vec<u8>,
    stat: Stat,
}

impl Tree<'_> {
    /// Opens without looking into it, whatever links lead there.
    fn open(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..LOOKUPS_MAX {
            match rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    fn directory(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        self.open(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    fn find(&self, path: &str, follow: FollowLink) -> Copied<Found> {
        let failed = |error| path_error(path.as_bytes(), error);
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
        let is_directory = path.ends_with('/') || path.ends_with("/.") || path == ".";
        let last = names.last().copied().filter(|name| *name != "..");
        let fd = match last {
            Some(_) if follow == FollowLink::Yes && !is_directory => {
                self.open(path.as_bytes(), OFlags::PATH).map_err(failed)?
            }
            Some(last) if !is_directory => {
                let parent = names[..names.len() - 1].join("/");
                let parent = self.directory(parent.as_bytes()).map_err(failed)?;
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(&parent, last, flags, Mode::empty()).map_err(failed)?
            }
            _ => self.directory(path.as_bytes()).map_err(failed)?,
        };
        let stat = rustix::fs::fstat(&fd).map_err(failed)?;
        let name = last.map_or_else(|| b".".to_vec(), |name| name.as_bytes().to_vec());
        Ok(Found { fd, name, stat })
    }

    /// Opens for reading the very file that `fd` was looked at with.
    fn read(&self, fd: &OwnedFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = format!("self/fd/{}", fd.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | flags;
        rustix::fs::openat(self.proc, path, flags, Mode::empty())
    }

    /// The container's id of a file's owner.
    fn inside(&self, id: u32) -> u32 {
        match self.credentials.outside_id(0) {
            // What is not the container's belongs to nobody there, as the kernel shows it.
            Some(base) => id.checked_sub(base).unwrap_or(NOBODY),
            None => id,
        }
    }
}

/// The kernel's overflow id.
const NOBODY: u32 = 65534;

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn link_target(fd: &OwnedFd) -> rustix::io::Result<Vec<u8>> {
    Ok(rustix::fs::readlinkat(fd, c"", Vec::new())?.into_bytes())
}

impl Found {
    fn file_stat(&self) -> FileStat {
        let kind = kind(&self.stat);
        let name = if self.name == b"." { b"/".to_vec() } else { self.name.clone() };
        FileStat {
            name: String::from_utf8_lossy(&name).into_owned(),
            kind: match kind {
                FileType::RegularFile => FileKind::File,
                FileType::Directory => FileKind::Directory,
                FileType::Symlink => FileKind::Link,
                _ => FileKind::Other,
            },
            bytes: u64::try_from(self.stat.st_size).unwrap_or(0),
            mode: self.stat.st_mode & 0o7777,
            modified_unix_secs: self.stat.st_mtime,
            link_target: (kind == FileType::Symlink)
                .then(|| link_target(&self.fd).ok())
                .flatten()
                .map(|target| String::from_utf8_lossy(&target).into_owned()),
        }
    }
}

/// The names in a directory, but not itself and what is above it.
fn names_in(directory: &OwnedFd) -> rustix::io::Result<Vec<std::ffi::CString>> {
    let is_name = |name: &CStr| name != c"." && name != c"..";
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        if is_name(entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort();
    Ok(names)
}
