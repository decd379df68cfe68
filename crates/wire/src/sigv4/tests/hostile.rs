//! Requests that were changed on the way, and signatures that are none.

use proptest::prelude::*;

use super::*;

/// Whether changing this header changes anything that is signed.
fn is_signed(request: &TestRequest, name: &str) -> bool {
    let text = request.headers.iter().find(|(name, _)| name == "Authorization").map_or_else(
        || request.query.replace("%3B", ";"),
        |(_, value)| String::from_utf8_lossy(value).into(),
    );
    let list = text.split("SignedHeaders=").nth(1).unwrap();
    let list = list.split([',', '&']).next().unwrap();
    list.split(';').any(|signed| signed.eq_ignore_ascii_case(name))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// One bit of one signed byte: method, path, query, a signed header's value, the body, or the
    /// signature itself.
    #[test]
    fn any_flip_of_a_signed_byte_is_refused(case in 0_usize..1000, place in 0_usize..100_000, bit in 0_u8..7) {
        let (now, mut cases) = botocore_vectors();
        let index = case % cases.len();
        let (name, service, session_token, mut request) = cases.swap_remove(index);
        let original = request.clone();
        let signed: Vec<usize> = (0..request.headers.len())
            .filter(|index| {
                let name = request.headers[*index].0.to_ascii_lowercase();
                name == "authorization" || is_signed(&request, &name)
            })
            .collect();
        // S3's presigned form leaves the body out; every other form holds it.
        let mut spans: Vec<(&str, usize)> =
            vec![("method", request.method.len()), ("path", request.path.len()), ("query", request.query.len()), ("body", request.body.len())];
        spans.extend(signed.iter().map(|index| ("header", request.headers[*index].1.len())));
        let total: usize = spans.iter().map(|(_, length)| length).sum();
        let mut at = place % total;
        let mut span = 0;
        while at >= spans[span].1 {
            at -= spans[span].1;
            span += 1;
        }
        let flip = |text: &mut String| {
            let mut bytes = std::mem::take(text).into_bytes();
            bytes[at] ^= 1 << bit;
            *text = String::from_utf8(bytes).unwrap();
        };
        match span {
            0 => flip(&mut request.method),
            1 => flip(&mut request.path),
            2 => flip(&mut request.query),
            3 => request.body[at] ^= 1 << bit,
            header => request.headers[signed[header - 4]].1[at] ^= 1 << bit,
        }
        // Some spellings mean the same, and the canonical form says so: white space around words of
        // a header, the case of an escape's digits, dots and slashes of a normalized path.
        let same = canonical_of(&original, &service) == canonical_of(&request, &service);
        let source = OneKey { session_token, ..OneKey::long_term() };
        let verified = request.verify(source, &service, now);
        match verified {
            Err(_) | Ok(None) => {}
            Ok(Some(_)) => prop_assert!(same, "{name}: {original:?} became {request:?}"),
        }
    }

    #[test]
    fn no_authorization_header_is_too_strange(
        value in prop_oneof![
            "AWS4-HMAC-SHA256 [ -~]{0,200}",
            "AWS4-HMAC-SHA256 (Credential=[A-Z0-9/a-z-]{0,60}|SignedHeaders=[a-z;-]{0,40}|Signature=[0-9a-fG]{0,70}|[,= é]){0,9}",
            "[ -~é]{0,100}",
        ],
        query in "(&?X-Amz-(Algorithm|Credential|Date|Expires|SignedHeaders|Signature)(=[%A-Za-z0-9/-]{0,30})?){0,8}",
        date in "([0-9TZ]{16}|[ -~]{0,30})",
    ) {
        for (authorization, query) in [(Some(&value), ""), (None, &*query), (Some(&value), &*query)] {
            let mut request = TestRequest::new("GET", "/", query, &[("host", "h"), ("x-amz-date", &date)], b"");
            if let Some(authorization) = authorization {
                request.headers.push(("authorization".to_owned(), authorization.clone().into_bytes()));
            }
            if let Ok(verified) = request.verify(OneKey::long_term(), "ecs", EXAMPLE_TIME) {
                prop_assert!(verified.is_none());
            }
        }
    }
}

