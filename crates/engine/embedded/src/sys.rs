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
    crate::faults::strike()?;
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

/// Blocks every signal; what comes meanwhile waits.
pub fn block_signals() {
    // SAFETY: an all-zero sigset_t is valid memory that sigfillset fills before it is read.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

/// Descriptor 0, which a process that is about to execute a program has put there.
pub fn stdin() -> BorrowedFd<'static> {
    // SAFETY: 0 is open from `place_descriptor` on and never closed.
    unsafe { BorrowedFd::borrow_raw(0) }
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

/// Puts `from` at descriptor `to`, kept at `execve` unless it was there already.
///
/// For a forked child alone, and a `to` that is a standard stream, or belongs to a value which the child
/// neither uses nor drops any more.
pub fn place_descriptor(from: BorrowedFd<'_>, to: i32) -> io::Result<()> {
    // SAFETY: both numbers are plain; what was at `to` is nobody's, by the callers' promise above.
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

/// How a mount is to be changed.
#[derive(Clone, Copy, Default)]
pub struct MountChange<'a> {
    /// Attributes to set, `MOUNT_ATTR_*` of mount_setattr(2).
    pub set: u64,
    /// The owners of files become those that this user namespace makes of them. For a mount that was
    /// never attached alone.
    pub idmap: Option<BorrowedFd<'a>>,
    /// The mounts below it too.
    pub recursive: bool,
}

/// Changes the mount that `mount` stands for (`mount_setattr`, Linux 5.12).
pub fn change_mount(mount: BorrowedFd<'_>, change: MountChange<'_>) -> io::Result<()> {
    const IDMAP: u64 = 0x0010_0000;
    #[repr(C)]
    struct MountAttributes {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let mut attributes = MountAttributes { set: change.set, clear: 0, propagation: 0, userns_fd: 0 };
    if let Some(users) = change.idmap {
        attributes.set |= IDMAP;
        attributes.userns_fd = u64::from(users.as_raw_fd().unsigned_abs());
    }
    let flags = libc::AT_EMPTY_PATH | if change.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the structure has the size that is passed and outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    check(i32::try_from(result).unwrap_or(-1))
}

/// Sets attributes of one mount.
pub fn set_mount_attributes(mount: BorrowedFd<'_>, set: u64) -> io::Result<()> {
    change_mount(mount, MountChange { set, ..MountChange::default() })
}

/// From now on files are made as this user of the host. Takes file capabilities out of the effective
/// set (capabilities(7)): [`set_capabilities`] brings them back.
pub fn set_file_owner(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: plain integers. Both return what was before; -1 is no id and only asks.
    let (uid_now, gid_now) = unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        (libc::setfsuid(u32::MAX), libc::setfsgid(u32::MAX))
    };
    if (uid_now.cast_unsigned(), gid_now.cast_unsigned()) == (uid, gid) {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// A process that waits for ever in a user namespace of its own, whose ids are not mapped yet. It
/// shares our memory and uses nothing of it but a stack. To be killed and reaped.
pub struct Waiter {
    pub pid: Pid,
    _stack: Box<[u8]>,
}

pub fn wait_in_new_user_namespace() -> io::Result<Waiter> {
    const STACK_BYTES: usize = 16 << 10;
    extern "C" fn wait(_: *mut libc::c_void) -> libc::c_int {
        loop {
            // SAFETY: no preconditions.
            unsafe { libc::pause() };
        }
    }
    let mut stack = vec![0u8; STACK_BYTES].into_boxed_slice();
    let flags = libc::CLONE_VM | libc::CLONE_NEWUSER | libc::SIGCHLD;
    // SAFETY: the top of the stack is aligned to 16 bytes below; the stack lives in the returned value,
    // whose drop waits for the child's end. The function never returns from `pause`, for a spawner
    // handles no signal, and so touches no other memory, `errno` included.
    let pid = unsafe {
        let top = stack.as_mut_ptr_range().end;
        let top = top.sub(top as usize % 16);
        libc::clone(wait, top.cast(), flags, std::ptr::null_mut())
    };
    check(pid.min(0))?;
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Waiter { pid, _stack: stack })
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.pid, rustix::process::Signal::KILL);
        // Its stack is freed after that: it must be gone.
        while let Err(rustix::io::Errno::INTR) =
            rustix::process::waitpid(Some(self.pid), rustix::process::WaitOptions::empty())
        {}
    }
}

/// Hides our memory, descriptors and root from other processes that share the pid namespace, until
/// the next `execve`; children inherit it.
pub fn hide_from_others() -> io::Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })
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

/// `execveat` of a file by descriptor, which must not be closed at exec if it is a script; returns only
/// its error.
pub fn execute_descriptor(
    program: BorrowedFd<'_>,
    arguments: &[CString],
    environment: &[CString],
) -> io::Error {
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer and point to strings that outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
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

/// Closes every descriptor above 2 but those in `keep`.
///
/// For a forked child alone that returns to nobody: values that own another descriptor must not be
/// used or dropped any more.
pub fn close_all_but(keep: &mut [i32]) -> io::Result<()> {
    keep.sort_unstable();
    let mut first: u32 = 3;
    for &kept in keep.iter() {
        let Ok(kept) = u32::try_from(kept) else { continue };
        if kept > first {
            // SAFETY: the caller's promise.
            let result = unsafe { libc::syscall(libc::SYS_close_range, first, kept - 1, 0) };
            check(i32::try_from(result).unwrap_or(-1))?;
        }
        first = first.max(kept + 1);
    }
    close_from(first)
}

/// Makes a write to a pipe that nobody reads an error, not a death.
pub fn ignore_broken_pipes() {
    // SAFETY: plain integers; no handler is installed.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
