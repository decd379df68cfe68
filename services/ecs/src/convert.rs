//! From records to the types of the API.

use wharf_ecs_api::types;

use crate::records::{
    AttachmentStatus, Cluster, Container, ContainerDefinition, ContainerOverride, HealthCheck, Overrides,
    RestartPolicy, StrategyItem, Task, TaskDefinition, TaskStatus, Volume,
};
use crate::tags;

fn pair(name: &str, value: impl Into<String>) -> types::KeyValuePair {
    types::KeyValuePair { name: Some(name.to_owned()), value: Some(value.into()) }
}

/// Which optional parts of an answer were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    Tags,
    Nothing,
}

/// What is counted of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterCounts {
    pub running: i32,
    pub pending: i32,
}

pub fn strategy(items: &[StrategyItem]) -> Vec<types::CapacityProviderStrategyItem> {
    items
        .iter()
        .map(|item| types::CapacityProviderStrategyItem {
            capacity_provider: item.provider.clone(),
            weight: i32::try_from(item.weight).ok(),
            base: i32::try_from(item.base).ok(),
        })
        .collect()
}

/// Container Insights is off: there are no metrics to gather.
fn cluster_settings() -> Vec<types::ClusterSetting> {
    vec![types::ClusterSetting {
        name: Some(types::ClusterSettingName::ContainerInsights),
        value: Some("disabled".to_owned()),
    }]
}

pub fn cluster(cluster: &Cluster, counts: ClusterCounts, include: &[types::ClusterField]) -> types::Cluster {
    let statistics = if include.contains(&types::ClusterField::Statistics) {
        vec![
            pair("runningEC2TasksCount", "0"),
            pair("runningFargateTasksCount", counts.running.to_string()),
            pair("pendingEC2TasksCount", "0"),
            pair("pendingFargateTasksCount", counts.pending.to_string()),
            pair("activeEC2ServiceCount", "0"),
            pair("activeFargateServiceCount", "0"),
            pair("drainingEC2ServiceCount", "0"),
            pair("drainingFargateServiceCount", "0"),
        ]
    } else {
        Vec::new()
    };
    let with_tags = include.contains(&types::ClusterField::Tags);
    types::Cluster {
        cluster_arn: Some(cluster.arn.clone()),
        cluster_name: Some(cluster.name.clone()),
        status: Some(cluster.status.as_str().to_owned()),
        registered_container_instances_count: Some(0),
        running_tasks_count: Some(counts.running),
        pending_tasks_count: Some(counts.pending),
        active_services_count: Some(0),
        statistics: Some(statistics),
        tags: Some(if with_tags { tags::to_api(&cluster.tags) } else { Vec::new() }),
        settings: Some(if include.contains(&types::ClusterField::Settings) {
            cluster_settings()
        } else {
            Vec::new()
        }),
        capacity_providers: Some(cluster.capacity_providers.clone()),
        default_capacity_provider_strategy: Some(strategy(&cluster.default_strategy)),
        ..types::Cluster::default()
    }
}

pub fn task_definition(definition: &TaskDefinition) -> types::TaskDefinition {
    let texts = |texts: &[String]| -> Vec<types::Compatibility> {
        texts.iter().map(|text| types::Compatibility::from(text.as_str())).collect()
    };
    let runtime_platform = (definition.cpu_architecture.is_some()
        || definition.operating_system_family.is_some())
    .then(|| types::RuntimePlatform {
        cpu_architecture: definition.cpu_architecture.as_deref().map(Into::into),
        operating_system_family: definition.operating_system_family.as_deref().map(Into::into),
    });
    types::TaskDefinition {
        task_definition_arn: Some(definition.arn.clone()),
        family: Some(definition.family.clone()),
        revision: i32::try_from(definition.revision).ok(),
        status: Some(definition.status.as_str().into()),
        execution_role_arn: definition.execution_role_arn.clone(),
        network_mode: definition.network_mode.map(|mode| mode.as_str().into()),
        container_definitions: Some(
            definition.containers.iter().map(|of| container_definition(of, definition)).collect(),
        ),
        volumes: Some(definition.volumes.iter().map(volume).collect()),
        ephemeral_storage: definition.ephemeral_storage_gib.map(ephemeral_storage),
        placement_constraints: Some(Vec::new()),
        requires_attributes: Some(
            definition
                .requires_attributes
                .iter()
                .map(|name| types::Attribute { name: name.clone(), ..types::Attribute::default() })
                .collect(),
        ),
        compatibilities: Some(texts(&definition.compatibilities)),
        requires_compatibilities: (!definition.requires_compatibilities.is_empty())
            .then(|| texts(&definition.requires_compatibilities)),
        cpu: definition.cpu.map(|cpu| cpu.to_string()),
        memory: definition.memory_mib.map(|memory| memory.to_string()),
        runtime_platform,
        registered_at: Some(definition.registered_at),
        registered_by: Some(definition.registered_by.clone()),
        deregistered_at: definition.deregistered_at,
        delete_requested_at: definition.delete_requested_at,
        ..types::TaskDefinition::default()
    }
}

