//! A hand-made service behind a real server on a loopback port, and a client that says exactly
//! the bytes it is told to.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use wharf_contracts::{
    AuthorizationRequest, Authorizer, CredentialError, CredentialSource, Credentials, Decision,
    OperationRequest, Reach, Required, Secret, ServiceAuthorization,
};
use wharf_core::{
    AccountId, ApiError, Clock, Principal, Region, RequestContext, SeededRng, SystemClock, Timestamp,
};
use wharf_shape::{
    CallFuture, Operation, Protocol, Service, ServiceModel, Structure, UNIT, Validation, ValidationForm,
};
use wharf_wire::sigv4::SigningCredentials;
use wharf_wire::{
    CallObserver, CallRecord, Client, Metrics, Pipeline, PipelineParts, Registration, Server, ServerLimits,
};

pub const KEY: &str = "test";
pub const SECRET: &str = "secret";

const fn operation(name: &'static str, action: &'static str) -> Operation {
    Operation {
        name,
        method: "POST",
        uri: "/",
        action,
        input: &UNIT,
        output: Some(&UNIT),
        new_input: wharf_shape::empty::<()>,
        new_output: wharf_shape::empty::<()>,
        result_wrapper: Some("Result"),
        unsigned: false,
        validation_code: None,
        errors: &[],
    }
}

/// An AWS JSON service whose operations do what their names say.
pub static FAKE: ServiceModel = ServiceModel {
    name: "fake",
    service_id: "Fake",
    endpoint_prefix: "fake",
    signing_name: "fake",
    target_prefix: "Fake_2026",
    api_version: "2026-11-20",
    xml_namespace: "",
    protocol: Protocol::AwsJson1_1,
    validation: Validation { code: "ValidationException", form: ValidationForm::Constraint },
    operations: &[
        operation("Echo", "fake:Echo"),
        operation("Fail", "fake:Fail"),
        operation("Forbidden", "fake:Forbidden"),
        operation("Panic", "fake:Panic"),
        operation("Wait", "fake:Wait"),
    ],
};

/// A Query service.
pub static FORM: ServiceModel = ServiceModel {
    name: "form",
    service_id: "Form",
    endpoint_prefix: "form",
    signing_name: "form",
    target_prefix: "",
    api_version: "2011-06-15",
    xml_namespace: "https://form.amazonaws.com/doc/2011-06-15/",
    protocol: Protocol::Query,
    validation: Validation { code: "ValidationError", form: ValidationForm::Constraint },
    operations: &[
        operation("Ping", "form:Ping"),
        Operation { unsigned: true, ..operation("Unsigned", "form:Unsigned") },
    ],
};

pub struct Fake {
    model: &'static ServiceModel,
    /// `Wait` takes one permit, so that a test decides when it ends.
    pub gate: Arc<Semaphore>,
    /// `Wait` gives one permit when it begins.
    pub begun: Arc<Semaphore>,
}

#[derive(Debug, thiserror::Error)]
#[error("the cause that nobody may see")]
struct Hidden;

impl Service for Fake {
    fn model(&self) -> &'static ServiceModel {
        self.model
    }

    fn call<'a>(
        &'a self,
        operation: usize,
        _context: &'a RequestContext,
        input: Box<dyn Structure>,
    ) -> CallFuture<'a> {
        Box::pin(async move {
            match self.model.operations[operation].name {
                "Fail" => Err(ApiError::internal(Hidden)),
                "Panic" => panic!("the panic that nobody may see"),
                "Wait" => {
                    self.begun.add_permits(1);
                    self.gate.acquire().await.unwrap().forget();
                    Ok(input)
                }
                _ => Ok(input),
            }
        })
    }
}

struct OneKey;

impl CredentialSource for OneKey {
    fn credentials(
        &self,
        access_key_id: &str,
        _session_token: Option<&str>,
        _now: Timestamp,
    ) -> Result<Credentials, CredentialError> {
        if access_key_id != KEY {
            return Err(CredentialError::Unknown);
        }
        Ok(Credentials {
            principal: Principal::Root { account: AccountId::DEFAULT },
            secret: Secret::Known(SECRET.to_owned()),
            session: None,
        })
    }
}

struct NotForbidden;

impl Authorizer for NotForbidden {
    fn decide(&self, request: &AuthorizationRequest<'_>) -> Decision {
        let forbidden = request.checks.iter().find(|check| check.action == "fake:Forbidden");
        forbidden
            .map_or(Decision::Allow, |check| Decision::deny(format!("not on {}", check.resources[0].arn)))
    }
}

