//! Access keys of users and of root users, and what the credential chain reads of them.

mod support;

use support::{House, account, house, refused};
use wharf_contracts::{
    AccessKeys as _, IdentityPolicies as _, IdentityRef, KeyStatus, PrincipalUse, PrincipalUses as _, Secret,
};
use wharf_core::{Principal, Timestamp};
use wharf_iam_api::{Iam as _, types};

async fn create(house: &House, user: Option<&str>) -> types::AccessKey {
    let input = types::CreateAccessKeyRequest { user_name: user.map(str::to_owned) };
    house.iam.create_access_key(&house.root(), input).await.unwrap().access_key
}

async fn ids(house: &House, user: Option<&str>) -> Vec<(String, types::StatusType)> {
    let input = types::ListAccessKeysRequest { user_name: user.map(str::to_owned), ..Default::default() };
    let listed = house.iam.list_access_keys(&house.root(), input).await.unwrap().access_key_metadata;
    listed.into_iter().map(|key| (key.access_key_id.unwrap(), key.status.unwrap())).collect()
}

#[tokio::test]
async fn a_user_has_two_keys_that_verify_until_they_are_deactivated() {
    let house = house();
    let root = house.root();
    let user = house.user("alice").await;
    let first = create(&house, Some("alice")).await;
    create(&house, Some("alice")).await;
    let third = types::CreateAccessKeyRequest { user_name: Some("alice".into()) };
    refused(
        house.iam.create_access_key(&root, third),
        "LimitExceeded",
        "Cannot exceed quota for AccessKeysPerUser: 2",
    )
    .await;
    let found = house.iam.access_key(&first.access_key_id).unwrap();
    let Secret::Known(secret) = &found.secret else { panic!("an unverified key") };
    assert_eq!(*secret, first.secret_access_key);
    assert_eq!(found.status, KeyStatus::Active);
    assert_eq!(found.principal.user_id(), user.user_id);
    let stored = house.store.snapshot().get::<wharf_iam::records::AccessKey>(&first.access_key_id).unwrap();
    let secret = first.secret_access_key.as_bytes();
    assert!(!stored.sealed_secret.windows(secret.len()).any(|window| window == secret));

    let update = |status| types::UpdateAccessKeyRequest {
        access_key_id: first.access_key_id.clone(),
        status,
        user_name: Some("alice".into()),
    };
    house.iam.update_access_key(&root, update(types::StatusType::Inactive)).await.unwrap();
    assert_eq!(house.iam.access_key(&first.access_key_id).unwrap().status, KeyStatus::Inactive);
    house.iam.update_access_key(&root, update(types::StatusType::Active)).await.unwrap();
    assert_eq!(house.iam.access_key(&first.access_key_id).unwrap().status, KeyStatus::Active);
    house.user("bob").await;
    let of_another = types::DeleteAccessKeyRequest {
        access_key_id: first.access_key_id.clone(),
        user_name: Some("bob".into()),
    };
    refused(
        house.iam.delete_access_key(&root, of_another),
        "NoSuchEntity",
        &format!("The Access Key with id {} cannot be found.", first.access_key_id),
    )
    .await;
    assert_eq!(ids(&house, Some("alice")).await.len(), 2);
}

#[tokio::test]
async fn the_keys_of_the_box_are_listed_deactivated_and_deleted_by_root() {
    let house = house();
    let root = house.root();
    let active = types::StatusType::Active;
    assert_eq!(ids(&house, None).await, [("123456789012".into(), active.clone()), ("test".into(), active)]);
    let made = create(&house, None).await;
    let principal = house.iam.access_key(&made.access_key_id).unwrap().principal;
    assert_eq!(principal, Principal::Root { account: account() });
    let update = types::UpdateAccessKeyRequest {
        access_key_id: "test".into(),
        status: types::StatusType::Inactive,
        user_name: None,
    };
    house.iam.update_access_key(&root, update).await.unwrap();
    assert_eq!(house.iam.built_in_key("test", account()), Some(KeyStatus::Inactive));
    for id in ["test", "123456789012"] {
        let delete = types::DeleteAccessKeyRequest { access_key_id: id.into(), user_name: None };
        house.iam.delete_access_key(&root, delete).await.unwrap();
        assert_eq!(house.iam.built_in_key(id, account()), None);
    }
    assert_eq!(ids(&house, None).await.len(), 1);
    let again = types::DeleteAccessKeyRequest { access_key_id: "test".into(), user_name: None };
    assert_eq!(house.iam.delete_access_key(&root, again).await.unwrap_err().code, "NoSuchEntity");
    // Another account's root has its own.
    let other = "210987654321".parse().unwrap();
    assert_eq!(house.iam.built_in_key("210987654321", other), Some(KeyStatus::Active));
}

