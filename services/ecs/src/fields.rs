//! Every member of the requests that make something, and whether it is acted on or refused.
//!
//! Nothing that is accepted is ignored: a member is in one of these tables as acted on, which means
//! that code elsewhere reads it, or as refused, and then a request that gives it fails with its name.
//! A test compares the tables with the model, so a member that a newer model brings cannot slip in.
//!
//! An empty list, an empty text and `false` count as not given: clients send them for defaults.

use wharf_core::ApiError;
use wharf_shape::{Structure, View};

/// What happens to a member that a caller gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    ActedOn,
    Refused,
}

use Treatment::{ActedOn, Refused};

type Table = &'static [(&'static str, Treatment)];

pub const REGISTER_TASK_DEFINITION: Table = &[
    ("family", ActedOn),
    // Credentials of task roles are not served.
    ("taskRoleArn", Refused),
    // Images and logs are local, and are brought and written as the account's root.
    ("executionRoleArn", ActedOn),
    ("networkMode", ActedOn),
    ("containerDefinitions", ActedOn),
    ("volumes", ActedOn),
    ("placementConstraints", Refused),
    ("requiresCompatibilities", ActedOn),
    ("cpu", ActedOn),
    ("memory", ActedOn),
    ("tags", ActedOn),
    ("pidMode", Refused),
    ("ipcMode", Refused),
    ("proxyConfiguration", Refused),
    ("inferenceAccelerators", Refused),
    ("ephemeralStorage", ActedOn),
    ("runtimePlatform", ActedOn),
    ("enableFaultInjection", Refused),
    ("trustedExecutionConfiguration", Refused),
];

pub const CONTAINER_DEFINITION: Table = &[
    ("name", ActedOn),
    ("image", ActedOn),
    ("repositoryCredentials", Refused),
    ("cpu", ActedOn),
    ("memory", ActedOn),
    ("memoryReservation", ActedOn),
    ("links", Refused),
    ("portMappings", ActedOn),
    ("essential", ActedOn),
    ("restartPolicy", ActedOn),
    ("entryPoint", ActedOn),
    ("command", ActedOn),
    ("environment", ActedOn),
    ("environmentFiles", Refused),
    ("mountPoints", ActedOn),
    ("volumesFrom", ActedOn),
    ("linuxParameters", ActedOn),
    ("secrets", Refused),
    ("dependsOn", ActedOn),
    ("startTimeout", ActedOn),
    ("stopTimeout", ActedOn),
    ("versionConsistency", Refused),
    ("hostname", Refused),
    ("user", ActedOn),
    ("workingDirectory", ActedOn),
    ("disableNetworking", Refused),
    ("privileged", Refused),
    ("readonlyRootFilesystem", ActedOn),
    ("dnsServers", Refused),
    ("dnsSearchDomains", Refused),
    ("extraHosts", Refused),
    ("dockerSecurityOptions", Refused),
    ("interactive", Refused),
    ("pseudoTerminal", Refused),
    ("dockerLabels", ActedOn),
    ("ulimits", ActedOn),
    ("logConfiguration", ActedOn),
    ("healthCheck", ActedOn),
    ("systemControls", Refused),
    ("resourceRequirements", Refused),
    ("firelensConfiguration", Refused),
    ("credentialSpecs", Refused),
];

pub const LINUX_PARAMETERS: Table = &[
    ("capabilities", ActedOn),
    ("devices", Refused),
    ("initProcessEnabled", ActedOn),
    ("sharedMemorySize", ActedOn),
    ("tmpfs", ActedOn),
    ("maxSwap", Refused),
    ("swappiness", Refused),
];

pub const VOLUME: Table = &[
    ("name", ActedOn),
    ("host", ActedOn),
    ("dockerVolumeConfiguration", Refused),
    ("efsVolumeConfiguration", Refused),
    ("s3filesVolumeConfiguration", Refused),
    ("fsxWindowsFileServerVolumeConfiguration", Refused),
    ("configuredAtLaunch", Refused),
];

/// `name` and `appProtocol` name the port for Service Connect, and do nothing without it on AWS either.
pub const PORT_MAPPING: Table = &[
    ("containerPort", ActedOn),
    ("hostPort", ActedOn),
    ("protocol", ActedOn),
    ("name", ActedOn),
    ("appProtocol", ActedOn),
    ("containerPortRange", Refused),
];

pub const LOG_CONFIGURATION: Table =
    &[("logDriver", ActedOn), ("options", ActedOn), ("secretOptions", Refused)];

pub const RUN_TASK: Table = &[
    ("capacityProviderStrategy", ActedOn),
    ("cluster", ActedOn),
    ("count", ActedOn),
    ("enableECSManagedTags", ActedOn),
    ("enableExecuteCommand", Refused),
    ("group", ActedOn),
    ("launchType", ActedOn),
    ("networkConfiguration", ActedOn),
    ("overrides", ActedOn),
    ("placementConstraints", Refused),
    ("placementStrategy", Refused),
    ("platformVersion", ActedOn),
    ("propagateTags", ActedOn),
    ("referenceId", Refused),
    ("startedBy", ActedOn),
    ("tags", ActedOn),
    ("taskDefinition", ActedOn),
    ("clientToken", ActedOn),
    ("volumeConfigurations", Refused),
];

