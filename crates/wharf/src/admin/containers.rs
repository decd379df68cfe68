//! What the commands say to the server about containers run by hand.
//!
//! `POST /containers/call` takes a [`Call`] and gives its answer as JSON. `POST /containers/watch`
//! takes a [`Watch`] and gives lines of JSON as they come. `POST /containers/session` takes a
//! [`SessionCall`] and becomes a stream of frames ([`Frame`]): a byte of kind, a length (u32,
//! big-endian), and so many bytes. `POST /containers/copy-out` and `copy-in` carry archives.

use serde::{Deserialize, Serialize};
use wharf_containers::config::{ContainerConfig, PortConfig};
use wharf_containers::records::{Container, Exit, HealthStatus, NetworkRecord, State};
use wharf_containers::{LogOptions, RemoveOptions, WaitFor};
use wharf_core::Timestamp;
use wharf_engine::Stats;
use wharf_engine::copy::{CopyOwner, FollowLink};
use wharf_engine::session::ExecSpec;

pub const UPGRADE: &str = "wharf-session";
/// A header with a [`CopyInCall`], or with a file's description.
pub const CALL_HEADER: &str = "x-wharf-call";
/// The largest frame either side takes.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Call {
    Create {
        config: Box<ContainerConfig>,
        name: Option<String>,
    },
    List,
    Inspect {
        container: String,
    },
    Start {
        container: String,
    },
    Stop {
        container: String,
        grace_secs: Option<u32>,
    },
    Restart {
        container: String,
        grace_secs: Option<u32>,
    },
    Kill {
        container: String,
        signal: i32,
    },
    Pause {
        container: String,
    },
    Unpause {
        container: String,
    },
    Rename {
        container: String,
        to: String,
    },
    Remove {
        container: String,
        options: RemoveOptions,
    },
    Wait {
        container: String,
        until: WaitFor,
    },
    Top {
        container: String,
    },
    /// Empty: all that run.
    Stats {
        containers: Vec<String>,
    },
    StatFile {
        container: String,
        path: String,
        follow: FollowLink,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Watch {
    Logs { container: String, options: LogOptions },
    Events,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum SessionCall {
    Exec {
        container: String,
        spec: ExecSpec,
    },
    Attach {
        container: String,
        stdin: bool,
    },
    /// Starts it, attached to it from its first byte.
    Start {
        container: String,
        stdin: bool,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CopyOutCall {
    pub container: String,
    pub path: String,
    pub follow: FollowLink,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CopyInCall {
    pub container: String,
    pub directory: String,
    pub owner: CopyOwner,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
    /// The end of the input.
    CloseStdin = 3,
    /// A terminal's [`Size`](wharf_containers::config::Size).
    Resize = 4,
    /// A signal's number.
    Signal = 5,
    /// An [`Ended`].
    End = 6,
}

impl Frame {
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Stdin, Self::Stdout, Self::Stderr, Self::CloseStdin, Self::Resize, Self::Signal, Self::End]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

pub fn frame(kind: Frame, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(5 + body.len());
    bytes.push(kind as u8);
    bytes.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(body);
    bytes
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Ended {
    pub code: Option<i32>,
}

/// A container as the commands show it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerDetails {
    pub id: String,
    pub name: String,
    pub image: String,
    pub image_digest: String,
    pub args: Vec<String>,
    /// ISO 8601.
    pub created_at: String,
    pub started_at: Option<String>,
    /// `created`, `running`, `paused`, `restarting`, `exited` or `removing`.
    pub state: String,
    pub pid: Option<u32>,
    pub exit: Option<ExitDetails>,
    pub restarts: u32,
    /// `starting`, `healthy` or `unhealthy`.
    pub health: Option<String>,
    pub network: Option<NetworkDetails>,
    pub ports: Vec<PortConfig>,
    pub config: ContainerConfig,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExitDetails {
    pub at: String,
    pub code: Option<i32>,
    pub oom_killed: bool,
    pub error: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkDetails {
    pub address: String,
    pub gateway: String,
    pub mac_address: String,
}

impl From<&Container> for ContainerDetails {
    fn from(container: &Container) -> Self {
        let exit = |exit: &Exit| ExitDetails {
            at: exit.at.to_iso8601(),
            code: exit.code,
            oom_killed: exit.oom_killed,
            error: exit.error.clone(),
        };
        let (pid, exit) = match &container.state {
            State::Running { pid } | State::Paused { pid } => (Some(*pid), None),
            State::Restarting { exit: last } | State::Exited(last) => (None, Some(exit(last))),
            State::Created | State::Removing => (None, None),
        };
        Self {
            id: container.id.clone(),
            name: container.name.clone(),
            image: container.config.image.clone(),
            image_digest: container.image_digest.clone(),
            args: container.args.clone(),
            created_at: container.created_at.to_iso8601(),
            started_at: container.started_at.map(Timestamp::to_iso8601),
            state: container.state.as_str().to_owned(),
            pid,
            exit,
            restarts: container.restarts,
            health: container.health.map(|health| {
                match health {
                    HealthStatus::Starting => "starting",
                    HealthStatus::Healthy => "healthy",
                    HealthStatus::Unhealthy => "unhealthy",
                }
                .to_owned()
            }),
            network: container.network.as_ref().map(|network: &NetworkRecord| NetworkDetails {
                address: network.address.to_string(),
                gateway: network.gateway.to_string(),
                mac_address: network.mac_address.clone(),
            }),
            ports: container.ports.clone(),
            config: container.config.clone(),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerStats {
    pub id: String,
    pub name: String,
    /// When it was read.
    pub at_ms: i64,
    pub cpus: usize,
    pub stats: Stats,
}
