//! Managed policies, their versions, inline policies and what the directory makes of them.

mod support;

use std::sync::Arc;

use support::{ALLOW_ALL, House, account, house, refused};
use wharf_contracts::{IdentityPolicies as _, IdentityRef};
use wharf_iam_api::{Iam as _, types};

const DENY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#;

fn version(arn: &str, set_as_default: bool) -> types::CreatePolicyVersionRequest {
    types::CreatePolicyVersionRequest {
        policy_arn: arn.into(),
        policy_document: DENY.into(),
        set_as_default: Some(set_as_default),
    }
}

async fn default_version(house: &House, arn: &str) -> String {
    let input = types::GetPolicyRequest { policy_arn: arn.into() };
    house.iam.get_policy(&house.root(), input).await.unwrap().policy.unwrap().default_version_id.unwrap()
}

#[tokio::test]
async fn a_policy_has_five_versions_and_one_of_them_counts() {
    let house = house();
    let root = house.root();
    let arn = house.policy("p").await;
    assert_eq!(arn, "arn:aws:iam::123456789012:policy/p");
    for number in 2..=5 {
        let made = house.iam.create_policy_version(&root, version(&arn, number == 3)).await.unwrap();
        assert_eq!(made.policy_version.unwrap().version_id.unwrap(), format!("v{number}"));
    }
    assert_eq!(default_version(&house, &arn).await, "v3");
    refused(
        house.iam.create_policy_version(&root, version(&arn, false)),
        "LimitExceeded",
        "A managed policy can have up to 5 versions. Before you create a new version, you must delete an existing \
         version.",
    )
    .await;
    let delete =
        |id: &str| types::DeletePolicyVersionRequest { policy_arn: arn.clone(), version_id: id.into() };
    refused(
        house.iam.delete_policy_version(&root, delete("v3")),
        "DeleteConflict",
        "Cannot delete the default version of a policy.",
    )
    .await;
    house.iam.delete_policy_version(&root, delete("v5")).await.unwrap();
    // A number is not used again.
    let made = house.iam.create_policy_version(&root, version(&arn, false)).await.unwrap();
    assert_eq!(made.policy_version.unwrap().version_id.as_deref(), Some("v6"));
    let set = types::SetDefaultPolicyVersionRequest { policy_arn: arn.clone(), version_id: "v1".into() };
    house.iam.set_default_policy_version(&root, set).await.unwrap();
    let get = types::GetPolicyVersionRequest { policy_arn: arn.clone(), version_id: "v1".into() };
    let first = house.iam.get_policy_version(&root, get).await.unwrap().policy_version.unwrap();
    assert_eq!(first.is_default_version, Some(true));
    assert!(first.document.unwrap().starts_with("%7B%22Version%22%3A%222012-10-17%22"));
    let list = types::ListPolicyVersionsRequest {
        policy_arn: arn.clone(),
        max_items: Some(2),
        ..Default::default()
    };
    let page = house.iam.list_policy_versions(&root, list.clone()).await.unwrap();
    let rest = types::ListPolicyVersionsRequest { marker: page.marker.clone(), ..list };
    let rest = house.iam.list_policy_versions(&root, rest).await.unwrap();
    let ids: Vec<String> = page
        .versions
        .into_iter()
        .chain(rest.versions)
        .flatten()
        .filter_map(|version| version.version_id)
        .collect();
    assert_eq!(ids, ["v6", "v4", "v3", "v2"]);
    let delete = types::DeletePolicyRequest { policy_arn: arn };
    assert_eq!(house.iam.delete_policy(&root, delete).await.unwrap_err().code, "DeleteConflict");
}