pub const TASK_OVERRIDE: Table = &[
    ("containerOverrides", ActedOn),
    ("cpu", ActedOn),
    ("inferenceAcceleratorOverrides", Refused),
    ("executionRoleArn", ActedOn),
    ("memory", ActedOn),
    ("taskRoleArn", Refused),
    ("ephemeralStorage", ActedOn),
];

pub const CONTAINER_OVERRIDE: Table = &[
    ("name", ActedOn),
    ("command", ActedOn),
    ("environment", ActedOn),
    ("environmentFiles", Refused),
    ("cpu", ActedOn),
    ("memory", ActedOn),
    ("memoryReservation", ActedOn),
    ("resourceRequirements", Refused),
];

pub const CREATE_CLUSTER: Table = &[
    ("clusterName", ActedOn),
    ("tags", ActedOn),
    ("settings", ActedOn),
    ("configuration", Refused),
    ("capacityProviders", ActedOn),
    ("defaultCapacityProviderStrategy", ActedOn),
    ("serviceConnectDefaults", Refused),
];

pub const UPDATE_CLUSTER: Table = &[
    ("cluster", ActedOn),
    ("settings", ActedOn),
    ("configuration", Refused),
    ("serviceConnectDefaults", Refused),
];

/// Refuses a structure that gives a member which the table refuses, or does not have.
///
/// # Errors
/// `NotImplemented`, naming the member and the operation.
pub fn check(structure: &dyn Structure, table: Table, operation: &str) -> Result<(), ApiError> {
    for (index, member) in structure.shape().members.iter().enumerate() {
        if !is_given(&structure.member(index)) {
            continue;
        }
        // Tables stand in the order of the model, so the first look is nearly always right.
        let entry = table.get(index).filter(|(name, _)| *name == member.name);
        let entry = entry.or_else(|| table.iter().find(|(name, _)| *name == member.name));
        if entry.is_none_or(|(_, treatment)| *treatment == Refused) {
            return Err(ApiError::not_implemented(format_args!(
                "the field \"{}\" of ecs:{operation}",
                member.name
            )));
        }
    }
    Ok(())
}

fn is_given(view: &View<'_>) -> bool {
    match view {
        View::Absent | View::Boolean(false) => false,
        View::String(text) => !text.is_empty(),
        View::List(list) => !list.is_empty(),
        View::Map(map) => !map.is_empty(),
        View::Boolean(true)
        | View::Integer(_)
        | View::Long(_)
        | View::Double(_)
        | View::Blob(_)
        | View::Timestamp(_)
        | View::Document(_)
        | View::Structure(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use wharf_ecs_api::types;

    use super::*;

    #[test]
    fn the_tables_name_exactly_the_members_of_the_model() {
        let pairs: [(&dyn Structure, Table); 11] = [
            (&types::RegisterTaskDefinitionRequest::default(), REGISTER_TASK_DEFINITION),
            (&types::ContainerDefinition::default(), CONTAINER_DEFINITION),
            (&types::LinuxParameters::default(), LINUX_PARAMETERS),
            (&types::PortMapping::default(), PORT_MAPPING),
            (&types::Volume::default(), VOLUME),
            (&types::LogConfiguration::default(), LOG_CONFIGURATION),
            (&types::RunTaskRequest::default(), RUN_TASK),
            (&types::TaskOverride::default(), TASK_OVERRIDE),
            (&types::ContainerOverride::default(), CONTAINER_OVERRIDE),
            (&types::CreateClusterRequest::default(), CREATE_CLUSTER),
            (&types::UpdateClusterRequest::default(), UPDATE_CLUSTER),
        ];
        for (structure, table) in pairs {
            let shape = structure.shape();
            let of_model: BTreeSet<_> = shape.members.iter().map(|member| member.name).collect();
            let of_table: BTreeSet<_> = table.iter().map(|(name, _)| *name).collect();
            assert_eq!(of_model, of_table, "{}", shape.name);
        }
    }

    #[test]
    fn a_refused_member_is_named_and_an_empty_one_is_not_given() {
        let mut container = types::ContainerDefinition {
            firelens_configuration: Some(types::FirelensConfiguration::default()),
            ..types::ContainerDefinition::default()
        };
        let error = check(&container, CONTAINER_DEFINITION, "RegisterTaskDefinition").unwrap_err();
        assert_eq!(error.code, "NotImplemented");
        assert!(
            error.message.contains("the field \"firelensConfiguration\" of ecs:RegisterTaskDefinition"),
            "{error}"
        );
        container.firelens_configuration = None;
        container.privileged = Some(false);
        container.mount_points = Some(Vec::new());
        check(&container, CONTAINER_DEFINITION, "RegisterTaskDefinition").unwrap();
    }
}
