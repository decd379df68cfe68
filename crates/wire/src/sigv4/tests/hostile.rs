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
