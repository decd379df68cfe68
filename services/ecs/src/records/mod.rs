//! What is stored. Never sent: `convert` turns records into API types.
//!
//! Bounds on what a record may hold are kept by the handlers that make it.

mod cluster;
mod task;
mod task_definition;

pub use cluster::{Cluster, ClusterStatus, StrategyItem};
pub use task::{
    AttachmentStatus, Container, ContainerHealth, ContainerOverride, ContainerStatus, DesiredStatus,
    IdempotencyToken, InterfaceRecord, Overrides, StopCode, StopRecord, Task, TaskNetwork, TaskStatus,
    TaskTimes,
};
pub use task_definition::{
    AwsLogs, ContainerDefinition, Dependency, DependencyCondition, Family, HealthCheck, HostVolume,
    LogConfiguration, MountPoint, NetworkMode, PortMapping, RestartPolicy, TaskDefinition,
    TaskDefinitionStatus, TmpfsMount, Ulimit, Volume, VolumesFrom,
};

use wharf_core::Scope;

/// (scope, name)
pub type ClusterKey = (Scope, String);
/// (scope, family)
pub type FamilyKey = (Scope, String);
/// (scope, family, revision)
pub type TaskDefinitionKey = (Scope, String, u64);
/// (scope, cluster name, task id): a cluster's tasks are one range.
pub type TaskKey = (Scope, String, String);
/// (scope, cluster name, token)
pub type IdempotencyTokenKey = (Scope, String, String);
