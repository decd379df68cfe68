//! What is asked of an engine.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::health::HealthCheck;
use crate::isolation::{Device, Init, IpcMode, PidMode, Privileges, Sysctl, Users};
use crate::log::LogPolicy;
use crate::restart::RestartPolicy;
use crate::session::{Stdin, TerminalSize};
use crate::volume::Mount;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(String);

        impl $name {
            /// `None` unless the text is 1 to 128 letters, digits, `-`, `_` or `.`, and does not
            /// start with `.`: an id names directories and cgroups.
            pub fn new(text: impl Into<String>) -> Option<Self> {
                let text = text.into();
                let well_formed = (1..=128).contains(&text.len())
                    && !text.starts_with('.')
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
                well_formed.then_some(Self(text))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// Unique in an engine; chosen by the caller.
    SandboxId
);
text_id!(
    /// Unique in an engine, over all sandboxes; chosen by the caller.
    ContainerId
);

text_id!(
    /// Of a volume: unique in its sandbox, or in the engine.
    VolumeName
);

/// A signal's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Signal(pub i32);

impl Signal {
    pub const KILL: Self = Self(9);
    pub const TERM: Self = Self(15);

    /// From `SIGTERM`, `TERM` or `15` (1 to 64), as an image's `STOPSIGNAL` may say.
    pub fn parse(text: &str) -> Option<Self> {
        const NAMES: [(&str, i32); 31] = [
            ("HUP", 1),
            ("INT", 2),
            ("QUIT", 3),
            ("ILL", 4),
            ("TRAP", 5),
            ("ABRT", 6),
            ("BUS", 7),
            ("FPE", 8),
            ("KILL", 9),
            ("USR1", 10),
            ("SEGV", 11),
            ("USR2", 12),
            ("PIPE", 13),
            ("ALRM", 14),
            ("TERM", 15),
            ("STKFLT", 16),
            ("CHLD", 17),
            ("CONT", 18),
            ("STOP", 19),
            ("TSTP", 20),
            ("TTIN", 21),
            ("TTOU", 22),
            ("URG", 23),
            ("XCPU", 24),
            ("XFSZ", 25),
            ("VTALRM", 26),
            ("PROF", 27),
            ("WINCH", 28),
            ("IO", 29),
            ("PWR", 30),
            ("SYS", 31),
        ];
        if let Ok(number) = text.parse::<i32>() {
            return (1..=64).contains(&number).then_some(Self(number));
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(offset) = name.strip_prefix("RTMIN+") {
            return offset.parse().ok().filter(|n| (0..=30).contains(n)).map(|n: i32| Self(34 + n));
        }
        NAMES.iter().find(|(known, _)| *known == name).map(|&(_, number)| Self(number))
    }
}

/// The kernel's bound on a host name, uname(2).
const HOSTNAME_BYTES_MAX: usize = 64;

/// What a sandbox is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SandboxSpec {
    pub id: SandboxId,
    /// The host name its containers see, at most 64 bytes.
    pub hostname: String,
    /// A bind mount of the network namespace to join. `None`: a new one with loopback only.
    pub netns: Option<PathBuf>,
    pub resources: SandboxResources,
    /// For `/etc/resolv.conf`.
    pub name_servers: Vec<IpAddr>,
    pub search_domains: Vec<String>,
    /// Lines of `/etc/hosts` beside those of localhost.
    pub hosts: Vec<HostEntry>,
    /// Directories that its containers share, empty at first; they go with the sandbox.
    #[serde(default)]
    pub volumes: Vec<VolumeName>,
    /// What its containers' writable layers and [`SandboxSpec::volumes`] may take on disk together.
    /// `None`: no limit. See [`crate::ExitStatus::storage_exceeded`] for what happens above it.
    #[serde(default)]
    pub ephemeral_storage_bytes: Option<u64>,
    #[serde(default)]
    pub users: Users,
    #[serde(default)]
    pub pid: PidMode,
    #[serde(default)]
    pub ipc: IpcMode,
    #[serde(default)]
    pub sysctls: Vec<Sysctl>,
    /// Free for the caller; comes back in [`crate::SandboxStatus`].
    pub labels: Vec<(String, String)>,
}

impl SandboxSpec {
    /// With defaults for all else: the id (cut at 64 bytes) as host name, loopback only, no limits.
    pub fn new(id: SandboxId) -> Self {
        let hostname = id.as_str().chars().take(HOSTNAME_BYTES_MAX).collect();
        Self {
            id,
            hostname,
            netns: None,
            resources: SandboxResources::default(),
            name_servers: Vec::new(),
            search_domains: Vec::new(),
            hosts: Vec::new(),
            volumes: Vec::new(),
            ephemeral_storage_bytes: None,
            users: Users::Host,
            pid: PidMode::Container,
            ipc: IpcMode::Container,
            sysctls: Vec::new(),
            labels: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    pub address: IpAddr,
    pub names: Vec<String>,
}

/// Limits on all containers of a sandbox together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SandboxResources {
    /// In thousandths of a CPU: a hard limit. `None`: the host's.
    pub cpu_millis: Option<u32>,
    /// A hard limit; swap is off.
    pub memory_bytes: Option<u64>,
    pub pids_max: Option<u32>,
}

/// Limits on one container, below its sandbox's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Relative weight, 2 to 262,144, 1,024 for one CPU (cgroup v1 `cpu.shares`).
    pub cpu_shares: Option<u32>,
    /// In thousandths of a CPU: a hard limit.
    #[serde(default)]
    pub cpu_millis: Option<u32>,
    /// A hard limit.
    pub memory_bytes: Option<u64>,
    /// What is kept under pressure (v1 `memory.soft_limit_in_bytes`, v2 `memory.low`).
    pub memory_reservation_bytes: Option<u64>,
    /// Swap beside `memory_bytes`; none by default. Without `memory_bytes` it is refused.
    #[serde(default)]
    pub swap_bytes: Option<u64>,
    pub pids_max: Option<u32>,
    #[serde(default)]
    pub block_io: BlockIo,
}

/// Block I/O of one container. Refused by name where the host's kernel or devices lack it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockIo {
    /// Relative weight, 10 to 1,000 (as Docker's `--blkio-weight`). Takes the BFQ scheduler.
    pub weight: Option<u16>,
    pub limits: Vec<BlockLimit>,
}

