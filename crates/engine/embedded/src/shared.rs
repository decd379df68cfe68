//! What the containers of a sandbox share beyond its network: processes, ipc objects, `/dev/shm`.
//!
//! A sandbox that shares them has a process of its own, made with the sandbox: the engine's init, which
//! is process 1 for all containers, reaps what is orphaned, and holds the namespaces and the shared
//! memory. It sees an empty root and has no privileges. Which one it is stands in `<sandbox>/init` as
//! its pid and the time at which it started; it is killed with the sandbox's control group.
#![allow(unsafe_code, reason = "clone3, fork")]

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, WaitOptions, umask, waitpid};
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
};
use wharf_engine::{
    ContainerId, EngineError, IpcMode, PidMode, Privileges, ProcessSpec, Resources, SandboxId, SandboxSpec,
};

use crate::cgroup::DeviceRules;
use crate::credentials::{Credentials, drop_privileges};
use crate::host::{Host, cgroup_error, io_error};
use crate::plan::Plan;
use crate::rootfs::{Context, Depth, Step, clone_mount, mount_on, pivot};
use crate::spawn::Parent;
use crate::sys::{self, Cloned};
use crate::user::Identity;
use crate::{netns, sysctl};

/// The control group of the process, beside those of the containers. An id that no container gets.
const GROUP: &str = "sandbox-init";
const FILE: &str = "init";
/// Docker's default size of `/dev/shm`.
const SHM_BYTES: u64 = 64 << 20;
const SHM: &str = "shm";

/// Whether the sandbox has such a process.
pub fn is_needed(sandbox: &SandboxSpec) -> bool {
    sandbox.pid == PidMode::Sandbox || sandbox.ipc == IpcMode::Sandbox
}

/// Whether the id is the engine's own.
pub fn is_reserved(container: &ContainerId) -> bool {
    container.as_str() == GROUP
}

/// The running process.
pub struct Init {
    pub pid: Pid,
    pub pidfd: OwnedFd,
}

