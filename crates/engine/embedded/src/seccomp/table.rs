//! Which system calls a container may make: Docker's default profile, grouped by what they do.
//!
//! Nothing may be added here that Docker's default profile (moby `profiles/seccomp`) refuses.

use crate::capability::Capability;

/// Calls that the C library's crate does not name everywhere, from the kernel's `syscall.tbl`. From 424
/// on numbers are those of every architecture.
mod number {
    pub const CACHESTAT: i64 = 451;
    pub const FCHMODAT2: i64 = 452;
    pub const MAP_SHADOW_STACK: i64 = 453;
    pub const FUTEX_WAKE: i64 = 454;
    pub const FUTEX_WAIT: i64 = 455;
    pub const FUTEX_REQUEUE: i64 = 456;
    pub const STATMOUNT: i64 = 457;
    pub const LISTMOUNT: i64 = 458;
    pub const LSM_GET_SELF_ATTR: i64 = 459;
    pub const LSM_SET_SELF_ATTR: i64 = 460;
    pub const LSM_LIST_MODULES: i64 = 461;
    pub const MSEAL: i64 = 462;
    pub const SETXATTRAT: i64 = 463;
    pub const GETXATTRAT: i64 = 464;
    pub const LISTXATTRAT: i64 = 465;
    pub const REMOVEXATTRAT: i64 = 466;
    pub const QUOTACTL_FD: i64 = 443;
    pub const SET_MEMPOLICY_HOME_NODE: i64 = 450;
    #[cfg(target_arch = "x86_64")]
    pub const IO_PGETEVENTS: i64 = 333;
    #[cfg(not(target_arch = "x86_64"))]
    pub const IO_PGETEVENTS: i64 = 292;
    #[cfg(target_arch = "x86_64")]
    pub const LOOKUP_DCOOKIE: i64 = 212;
    #[cfg(not(target_arch = "x86_64"))]
    pub const LOOKUP_DCOOKIE: i64 = 18;
    #[cfg(target_arch = "x86_64")]
    pub const URETPROBE: i64 = 335;
}

/// System calls for one reason.
pub struct Group {
    /// Why they are allowed: for who reads the table, and the tests.
    #[cfg_attr(not(test), allow(dead_code, reason = "documentation that a test checks"))]
    pub reason: &'static str,
    pub calls: &'static [i64],
}