/// Hard limits on one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockLimit {
    /// A block device of the host, as `/dev/vda`: a whole one, no partition.
    pub device: PathBuf,
    pub read_bytes_per_second: Option<u64>,
    pub write_bytes_per_second: Option<u64>,
    pub reads_per_second: Option<u64>,
    pub writes_per_second: Option<u64>,
}

/// What a container is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub id: ContainerId,
    /// Unpacked layers, the topmost first; never written to.
    pub layers: Vec<PathBuf>,
    pub readonly_root: bool,
    pub process: ProcessSpec,
    pub resources: Resources,
    pub mounts: Vec<Mount>,
    pub tmpfs: Vec<Tmpfs>,
    /// Size of `/dev/shm`. `None`: 64 MiB.
    pub shm_bytes: Option<u64>,
    #[serde(default)]
    pub health: Option<HealthCheck>,
    /// `None`: never started again.
    #[serde(default)]
    pub restart: Option<RestartPolicy>,
    #[serde(default)]
    pub log: LogPolicy,
    /// `Some`: its standard streams are a terminal of this size, and its output is all
    /// [`crate::log::Stream::Stdout`].
    #[serde(default)]
    pub terminal: Option<TerminalSize>,
    #[serde(default)]
    pub stdin: Stdin,
    #[serde(default)]
    pub writable_layer: WritableLayer,
    #[serde(default)]
    pub init: Init,
    #[serde(default)]
    pub devices: Vec<Device>,
    #[serde(default)]
    pub privileges: Privileges,
    pub labels: Vec<(String, String)>,
}

/// What the container writes to its root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WritableLayer {
    /// Gone with the container's end.
    #[default]
    Own,
    /// Kept under this name until its sandbox is removed; a later container of the sandbox that
    /// names it goes on with it. One at a time.
    Kept(ContainerId),
}

impl ContainerSpec {
    /// With defaults for all else: no layers, a writable root, no limits, Docker's capabilities.
    pub fn new(id: ContainerId, args: Vec<String>) -> Self {
        Self {
            id,
            layers: Vec::new(),
            readonly_root: false,
            process: ProcessSpec::new(args),
            resources: Resources::default(),
            mounts: Vec::new(),
            tmpfs: Vec::new(),
            shm_bytes: None,
            health: None,
            restart: None,
            log: LogPolicy::default(),
            terminal: None,
            stdin: Stdin::Null,
            writable_layer: WritableLayer::Own,
            init: Init::Program,
            devices: Vec::new(),
            privileges: Privileges::Confined,
            labels: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Program and arguments; never empty. A program without `/` is sought in the container's `PATH`.
    pub args: Vec<String>,
    /// `NAME=value`. `PATH` gets Docker's default when absent, `HOME` the user's, `HOSTNAME` the sandbox's.
    pub env: Vec<String>,
    /// Made when missing. Empty: `/`.
    pub working_dir: String,
    /// `user`, `uid`, `user:group`, `uid:gid`, with names from the image. Empty: root.
    pub user: String,
    /// More groups for it, by name from the image or by number, beside those that list the user.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Added to Docker's default set, without `CAP_` or with it.
    pub capabilities_add: Vec<String>,
    pub capabilities_drop: Vec<String>,
    pub rlimits: Vec<Rlimit>,
    /// Keep the set-user-id bit from raising privileges.
    pub no_new_privileges: bool,
}

impl ProcessSpec {
    /// With defaults for all else: root in `/` with Docker's capabilities, no limits of its own.
    pub fn new(args: Vec<String>) -> Self {
        Self {
            args,
            env: Vec::new(),
            working_dir: String::new(),
            user: String::new(),
            groups: Vec::new(),
            capabilities_add: Vec::new(),
            capabilities_drop: Vec::new(),
            rlimits: Vec::new(),
            no_new_privileges: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// As `nofile`, `nproc`, `core`.
    pub name: String,
    pub soft: u64,
    pub hard: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    pub target: String,
    pub size_bytes: u64,
    /// Mount options as `mode=1777`, `noexec`.
    pub options: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!(Signal::parse("SIGTERM"), Some(Signal::TERM));
        assert_eq!(Signal::parse("quit"), Some(Signal(3)));
        assert_eq!(Signal::parse("9"), Some(Signal::KILL));
        assert_eq!(Signal::parse("RTMIN+3"), Some(Signal(37)));
        assert_eq!(Signal::parse("0"), None);
        assert_eq!(Signal::parse("NOPE"), None);
    }

    #[test]
    fn an_id_cannot_leave_its_directory() {
        assert!(SandboxId::new("0123abcd").is_some());
        for bad in ["", "..", ".x", "a/b", "a b", "ü"] {
            assert!(ContainerId::new(bad).is_none(), "{bad:?}");
        }
    }
}