impl Init {
    /// # Errors
    /// `NoSandbox` when it does not run.
    pub fn find(host: &Host, sandbox: &SandboxId) -> Result<Self, EngineError> {
        let gone = || EngineError::NoSandbox(sandbox.clone());
        let text = fs::read_to_string(host.sandbox_dir(sandbox).join(FILE)).map_err(|_| gone())?;
        let (pid, started) = text.trim_end().split_once(' ').ok_or_else(gone)?;
        let pid = pid.parse().ok().and_then(Pid::from_raw).ok_or_else(gone)?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())?;
        // After the pidfd: from now on the number is its own.
        if started_at(host, pid).map_err(|_| gone())? == started {
            Ok(Self { pid, pidfd })
        } else {
            Err(gone())
        }
    }

    pub fn user_namespace(&self, host: &Host) -> io::Result<OwnedFd> {
        self.namespace(host, "user")
    }

    fn namespace(&self, host: &Host, name: &str) -> io::Result<OwnedFd> {
        let path = format!("{}/ns/{name}", self.pid.as_raw_nonzero());
        Ok(rustix::fs::openat(&host.proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    }
}

/// Field 22 of `/proc/<pid>/stat`, proc(5).
fn started_at(host: &Host, pid: Pid) -> io::Result<String> {
    let path = format!("{}/stat", pid.as_raw_nonzero());
    let file = rustix::fs::openat(&host.proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = [0; 1024];
    let length = rustix::io::read(&file, &mut buffer)?;
    let text = String::from_utf8_lossy(&buffer[..length]);
    // The name of the program may hold anything; what follows its parenthesis may not.
    let (_, fields) = text.rsplit_once(')').ok_or(io::ErrorKind::InvalidData)?;
    fields.split_whitespace().nth(19).map(str::to_owned).ok_or(io::ErrorKind::InvalidData.into())
}

/// Starts the process, unless it runs.
///
/// # Safety
/// The calling process has one thread.
pub unsafe fn start(host: &Host, sandbox: &SandboxSpec) -> Result<(), EngineError> {
    if Init::find(host, &sandbox.id).is_ok() {
        return Ok(());
    }
    let failed = |what: &str, error: io::Error| io_error(what, &error);
    let credentials = Credentials::of(host, sandbox, &nothing_allowed(), Privileges::Confined)?;
    let group = ContainerId::new(GROUP)
        .ok_or_else(|| EngineError::Internal { message: "the group's name is no id".into() })?;
    let resources = Resources::default();
    let limits = host.container_limits(&resources, DeviceRules::Default)?;
    let membership =
        host.driver.create_container(&sandbox.id, &group, &limits).map_err(|error| cgroup_error(&error))?;
    let netns = netns::open(host, sandbox)?;
    let program = host.init.get().map_err(|error| failed("make the init", error))?;
    let (report, report_in) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed("make a pipe", error.into()))?;
    let (born, born_in) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed("make a pipe", error.into()))?;

    // Its parent is one that ends at once, so that the host's own init reaps it: nobody here waits for it.
    // SAFETY: the caller's promise; both children end below.
    let Some(between) = (unsafe { sys::fork() }).map_err(|error| failed("make a process", error))? else {
        drop((report, born));
        let namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        let into = membership.into.as_ref().map(AsFd::as_fd);
        // SAFETY: as above.
        let error = match unsafe { sys::clone3(namespaces, into, Parent::Caller) } {
            Ok(Cloned::Child) => {
                let life = Life { host, sandbox, credentials: &credentials, netns: &netns };
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    life.run(&membership.join, program.as_fd())
                }));
                match outcome {
                    Ok(Err((what, error))) => format!("{what}: {error}"),
                    Ok(Ok(never)) => match never {},
                    Err(_) => "it panicked".to_owned(),
                }
            }
            Ok(Cloned::Parent { pid, .. }) => {
                let _ = rustix::io::write(&born_in, &pid.as_raw_nonzero().get().to_ne_bytes());
                sys::exit_now(0)
            }
            Err(error) => error.to_string(),
        };
        let _ = rustix::io::write(&report_in, error.as_bytes());
        sys::exit_now(1)
    };
    drop((report_in, born_in));
    let _ = waitpid(Some(between), WaitOptions::empty());
    let mut pid = [0; 4];
    let length = rustix::io::read(&born, &mut pid).unwrap_or(0);
    let mut error = [0; 512];
    let reported =
        rustix::io::read(&report, &mut error).map_err(|error| failed("read a report", error.into()))?;
    if reported > 0 || length != pid.len() {
        let message = String::from_utf8_lossy(&error[..reported]).into_owned();
        return Err(EngineError::Internal {
            message: format!("cannot start the init of sandbox {}: {message}", sandbox.id),
        });
    }
    let pid = Pid::from_raw(i32::from_ne_bytes(pid))
        .ok_or_else(|| EngineError::Internal { message: "the init has no pid".into() })?;
    let record = |error: io::Error| failed("note the init of a sandbox", error);
    let started = started_at(host, pid).map_err(record)?;
    fs::write(host.sandbox_dir(&sandbox.id).join(FILE), format!("{} {started}\n", pid.as_raw_nonzero()))
        .map_err(record)
}

/// Root, with no capability and the default filter.
fn nothing_allowed() -> ProcessSpec {
    ProcessSpec {
        capabilities_drop: vec!["ALL".to_owned()],
        no_new_privileges: true,
        ..ProcessSpec::new(Vec::new())
    }
}

/// The process from its birth to `execve`.
struct Life<'a> {
    host: &'a Host,
    sandbox: &'a SandboxSpec,
    credentials: &'a Credentials,
    netns: &'a OwnedFd,
}

