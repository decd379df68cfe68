//! The container engine: namespaces, cgroups, overlayfs, seccomp.
//!
//! This crate turns a [`SandboxSpec`](wharf_engine::SandboxSpec) and a
//! [`ContainerSpec`](wharf_engine::ContainerSpec) into a running process, and takes everything away
//! again. It keeps no state but what the kernel and the file system hold, parents no process, reads
//! no output and knows no time: that is the keeper's.
//!
//! ```text
//! keeper ── spawner::fork ──▶ spawner (one thread, few mounts, sits in the shared cgroups)
//!    │  Request over SEQPACKET     │ Host::create_sandbox, spawn, Host::clean_container, …
//!    │                             │ plan: everything is checked and opened before clone3
//!    │                             ├─ clone3(NEWNS|NEWPID|NEWIPC|NEWUTS, CLONE_PARENT, INTO_CGROUP)
//!    │                             │     └─ container::run: join cgroups, netns, overlay, pivot_root,
//!    ◀── Started{pid} + pidfd ─────┘        mounts, user, rlimits, capabilities, seccomp, execve
//!    └─ parent of the container: waits by pidfd
//! ```
//!
//! Invariants:
//! - [`spawner::Reply::Started`] means that `execve` succeeded; any failure before comes back as the
//!   step that failed.
//! - A path inside an image is opened with `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)` alone,
//!   and after the host's root is gone.
//! - No descriptor but 0, 1 and 2 survives `execve`.
//! - What one instance makes it can find and remove: below its `sandboxes_dir`, and cgroups named
//!   after it.
//!
//! On a pure v2 host devices are not controlled by a BPF program: containers there have no
//! `CAP_MKNOD`, and their root and volumes are mounted `nodev`.

pub mod capability;
pub mod cgroup;
mod cleaner;
mod container;
pub mod copy;
mod credentials;
mod devices;
mod etc;
pub mod exec;
pub mod faults;
mod host;
mod in_root;
mod init;
mod kits;
mod netns;
mod plan;
mod rlimit;
mod rootfs;
pub mod sealed;
mod seccomp;
mod shared;
mod spawn;
pub mod spawner;
pub mod stats;
mod storage;
mod sys;
mod sysctl;
pub mod terminal;
pub mod user;
mod users;
pub mod volume;

pub use host::{Host, HostConfig, HostError};
pub use spawn::{Parent, SpawnFailure, Spawned, Stdio, spawn};
