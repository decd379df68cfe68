//! Signed requests whose bodies make no sense, to every operation of every generated service:
//! each is refused in the protocol of its service, as the sender's fault, or told that the operation
//! is not implemented. Nothing panics: a panic would show as `InternalFailure`.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::BodyExt;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use wharf_contracts::{
    CredentialError, CredentialSource, Credentials, OperationRequest, Reach, Required, RootOnly, Secret,
    ServiceAuthorization,
};
use wharf_core::{AccountId, ApiError, Clock, ManualClock, Principal, SeededRng, Timestamp};
use wharf_shape::{Operation, Protocol, Service, ServiceModel};
use wharf_wire::sigv4::{self, SigningCredentials};
use wharf_wire::{Pipeline, PipelineParts, Registration};

/// A service that has no operation but the generated answers.
struct Nothing;
impl wharf_ec2_api::Ec2 for Nothing {}
impl wharf_ecs_api::Ecs for Nothing {}
impl wharf_logs_api::Logs for Nothing {}
impl wharf_sts_api::Sts for Nothing {}

static MODELS: [&ServiceModel; 4] =
    [&wharf_ec2_api::MODEL, &wharf_ecs_api::MODEL, &wharf_logs_api::MODEL, &wharf_sts_api::MODEL];

struct OneKey;

impl CredentialSource for OneKey {
    fn credentials(
        &self,
        _access_key_id: &str,
        _session_token: Option<&str>,
        _now: Timestamp,
    ) -> Result<Credentials, CredentialError> {
        Ok(Credentials {
            principal: Principal::Root { account: AccountId::DEFAULT },
            secret: Secret::Known("test".to_owned()),
            session: None,
        })
    }
}

const NOW: Timestamp = Timestamp::from_millis(1_795_187_045_000);

/// What a client may send: noise, JSON of any form, members of the model with values of the wrong
/// kind, forms, and any of these cut short.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        "[a-zA-Z]{1,12}",
        Just("cluster".to_owned()),
        Just("containerDefinitions".to_owned()),
        Just("tags".to_owned()),
        Just("logEvents".to_owned()),
        Just("logGroupName".to_owned()),
    ];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("1e400".to_owned()),
        Just("-0".to_owned()),
        "[0-9]{1,25}",
        "\"[ -~é☃]{0,20}\"",
        Just("\"\\ud800\"".to_owned()),
        Just("\"\\u0000\"".to_owned()),
    ];
    let json = leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((name.clone(), inner), 0..4).prop_map(|pairs| {
                let members: Vec<String> =
                    pairs.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    });
    let form = prop::collection::vec(
        "[A-Za-z]{1,10}(\\.([0-9]{1,12}|member|Name|key)){0,4}=[%A-Za-z0-9+ü]{0,10}",
        0..6,
    )
    .prop_map(|pairs| pairs.join("&"));
    let text =
        prop_oneof![4 => json, 3 => form, 1 => Just("[".repeat(5000)), 1 => Just("{\"a\":".repeat(5000))];
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..60),
        6 => (text, any::<prop::sample::Index>(), any::<bool>()).prop_map(|(text, cut, whole)| {
            let mut bytes = text.into_bytes();
            if !whole && !bytes.is_empty() {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes
        }),
    ]
}

fn request(model: &ServiceModel, operation: &str, body: &[u8]) -> Request<Bytes> {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("localhost:4566"));
    let body = match model.protocol {
        Protocol::AwsJson1_0 | Protocol::AwsJson1_1 => {
            let target = format!("{}.{operation}", model.target_prefix);
            headers.insert("x-amz-target", HeaderValue::from_str(&target).unwrap());
            headers.insert("content-type", HeaderValue::from_static("application/x-amz-json-1.1"));
            body.to_vec()
        }
        Protocol::Query | Protocol::Ec2Query => {
            let form = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
            headers.insert("content-type", form);
            [format!("Action={operation}&Version={}&", model.api_version).as_bytes(), body].concat()
        }
    };
    let credentials = SigningCredentials {
        access_key_id: "test".to_owned(),
        secret_access_key: "test".to_owned(),
        session_token: None,
    };
    sigv4::sign(&credentials, model.signing_name, "us-east-1", "POST", "/", "", &mut headers, &body, NOW)
        .unwrap();
    let mut request = Request::new(Bytes::from(body));
    *request.method_mut() = Method::POST;
    *request.headers_mut() = headers;
    request
}

/// What the root user of the account may do without being asked for anything.
struct NothingAsked;

impl ServiceAuthorization for NothingAsked {
    fn required(&self, request: &OperationRequest<'_>) -> Result<Required, ApiError> {
        Ok(request.on_any().into())
    }

    fn reach(&self, _operation: &Operation) -> Reach {
        Reach::OwnAccount
    }

    fn operations(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

fn of_root(service: Arc<dyn Service>) -> Registration {
    Registration::with_authorization(service, Arc::new(NothingAsked))
}

#[test]
fn hostile_bodies_are_refused_by_every_operation() {
    let pipeline = Pipeline::new(PipelineParts {
        services: vec![
            of_root(wharf_ec2_api::service(Arc::new(Nothing))),
            of_root(wharf_ecs_api::service(Arc::new(Nothing))),
            of_root(wharf_logs_api::service(Arc::new(Nothing))),
            of_root(wharf_sts_api::service(Arc::new(Nothing))),
        ],
        credentials: Arc::new(OneKey),
        authorizer: Arc::new(RootOnly),
        denials: None,
        clock: Arc::new(ManualClock::new(NOW)) as Arc<dyn Clock>,
        rng: Arc::new(SeededRng::new(1)),
        observers: Vec::new(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let source_ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    for model in MODELS {
        let (refused, reached) = (Cell::new(0), Cell::new(0));
        for operation in model.operations {
            let mut runner = TestRunner::new_with_rng(
                Config { cases: 24, failure_persistence: None, ..Config::default() },
                proptest::test_runner::TestRng::deterministic_rng(
                    proptest::test_runner::RngAlgorithm::ChaCha,
                ),
            );
            runner
                .run(&body(), |body| {
                    let (head, whole) = request(model, operation.name, &body).into_parts();
                    let response = runtime.block_on(pipeline.handle(head, whole, source_ip));
                    let status = response.status().as_u16();
                    let answer = runtime.block_on(response.into_body().collect()).unwrap().to_bytes();
                    let answer = String::from_utf8(answer.to_vec()).unwrap();
                    prop_assert!(matches!(status, 400..=499 | 501), "{operation:?}: {status} {answer}");
                    let count = if status == 501 { &reached } else { &refused };
                    count.set(count.get() + 1);
                    let (code, of_code) = match model.protocol {
                        Protocol::AwsJson1_0 | Protocol::AwsJson1_1 => ("\"__type\":", "message"),
                        Protocol::Query | Protocol::Ec2Query => ("<Code>", "<Message>"),
                    };
                    prop_assert!(
                        answer.contains(code) && answer.contains(of_code),
                        "{operation:?}: {answer}"
                    );
                    // A signature that does not reach the handler would hide everything behind it.
                    prop_assert!(!answer.contains("ignature"), "{operation:?}: {answer}");
                    Ok(())
                })
                .unwrap();
        }
        // Most bodies are nonsense, and some are an input that a handler gets to see.
        let (refused, reached) = (refused.get(), reached.get());
        assert!(refused > 0 && reached > 0, "{}: {refused} refused, {reached} reached", model.name);
    }
}
