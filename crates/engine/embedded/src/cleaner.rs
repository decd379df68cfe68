//! Removes directories behind a spawner's back.
//!
//! To remove a container's directories can take ten times as long as to start a container: each
//! block that ext4 frees may be a discard that waits for the disk. So a spawner moves them aside,
//! which costs next to nothing, and a process of its own removes them, several at a time since it
//! waits rather than works, or makes them ready for another sandbox ([`crate::kits`]). What it leaves
//! when it is killed, the next [`crate::Host::sweep`] finds.

#![allow(unsafe_code, reason = "fork, and the descriptor that it leaves us")]

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};

use crate::{kits, sys};

/// Where the directories wait, below the sandboxes directory.
const TRASH: &str = ".trash";
/// Where the process has its end of the pipe.
const PIPE: i32 = 3;
/// Directories that are removed at once. Measured with discards: 1, 4 and 16 at a time take 5.4, 0.8
/// and 0.6 ms each.
const WORKERS: usize = 4;
/// Enough for as many nested directories as there may be descriptors; untouched, it costs nothing.
const WORKER_STACK_BYTES: usize = 4 * 1024 * 1024;

pub fn trash_dir(sandboxes_dir: &Path) -> PathBuf {
    sandboxes_dir.join(TRASH)
}

/// The way to the process that removes: names in the trash, each ended by a zero byte. A full pipe
/// bounds what waits, to some thousands.
#[derive(Debug)]
pub struct Cleaner {
    pipe: OwnedFd,
    trash: PathBuf,
    next: AtomicU64,
}

impl Cleaner {
    /// Forks the process. It ends with the caller.
    ///
    /// # Safety
    /// The caller has one thread.
    pub unsafe fn fork(sandboxes_dir: &Path) -> io::Result<Self> {
        let trash = trash_dir(sandboxes_dir);
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&write, true)?;
        let parent = rustix::process::getpid();
        // SAFETY: the caller's promise; the child never returns from here.
        if unsafe { sys::fork() }?.is_none() {
            let _ = std::panic::catch_unwind(|| run(read, sandboxes_dir, parent));
            sys::exit_now(0);
        }
        Ok(Self { pipe: write, trash, next: AtomicU64::new(0) })
    }

    /// Moves a directory aside and has it removed.
    ///
    /// # Errors
    /// When it is still where it was: it is not there, or cannot be moved, or too many wait already.
    pub fn take(&self, directory: &Path) -> io::Result<()> {
        let pid = rustix::process::getpid().as_raw_nonzero();
        let name = format!("{pid}-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let aside = self.trash.join(&name);
        fs::rename(directory, &aside)?;
        // So few bytes are written whole or not at all (pipe(7)).
        rustix::io::write(&self.pipe, format!("{name}\0").as_bytes()).map(drop).or_else(|error| {
            fs::rename(&aside, directory)?;
            Err(error.into())
        })
    }
}

fn run(pipe: OwnedFd, sandboxes_dir: &Path, parent: Pid) {
    let _ = rustix::thread::set_name(c"wharf-cleaner");
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // Nothing of the spawner's is held: its peer learns of its death from its socket.
    if rustix::process::getppid() != Some(parent)
        || sys::place_descriptor(pipe.as_fd(), PIPE).is_err()
        || sys::close_from(PIPE.unsigned_abs() + 1).is_err()
    {
        return;
    }
    let _ = pipe.into_raw_fd();
    // SAFETY: `place_descriptor` has put the pipe there; what else was there belongs to a value that
    // this copy of the process never uses or drops.
    let pipe = unsafe { OwnedFd::from_raw_fd(PIPE) };
    let names = Mutex::new(BufReader::new(File::from(pipe)).split(0));
    let trash = trash_dir(sandboxes_dir);
    let work = || {
        loop {
            let next = names.lock().ok().and_then(|mut names| names.next());
            let Some(Ok(name)) = next else { return };
            let Ok(name) = String::from_utf8(name) else { continue };
            // What cannot be removed stays for the next sweep.
            let _ = kits::keep(sandboxes_dir, &trash.join(name));
        }
    };
    // This process is a copy of one that had one thread, and starts no containers.
    std::thread::scope(|scope| {
        for _ in 1..WORKERS {
            // One will do where there is no room for more.
            let _ = std::thread::Builder::new().stack_size(WORKER_STACK_BYTES).spawn_scoped(scope, work);
        }
        work();
    });
}
