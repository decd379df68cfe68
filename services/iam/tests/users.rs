//! Users, groups, what is attached to them, and their passwords.

mod support;

use support::{ALLOW_ALL, House, house, refused};
use wharf_iam_api::{Iam as _, types};

fn get_user(name: &str) -> types::GetUserRequest {
    types::GetUserRequest { user_name: Some(name.into()) }
}

fn delete_user(name: &str) -> types::DeleteUserRequest {
    types::DeleteUserRequest { user_name: name.into() }
}

async fn names(house: &House, prefix: Option<&str>, max_items: i32) -> (Vec<String>, usize) {
    let (mut marker, mut names, mut pages) = (None, Vec::new(), 0);
    loop {
        let input = types::ListUsersRequest {
            marker,
            max_items: Some(max_items),
            path_prefix: prefix.map(str::to_owned),
        };
        let page = house.iam.list_users(&house.root(), input).await.unwrap();
        names.extend(page.users.into_iter().map(|user| user.user_name));
        pages += 1;
        assert_eq!(page.is_truncated, Some(page.marker.is_some()));
        marker = page.marker;
        if marker.is_none() {
            return (names, pages);
        }
    }
}

#[tokio::test]
async fn names_differ_by_more_than_case_and_a_rename_moves_everything() {
    let house = house();
    let user = house.user("Alice").await;
    assert!(user.user_id.starts_with("AIDA") && user.user_id.len() == 21);
    assert_eq!(user.arn, "arn:aws:iam::123456789012:user/Alice");
    let again = types::CreateUserRequest { user_name: "ALICE".into(), ..Default::default() };
    refused(
        house.iam.create_user(&house.root(), again),
        "EntityAlreadyExists",
        "User with name ALICE already exists.",
    )
    .await;
    house.group("admins").await;
    let add = types::AddUserToGroupRequest { group_name: "admins".into(), user_name: "alice".into() };
    house.iam.add_user_to_group(&house.root(), add).await.unwrap();
    let rename = types::UpdateUserRequest {
        user_name: "alice".into(),
        new_user_name: Some("Bob".into()),
        new_path: Some("/team/".into()),
    };
    house.iam.update_user(&house.root(), rename).await.unwrap();
    let bob = house.iam.get_user(&house.root(), get_user("bob")).await.unwrap().user;
    assert_eq!((bob.arn.as_str(), bob.user_id), ("arn:aws:iam::123456789012:user/team/Bob", user.user_id));
    refused(
        house.iam.get_user(&house.root(), get_user("Alice")),
        "NoSuchEntity",
        "The user with name Alice cannot be found.",
    )
    .await;
    let group = types::GetGroupRequest { group_name: "admins".into(), ..Default::default() };
    let members = house.iam.get_group(&house.root(), group).await.unwrap().users;
    assert_eq!(members[0].user_name, "Bob");
}

#[tokio::test]
async fn listings_are_paged_in_the_order_of_names_and_filtered_by_path() {
    let house = house();
    for name in ["delta", "Alpha", "charlie", "Bravo", "echo"] {
        let path = if name.len() == 5 { "/five/" } else { "/" };
        let input = types::CreateUserRequest {
            user_name: name.into(),
            path: Some(path.into()),
            ..Default::default()
        };
        house.iam.create_user(&house.root(), input).await.unwrap();
    }
    let (all, pages) = names(&house, None, 2).await;
    assert_eq!((all, pages), (["Alpha", "Bravo", "charlie", "delta", "echo"].map(str::to_owned).to_vec(), 3));
    assert_eq!(names(&house, Some("/five/"), 100).await.0, ["Alpha", "Bravo", "delta"]);
    let bad = types::ListUsersRequest { marker: Some("%%".into()), ..Default::default() };
    refused(house.iam.list_users(&house.root(), bad), "ValidationError", "Invalid Marker.").await;
}