#[tokio::test]
async fn policies_are_attached_counted_and_found_by_whom_they_are_attached_to() {
    let house = house();
    let root = house.root();
    let arn = house.policy("p").await;
    house.user("alice").await;
    house.group("g").await;
    house.role("r").await;
    let user = types::AttachUserPolicyRequest { user_name: "alice".into(), policy_arn: arn.clone() };
    house.iam.attach_user_policy(&root, user.clone()).await.unwrap();
    house.iam.attach_user_policy(&root, user).await.unwrap();
    let group = types::AttachGroupPolicyRequest { group_name: "g".into(), policy_arn: arn.clone() };
    house.iam.attach_group_policy(&root, group).await.unwrap();
    let role = types::AttachRolePolicyRequest { role_name: "r".into(), policy_arn: arn.clone() };
    house.iam.attach_role_policy(&root, role).await.unwrap();
    let get = types::GetPolicyRequest { policy_arn: arn.clone() };
    let policy = house.iam.get_policy(&root, get).await.unwrap().policy.unwrap();
    assert_eq!(policy.attachment_count, Some(3));
    let entities = types::ListEntitiesForPolicyRequest { policy_arn: arn.clone(), ..Default::default() };
    let found = house.iam.list_entities_for_policy(&root, entities.clone()).await.unwrap();
    assert_eq!(found.policy_users.unwrap()[0].user_name.as_deref(), Some("alice"));
    assert_eq!(found.policy_groups.unwrap().len() + found.policy_roles.unwrap().len(), 2);
    let roles = types::ListEntitiesForPolicyRequest {
        entity_filter: Some(types::EntityType::Role),
        max_items: Some(1),
        ..entities
    };
    let found = house.iam.list_entities_for_policy(&root, roles).await.unwrap();
    assert!(found.policy_users.unwrap().is_empty() && found.is_truncated == Some(false));
    let delete = types::DeletePolicyRequest { policy_arn: arn.clone() };
    refused(
        house.iam.delete_policy(&root, delete),
        "DeleteConflict",
        "Cannot delete a policy attached to entities.",
    )
    .await;
    let detach = types::DetachRolePolicyRequest { role_name: "r".into(), policy_arn: arn.clone() };
    house.iam.detach_role_policy(&root, detach.clone()).await.unwrap();
    refused(
        house.iam.detach_role_policy(&root, detach),
        "NoSuchEntity",
        "Policy arn:aws:iam::123456789012:policy/p was not found.",
    )
    .await;
    for (wrong, code, message) in [
        (
            "arn:aws:iam::123456789012:policy/none",
            "NoSuchEntity",
            "Policy arn:aws:iam::123456789012:policy/none does not exist or is not attachable.",
        ),
        (
            "arn:aws:iam::123456789012:policy/P",
            "NoSuchEntity",
            "Policy arn:aws:iam::123456789012:policy/P does not exist or is not attachable.",
        ),
        (
            "arn:aws:iam::210987654321:policy/p",
            "NoSuchEntity",
            "Policy arn:aws:iam::210987654321:policy/p does not exist or is not attachable.",
        ),
        ("arn:aws:s3:::a-bucket-of-mine", "InvalidInput", "ARN arn:aws:s3:::a-bucket-of-mine is not valid."),
    ] {
        let attach = types::AttachUserPolicyRequest { user_name: "alice".into(), policy_arn: wrong.into() };
        refused(house.iam.attach_user_policy(&root, attach), code, message).await;
    }
}

#[tokio::test]
async fn ten_policies_are_attached_and_no_more() {
    let house = house();
    house.role("r").await;
    for number in 0..11 {
        let policy_arn = house.policy(&format!("p{number}")).await;
        let attach = types::AttachRolePolicyRequest { role_name: "r".into(), policy_arn };
        let answer = house.iam.attach_role_policy(&house.root(), attach).await;
        assert_eq!(answer.is_ok(), number < 10);
    }
}

#[tokio::test]
async fn documents_are_checked_and_have_their_sizes() {
    let house = house();
    let root = house.root();
    house.user("alice").await;
    let put = |name: &str, document: String| types::PutUserPolicyRequest {
        user_name: "alice".into(),
        policy_name: name.into(),
        policy_document: document,
    };
    let broken = put("p", "{".into());
    refused(house.iam.put_user_policy(&root, broken), "MalformedPolicyDocument", "Syntax errors in policy.")
        .await;
    let trust = put("p", support::TRUST.into());
    assert_eq!(house.iam.put_user_policy(&root, trust).await.unwrap_err().code, "MalformedPolicyDocument");
    let long = |chars: usize| {
        let resource = format!("arn:aws:s3:::{}", "x".repeat(chars));
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"s3:*","Resource":"{resource}"}}]}}"#
        )
    };
    house.iam.put_user_policy(&root, put("a", long(1000))).await.unwrap();
    // All inline policies of a user together; white space is free.
    refused(
        house.iam.put_user_policy(&root, put("b", long(1000))),
        "LimitExceeded",
        "Maximum policy size of 2048 bytes exceeded for user alice",
    )
    .await;
    house
        .iam
        .put_user_policy(&root, put("b", ALLOW_ALL.replace(':', &format!(":{}", " ".repeat(4000)))))
        .await
        .unwrap();
    let create = types::CreatePolicyRequest {
        policy_name: "p".into(),
        policy_document: long(6144),
        ..Default::default()
    };
    refused(
        house.iam.create_policy(&root, create),
        "LimitExceeded",
        "Cannot exceed quota for PolicySize: 6144",
    )
    .await;
    let get = types::GetUserPolicyRequest { user_name: "alice".into(), policy_name: "none".into() };
    refused(
        house.iam.get_user_policy(&root, get),
        "NoSuchEntity",
        "The user policy with name none cannot be found.",
    )
    .await;
}

