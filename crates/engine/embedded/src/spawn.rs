//! From a spec to a running process.
#![allow(unsafe_code, reason = "clone3")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::pipe::PipeFlags;
use rustix::process::Pid;
use wharf_engine::{ContainerSpec, EngineError, PidMode, SandboxSpec};

use crate::container;
use crate::host::{Host, cgroup_error, io_error};
use crate::plan::Plan;
pub use crate::plan::Stdio;
pub use crate::sys::Parent;
use crate::sys::{self, Cloned};
use crate::terminal;
use crate::{devices, faults, kits, shared};

/// A report of a child is at most a mark and one serialized [`EngineError`]. It fits into a pipe (64 KiB)
/// that nobody reads yet: with `CLONE_VFORK` the parent waits for the child's end.
const REPORT_BYTES_MAX: usize = 32 * 1024;
/// What is left of the message of an error that does not fit.
const REPORT_MESSAGE_CHARS_MAX: usize = 1024;

/// The mode of a root directory that no layer brings.
const ROOT_MODE: u32 = 0o755;

/// A container whose program runs.
#[derive(Debug)]
pub struct Spawned {
    pub pid: u32,
    pub pidfd: OwnedFd,
    /// Of a container with a terminal.
    pub master: Option<OwnedFd>,
}

/// Why there is none.
#[derive(Debug)]
pub struct SpawnFailure {
    pub error: EngineError,
    /// A process that has ended and whose parent must still reap it.
    pub unreaped: Option<u32>,
}

impl From<EngineError> for SpawnFailure {
    fn from(error: EngineError) -> Self {
        Self { error, unreaped: None }
    }
}

/// Starts a container and returns once its program runs, or is known not to. On failure nothing is
/// left of it but, perhaps, a process to reap.
///
/// # Safety
/// The calling process must have one thread, and should be small: it is copied.
pub unsafe fn spawn(
    host: &Host,
    sandbox: &SandboxSpec,
    spec: &ContainerSpec,
    stdio: Stdio<'_>,
    parent: Parent,
) -> Result<Spawned, SpawnFailure> {
    let plan = Plan::new(host, sandbox, spec, stdio)?;
    make_directories(&plan)?;
    // SAFETY: the caller's promise.
    let result = unsafe { start(host, &plan, parent) };
    if result.is_err() {
        // Best effort: what could not be removed now goes with the sandbox.
        let _ = host.clean_container(&sandbox.id, &spec.id);
    }
    result
}