/// Every operation is asked for, of roots too, on a resource of its own.
struct AskEverything;

impl ServiceAuthorization for AskEverything {
    fn required(&self, request: &OperationRequest<'_>) -> Result<Required, ApiError> {
        Ok(request.on([request.regional("fake", request.operation.name)]).into())
    }

    fn reach(&self, _operation: &Operation) -> Reach {
        Reach::AnyAccount
    }

    fn operations(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

/// Keeps what observers are told: `service:operation status code`.
#[derive(Default)]
pub struct Calls(Mutex<Vec<String>>);

impl CallObserver for Calls {
    fn record(&self, call: &CallRecord<'_>) {
        self.0.lock().push(format!(
            "{}:{} {} {} {}",
            call.service,
            call.operation,
            call.status,
            call.error_code.unwrap_or("-"),
            call.access_key_id.unwrap_or("-")
        ));
    }
}

impl Calls {
    pub fn all(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

pub struct Running {
    pub server: Server,
    pub address: SocketAddr,
    pub gate: Arc<Semaphore>,
    pub begun: Arc<Semaphore>,
    pub calls: Arc<Calls>,
}

pub fn small_limits() -> ServerLimits {
    ServerLimits {
        body_bytes_max: 10_000,
        bodies_bytes_max: 30_000,
        connections_max: 16,
        head_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_millis(300),
    }
}

pub async fn start(limits: ServerLimits) -> Running {
    start_with(limits, 64).await
}

pub async fn start_with(limits: ServerLimits, in_flight_max: usize) -> Running {
    let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let metrics = Arc::new(Metrics::default());
    let calls = Arc::new(Calls::default());
    let pipeline = Pipeline::with_in_flight_max(parts(&gate, &begun, &metrics, &calls), in_flight_max);
    let server = Server::builder(pipeline, metrics).limits(limits).build();
    let address = server.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await.unwrap();
    Running { server, address, gate, begun, calls }
}

/// A pipeline of the two fake services.
pub fn pipeline(metrics: &Arc<Metrics>) -> Arc<Pipeline> {
    Pipeline::new(parts(
        &Arc::new(Semaphore::new(0)),
        &Arc::new(Semaphore::new(0)),
        metrics,
        &Arc::new(Calls::default()),
    ))
}

fn parts(
    gate: &Arc<Semaphore>,
    begun: &Arc<Semaphore>,
    metrics: &Arc<Metrics>,
    calls: &Arc<Calls>,
) -> PipelineParts {
    let service = |model| {
        Arc::new(Fake { model, gate: Arc::clone(gate), begun: Arc::clone(begun) }) as Arc<dyn Service>
    };
    PipelineParts {
        services: vec![
            Registration::with_authorization(service(&FAKE), Arc::new(AskEverything)),
            Registration::with_authorization(service(&FORM), Arc::new(AskEverything)),
        ],
        credentials: Arc::new(OneKey),
        authorizer: Arc::new(NotForbidden),
        denials: None,
        clock: Arc::new(SystemClock),
        rng: Arc::new(SeededRng::new(1)),
        observers: vec![Arc::clone(metrics) as _, Arc::clone(calls) as _],
    }
}

impl Running {
    pub fn client(&self) -> Client {
        client(self.address, KEY, SECRET)
    }

    /// A signed call of the JSON service.
    pub async fn call(&self, operation: &str) -> Result<bytes::Bytes, wharf_wire::ClientError> {
        self.client()
            .call_json("fake", &format!("Fake_2026.{operation}"), "1.1", "{}", SystemClock.now())
            .await
    }

    /// Sends bytes, closes the sending side and reads everything that comes back.
    pub async fn say(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may refuse and close before it has read everything.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        read_all(&mut stream).await
    }
}

pub fn client(address: SocketAddr, key: &str, secret: &str) -> Client {
    let credentials = SigningCredentials {
        access_key_id: key.to_owned(),
        secret_access_key: secret.to_owned(),
        session_token: None,
    };
    Client::new(&format!("http://{address}"), credentials, Region::default()).unwrap()
}

/// Everything until the server closes; a test that hangs here fails by its deadline.
pub async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let reading = async {
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(length) => answer.extend_from_slice(&buffer[..length]),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("the server closes in time");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Waits for something that other tasks make true.
pub async fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let waiting = async {
        while !is_true() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// The status of an HTTP answer.
pub fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}
