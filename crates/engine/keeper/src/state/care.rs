//! What a keeper must know of a container's volumes, health, restarts and pauses after a keeper's
//! death. Most containers have none of it, and no entry.

use serde::{Deserialize, Serialize};
use wharf_core::Timestamp;
use wharf_engine::log::LogPolicy;
use wharf_engine::{ContainerSpec, ExitStatus, HealthCheck, HealthStatus, VolumeName};

/// As it was asked for: written once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CareSpec {
    #[serde(default)]
    pub health: Option<HealthCheck>,
    /// All that it takes to start it again; its policy is in it.
    #[serde(default)]
    pub restart: Option<Box<ContainerSpec>>,
    /// The named volumes that it mounts.
    #[serde(default)]
    pub volumes: Vec<VolumeName>,
    #[serde(default)]
    pub log: LogPolicy,
}

impl CareSpec {
    pub fn of(spec: &ContainerSpec) -> Self {
        let named = |mount: &wharf_engine::Mount| match &mount.source {
            wharf_engine::MountSource::Named(volume) => Some(volume.clone()),
            wharf_engine::MountSource::Host(_) | wharf_engine::MountSource::Sandbox(_) => None,
        };
        Self {
            health: spec.health.clone(),
            restart: spec.restart.is_some().then(|| Box::new(spec.clone())),
            volumes: spec.mounts.iter().filter_map(named).collect(),
            log: spec.log,
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// As it is now: written whenever it changes; the last entry counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CareState {
    #[serde(default)]
    pub restarts: u32,
    /// It has ended so, and is started again at the time.
    #[serde(default)]
    pub restarting: Option<(ExitStatus, Timestamp)>,
    /// What was waited for before its last start.
    #[serde(default)]
    pub waited_ms: u64,
    #[serde(default)]
    pub health: Option<HealthStatus>,
    #[serde(default)]
    pub paused: bool,
}
