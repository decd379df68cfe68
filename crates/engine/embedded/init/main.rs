//! The init of containers that ask for one, and of sandboxes whose containers see each other.
//!
//! Process 1 of a pid namespace. Its argument is the process that it watches over: every signal but
//! SIGCHLD goes on to it, what is orphaned is reaped, and when it ends init ends with its exit code
//! (128 and the signal's number if a signal killed it). With `0` it reaps for ever.
//!
//! It is executed from a sealed memfd, after the engine has given up every privilege: no library, no
//! allocation, no file is opened. All signals are blocked when it starts.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(125)
}

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "mov rdi, rsp", "and rsp, -16", "call {main}", "ud2", main = sym main);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x0, sp", "and sp, x0, #-16", "bl {main}", "brk #1", main = sym main);

#[cfg(target_arch = "x86_64")]
mod number {
    pub const EXIT: usize = 231;
    pub const KILL: usize = 62;
    pub const PRCTL: usize = 157;
    pub const SIGTIMEDWAIT: usize = 128;
    pub const WAIT4: usize = 61;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub const EXIT: usize = 94;
    pub const KILL: usize = 129;
    pub const PRCTL: usize = 167;
    pub const SIGTIMEDWAIT: usize = 137;
    pub const WAIT4: usize = 260;
}

fn call(number: usize, args: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: every caller passes what the kernel's call takes.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("syscall", inlateout("rax") number => result, in("rdi") args[0], in("rsi") args[1],
            in("rdx") args[2], in("r10") args[3], lateout("rcx") _, lateout("r11") _);
        #[cfg(target_arch = "aarch64")]
        asm!("svc #0", in("x8") number, inlateout("x0") args[0] => result, in("x1") args[1],
            in("x2") args[2], in("x3") args[3]);
    }
    result
}

fn exit(code: usize) -> ! {
    loop {
        call(number::EXIT, [code, 0, 0, 0]);
    }
}

const CHILD: isize = 17;
const NO_HANG: usize = 1;
const SET_DUMPABLE: usize = 4;
const SET_NAME: usize = 15;
const SET_CHILD_SUBREAPER: usize = 36;

/// The first argument as a number.
fn watched(stack: *const usize) -> isize {
    let mut number = 0;
    // SAFETY: at the start of a program the stack holds the number of arguments, then their addresses;
    // each ends with a zero byte.
    unsafe {
        if *stack < 2 {
            return 0;
        }
        let mut at = *stack.add(2) as *const u8;
        while (*at).is_ascii_digit() {
            number = number * 10 + (*at - b'0') as isize;
            at = at.add(1);
        }
    }
    number
}

extern "C" fn main(stack: *const usize) -> ! {
    let child = watched(stack);
    call(number::PRCTL, [SET_NAME, b"wharf-init\0".as_ptr() as usize, 0, 0]);
    // Where it is not process 1, its container's orphans still are its own.
    call(number::PRCTL, [SET_CHILD_SUBREAPER, 1, 0, 0]);
    if child == 0 {
        // The sandbox's, which belongs to no container: none may trace it, or read what it has.
        call(number::PRCTL, [SET_DUMPABLE, 0, 0, 0]);
    }
    let all = u64::MAX;
    loop {
        reap(child);
        let signal = call(number::SIGTIMEDWAIT, [&raw const all as usize, 0, 0, 8]);
        if signal > 0 && signal != CHILD && child > 0 {
            call(number::KILL, [child as usize, signal as usize, 0, 0]);
        }
    }
}

/// Reaps all that has ended, and ends with the child.
fn reap(child: isize) {
    loop {
        let mut status: i32 = 0;
        let ended = call(number::WAIT4, [usize::MAX, &raw mut status as usize, NO_HANG, 0]);
        if ended <= 0 {
            return;
        }
        if ended == child && child > 0 {
            let signal = status & 0x7f;
            exit(if signal == 0 { (status >> 8) as usize & 0xff } else { 128 + signal as usize });
        }
    }
}
