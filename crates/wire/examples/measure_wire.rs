//! How much a signed call costs. Not a test: figures depend on the machine.
//!
//! ```text
//! cargo run --release -p wharf-wire --example measure_wire -- pipeline        # no sockets, one thread
//! cargo run --release -p wharf-wire --example measure_wire -- verify          # the signature alone
//! cargo run --release -p wharf-wire --example measure_wire -- serve           # prints its address
//! cargo run --release -p wharf-wire --example measure_wire -- load ADDRESS 16 5   # connections, seconds
//! ```
//!
//! The service answers `ecs:ListTasks` with 100 ARNs from memory, so that what is measured is the
//! wire and nothing behind it.
#![allow(clippy::print_stdout, clippy::disallowed_macros, clippy::disallowed_methods, reason = "a tool")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wharf_contracts::{AuthorizationTable, CredentialError, CredentialSource, Credentials, RootOnly, Secret};
use wharf_core::{AccountId, ApiError, Clock, Principal, RequestContext, SystemClock, SystemRng, Timestamp};
use wharf_ecs_api::{Ecs, types};
use wharf_wire::sigv4::{self, Claim, Policy, SignedParts, SigningCredentials, Verifier};
use wharf_wire::{Metrics, Pipeline, PipelineParts, Registration, Server};

struct HundredTasks(Vec<String>);

#[async_trait]
impl Ecs for HundredTasks {
    async fn list_tasks(
        &self,
        _context: &RequestContext,
        _input: types::ListTasksRequest,
    ) -> Result<types::ListTasksResponse, ApiError> {
        Ok(types::ListTasksResponse { task_arns: Some(self.0.clone()), ..Default::default() })
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
        if access_key_id != "test" {
            return Err(CredentialError::Unknown);
        }
        Ok(Credentials {
            principal: Principal::Root { account: AccountId::DEFAULT },
            secret: Secret::Known("test".to_owned()),
            session: None,
        })
    }
}

fn pipeline(metrics: &Arc<Metrics>) -> Arc<Pipeline> {
    let arns = (0..100)
        .map(|number| format!("arn:aws:ecs:us-east-1:000000000000:task/default/{number:032x}"))
        .collect();
    Pipeline::new(PipelineParts {
        services: vec![Registration::with_authorization(
            wharf_ecs_api::service(Arc::new(HundredTasks(arns))),
            AuthorizationTable::new(&wharf_ecs_api::MODEL, Arc::new(()), &[]),
        )],
        credentials: Arc::new(OneKey),
        authorizer: Arc::new(RootOnly),
        denials: None,
        clock: Arc::new(SystemClock),
        rng: Arc::new(SystemRng::new()),
        observers: vec![Arc::clone(metrics) as _],
    })
}

/// A signed `ListTasks`, with the headers that botocore sends.
fn list_tasks(host: &str) -> (HeaderMap, Bytes) {
    let body = Bytes::from_static(b"{\"cluster\": \"default\"}");
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", host),
        ("x-amz-target", "AmazonEC2ContainerServiceV20141113.ListTasks"),
        ("content-type", "application/x-amz-json-1.1"),
        ("user-agent", "aws-cli/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux md/arch#x86_64 lang/python#3.13"),
        ("accept-encoding", "identity"),
        ("amz-sdk-invocation-id", "2f4b9a80-3c6e-4f5e-9d55-0d1b9a1c2e3f"),
        ("amz-sdk-request", "attempt=1; max=5"),
    ] {
        headers.insert(name, HeaderValue::from_str(value).expect("a header's value"));
    }
    let credentials = SigningCredentials {
        access_key_id: "test".to_owned(),
        secret_access_key: "test".to_owned(),
        session_token: None,
    };
    let now = SystemClock.now();
    sigv4::sign(&credentials, "ecs", "us-east-1", "POST", "/", "", &mut headers, &body, now)
        .expect("plain credentials");
    (headers, body)
}

