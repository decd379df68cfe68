//! The spawner: a small process with one thread that makes sandboxes and containers for the keeper.
//!
//! Cloning, mounting and joining control groups block for milliseconds; the keeper's event loop must
//! not. The keeper forks a few spawners first thing, and sends each one request after another over a
//! SEQPACKET socket. Containers are cloned with `CLONE_PARENT`: their parent is the keeper, which
//! alone reaps them, and a spawner may die without harm.
//!
//! A spawner has a mount namespace of its own with what the start needs and nothing else, so that
//! copying it for a container costs little. What is mounted on the host later is not seen there.
#![allow(unsafe_code, reason = "fork, and the promise of one thread to spawn()")]

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use wharf_engine::{ContainerId, ContainerSpec, EngineError, SandboxId, SandboxSpec, VolumeName};

use crate::cgroup::Freezer;
use crate::cleaner::Cleaner;
use crate::copy::{self, CopyRequest};
use crate::exec::{self, ExecRequest, Launched};
use crate::host::Host;
use crate::spawn::{Parent, SpawnFailure, Spawned, Stdio, spawn};
use crate::{shared, sys};

/// A request or an answer is no longer than this, serialized.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
const SOCKET_BUFFER_BYTES: usize = 2 * MESSAGE_BYTES_MAX;
const DESCRIPTORS_MAX: usize = 8;

/// What a spawner is asked.
#[allow(clippy::large_enum_variant, reason = "there is one at a time, and it is sent at once")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    CreateSandbox(SandboxSpec),
    /// With two or three descriptors: stdout, stderr, and stdin where there is one.
    Start {
        sandbox: SandboxSpec,
        container: ContainerSpec,
    },
    CleanContainer {
        sandbox: SandboxId,
        container: ContainerId,
    },
    RemoveSandbox(SandboxId),
    Sweep {
        keep: Vec<SandboxId>,
    },
    /// With the pidfd of the container.
    Exec(ExecRequest),
    /// With the pidfd of the container, if it runs.
    Copy(CopyRequest),
    /// Of a container that has ended and is started again: its writable layer stays.
    CleanGroups {
        sandbox: SandboxId,
        container: ContainerId,
    },
    /// The control group of a program beside the container's own.
    RemoveExec {
        sandbox: SandboxId,
        container: ContainerId,
        group: String,
    },
    Freeze {
        sandbox: SandboxId,
        container: ContainerId,
        to: Freezer,
    },
    RemoveVolume(VolumeName),
    /// What a sandbox has on disk: may take long.
    MeasureStorage(SandboxId),
}

/// What it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    Done,
    /// The container's program runs. The pidfd comes with it.
    Started {
        pid: u32,
    },
    /// The process of an [`ExecRequest`] is on its way. Its pidfd, its report and the caller's ends of
    /// its streams come with it.
    Launched {
        pid: u32,
    },
    Measured {
        bytes: u64,
    },
    /// `unreaped` is a child of the keeper that has ended, or is about to, and wants to be reaped.
    Failed {
        error: EngineError,
        unreaped: Option<u32>,
    },
}

/// A reply with what came along.
#[derive(Debug)]
pub struct Answer {
    pub reply: Reply,
    /// With [`Reply::Started`] and [`Reply::Launched`].
    pub pidfd: Option<OwnedFd>,
    /// What else comes with [`Reply::Launched`], in order.
    pub others: Vec<OwnedFd>,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the request is larger than {MESSAGE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the spawner has ended")]
    Gone,
    #[error("the spawner's answer cannot be read")]
    Garbled,
    #[error("the spawner cannot be spoken to")]
    Io(#[from] io::Error),
}

impl From<rustix::io::Errno> for ClientError {
    fn from(error: rustix::io::Errno) -> Self {
        match error {
            rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET => Self::Gone,
            other => Self::Io(other.into()),
        }
    }
}

/// The keeper's end: one request at a time.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    /// The spawner's, a child of whoever called [`fork`].
    pub pid: Option<u32>,
}

impl Client {
    /// Takes one end of a connected SEQPACKET socket.
    pub fn from_socket(socket: OwnedFd, pid: Option<u32>) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        enlarge(&socket)?;
        Ok(Self { socket, pid })
    }