fn make_directories(plan: &Plan<'_>) -> Result<(), EngineError> {
    let directory = &plan.container_dir;
    let failed = |error: io::Error| {
        io_error(&format!("make the writable layer of container {}", plan.spec.id), &error)
    };
    let containers = directory.parent().unwrap_or(directory);
    match kits::make_container(containers, directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && plan.spec.restart.is_some() => {
            // An earlier run, whose writable layer goes on; its work directory cannot be used again.
            if plan.upper_dir.is_dir() {
                return remove_if_there(&plan.work_dir)
                    .and_then(|()| std::fs::create_dir(&plan.work_dir))
                    .map_err(failed);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // An attempt that was cut off.
            std::fs::remove_dir_all(directory)
                .and_then(|()| std::fs::create_dir(directory))
                .map_err(failed)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(EngineError::NoSandbox(plan.sandbox.id.clone()));
        }
        other => other.map_err(failed)?,
    }
    if plan.upper_dir.starts_with(directory) {
        make_layer(plan).map_err(failed)
    } else {
        make_kept_layer(plan).map_err(failed)
    }
}

fn make_layer(plan: &Plan<'_>) -> io::Result<()> {
    faults::strike()?;
    std::fs::create_dir(&plan.upper_dir)
        .and_then(|()| look_like_the_image(&plan.upper_dir, plan.spec.layers.first()))
        .and_then(|()| std::fs::create_dir(&plan.work_dir))
}

/// One that an earlier container of the sandbox has left goes on; its work directory cannot be used
/// again.
pub(crate) fn make_kept_layer(plan: &Plan<'_>) -> io::Result<()> {
    let Some(directory) = plan.upper_dir.parent() else { return Err(io::ErrorKind::InvalidInput.into()) };
    if plan.upper_dir.is_dir() {
        return remove_if_there(&plan.work_dir).and_then(|()| std::fs::create_dir(&plan.work_dir));
    }
    std::fs::create_dir(directory)?;
    make_layer(plan)
}

fn remove_if_there(directory: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The root directory that a container sees has the owner and mode of the upper one: those of the
/// image's topmost layer, or a usual root's when there is no layer.
fn look_like_the_image(upper: &Path, topmost: Option<&PathBuf>) -> io::Result<()> {
    let (mode, owner) = match topmost {
        Some(layer) => {
            let image = std::fs::metadata(layer)?;
            (image.mode() & 0o7777, Some((image.uid(), image.gid())))
        }
        None => (ROOT_MODE, None),
    };
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::chown(upper, Some(uid), Some(gid))?;
    }
    // After chown, which clears set-id bits; and whatever the umask is.
    std::fs::set_permissions(upper, std::fs::Permissions::from_mode(mode))
}

/// # Safety
/// As [`spawn`].
unsafe fn start(host: &Host, plan: &Plan<'_>, parent: Parent) -> Result<Spawned, SpawnFailure> {
    let internal = |what: &str, error: io::Error| io_error(what, &error);
    let limits = host.container_limits(&plan.spec.resources, devices::rules(plan))?;
    let membership = host
        .driver
        .create_container(&plan.sandbox.id, &plan.spec.id, &limits)
        .map_err(|error| cgroup_error(&error))?;
    let (report, report_in) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|error| internal("make a pipe", error.into()))?;
    let into = membership.into.as_ref().map(AsFd::as_fd);
    let master = plan.spec.terminal.map(|_| terminal::master_sockets()).transpose();
    let master = master.map_err(|error| internal("make a socket", error.into()))?;

    let pids = plan.init.as_ref().filter(|_| plan.sandbox.pid == PidMode::Sandbox);
    if let Some(init) = pids {
        shared::enter_pids(init).map_err(|_| EngineError::NoSandbox(plan.sandbox.id.clone()))?;
    }
    // Until the child executes or ends we would but wait, and copy pages that both write to.
    let flags = plan.namespaces() | libc::CLONE_VFORK;
    // SAFETY: the caller's promise; the child leaves by execve or exit_now.
    let cloned = unsafe { sys::clone3(flags, into, parent) };
    if pids.is_some() && !matches!(cloned, Ok(Cloned::Child)) {
        shared::leave_pids(host);
    }
    let cloned = cloned.map_err(|error| internal("make a process", error))?;
    let (pid, pidfd) = match cloned {
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
        Cloned::Child => {
            drop(report);
            // A panic must not unwind into the spawner's loop, which this process has a copy of.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                container::run(plan, &membership.join, &report_in, master.as_ref().map(|(_, theirs)| theirs))
            }));
            let error = match outcome {
                Ok(Err(error)) => error,
                Ok(Ok(never)) => match never {},
                Err(_) => EngineError::Internal { message: "the container's first process panicked".into() },
            };
            let _ = rustix::io::write(&report_in, &report_of(&error));
            sys::exit_now(126)
        }
    };
    drop(report_in);
    let report = match read_report(&report) {
        Ok(bytes) => bytes,
        Err(error) => {
            let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
            return Err(failure(internal("read the report of a process", error), pid, parent));
        }
    };
    match report.split_first() {
        Some((&container::ABOUT_TO_EXECUTE, [])) => {
            let master = master.and_then(|(ours, _)| terminal::receive_master(&ours));
            Ok(Spawned { pid: pid.as_raw_nonzero().get().unsigned_abs(), pidfd, master })
        }
        Some((&container::ABOUT_TO_EXECUTE, error)) => Err(failure(parse_report(error), pid, parent)),
        Some(_) => Err(failure(parse_report(&report), pid, parent)),
        None => {
            let error = if host.oom_killed(&plan.sandbox.id, &plan.spec.id) {
                EngineError::Start {
                    exit_code: 128 + libc::SIGKILL,
                    message: "the memory limit is too low to start the program".into(),
                }
            } else {
                EngineError::Internal {
                    message: "the container's first process was killed as it started".into(),
                }
            };
            Err(failure(error, pid, parent))
        }
    }
}

/// Everything until the last holder closes the pipe: by `execve`, or by its end.
fn read_report(report: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(report, &mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(length) if bytes.len() + length <= REPORT_BYTES_MAX => bytes.extend(&buffer[..length]),
            Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A child's error as it is told. One about a name that is too long for a report is cut, and told still.
pub(crate) fn report_of(error: &EngineError) -> Vec<u8> {
    let bytes = postcard::to_allocvec(error).unwrap_or_default();
    if bytes.len() < REPORT_BYTES_MAX {
        return bytes;
    }
    let message = error.to_string().chars().take(REPORT_MESSAGE_CHARS_MAX).collect();
    let cut = match error {
        EngineError::Start { exit_code, .. } => EngineError::Start { exit_code: *exit_code, message },
        _ => EngineError::Internal { message },
    };
    postcard::to_allocvec(&cut).unwrap_or_default()
}

fn parse_report(bytes: &[u8]) -> EngineError {
    postcard::from_bytes(bytes).unwrap_or_else(|_| EngineError::Internal {
        message: "the container's first process failed with an unreadable report".into(),
    })
}

fn failure(error: EngineError, pid: Pid, parent: Parent) -> SpawnFailure {
    let unreaped = match parent {
        Parent::CallersParent => Some(pid.as_raw_nonzero().get().unsigned_abs()),
        Parent::Caller => {
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            None
        }
    };
    SpawnFailure { error, unreaped }
}
