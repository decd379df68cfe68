//! What somebody asks for when they run a container by hand. Sent over the admin socket, and kept in
//! the container's record: fields are only ever added, with a default.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A container to be made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// As the user wrote it.
    pub image: String,
    /// `None`: the image's.
    pub entrypoint: Option<Vec<String>>,
    /// Empty: the image's, unless `entrypoint` is given.
    pub command: Vec<String>,
    /// `NAME=value`, on top of the image's.
    pub env: Vec<String>,
    pub working_dir: Option<String>,
    /// As `docker run --user`.
    pub user: Option<String>,
    /// Supplementary groups by name or number.
    pub groups: Vec<String>,
    /// `None`: the first 12 digits of the id.
    pub hostname: Option<String>,
    pub terminal: Option<Size>,
    pub stdin: Stdin,
    pub labels: Vec<(String, String)>,
    pub mounts: Vec<MountConfig>,
    pub tmpfs: Vec<TmpfsConfig>,
    pub ports: Vec<PortConfig>,
    pub limits: Limits,
    pub read_only: bool,
    pub init: bool,
    pub privileged: bool,
    pub no_new_privileges: bool,
    pub capabilities_add: Vec<String>,
    pub capabilities_drop: Vec<String>,
    pub devices: Vec<DeviceConfig>,
    /// `name` and value, as `net.core.somaxconn`.
    pub sysctls: Vec<(String, String)>,
    pub ulimits: Vec<Ulimit>,
    pub restart: Restart,
    /// `None`: the image's, or SIGTERM.
    pub stop_signal: Option<String>,
    /// Seconds; `None`: 10.
    pub stop_timeout_secs: Option<u32>,
    pub health: Option<HealthConfig>,
    pub network: Network,
    /// Lines of `/etc/hosts`: name and address.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// Empty: the network's.
    pub name_servers: Vec<IpAddr>,
    pub search_domains: Vec<String>,
    /// Remove it once it has ended.
    pub auto_remove: bool,
}

/// Of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
}

/// As [`wharf_engine::session::Stdin`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdin {
    #[default]
    Null,
    Once,
    Open,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountConfig {
    pub source: MountFrom,
    pub target: String,
    #[serde(default)]
    pub read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountFrom {
    /// A path of the host. With `make`, a directory is made where nothing is, as `docker run -v` does.
    Host { path: PathBuf, make: bool },
    /// Made when missing; stays when the container is removed.
    Volume { name: String },
    /// A volume without a name, which goes with the container.
    Anonymous,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsConfig {
    pub target: String,
    /// `None`: half the host's memory.
    pub size_bytes: Option<u64>,
    #[serde(default)]
    pub options: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port of the container that the host answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortConfig {
    /// The host's address to listen on.
    pub address: IpAddr,
    /// 0: any free one.
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: Protocol,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Thousandths of a CPU.
    pub cpu_millis: Option<u32>,
    pub cpu_shares: Option<u32>,
    pub memory_bytes: Option<u64>,
    pub memory_reservation_bytes: Option<u64>,
    /// Memory and swap together, as `docker run --memory-swap`.
    pub memory_swap_bytes: Option<u64>,
    pub pids_max: Option<u32>,
    pub shm_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceConfig {
    pub source: PathBuf,
    pub target: String,
    /// Of `rwm`.
    pub access: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    pub name: String,
    pub soft: u64,
    pub hard: u64,
}

/// When it is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    #[default]
    No,
    OnFailure {
        attempts_max: Option<u32>,
    },
    Always,
    /// As `Always`; one that was stopped by hand stays stopped at the next `wharf up`.
    UnlessStopped,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthConfig {
    /// `CMD` with its words, or `CMD-SHELL` and a line.
    pub test: Vec<String>,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    pub retries: u32,
    pub start_period_ms: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// An address of its own in the default VPC.
    #[default]
    Default,
    /// Loopback alone.
    None,
}
