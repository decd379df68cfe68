//! Keeps our own program from being overwritten by a container.
//!
//! A container can have the kernel execute `/proc/self/exe` in the place of its program (as the
//! interpreter of a script), and is then a process whose `/proc/<pid>/exe` leads to the file of
//! whoever started it, on the host's disk, to be written as soon as nobody executes it any more
//! (CVE-2019-5736). So the process that starts containers is executed over a read-only mount of its
//! own file that is attached nowhere: what is opened through it cannot be written, whoever tries.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{Mode, OFlags, StatVfsMountFlags};
use rustix::mount::OpenTreeFlags;

use crate::sys::{self, MountChange};

const ATTRIBUTE_READ_ONLY: u64 = 1;
const ATTRIBUTE_NOSUID: u64 = 2;

/// Whether the running program cannot be written through `/proc/<pid>/exe`.
pub fn is_sealed() -> io::Result<bool> {
    let program = rustix::fs::open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::fs::fstatvfs(&program)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Executes the running program anew, sealed, with the same arguments, environment and descriptors
/// (but those that close at exec). Returns at once in one that is sealed already.
///
/// The process must have one thread, and nothing that it would miss.
pub fn execute_sealed() -> io::Result<()> {
    if is_sealed()? {
        return Ok(());
    }
    let program = rustix::fs::open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = rustix::mount::open_tree(&program, "", flags)?;
    let set = ATTRIBUTE_READ_ONLY | ATTRIBUTE_NOSUID;
    sys::change_mount(mount.as_fd(), MountChange { set, ..MountChange::default() })?;
    let texts =
        |texts: &mut dyn Iterator<Item = Vec<u8>>| texts.map(CString::new).collect::<Result<Vec<_>, _>>();
    let arguments = texts(&mut std::env::args_os().map(OsStringExt::into_vec))?;
    let environment =
        texts(&mut std::env::vars_os().map(|(name, value)| [name.into_vec(), value.into_vec()].join(&b'=')))?;
    Err(sys::execute_descriptor(mount.as_fd(), &arguments, &environment))
}
