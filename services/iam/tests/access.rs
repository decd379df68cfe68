//! The access advisor: which services, who, and when.

mod support;

use std::collections::BTreeMap;

use support::{House, account, house, refused};
use wharf_contracts::{PrincipalUse, PrincipalUses as _};
use wharf_core::{Principal, Timestamp};
use wharf_iam_api::{Iam as _, types};

const READ: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ecs:RunTask","logs:*"],"Resource":"*"}]}"#;

async fn report(house: &House, arn: &str) -> (String, BTreeMap<String, types::ServiceLastAccessed>) {
    let root = house.root();
    let generate = types::GenerateServiceLastAccessedDetailsRequest { arn: arn.into(), ..Default::default() };
    let job =
        house.iam.generate_service_last_accessed_details(&root, generate).await.unwrap().job_id.unwrap();
    let get = types::GetServiceLastAccessedDetailsRequest { job_id: job.clone(), ..Default::default() };
    let details = house.iam.get_service_last_accessed_details(&root, get).await.unwrap();
    assert_eq!(details.job_status, types::JobStatusType::Completed);
    let services = details.services_last_accessed.into_iter();
    (job, services.map(|service| (service.service_namespace.clone(), service)).collect())
}

fn use_of(house: &House, user: &types::User, service: &str, at: i64) {
    let principal = Principal::User {
        account: account(),
        id: user.user_id.as_str().into(),
        path: "/".into(),
        name: user.user_name.as_str().into(),
    };
    let region = "eu-west-1".parse().unwrap();
    house.iam.used(&PrincipalUse {
        principal: &principal,
        access_key_id: "AKIA0",
        service,
        region: &region,
        at: Timestamp::from_millis(at),
    });
}

#[tokio::test]
async fn a_report_tells_who_last_used_what_a_group_may_use() {
    let house = house();
    let root = house.root();
    let alice = house.user("alice").await;
    let bob = house.user("bob").await;
    house.group("g").await;
    for user in ["alice", "bob"] {
        let add = types::AddUserToGroupRequest { group_name: "g".into(), user_name: user.into() };
        house.iam.add_user_to_group(&root, add).await.unwrap();
    }
    let put = types::PutGroupPolicyRequest {
        group_name: "g".into(),
        policy_name: "read".into(),
        policy_document: READ.into(),
    };
    house.iam.put_group_policy(&root, put).await.unwrap();
    use_of(&house, &alice, "ecs", 1_000);
    use_of(&house, &bob, "ecs", 2_000);
    use_of(&house, &bob, "iam", 3_000);
    house.iam.flush_uses().await.unwrap();

    let (job, services) = report(&house, "arn:aws:iam::123456789012:group/g").await;
    // What was used and is not allowed is not part of it.
    assert_eq!(services.keys().collect::<Vec<_>>(), ["ecs", "logs"]);
    let ecs = &services["ecs"];
    assert_eq!(ecs.service_name, "Amazon Elastic Container Service");
    assert_eq!(ecs.last_authenticated, Some(Timestamp::from_millis(2_000)));
    assert_eq!(ecs.last_authenticated_entity.as_deref(), Some("arn:aws:iam::123456789012:user/bob"));
    assert_eq!(ecs.total_authenticated_entities, Some(2));
    assert_eq!(services["logs"].last_authenticated, None);
    let entities = types::GetServiceLastAccessedDetailsWithEntitiesRequest {
        job_id: job,
        service_namespace: "ecs".into(),
        ..Default::default()
    };
    let entities = house.iam.get_service_last_accessed_details_with_entities(&root, entities).await.unwrap();
    let names: Vec<String> =
        entities.entity_details_list.into_iter().map(|entity| entity.entity_info.name).collect();
    assert_eq!(names, ["bob", "alice"]);

    let granting = types::ListPoliciesGrantingServiceAccessRequest {
        arn: "arn:aws:iam::123456789012:user/alice".into(),
        service_namespaces: vec!["ecs".into(), "s3".into()],
        ..Default::default()
    };
    let granting = house.iam.list_policies_granting_service_access(&root, granting).await.unwrap();
    let of_ecs = granting.policies_granting_service_access[0].policies.as_ref().unwrap();
    assert_eq!((of_ecs[0].policy_name.as_str(), of_ecs[0].entity_name.as_deref()), ("read", Some("g")));
    assert_eq!(granting.policies_granting_service_access[1].policies, Some(Vec::new()));
}

#[tokio::test]
async fn uses_of_what_is_gone_are_not_kept() {
    let house = house();
    let root = house.root();
    let alice = house.user("alice").await;
    use_of(&house, &alice, "ecs", 1_000);
    let delete = types::DeleteUserRequest { user_name: "alice".into() };
    house.iam.delete_user(&root, delete).await.unwrap();
    house.iam.flush_uses().await.unwrap();
    assert_eq!(house.store.snapshot().count::<wharf_iam::records::UseRecord>(), 0);
    let generate =
        types::GenerateServiceLastAccessedDetailsRequest { arn: alice.arn.clone(), ..Default::default() };
    refused(
        house.iam.generate_service_last_accessed_details(&root, generate),
        "NoSuchEntity",
        "The user with name alice cannot be found.",
    )
    .await;
}

#[tokio::test]
async fn a_report_is_of_the_very_arn_that_is_asked_for() {
    let house = house();
    let root = house.root();
    house.user("alice").await;
    house.group("g").await;
    house.role("r").await;
    house.policy("p").await;
    for resource in ["user/alice", "group/g", "role/r", "policy/p"] {
        report(&house, &format!("arn:aws:iam::123456789012:{resource}")).await;
    }
    // Authorization was asked about the ARN of the request, path and case included.
    for resource in ["user/team/alice", "user/ALICE", "group/team/g", "role/team/r", "role/R", "policy/P"] {
        let generate = types::GenerateServiceLastAccessedDetailsRequest {
            arn: format!("arn:aws:iam::123456789012:{resource}"),
            ..Default::default()
        };
        let error = house.iam.generate_service_last_accessed_details(&root, generate).await.unwrap_err();
        assert_eq!(error.code, "NoSuchEntity", "{resource}");
    }
}
