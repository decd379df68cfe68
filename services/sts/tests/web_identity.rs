//! Tokens of an identity provider: the good one gets a role, and every way of being bad its own error.

mod support;

use std::time::Duration;

use serde_json::json;
use support::*;
use wharf_core::{ApiError, Principal, SessionOrigin, Timestamp};
use wharf_sts_api::{Sts as _, types};

/// A provider is asked again by then, however long its last answer took (two fetches of five seconds at
/// most, and a second).
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(11);

async fn assume(
    world: &World,
    token: &str,
    now: Timestamp,
) -> Result<types::AssumeRoleWithWebIdentityResponse, ApiError> {
    let mut context = context(Principal::Anonymous);
    context.now = now;
    let input = types::AssumeRoleWithWebIdentityRequest {
        role_arn: role_arn("ci"),
        role_session_name: "job".to_owned(),
        web_identity_token: token.to_owned(),
        ..Default::default()
    };
    world.sts.assume_role_with_web_identity(&context, input).await
}

fn refusal<T>(result: Result<T, ApiError>) -> (String, String) {
    let error = result.err().expect("refused");
    (error.code.into_owned(), error.message)
}

async fn ready() -> (World, Provider) {
    let (world, provider) = (World::new(), Provider::start().await);
    provider.register(&world);
    (world, provider)
}

#[tokio::test]
async fn a_good_token_gets_the_role() {
    let (world, provider) = ready().await;
    let mut claims = provider.claims();
    claims["https://aws.amazon.com/tags"] =
        json!({"principal_tags": {"Repo": ["me/app"]}, "transitive_tag_keys": ["Repo"]});
    let answer = assume(&world, &provider.sign(&claims), NOW).await.unwrap();
    assert_eq!(answer.subject_from_web_identity_token.as_deref(), Some("repo:me/app"));
    assert_eq!(answer.audience.as_deref(), Some("sts.amazonaws.com"));
    assert_eq!(answer.provider.as_deref(), Some(&*provider.arn()));
    let user = answer.assumed_role_user.unwrap();
    assert_eq!(user.arn, "arn:aws:sts::123456789012:assumed-role/ci/job");
    let session = world.verify(&answer.credentials.unwrap(), NOW).unwrap().session.unwrap();
    assert_eq!(session.origin, SessionOrigin::AssumeRoleWithWebIdentity);
    assert_eq!(session.federated_provider.as_deref(), Some(&*provider.arn()));
    assert_eq!(session.tags.get("Repo").map(String::as_str), Some("me/app"));
    assert_eq!(session.federated_keys[&format!("{}:sub", provider.name())], ["repo:me/app"]);
}

