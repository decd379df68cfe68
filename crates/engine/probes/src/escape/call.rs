//! Raw system calls, with their errors.
#![allow(unsafe_code, reason = "system calls that no library makes")]

use std::ffi::CString;
use std::io;

/// A system call with up to six arguments.
///
/// Only for calls that take numbers, or pointers to what outlives the call.
pub fn call(number: i64, arguments: &[usize]) -> io::Result<i64> {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    // SAFETY: the callers of this program pass valid pointers or plain numbers; the calls are those
    // that a container refuses.
    let result =
        unsafe { libc::syscall(number as libc::c_long, all[0], all[1], all[2], all[3], all[4], all[5]) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result as i64) }
}

/// The same in a child, for what changes the process when it works. The child ends with it.
pub fn call_in_child(number: i64, arguments: &[usize]) -> io::Result<()> {
    in_child(|| call(number, arguments).map(drop))
}

/// Does something in a child process; its error comes back as the exit code.
pub fn in_child(work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    // SAFETY: this program has one thread; the child leaves by _exit.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = match work() {
                Ok(()) => 0,
                Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
            };
            // SAFETY: no preconditions.
            unsafe { libc::_exit(code) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: the status outlives the call.
            while unsafe { libc::waitpid(pid, &raw mut status, 0) } == -1
                && io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
            {}
            match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
                (true, 0) => Ok(()),
                (true, code) => Err(io::Error::from_raw_os_error(code)),
                (false, _) => Err(io::Error::other("the kernel killed who tried")),
            }
        }
    }
}

/// A text for the kernel. It is leaked: this program ends soon.
pub fn text(text: &str) -> usize {
    CString::new(text).unwrap_or_default().into_raw() as usize
}

/// Bytes for the kernel, leaked as [`text`].
pub fn bytes(bytes: &[u8]) -> usize {
    Box::leak(bytes.to_vec().into_boxed_slice()).as_mut_ptr() as usize
}

pub const HERE: usize = libc::AT_FDCWD as usize;