    /// Sends a request without waiting. `stdio` belongs to [`Request::Start`]; its descriptors are
    /// duplicated, so the caller may close its own.
    pub fn send(&self, request: &Request, stdio: Option<&Stdio<'_>>) -> Result<(), ClientError> {
        let bytes = postcard::to_allocvec(request).map_err(|_| ClientError::TooLarge)?;
        let descriptors: Vec<BorrowedFd<'_>> = stdio.map_or_else(Vec::new, |stdio| {
            [Some(stdio.stdout), Some(stdio.stderr), stdio.stdin].into_iter().flatten().collect()
        });
        self.send_with(&bytes, &descriptors)
    }

    /// As [`Client::send`], for a [`Request::Exec`] into the container of this pidfd.
    pub fn send_exec(&self, request: &Request, container: BorrowedFd<'_>) -> Result<(), ClientError> {
        let bytes = postcard::to_allocvec(request).map_err(|_| ClientError::TooLarge)?;
        self.send_with(&bytes, &[container])
    }

    fn send_with(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(ClientError::TooLarge);
        }
        match send(&self.socket, bytes, descriptors) {
            Err(rustix::io::Errno::MSGSIZE) => Err(ClientError::TooLarge),
            other => Ok(other?),
        }
    }

    /// The answer, if it is there.
    pub fn try_receive(&self) -> Result<Option<Answer>, ClientError> {
        match receive(&self.socket) {
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
            Ok((bytes, _)) if bytes.is_empty() => Err(ClientError::Gone),
            Ok((bytes, descriptors)) => {
                let reply = postcard::from_bytes(&bytes).map_err(|_| ClientError::Garbled)?;
                let mut descriptors = descriptors.into_iter();
                Ok(Some(Answer { reply, pidfd: descriptors.next(), others: descriptors.collect() }))
            }
        }
    }

    /// Sends, and waits for the answer however long it takes.
    pub fn call(&self, request: &Request, stdio: Option<&Stdio<'_>>) -> Result<Answer, ClientError> {
        self.send(request, stdio)?;
        loop {
            if let Some(answer) = self.try_receive()? {
                return Ok(answer);
            }
            let mut poll = [rustix::event::PollFd::new(&self.socket, rustix::event::PollFlags::IN)];
            match rustix::event::poll(&mut poll, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Two connected ends.
pub fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Forks a spawner. It holds nothing of the caller's but its memory: every descriptor is closed, the
/// host is looked at anew. It ends with the caller.
pub fn fork(host: &Host) -> io::Result<Client> {
    let (ours, theirs) = socket_pair()?;
    let config = host.config().clone();
    let parent = rustix::process::getpid();
    // SAFETY: the child goes on to `run` and ends in it, never returning here; the allocator is safe
    // after libc's fork, and nothing else that threads lock is used: no logging, no printing.
    let Some(pid) = (unsafe { sys::fork() })? else {
        let outcome = std::panic::catch_unwind(|| child(config, theirs, parent));
        sys::exit_now(if outcome.is_ok() { 0 } else { 101 })
    };
    drop(theirs);
    Client::from_socket(ours, Some(pid.as_raw_nonzero().get().unsigned_abs()))
}

fn child(config: crate::HostConfig, socket: OwnedFd, parent: Pid) {
    const SOCKET: i32 = 3;
    sys::reset_signals();
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    if rustix::process::getppid() != Some(parent) {
        return;
    }
    if socket.as_raw_fd() != SOCKET && sys::place_descriptor(socket.as_fd(), SOCKET).is_err() {
        return;
    }
    let _ = socket.into_raw_fd();
    // SAFETY: `place_descriptor` has put the socket there, or it was there and is given up above;
    // what else was at 3 belongs to values that this copy of the process never uses or drops.
    let socket = unsafe { OwnedFd::from_raw_fd(SOCKET) };
    if sys::close_from(SOCKET.unsigned_abs() + 1).is_err() {
        return;
    }
    if let Ok(host) = Host::detect(config) {
        run(&host, &socket);
    }
}

/// Serves requests until the peer closes, then ends the process. The process must have one thread.
pub fn run(host: &Host, socket: &OwnedFd) -> ! {
    let _ = rustix::thread::set_name(c"wharf-spawner");
    sys::keep_memory();
    let prepared = rustix::io::ioctl_fionbio(socket, false)
        .map_err(io::Error::from)
        .and_then(|()| enlarge(socket))
        .and_then(|()| leave_host_mounts(host))
        .and_then(|()| start_cleaner(host))
        .and_then(|()| host.driver.enter_shared().map_err(io::Error::other));
    if prepared.is_err() {
        sys::exit_now(1);
    }
    loop {
        let (bytes, descriptors) = match receive(socket) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => sys::exit_now(1),
            Ok((bytes, _)) if bytes.is_empty() => sys::exit_now(0),
            Ok(message) => message,
        };
        let (reply, give) = match postcard::from_bytes(&bytes) {
            Ok(request) => serve(host, request, &descriptors),
            Err(_) => {
                (failed(EngineError::Internal { message: "a request cannot be read".into() }), Vec::new())
            }
        };
        drop(descriptors);
        let Ok(bytes) = postcard::to_allocvec(&reply) else { sys::exit_now(1) };
        let give: Vec<BorrowedFd<'_>> = give.iter().map(AsFd::as_fd).collect();
        if send(socket, &bytes, &give).is_err() {
            sys::exit_now(1);
        }
    }
}

/// Before the spawner is in a group of the engine's: the cleaner shall not keep it from being removed.
fn start_cleaner(host: &Host) -> io::Result<()> {
    // SAFETY: a spawner has one thread.
    let cleaner = unsafe { Cleaner::fork(&host.config().sandboxes_dir) }?;
    // Nobody else sets it.
    let _ = host.cleaner.set(cleaner);
    Ok(())
}

fn failed(error: EngineError) -> Reply {
    Reply::Failed { error, unreaped: None }
}

fn serve(host: &Host, request: Request, descriptors: &[OwnedFd]) -> (Reply, Vec<OwnedFd>) {
    let done = match request {
        Request::MeasureStorage(sandbox) => {
            return match host.measure_storage(&sandbox) {
                Ok(bytes) => (Reply::Measured { bytes }, Vec::new()),
                Err(error) => (failed(error), Vec::new()),
            };
        }
        Request::Exec(request) => return launch(host, &request, descriptors),
        Request::Copy(request) => {
            // SAFETY: a spawner has one thread.
            return launched(unsafe {
                copy::launch(host, &request, descriptors.first().map(AsFd::as_fd), Parent::CallersParent)
            });
        }
        Request::Start { sandbox, container } => return start(host, &sandbox, &container, descriptors),
        Request::CreateSandbox(spec) => create_sandbox(host, &spec),
        Request::CleanContainer { sandbox, container } => host.clean_container(&sandbox, &container),
        Request::RemoveSandbox(sandbox) => host.remove_sandbox(&sandbox),
        Request::CleanGroups { sandbox, container } => host.clean_groups(&sandbox, &container),
        Request::RemoveExec { sandbox, container, group } => host.remove_exec(&sandbox, &container, &group),
        Request::Freeze { sandbox, container, to } => host.freeze(&sandbox, &container, to),
        Request::RemoveVolume(volume) => host.remove_volume(&volume),
        Request::Sweep { keep } => host.sweep(&keep.into_iter().collect::<BTreeSet<_>>()),
    };
    match done {
        Ok(()) => (Reply::Done, Vec::new()),
        Err(error) => (failed(error), Vec::new()),
    }
}

fn create_sandbox(host: &Host, spec: &SandboxSpec) -> Result<(), EngineError> {
    host.create_sandbox(spec)?;
    if !shared::is_needed(spec) {
        return Ok(());
    }
    // SAFETY: a spawner has one thread.
    unsafe { shared::start(host, spec) }
}

fn launch(host: &Host, request: &ExecRequest, descriptors: &[OwnedFd]) -> (Reply, Vec<OwnedFd>) {
    let Some(container) = descriptors.first() else {
        let message = "a program came without its container".to_owned();
        return (failed(EngineError::Internal { message }), Vec::new());
    };
    // SAFETY: a spawner has one thread.
    launched(unsafe { exec::launch(host, request, container.as_fd(), Parent::CallersParent) })
}

fn launched(launched: Result<Launched, EngineError>) -> (Reply, Vec<OwnedFd>) {
    match launched {
        Ok(Launched { pid, pidfd, report, ends }) => {
            (Reply::Launched { pid }, [pidfd, report].into_iter().chain(ends).collect())
        }
        Err(error) => (failed(error), Vec::new()),
    }
}

fn start(
    host: &Host,
    sandbox: &SandboxSpec,
    container: &ContainerSpec,
    descriptors: &[OwnedFd],
) -> (Reply, Vec<OwnedFd>) {
    let [stdout, stderr, stdin @ ..] = descriptors else {
        return (
            failed(EngineError::Internal { message: "a start came without stdout and stderr".into() }),
            Vec::new(),
        );
    };
    let stdio =
        Stdio { stdin: stdin.first().map(AsFd::as_fd), stdout: stdout.as_fd(), stderr: stderr.as_fd() };
    // SAFETY: a spawner has one thread.
    match unsafe { spawn(host, sandbox, container, stdio, Parent::CallersParent) } {
        Ok(Spawned { pid, pidfd, master }) => {
            (Reply::Started { pid }, std::iter::once(pidfd).chain(master).collect())
        }
        Err(SpawnFailure { error, unreaped }) => (Reply::Failed { error, unreaped }, Vec::new()),
    }
}

/// Leaves for a mount namespace that shares nothing with the host's and holds only what has files.
fn leave_host_mounts(host: &Host) -> io::Result<()> {
    sys::unshare(libc::CLONE_NEWNS)?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo")?;
    // What masks directories in containers: empty, and no directory of the host.
    let mask = host.mask_dir();
    rustix::mount::mount("tmpfs", mask.as_path(), "tmpfs", MountFlags::RDONLY, Some(c"size=4k,mode=755"))?;
    let keep = &host.config().sandboxes_dir;
    for (path, filesystem) in mounts(&mountinfo).into_iter().rev() {
        let holds_files = !VIRTUAL.contains(&filesystem) && !path.starts_with("/dev/") && path != "/dev";
        if !holds_files && path != "/" && !keep.starts_with(&path) {
            // One that will not go costs a little time at each start, no more.
            let _ = rustix::mount::unmount(path.as_str(), UnmountFlags::DETACH);
        }
    }
    Ok(())
}

/// File systems without files that a container could be made of.
const VIRTUAL: [&str; 21] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "sysfs",
    "tracefs",
];

/// (mount point, file system) of each line, in order.
fn mounts(mountinfo: &str) -> Vec<(String, &str)> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (mount, source) = line.split_once(" - ")?;
            let path = crate::cgroup::unescape(mount.split(' ').nth(4)?);
            Some((path, source.split(' ').next()?))
        })
        .collect()
}

