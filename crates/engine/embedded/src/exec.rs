//! A program beside a container's own: from a request to `execve` in the container's namespaces.
//!
//! The child joins the container's control groups, then all its namespaces by the container's pidfd
//! (the pid namespace is set by the spawner before `clone3`, since it is for children alone), and
//! ends up with the container's credentials, filter and limits.
//!
//! What the container could do to the child meanwhile, and what stands against it:
//! - read its descriptors or its executable through `/proc`: all that is not needed is closed before
//!   the container is joined, and the process is not dumpable until `execve`;
//! - stop it (it may signal it): nobody waits for the child here. The spawner answers as soon as it is
//!   cloned; what becomes of it is read from the report socket by the keeper, which has a deadline;
//! - give it another file for `/dev/pts/ptmx`, or a link for the working directory: the terminal is
//!   checked to be one, and every path is resolved in the container's root without magic links.
#![allow(unsafe_code, reason = "clone3")]

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use rustix::process::{DumpableBehavior, setsid, umask};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use serde::{Deserialize, Serialize};
use wharf_engine::session::{ExecSpec, SessionStdin};
use wharf_engine::{ContainerId, ContainerSpec, EngineError, ProcessSpec, SandboxSpec};

use crate::cgroup::Membership;
use crate::container::{
    self, ABOUT_TO_EXECUTE, EXIT_NOT_EXECUTABLE, EXIT_NOT_STARTED, Program, c_strings, environment, reason,
    start_error,
};
use crate::credentials::{Credentials, drop_privileges, give_stream};
use crate::host::{Host, cgroup_error, io_error};
use crate::in_root::Root;
use crate::rlimit::{self, Limit};
use crate::rootfs::{Context, Step};
use crate::spawn::{Parent, report_of};
use crate::sys::{self, Cloned};
use crate::terminal;
use crate::user::{self, FILE_BYTES_MAX, Identity};

/// A report is at most so long: the marks, and one serialized [`EngineError`].
pub const REPORT_BYTES_MAX: usize = 64 * 1024;

/// What a program beside a container's own takes over from it: kept by the keeper as long as the
/// container runs, and in its state file, as [`ExecBase::to_bytes`] gives it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecBase {
    /// Without arguments.
    process: ProcessSpec,
    #[serde(default)]
    privileges: wharf_engine::Privileges,
}

impl ExecBase {
    pub fn of(spec: &ContainerSpec) -> Self {
        Self {
            process: ProcessSpec { args: Vec::new(), ..spec.process.clone() },
            privileges: spec.privileges,
        }
    }

    /// MessagePack with names: a later release reads it.
    pub fn to_bytes(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).unwrap_or_default()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, EngineError> {
        rmp_serde::from_slice(bytes).map_err(|error| EngineError::Internal {
            message: format!("what the container was started with cannot be read: {error}"),
        })
    }
}

/// Into which control group the program goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecGroup {
    /// The container's own.
    Container,
    /// One of its own below the container's, so that it can be killed with all that it started.
    Own(String),
}

/// What a spawner is asked; the container's pidfd comes with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecRequest {
    pub sandbox: SandboxSpec,
    pub container: ContainerId,
    pub base: Vec<u8>,
    pub exec: ExecSpec,
    pub group: ExecGroup,
}

/// A program that is on its way. Whether it got there the report tells: a terminal's master comes
/// over it; [`ABOUT_TO_EXECUTE`] and then its end mean that the program runs; else there is an error
/// in it ([`read_report`]).
#[derive(Debug)]
pub struct Launched {
    pub pid: u32,
    pub pidfd: OwnedFd,
    /// Does not block.
    pub report: OwnedFd,
    /// The caller's ends: stdin where it is open, stdout, stderr; none with a terminal.
    pub ends: Vec<OwnedFd>,
}

/// What a complete report says.
///
/// # Errors
/// Why the program does not run.
pub fn read_report(report: &[u8]) -> Result<(), EngineError> {
    match report.split_first() {
        Some((&ABOUT_TO_EXECUTE, [])) => Ok(()),
        Some((&ABOUT_TO_EXECUTE, error)) => Err(parse(error)),
        Some(_) => Err(parse(report)),
        None => Err(EngineError::Internal { message: "the program was killed as it started".to_owned() }),
    }
}

fn parse(bytes: &[u8]) -> EngineError {
    postcard::from_bytes(bytes).unwrap_or_else(|_| EngineError::Internal {
        message: "the program failed with an unreadable report".to_owned(),
    })
}

/// All that can be decided before there is a process.
struct Plan<'a> {
    sandbox: &'a SandboxSpec,
    exec: &'a ExecSpec,
    process: ProcessSpec,
    limits: Vec<Limit>,
    credentials: Credentials,
}