/// Allowed to everyone, with any arguments.
pub const ALWAYS: &[Group] = &[
    Group {
        reason: "read, write and wait on descriptors that the process holds",
        calls: &[
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_readv,
            libc::SYS_writev,
            libc::SYS_pread64,
            libc::SYS_pwrite64,
            libc::SYS_preadv,
            libc::SYS_pwritev,
            libc::SYS_preadv2,
            libc::SYS_pwritev2,
            libc::SYS_lseek,
            libc::SYS_close,
            libc::SYS_close_range,
            libc::SYS_dup,
            libc::SYS_dup3,
            libc::SYS_fcntl,
            libc::SYS_flock,
            libc::SYS_ioctl,
            libc::SYS_pipe2,
            libc::SYS_eventfd2,
            libc::SYS_signalfd4,
            libc::SYS_epoll_create1,
            libc::SYS_epoll_ctl,
            libc::SYS_epoll_pwait,
            libc::SYS_epoll_pwait2,
            libc::SYS_ppoll,
            libc::SYS_pselect6,
            libc::SYS_sendfile,
            libc::SYS_splice,
            libc::SYS_tee,
            libc::SYS_vmsplice,
            libc::SYS_copy_file_range,
            libc::SYS_readahead,
            libc::SYS_sync,
            libc::SYS_syncfs,
            libc::SYS_fsync,
            libc::SYS_fdatasync,
            libc::SYS_sync_file_range,
            libc::SYS_fallocate,
            libc::SYS_fadvise64,
            libc::SYS_io_setup,
            libc::SYS_io_destroy,
            libc::SYS_io_submit,
            libc::SYS_io_cancel,
            libc::SYS_io_getevents,
        ],
    },
    Group {
        reason: "files by name, under the permissions of the file system",
        calls: &[
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_name_to_handle_at,
            libc::SYS_newfstatat,
            libc::SYS_fstat,
            libc::SYS_statx,
            libc::SYS_statfs,
            libc::SYS_fstatfs,
            libc::SYS_faccessat,
            libc::SYS_faccessat2,
            libc::SYS_fchmod,
            libc::SYS_fchmodat,
            libc::SYS_fchown,
            libc::SYS_fchownat,
            libc::SYS_ftruncate,
            libc::SYS_truncate,
            libc::SYS_getdents64,
            libc::SYS_getcwd,
            libc::SYS_chdir,
            libc::SYS_fchdir,
            libc::SYS_linkat,
            libc::SYS_symlinkat,
            libc::SYS_readlinkat,
            libc::SYS_unlinkat,
            libc::SYS_renameat2,
            libc::SYS_mkdirat,
            libc::SYS_mknodat,
            libc::SYS_utimensat,
            libc::SYS_umask,
            libc::SYS_getxattr,
            libc::SYS_lgetxattr,
            libc::SYS_fgetxattr,
            libc::SYS_setxattr,
            libc::SYS_lsetxattr,
            libc::SYS_fsetxattr,
            libc::SYS_listxattr,
            libc::SYS_llistxattr,
            libc::SYS_flistxattr,
            libc::SYS_removexattr,
            libc::SYS_lremovexattr,
            libc::SYS_fremovexattr,
            libc::SYS_inotify_init1,
            libc::SYS_inotify_add_watch,
            libc::SYS_inotify_rm_watch,
            libc::SYS_fanotify_mark,
        ],
    },
    Group {
        reason: "memory of the process itself",
        calls: &[
            libc::SYS_brk,
            libc::SYS_mmap,
            libc::SYS_munmap,
            libc::SYS_mremap,
            libc::SYS_mprotect,
            libc::SYS_madvise,
            libc::SYS_mincore,
            libc::SYS_msync,
            libc::SYS_mlock,
            libc::SYS_mlock2,
            libc::SYS_mlockall,
            libc::SYS_munlock,
            libc::SYS_munlockall,
            libc::SYS_remap_file_pages,
            libc::SYS_memfd_create,
            libc::SYS_memfd_secret,
            libc::SYS_membarrier,
            libc::SYS_pkey_alloc,
            libc::SYS_pkey_free,
            libc::SYS_pkey_mprotect,
        ],
    },
    Group {
        reason: "processes, threads and their scheduling, within the pid namespace",
        calls: &[
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_exit,
            libc::SYS_exit_group,
            libc::SYS_wait4,
            libc::SYS_waitid,
            libc::SYS_getpid,
            libc::SYS_getppid,
            libc::SYS_gettid,
            libc::SYS_getpgid,
            libc::SYS_setpgid,
            libc::SYS_getsid,
            libc::SYS_setsid,
            libc::SYS_set_tid_address,
            libc::SYS_set_robust_list,
            libc::SYS_get_robust_list,
            libc::SYS_futex,
            libc::SYS_futex_waitv,
            libc::SYS_rseq,
            libc::SYS_prctl,
            libc::SYS_getcpu,
            libc::SYS_getpriority,
            libc::SYS_setpriority,
            libc::SYS_ioprio_get,
            libc::SYS_ioprio_set,
            libc::SYS_sched_yield,
            libc::SYS_sched_getaffinity,
            libc::SYS_sched_setaffinity,
            libc::SYS_sched_getattr,
            libc::SYS_sched_setattr,
            libc::SYS_sched_getparam,
            libc::SYS_sched_setparam,
            libc::SYS_sched_getscheduler,
            libc::SYS_sched_setscheduler,
            libc::SYS_sched_get_priority_max,
            libc::SYS_sched_get_priority_min,
            libc::SYS_sched_rr_get_interval,
            libc::SYS_getrlimit,
            libc::SYS_setrlimit,
            libc::SYS_prlimit64,
            libc::SYS_getrusage,
            libc::SYS_times,
            libc::SYS_pidfd_open,
            libc::SYS_pidfd_send_signal,
            libc::SYS_process_mrelease,
            // Within what Yama and the capabilities allow; safe against seccomp since Linux 4.8.
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
        ],
    },
    Group {
        reason: "signals",
        calls: &[
            libc::SYS_kill,
            libc::SYS_tkill,
            libc::SYS_tgkill,
            libc::SYS_rt_sigaction,
            libc::SYS_rt_sigpending,
            libc::SYS_rt_sigprocmask,
            libc::SYS_rt_sigqueueinfo,
            libc::SYS_rt_sigreturn,
            libc::SYS_rt_sigsuspend,
            libc::SYS_rt_sigtimedwait,
            libc::SYS_rt_tgsigqueueinfo,
            libc::SYS_sigaltstack,
            libc::SYS_restart_syscall,
        ],
    },
    Group {
        reason: "identity, under the capabilities",
        calls: &[
            libc::SYS_getuid,
            libc::SYS_geteuid,
            libc::SYS_getgid,
            libc::SYS_getegid,
            libc::SYS_getresuid,
            libc::SYS_getresgid,
            libc::SYS_getgroups,
            libc::SYS_setuid,
            libc::SYS_setgid,
            libc::SYS_setreuid,
            libc::SYS_setregid,
            libc::SYS_setresuid,
            libc::SYS_setresgid,
            libc::SYS_setfsuid,
            libc::SYS_setfsgid,
            libc::SYS_setgroups,
            libc::SYS_capget,
            libc::SYS_capset,
            libc::SYS_seccomp,
            libc::SYS_landlock_create_ruleset,
            libc::SYS_landlock_add_rule,
            libc::SYS_landlock_restrict_self,
        ],
    },
    Group {
        reason: "time; setting it takes a capability that is not here",
        calls: &[
            libc::SYS_clock_gettime,
            libc::SYS_clock_getres,
            libc::SYS_clock_nanosleep,
            libc::SYS_clock_adjtime,
            libc::SYS_adjtimex,
            libc::SYS_gettimeofday,
            libc::SYS_nanosleep,
            libc::SYS_getitimer,
            libc::SYS_setitimer,
            libc::SYS_timer_create,
            libc::SYS_timer_delete,
            libc::SYS_timer_getoverrun,
            libc::SYS_timer_gettime,
            libc::SYS_timer_settime,
            libc::SYS_timerfd_create,
            libc::SYS_timerfd_gettime,
            libc::SYS_timerfd_settime,
        ],
    },
    Group {
        reason: "sockets; which families `socket` may open is decided by its argument",
        calls: &[
            libc::SYS_socketpair,
            libc::SYS_bind,
            libc::SYS_listen,
            libc::SYS_accept,
            libc::SYS_accept4,
            libc::SYS_connect,
            libc::SYS_getsockname,
            libc::SYS_getpeername,
            libc::SYS_getsockopt,
            libc::SYS_setsockopt,
            libc::SYS_sendto,
            libc::SYS_sendmsg,
            libc::SYS_sendmmsg,
            libc::SYS_recvfrom,
            libc::SYS_recvmsg,
            libc::SYS_recvmmsg,
            libc::SYS_shutdown,
        ],
    },
    Group {
        reason: "System V and POSIX message passing, within the ipc namespace",
        calls: &[
            libc::SYS_shmget,
            libc::SYS_shmat,
            libc::SYS_shmdt,
            libc::SYS_shmctl,
            libc::SYS_semget,
            libc::SYS_semop,
            libc::SYS_semtimedop,
            libc::SYS_semctl,
            libc::SYS_msgget,
            libc::SYS_msgsnd,
            libc::SYS_msgrcv,
            libc::SYS_msgctl,
            libc::SYS_mq_open,
            libc::SYS_mq_unlink,
            libc::SYS_mq_timedsend,
            libc::SYS_mq_timedreceive,
            libc::SYS_mq_notify,
            libc::SYS_mq_getsetattr,
        ],
    },
    Group {
        reason: "newer forms of the above (moby/moby#47341, #50077)",
        calls: &[
            number::CACHESTAT,
            number::FCHMODAT2,
            number::MAP_SHADOW_STACK,
            number::FUTEX_WAKE,
            number::FUTEX_WAIT,
            number::FUTEX_REQUEUE,
            number::STATMOUNT,
            number::LISTMOUNT,
            number::MSEAL,
            number::SETXATTRAT,
            number::GETXATTRAT,
            number::LISTXATTRAT,
            number::REMOVEXATTRAT,
            number::IO_PGETEVENTS,
        ],
    },
    Group {
        reason: "questions to the kernel",
        calls: &[libc::SYS_uname, libc::SYS_sysinfo, libc::SYS_getrandom],
    },
];

