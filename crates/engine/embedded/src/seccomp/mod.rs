//! The system call filter of a container: Docker's default profile.
//!
//! What is not allowed fails with `EPERM`; a call that is newer than this code fails with `ENOSYS`,
//! so that libraries fall back, as libseccomp does. `clone3` hides its flags from filters and is
//! `ENOSYS` too. Programs of another architecture (32-bit) are killed: Docker runs them, we allow less.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use crate::capability::CapabilitySet;

const ADDRESS_FAMILY_VSOCK: u64 = 40;

/// Filters, compiled once for each set of capabilities.
#[derive(Default)]
pub struct Filters {
    compiled: Mutex<BTreeMap<u64, Arc<BpfProgram>>>,
}

/// Sets of capabilities are few; a caller that draws them at random must not fill the memory.
const FILTERS_CACHED_MAX: usize = 64;

impl Filters {
    /// # Errors
    /// The filter compiler's words.
    pub fn get(&self, capabilities: CapabilitySet) -> Result<Arc<BpfProgram>, String> {
        let mut compiled = self.compiled.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(program) = compiled.get(&capabilities.bits()) {
            return Ok(program.clone());
        }
        let program = Arc::new(compile(capabilities)?);
        if compiled.len() >= FILTERS_CACHED_MAX {
            compiled.clear();
        }
        compiled.insert(capabilities.bits(), program.clone());
        Ok(program)
    }
}

/// The whole program: architecture, calls that do not exist, calls that are allowed with any
/// arguments, and the compiler's own for those whose arguments decide.
///
/// The allow-list is written as ranges of numbers, for size: a rule for each call makes 1,500
/// instructions, which the kernel translates and walks through for each start of a container.
fn compile(capabilities: CapabilitySet) -> Result<BpfProgram, String> {
    let allowed = allowed(capabilities);
    let conditional = conditional(&allowed).map_err(|error| error.to_string())?;
    let newest =
        allowed.iter().chain(conditional.keys()).copied().max().unwrap_or_default().max(libc::SYS_clone3);
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let filter = SeccompFilter::new(
        conditional,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        SeccompAction::Allow,
        arch,
    )
    .map_err(|error| error.to_string())?;
    let body: BpfProgram = filter.try_into().map_err(|error: seccompiler::BackendError| error.to_string())?;

    let mut program = prologue(newest, &allowed, arch);
    program.extend(body);
    Ok(program)
}

/// What comes before the compiled rules.
fn prologue(newest: i64, allowed: &BTreeSet<i64>, arch: TargetArch) -> BpfProgram {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_GREATER: u16 = 0x25;
    const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
    const RETURN: u16 = 0x06;
    // Where `struct seccomp_data` has the call's number and the architecture.
    const NUMBER: u32 = 0;
    const ARCHITECTURE: u32 = 4;
    const KILL_PROCESS: u32 = 0x8000_0000;
    const ALLOW: u32 = 0x7fff_0000;
    const RETURN_ERRNO: u32 = 0x0005_0000;
    let architecture = match arch {
        TargetArch::x86_64 => 0xc000_003e,
        TargetArch::aarch64 => 0xc000_00b7,
        TargetArch::riscv64 => 0xc000_00f3,
    };
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let number = |call: i64| u32::try_from(call).unwrap_or(u32::MAX);
    let no_such_call = RETURN_ERRNO | libc::ENOSYS.unsigned_abs();

    let mut program = vec![
        // First of all: another architecture has other numbers.
        instruction(LOAD_WORD, 0, 0, ARCHITECTURE),
        instruction(JUMP_EQUAL, 1, 0, architecture),
        instruction(RETURN, 0, 0, KILL_PROCESS),
        instruction(LOAD_WORD, 0, 0, NUMBER),
        instruction(JUMP_GREATER, 0, 1, number(newest)),
        instruction(RETURN, 0, 0, no_such_call),
    ];
    if !allowed.contains(&libc::SYS_clone3) {
        program.push(instruction(JUMP_EQUAL, 0, 1, number(libc::SYS_clone3)));
        program.push(instruction(RETURN, 0, 0, no_such_call));
    }
    for (first, last) in ranges(allowed) {
        program.push(instruction(JUMP_GREATER, 2, 0, number(last)));
        program.push(instruction(JUMP_GREATER_OR_EQUAL, 0, 1, number(first)));
        program.push(instruction(RETURN, 0, 0, ALLOW));
    }
    program
}