impl<'a> Plan<'a> {
    fn new(host: &Host, request: &'a ExecRequest) -> Result<Self, EngineError> {
        let base = ExecBase::from_bytes(&request.base)?;
        let (exec, mut process) = (&request.exec, base.process);
        if exec.args.first().is_none_or(String::is_empty) {
            return Err(start_error(container::EXIT_NOT_FOUND, "no command specified"));
        }
        if let Some(directory) = &exec.working_dir {
            process.working_dir.clone_from(directory);
        }
        if let Some(user) = &exec.user {
            process.user.clone_from(user);
        }
        process.env.extend(exec.env.iter().cloned());
        let texts = exec.args.iter().chain(&process.env).chain([&process.working_dir, &process.user]);
        if texts.into_iter().any(|text| text.contains('\0')) {
            return Err(EngineError::Unsupported {
                what: "a zero byte in the command, the environment or the directory".to_owned(),
                reason: "C has no such text".to_owned(),
            });
        }
        if !process.working_dir.is_empty() && !process.working_dir.starts_with('/') {
            return Err(EngineError::Unsupported {
                what: format!("the working directory {:?}", process.working_dir),
                reason: "it is not an absolute path".to_owned(),
            });
        }
        Ok(Self {
            sandbox: &request.sandbox,
            exec,
            limits: rlimit::resolve(&process.rlimits, host.raise_limits(), sys::hard_limit)?,
            credentials: Credentials::of(host, &request.sandbox, &process, base.privileges)?,
            process,
        })
    }
}

/// The child's ends.
struct Streams {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

/// Clones the process that will become the program, and returns without waiting for it.
///
/// # Safety
/// The calling process must have one thread, and should be small: it is copied.
pub unsafe fn launch(
    host: &Host,
    request: &ExecRequest,
    container: BorrowedFd<'_>,
    parent: Parent,
) -> Result<Launched, EngineError> {
    let plan = Plan::new(host, request)?;
    let membership = match &request.group {
        ExecGroup::Container => host.driver.enter_container(&request.sandbox.id, &request.container),
        ExecGroup::Own(name) => host.driver.create_exec(&request.sandbox.id, &request.container, name),
    }
    .map_err(|error| match error.errno() {
        Some(rustix::io::Errno::NOENT) => EngineError::NotRunning(request.container.clone()),
        _ => cgroup_error(&error),
    })?;
    let (streams, ends) =
        streams(&request.exec).map_err(|error| io_error("make the program's pipes", &error))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (report, report_in) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .and_then(|(ours, theirs)| {
            rustix::io::ioctl_fionbio(&theirs, false)?;
            Ok((ours, theirs))
        })
        .map_err(|error| io_error("make a socket", &error.into()))?;

    let gone = |_| EngineError::NotRunning(request.container.clone());
    join(container, ThreadNameSpaceType::PROCESS_ID).map_err(gone)?;
    let into = membership.into.as_ref().map(AsFd::as_fd);
    // SAFETY: the caller's promise; the child leaves by execve or exit_now.
    let cloned = unsafe { sys::clone3(0, into, parent) };
    if matches!(cloned, Ok(Cloned::Child)) {
        drop((report, ends));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            become_program(&plan, membership, container, &streams, &report_in)
        }));
        let error = match outcome {
            Ok(Err(error)) => error,
            Ok(Ok(never)) => match never {},
            Err(_) => EngineError::Internal { message: "the program's process panicked".to_owned() },
        };
        let _ = rustix::io::write(&report_in, &report_of(&error));
        sys::exit_now(126)
    }
    if rustix::thread::move_into_link_name_space(
        host.pid_namespace.as_fd(),
        Some(rustix::thread::LinkNameSpaceType::ProcessID),
    )
    .is_err()
    {
        // Whatever this process made next would be born into the container.
        sys::exit_now(1);
    }
    match cloned {
        Ok(Cloned::Parent { pid, pidfd }) => {
            Ok(Launched { pid: pid.as_raw_nonzero().get().unsigned_abs(), pidfd, report, ends })
        }
        // No process can be born into a pid namespace whose first has ended.
        Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && has_ended(container) => {
            Err(EngineError::NotRunning(request.container.clone()))
        }
        Err(error) => Err(io_error("make a process", &error)),
        Ok(Cloned::Child) => sys::exit_now(126),
    }
}

fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut polled = [rustix::event::PollFd::from_borrowed_fd(pidfd, rustix::event::PollFlags::IN)];
    let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
}

pub(crate) fn join(container: BorrowedFd<'_>, namespaces: ThreadNameSpaceType) -> io::Result<()> {
    Ok(move_into_thread_name_spaces(container, namespaces)?)
}

/// Both ends of the standard streams.
fn streams(exec: &ExecSpec) -> io::Result<(Streams, Vec<OwnedFd>)> {
    let mut streams = Streams { stdin: None, stdout: None, stderr: None };
    let mut ends = Vec::new();
    if exec.terminal.is_some() {
        return Ok((streams, ends));
    }
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
    if exec.stdin == SessionStdin::Open {
        let (read, write) = pipe()?;
        streams.stdin = Some(read);
        ends.push(write);
    }
    for stream in [&mut streams.stdout, &mut streams.stderr] {
        let (read, write) = pipe()?;
        *stream = Some(write);
        ends.push(read);
    }
    Ok((streams, ends))
}