#[tokio::test]
async fn what_a_token_claims_must_hold() {
    let (world, provider) = ready().await;
    let now = NOW.as_millis() / 1000;
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = provider.claims();
        claims[name] = value;
        provider.sign(&claims)
    };
    let without = |name: &str| {
        let mut claims = provider.claims();
        claims.as_object_mut().unwrap().remove(name);
        provider.sign(&claims)
    };
    let invalid = "InvalidIdentityToken";
    let denied = "AccessDenied";
    for (token, code, message) in [
        (with("exp", json!(now)), "ExpiredTokenException", "Token expired: current date/time"),
        (with("exp", json!("soon")), invalid, "Invalid claim: exp"),
        (with("exp", json!(1e99)), invalid, "Invalid claim: exp"),
        (without("exp"), invalid, "Missing a required claim: exp"),
        (without("iat"), invalid, "Missing a required claim: iat"),
        (with("iat", json!(now + 61)), invalid, "Token is not valid yet"),
        (with("nbf", json!(now + 61)), invalid, "Token is not valid yet"),
        (with("aud", json!("other")), invalid, "Incorrect token audience"),
        (with("aud", json!([])), invalid, "Missing a required claim: aud"),
        (with("aud", json!({"a": 1})), invalid, "Invalid claim: aud"),
        (without("sub"), invalid, "Missing a required claim: sub"),
        (with("sub", json!("")), invalid, "Invalid claim: sub"),
        (with("sub", json!(7)), invalid, "Invalid claim: sub"),
        (with("sub", json!("x".repeat(256))), invalid, "Invalid claim: sub"),
        (with("iss", json!("https://token.example.com")), invalid, "No OpenIDConnect provider found"),
        (without("iss"), invalid, "Missing a required claim: iss"),
        (
            with("sub", json!("repo:you/app")),
            denied,
            "Not authorized to perform sts:AssumeRoleWithWebIdentity",
        ),
        (with("https://aws.amazon.com/tags", json!(["x"])), invalid, "Invalid claim"),
        (
            with("https://aws.amazon.com/source_identity", json!("me")),
            denied,
            "Not authorized to perform sts:SetSourceIdentity",
        ),
    ] {
        let (found, text) = refusal(assume(&world, &token, NOW).await);
        assert_eq!(found, code, "{text}");
        assert!(text.starts_with(message), "{text}");
    }
    // The provider's clock may be a little ahead, and a token may have several audiences.
    for token in [
        with("nbf", json!(now + 60)),
        with("aud", json!(["a", "sts.amazonaws.com"])),
        with("azp", json!("a")),
    ] {
        let result = assume(&world, &token, NOW).await;
        assert!(result.is_ok(), "{:?}", result.err());
    }
}

#[tokio::test]
async fn no_other_signature_is_taken() {
    let (world, provider) = ready().await;
    let stranger = Provider::start().await;
    let good = provider.sign(&provider.claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (_, payload) = signed.split_once('.').unwrap();
    let header = |value: serde_json::Value| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
    };
    let none = header(json!({"alg": "none", "kid": "one"}));
    let symmetric = header(json!({"alg": "HS256", "kid": "one"}));
    let rsa = header(json!({"alg": "RS256", "kid": "one"}));
    for (token, what) in [
        (stranger.sign(&provider.claims()), "signed by somebody else"),
        (format!("{signed}."), "without signature"),
        (signed.to_owned(), "two parts"),
        (format!("{none}.{payload}."), "alg none"),
        (format!("{none}.{payload}.{signature}"), "alg none with a signature"),
        (format!("{symmetric}.{payload}.{signature}"), "a symmetric algorithm"),
        (format!("{rsa}.{payload}.{signature}"), "an algorithm of another kind of key"),
        (provider.sign_with(&json!({"alg": "ES256", "kid": "two"}), &provider.claims()), "an unknown key"),
        (
            provider.sign_with(&json!({"alg": "ES256", "kid": "one", "crit": ["x"]}), &provider.claims()),
            "a critical header",
        ),
        (provider.sign_with(&json!({"alg": "ES256", "kid": {}}), &provider.claims()), "a strange key id"),
        (String::from("a.b.c"), "no base 64"),
        (format!("{good}.x"), "four parts"),
        ("x".repeat(20_000), "long"),
        (format!("{}.{payload}.{signature}", "[".repeat(10_000)), "deep"),
    ] {
        let (code, text) = refusal(assume(&world, &token, NOW).await);
        assert_eq!(code, "InvalidIdentityToken", "{what}: {text}");
    }
    // A set of one key serves a token that names none.
    let unnamed = provider.sign_with(&json!({"alg": "ES256"}), &provider.claims());
    assert!(assume(&world, &unnamed, NOW).await.is_ok());
    // One bit at each place, in turn.
    let bytes = good.as_bytes();
    for index in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[index] ^= 1 << (index % 7);
        let Ok(changed) = String::from_utf8(changed) else { continue };
        assert!(assume(&world, &changed, NOW).await.is_err(), "{index}");
    }
}

