//! Roles, instance profiles and service-linked roles.

mod support;

use support::{TRUST, account, house, refused};
use wharf_contracts::{PrincipalUse, PrincipalUses as _, Roles as _};
use wharf_core::{Principal, Timestamp};
use wharf_iam_api::{Iam as _, types};

fn get_role(name: &str) -> types::GetRoleRequest {
    types::GetRoleRequest { role_name: name.into() }
}

#[tokio::test]
async fn what_terraform_reads_of_a_role_is_there_and_ends_with_it() {
    let house = house();
    let root = house.root();
    let input = types::CreateRoleRequest {
        role_name: "task".into(),
        path: Some("/app/".into()),
        assume_role_policy_document: TRUST.into(),
        description: Some("what tasks may do".into()),
        max_session_duration: Some(7200),
        ..Default::default()
    };
    let made = house.iam.create_role(&root, input.clone()).await.unwrap().role;
    assert_eq!(made.arn, "arn:aws:iam::123456789012:role/app/task");
    assert!(made.role_id.starts_with("AROA"));
    refused(
        house.iam.create_role(&root, input),
        "EntityAlreadyExists",
        "Role with name task already exists.",
    )
    .await;
    let role = house.iam.get_role(&root, get_role("task")).await.unwrap().role;
    assert_eq!(role.max_session_duration, Some(7200));
    assert_eq!(role.role_last_used, Some(types::RoleLastUsed::default()));
    assert!(role.assume_role_policy_document.unwrap().contains("ecs-tasks.amazonaws.com"));
    let facts = house.iam.role(account(), "task").unwrap();
    assert_eq!((&*facts.trust_policy, facts.max_session_duration.as_secs()), (TRUST, 7200));

    let policies = types::ListRolePoliciesRequest { role_name: "task".into(), ..Default::default() };
    assert!(house.iam.list_role_policies(&root, policies).await.unwrap().policy_names.is_empty());
    let attached = types::ListAttachedRolePoliciesRequest { role_name: "task".into(), ..Default::default() };
    let attached = house.iam.list_attached_role_policies(&root, attached).await.unwrap();
    assert_eq!(attached.attached_policies, Some(Vec::new()));
    let profiles =
        types::ListInstanceProfilesForRoleRequest { role_name: "task".into(), ..Default::default() };
    assert!(
        house
            .iam
            .list_instance_profiles_for_role(&root, profiles)
            .await
            .unwrap()
            .instance_profiles
            .is_empty()
    );

    let update = types::UpdateRoleRequest { role_name: "task".into(), ..Default::default() };
    house.iam.update_role(&root, update).await.unwrap();
    let role = house.iam.get_role(&root, get_role("task")).await.unwrap().role;
    assert_eq!((role.max_session_duration, role.description.is_some()), (Some(3600), true));
    let delete = types::DeleteRoleRequest { role_name: "task".into() };
    house.iam.delete_role(&root, delete).await.unwrap();
    refused(
        house.iam.get_role(&root, get_role("task")),
        "NoSuchEntity",
        "The role with name task cannot be found.",
    )
    .await;
    assert!(house.iam.role(account(), "task").is_none());
}

#[tokio::test]
async fn trust_policies_name_principals_that_exist() {
    let house = house();
    let root = house.root();
    let trust = |principal: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"{principal}"}},"Action":"sts:AssumeRole"}}]}}"#
        )
    };
    let create = |name: &str, principal: &str| types::CreateRoleRequest {
        role_name: name.into(),
        assume_role_policy_document: trust(principal),
        ..Default::default()
    };
    let alice = "arn:aws:iam::123456789012:user/alice";
    refused(
        house.iam.create_role(&root, create("r", alice)),
        "MalformedPolicyDocument",
        &format!("Invalid principal in policy: \"AWS\":\"{alice}\""),
    )
    .await;
    house.user("alice").await;
    for (number, principal) in
        [alice, "123456789012", "*", "arn:aws:iam::210987654321:root", "arn:aws:iam::210987654321:role/x"]
            .into_iter()
            .enumerate()
    {
        house.iam.create_role(&root, create(&format!("r{number}"), principal)).await.unwrap();
    }
    let wrong_path = "arn:aws:iam::123456789012:user/team/alice";
    let update =
        types::UpdateAssumeRolePolicyRequest { role_name: "r0".into(), policy_document: trust(wrong_path) };
    assert_eq!(
        house.iam.update_assume_role_policy(&root, update).await.unwrap_err().code,
        "MalformedPolicyDocument"
    );
    let long = types::UpdateAssumeRolePolicyRequest {
        role_name: "r0".into(),
        policy_document: trust(&"1".repeat(2048)),
    };
    refused(
        house.iam.update_assume_role_policy(&root, long),
        "LimitExceeded",
        "Cannot exceed quota for ACLSizePerRole: 2048",
    )
    .await;
}