/// So that the largest message fits. Without `CAP_NET_ADMIN` it is the system's bound.
fn enlarge(socket: &OwnedFd) -> io::Result<()> {
    if rustix::net::sockopt::set_socket_send_buffer_size_force(socket, SOCKET_BUFFER_BYTES).is_err() {
        rustix::net::sockopt::set_socket_send_buffer_size(socket, SOCKET_BUFFER_BYTES)?;
    }
    Ok(())
}

fn send(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let slices = [io::IoSlice::new(bytes)];
    loop {
        match rustix::net::sendmsg(socket, &slices, &mut ancillary, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(drop),
        }
    }
}

fn receive(socket: &OwnedFd) -> rustix::io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut nothing = [0; 0];
    let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
    let mut none = RecvAncillaryBuffer::default();
    let length =
        rustix::net::recvmsg(socket, &mut [io::IoSliceMut::new(&mut nothing)], &mut none, flags)?.bytes;
    let mut bytes = vec![0; length.min(MESSAGE_BYTES_MAX)];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [io::IoSliceMut::new(&mut bytes)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    bytes.truncate(received.bytes);
    let descriptors = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    Ok((bytes, descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_is_too_large_is_refused_and_the_next_is_sent() {
        let (ours, theirs) = socket_pair().unwrap();
        let client = Client::from_socket(ours, None).unwrap();
        let huge = Request::Sweep { keep: vec![SandboxId::new("x".repeat(128)).unwrap(); 10_000] };
        assert!(matches!(client.send(&huge, None), Err(ClientError::TooLarge)));
        let small = Request::RemoveSandbox(SandboxId::new("s").unwrap());
        client.send(&small, None).unwrap();
        let (bytes, _) = receive(&theirs).unwrap();
        assert_eq!(postcard::from_bytes::<Request>(&bytes).unwrap(), small);
        drop(theirs);
        assert!(matches!(client.try_receive(), Err(ClientError::Gone)));
    }

    #[test]
    fn descriptors_come_along_in_order() {
        let (ours, theirs) = socket_pair().unwrap();
        let client = Client::from_socket(ours, None).unwrap();
        assert!(client.try_receive().unwrap().is_none());
        let (first, second) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let stdio = Stdio { stdin: None, stdout: first.as_fd(), stderr: second.as_fd() };
        client.send(&Request::Sweep { keep: vec![] }, Some(&stdio)).unwrap();
        let (_, descriptors) = receive(&theirs).unwrap();
        let inode = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_ino;
        assert_eq!(descriptors.len(), 2);
        assert_eq!(inode(descriptors[0].as_fd()), inode(first.as_fd()));
        assert_eq!(inode(descriptors[1].as_fd()), inode(second.as_fd()));
    }
}
