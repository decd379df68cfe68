//! Temporary credentials: what is in them, for how long they are good, and what becomes of them when
//! anything of them changes.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::*;
use wharf_contracts::{CredentialError, CredentialSource as _, Secret};
use wharf_core::{Principal, SeededRng, SessionOrigin};
use wharf_sts_api::{Sts as _, types};
use wharf_vault::Vault;

fn code<T>(result: Result<T, wharf_core::ApiError>) -> String {
    result.err().map(|error| error.code.into_owned()).unwrap_or_default()
}

async fn deploy(world: &World) -> types::Credentials {
    let answer = world.assume(&context(alice()), role_request("deploy")).await.unwrap();
    answer.credentials.unwrap()
}

#[tokio::test]
async fn an_assumed_role_is_known_again_by_its_token_alone() {
    let world = World::new();
    let answer = world.assume(&context(alice()), role_request("deploy")).await.unwrap();
    let user = answer.assumed_role_user.unwrap();
    assert_eq!(user.arn, "arn:aws:sts::123456789012:assumed-role/deploy/session");
    assert_eq!(user.assumed_role_id, "AROADEPLOY:session");
    assert_eq!(answer.packed_policy_size, None);
    let credentials = answer.credentials.unwrap();
    assert!(credentials.access_key_id.starts_with("ASIA"));
    assert_eq!(credentials.expiration, after(Duration::from_secs(3600)));
    assert_eq!(answer.session_token_size, Some(credentials.session_token.len() as i32));

    let known = world.verify(&credentials, NOW).unwrap();
    assert_eq!(known.principal.arn(wharf_core::Partition::Aws), user.arn);
    assert!(matches!(known.secret, Secret::Known(secret) if secret == credentials.secret_access_key));
    let session = known.session.unwrap();
    assert_eq!(session.origin, SessionOrigin::AssumeRole);
    assert_eq!(session.issuer, role_arn("deploy"));
}

#[tokio::test]
async fn a_session_ends_at_its_time_and_not_before() {
    let world = World::new();
    let mut request = role_request("deploy");
    request.duration_seconds = Some(900);
    let credentials = world.assume(&context(alice()), request).await.unwrap().credentials.unwrap();
    assert!(world.verify(&credentials, after(Duration::from_millis(899_999))).is_ok());
    for _ in 0..2 {
        // Also when the token has been opened and is kept.
        let ended = world.verify(&credentials, after(Duration::from_secs(900))).err();
        assert_eq!(ended, Some(CredentialError::Expired));
    }
}

#[tokio::test]
async fn no_changed_token_is_taken_nor_one_of_another_key() {
    let world = World::new();
    let credentials = deploy(&world).await;
    let tokens = world.sts.tokens();
    let ask = |token: Option<&str>| tokens.credentials(&credentials.access_key_id, token, NOW).err();
    assert_eq!(ask(Some(&credentials.session_token)), None);
    assert_eq!(ask(None), Some(CredentialError::InvalidToken));
    let token = credentials.session_token.as_bytes();
    for index in 0..token.len() {
        for bit in 0..7 {
            let mut changed = token.to_vec();
            changed[index] ^= 1 << bit;
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(ask(Some(&changed)), Some(CredentialError::InvalidToken), "{index} {bit}");
        }
        let cut = std::str::from_utf8(&token[..index]).unwrap();
        assert_eq!(ask(Some(cut)), Some(CredentialError::InvalidToken), "cut at {index}");
    }
    for suffix in ["=", "A", "\n", " ", "AAAA"] {
        let longer = format!("{}{suffix}", credentials.session_token);
        assert_eq!(ask(Some(&longer)), Some(CredentialError::InvalidToken), "{suffix:?}");
    }
    assert_eq!(ask(Some(&"A".repeat(100_000))), Some(CredentialError::InvalidToken));
    let other = deploy(&world).await;
    assert_eq!(ask(Some(&other.session_token)), Some(CredentialError::InvalidToken));
    let swapped = tokens.credentials(&other.access_key_id, Some(&credentials.session_token), NOW).err();
    assert_eq!(swapped, Some(CredentialError::InvalidToken));
}

