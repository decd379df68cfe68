//! Signatures that others made, and what becomes of a request when anything of it changes.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use wharf_contracts::{CredentialError, CredentialSource, Credentials, Secret};
use wharf_core::{AccountId, Principal, Timestamp};
use wharf_shape::Protocol;

use super::*;

mod hostile;

const KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// One key, optionally temporary.
struct OneKey {
    secret: Secret,
    session_token: Option<String>,
    expires: Option<Timestamp>,
}

impl OneKey {
    fn long_term() -> Self {
        Self { secret: Secret::Known(SECRET.to_owned()), session_token: None, expires: None }
    }
}

impl CredentialSource for OneKey {
    fn credentials(
        &self,
        access_key_id: &str,
        session_token: Option<&str>,
        now: Timestamp,
    ) -> Result<Credentials, CredentialError> {
        if access_key_id != KEY {
            return Err(CredentialError::Unknown);
        }
        if session_token != self.session_token.as_deref() {
            return Err(CredentialError::InvalidToken);
        }
        if self.expires.is_some_and(|expires| expires <= now) {
            return Err(CredentialError::Expired);
        }
        Ok(Credentials {
            principal: Principal::Root { account: AccountId::DEFAULT },
            secret: self.secret.clone(),
            session: None,
        })
    }
}

#[derive(Clone, Debug)]
struct TestRequest {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl TestRequest {
    fn new(method: &str, path: &str, query: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
                .collect(),
            body: body.to_vec(),
        }
    }

    /// `None` when no HTTP server would let the headers through.
    fn header_map(&self) -> Option<HeaderMap> {
        let mut map = HeaderMap::new();
        for (name, value) in &self.headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(value).ok()?);
        }
        Some(map)
    }

    fn verify(
        &self,
        source: OneKey,
        service: &str,
        now: Timestamp,
    ) -> Result<Option<Verified>, SignatureError> {
        let Some(headers) = self.header_map() else { return Ok(None) };
        let parts = SignedParts {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &headers,
            body: &self.body,
        };
        let claim = Claim::read(&parts)?.ok_or(SignatureError::Missing)?;
        Verifier::new(Arc::new(source)).verify(&claim, &parts, service, Policy::of(service), now).map(Some)
    }
}

/// 2015-08-30T12:36:00Z, the time of AWS's own examples.
const EXAMPLE_TIME: Timestamp = Timestamp::from_millis(1_440_938_160_000);

fn authorization(service: &str, signed_headers: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={KEY}/20150830/us-east-1/{service}/aws4_request, \
         SignedHeaders={signed_headers}, Signature={signature}"
    )
}

/// The documented `ListUsers` request.
fn list_users() -> TestRequest {
    let authorization = authorization(
        "iam",
        "content-type;host;x-amz-date",
        "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
    );
    TestRequest::new(
        "GET",
        "/",
        "Action=ListUsers&Version=2010-05-08",
        &[
            ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("Host", "iam.amazonaws.com"),
            ("X-Amz-Date", "20150830T123600Z"),
            ("Authorization", &authorization),
        ],
        b"",
    )
}

#[test]
fn the_documented_list_users_request_is_accepted() {
    let verified = list_users().verify(OneKey::long_term(), "iam", EXAMPLE_TIME).unwrap().unwrap();
    assert_eq!(verified.access_key_id, KEY);
    assert_eq!(verified.region.as_str(), "us-east-1");
}

/// `get-vanilla` of AWS's first test suite, whose weekday is wrong: a signer that formats dates
/// badly still signs what it sends.
#[test]
fn a_date_header_stands_in_for_x_amz_date_and_commas_need_no_space() {
    let authorization = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20110909/us-east-1/host/aws4_request,\
                         SignedHeaders=date;host,\
                         Signature=b27ccfbfa7df52a200ff74193ca6e32d4b48b8856fab7ebf1c595d0670a7e470";
    let headers = [
        ("Date", "Mon, 09 Sep 2011 23:36:00 GMT"),
        ("Host", "host.foo.com"),
        ("Authorization", authorization),
    ];
    let request = TestRequest::new("GET", "/", "", &headers, b"");
    let now = Timestamp::from_millis(1_315_611_360_000);
    assert!(matches!(request.verify(OneKey::long_term(), "host", now), Ok(Some(_))));
}

