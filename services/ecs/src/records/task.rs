//! A task and its containers, as they are known to be.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use wharf_core::{Scope, Timestamp};
use wharf_state::Record;

use super::{IdempotencyTokenKey, TaskDefinitionKey, TaskKey};

/// Where a task is in its life
/// (Amazon ECS Developer Guide, "Amazon ECS task lifecycle").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TaskStatus {
    /// Its network interface is made.
    Provisioning,
    /// Its images are brought and its containers started.
    Pending,
    /// It is made known to load balancers.
    Activating,
    /// All its containers have been started, and the essential ones run.
    Running,
    /// It is withdrawn from load balancers.
    Deactivating,
    /// Its containers are told to stop.
    Stopping,
    /// All its containers have ended; logs are drained, sandbox and interface removed.
    Deprovisioning,
    Stopped,
}

impl TaskStatus {
    pub const ALL: [Self; 8] = [
        Self::Provisioning,
        Self::Pending,
        Self::Activating,
        Self::Running,
        Self::Deactivating,
        Self::Stopping,
        Self::Deprovisioning,
        Self::Stopped,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "PROVISIONING",
            Self::Pending => "PENDING",
            Self::Activating => "ACTIVATING",
            Self::Running => "RUNNING",
            Self::Deactivating => "DEACTIVATING",
            Self::Stopping => "STOPPING",
            Self::Deprovisioning => "DEPROVISIONING",
            Self::Stopped => "STOPPED",
        }
    }

    /// The legal moves. Always forward; a task that was never started skips what it never was.
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Provisioning => matches!(next, Self::Pending | Self::Deprovisioning),
            Self::Pending => {
                matches!(next, Self::Activating | Self::Running | Self::Stopping | Self::Deprovisioning)
            }
            Self::Activating => matches!(next, Self::Running | Self::Deactivating | Self::Stopping),
            Self::Running => matches!(next, Self::Deactivating | Self::Stopping),
            Self::Deactivating => next == Self::Stopping,
            Self::Stopping => next == Self::Deprovisioning,
            Self::Deprovisioning => next == Self::Stopped,
            Self::Stopped => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DesiredStatus {
    Running,
    Stopped,
}

impl DesiredStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Stopped => "STOPPED",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopCode {
    TaskFailedToStart,
    EssentialContainerExited,
    UserInitiated,
    InfrastructureHealth,
}

impl StopCode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TaskFailedToStart => "TaskFailedToStart",
            Self::EssentialContainerExited => "EssentialContainerExited",
            Self::UserInitiated => "UserInitiated",
            Self::InfrastructureHealth => "InfrastructureHealth",
        }
    }
}

/// Why a task is to be stopped. Written once; the first reason stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRecord {
    pub code: StopCode,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttachmentStatus {
    PreCreated,
    Created,
    Attaching,
    Attached,
    Detaching,
    Detached,
    Deleted,
}

impl AttachmentStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreCreated => "PRECREATED",
            Self::Created => "CREATED",
            Self::Attaching => "ATTACHING",
            Self::Attached => "ATTACHED",
            Self::Detaching => "DETACHING",
            Self::Detached => "DETACHED",
            Self::Deleted => "DELETED",
        }
    }
}

/// The network that was asked for, and the interface that came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskNetwork {
    pub attachment_id: String,
    pub subnet_id: String,
    pub security_group_ids: Vec<String>,
    pub assign_public_ip: bool,
    pub status: AttachmentStatus,
    pub interface: Option<InterfaceRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceRecord {
    pub id: String,
    pub mac_address: String,
    pub private_ipv4: Ipv4Addr,
    pub private_dns_name: String,
    pub subnet_cidr: String,
    pub gateway: Ipv4Addr,
    pub vpc_id: String,
    pub name_servers: Vec<std::net::IpAddr>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    pub containers: Vec<ContainerOverride>,
    pub cpu: Option<u32>,
    pub memory_mib: Option<u32>,
    pub execution_role_arn: Option<String>,
    #[serde(default)]
    pub ephemeral_storage_gib: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerOverride {
    pub name: String,
    pub command: Option<Vec<String>>,
    pub environment: Vec<(String, String)>,
    pub cpu: Option<u32>,
    pub memory_mib: Option<u32>,
    pub memory_reservation_mib: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerStatus {
    Pending,
    Running,
    Stopped,
}

impl ContainerStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Stopped => "STOPPED",
        }
    }
}