#[tokio::test]
async fn another_process_with_the_same_vault_takes_a_token_and_one_with_another_does_not() {
    let vault = Vault::ephemeral(Arc::new(SeededRng::new(7)));
    let credentials = deploy(&World::with_vault(&vault, 1)).await;
    assert!(World::with_vault(&vault, 2).verify(&credentials, NOW).is_ok());
    let stranger = Vault::ephemeral(Arc::new(SeededRng::new(8)));
    let refused = World::with_vault(&stranger, 1).verify(&credentials, NOW).err();
    assert_eq!(refused, Some(CredentialError::InvalidToken));
}

#[tokio::test]
async fn the_sessions_of_a_deleted_role_or_user_end_at_once() {
    let world = World::new();
    let of_role = deploy(&world).await;
    let input = types::GetSessionTokenRequest::default();
    let of_user = world.sts.get_session_token(&context(alice()), input).await.unwrap().credentials.unwrap();
    let request = types::GetFederationTokenRequest { name: "bob".into(), ..Default::default() };
    let federated =
        world.sts.get_federation_token(&context(alice()), request).await.unwrap().credentials.unwrap();
    for credentials in [&of_role, &of_user, &federated] {
        assert!(world.verify(credentials, NOW).is_ok());
    }
    world.iam.deleted.lock().insert("AROADEPLOY".to_owned());
    assert_eq!(world.verify(&of_role, NOW).err(), Some(CredentialError::InvalidToken));
    assert!(world.verify(&of_user, NOW).is_ok());
    world.iam.deleted.lock().insert("AIDAALICE".to_owned());
    assert_eq!(world.verify(&of_user, NOW).err(), Some(CredentialError::InvalidToken));
    assert_eq!(world.verify(&federated, NOW).err(), Some(CredentialError::InvalidToken));
}

#[tokio::test]
async fn a_chain_of_roles_is_bound_to_an_hour_and_carries_what_is_transitive() {
    let world = World::new();
    let mut request = role_request("long");
    request.duration_seconds = Some(43_200);
    request.tags = Some(vec![tag("Project", "wharf"), tag("Mood", "calm")]);
    request.transitive_tag_keys = Some(vec!["Project".to_owned()]);
    request.source_identity = Some("alice@example.com".to_owned());
    let first = world.assume(&context(alice()), request).await.unwrap();
    assert!(first.packed_policy_size.is_some_and(|percent| (1..=5).contains(&percent)));
    assert_eq!(first.source_identity.as_deref(), Some("alice@example.com"));
    let context = world.context_of(&first.credentials.unwrap(), NOW);

    let mut too_long = role_request("long");
    too_long.duration_seconds = Some(3601);
    let refused = world.assume(&context, too_long).await.unwrap_err();
    assert_eq!(refused.code, "ValidationError");
    assert!(refused.message.contains("1 hour session limit"), "{}", refused.message);

    let mut conflict = role_request("deploy");
    conflict.tags = Some(vec![tag("project", "other")]);
    assert_eq!(code(world.assume(&context, conflict).await), "InvalidParameterValue");
    let mut another = role_request("deploy");
    another.source_identity = Some("eve".to_owned());
    assert_eq!(code(world.assume(&context, another).await), "AccessDenied");

    let second = world.assume(&context, role_request("deploy")).await.unwrap();
    assert_eq!(second.source_identity.as_deref(), Some("alice@example.com"));
    let session = world.verify(&second.credentials.unwrap(), NOW).unwrap().session.unwrap();
    assert_eq!(session.tags.get("Project").map(String::as_str), Some("wharf"));
    assert_eq!(session.tags.get("Mood"), None);
    assert!(session.transitive_tag_keys.contains("Project"));
}