/// The canonical request with everything that a verifier reads beside it, or nothing when the
/// request carries no readable signature.
fn canonical_of(request: &TestRequest, service: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let headers = request.header_map()?;
    let parts = SignedParts {
        method: &request.method,
        path: &request.path,
        query: &request.query,
        headers: &headers,
        body: &request.body,
    };
    let claim = Claim::read(&parts).ok()??;
    let hash = canonical::hex_sha256(&request.body);
    let canonical = canonical::canonical_request(
        &parts,
        Policy::of(service).path,
        canonical::QuerySkip::Nothing,
        claim.signed_headers(),
        claim.signed_headers_text(),
        &String::from_utf8_lossy(&hash),
    );
    let rest = format!("{} {} {}", claim.access_key_id(), claim.scope_text(), claim.signature);
    Some((canonical, rest.into_bytes()))
}

/// How many rounds a fuzz harness runs: `WHARF_FUZZ`, or `default`.
fn rounds(default: u64) -> u64 {
    std::env::var("WHARF_FUZZ").ok().and_then(|count| count.parse().ok()).unwrap_or(default)
}

/// The signature alone is changed, the request never: bits flipped, digits swapped, cut, doubled,
/// taken from another request, put into upper case. None is taken but the one that is right.
#[test]
fn no_mutated_signature_is_accepted() {
    use wharf_core::{Rng as _, SeededRng};
    let rng = SeededRng::new(23);
    let below = |bound: usize| rng.below(bound as u64) as usize;
    let (now, cases) = botocore_vectors();
    struct Case {
        name: String,
        service: String,
        method: String,
        path: String,
        query: String,
        body: Vec<u8>,
        /// With an `authorization` header only in the header form.
        headers: HeaderMap,
        authorization: Option<String>,
        signature: String,
        verifier: Verifier,
    }
    let cases: Vec<Case> = cases
        .into_iter()
        .map(|(name, service, session_token, request)| {
            let mut headers = request.header_map().unwrap();
            let authorization =
                headers.remove("authorization").map(|value| value.to_str().unwrap().to_owned());
            let place = authorization.as_deref().unwrap_or(&request.query);
            let signature = place.split("Signature=").nth(1).unwrap();
            let signature = signature.split(['&', ',']).next().unwrap().trim().to_owned();
            Case {
                name,
                service,
                method: request.method,
                path: request.path,
                query: request.query,
                body: request.body,
                headers,
                authorization,
                signature,
                verifier: Verifier::new(Arc::new(OneKey { session_token, ..OneKey::long_term() })),
            }
        })
        .collect();
    let mut accepted_unchanged = 0;
    let count = rounds(5000);
    for round in 0..count {
        let case = &cases[below(cases.len())];
        let mut signature = case.signature.clone().into_bytes();
        match below(8) {
            0 => {
                let at = below(signature.len());
                signature[at] ^= 1 << below(7);
            }
            1 => {
                let (left, right) = (below(signature.len()), below(signature.len()));
                signature.swap(left, right);
            }
            2 => signature.truncate(below(signature.len() + 1)),
            3 => signature.extend_from_within(..below(65)),
            4 => signature = cases[below(cases.len())].signature.clone().into_bytes(),
            5 => signature.make_ascii_uppercase(),
            6 => signature = rng.hex(64).into_bytes(),
            _ => {
                let at = below(signature.len());
                signature[at] = b"0123456789abcdef"[below(16)];
            }
        }
        let Ok(signature) = String::from_utf8(signature) else { continue };
        let mut headers = case.headers.clone();
        let mut query = case.query.clone();
        match &case.authorization {
            Some(authorization) => {
                let changed = authorization.replace(&case.signature, &signature);
                let Ok(value) = HeaderValue::from_str(&changed) else { continue };
                headers.insert("authorization", value);
            }
            None => query = query.replace(&case.signature, &signature),
        }
        let parts = SignedParts {
            method: &case.method,
            path: &case.path,
            query: &query,
            headers: &headers,
            body: &case.body,
        };
        let Ok(Some(claim)) = Claim::read(&parts) else { continue };
        // White space around it, or an escape of a digit, is another spelling of the same signature.
        let same = claim.signature == case.signature;
        let taken =
            case.verifier.verify(&claim, &parts, &case.service, Policy::of(&case.service), now).is_ok();
        assert_eq!(taken, same, "round {round}: {} with {signature}", case.name);
        accepted_unchanged += u64::from(taken);
    }
    // The harness itself would accept what is right: it does so when a change changes nothing.
    assert!(accepted_unchanged > 0, "no round of {count} left a signature as it was");
}
