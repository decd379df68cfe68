//! Roles that belong to a service of AWS (API Reference: CreateServiceLinkedRole,
//! DeleteServiceLinkedRole, GetServiceLinkedRoleDeletionStatus).

use std::collections::BTreeSet;
use std::time::Duration;

use wharf_core::{ApiError, RequestContext};
use wharf_iam_api::{errors, types};
use wharf_state::Key as _;

use super::role::{ROLES_MAX, SERVICE_LINKED_PATH};
use crate::describe::{self, Detail};
use crate::records::{Deletion, Policies, Role, Tags, UseRecord};
use crate::{Iam, failures, find, ids, managed};

/// How long the end of a deletion is told.
const DELETIONS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
const SESSION_SECONDS: u32 = 3600;

/// A service with a service-linked role.
struct Linked {
    /// The service principal.
    service: &'static str,
    role: &'static str,
    /// The managed policy under `/aws-service-role/`.
    policy: &'static str,
    description: &'static str,
    suffix: Suffix,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Suffix {
    Allowed,
    Refused,
}

const fn linked(
    service: &'static str,
    role: &'static str,
    policy: &'static str,
    description: &'static str,
) -> Linked {
    Linked { service, role, policy, description, suffix: Suffix::Refused }
}

/// The services of this field, from their user guides ("Using service-linked roles for …").
const SERVICES: &[Linked] = &[
    Linked {
        suffix: Suffix::Allowed,
        ..linked(
            "autoscaling.amazonaws.com",
            "AWSServiceRoleForAutoScaling",
            "AutoScalingServiceRolePolicy",
            "Default Service-Linked Role enables access to AWS Services and Resources used or managed by Auto \
             Scaling",
        )
    },
    linked("batch.amazonaws.com", "AWSServiceRoleForBatch", "BatchServiceRolePolicy", ""),
    linked(
        "ecs.amazonaws.com",
        "AWSServiceRoleForECS",
        "AmazonECSServiceRolePolicy",
        "Role to enable Amazon ECS to manage your cluster.",
    ),
    linked(
        "ecs.application-autoscaling.amazonaws.com",
        "AWSServiceRoleForApplicationAutoScaling_ECSService",
        "AWSApplicationAutoscalingECSServicePolicy",
        "",
    ),
    linked("eks.amazonaws.com", "AWSServiceRoleForAmazonEKS", "AmazonEKSServiceRolePolicy", ""),
    linked(
        "eks-fargate.amazonaws.com",
        "AWSServiceRoleForAmazonEKSForFargate",
        "AmazonEKSForFargateServiceRolePolicy",
        "",
    ),
    linked(
        "eks-nodegroup.amazonaws.com",
        "AWSServiceRoleForAmazonEKSNodegroup",
        "AWSServiceRoleForAmazonEKSNodegroup",
        "",
    ),
    linked(
        "elasticloadbalancing.amazonaws.com",
        "AWSServiceRoleForElasticLoadBalancing",
        "AWSElasticLoadBalancingServiceRolePolicy",
        "Allows ELB to call AWS services on your behalf.",
    ),
    linked(
        "ops.apigateway.amazonaws.com",
        "AWSServiceRoleForAPIGateway",
        "APIGatewayServiceRolePolicy",
        "The Service Linked Role is used by Amazon API Gateway.",
    ),
    linked(
        "replication.ecr.amazonaws.com",
        "AWSServiceRoleForECRReplication",
        "ECRReplicationServiceRolePolicy",
        "",
    ),
];

/// The name of a service's role; `None` for a service that has none.
pub fn role_name(service: &str, suffix: Option<&str>) -> Option<String> {
    let linked = SERVICES.iter().find(|linked| linked.service == service)?;
    Some(match suffix {
        Some(suffix) => format!("{}_{suffix}", linked.role),
        None => linked.role.to_owned(),
    })
}

impl Iam {
    pub(super) async fn create_service_linked_role(
        &self,
        context: &RequestContext,
        input: types::CreateServiceLinkedRoleRequest,
    ) -> Result<types::CreateServiceLinkedRoleResponse, ApiError> {
        let account = context.account();
        let service = input.aws_service_name;
        let linked = SERVICES.iter().find(|linked| linked.service == service).ok_or_else(|| {
            errors::invalid_input_exception(format!(
                "Service {service} has no service-linked role that Wharf knows."
            ))
        })?;
        let name = match input.custom_suffix {
            Some(_) if linked.suffix == Suffix::Refused => {
                return Err(errors::invalid_input_exception(format!(
                    "Custom suffix is not allowed for {service}"
                )));
            }
            Some(suffix) => format!("{}_{suffix}", linked.role),
            None => linked.role.to_owned(),
        };
        let trust_policy = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"Service":["{service}"]}},"Action":["sts:AssumeRole"]}}]}}"#
        );
        let policy = managed::find(&format!("{SERVICE_LINKED_PATH}{}", linked.policy));
        let attached: BTreeSet<_> = policy.iter().map(|policy| policy.full_name()).collect();
        let id = ids::unique(ids::ROLE, &*self.rng);
        let role = self
            .change(|transaction| {
                if find::named::<Role>(transaction, account, &name).is_some() {
                    return Err(errors::invalid_input_exception(format!(
                        "Service role name {name} has been taken in this account, please try a different suffix."
                    )));
                }
                if find::all::<Role, _>(transaction, account).count() >= ROLES_MAX {
                    return Err(failures::quota("RolesPerAccount", ROLES_MAX));
                }
                let description = input.description.or_else(|| Some(linked.description.to_owned()));
                let role = Role {
                    account,
                    id,
                    name,
                    path: format!("{SERVICE_LINKED_PATH}{service}/"),
                    created_at: context.now,
                    description: description.filter(|text| !text.is_empty()),
                    max_session_seconds: SESSION_SECONDS,
                    trust_policy: trust_policy.into(),
                    policies: Policies { attached, ..Policies::default() },
                    tags: Tags::new(),
                    linked_service: Some(service),
                };
                transaction.put(role.clone());
                Ok(role)
            })
            .await?;
        Ok(types::CreateServiceLinkedRoleResponse {
            role: Some(describe::role(context.partition(), &role, Detail::Full, None)),
        })
    }

    /// The role is gone when this answers: nothing here holds on to a service-linked role.
    pub(super) async fn delete_service_linked_role(
        &self,
        context: &RequestContext,
        input: types::DeleteServiceLinkedRoleRequest,
    ) -> Result<types::DeleteServiceLinkedRoleResponse, ApiError> {
        let account = context.account();
        let uuid = ids::uuid(&*self.rng);
        let task_id = self
            .change(|transaction| {
                let role = find::role(transaction, account, &input.role_name)?;
                let Some(service) = &role.linked_service else {
                    return Err(failures::no_role(&input.role_name));
                };
                let task_id = format!("task{SERVICE_LINKED_PATH}{service}/{}/{uuid}", role.name);
                transaction.delete::<Role>(&(account, role.id.clone()));
                transaction.delete::<UseRecord>(&(account, role.id.clone()));
                let old: Vec<String> = transaction
                    .prefix::<Deletion>(&account.to_bytes())
                    .filter(|deletion| context.now.since(deletion.at) > DELETIONS_KEPT)
                    .map(|deletion| deletion.task_id.clone())
                    .collect();
                for task_id in old {
                    transaction.delete::<Deletion>(&(account, task_id));
                }
                transaction.put(Deletion { account, task_id: task_id.clone(), at: context.now });
                Ok(task_id)
            })
            .await?;
        Ok(types::DeleteServiceLinkedRoleResponse { deletion_task_id: task_id })
    }

    pub(super) async fn get_service_linked_role_deletion_status(
        &self,
        context: &RequestContext,
        input: types::GetServiceLinkedRoleDeletionStatusRequest,
    ) -> Result<types::GetServiceLinkedRoleDeletionStatusResponse, ApiError> {
        let key = (context.account(), input.deletion_task_id);
        if self.store.snapshot().get::<Deletion>(&key).is_none() {
            return Err(errors::no_such_entity_exception(format!(
                "The deletion task with id {} cannot be found.",
                key.1
            )));
        }
        Ok(types::GetServiceLinkedRoleDeletionStatusResponse {
            status: types::DeletionTaskStatusType::Succeeded,
            reason: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_s_role_has_its_policy() {
        for linked in SERVICES {
            let policy = format!("{SERVICE_LINKED_PATH}{}", linked.policy);
            assert!(managed::find(&policy).is_some(), "{policy}");
        }
    }
}
