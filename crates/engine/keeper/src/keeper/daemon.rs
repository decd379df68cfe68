//! Becoming a process of its own: away from the control plane that started it, its terminal and its
//! descriptors.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::process::Pid;

use crate::paths;

/// What the keeper tells on its first standard output once it serves.
pub const READY: &str = "ready\n";
/// What it tells when another keeper has the directory.
pub const TAKEN: &str = "taken\n";

/// A keeper that finds its own log longer starts a new one.
const OWN_LOG_BYTES_MAX: u64 = 1024 * 1024;

/// Standard output as it was at the start: whoever started the keeper waits for a word on it.
pub struct Starter(OwnedFd);

impl Starter {
    /// Says the word and lets go. That the starter has gone away is no error.
    pub fn tell(self, word: &str) {
        let _ = File::from(self.0).write_all(word.as_bytes());
    }
}

/// Forks, and lets the parent exit; goes on in the child, in a session of its own, with nothing
/// open but `/dev/null` and the keeper's own log. The process must have one thread, and must already
/// sit in the keeper's directory.
pub fn detach() -> io::Result<Starter> {
    if fork()?.is_some() {
        // SAFETY: nothing is to be cleaned up: the child does the work.
        unsafe { libc::_exit(0) }
    }
    rustix::process::setsid()?;
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let starter = rustix::io::fcntl_dupfd_cloexec(io::stdout().as_fd(), 3)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    replace(&null, libc::STDIN_FILENO)?;
    replace(&null, libc::STDOUT_FILENO)?;
    let own_log = OpenOptions::new().create(true).append(true).mode(0o600).open(paths::OWN_LOG)?;
    if own_log.metadata()?.len() > OWN_LOG_BYTES_MAX {
        own_log.set_len(0)?;
    }
    replace(&own_log, libc::STDERR_FILENO)?;
    Ok(Starter(starter))
}

/// `None` in the child. The process must have one thread.
pub fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: one thread, so the child is a whole copy.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// A descriptor that is readable when a child has ended. The signal itself comes no more.
pub fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is filled by sigemptyset before it is used, and outlives the calls; the
    // descriptor that signalfd gives is new.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Undoes [`child_signals`] in a child, which inherits it.
pub fn take_signals_again() {
    // SAFETY: as above.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Numbers of the descriptors beyond the standard three.
pub fn open_descriptors() -> io::Result<Vec<i32>> {
    let entries = std::fs::read_dir("/proc/self/fd")?;
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(numbers.filter(|number| *number > libc::STDERR_FILENO).collect())
}

/// Takes over the descriptor `wanted` of those that were inherited, and closes the others.
pub fn inherit(wanted: i32, inherited: &[i32]) -> io::Result<File> {
    if !inherited.contains(&wanted) {
        return Err(io::ErrorKind::NotFound.into());
    }
    for &other in inherited.iter().filter(|&&number| number != wanted) {
        // SAFETY: inherited through `execve`, before anything of ours was opened, so that nothing
        // of ours owns it. The one that listed them is closed already.
        unsafe { libc::close(other) };
    }
    // SAFETY: as above: it is open, and nobody's.
    Ok(unsafe { File::from_raw_fd(wanted) })
}

/// Puts `fd` in the place of a standard descriptor.
fn replace(fd: &impl AsFd, standard: i32) -> io::Result<()> {
    // SAFETY: the standard descriptors are nobody's property; nothing else is overwritten.
    match unsafe { libc::dup2(fd.as_fd().as_raw_fd(), standard) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Closes what was inherited beyond the standard three. Called first, when nothing else is open.
pub fn close_inherited() {
    // SAFETY: nothing of ours is open yet above 2.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
}

/// A lock of the directory; `None` when another process has it.
pub fn lock(path: &str) -> io::Result<Option<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Raises the soft limit on descriptors (each container needs four) to the hard one.
pub fn raise_descriptor_limit() {
    let hard = descriptor_limit().maximum;
    set_descriptor_limit(rustix::process::Rlimit { current: hard, maximum: hard });
}

/// The limit on descriptors as it is.
pub fn descriptor_limit() -> rustix::process::Rlimit {
    rustix::process::getrlimit(rustix::process::Resource::Nofile)
}

/// Sets the limit on descriptors back, for a child that containers inherit from.
pub fn set_descriptor_limit(limit: rustix::process::Rlimit) {
    // With what there is, fewer containers run.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
}

/// One line into the keeper's own log.
pub fn note(message: &str) {
    let now = super::output::Now::read().timestamp();
    // There is nobody to tell that the log cannot be written.
    let _ = writeln!(io::stderr(), "{now} {message}");
}

/// Ends a spawner that we forked.
pub fn kill(pid: Pid) {
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}
