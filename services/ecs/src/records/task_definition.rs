//! Families and their revisions.
//!
//! A revision is validated and normalised once, when it is registered; whoever runs it reads these
//! fields and checks nothing again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharf_core::{Scope, Timestamp};
use wharf_state::Record;

use super::{FamilyKey, TaskDefinitionKey};

/// Numbers the revisions of a family. Never removed, so that no number is used twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Family {
    pub scope: Scope,
    pub name: String,
    pub latest_revision: u64,
}

impl Record for Family {
    const TABLE: &'static str = "ecs-families";
    const VERSION: u32 = 1;
    type Key = FamilyKey;

    fn key(&self) -> FamilyKey {
        (self.scope.clone(), self.name.clone())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskDefinitionStatus {
    Active,
    Inactive,
    /// Goes once no task refers to it.
    DeleteInProgress,
}

impl TaskDefinitionStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
            Self::DeleteInProgress => "DELETE_IN_PROGRESS",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    Awsvpc,
    Bridge,
    Host,
    None,
}

impl NetworkMode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Awsvpc => "awsvpc",
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::None => "none",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskDefinition {
    pub scope: Scope,
    pub family: String,
    pub revision: u64,
    pub arn: String,
    pub status: TaskDefinitionStatus,
    pub execution_role_arn: Option<String>,
    /// `None`: not given, which is `bridge` on EC2.
    pub network_mode: Option<NetworkMode>,
    pub containers: Vec<ContainerDefinition>,
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// `None`: not given.
    #[serde(default)]
    pub ephemeral_storage_gib: Option<u32>,
    pub requires_compatibilities: Vec<String>,
    pub compatibilities: Vec<String>,
    pub requires_attributes: Vec<String>,
    /// In CPU units, 1,024 for one vCPU.
    pub cpu: Option<u32>,
    pub memory_mib: Option<u32>,
    pub cpu_architecture: Option<String>,
    pub operating_system_family: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub registered_at: Timestamp,
    pub registered_by: String,
    pub deregistered_at: Option<Timestamp>,
    pub delete_requested_at: Option<Timestamp>,
}

impl TaskDefinition {
    /// `family:revision`, as ARNs and listings name it.
    pub fn short_name(&self) -> String {
        format!("{}:{}", self.family, self.revision)
    }

    pub fn runs_on(&self, compatibility: &str) -> bool {
        self.compatibilities.iter().any(|known| known == compatibility)
    }
}

impl Record for TaskDefinition {
    const TABLE: &'static str = "ecs-task-definitions";
    const VERSION: u32 = 1;
    type Key = TaskDefinitionKey;

    fn key(&self) -> TaskDefinitionKey {
        (self.scope.clone(), self.family.clone(), self.revision)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerDefinition {
    pub name: String,
    pub image: String,
    /// In CPU units; 0: no share of its own.
    pub cpu: u32,
    pub memory_mib: Option<u32>,
    pub memory_reservation_mib: Option<u32>,
    pub port_mappings: Vec<PortMapping>,
    pub essential: bool,
    /// `None`: the image's.
    pub entry_point: Option<Vec<String>>,
    /// `None`: the image's.
    pub command: Option<Vec<String>>,
    pub environment: Vec<(String, String)>,
    pub user: Option<String>,
    pub working_directory: Option<String>,
    pub readonly_root_filesystem: Option<bool>,
    pub start_timeout_secs: Option<u32>,
    pub stop_timeout_secs: Option<u32>,
    pub ulimits: Vec<Ulimit>,
    pub linux_parameters_given: bool,
    pub capabilities_add: Vec<String>,
    pub capabilities_drop: Vec<String>,
    pub shared_memory_mib: Option<u32>,
    pub tmpfs: Vec<TmpfsMount>,
    pub docker_labels: BTreeMap<String, String>,
    pub depends_on: Vec<Dependency>,
    pub log_configuration: Option<LogConfiguration>,
    #[serde(default)]
    pub init_process_enabled: Option<bool>,
    #[serde(default)]
    pub mount_points: Vec<MountPoint>,
    #[serde(default)]
    pub volumes_from: Vec<VolumesFrom>,
    #[serde(default)]
    pub health_check: Option<HealthCheck>,
    #[serde(default)]
    pub restart_policy: Option<RestartPolicy>,
}

/// A volume of the task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub name: String,
    /// `host` was given, with a path of the container instance or without.
    pub host: Option<HostVolume>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostVolume {
    pub source_path: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// The index of the volume.
    pub volume: usize,
    pub path: String,
    /// `None`: not given, which is `false`.
    pub read_only: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumesFrom {
    /// The index of the container.
    pub container: usize,
    /// `None`: not given, which is `false`.
    pub read_only: Option<bool>,
}

/// Times in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// With `CMD` or `CMD-SHELL` in front.
    pub command: Vec<String>,
    pub interval: u32,
    pub timeout: u32,
    pub retries: u32,
    /// `None`: not given, which is 0.
    pub start_period: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    pub enabled: bool,
    pub ignored_exit_codes: Vec<i32>,
    /// In seconds; `None`: not given.
    pub attempt_period: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    pub container_port: u16,
    pub host_port: Option<u16>,
    /// `tcp` or `udp`.
    pub protocol: String,
    pub name: Option<String>,
    pub app_protocol: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    pub name: String,
    pub soft: i32,
    pub hard: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsMount {
    pub path: String,
    pub size_mib: u32,
    pub options: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DependencyCondition {
    /// It has been started.
    Start,
    /// It has exited.
    Complete,
    /// It has exited with code 0.
    Success,
    /// Its health check has succeeded.
    Healthy,
}

impl DependencyCondition {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "START",
            Self::Complete => "COMPLETE",
            Self::Success => "SUCCESS",
            Self::Healthy => "HEALTHY",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The index of the container that is waited for.
    pub container: usize,
    pub condition: DependencyCondition,
}

/// The `awslogs` driver: the only one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfiguration {
    /// As given, for echo.
    pub options: BTreeMap<String, String>,
    pub awslogs: AwsLogs,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwsLogs {
    pub group: String,
    pub region: String,
    pub stream_prefix: Option<String>,
    pub create_group: bool,
    /// `None`: all output is kept until the stream has it.
    #[serde(default)]
    pub buffer_bytes_max: Option<u64>,
}