#[tokio::test]
async fn an_instance_profile_has_one_role_and_holds_it() {
    let house = house();
    let root = house.root();
    house.role("r").await;
    house.role("other").await;
    let create =
        types::CreateInstanceProfileRequest { instance_profile_name: "p".into(), ..Default::default() };
    let made = house.iam.create_instance_profile(&root, create.clone()).await.unwrap().instance_profile;
    assert_eq!(made.arn, "arn:aws:iam::123456789012:instance-profile/p");
    refused(
        house.iam.create_instance_profile(&root, create),
        "EntityAlreadyExists",
        "Instance Profile p already exists.",
    )
    .await;
    let add = |role: &str| types::AddRoleToInstanceProfileRequest {
        instance_profile_name: "p".into(),
        role_name: role.into(),
    };
    house.iam.add_role_to_instance_profile(&root, add("r")).await.unwrap();
    refused(
        house.iam.add_role_to_instance_profile(&root, add("other")),
        "LimitExceeded",
        "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1",
    )
    .await;
    let get = types::GetInstanceProfileRequest { instance_profile_name: "p".into() };
    let profile = house.iam.get_instance_profile(&root, get).await.unwrap().instance_profile;
    assert_eq!(profile.roles[0].role_name, "r");
    refused(
        house.iam.delete_role(&root, types::DeleteRoleRequest { role_name: "r".into() }),
        "DeleteConflict",
        "Cannot delete entity, must remove roles from instance profile first.",
    )
    .await;
    let delete = || types::DeleteInstanceProfileRequest { instance_profile_name: "p".into() };
    refused(
        house.iam.delete_instance_profile(&root, delete()),
        "DeleteConflict",
        "Cannot delete entity, must remove roles from instance profile first.",
    )
    .await;
    let remove = types::RemoveRoleFromInstanceProfileRequest {
        instance_profile_name: "p".into(),
        role_name: "r".into(),
    };
    house.iam.remove_role_from_instance_profile(&root, remove).await.unwrap();
    house.iam.delete_instance_profile(&root, delete()).await.unwrap();
    house.iam.delete_role(&root, types::DeleteRoleRequest { role_name: "r".into() }).await.unwrap();
}

#[tokio::test]
async fn a_service_linked_role_is_changed_by_nobody_and_deleted_by_its_own_operation() {
    let house = house();
    let root = house.root();
    let create = |service: &str, suffix: Option<&str>| types::CreateServiceLinkedRoleRequest {
        aws_service_name: service.into(),
        custom_suffix: suffix.map(str::to_owned),
        ..Default::default()
    };
    let role = house
        .iam
        .create_service_linked_role(&root, create("ecs.amazonaws.com", None))
        .await
        .unwrap()
        .role
        .unwrap();
    assert_eq!(
        role.arn,
        "arn:aws:iam::123456789012:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS"
    );
    refused(
        house.iam.create_service_linked_role(&root, create("ecs.amazonaws.com", None)),
        "InvalidInput",
        "Service role name AWSServiceRoleForECS has been taken in this account, please try a different suffix.",
    )
    .await;
    refused(
        house.iam.create_service_linked_role(&root, create("ecs.amazonaws.com", Some("x"))),
        "InvalidInput",
        "Custom suffix is not allowed for ecs.amazonaws.com",
    )
    .await;
    let name = "AWSServiceRoleForECS";
    let protected = "Cannot perform the operation on the protected role 'AWSServiceRoleForECS' - this role is only \
                     modifiable by AWS";
    refused(
        house.iam.delete_role(&root, types::DeleteRoleRequest { role_name: name.into() }),
        "UnmodifiableEntity",
        protected,
    )
    .await;
    let put = types::PutRolePolicyRequest {
        role_name: name.into(),
        policy_name: "p".into(),
        policy_document: support::ALLOW_ALL.into(),
    };
    refused(house.iam.put_role_policy(&root, put), "UnmodifiableEntity", protected).await;
    let delete = types::DeleteServiceLinkedRoleRequest { role_name: name.into() };
    let task = house.iam.delete_service_linked_role(&root, delete).await.unwrap().deletion_task_id;
    let status = types::GetServiceLinkedRoleDeletionStatusRequest { deletion_task_id: task };
    let status = house.iam.get_service_linked_role_deletion_status(&root, status).await.unwrap().status;
    assert_eq!(status, types::DeletionTaskStatusType::Succeeded);
    assert_eq!(house.iam.get_role(&root, get_role(name)).await.unwrap_err().code, "NoSuchEntity");
}

#[tokio::test]
async fn the_last_use_of_a_role_is_told_before_and_after_it_is_written() {
    let house = house();
    let role = house.role("r").await;
    let session = Principal::AssumedRole {
        account: account(),
        role_id: role.role_id.as_str().into(),
        role_path: "/".into(),
        role_name: "r".into(),
        session_name: "s".into(),
    };
    let last =
        async || house.iam.get_role(&house.root(), get_role("r")).await.unwrap().role.role_last_used.unwrap();
    let region = "eu-west-1".parse().unwrap();
    for (at, flush) in [(1_000, true), (2_000, false), (1_500, true)] {
        house.iam.used(&PrincipalUse {
            principal: &session,
            access_key_id: "ASIA0",
            service: "ecs",
            region: &region,
            at: Timestamp::from_millis(at),
        });
        if flush {
            house.iam.flush_uses().await.unwrap();
        }
    }
    let used = last().await;
    assert_eq!(used.last_used_date, Some(Timestamp::from_millis(2_000)));
    assert_eq!(used.region.as_deref(), Some("eu-west-1"));
}