impl Life<'_> {
    fn run(&self, join: &[OwnedFd], program: std::os::fd::BorrowedFd<'_>) -> Step<Infallible> {
        sys::hide_from_others().step("hide from others")?;
        for file in join {
            rustix::io::write(file, b"0").step("join a control group")?;
        }
        sys::unshare(libc::CLONE_NEWCGROUP).step("make a cgroup namespace")?;
        move_into_link_name_space(self.netns.as_fd(), Some(LinkNameSpaceType::Network))
            .step("enter the network namespace")?;
        rustix::system::sethostname(self.sandbox.hostname.as_bytes()).step("set the host name")?;
        sysctl::apply_ipc(&self.host.proc, &self.sandbox.sysctls).step("set kernel parameters")?;
        umask(Mode::empty());
        self.credentials.make_files_as_root(self.host.permitted)?;
        self.enter_empty_root()?;
        rustix::process::setsid().step("make a session")?;
        sys::reset_signals();
        sys::block_signals();
        let null =
            rustix::fs::open("/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).step("open /null")?;
        for stream in 0..3 {
            sys::place_descriptor(null.as_fd(), stream).step("place a standard stream")?;
        }
        sys::close_from_at_exec(3).step("mark descriptors to be closed")?;
        self.credentials.enter_own_users()?;
        let root = Identity { uid: 0, gid: 0, groups: Vec::new(), home: "/".to_owned() };
        drop_privileges(self.credentials, &root)?;
        let arguments = [c"wharf-init", c"0"].map(CString::from);
        let error = sys::execute_descriptor(program, &arguments, &[]);
        Err(("execute the init".to_owned(), error))
    }

    /// A file system that holds the shared memory and nothing else.
    fn enter_empty_root(&self) -> Step<()> {
        let place = self.host.mask_dir();
        let what = "make an empty root";
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        let options = c"size=64k,mode=755";
        rustix::mount::mount("tmpfs", place.as_path(), "tmpfs", flags, Some(options)).step(what)?;
        let root =
            rustix::fs::open(&place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .step(what)?;
        rustix::fs::mkdirat(&root, SHM, Mode::from(0o755)).step(what)?;
        let device = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(&root, "null", rustix::fs::FileType::CharacterDevice, Mode::from(0o666), device)
            .step(what)?;
        pivot(&root)?;
        let shm = rustix::fs::open("/shm", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .step(what)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount_on(&shm, "tmpfs", flags, &format!("mode=1777,size={SHM_BYTES}")).step("mount /dev/shm")
    }
}

/// Enters the ipc namespace that the containers share, before anything is mounted in it.
pub fn enter_ipc(plan: &Plan<'_>) -> Step<()> {
    match (&plan.init, plan.sandbox.ipc) {
        (Some(init), IpcMode::Sandbox) => {
            move_into_thread_name_spaces(init.pidfd.as_fd(), ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION)
                .step("enter the ipc namespace")
        }
        _ => Ok(()),
    }
}

/// A copy of the mount that the containers share as `/dev/shm`; `None` where each has its own.
pub fn memory(plan: &Plan<'_>) -> Step<Option<OwnedFd>> {
    let what = "take the shared memory";
    let (namespace, path) = match (&plan.init, plan.sandbox.ipc) {
        (Some(init), IpcMode::Sandbox) => {
            (init.namespace(plan.host, "mnt").step(what)?, Path::new("/").join(SHM))
        }
        (_, IpcMode::Host) => {
            (plan.host.mount_namespace.try_clone().step(what)?, Path::new("/dev/shm").to_owned())
        }
        _ => return Ok(None),
    };
    // Mounts are copied in their own namespace alone.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let own = rustix::fs::openat(&plan.host.proc, "thread-self/ns/mnt", flags, Mode::empty()).step(what)?;
    let mounts = Some(LinkNameSpaceType::Mount);
    move_into_link_name_space(namespace.as_fd(), mounts).step(what)?;
    let clone = clone_mount(&path, Depth::One);
    move_into_link_name_space(own.as_fd(), mounts).step(what)?;
    let clone = clone.step(what)?;
    if plan.sandbox.ipc == IpcMode::Sandbox {
        enlarge(&clone, plan.shm_bytes).step("enlarge the shared memory")?;
    }
    Ok(Some(clone))
}

/// It is as large as the largest that a container asked for.
fn enlarge(mount: &OwnedFd, bytes: u64) -> rustix::io::Result<()> {
    let now = rustix::fs::fstatvfs(mount)?;
    if now.f_blocks.saturating_mul(now.f_frsize) >= bytes {
        return Ok(());
    }
    let flags = rustix::mount::FsPickFlags::FSPICK_CLOEXEC | rustix::mount::FsPickFlags::FSPICK_EMPTY_PATH;
    let context = rustix::mount::fspick(mount, "", flags)?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "size", bytes.to_string())?;
    rustix::mount::fsconfig_reconfigure(context.as_fd())
}

/// Has the next child of the calling process born among the sandbox's processes; `leave` undoes it.
pub fn enter_pids(init: &Init) -> Result<(), Errno> {
    move_into_thread_name_spaces(init.pidfd.as_fd(), ThreadNameSpaceType::PROCESS_ID)
}

pub fn leave_pids(host: &Host) {
    let pids = Some(LinkNameSpaceType::ProcessID);
    if move_into_link_name_space(host.pid_namespace.as_fd(), pids).is_err() {
        // Whatever this process made next would be born into the sandbox.
        sys::exit_now(1);
    }
}