/// Everything up to and with `execve`.
fn become_program(
    plan: &Plan<'_>,
    membership: Membership,
    container: BorrowedFd<'_>,
    streams: &Streams,
    report: &OwnedFd,
) -> Result<Infallible, EngineError> {
    let internal = |(what, error): (String, io::Error)| io_error(&what, &error);

    let root = enter(membership, container, streams, report).map_err(internal)?;
    let identity = find_identity(plan, &root)?;
    plan.credentials.check(&identity)?;
    enter_working_dir(plan, &root)?;
    let environment = full_environment(plan, &identity);
    let program = Program::new(&plan.exec.args[0], &environment)?;
    let arguments = c_strings(&plan.exec.args)?;
    let environment = c_strings(&environment)?;

    setsid().step("make a session").map_err(internal)?;
    take_streams(plan, &root, streams, &identity, report).map_err(internal)?;
    drop(root);
    sys::reset_signals();
    for &limit in &plan.limits {
        sys::set_limit(limit).step("set a resource limit").map_err(internal)?;
    }
    plan.credentials.enter_users_of(container).map_err(internal)?;
    sys::close_from_at_exec(3).step("mark descriptors to be closed").map_err(internal)?;
    drop_privileges(&plan.credentials, &identity).map_err(internal)?;
    // From here on a silent end is the program's own.
    rustix::io::write(report, &[ABOUT_TO_EXECUTE]).step("report").map_err(internal)?;
    Err(program.execute(&arguments, &environment))
}

/// Into the container, with nothing of the host's left but what is still needed.
fn enter(
    membership: Membership,
    container: BorrowedFd<'_>,
    streams: &Streams,
    report: &OwnedFd,
) -> Step<Root> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).step("hide from the container")?;
    for file in &membership.join {
        rustix::io::write(file, b"0").step("join a control group")?;
    }
    let mut keep = vec![container.as_raw_fd(), report.as_raw_fd()];
    keep.extend(
        [&streams.stdin, &streams.stdout, &streams.stderr].into_iter().flatten().map(AsRawFd::as_raw_fd),
    );
    // Closed below, and never dropped: this process leaves by execve or exit_now.
    std::mem::forget(membership);
    sys::close_all_but(&mut keep).step("close what is the host's")?;
    let namespaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::CONTROL_GROUP;
    join(container, namespaces).step("enter the container")?;
    umask(Mode::from(0o022));
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .step("open the root")?;
    Ok(Root::new(root))
}

fn find_identity(plan: &Plan<'_>, root: &Root) -> Result<Identity, EngineError> {
    let passwd = root.read("/etc/passwd", FILE_BYTES_MAX);
    let group = root.read("/etc/group", FILE_BYTES_MAX);
    user::resolve(&plan.process.user, &plan.process.groups, &passwd, &group)
        .map_err(|error| start_error(EXIT_NOT_EXECUTABLE, error.to_string()))
}

fn enter_working_dir(plan: &Plan<'_>, root: &Root) -> Result<(), EngineError> {
    let path = plan.process.working_dir.as_str();
    let path = if path.is_empty() { "/" } else { path };
    root.open(path, OFlags::PATH | OFlags::DIRECTORY)
        .and_then(|directory| rustix::process::fchdir(&directory))
        .map_err(|error| {
            let reason = reason(&error.into());
            start_error(EXIT_NOT_STARTED, format!("chdir to cwd ({path:?}) failed: {reason}"))
        })
}

fn full_environment(plan: &Plan<'_>, identity: &Identity) -> Vec<String> {
    let mut variables = environment(&plan.process.env, &plan.sandbox.hostname, identity);
    if plan.exec.terminal.is_some() && !variables.iter().any(|variable| variable.starts_with("TERM=")) {
        variables.push("TERM=xterm".to_owned());
    }
    variables
}

fn take_streams(
    plan: &Plan<'_>,
    root: &Root,
    streams: &Streams,
    identity: &Identity,
    report: &OwnedFd,
) -> Step<()> {
    let owner = plan.credentials.outside(identity);
    if let Some(size) = plan.exec.terminal {
        let terminal = terminal::open(root, size, owner)?;
        terminal::send_master(report, &terminal.master).step("hand over the terminal")?;
        return terminal.take();
    }
    let null;
    let stdin = match &streams.stdin {
        Some(stdin) => stdin,
        None => {
            null = root.open("/dev/null", OFlags::RDWR).step("open /dev/null")?;
            &null
        }
    };
    for (stream, to) in [(Some(stdin), 0), (streams.stdout.as_ref(), 1), (streams.stderr.as_ref(), 2)] {
        let Some(stream) = stream else { continue };
        give_stream(stream.as_fd(), owner)?;
        sys::place_descriptor(stream.as_fd(), to).step("place a standard stream")?;
    }
    Ok(())
}