#[tokio::test]
async fn the_last_use_of_a_key_is_told_and_ends_with_it() {
    let house = house();
    let root = house.root();
    house.user("alice").await;
    let key = create(&house, Some("alice")).await;
    let ask = || types::GetAccessKeyLastUsedRequest { access_key_id: key.access_key_id.clone() };
    let never = house.iam.get_access_key_last_used(&root, ask()).await.unwrap();
    assert_eq!(never.user_name.as_deref(), Some("alice"));
    let never = never.access_key_last_used.unwrap();
    assert_eq!((never.last_used_date, never.service_name.as_str()), (None, "N/A"));
    let principal = house.iam.access_key(&key.access_key_id).unwrap().principal;
    let region = "us-east-2".parse().unwrap();
    let used = |service, at| PrincipalUse {
        principal: &principal,
        access_key_id: &key.access_key_id,
        service,
        region: &region,
        at: Timestamp::from_millis(at),
    };
    house.iam.used(&used("ecs", 5_000));
    house.iam.flush_uses().await.unwrap();
    house.iam.used(&used("logs", 9_000));
    let last = house.iam.get_access_key_last_used(&root, ask()).await.unwrap().access_key_last_used.unwrap();
    assert_eq!(last.last_used_date, Some(Timestamp::from_millis(9_000)));
    assert_eq!((last.service_name.as_str(), last.region.as_str()), ("logs", "us-east-2"));
}

#[tokio::test]
async fn the_keys_of_a_deleted_user_are_nobody_s() {
    let house = house();
    house.user("alice").await;
    let key = create(&house, Some("alice")).await;
    let record = house.store.snapshot().prefix::<wharf_iam::records::User>(b"").next().unwrap();
    // As if the user had gone without its keys: the chain must not trust what is left.
    house
        .store
        .transact(|transaction| {
            use wharf_state::Record as _;
            transaction.delete::<wharf_iam::records::User>(&record.key());
            Ok::<(), wharf_core::ApiError>(())
        })
        .await
        .unwrap();
    assert!(house.iam.access_key(&key.access_key_id).is_none());
}

#[tokio::test]
async fn after_a_reset_nothing_of_the_time_before_is_known() {
    let house = house();
    let alice = house.user("alice").await;
    let key = create(&house, Some("alice")).await;
    let delete = types::DeleteAccessKeyRequest { access_key_id: "test".into(), user_name: None };
    house.iam.delete_access_key(&house.root(), delete).await.unwrap();
    let identity = || house.iam.identity(IdentityRef::User { account: account(), id: &alice.user_id });
    assert!(identity().is_some());
    house.iam.used(&PrincipalUse {
        principal: &Principal::Root { account: account() },
        access_key_id: "test",
        service: "ecs",
        region: &"us-east-2".parse().unwrap(),
        at: Timestamp::from_millis(5_000),
    });

    // As POST /_wharf/reset does it.
    house.store.wipe().await.unwrap();
    house.iam.forget();
    assert!(identity().is_none());
    assert!(house.iam.access_key(&key.access_key_id).is_none());
    assert_eq!(house.iam.built_in_key("test", account()), Some(KeyStatus::Active));
    house.iam.flush_uses().await.unwrap();
    assert_eq!(house.store.snapshot().count::<wharf_iam::records::UseRecord>(), 0);
    // And what is made anew is known at once.
    let again = house.user("alice").await;
    assert!(house.iam.identity(IdentityRef::User { account: account(), id: &again.user_id }).is_some());
    assert!(identity().is_none());
}
