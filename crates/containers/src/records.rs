//! What is stored of containers run by hand.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};
use wharf_core::Timestamp;
use wharf_state::{Index, Key as _, Record};

use crate::config::{ContainerConfig, PortConfig};

/// A container as it is known to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// 64 hexadecimal digits, never given twice.
    pub id: String,
    /// Unique.
    pub name: String,
    pub config: ContainerConfig,
    /// Of the image's manifest when it was made: it stays what it was made from.
    pub image_digest: String,
    /// What is run: entrypoint and command, of the image or given.
    pub args: Vec<String>,
    pub created_at: Timestamp,
    pub state: State,
    /// Whether it is meant to run: a restart of the server starts what is not running.
    pub wanted: Wanted,
    /// Counts its starts by hand: the engine's container has this number in its id.
    pub run: u32,
    /// By itself, since it was last started by hand.
    #[serde(default)]
    pub restarts: u32,
    pub started_at: Option<Timestamp>,
    pub network: Option<NetworkRecord>,
    /// As they are listened on, with the ports that were chosen.
    #[serde(default)]
    pub ports: Vec<PortConfig>,
    #[serde(default)]
    pub health: Option<HealthStatus>,
}

/// Where a container is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Made, never started.
    Created,
    Running {
        pid: u32,
    },
    Paused {
        pid: u32,
    },
    /// Waits to be started again.
    Restarting {
        exit: Exit,
    },
    Exited(Exit),
    /// On its way out.
    Removing,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub at: Timestamp,
    /// `None`: nobody learned it.
    pub code: Option<i32>,
    pub oom_killed: bool,
    /// Why its program never ran.
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    Running,
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthStatus {
    Starting,
    Healthy,
    Unhealthy,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    pub address: Ipv4Addr,
    pub gateway: Ipv4Addr,
    pub mac_address: String,
    pub name_servers: Vec<IpAddr>,
}

impl State {
    /// As `docker ps --filter status=` knows it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running { .. } => "running",
            Self::Paused { .. } => "paused",
            Self::Restarting { .. } => "restarting",
            Self::Exited(_) => "exited",
            Self::Removing => "removing",
        }
    }

    /// It has a program in the engine that may still do something.
    pub fn is_alive(&self) -> bool {
        matches!(self, Self::Running { .. } | Self::Paused { .. } | Self::Restarting { .. })
    }

    /// The legal moves.
    pub fn may_become(&self, next: &Self) -> bool {
        match self {
            Self::Removing => matches!(next, Self::Removing),
            Self::Created => !matches!(next, Self::Paused { .. } | Self::Created),
            Self::Running { .. } | Self::Paused { .. } | Self::Restarting { .. } | Self::Exited(_) => {
                !matches!(next, Self::Created)
            }
        }
    }
}

impl Container {
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

impl Record for Container {
    const TABLE: &'static str = "run-containers";
    const VERSION: u32 = 1;
    type Key = String;

    fn key(&self) -> String {
        self.id.clone()
    }

    fn indexes() -> &'static [Index<Self>] {
        &[Index { name: BY_NAME, keys: |container| vec![container.name.to_bytes()] }]
    }
}

pub const BY_NAME: &str = "name";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_being_removed_never_comes_back() {
        let exit = Exit { at: Timestamp::from_millis(0), code: Some(0), oom_killed: false, error: None };
        for next in [State::Running { pid: 1 }, State::Exited(exit.clone()), State::Created] {
            assert!(!State::Removing.may_become(&next), "{next:?}");
        }
        assert!(State::Exited(exit).may_become(&State::Running { pid: 1 }));
    }
}
