//! What IAM is to be asked for each operation: the action, the resources, the condition keys.
//!
//! Service Authorization Reference, "Actions, resources, and condition keys for Amazon Elastic
//! Container Service". Data alone; whoever evaluates policies reads it.

/// The kind of a resource that an operation touches, and where the request names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `arn:…:cluster/NAME`, from this member; the default cluster when it is absent.
    Cluster(&'static str),
    /// `arn:…:task-definition/FAMILY:REVISION`, from this member.
    TaskDefinition(&'static str),
    /// `arn:…:task/CLUSTER/ID`, from this member.
    Task(&'static str),
    /// An ARN as it stands in this member.
    Arn(&'static str),
    /// `*`.
    Any,
}

/// What an operation asks of IAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authorization {
    pub operation: &'static str,
    pub action: &'static str,
    pub resources: &'static [Resource],
    /// Beside the global ones.
    pub condition_keys: &'static [&'static str],
}

const CLUSTER: &str = "ecs:cluster";
const REQUEST_TAG: &str = "aws:RequestTag/${TagKey}";
const RESOURCE_TAG: &str = "aws:ResourceTag/${TagKey}";
const TAG_KEYS: &str = "aws:TagKeys";

macro_rules! authorizations {
    ($($operation:literal [$($resource:expr),*] [$($key:expr),*];)*) => {
        pub const AUTHORIZATIONS: &[Authorization] = &[$(Authorization {
            operation: $operation,
            action: concat!("ecs:", $operation),
            resources: &[$($resource),*],
            condition_keys: &[$($key),*],
        }),*];
    };
}

authorizations! {
    "CreateCluster" [Resource::Any] [REQUEST_TAG, TAG_KEYS, "ecs:capacity-provider"];
    "DeleteCluster" [Resource::Cluster("cluster")] [RESOURCE_TAG];
    "DeleteTaskDefinitions" [Resource::TaskDefinition("taskDefinitions")] [RESOURCE_TAG];
    "DeregisterTaskDefinition" [Resource::Any] [];
    "DescribeCapacityProviders" [Resource::Any] [];
    "DescribeClusters" [Resource::Cluster("clusters")] [RESOURCE_TAG];
    "DescribeTaskDefinition" [Resource::Any] [];
    "DescribeTasks" [Resource::Task("tasks")] [RESOURCE_TAG, CLUSTER];
    "ListAccountSettings" [Resource::Any] [];
    "ListClusters" [Resource::Any] [];
    "ListTagsForResource" [Resource::Arn("resourceArn")] [RESOURCE_TAG];
    "ListTaskDefinitionFamilies" [Resource::Any] [];
    "ListTaskDefinitions" [Resource::Any] [];
    "ListTasks" [Resource::Any] [CLUSTER];
    "PutClusterCapacityProviders" [Resource::Cluster("cluster")] [RESOURCE_TAG, "ecs:capacity-provider"];
    "RegisterTaskDefinition" [Resource::Any] [REQUEST_TAG, TAG_KEYS];
    "RunTask" [Resource::TaskDefinition("taskDefinition")]
        [REQUEST_TAG, RESOURCE_TAG, TAG_KEYS, CLUSTER, "ecs:capacity-provider", "ecs:enable-execute-command"];
    "StopTask" [Resource::Task("task")] [RESOURCE_TAG, CLUSTER];
    "TagResource" [Resource::Arn("resourceArn")] [REQUEST_TAG, RESOURCE_TAG, TAG_KEYS, "ecs:CreateAction"];
    "UntagResource" [Resource::Arn("resourceArn")] [RESOURCE_TAG, TAG_KEYS];
    "UpdateCluster" [Resource::Cluster("cluster")] [RESOURCE_TAG];
    "UpdateClusterSettings" [Resource::Cluster("cluster")] [RESOURCE_TAG];
}

/// What IAM is asked for an operation that Wharf does; `None` for others.
pub fn of(operation: &str) -> Option<&'static Authorization> {
    AUTHORIZATIONS.iter().find(|entry| entry.operation == operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_an_operation_of_the_model_and_names_a_member_of_its_input() {
        for entry in AUTHORIZATIONS {
            let operation = wharf_ecs_api::MODEL.operations.iter().find(|of| of.name == entry.operation);
            let operation = operation.unwrap_or_else(|| panic!("{} is no operation", entry.operation));
            for resource in entry.resources {
                if let Resource::Cluster(member)
                | Resource::TaskDefinition(member)
                | Resource::Task(member)
                | Resource::Arn(member) = resource
                {
                    let known = operation.input.members.iter().any(|of| of.name == *member);
                    assert!(known, "{} has no member {member}", entry.operation);
                }
            }
        }
        assert_eq!(of("RunTask").map(|entry| entry.action), Some("ecs:RunTask"));
        assert_eq!(of("CreateService"), None);
    }
}
