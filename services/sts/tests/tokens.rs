//! Tokens that another implementation signed, and tokens that nobody did.

use std::sync::LazyLock;

use proptest::prelude::*;
use wharf_contracts::OidcProvider;
use wharf_core::{Rng as _, SeededRng, Timestamp};
use wharf_sts::oidc::keys::{Algorithm, KeySet, KeySetError};
use wharf_sts::oidc::token::{Claims, Token, TokenError};

/// 2026-11-20.
const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);

/// Made with openssl 3: `iss` is `https://token.example.com`, `sub` is `repo:me/app`, `aud` is `sts`.
const PAYLOAD: &str = "eyJpc3MiOiJodHRwczovL3Rva2VuLmV4YW1wbGUuY29tIiwiYXVkIjoic3RzIiwic3ViIjoicmVwbzptZS9hcHAi\
    LCJpYXQiOjE3MDAwMDAwMDAsImV4cCI6NDAwMDAwMDAwMH0";
const RSA_MODULUS: &str = "w6Uo8TdzZCwTCf7Q1pLzC7kVrgA6CEg2z7xO3l_SJZn4zOg_qiUJnKgIhXCBjl5eSMNuhSN5ay2IVmUDWNQTbg4i\
    mH3QWlFcZxjIeN723jK5b2klzLLv-EYbHvwwmjFDSy9k6UQqroA6aAOb3gvTX4Ivn6W5pZg5kbr27moOBC9BgGud\
    KRxAzmCqQ1cIZXNILHiF5DpBE0ThtkrVjANxsKwqc957ht1yeCj5UufqyWaBQPMgJSY2S8HE92DbWjHi9xGYEcfi\
    H-OiSopiYRXWxqe45ootLCYv94yj6-rkAiO3pFKi7BN9Y_WQZdNBTd9WkZl_GVBpugavpKyyeDGSmw";
const P384_X: &str = "BCLmRl5yB1XsOAN-wR2CB9yuoD7G6WnylgkbJm5NKFfimBmhWsvgSmul_e8wVmfD";
const P384_Y: &str = "au8WxWtCuTw5coZOt9i_u6-XQ0J6BSWOArKEPY354MQMyCGQS3bNRYkMuuVs6nit";

/// Algorithm, header and signature.
const SIGNED: [(&str, &str, &str); 4] = [
    (
        "RS256",
        "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9",
        "DC0mVtn6cemC2n83KQd42zBK0NtMN4fOVBJmkSJZTo72RSgMtCcmWzqN21KeDmSrntfpr3lR8gbWojBwyNlvHvzc\
         j24iw-980z43rGtNWawDIA8dimo1dkategzqL2FP_GhNafCqvhPyhdXDIghPWDJBkKvoLlJ4qqbVhlwS78tCvydT\
         SURRNdcL53LsgxEgo7kTFtsx6gVObKRgscdTcKRx8rm0Lq65zypfmZ595ihBFoYNyPVjg0ClPW0ff-YHDtVf2rjs\
         mTYc4oqovPABNO-XFI7hozq0DyGCQZSJsREwq6c4ZM8t6kgoOyrFKoiaFLdYxiz5IkdrxOzG-6UqlA",
    ),
    (
        "RS384",
        "eyJhbGciOiJSUzM4NCIsImtpZCI6InJzYSJ9",
        "rLlykaEjBUXnKqnyWR1bbJCnP5kHSdXEOCI-aAiRWlFuEu5PQrKLyQhT2O5kZckWrl0aXBHPCD40GVpJEtL-b1E_\
         Vm-TM2We0B7V3z-QZPMPHhmF4fRsO-y9SQBYj4CGQ-28jzGcNG1-p2murZ46cJUHOlYSuedGSIYd4CM4HzGaS6Dg\
         RfzMJfVKrGLTv_SW6xH_D_S5ZyGNrvNIKQjThr0BeoPMi4JwcfJvdV0x4UokvfLNMy9LXpRSQXd71n9cTubIZraV\
         jlnkSVzkn8jV3bpArFeVequFqeMUpFTXqrHRKSySiosVUZI8MWiL4vtKrgtf15whuAvbguwbYD0YJw",
    ),
    (
        "RS512",
        "eyJhbGciOiJSUzUxMiIsImtpZCI6InJzYSJ9",
        "vuM5GNE0tM9f1NAGrgsdLpnPJVJ9r6j1tfehXEp2_sbZtA5sDCzRETQ0sOfRmZklBb6k_-wMDTgcr_YPruEQsScf\
         U60MI4JbduoSvfIHfonbkE4IeYQ3Ex8XBUZaCLujU1Af0mROax9sTvm9rcjV6Ndzo3WgzSoXD3-12vJcaAO9OnCz\
         G_V3bq_aPzmkMdzs4MBtRoG4gXxmFjsKmuDvy0tVpk6UDIkyBUhjJ3cLC3LuXj7TyfjukLGixTmB6dLmeeme89vl\
         SUBgHl_LxuWzeersNrWT6b72pT4bJm0UlcGEo4pl9FvKZkbQqIbXBh--58KLHqTlPri6dkpS3WVtIg",
    ),
    (
        "ES384",
        "eyJhbGciOiJFUzM4NCIsImtpZCI6ImVjIn0",
        "9jcXRZq0TIEdqXg6kkiKbOhQFxIMzp2WpIIzI2janQcAGsvdrnMjLTCpRiHhNzUD8LX8Qg1FyxIpxijJwv_U0ZAp\
         4d1voFEgMLZRb2T2tF-FQxbw5LVkEnlWrvuOEGqx",
    ),
];