#[tokio::test]
async fn a_role_is_for_who_may_have_one() {
    let world = World::new();
    let root = Principal::Root { account: account() };
    let refused = world.assume(&context(root.clone()), role_request("deploy")).await.unwrap_err();
    assert_eq!(refused.message, "Roles may not be assumed by root accounts.");
    assert_eq!((&*refused.code, refused.status), ("AccessDenied", 403));
    let unknown = world.assume(&context(alice()), role_request("none")).await.unwrap_err();
    assert_eq!(
        unknown.message,
        "User: arn:aws:iam::123456789012:user/alice is not authorized to perform: sts:AssumeRole on resource: \
         arn:aws:iam::123456789012:role/none"
    );
    // A role has one path and one spelling.
    for arn in ["arn:aws:iam::123456789012:role/x/deploy", "arn:aws:iam::123456789012:role/Deploy"] {
        let request = types::AssumeRoleRequest { role_arn: arn.to_owned(), ..role_request("deploy") };
        assert_eq!(code(world.assume(&context(alice()), request).await), "AccessDenied", "{arn}");
    }
    let request = types::AssumeRoleRequest { provided_contexts: Some(Vec::new()), ..role_request("deploy") };
    assert_eq!(code(world.assume(&context(alice()), request).await), "NotImplemented");
}

#[tokio::test]
async fn session_policies_are_checked_measured_and_carried() {
    let world = World::new();
    let policy =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ecs:List*","Resource":"*"}]}"#;
    let arn = "arn:aws:iam::aws:policy/ReadOnlyAccess";
    let with = |policy: &str, arns: &[&str]| types::AssumeRoleRequest {
        policy: Some(policy.to_owned()),
        policy_arns: Some(
            arns.iter().map(|arn| types::PolicyDescriptorType { arn: Some((*arn).to_owned()) }).collect(),
        ),
        ..role_request("deploy")
    };
    let context = context(alice());
    let answer = world.assume(&context, with(policy, &[arn])).await.unwrap();
    assert!(answer.packed_policy_size.is_some_and(|percent| percent > 0 && percent < 20));
    let session = world.verify(&answer.credentials.unwrap(), NOW).unwrap().session.unwrap();
    assert_eq!(
        (session.policies.as_slice(), session.policy_arns.as_slice()),
        (&[policy.to_owned()][..], &[arn.to_owned()][..])
    );

    assert_eq!(code(world.assume(&context, with("{}", &[])).await), "MalformedPolicyDocument");
    assert_eq!(
        code(world.assume(&context, with(policy, &["arn:aws:iam::aws:policy/None"])).await),
        "ValidationError"
    );
    assert_eq!(code(world.assume(&context, with(policy, &[arn; 11])).await), "ValidationError");
    let long = policy.replace("\"*\"", &format!("\"{}\"", "*".repeat(2048)));
    assert_eq!(code(world.assume(&context, with(&long, &[])).await), "ValidationError");
    // What does not compress well is too large although the plain text is not.
    let rng = SeededRng::new(3);
    let tags =
        (0..50).map(|_| tag(&wharf_core::Rng::hex(&rng, 100), &wharf_core::Rng::hex(&rng, 200))).collect();
    let request = types::AssumeRoleRequest { tags: Some(tags), ..role_request("deploy") };
    let refused = world.assume(&context, request).await.unwrap_err();
    assert_eq!(refused.code, "PackedPolicyTooLarge");
    assert!(refused.message.starts_with("Packed size of session tags consumes"), "{}", refused.message);
}

#[tokio::test]
async fn a_token_is_as_long_as_was_asked_and_never_longer_than_it_may_be() {
    let world = World::new();
    for size in [0, 1000, 2001, 3333, 4096] {
        let request =
            types::AssumeRoleRequest { minimum_session_token_size: Some(size), ..role_request("deploy") };
        let answer = world.assume(&context(alice()), request).await.unwrap();
        let credentials = answer.credentials.unwrap();
        let length = credentials.session_token.len();
        assert!(length as i32 >= size && length <= 4096, "{size}: {length}");
        assert!(world.verify(&credentials, NOW).is_ok(), "{size}");
        assert!(answer.session_token_utilization.is_some_and(|percent| percent <= 100));
    }
}

