//! Ways over the kernel as a whole: programs, modules, clocks, networks, and what else is one for all.

use std::io;

use crate::call::{bytes, call, call_in_child, in_child, text};
use crate::{Outcome, Probe, all_refused, refused};

pub const PROBES: &[Probe] = &[
    ("bpf-program", |_| bpf(5)),
    ("bpf-map", |_| bpf(0)),
    ("perf-events", |_| perf()),
    ("io-uring", |_| refused(call(libc::SYS_io_uring_setup, &[8, bytes(&[0; 120])]))),
    ("userfaultfd", |_| refused(call(libc::SYS_userfaultfd, &[0]))),
    ("kexec", |_| {
        all_refused([
            ("kexec_load".to_owned(), call(libc::SYS_kexec_load, &[0, 0, 0, 0])),
            ("kexec_file_load".to_owned(), call(libc::SYS_kexec_file_load, &[0, 0, 0, 0, 4])),
        ])
    }),
    ("load-module", |_| {
        let image = bytes(b"no module");
        all_refused([
            ("init_module".to_owned(), call(libc::SYS_init_module, &[image, 9, text("")])),
            ("finit_module".to_owned(), call(libc::SYS_finit_module, &[0, text(""), 0])),
        ])
    }),
    ("remove-module", |_| refused(call(libc::SYS_delete_module, &[text("escape"), 0x800]))),
    // Turns Ctrl-Alt-Del into a signal for init: harmless if it works.
    ("reboot", |_| refused(call(libc::SYS_reboot, &[0xfee1_dead, 672_274_793, 0, 0]))),
    ("swap", |_| {
        all_refused([
            ("swapon".to_owned(), call(libc::SYS_swapon, &[text("/escape"), 0])),
            ("swapoff".to_owned(), call(libc::SYS_swapoff, &[text("/escape")])),
        ])
    }),
    ("quota", |_| refused(call(libc::SYS_quotactl, &[0x80_0001 << 8, text("/dev/vda"), 0, 0]))),
    ("fanotify", |_| refused(call(libc::SYS_fanotify_init, &[0, 0]))),
    ("accounting", |_| refused(call(libc::SYS_acct, &[text("/escape")]))),
    ("set-clock", |_| set_clock()),
    ("adjust-clock", |_| adjust_clock()),
    ("kernel-log", |_| refused(call(libc::SYS_syslog, &[3, bytes(&[0; 64]), 64]))),
    ("kernel-log-clear", |_| refused(call(libc::SYS_syslog, &[8, 0, 8]))),
    ("hang-up", |_| refused(call_in_child(libc::SYS_vhangup, &[]))),
    ("memory-policy", |_| refused(call(libc::SYS_move_pages, &[0, 0, 0, 0, 0, 0]))),
    #[cfg(target_arch = "x86_64")]
    ("io-ports", |_| {
        all_refused([
            ("iopl".to_owned(), call_in_child(libc::SYS_iopl, &[3])),
            ("ioperm".to_owned(), call_in_child(libc::SYS_ioperm, &[0x80, 1, 1])),
        ])
    }),
    ("network-links", |_| network_links()),
    ("network-filter", |_| network_filter()),
    ("virtual-machine-sockets", |_| refused(socket(40, 1, 0))),
    ("calls-of-another-architecture", |_| foreign_call()),
];

fn bpf(command: usize) -> Outcome {
    // A map of one array element, or a program that returns at once.
    let instructions: [u64; 2] = [0xb7, 0x95];
    let mut attributes = [0u64; 16];
    if command == 0 {
        attributes[0] = 2 | (4 << 32);
        attributes[1] = 4 | (1 << 32);
    } else {
        attributes[0] = 1 | (2 << 32);
        attributes[1] = instructions.as_ptr() as u64;
        attributes[2] = text("GPL") as u64;
    }
    refused(call(libc::SYS_bpf, &[command, attributes.as_ptr() as usize, size_of_val(&attributes)]))
}

fn perf() -> Outcome {
    let mut attributes = [0u64; 16];
    // A software event: the CPU clock, of all processes.
    attributes[0] = 1 | (128 << 32);
    let arguments = [attributes.as_ptr() as usize, -1isize as usize, 0, -1isize as usize, 0];
    refused(call(libc::SYS_perf_event_open, &arguments))
}

fn set_clock() -> Outcome {
    let mut now = [0i64; 2];
    let read = call(libc::SYS_clock_gettime, &[0, now.as_mut_ptr() as usize]);
    let pointer = now.as_ptr() as usize;
    all_refused([
        ("clock_settime".to_owned(), read.and_then(|_| call(libc::SYS_clock_settime, &[0, pointer]))),
        ("settimeofday".to_owned(), call(libc::SYS_settimeofday, &[pointer, 0])),
    ])
}

fn adjust_clock() -> Outcome {
    // ADJ_OFFSET_SINGLESHOT with no offset.
    let mut change = [0u64; 32];
    change[0] = 0x8001;
    refused(call(libc::SYS_adjtimex, &[change.as_mut_ptr() as usize]))
}

fn socket(family: usize, kind: usize, protocol: usize) -> io::Result<i64> {
    call(libc::SYS_socket, &[family, kind, protocol])
}

/// Takes loopback down, in a child, and up again.
fn network_links() -> Outcome {
    const SET_FLAGS: usize = 0x8914;
    let request = |flags: u16| {
        let mut request = [0u8; 40];
        request[..2].copy_from_slice(b"lo");
        request[16..18].copy_from_slice(&flags.to_ne_bytes());
        bytes(&request)
    };
    let socket = match socket(2, 2, 0) {
        Ok(socket) => socket as usize,
        Err(error) => return Outcome::Held(error.to_string()),
    };
    let tried = call(libc::SYS_ioctl, &[socket, SET_FLAGS, request(0)]);
    if tried.is_ok() {
        let _ = call(libc::SYS_ioctl, &[socket, SET_FLAGS, request(0x41)]);
    }
    refused(tried)
}

/// Asks for the rules of the packet filter: NFT_MSG_GETTABLE over netlink.
fn network_filter() -> Outcome {
    let tried = socket(16, 3, 12).and_then(|socket| {
        let mut message = Vec::new();
        message.extend(20u32.to_ne_bytes());
        message.extend((10u16 << 8 | 1).to_ne_bytes());
        message.extend(0x305u16.to_ne_bytes());
        message.extend([0; 12]);
        let length = message.len();
        call(libc::SYS_sendto, &[socket as usize, bytes(&message), length, 0, 0, 0])?;
        let mut answer = [0u8; 256];
        let read = call(libc::SYS_recvfrom, &[socket as usize, answer.as_mut_ptr() as usize, 256, 0, 0, 0])?;
        // An error message (type 2) carries the errno after its header.
        let error = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
        if read >= 20 && answer[4] == 2 && error != 0 {
            return Err(io::Error::from_raw_os_error(-error));
        }
        Ok(read)
    });
    refused(tried)
}

/// A call by a number that only the x32 architecture has.
fn foreign_call() -> Outcome {
    const X32: i64 = 0x4000_0000;
    refused(in_child(|| call(X32 + libc::SYS_getpid, &[]).map(drop)))
}