#[tokio::test]
async fn a_user_is_deleted_when_nothing_is_left_of_it() {
    let house = house();
    let user = house.user("alice").await;
    house.group("g").await;
    let arn = house.policy("p").await;
    let root = house.root();
    let attach = types::AttachUserPolicyRequest { user_name: "alice".into(), policy_arn: arn.clone() };
    house.iam.attach_user_policy(&root, attach).await.unwrap();
    let put = types::PutUserPolicyRequest {
        user_name: "alice".into(),
        policy_name: "inline".into(),
        policy_document: ALLOW_ALL.into(),
    };
    house.iam.put_user_policy(&root, put).await.unwrap();
    let add = types::AddUserToGroupRequest { group_name: "g".into(), user_name: "alice".into() };
    house.iam.add_user_to_group(&root, add).await.unwrap();
    let key =
        house.iam.create_access_key(&house.as_user(&user), Default::default()).await.unwrap().access_key;
    let login = types::CreateLoginProfileRequest {
        user_name: Some("alice".into()),
        password: Some("Correct-Horse-1".into()),
        ..Default::default()
    };
    house.iam.create_login_profile(&root, login).await.unwrap();

    let delete = || house.iam.delete_user(&root, delete_user("alice"));
    let conflict = |what: &str| format!("Cannot delete entity, must {what} first.");
    refused(delete(), "DeleteConflict", &conflict("detach all policies")).await;
    let detach = types::DetachUserPolicyRequest { user_name: "alice".into(), policy_arn: arn };
    house.iam.detach_user_policy(&root, detach).await.unwrap();
    refused(delete(), "DeleteConflict", &conflict("delete policies")).await;
    let remove = types::DeleteUserPolicyRequest { user_name: "alice".into(), policy_name: "inline".into() };
    house.iam.delete_user_policy(&root, remove).await.unwrap();
    refused(delete(), "DeleteConflict", &conflict("remove users from group")).await;
    let remove = types::RemoveUserFromGroupRequest { group_name: "g".into(), user_name: "alice".into() };
    house.iam.remove_user_from_group(&root, remove).await.unwrap();
    refused(delete(), "DeleteConflict", &conflict("delete access keys")).await;
    let remove =
        types::DeleteAccessKeyRequest { user_name: Some("alice".into()), access_key_id: key.access_key_id };
    house.iam.delete_access_key(&root, remove).await.unwrap();
    refused(delete(), "DeleteConflict", &conflict("delete login profile")).await;
    let remove = types::DeleteLoginProfileRequest { user_name: Some("alice".into()) };
    house.iam.delete_login_profile(&root, remove).await.unwrap();
    delete().await.unwrap();
    refused(delete(), "NoSuchEntity", "The user with name alice cannot be found.").await;
}

#[tokio::test]
async fn a_group_with_members_or_policies_stays() {
    let house = house();
    let root = house.root();
    house.user("alice").await;
    house.group("g").await;
    let add = types::AddUserToGroupRequest { group_name: "g".into(), user_name: "alice".into() };
    house.iam.add_user_to_group(&root, add.clone()).await.unwrap();
    house.iam.add_user_to_group(&root, add).await.unwrap();
    let delete = || house.iam.delete_group(&root, types::DeleteGroupRequest { group_name: "g".into() });
    refused(delete(), "DeleteConflict", "Cannot delete entity, must remove users from group first.").await;
    let groups = types::ListGroupsForUserRequest { user_name: "alice".into(), ..Default::default() };
    assert_eq!(house.iam.list_groups_for_user(&root, groups).await.unwrap().groups.len(), 1);
    for number in 0..9 {
        house.group(&format!("other{number}")).await;
        let add =
            types::AddUserToGroupRequest { group_name: format!("other{number}"), user_name: "alice".into() };
        house.iam.add_user_to_group(&root, add).await.unwrap();
    }
    house.group("eleventh").await;
    let add = types::AddUserToGroupRequest { group_name: "eleventh".into(), user_name: "alice".into() };
    refused(
        house.iam.add_user_to_group(&root, add),
        "LimitExceeded",
        "Cannot exceed quota for GroupsPerUser: 10",
    )
    .await;
}

