//! Processes, by pidfd: opening without mistaking one for another, signalling, and how they ended.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};
use wharf_engine::Signal;

use crate::state::ProcessRef;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// 0 to 255, or 128 + the signal's number.
    Code(i32),
    /// It is over, and nobody kept its code.
    Unknown,
    NotYet,
}

/// Changes with every boot of the host.
pub fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The running (or dead but not yet reaped) process with this pid.
pub fn identify(pid: u32) -> Option<ProcessRef> {
    let start_ticks = stat_field(pid, 22)?.parse().ok()?;
    Some(ProcessRef { pid, start_ticks })
}

/// Opens the process, if it is still the one meant.
pub fn adopt(process: ProcessRef) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(process.pid).ok()?)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // Read after the opening: from here on the pid cannot be given to another while this is true.
    (identify(process.pid) == Some(process)).then_some(pidfd)
}

/// How it ended, asked for when its pidfd is readable. A child stays a zombie until [`reap`]: freeing
/// it takes the kernel milliseconds, and the code is known before.
pub fn end(pidfd: BorrowedFd<'_>, process: ProcessRef) -> End {
    match rustix::process::waitid(
        WaitId::PidFd(pidfd),
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT,
    ) {
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => End::Code(code),
            (None, Some(signal)) => End::Code(128 + signal),
            (None, None) => End::Unknown,
        },
        Ok(None) => End::NotYet,
        // Not our child: adopted from a keeper that died.
        Err(_) => end_of_adopted(pidfd, process),
    }
}

fn end_of_adopted(pidfd: BorrowedFd<'_>, process: ProcessRef) -> End {
    // Reaped already: the kernel keeps the code for who holds a pidfd (Linux 6.15).
    if let Some(raw) = exit_of_reaped(pidfd) {
        return decode(raw);
    }
    if identify(process.pid) == Some(process) {
        let state = stat_field(process.pid, 3);
        // Its new parent has not reaped it yet.
        if state.as_deref() == Some("Z") {
            return match stat_field(process.pid, 52).and_then(|code| code.parse().ok()) {
                Some(raw) => decode(raw),
                None => End::Unknown,
            };
        }
        if state.is_some_and(|state| state != "X") {
            return End::NotYet;
        }
    }
    exit_of_reaped(pidfd).map_or(End::Unknown, decode)
}

/// A wait status as the kernel has it.
fn decode(raw: i32) -> End {
    match raw & 0x7f {
        0 => End::Code((raw >> 8) & 0xff),
        signal => End::Code(128 + signal),
    }
}

/// Field `number` (from 1, as in proc_pid_stat(5)) of `/proc/PID/stat`.
fn stat_field(pid: u32, number: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses, which may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number.checked_sub(3)?).map(str::to_owned)
}

/// `struct pidfd_info` of linux/pidfd.h, first version.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup_id: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)`, the struct having 64 bytes.
const PIDFD_GET_INFO: libc::c_ulong = (3 << 30) | (64 << 16) | (0xFF << 8) | 11;

/// How a process ended of which the caller is not the parent: `None` when nobody keeps it.
pub fn exit_of(pidfd: BorrowedFd<'_>) -> Option<i32> {
    match decode(exit_of_reaped(pidfd)?) {
        End::Code(code) => Some(code),
        End::Unknown | End::NotYet => None,
    }
}

fn exit_of_reaped(pidfd: BorrowedFd<'_>) -> Option<i32> {
    const { assert!(size_of::<PidfdInfo>() == 64) };
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the kernel writes at most the 64 bytes that the request's number names.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO as _, &raw mut info) };
    (result == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
}

/// Sends a signal; a process that is over takes it without complaint.
pub fn signal(pidfd: &impl AsFd, signal: Signal) -> std::io::Result<()> {
    // SAFETY: no memory is handed over. (rustix's own wrapper refuses real-time signals.)
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal.0,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
}

/// Reaps the child with this pid if it has ended. Returns whether there is nothing left to reap.
pub fn reap(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return true };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    !matches!(rustix::process::waitid(WaitId::Pid(pid), options), Ok(None))
}

/// Whether a child is a zombie, or none of ours.
pub fn has_ended(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(rustix::process::waitid(WaitId::Pid(pid), options), Ok(None))
}

/// Waits for a child that was sent `SIGKILL`.
pub fn reap_killed(pid: Pid) {
    // Not our child any more: nothing to wait for.
    let _ = rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn wait_until_readable(pidfd: &OwnedFd) {
        let mut polled = [rustix::event::PollFd::new(pidfd, rustix::event::PollFlags::IN)];
        let timeout = rustix::time::Timespec { tv_sec: 10, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut polled, Some(&timeout)).unwrap(), 1);
    }

    #[test]
    fn children_end_with_their_code_or_their_signal() {
        for (script, code) in [("exit 7", 7), ("kill -15 $$", 143)] {
            #[expect(clippy::zombie_processes, reason = "reaped by what is tested")]
            let child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
            let process = identify(child.id()).unwrap();
            let pidfd = adopt(process).unwrap();
            wait_until_readable(&pidfd);
            assert_eq!(end(pidfd.as_fd(), process), End::Code(code));
            assert!(reap(process.pid));
            assert_eq!(identify(process.pid), None);
        }
    }

    #[test]
    fn a_process_that_is_not_our_child_is_read_before_and_after_its_reaping() {
        use std::io::{BufRead, BufReader, Write};

        let mut shell = Command::new("/bin/sh")
            .args(["-c", "exec 3<&0; sh -c 'read line; exit 9' <&3 & echo $!; wait"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let grandchild = identify(line.trim().parse().unwrap()).unwrap();
        let pidfd = adopt(grandchild).unwrap();
        assert_eq!(end(pidfd.as_fd(), grandchild), End::NotYet);

        // Its parent cannot reap it while it is stopped.
        let parent = adopt(identify(shell.id()).unwrap()).unwrap();
        signal(&parent, Signal(libc::SIGSTOP)).unwrap();
        shell.stdin.take().unwrap().write_all(b"\n").unwrap();
        wait_until_readable(&pidfd);
        assert_eq!(end(pidfd.as_fd(), grandchild), End::Code(9));

        signal(&parent, Signal(libc::SIGCONT)).unwrap();
        shell.wait().unwrap();
        assert_eq!(identify(grandchild.pid), None);
        assert_eq!(end_of_adopted(pidfd.as_fd(), grandchild), End::Code(9));
    }

    #[test]
    fn a_recycled_pid_is_not_adopted() {
        let me = identify(std::process::id()).unwrap();
        assert!(adopt(me).is_some());
        assert!(adopt(ProcessRef { start_ticks: me.start_ticks + 1, ..me }).is_none());
    }
}