fn provider() -> OidcProvider {
    OidcProvider {
        arn: "arn:aws:iam::123456789012:oidc-provider/token.example.com".to_owned(),
        url: "https://token.example.com".to_owned(),
        client_ids: vec!["sts".to_owned()],
        thumbprints: Vec::new(),
    }
}

static KEYS: LazyLock<KeySet> = LazyLock::new(|| KeySet::parse(document().to_string().as_bytes()).unwrap());

fn document() -> serde_json::Value {
    serde_json::json!({"keys": [
        {"kty": "RSA", "kid": "rsa", "use": "sig", "n": RSA_MODULUS, "e": "AQAB"},
        {"kty": "EC", "kid": "ec", "crv": "P-384", "x": P384_X, "y": P384_Y},
        {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
        {"kty": "RSA", "kid": "rsa", "use": "enc", "n": "AQAB", "e": "AQAB"},
    ]})
}

fn tokens() -> Vec<(&'static str, String)> {
    SIGNED
        .iter()
        .map(|(algorithm, header, signature)| (*algorithm, format!("{header}.{PAYLOAD}.{signature}")))
        .collect()
}

fn verify(token: &str) -> Result<Claims, TokenError> {
    Token::parse(token)?.verify(&provider(), &KEYS, NOW)
}

#[test]
fn signatures_of_openssl_are_good_in_every_algorithm() {
    for (algorithm, token) in tokens() {
        let claims = verify(&token).unwrap_or_else(|error| panic!("{algorithm}: {error}"));
        assert_eq!((&*claims.subject, &*claims.audience), ("repo:me/app", "sts"));
        assert_eq!(claims.keys["token.example.com:sub"], ["repo:me/app"]);
        assert_eq!(claims.keys["token.example.com:aud"], ["sts"]);
    }
}

#[test]
fn a_signature_is_good_for_its_own_algorithm_key_and_issuer_alone() {
    let tokens = tokens();
    for (algorithm, token) in &tokens {
        let signature = token.rsplit('.').next().unwrap();
        for (other, (_, header, _)) in SIGNED.iter().map(|row| (row.0, row)) {
            let mixed = format!("{header}.{PAYLOAD}.{signature}");
            assert_eq!(verify(&mixed).is_ok(), other == *algorithm, "{algorithm} as {other}");
        }
        let elsewhere = OidcProvider { url: "https://token.example.com/".to_owned(), ..provider() };
        let parsed = Token::parse(token).unwrap();
        assert_eq!(parsed.verify(&elsewhere, &KEYS, NOW), Err(TokenError::Issuer));
        assert_eq!(parsed.verify(&provider(), &KeySet::default(), NOW), Err(TokenError::Signature));
    }
    // A key that says what it is for is for nothing else.
    let mut document = document();
    document["keys"][0]["alg"] = "RS512".into();
    let keys = KeySet::parse(document.to_string().as_bytes()).unwrap();
    for (algorithm, token) in &tokens[..3] {
        let verified = Token::parse(token).unwrap().verify(&provider(), &keys, NOW);
        assert_eq!(verified.is_ok(), *algorithm == "RS512");
    }
}

#[test]
fn a_key_set_is_bounded_and_passes_over_what_it_does_not_know() {
    assert!(KEYS.has("rsa") && KEYS.has("ec") && !KEYS.has("secret"));
    assert_eq!(KeySet::parse(b"{}"), Err(KeySetError::Form));
    assert_eq!(KeySet::parse(b"[1"), Err(KeySetError::Form));
    let many = serde_json::json!({"keys": vec![serde_json::json!({}); 201]});
    assert_eq!(KeySet::parse(many.to_string().as_bytes()), Err(KeySetError::TooMany));
    for broken in [
        serde_json::json!({"kty": "RSA", "n": "!", "e": "AQAB"}),
        serde_json::json!({"kty": "RSA", "n": "A".repeat(2000), "e": "AQAB", "kid": "zeros"}),
        serde_json::json!({"kty": "EC", "crv": "P-256", "x": P384_X, "y": P384_Y}),
        serde_json::json!({"kty": "EC", "crv": "P-521", "x": P384_X, "y": P384_Y}),
        serde_json::json!({"kty": 7}),
        serde_json::json!("key"),
    ] {
        let set = KeySet::parse(serde_json::json!({"keys": [broken]}).to_string().as_bytes()).unwrap();
        assert!(!set.verify(Algorithm::Rs256, None, b"signed", &[0; 256]), "{broken}");
    }
    assert_eq!(Algorithm::named("none"), None);
    assert_eq!(Algorithm::named("HS256"), None);
}

/// How many rounds a fuzz harness runs: `WHARF_FUZZ`, or `default`.
fn rounds(default: u64) -> u64 {
    std::env::var("WHARF_FUZZ").ok().and_then(|count| count.parse().ok()).unwrap_or(default)
}

/// Bytes of a good token changed, inserted, taken away, doubled: what is taken afterwards is what
/// was taken before.
#[test]
fn no_mutated_token_is_taken() {
    let rng = SeededRng::new(11);
    let tokens = tokens();
    let below = |bound: usize| rng.below(bound as u64) as usize;
    for round in 0..rounds(5000) {
        let (_, good) = &tokens[below(tokens.len())];
        let mut bytes = good.clone().into_bytes();
        for _ in 0..=below(3) {
            let at = below(bytes.len());
            match below(5) {
                0 => bytes[at] ^= 1 << below(7),
                1 => bytes.insert(at, b"ABCxyz019-_.= "[below(14)]),
                2 => drop(bytes.remove(at)),
                3 => bytes.truncate(at.max(1)),
                _ => bytes.extend_from_within(at..),
            }
        }
        let mutated = String::from_utf8_lossy(&bytes);
        let taken = verify(&mutated).is_ok();
        assert!(!taken || *mutated == **good, "round {round}: {mutated}");
        wharf_sts::oidc::fuzz(mutated.as_bytes());
    }
}

proptest! {
    #[test]
    fn noise_is_no_token(text in "\\PC{0,200}", document in "\\PC{0,200}") {
        prop_assert!(verify(&text).is_err());
        wharf_sts::oidc::fuzz(format!("{text}\n{document}").as_bytes());
    }

    #[test]
    fn json_of_every_kind_is_read_without_a_panic(
        header in "[{}\\[\\]\":,a-z0-9]{0,60}",
        claims in "[{}\\[\\]\":,a-z0-9]{0,60}",
    ) {
        use base64::Engine as _;
        let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        let known = format!("{{\"alg\":\"RS256\",{header}}}");
        for header in [&header, &known] {
            wharf_sts::oidc::fuzz(format!("{}.{}.AAAA", encode(header), encode(&claims)).as_bytes());
        }
    }
}