/// The old forms of the above, which only x86-64 has.
#[cfg(target_arch = "x86_64")]
pub const ARCHITECTURE: Group = Group {
    reason: "older forms of the same calls, and the processor's own",
    calls: &[
        libc::SYS_access,
        libc::SYS_alarm,
        libc::SYS_arch_prctl,
        libc::SYS_chmod,
        libc::SYS_chown,
        libc::SYS_creat,
        libc::SYS_dup2,
        libc::SYS_epoll_create,
        libc::SYS_epoll_ctl_old,
        libc::SYS_epoll_wait,
        libc::SYS_epoll_wait_old,
        libc::SYS_eventfd,
        libc::SYS_fork,
        libc::SYS_futimesat,
        libc::SYS_get_thread_area,
        libc::SYS_getdents,
        libc::SYS_getpgrp,
        libc::SYS_inotify_init,
        libc::SYS_lchown,
        libc::SYS_link,
        libc::SYS_lstat,
        libc::SYS_mkdir,
        libc::SYS_mknod,
        libc::SYS_modify_ldt,
        libc::SYS_open,
        libc::SYS_pause,
        libc::SYS_pipe,
        libc::SYS_poll,
        libc::SYS_readlink,
        libc::SYS_rename,
        libc::SYS_renameat,
        libc::SYS_rmdir,
        libc::SYS_select,
        libc::SYS_set_thread_area,
        libc::SYS_signalfd,
        libc::SYS_stat,
        libc::SYS_symlink,
        libc::SYS_time,
        libc::SYS_unlink,
        libc::SYS_utime,
        libc::SYS_utimes,
        libc::SYS_vfork,
        // What the kernel itself calls when a return is traced.
        number::URETPROBE,
    ],
};