#[tokio::test]
async fn keys_are_kept_and_asked_for_again_when_one_is_new() {
    let (world, provider) = ready().await;
    let fetches = || provider.requests.lock().iter().filter(|path| path.ends_with("/keys")).count();
    for _ in 0..3 {
        assume(&world, &provider.sign(&provider.claims()), NOW).await.unwrap();
    }
    assert_eq!(fetches(), 1);
    provider.rotate("two");
    let rotated = provider.sign(&provider.claims());
    // At once the provider is not asked again, so that bad tokens cannot make us flood it.
    assert_eq!(refusal(assume(&world, &rotated, NOW).await).0, "InvalidIdentityToken");
    assert_eq!(fetches(), 1);
    assert!(assume(&world, &rotated, after(ASKED_AGAIN_AFTER)).await.is_ok());
    assert_eq!(fetches(), 2);
}

#[tokio::test]
async fn a_provider_that_fails_is_told_from_a_token_that_does() {
    let (world, provider) = ready().await;
    let token = provider.sign(&provider.claims());
    let mut now = NOW;
    for answer in ["", "{}", "[]", "{\"keys\": {}}", &"x".repeat(300_000)] {
        *provider.keys_answer.lock() = Some(answer.to_owned());
        // A provider that has just failed is not asked again at once.
        now = now.plus(ASKED_AGAIN_AFTER);
        let (code, text) = refusal(assume(&world, &token, now).await);
        assert_eq!(code, "InvalidIdentityToken", "{text}");
        assert!(text.starts_with("Couldn't retrieve verification key"), "{text}");
    }
    assert_eq!(provider.requests.lock().iter().filter(|path| path.ends_with("/keys")).count(), 5);
    assert!(assume(&world, &token, now).await.is_err());
    assert_eq!(provider.requests.lock().iter().filter(|path| path.ends_with("/keys")).count(), 5);
    // Nobody listens there: the port was given back when the listener was dropped.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}");
    let mut facts = world.iam.providers.lock().get(provider.name()).unwrap().clone();
    facts.url.clone_from(&url);
    let name = wharf_contracts::OidcProvider::name_of(&url).to_owned();
    world.iam.providers.lock().insert(name, facts);
    let mut claims = provider.claims();
    claims["iss"] = json!(url);
    assert_eq!(refusal(assume(&world, &provider.sign(&claims), NOW).await).0, "IDPCommunicationError");
}

#[tokio::test]
async fn a_role_that_is_not_there_is_not_told_from_one_that_does_not_trust() {
    let (world, provider) = ready().await;
    world.iam.roles.lock().remove("ci");
    let (code, text) = refusal(assume(&world, &provider.sign(&provider.claims()), NOW).await);
    assert_eq!((&*code, &*text), ("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"));
}

#[tokio::test]
async fn in_another_partition_a_provider_has_the_arn_of_that_partition() {
    let (world, provider) = ready().await;
    let arn = provider.arn().replace("arn:aws:", "arn:aws-cn:");
    let trust = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"Federated": arn}, "Action": "sts:AssumeRoleWithWebIdentity",
    }]});
    world.add_role("cn", 3600, &trust.to_string());
    let ask = |role: String| types::AssumeRoleWithWebIdentityRequest {
        role_arn: role,
        role_session_name: "job".to_owned(),
        web_identity_token: provider.sign(&provider.claims()),
        ..Default::default()
    };
    let context = context(Principal::Anonymous);
    let in_china = ask(role_arn("cn").replace("arn:aws:", "arn:aws-cn:"));
    let answer = world.sts.assume_role_with_web_identity(&context, in_china).await.unwrap();
    assert_eq!(answer.provider, Some(arn));
    assert!(answer.assumed_role_user.unwrap().arn.starts_with("arn:aws-cn:sts::"));
    let elsewhere = world.sts.assume_role_with_web_identity(&context, ask(role_arn("cn"))).await;
    assert_eq!(refusal(elsewhere).0, "AccessDenied");
}
