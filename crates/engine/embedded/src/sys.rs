//! The system calls for which there is no safe wrapper, each made safe here.
//!
//! Nothing but the raw call and its conversion stands in this file.
#![allow(unsafe_code, reason = "raw system calls that rustix does not wrap")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::Pid;
use seccompiler::BpfProgram;

use crate::capability::{Capability, CapabilitySet};
use crate::rlimit::Limit;

/// What a clone returned.
pub enum Cloned {
    Child,
    Parent { pid: Pid, pidfd: OwnedFd },
}

/// Who becomes the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    Caller,
    /// The caller's own parent (`CLONE_PARENT`).
    CallersParent,
}

/// `clone3` without shared memory: a fork with namespaces.
///
/// # Safety
/// The calling process must have one thread: in the child, locks that another thread held would
/// never be released. The child must leave by `execve` or `_exit` and never return to its caller's
/// callers.
pub unsafe fn clone3(namespaces: i32, into: Option<BorrowedFd<'_>>, parent: Parent) -> io::Result<Cloned> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: libc::c_int = -1;
    let mut flags = u64::from(namespaces.cast_unsigned()) | u64::from(libc::CLONE_PIDFD.cast_unsigned());
    let mut exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    if parent == Parent::CallersParent {
        // The child then takes over the exit signal of its creator.
        flags |= u64::from(libc::CLONE_PARENT.cast_unsigned());
        exit_signal = 0;
    }
    if into.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    let arguments = libc::clone_args {
        flags,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: into.map_or(0, |fd| u64::from(fd.as_raw_fd().cast_unsigned())),
    };
    // SAFETY: the structure is complete and outlives the call; without CLONE_VM and a stack the
    // child gets a copy of this memory and goes on here. One thread: the caller's promise.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        number => {
            let pid = i32::try_from(number).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
            // SAFETY: the kernel has just opened this descriptor for us.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid, pidfd })
        }
    }
}

/// Ends the process at once, without destructors or handlers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Leaves one's namespaces for new ones. The caller must have one thread.
pub fn unshare(namespaces: i32) -> io::Result<()> {
    // SAFETY: only namespace flags are passed by the callers of this crate; no memory or descriptor
    // table is unshared.
    check(unsafe { libc::unshare(namespaces) })
}

/// Sets permitted and effective to `set` and inheritable to nothing.
pub fn set_capabilities(set: CapabilitySet) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |bits: u64| {
        let bits = (bits & u64::from(u32::MAX)) as u32;
        Data { effective: bits, permitted: bits, inheritable: 0 }
    };
    let data = [half(set.bits()), half(set.bits() >> 32)];
    // SAFETY: version 3 reads one header and two data words sets, which is what is passed.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    check(i32::try_from(result).unwrap_or(-1))
}

/// Takes all but `set` out of the bounding set.
pub fn bound_capabilities(set: CapabilitySet) -> io::Result<()> {
    for capability in Capability::all().filter(|&capability| !set.has(capability)) {
        // SAFETY: plain integers.
        let result =
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability.number()), 0, 0, 0) };
        match check(result) {
            // This kernel is older than the capability.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Our own permitted set, and the bounding set to give to containers from.
pub fn permitted_capabilities() -> io::Result<CapabilitySet> {
    let sets = rustix::thread::capabilities(None)?;
    Ok(CapabilitySet::from_bits(sets.permitted.bits()))
}

/// Installs the filter for this process and all it will start.
pub fn install_filter(program: &BpfProgram) -> io::Result<()> {
    const SET_MODE_FILTER: libc::c_ulong = 1;
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `sock_filter` of seccompiler and of libc are the kernel's structure; the program
    // outlives the call, which copies it.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, 0, &raw const program) };
    check(i32::try_from(result).unwrap_or(-1))
}

/// Gives every signal its default action and blocks none: a process inherits what was ignored.
pub fn reset_signals() {
    const SET_BYTES: usize = 8;
    // The kernel's own structure: handler (SIG_DFL is 0), flags, restorer, mask. The C library's call
    // would leave out the two signals that it keeps for itself.
    let default_action = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: the structure is complete; numbers that cannot be set fail without harm.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default_action.as_ptr(),
                std::ptr::null_mut::<u64>(),
                SET_BYTES,
            )
        };
    }
    // SAFETY: an all-zero sigset_t is valid memory that sigemptyset fills before it is read.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

pub fn set_limit(limit: Limit) -> io::Result<()> {
    let value = libc::rlimit64 { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: the structure outlives the call, which reads it.
    check(unsafe { libc::setrlimit64(limit.resource, &raw const value) })
}

pub fn hard_limit(resource: libc::__rlimit_resource_t) -> u64 {
    let mut value = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure outlives the call, which fills it.
    match unsafe { libc::getrlimit64(resource, &raw mut value) } {
        0 => value.rlim_max,
        _ => 0,
    }
}

/// Puts `from` at descriptor `to`, kept at `execve`.
pub fn place_descriptor(from: BorrowedFd<'_>, to: i32) -> io::Result<()> {
    // SAFETY: `to` is 0, 1 or 2, which nothing in this process owns as an OwnedFd.
    check(unsafe { libc::dup2(from.as_raw_fd(), to) }.min(0))
}

/// Marks every descriptor from `first` on to be closed at `execve`.
pub fn close_from_at_exec(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: no descriptor is closed here, only marked.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    check(i32::try_from(result).unwrap_or(-1))
}

/// Closes every descriptor from `first` on.
///
/// For a forked child alone that is about to start anew: values that own such a descriptor must not
/// be used or dropped any more.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the caller's promise, which is about this crate's `spawner::child` alone.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    check(i32::try_from(result).unwrap_or(-1))
}

/// Changes the attributes of the mount that `mount` stands for (`mount_setattr`, Linux 5.12).
pub fn set_mount_attributes(mount: BorrowedFd<'_>, set: u64) -> io::Result<()> {
    #[repr(C)]
    struct MountAttributes {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let attributes = MountAttributes { set, clear: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the structure has the size that is passed and outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    check(i32::try_from(result).unwrap_or(-1))
}

/// `execve`; returns only its error.
pub fn execute(program: &CString, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer and point to strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Lets the allocator keep what it has: giving memory back after each request and faulting it in
/// again at the next costs a small process more than the memory.
pub fn keep_memory() {
    #[cfg(target_env = "gnu")]
    {
        const KEEP_BYTES: libc::c_int = 4 << 20;
        // SAFETY: mallopt takes plain integers; no other thread runs.
        unsafe {
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEEP_BYTES);
            libc::mallopt(libc::M_MMAP_THRESHOLD, KEEP_BYTES);
        }
    }
}

/// Brings up `lo` of the network namespace that we are in.
pub fn bring_loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: an all-zero ifreq is valid; the name is shorter than its field and ends with zero; the
    // request reads the name and the flags alone.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request))
    }
}

/// Forks; see [`clone3`] for what the child may do.
///
/// # Safety
/// As [`clone3`]; `libc::fork` also makes the allocator usable in the child of a threaded process.
pub unsafe fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the caller's promise.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Pid::from_raw(pid)),
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