#[cfg(not(target_arch = "x86_64"))]
pub const ARCHITECTURE: Group =
    Group { reason: "older forms of the same calls", calls: &[libc::SYS_renameat] };

/// Allowed to who has the capability.
pub const BY_CAPABILITY: &[(Capability, &[i64])] = &[
    (Capability::DAC_READ_SEARCH, &[libc::SYS_open_by_handle_at]),
    (
        Capability::SYS_ADMIN,
        &[
            libc::SYS_bpf,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_fanotify_init,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fsopen,
            libc::SYS_fspick,
            libc::SYS_mount,
            libc::SYS_mount_setattr,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_perf_event_open,
            libc::SYS_quotactl,
            number::QUOTACTL_FD,
            number::LOOKUP_DCOOKIE,
            number::LSM_GET_SELF_ATTR,
            number::LSM_SET_SELF_ATTR,
            number::LSM_LIST_MODULES,
            libc::SYS_setdomainname,
            libc::SYS_sethostname,
            libc::SYS_setns,
            libc::SYS_syslog,
            libc::SYS_umount2,
            libc::SYS_unshare,
        ],
    ),
    (Capability::SYS_BOOT, &[libc::SYS_reboot]),
    (Capability::SYS_CHROOT, &[libc::SYS_chroot]),
    (Capability::SYS_MODULE, &[libc::SYS_delete_module, libc::SYS_init_module, libc::SYS_finit_module]),
    (Capability::SYS_PACCT, &[libc::SYS_acct]),
    (Capability::SYS_PTRACE, &[libc::SYS_kcmp, libc::SYS_pidfd_getfd, libc::SYS_process_madvise]),
    #[cfg(target_arch = "x86_64")]
    (Capability::SYS_RAWIO, &[libc::SYS_iopl, libc::SYS_ioperm]),
    (Capability::SYS_TIME, &[libc::SYS_settimeofday, libc::SYS_clock_settime]),
    (Capability::SYS_TTY_CONFIG, &[libc::SYS_vhangup]),
    (
        Capability::SYS_NICE,
        &[libc::SYS_get_mempolicy, libc::SYS_mbind, libc::SYS_set_mempolicy, number::SET_MEMPOLICY_HOME_NODE],
    ),
    (Capability::SYSLOG, &[libc::SYS_syslog]),
    (Capability::BPF, &[libc::SYS_bpf]),
    (Capability::PERFMON, &[libc::SYS_perf_event_open]),
];

/// `personality` may set these alone: Linux, 32-bit address space, no address randomization for
/// neither and either, and the question (`0xffffffff`).
pub const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// What `clone` must not ask for without `CAP_SYS_ADMIN`: a new namespace of any kind.
pub const CLONE_NAMESPACES: u64 = 0x7e02_0000;