/// Requests of AWS's Signature Version 4 test suite, with the signatures that it gives.
#[test]
fn the_test_suite_of_aws_is_accepted() {
    const FORM: &str = "application/x-www-form-urlencoded";
    type Case =
        (&'static str, &'static str, &'static str, &'static str, Headers, &'static [u8], &'static str);
    type Headers = &'static [(&'static str, &'static str)];
    #[rustfmt::skip]
    let cases: [Case; 12] = [
        ("get-vanilla", "GET", "/", "", &[], b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("get-relative", "GET", "/example/..", "", &[], b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("get-slashes", "GET", "//example//", "", &[], b"", "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
        ("get-unreserved", "GET", "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "", &[], b"", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
        ("get-utf8", "GET", "/\u{1234}", "", &[], b"", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        ("get-vanilla-empty-query-key", "GET", "/", "Param1=value1", &[], b"", "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
        ("get-vanilla-query-order-key-case", "GET", "/", "Param2=value2&Param1=value1", &[], b"", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        ("get-header-value-trim", "GET", "/", "", &[("my-header1", "value1"), ("my-header2", "\"a   b   c\"")], b"", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"),
        ("get-header-key-duplicate", "GET", "/", "", &[("my-header1", "value2"), ("my-header1", "value2"), ("my-header1", "value1")], b"", "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"),
        ("post-vanilla", "POST", "/", "", &[], b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("post-header-key-sort", "POST", "/", "", &[("my-header1", "value1")], b"", "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"),
        ("post-x-www-form-urlencoded", "POST", "/", "", &[("content-type", FORM)], b"Param1=value1", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
    ];
    for (name, method, path, query, extra, body, signature) in cases {
        let mut headers = extra.to_vec();
        headers.push(("host", "example.amazonaws.com"));
        headers.push(("x-amz-date", "20150830T123600Z"));
        let mut names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        let authorization = authorization("service", &names.join(";"), signature);
        headers.push(("authorization", &authorization));
        let request = TestRequest::new(method, path, query, &headers, body);
        let verified = request.verify(OneKey::long_term(), "service", EXAMPLE_TIME);
        assert!(verified.is_ok_and(|verified| verified.is_some()), "{name}");
    }
}

/// Name, service, session token and request.
type Vector = (String, String, Option<String>, TestRequest);

/// Requests signed by botocore; `tests/vectors/make.py` makes them.
fn botocore_vectors() -> (Timestamp, Vec<Vector>) {
    let document: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/vectors/botocore.json")).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let cases = document["cases"].as_array().unwrap().iter().map(|case| {
        let headers = case["headers"].as_array().unwrap();
        let request = TestRequest {
            method: text(&case["method"]),
            path: text(&case["path"]),
            query: text(&case["query"]),
            headers: headers.iter().map(|pair| (text(&pair[0]), text(&pair[1]).into_bytes())).collect(),
            body: hex::decode(text(&case["body"])).unwrap(),
        };
        (text(&case["name"]), text(&case["service"]), case["token"].as_str().map(str::to_owned), request)
    });
    (Timestamp::from_millis(document["now_ms"].as_i64().unwrap()), cases.collect())
}

#[test]
fn every_request_signed_by_botocore_is_accepted() {
    let (now, cases) = botocore_vectors();
    assert!(cases.len() > 15);
    for (name, service, session_token, request) in cases {
        let source = OneKey { session_token, ..OneKey::long_term() };
        let verified = request.verify(source, &service, now);
        assert!(matches!(verified, Ok(Some(_))), "{name}: {verified:?}");
    }
}

#[test]
fn our_own_signatures_are_accepted() {
    for session_token in [None, Some("to/ken+=".to_owned())] {
        let credentials = SigningCredentials {
            access_key_id: KEY.to_owned(),
            secret_access_key: SECRET.to_owned(),
            session_token: session_token.clone(),
        };
        let source = || OneKey { session_token: session_token.clone(), ..OneKey::long_term() };
        let host = HeaderValue::from_static("localhost:4566");
        let mut headers = HeaderMap::new();
        headers.insert("host", host.clone());
        headers.insert("x-amz-target", HeaderValue::from_static("A.B"));
        sign(&credentials, "ecs", "eu-west-1", "POST", "/a%20b", "q=1&p", &mut headers, b"{}", EXAMPLE_TIME)
            .unwrap();
        let request = TestRequest {
            method: "POST".to_owned(),
            path: "/a%20b".to_owned(),
            query: "q=1&p".to_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
                .collect(),
            body: b"{}".to_vec(),
        };
        assert_eq!(
            request.verify(source(), "ecs", EXAMPLE_TIME).unwrap().unwrap().region.as_str(),
            "eu-west-1"
        );

        for service in ["sts", "s3"] {
            let query =
                presign(&credentials, service, "eu-west-1", "GET", &host, "/k", "a=b", 60, EXAMPLE_TIME);
            let request = TestRequest::new("GET", "/k", &query, &[("host", "localhost:4566")], b"");
            assert!(request.verify(source(), service, EXAMPLE_TIME).is_ok(), "{service}");
        }
    }
}

#[test]
fn a_signature_is_good_for_fifteen_minutes_either_way() {
    let after = |seconds: i64| Timestamp::from_millis(EXAMPLE_TIME.as_millis() + seconds * 1000);
    let verify = |now| list_users().verify(OneKey::long_term(), "iam", now).map(drop);
    assert_eq!(verify(after(15 * 60)), Ok(()));
    assert_eq!(verify(after(-15 * 60)), Ok(()));
    assert_eq!(
        verify(after(15 * 60 + 1)),
        Err(SignatureError::Expired {
            message: "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z \
                      (20150830T125101Z - 15 min.)"
                .to_owned()
        })
    );
    assert_eq!(
        verify(after(-15 * 60 - 1)),
        Err(SignatureError::Expired {
            message: "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z \
                      (20150830T122059Z + 15 min.)"
                .to_owned()
        })
    );
}

#[test]
fn a_presigned_url_lives_as_long_as_it_says_and_seven_days_at_most() {
    let credentials = SigningCredentials {
        access_key_id: KEY.to_owned(),
        secret_access_key: SECRET.to_owned(),
        session_token: None,
    };
    let host = HeaderValue::from_static("localhost");
    let verify = |service: &str, expires: u64, age: i64| {
        let query = presign(&credentials, service, "us-east-1", "GET", &host, "/", "", expires, EXAMPLE_TIME);
        let now = Timestamp::from_millis(EXAMPLE_TIME.as_millis() + age * 1000);
        TestRequest::new("GET", "/", &query, &[("host", "localhost")], b"")
            .verify(OneKey::long_term(), service, now)
            .map(drop)
    };
    const WEEK: u64 = 7 * 24 * 60 * 60;
    assert_eq!(verify("s3", 60, 60), Ok(()));
    assert!(matches!(verify("s3", 60, 61), Err(SignatureError::Expired { .. })));
    assert_eq!(verify("sts", 60, 15 * 60), Ok(()));
    assert!(matches!(verify("sts", 60, 15 * 60 + 1), Err(SignatureError::Expired { .. })));
    assert_eq!(verify("sts", WEEK, WEEK as i64), Ok(()));
    assert!(matches!(verify("sts", WEEK, WEEK as i64 + 1), Err(SignatureError::Expired { .. })));
    for expires in [0, WEEK + 1, u64::MAX] {
        assert!(matches!(verify("sts", expires, 0), Err(SignatureError::Incomplete { .. })), "{expires}");
    }
}

#[test]
fn the_scope_must_fit_the_request() {
    let with = |credential: &str| {
        let mut request = list_users();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host;x-amz-date, Signature={}",
            "0".repeat(64)
        );
        request.headers.retain(|(name, _)| name != "Authorization");
        request.headers.push(("Authorization".to_owned(), authorization.into_bytes()));
        request.verify(OneKey::long_term(), "iam", EXAMPLE_TIME).unwrap_err().to_string()
    };
    let key = KEY;
    for (credential, message) in [
        (
            format!("{key}/20150830/us-east-1/sts/aws4_request"),
            "Credential should be scoped to correct service: 'iam'. ",
        ),
        (format!("{key}/20150830/US!/iam/aws4_request"), "Credential should be scoped to a valid region. "),
        (
            format!("{key}/20150830/us-east-1/iam/aws4"),
            "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws4'.",
        ),
        (
            format!("{key}/20150829/us-east-1/iam/aws4_request"),
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20150829' != '20150830', from '20150830T123600Z'.",
        ),
        (
            format!("{key}/20150830/us-east-1/iam"),
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got 'AKIDEXAMPLE/20150830/us-east-1/iam'.",
        ),
        (
            "AKIDOTHER/20150830/us-east-1/iam/aws4_request".to_owned(),
            "the access key or its session token is not known",
        ),
        (format!("{key}/20150830/us-east-1/iam/aws4_request"), "the signature does not match"),
    ] {
        assert_eq!(with(&credential), message);
    }
}

#[test]
fn what_decides_the_meaning_of_a_request_must_be_signed() {
    let mut request = list_users();
    request.headers.push(("x-amz-target".to_owned(), b"A.B".to_vec()));
    assert_eq!(
        request.verify(OneKey::long_term(), "iam", EXAMPLE_TIME).unwrap_err(),
        SignatureError::Scope {
            message: "'x-amz-target' must be a 'SignedHeader' in the AWS Authorization.".to_owned()
        }
    );
    let mut request = list_users();
    for (_, value) in &mut request.headers {
        *value = String::from_utf8_lossy(value).replace("content-type;host;", "").into_bytes();
    }
    assert!(matches!(
        request.verify(OneKey::long_term(), "iam", EXAMPLE_TIME),
        Err(SignatureError::Scope { message }) if message.starts_with("'Host' or ':authority'")
    ));
}

#[test]
fn a_list_of_signed_headers_is_bounded() {
    let list = ["host"; 101].join(";");
    let authorization = authorization("iam", &list, &"0".repeat(64));
    let headers = [("host", "h"), ("x-amz-date", "20150830T123600Z"), ("authorization", &*authorization)];
    let request = TestRequest::new("GET", "/", "", &headers, b"");
    let refused = request.verify(OneKey::long_term(), "iam", EXAMPLE_TIME).unwrap_err();
    assert_eq!(refused.to_string(), "SignedHeaders names more than 100 headers.");
}

#[test]
fn a_temporary_key_needs_its_own_token_and_ends() {
    let (now, cases) = botocore_vectors();
    let (_, service, token, request) =
        cases.into_iter().find(|(name, ..)| name == "ecs json, session token (header)").unwrap();
    let verify = |session_token: Option<&str>, expires| {
        let source =
            OneKey { session_token: session_token.map(str::to_owned), expires, ..OneKey::long_term() };
        request.verify(source, &service, now).map(drop)
    };
    let later = Timestamp::from_millis(now.as_millis() + 1);
    assert_eq!(verify(token.as_deref(), Some(later)), Ok(()));
    assert_eq!(verify(token.as_deref(), Some(now)), Err(SignatureError::ExpiredToken));
    assert_eq!(verify(Some("another"), None), Err(SignatureError::UnknownKey));
    assert_eq!(verify(None, None), Err(SignatureError::UnknownKey));
    assert_eq!(
        list_users()
            .verify(
                OneKey { session_token: Some("t".to_owned()), ..OneKey::long_term() },
                "iam",
                EXAMPLE_TIME
            )
            .unwrap_err(),
        SignatureError::UnknownKey
    );
}

#[test]
fn a_key_that_is_taken_at_its_word_still_names_a_region() {
    let source = || OneKey { secret: Secret::Unverified, ..OneKey::long_term() };
    let mut request = list_users();
    request.body = b"anything".to_vec();
    assert!(request.verify(source(), "iam", Timestamp::from_millis(0)).is_ok());
    for (_, value) in &mut request.headers {
        *value = String::from_utf8_lossy(value).replace("us-east-1", "-").into_bytes();
    }
    assert!(matches!(
        request.verify(source(), "iam", Timestamp::from_millis(0)),
        Err(SignatureError::Scope { .. })
    ));
}

#[test]
fn a_body_is_left_out_only_where_the_service_allows_it() {
    let credentials = SigningCredentials {
        access_key_id: KEY.to_owned(),
        secret_access_key: SECRET.to_owned(),
        session_token: None,
    };
    let verify = |service: &str, payload: &str| {
        // Signed as if the body were the empty one; what the header says is under the signature.
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("localhost"));
        headers.insert("x-amz-content-sha256", HeaderValue::from_str(payload).unwrap());
        sign(&credentials, service, "us-east-1", "PUT", "/", "", &mut headers, b"", EXAMPLE_TIME).unwrap();
        let parts = SignedParts { method: "PUT", path: "/", query: "", headers: &headers, body: b"body" };
        let claim = Claim::read(&parts).unwrap().unwrap();
        Verifier::new(Arc::new(OneKey::long_term()))
            .verify(&claim, &parts, service, Policy::of(service), EXAMPLE_TIME)
            .map(drop)
    };
    for service in ["s3", "ecs"] {
        assert_eq!(
            verify(service, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
            Err(SignatureError::PayloadForm { form: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD".to_owned() })
        );
        assert_eq!(verify(service, &"0".repeat(64)), Err(SignatureError::Mismatch));
    }
    assert_eq!(verify("ecs", "UNSIGNED-PAYLOAD"), Err(SignatureError::Mismatch));
    let error = SignatureError::PayloadForm { form: "STREAMING-X".to_owned() };
    assert!(error.to_api_error(Protocol::AwsJson1_1).message.contains("STREAMING-X"));
}

#[test]
fn each_protocol_has_its_own_codes() {
    let expired = SignatureError::Expired { message: "m".to_owned() };
    for (error, json, query, ec2) in [
        (
            SignatureError::Missing,
            ("MissingAuthenticationTokenException", 400),
            ("MissingAuthenticationToken", 403),
            ("MissingParameter", 400),
        ),
        (
            SignatureError::Incomplete { message: "m".to_owned() },
            ("IncompleteSignatureException", 400),
            ("IncompleteSignature", 400),
            ("IncompleteSignature", 400),
        ),
        (
            SignatureError::UnknownKey,
            ("UnrecognizedClientException", 400),
            ("InvalidClientTokenId", 403),
            ("AuthFailure", 401),
        ),
        (
            SignatureError::ExpiredToken,
            ("ExpiredTokenException", 400),
            ("ExpiredToken", 403),
            ("RequestExpired", 400),
        ),
        (
            expired,
            ("InvalidSignatureException", 400),
            ("SignatureDoesNotMatch", 403),
            ("RequestExpired", 400),
        ),
        (
            SignatureError::Mismatch,
            ("InvalidSignatureException", 400),
            ("SignatureDoesNotMatch", 403),
            ("AuthFailure", 401),
        ),
    ] {
        for (protocol, (code, status)) in [
            (Protocol::AwsJson1_0, json),
            (Protocol::AwsJson1_1, json),
            (Protocol::Query, query),
            (Protocol::Ec2Query, ec2),
        ] {
            let shown = error.to_api_error(protocol);
            assert_eq!((&*shown.code, shown.status), (code, status), "{error:?} {protocol:?}");
        }
    }
}