fn ephemeral_storage(gib: u32) -> types::EphemeralStorage {
    types::EphemeralStorage { size_in_gi_b: signed(gib) }
}

fn volume(of: &Volume) -> types::Volume {
    types::Volume {
        name: Some(of.name.clone()),
        // As AWS shows a volume that says nothing of a host.
        host: Some(types::HostVolumeProperties {
            source_path: of.host.as_ref().and_then(|host| host.source_path.clone()),
        }),
        ..types::Volume::default()
    }
}

fn health_check(of: &HealthCheck) -> types::HealthCheck {
    types::HealthCheck {
        command: of.command.clone(),
        interval: Some(signed(of.interval)),
        timeout: Some(signed(of.timeout)),
        retries: Some(signed(of.retries)),
        start_period: of.start_period.map(signed),
    }
}

fn restart_policy(of: &RestartPolicy) -> types::ContainerRestartPolicy {
    types::ContainerRestartPolicy {
        enabled: of.enabled,
        ignored_exit_codes: (!of.ignored_exit_codes.is_empty()).then(|| of.ignored_exit_codes.clone()),
        restart_attempt_period: of.attempt_period.map(signed),
    }
}

fn signed(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn environment(variables: &[(String, String)]) -> Vec<types::KeyValuePair> {
    variables.iter().map(|(name, value)| pair(name, value.clone())).collect()
}

fn container_definition(of: &ContainerDefinition, within: &TaskDefinition) -> types::ContainerDefinition {
    let port = |mapping: &crate::records::PortMapping| types::PortMapping {
        container_port: Some(i32::from(mapping.container_port)),
        host_port: mapping.host_port.map(i32::from),
        protocol: Some(mapping.protocol.as_str().into()),
        name: mapping.name.clone(),
        app_protocol: mapping.app_protocol.as_deref().map(Into::into),
        ..types::PortMapping::default()
    };
    let mount_point = |mount: &crate::records::MountPoint| types::MountPoint {
        source_volume: Some(within.volumes[mount.volume].name.clone()),
        container_path: Some(mount.path.clone()),
        read_only: mount.read_only,
    };
    let volume_from = |from: &crate::records::VolumesFrom| types::VolumeFrom {
        source_container: Some(within.containers[from.container].name.clone()),
        read_only: from.read_only,
    };
    let depends_on: Vec<_> = of
        .depends_on
        .iter()
        .map(|dependency| types::ContainerDependency {
            container_name: within.containers[dependency.container].name.clone(),
            condition: dependency.condition.as_str().into(),
        })
        .collect();
    let ulimits: Vec<_> = of
        .ulimits
        .iter()
        .map(|limit| types::Ulimit {
            name: limit.name.as_str().into(),
            soft_limit: limit.soft,
            hard_limit: limit.hard,
        })
        .collect();
    let log_configuration = of.log_configuration.as_ref().map(|logs| types::LogConfiguration {
        log_driver: types::LogDriver::Awslogs,
        options: Some(logs.options.clone()),
        secret_options: Some(Vec::new()),
    });
    types::ContainerDefinition {
        name: Some(of.name.clone()),
        image: Some(of.image.clone()),
        cpu: Some(signed(of.cpu)),
        memory: of.memory_mib.map(signed),
        memory_reservation: of.memory_reservation_mib.map(signed),
        port_mappings: Some(of.port_mappings.iter().map(port).collect()),
        essential: Some(of.essential),
        entry_point: of.entry_point.clone(),
        command: of.command.clone(),
        environment: Some(environment(&of.environment)),
        mount_points: Some(of.mount_points.iter().map(mount_point).collect()),
        volumes_from: Some(of.volumes_from.iter().map(volume_from).collect()),
        health_check: of.health_check.as_ref().map(health_check),
        restart_policy: of.restart_policy.as_ref().map(restart_policy),
        system_controls: Some(Vec::new()),
        user: of.user.clone(),
        working_directory: of.working_directory.clone(),
        readonly_root_filesystem: of.readonly_root_filesystem,
        start_timeout: of.start_timeout_secs.map(signed),
        stop_timeout: of.stop_timeout_secs.map(signed),
        ulimits: (!ulimits.is_empty()).then_some(ulimits),
        linux_parameters: of.linux_parameters_given.then(|| linux_parameters(of)),
        docker_labels: (!of.docker_labels.is_empty()).then(|| of.docker_labels.clone()),
        depends_on: (!depends_on.is_empty()).then_some(depends_on),
        log_configuration,
        ..types::ContainerDefinition::default()
    }
}

fn linux_parameters(of: &ContainerDefinition) -> types::LinuxParameters {
    let capabilities = (!of.capabilities_add.is_empty() || !of.capabilities_drop.is_empty()).then(|| {
        types::KernelCapabilities {
            add: Some(of.capabilities_add.clone()),
            drop: Some(of.capabilities_drop.clone()),
        }
    });
    let tmpfs: Vec<_> = of
        .tmpfs
        .iter()
        .map(|mount| types::Tmpfs {
            container_path: mount.path.clone(),
            size: signed(mount.size_mib),
            mount_options: (!mount.options.is_empty()).then(|| mount.options.clone()),
        })
        .collect();
    types::LinuxParameters {
        capabilities,
        shared_memory_size: of.shared_memory_mib.map(signed),
        init_process_enabled: of.init_process_enabled,
        tmpfs: (!tmpfs.is_empty()).then_some(tmpfs),
        ..types::LinuxParameters::default()
    }
}

pub fn task(task: &Task, include: Include) -> types::Task {
    let attachments = vec![attachment(task)];
    let with_tags = include == Include::Tags;
    types::Task {
        attachments: Some(attachments),
        attributes: Some(vec![types::Attribute {
            name: "ecs.cpu-architecture".to_owned(),
            value: Some(task.cpu_architecture.clone()),
            ..types::Attribute::default()
        }]),
        availability_zone: Some(task.availability_zone.clone()),
        capacity_provider_name: task.capacity_provider.clone(),
        cluster_arn: Some(task.cluster_arn.clone()),
        connectivity: task.times.connectivity.map(|_| types::Connectivity::Connected),
        connectivity_at: task.times.connectivity,
        containers: Some(task.containers.iter().map(|of| container(of, task)).collect()),
        cpu: Some(task.cpu.to_string()),
        created_at: Some(task.times.created),
        desired_status: Some(task.desired.as_str().to_owned()),
        enable_execute_command: Some(false),
        execution_stopped_at: task.times.execution_stopped,
        group: Some(task.group.clone()),
        ephemeral_storage: (task.ephemeral_storage_gib > 0)
            .then(|| ephemeral_storage(task.ephemeral_storage_gib)),
        health_status: Some(task.health().as_str().into()),
        last_status: Some(task.status.as_str().to_owned()),
        launch_type: Some(types::LaunchType::Fargate),
        memory: Some(task.memory_mib.to_string()),
        overrides: Some(overrides(&task.overrides, task)),
        platform_version: Some(task.platform_version.clone()),
        platform_family: Some("Linux".to_owned()),
        pull_started_at: task.times.pull_started,
        pull_stopped_at: task.times.pull_stopped,
        started_at: task.times.started,
        started_by: task.started_by.clone(),
        stop_code: task.stop.as_ref().map(|stop| stop.code.as_str().into()),
        stopped_at: task.times.stopped,
        stopped_reason: task.stop.as_ref().map(|stop| stop.reason.clone()),
        stopping_at: task.times.stopping,
        tags: Some(if with_tags { tags::to_api(&task.tags) } else { Vec::new() }),
        task_arn: Some(task.arn.clone()),
        task_definition_arn: Some(task.task_definition_arn.clone()),
        version: Some(task.version),
        ..types::Task::default()
    }
}

fn attachment(task: &Task) -> types::Attachment {
    let network = &task.network;
    let mut details = vec![pair("subnetId", network.subnet_id.clone())];
    if let Some(interface) = &network.interface {
        details.push(pair("networkInterfaceId", interface.id.clone()));
        details.push(pair("macAddress", interface.mac_address.clone()));
        details.push(pair("privateDnsName", interface.private_dns_name.clone()));
        details.push(pair("privateIPv4Address", interface.private_ipv4.to_string()));
    }
    // An interface that was never made was never created either.
    let status = match network.status {
        AttachmentStatus::PreCreated if task.status == TaskStatus::Stopped => AttachmentStatus::Deleted,
        status => status,
    };
    types::Attachment {
        id: Some(network.attachment_id.clone()),
        r#type: Some("ElasticNetworkInterface".to_owned()),
        status: Some(status.as_str().to_owned()),
        details: Some(details),
    }
}

fn container(of: &Container, task: &Task) -> types::Container {
    let interfaces = task.network.interface.iter().map(|interface| types::NetworkInterface {
        attachment_id: Some(task.network.attachment_id.clone()),
        private_ipv4_address: Some(interface.private_ipv4.to_string()),
        ..types::NetworkInterface::default()
    });
    types::Container {
        container_arn: Some(of.arn.clone()),
        task_arn: Some(task.arn.clone()),
        name: Some(of.name.clone()),
        image: Some(of.image.clone()),
        image_digest: of.image_digest.clone(),
        // It has one once it has been made.
        runtime_id: of.started_at.map(|_| of.runtime_id.clone()),
        last_status: Some(of.status.as_str().to_owned()),
        exit_code: of.exit_code,
        reason: of.reason.clone(),
        network_bindings: Some(Vec::new()),
        network_interfaces: Some(interfaces.collect()),
        health_status: Some(of.health.as_str().into()),
        cpu: Some(of.cpu.to_string()),
        memory: of.memory_mib.map(|memory| memory.to_string()),
        memory_reservation: of.memory_reservation_mib.map(|memory| memory.to_string()),
        ..types::Container::default()
    }
}

/// Every container has an entry, as on AWS, with or without something overridden.
fn overrides(overrides: &Overrides, task: &Task) -> types::TaskOverride {
    let of = |container: &Container| {
        let found = overrides.containers.iter().find(|over| over.name == container.name);
        found.map_or_else(
            || types::ContainerOverride {
                name: Some(container.name.clone()),
                ..types::ContainerOverride::default()
            },
            container_override,
        )
    };
    types::TaskOverride {
        container_overrides: Some(task.containers.iter().map(of).collect()),
        cpu: overrides.cpu.map(|cpu| cpu.to_string()),
        memory: overrides.memory_mib.map(|memory| memory.to_string()),
        execution_role_arn: overrides.execution_role_arn.clone(),
        ephemeral_storage: overrides.ephemeral_storage_gib.map(ephemeral_storage),
        inference_accelerator_overrides: Some(Vec::new()),
        ..types::TaskOverride::default()
    }
}

fn container_override(over: &ContainerOverride) -> types::ContainerOverride {
    types::ContainerOverride {
        name: Some(over.name.clone()),
        command: over.command.clone(),
        environment: (!over.environment.is_empty()).then(|| environment(&over.environment)),
        cpu: over.cpu.map(signed),
        memory: over.memory_mib.map(signed),
        memory_reservation: over.memory_reservation_mib.map(signed),
        ..types::ContainerOverride::default()
    }
}