/// The runs of neighbouring numbers, in order, both ends included.
fn ranges(calls: &BTreeSet<i64>) -> Vec<(i64, i64)> {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for &call in calls {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == call => *last = call,
            _ => ranges.push((call, call)),
        }
    }
    ranges
}

/// The calls that are allowed with any arguments.
fn allowed(capabilities: CapabilitySet) -> BTreeSet<i64> {
    let always = table::ALWAYS.iter().chain([&table::ARCHITECTURE]).flat_map(|group| group.calls);
    let by_capability = table::BY_CAPABILITY
        .iter()
        .filter(|(capability, _)| capabilities.has(*capability))
        .flat_map(|(_, calls)| *calls);
    always.chain(by_capability).copied().collect()
}

/// The calls whose arguments decide, where they are not allowed with any.
fn conditional(
    allowed: &BTreeSet<i64>,
) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let rule =
        |length, operator, value| SeccompRule::new(vec![SeccompCondition::new(0, length, operator, value)?]);
    let socket = rule(SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, ADDRESS_FAMILY_VSOCK)?;
    let personalities = table::PERSONALITIES
        .iter()
        .map(|&value| rule(SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value))
        .collect::<Result<Vec<_>, _>>()?;
    let no_namespaces = rule(SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(table::CLONE_NAMESPACES), 0)?;
    let mut rules = BTreeMap::from([
        (libc::SYS_socket, vec![socket]),
        (libc::SYS_personality, personalities),
        (libc::SYS_clone, vec![no_namespaces]),
    ]);
    rules.retain(|call, _| !allowed.contains(call));
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Capability;

    #[derive(Debug, PartialEq)]
    enum Verdict {
        Allow,
        Errno(i32),
        Kill,
    }

    /// Runs a classic BPF program as the kernel would, for the instructions that filters use.
    fn judge(program: &BpfProgram, call: i64, args: [u64; 6]) -> Verdict {
        let arch: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
        judge_on(arch, program, call, args)
    }

    fn judge_on(arch: u32, program: &BpfProgram, call: i64, args: [u64; 6]) -> Verdict {
        let mut data = Vec::new();
        data.extend((call as u32).to_le_bytes());
        data.extend(arch.to_le_bytes());
        data.extend(0u64.to_le_bytes());
        args.iter().for_each(|arg| data.extend(arg.to_le_bytes()));
        let (mut at, mut accumulator) = (0usize, 0u32);
        loop {
            let instruction = &program[at];
            at += 1;
            let jump = |taken: bool| usize::from(if taken { instruction.jt } else { instruction.jf });
            match instruction.code {
                0x20 => {
                    let offset = instruction.k as usize;
                    accumulator = u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap());
                }
                0x05 => at += instruction.k as usize,
                0x15 => at += jump(accumulator == instruction.k),
                0x25 => at += jump(accumulator > instruction.k),
                0x35 => at += jump(accumulator >= instruction.k),
                0x54 => accumulator &= instruction.k,
                0x06 => {
                    return match instruction.k >> 16 {
                        0x7fff => Verdict::Allow,
                        0x0005 => Verdict::Errno((instruction.k & 0xffff) as i32),
                        _ => Verdict::Kill,
                    };
                }
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn default_verdict(call: i64, first: u64) -> Verdict {
        judge(&compile(CapabilitySet::docker_default()).unwrap(), call, [first, 0, 0, 0, 0, 0])
    }

    #[test]
    fn what_a_program_needs_is_allowed_and_what_reaches_the_host_is_not() {
        for call in [libc::SYS_read, libc::SYS_execve, libc::SYS_chroot, libc::SYS_exit_group] {
            assert_eq!(default_verdict(call, 0), Verdict::Allow, "{call}");
        }
        for call in [
            libc::SYS_mount,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_kexec_load,
            libc::SYS_init_module,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_open_by_handle_at,
            libc::SYS_perf_event_open,
            libc::SYS_reboot,
            libc::SYS_settimeofday,
        ] {
            assert_eq!(default_verdict(call, 0), Verdict::Errno(libc::EPERM), "{call}");
        }
    }

    #[test]
    fn arguments_decide_where_the_profile_says_so() {
        let thread = (libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND) as u64;
        assert_eq!(default_verdict(libc::SYS_clone, thread), Verdict::Allow);
        for namespace in [
            libc::CLONE_NEWNS,
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWNET,
            libc::CLONE_NEWPID,
            libc::CLONE_NEWUTS,
            libc::CLONE_NEWIPC,
            libc::CLONE_NEWCGROUP,
        ] {
            assert_eq!(default_verdict(libc::SYS_clone, namespace as u64), Verdict::Errno(libc::EPERM));
        }
        assert_eq!(default_verdict(libc::SYS_socket, libc::AF_INET as u64), Verdict::Allow);
        assert_eq!(default_verdict(libc::SYS_socket, ADDRESS_FAMILY_VSOCK), Verdict::Errno(libc::EPERM));
        assert_eq!(default_verdict(libc::SYS_personality, 0x2_0008), Verdict::Allow);
        assert_eq!(default_verdict(libc::SYS_personality, 0x40_0000), Verdict::Errno(libc::EPERM));
    }

    #[test]
    fn unknown_calls_and_clone3_do_not_exist() {
        assert_eq!(default_verdict(libc::SYS_clone3, 0), Verdict::Errno(libc::ENOSYS));
        assert_eq!(default_verdict(5_000, 0), Verdict::Errno(libc::ENOSYS));
        // The x32 forms of calls that are allowed.
        assert_eq!(default_verdict(0x4000_0000, 0), Verdict::Errno(libc::ENOSYS));
    }

    #[test]
    fn a_capability_opens_its_calls_and_no_others() {
        let admin = CapabilitySet::docker_default().with(Capability::SYS_ADMIN);
        let program = compile(admin).unwrap();
        for call in [libc::SYS_mount, libc::SYS_clone3, libc::SYS_unshare] {
            assert_eq!(judge(&program, call, [0; 6]), Verdict::Allow);
        }
        assert_eq!(
            judge(&program, libc::SYS_clone, [libc::CLONE_NEWNS as u64, 0, 0, 0, 0, 0]),
            Verdict::Allow
        );
        assert_eq!(judge(&program, libc::SYS_reboot, [0; 6]), Verdict::Errno(libc::EPERM));
        let bare = compile(CapabilitySet::EMPTY).unwrap();
        assert_eq!(judge(&bare, libc::SYS_chroot, [0; 6]), Verdict::Errno(libc::EPERM));
    }

    #[test]
    fn the_program_says_what_the_table_says_for_every_number() {
        for set in [CapabilitySet::EMPTY, CapabilitySet::docker_default(), CapabilitySet::all()] {
            let program = compile(set).unwrap();
            let allowed = allowed(set);
            assert!(program.len() < 250, "{} instructions", program.len());
            for call in (0..600)
                .filter(|call| ![libc::SYS_socket, libc::SYS_personality, libc::SYS_clone].contains(call))
            {
                let verdict = judge(&program, call, [0; 6]);
                assert_eq!(verdict == Verdict::Allow, allowed.contains(&call), "{call}: {verdict:?}");
            }
        }
    }

    #[test]
    fn a_program_of_another_architecture_is_killed() {
        // `read` of x86-64 has the number of `restart_syscall` on i386.
        let program = compile(CapabilitySet::docker_default()).unwrap();
        assert_eq!(judge_on(0x4000_0003, &program, 0, [0; 6]), Verdict::Kill);
    }

    #[test]
    fn no_call_stands_in_the_table_twice() {
        let mut calls: Vec<_> =
            table::ALWAYS.iter().chain([&table::ARCHITECTURE]).flat_map(|group| group.calls).collect();
        let before = calls.len();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!(before, calls.len());
        assert!(table::ALWAYS.iter().all(|group| !group.reason.is_empty()));
    }
}
