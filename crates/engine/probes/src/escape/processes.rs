//! Ways to other processes: of the host, of other containers, of those who started us.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

use crate::call::{bytes, call, call_in_child, text};
use crate::{Outcome, Probe, World, all_refused, refused};

pub const PROBES: &[Probe] = &[
    ("host-processes-are-hidden", hidden),
    ("signal-host-process", |world| refused(call(libc::SYS_kill, &[world.pid as usize, 0]))),
    ("ptrace-host-process", |world| ptrace(world.pid)),
    ("ptrace-init", ptrace_init),
    ("read-memory-of-host-process", read_memory),
    ("memory-file-of-init", memory_file),
    ("descriptor-of-host-process", descriptor),
    ("compare-with-host-process", compare),
    ("abstract-socket-cve-2020-15257", abstract_socket),
    ("keyring-add", keyring_add),
    ("keyring-session", |_| refused(call(libc::SYS_keyctl, &[1, 0]))),
    ("keyring-persistent", |_| refused(call(libc::SYS_keyctl, &[22, 0, -1isize as usize]))),
    ("keyring-request", |_| {
        refused(call(libc::SYS_request_key, &[text("user"), text("escape"), 0, -3isize as usize]))
    }),
    ("out-of-memory-score", out_of_memory_score),
    ("raise-limits", raise_limits),
    ("raise-capabilities", raise_capabilities),
    ("priority", |_| refused(call_in_child(libc::SYS_setpriority, &[0, 0, -20isize as usize]))),
    ("real-time", real_time),
    ("personality", |_| refused(call_in_child(libc::SYS_personality, &[0x40_0000]))),
];

fn hidden(world: &World) -> Outcome {
    if fs::metadata(format!("/proc/{}", world.pid)).is_ok() {
        return Outcome::Escaped(format!("/proc/{} is there", world.pid));
    }
    Outcome::Held("it has no entry in /proc".to_owned())
}

fn ptrace(pid: i32) -> Outcome {
    refused(call_in_child(libc::SYS_ptrace, &[libc::PTRACE_SEIZE as usize, pid as usize, 0, 0]))
}

fn ptrace_init(_: &World) -> Outcome {
    if std::process::id() == 1 {
        return Outcome::Skipped("we are init".to_owned());
    }
    ptrace(1)
}

fn read_memory(world: &World) -> Outcome {
    let buffer = bytes(&[0; 8]);
    let local = [buffer, 8];
    let remote = [0x40_0000usize, 8];
    let arguments = [world.pid as usize, local.as_ptr() as usize, 1, remote.as_ptr() as usize, 1, 0];
    refused(call(libc::SYS_process_vm_readv, &arguments))
}

fn memory_file(_: &World) -> Outcome {
    if std::process::id() == 1 {
        return Outcome::Skipped("we are init".to_owned());
    }
    refused(fs::OpenOptions::new().write(true).open("/proc/1/mem"))
}

fn descriptor(world: &World) -> Outcome {
    refused(
        call(libc::SYS_pidfd_open, &[world.pid as usize, 0])
            .and_then(|pidfd| call(libc::SYS_pidfd_getfd, &[pidfd as usize, 0, 0])),
    )
}

fn compare(world: &World) -> Outcome {
    refused(call(libc::SYS_kcmp, &[world.pid as usize, std::process::id() as usize, 0, 0, 0]))
}

fn abstract_socket(world: &World) -> Outcome {
    if world.socket.is_empty() {
        return Outcome::Skipped("the host listens nowhere".to_owned());
    }
    let address = SocketAddr::from_abstract_name(&world.socket);
    refused(address.and_then(|address| UnixStream::connect_addr(&address)))
}

fn keyring_add(_: &World) -> Outcome {
    let arguments = [text("user"), text("escape"), bytes(b"x"), 1, -3isize as usize];
    refused(call(libc::SYS_add_key, &arguments))
}

fn out_of_memory_score(_: &World) -> Outcome {
    refused(fs::write("/proc/self/oom_score_adj", "-1000"))
}

fn raise_limits(_: &World) -> Outcome {
    let mut limit = [0u64; 2];
    let now = call(libc::SYS_prlimit64, &[0, libc::RLIMIT_NOFILE as usize, 0, limit.as_mut_ptr() as usize]);
    if now.is_err() || limit[1] == u64::MAX {
        return Outcome::Skipped("there is no limit".to_owned());
    }
    let more = [limit[0], limit[1] + 1];
    let raised =
        call_in_child(libc::SYS_prlimit64, &[0, libc::RLIMIT_NOFILE as usize, more.as_ptr() as usize, 0]);
    refused(raised)
}

/// Every capability at once: more than any container has.
fn raise_capabilities(_: &World) -> Outcome {
    let header = [0x2008_0522u32, 0];
    let all = [u32::MAX, u32::MAX, 0, 0x1ff, 0x1ff, 0];
    refused(call_in_child(libc::SYS_capset, &[header.as_ptr() as usize, all.as_ptr() as usize]))
}

fn real_time(_: &World) -> Outcome {
    let parameter = [50i32];
    let tried = call_in_child(
        libc::SYS_sched_setscheduler,
        &[0, libc::SCHED_FIFO as usize, parameter.as_ptr() as usize],
    );
    all_refused([("SCHED_FIFO".to_owned(), tried as io::Result<()>)])
}