#[tokio::test]
async fn the_directory_tells_of_every_policy_and_at_once_of_a_change() {
    let house = house();
    let root = house.root();
    let alice = house.user("alice").await;
    house.group("g").await;
    let arn = house.policy("p").await;
    let identity = || house.iam.identity(IdentityRef::User { account: account(), id: &alice.user_id });
    assert!(identity().unwrap().policies.is_empty());
    let add = types::AddUserToGroupRequest { group_name: "g".into(), user_name: "alice".into() };
    house.iam.add_user_to_group(&root, add).await.unwrap();
    let attach = types::AttachGroupPolicyRequest { group_name: "g".into(), policy_arn: arn.clone() };
    house.iam.attach_group_policy(&root, attach).await.unwrap();
    let put = types::PutUserPolicyRequest {
        user_name: "alice".into(),
        policy_name: "inline".into(),
        policy_document: DENY.into(),
    };
    house.iam.put_user_policy(&root, put).await.unwrap();
    let bound = types::PutUserPermissionsBoundaryRequest {
        user_name: "alice".into(),
        permissions_boundary: arn.clone(),
    };
    house.iam.put_user_permissions_boundary(&root, bound).await.unwrap();
    let before = identity().unwrap();
    let names: Vec<&str> = before.policies.iter().map(|policy| &*policy.name).collect();
    assert_eq!(names, ["user/alice/inline", arn.as_str()]);
    assert_eq!(&*before.boundary.as_ref().unwrap().document, ALLOW_ALL);
    assert!(Arc::ptr_eq(&before, &identity().unwrap()), "what has not changed is not made again");
    let made = house.iam.create_policy_version(&root, version(&arn, true)).await.unwrap();
    assert_eq!(made.policy_version.unwrap().is_default_version, Some(true));
    let after = identity().unwrap();
    assert_eq!(&*after.policies[1].document, DENY);
    assert!(Arc::ptr_eq(&before.policies[0].document, &after.policies[0].document));
    let delete = types::DeletePolicyRequest { policy_arn: arn.clone() };
    assert_eq!(house.iam.delete_policy(&root, delete).await.unwrap_err().code, "DeleteConflict");
    let other = "999999999999".parse().unwrap();
    assert!(house.iam.identity(IdentityRef::User { account: other, id: &alice.user_id }).is_none());
    assert!(house.iam.identity(IdentityRef::Role { account: account(), id: &alice.user_id }).is_none());
    assert!(house.iam.managed_policy(account(), &arn).is_some());
    assert!(house.iam.managed_policy(other, &arn).is_none());
}

#[tokio::test]
async fn a_boundary_is_a_policy_that_exists_and_is_counted() {
    let house = house();
    let root = house.root();
    let arn = house.policy("limit").await;
    let create = |boundary: &str| types::CreateUserRequest {
        user_name: "alice".into(),
        permissions_boundary: Some(boundary.into()),
        ..Default::default()
    };
    refused(
        house.iam.create_user(&root, create("arn:aws:iam::123456789012:policy/none")),
        "NoSuchEntity",
        "Scope ARN: arn:aws:iam::123456789012:policy/none does not exist or is not attachable.",
    )
    .await;
    let user = house.iam.create_user(&root, create(&arn)).await.unwrap().user.unwrap();
    assert_eq!(user.permissions_boundary.unwrap().permissions_boundary_arn.as_deref(), Some(arn.as_str()));
    let list = types::ListPoliciesRequest {
        scope: Some(types::PolicyScopeType::Local),
        policy_usage_filter: Some(types::PolicyUsageType::PermissionsBoundary),
        ..Default::default()
    };
    let policies = house.iam.list_policies(&root, list).await.unwrap().policies.unwrap();
    assert_eq!(policies[0].permissions_boundary_usage_count, Some(1));
    let entities = types::ListEntitiesForPolicyRequest {
        policy_arn: arn.clone(),
        policy_usage_filter: Some(types::PolicyUsageType::PermissionsBoundary),
        ..Default::default()
    };
    let found = house.iam.list_entities_for_policy(&root, entities).await.unwrap();
    assert_eq!(found.policy_users.unwrap().len(), 1);
    let remove = types::DeleteUserPermissionsBoundaryRequest { user_name: "alice".into() };
    house.iam.delete_user_permissions_boundary(&root, remove).await.unwrap();
    let delete = types::DeletePolicyRequest { policy_arn: arn };
    house.iam.delete_policy(&root, delete).await.unwrap();
}