#[tokio::test]
async fn without_a_name_the_caller_is_meant() {
    let house = house();
    let alice = house.user("alice").await;
    let mine = house.iam.get_user(&house.as_user(&alice), Default::default()).await.unwrap().user;
    assert_eq!(mine.user_name, "alice");
    let root = house.iam.get_user(&house.root(), Default::default()).await.unwrap().user;
    assert_eq!(
        (root.arn.as_str(), root.user_id.as_str()),
        ("arn:aws:iam::123456789012:root", "123456789012")
    );
    let session = house.of(wharf_core::Principal::AssumedRole {
        account: support::account(),
        role_id: "AROA1".into(),
        role_path: "/".into(),
        role_name: "r".into(),
        session_name: "s".into(),
    });
    refused(
        house.iam.get_user(&session, Default::default()),
        "ValidationError",
        "Must specify userName when calling with non-User credentials",
    )
    .await;
}

#[tokio::test]
async fn tags_are_kept_shown_and_taken_away() {
    let house = house();
    let root = house.root();
    let tag = |key: &str, value: &str| types::Tag { key: key.into(), value: value.into() };
    let input = types::CreateUserRequest {
        user_name: "alice".into(),
        tags: Some(vec![tag("team", "a"), tag("cost", "1")]),
        ..Default::default()
    };
    let user = house.iam.create_user(&root, input).await.unwrap().user.unwrap();
    assert_eq!(user.tags, Some(vec![tag("cost", "1"), tag("team", "a")]));
    let more = types::TagUserRequest { user_name: "alice".into(), tags: vec![tag("TEAM", "b")] };
    house.iam.tag_user(&root, more).await.unwrap();
    let less = types::UntagUserRequest { user_name: "alice".into(), tag_keys: vec!["Cost".into()] };
    house.iam.untag_user(&root, less).await.unwrap();
    let list = types::ListUserTagsRequest { user_name: "alice".into(), ..Default::default() };
    assert_eq!(house.iam.list_user_tags(&root, list).await.unwrap().tags, [tag("TEAM", "b")]);
    let listed = house.iam.list_users(&root, Default::default()).await.unwrap().users;
    assert_eq!(listed[0].tags, None);
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_it_and_not_used_again() {
    let house = house();
    let root = house.root();
    let alice = house.user("alice").await;
    let create = |password: &str| types::CreateLoginProfileRequest {
        user_name: Some("alice".into()),
        password: Some(password.into()),
        password_reset_required: Some(true),
    };
    refused(
        house.iam.create_login_profile(&root, create("short")),
        "PasswordPolicyViolation",
        "Password should have a minimum length of 8",
    )
    .await;
    house.iam.create_login_profile(&root, create("Correct-Horse-1")).await.unwrap();
    refused(
        house.iam.create_login_profile(&root, create("Correct-Horse-1")),
        "EntityAlreadyExists",
        "Login Profile for user alice already exists.",
    )
    .await;
    let stored = house.store.snapshot().prefix::<wharf_iam::records::User>(b"").next().unwrap();
    assert!(!stored.login.as_ref().unwrap().hash.contains("Correct"));
    let policy = types::UpdateAccountPasswordPolicyRequest {
        minimum_password_length: Some(10),
        password_reuse_prevention: Some(1),
        ..Default::default()
    };
    house.iam.update_account_password_policy(&root, policy).await.unwrap();
    let change = |old: &str, new: &str| types::ChangePasswordRequest {
        old_password: old.into(),
        new_password: new.into(),
    };
    let caller = house.as_user(&alice);
    refused(
        house.iam.change_password(&root, change("a", "b")),
        "InvalidUserType",
        "Only IAM Users can change their own password",
    )
    .await;
    let wrong = house.iam.change_password(&caller, change("wrong", "Battery-Staple-2")).await.unwrap_err();
    assert_eq!((wrong.code.as_ref(), wrong.status), ("AccessDenied", 403));
    let same = house.iam.change_password(&caller, change("Correct-Horse-1", "Correct-Horse-1")).await;
    assert_eq!(same.unwrap_err().code, "PasswordPolicyViolation");
    house.iam.change_password(&caller, change("Correct-Horse-1", "Battery-Staple-2")).await.unwrap();
    let profile = types::GetLoginProfileRequest { user_name: Some("alice".into()) };
    let profile = house.iam.get_login_profile(&root, profile).await.unwrap().login_profile;
    assert_eq!(profile.password_reset_required, Some(false));
}