#[tokio::test]
async fn users_and_roots_get_sessions_of_their_own_from_long_term_keys_alone() {
    let world = World::new();
    let input = |seconds| types::GetSessionTokenRequest { duration_seconds: seconds, ..Default::default() };
    let answer = world.sts.get_session_token(&context(alice()), input(None)).await.unwrap();
    let credentials = answer.credentials.unwrap();
    assert_eq!(credentials.expiration, after(Duration::from_secs(12 * 3600)));
    let context_of_session = world.context_of(&credentials, NOW);
    assert_eq!(context_of_session.principal, alice());
    assert_eq!(code(world.sts.get_session_token(&context_of_session, input(None)).await), "AccessDenied");
    assert!(world.assume(&context_of_session, role_request("deploy")).await.is_ok());

    let root = context(Principal::Root { account: account() });
    let answer = world.sts.get_session_token(&root, input(Some(129_600))).await.unwrap();
    assert_eq!(answer.credentials.unwrap().expiration, after(Duration::from_secs(3600)));
    let mut with_mfa = input(None);
    with_mfa.serial_number = Some("arn:aws:iam::123456789012:mfa/alice".to_owned());
    with_mfa.token_code = Some("123456".to_owned());
    let refused = world.sts.get_session_token(&context(alice()), with_mfa).await.unwrap_err();
    assert!(refused.message.starts_with("MultiFactorAuthentication failed"), "{}", refused.message);
}

#[tokio::test]
async fn a_federated_user_has_a_name_and_may_ask_who_it_is() {
    let world = World::new();
    let request = types::GetFederationTokenRequest {
        name: "bob".into(),
        tags: Some(vec![tag("Team", "x")]),
        duration_seconds: Some(900),
        ..Default::default()
    };
    let answer = world.sts.get_federation_token(&context(alice()), request.clone()).await.unwrap();
    let user = answer.federated_user.unwrap();
    assert_eq!(user.arn, "arn:aws:sts::123456789012:federated-user/bob");
    assert_eq!(user.federated_user_id, "123456789012:bob");
    let bob = world.context_of(&answer.credentials.unwrap(), NOW);
    let session = bob.session.clone().unwrap();
    assert_eq!(session.issuer, "arn:aws:iam::123456789012:user/alice");
    assert_eq!(session.issuer_id, "AIDAALICE");
    assert_eq!(session.tags.get("Team").map(String::as_str), Some("x"));

    let identity = world.sts.get_caller_identity(&bob, types::GetCallerIdentityRequest {}).await.unwrap();
    assert_eq!(identity.arn.as_deref(), Some("arn:aws:sts::123456789012:federated-user/bob"));
    assert_eq!(code(world.sts.get_federation_token(&bob, request).await), "AccessDenied");
    assert_eq!(code(world.assume(&bob, role_request("deploy")).await), "AccessDenied");
    let info = types::GetAccessKeyInfoRequest { access_key_id: "AKIAIOSFODNN7EXAMPLE".into() };
    assert_eq!(code(world.sts.get_access_key_info(&bob, info).await), "AccessDenied");
}

#[tokio::test]
async fn an_access_key_id_tells_its_account_even_when_it_is_gone() {
    let world = World::new();
    let credentials = deploy(&world).await;
    let ask = |id: &str| {
        let input = types::GetAccessKeyInfoRequest { access_key_id: id.to_owned() };
        let sts = Arc::clone(&world.sts);
        async move { sts.get_access_key_info(&context(alice()), input).await }
    };
    assert_eq!(ask(&credentials.access_key_id).await.unwrap().account.as_deref(), Some(ACCOUNT));
    assert_eq!(code(ask("AKIAIOSFODNN7EXAMPLE").await), "ValidationError");
}

#[tokio::test]
async fn a_denial_is_decoded_in_its_account_alone() {
    use wharf_contracts::DenialEncoder as _;
    let world = World::new();
    let message = world.sts.messages().encode(account(), "{\"allowed\":false}").unwrap();
    let input = types::DecodeAuthorizationMessageRequest { encoded_message: message };
    let decoded = world.sts.decode_authorization_message(&context(alice()), input.clone()).await.unwrap();
    assert_eq!(decoded.decoded_message.as_deref(), Some("{\"allowed\":false}"));
    let stranger = context(Principal::Root { account: "999999999999".parse().unwrap() });
    assert_eq!(
        code(world.sts.decode_authorization_message(&stranger, input).await),
        "InvalidAuthorizationMessageException"
    );
}

#[tokio::test]
async fn secrets_and_tokens_are_in_no_debug_output() {
    let world = World::new();
    let credentials = deploy(&world).await;
    let known = world.verify(&credentials, NOW).unwrap();
    let shown = format!("{known:?}");
    assert!(!shown.contains(&credentials.secret_access_key), "{shown}");
    assert!(!shown.contains(&credentials.session_token), "{shown}");
}