async fn measure_pipeline() {
    let metrics = Arc::new(Metrics::default());
    let pipeline = pipeline(&metrics);
    let (headers, body) = list_tasks("localhost:4566");
    let source_ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut best = f64::MAX;
    for _ in 0..5 {
        const CALLS: u32 = 40_000;
        let before = cpu_ns();
        for _ in 0..CALLS {
            let mut request = Request::new(());
            *request.method_mut() = http::Method::POST;
            *request.headers_mut() = headers.clone();
            let (head, ()) = request.into_parts();
            let response = pipeline.handle(head, body.clone(), source_ip).await;
            assert_eq!(response.status(), 200);
        }
        best = best.min((cpu_ns() - before) as f64 / 1e3 / f64::from(CALLS));
    }
    println!("pipeline: {best:.2} µs of CPU a call, signature and encoding of 100 ARNs included");
}

/// What this thread has spent on a processor (proc(5), `schedstat`): other work on the machine does
/// not count.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|field| field.parse().ok()).expect("schedstat begins with a number")
}

fn measure_verify() {
    let verifier = Verifier::new(Arc::new(OneKey));
    let (headers, body) = list_tasks("localhost:4566");
    let parts = SignedParts { method: "POST", path: "/", query: "", headers: &headers, body: &body };
    let now = SystemClock.now();
    let mut best = f64::MAX;
    for _ in 0..5 {
        const CALLS: u32 = 100_000;
        let before = cpu_ns();
        for _ in 0..CALLS {
            let claim = Claim::read(&parts).expect("readable").expect("signed");
            let verified = verifier.verify(&claim, &parts, "ecs", Policy::STANDARD, now);
            assert!(std::hint::black_box(verified).is_ok());
        }
        best = best.min((cpu_ns() - before) as f64 / 1e3 / f64::from(CALLS));
    }
    println!("verify: {best:.2} µs of CPU a signature");
}

async fn serve() {
    let metrics = Arc::new(Metrics::default());
    let server = Server::builder(pipeline(&metrics), metrics).build();
    let address = server.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.expect("a free port");
    println!("{address}");
    std::future::pending::<()>().await;
}

async fn load(address: &str, connections: usize, seconds: u64) {
    let answered = Arc::new(AtomicU64::new(0));
    let (headers, body) = list_tasks(address);
    let mut request = b"POST / HTTP/1.1\r\n".to_vec();
    for (name, value) in &headers {
        request.extend_from_slice(name.as_str().as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    request.extend_from_slice(&body);
    let request = Arc::new(request);
    for _ in 0..connections {
        let mut stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket");
        let (request, answered) = (Arc::clone(&request), Arc::clone(&answered));
        tokio::spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            let mut expected = 0;
            loop {
                stream.write_all(&request).await.expect("the server reads");
                let mut length = 0;
                while expected == 0 || length < expected {
                    let read = stream.read(&mut buffer[length..]).await.expect("the server answers");
                    assert!(read > 0, "the server closed");
                    length += read;
                    if expected == 0 {
                        expected = answer_length(&buffer[..length]).unwrap_or(0);
                    }
                }
                assert!(buffer.starts_with(b"HTTP/1.1 200"));
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (before, started) = (answered.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let count = answered.load(Ordering::Relaxed) - before;
    println!(
        "{:.0} calls a second over {connections} connections",
        count as f64 / started.elapsed().as_secs_f64()
    );
}

/// Head and body together, once the whole head is there. All answers have the same length.
fn answer_length(bytes: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(bytes).ok()?;
    let head = text.find("\r\n\r\n")? + 4;
    let length = text[..head].split("content-length: ").nth(1)?.split("\r\n").next()?;
    Some(head + length.parse::<usize>().ok()?)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |index: usize| arguments.get(index).map(String::as_str).unwrap_or_default();
    let runtime = match argument(0) {
        "serve" => tokio::runtime::Builder::new_multi_thread().enable_all().build(),
        _ => tokio::runtime::Builder::new_current_thread().enable_all().build(),
    };
    runtime.expect("a runtime").block_on(async {
        match argument(0) {
            "pipeline" => measure_pipeline().await,
            "verify" => measure_verify(),
            "serve" => serve().await,
            "load" => {
                let number = |index, or: u64| argument(index).parse().unwrap_or(or);
                load(argument(1), number(2, 16) as usize, number(3, 5)).await;
            }
            _ => println!("pipeline | verify | serve | load ADDRESS [connections] [seconds]"),
        }
    });
}