/// A container of a task, at the index of its definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub name: String,
    pub arn: String,
    /// Its id in the engine too: the task's id, a hyphen, ten digits.
    pub runtime_id: String,
    pub image: String,
    pub image_digest: Option<String>,
    pub cpu: u32,
    pub memory_mib: Option<u32>,
    pub memory_reservation_mib: Option<u32>,
    pub status: ContainerStatus,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub exit_code: Option<i32>,
    pub reason: Option<String>,
    /// The number of the signal that asks it to stop, from its image.
    pub stop_signal: Option<i32>,
    #[serde(default)]
    pub health: ContainerHealth,
    /// As its definition says. Of a record of release 0.1, which has no health either: no matter.
    #[serde(default)]
    pub essential: bool,
}

/// What a container's health check says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerHealth {
    /// It has none, or it has not said anything yet.
    #[default]
    Unknown,
    Healthy,
    Unhealthy,
}

impl ContainerHealth {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Healthy => "HEALTHY",
            Self::Unhealthy => "UNHEALTHY",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskTimes {
    pub created: Timestamp,
    pub connectivity: Option<Timestamp>,
    pub pull_started: Option<Timestamp>,
    pub pull_stopped: Option<Timestamp>,
    pub started: Option<Timestamp>,
    pub stopping: Option<Timestamp>,
    pub execution_stopped: Option<Timestamp>,
    pub stopped: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub scope: Scope,
    pub cluster: String,
    pub id: String,
    pub arn: String,
    pub cluster_arn: String,
    pub task_definition_arn: String,
    pub family: String,
    pub revision: u64,
    pub status: TaskStatus,
    pub desired: DesiredStatus,
    /// Grows with every change that a caller can see.
    pub version: i64,
    /// In CPU units, 1,024 for one vCPU.
    pub cpu: u32,
    pub memory_mib: u32,
    pub capacity_provider: Option<String>,
    pub platform_version: String,
    pub cpu_architecture: String,
    pub group: String,
    pub started_by: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub overrides: Overrides,
    pub network: TaskNetwork,
    pub availability_zone: String,
    pub containers: Vec<Container>,
    /// What its containers may write, in GiB. 0 in a record of release 0.1: no limit.
    #[serde(default)]
    pub ephemeral_storage_gib: u32,
    pub times: TaskTimes,
    pub stop: Option<StopRecord>,
}

impl Task {
    /// Of its essential containers together (API reference, `HealthCheck`): unhealthy as soon as one
    /// is, healthy when all are.
    pub fn health(&self) -> ContainerHealth {
        let mut essential = self.containers.iter().filter(|container| container.essential).peekable();
        let mut health =
            if essential.peek().is_some() { ContainerHealth::Healthy } else { ContainerHealth::Unknown };
        for container in essential {
            match container.health {
                ContainerHealth::Unhealthy => return ContainerHealth::Unhealthy,
                ContainerHealth::Unknown => health = ContainerHealth::Unknown,
                ContainerHealth::Healthy => {}
            }
        }
        health
    }

    pub fn definition_key(&self) -> TaskDefinitionKey {
        (self.scope.clone(), self.family.clone(), self.revision)
    }
}

impl Record for Task {
    const TABLE: &'static str = "ecs-tasks";
    const VERSION: u32 = 1;
    type Key = TaskKey;

    fn key(&self) -> TaskKey {
        (self.scope.clone(), self.cluster.clone(), self.id.clone())
    }
}

/// What a `clientToken` has already made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyToken {
    pub scope: Scope,
    pub cluster: String,
    pub token: String,
    /// SHA-256 of the request's parameters.
    pub fingerprint: Vec<u8>,
    pub task_ids: Vec<String>,
    pub created_at: Timestamp,
}

impl Record for IdempotencyToken {
    const TABLE: &'static str = "ecs-idempotency-tokens";
    const VERSION: u32 = 1;
    type Key = IdempotencyTokenKey;

    fn key(&self) -> IdempotencyTokenKey {
        (self.scope.clone(), self.cluster.clone(), self.token.clone())
    }
}
