//! The pipeline from the outside: what each step answers, what is recorded, and what outlives whom.

mod support;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request};
use support::{client, eventually, read_all, small_limits, start, start_with, status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wharf_core::{Clock, SystemClock};
use wharf_wire::{ClientError, Exposure, ServerLimits};

/// Code and status of a refused call.
fn refusal(result: Result<bytes::Bytes, ClientError>) -> (String, u16) {
    match result {
        Err(ClientError::Api { status, code, .. }) => (code, status),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_signed_call_is_answered_with_a_request_id() {
    let running = start(ServerLimits::default()).await;
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-target", HeaderValue::from_static("Fake_2026.Echo"));
    headers.insert("content-type", HeaderValue::from_static("application/x-amz-json-1.1"));
    let mut client = running.client();
    let answer =
        client.send("fake", Method::POST, "/", "", headers, "{}".into(), SystemClock.now()).await.unwrap();
    assert_eq!((answer.status, &*answer.body), (200, &b"{}"[..]));
    assert_eq!(answer.headers["x-amzn-requestid"].len(), 36);
    assert_eq!(answer.headers["content-type"], "application/x-amz-json-1.1");

    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/x-www-form-urlencoded"));
    let body = "Action=Ping&Version=2011-06-15";
    let answer =
        client.send("form", Method::POST, "/", "", headers, body.into(), SystemClock.now()).await.unwrap();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 200, "{text}");
    let id = answer.headers["x-amz-request-id"].to_str().unwrap();
    assert!(text.contains(id), "{text}");
    assert_eq!(running.calls.all(), ["fake:Echo 200 - test", "form:Ping 200 - test"]);
}

#[tokio::test]
async fn what_cannot_be_authenticated_is_refused_and_recorded() {
    let running = start(ServerLimits::default()).await;
    let now = SystemClock.now();
    let target = "Fake_2026.Echo";
    let stranger = client(running.address, "nobody", "x").call_json("fake", target, "1.1", "{}", now).await;
    assert_eq!(refusal(stranger), ("UnrecognizedClientException".to_owned(), 400));
    let liar = client(running.address, "test", "wrong").call_json("fake", target, "1.1", "{}", now).await;
    assert_eq!(refusal(liar), ("InvalidSignatureException".to_owned(), 400));
    let elsewhere = running.client().call_json("form", target, "1.1", "{}", now).await;
    assert_eq!(refusal(elsewhere), ("InvalidSignatureException".to_owned(), 400));
    let answer = running
        .say(b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: Fake_2026.Echo\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.contains("MissingAuthenticationTokenException"), "{answer}");
    // An operation that AWS takes unsigned reaches its handler, as nobody's call.
    let unsigned = running
        .say(b"POST /?Action=Unsigned&Version=2011-06-15 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await;
    assert!(unsigned.starts_with("HTTP/1.1 200"), "{unsigned}");
    assert_eq!(
        running.calls.all(),
        [
            "fake: 400 UnrecognizedClientException -",
            "fake: 400 InvalidSignatureException -",
            "fake: 400 InvalidSignatureException -",
            "fake: 400 MissingAuthenticationTokenException -",
            "form:Unsigned 200 - -",
        ]
    );
}

#[tokio::test]
async fn services_and_operations_that_are_not_there_are_named() {
    let running = start(ServerLimits::default()).await;
    let now = SystemClock.now();
    let call = async |service: &str, target: &str| match running
        .client()
        .call_json(service, target, "1.1", "{}", now)
        .await
    {
        Err(ClientError::Api { status, code, message }) => (status, code, message),
        other => panic!("{other:?}"),
    };
    let (status, code, message) = call("fake", "Fake_2026.Nothing").await;
    assert_eq!((status, &*code), (400, "UnknownOperationException"));
    assert!(message.contains("Fake_2026.Nothing"), "{message}");
    let (status, code, message) = call("glacier", "Glacier.List").await;
    assert_eq!((status, &*code), (400, "UnknownService"));
    assert!(message.contains("\"glacier\"") && message.contains("fake, form"), "{message}");

    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/x-www-form-urlencoded"));
    for (body, code) in [
        ("Version=2011-06-15", "MissingAction"),
        ("Action=Ping", "InvalidAction"),
        ("Action=Ping&Version=1999-01-01", "InvalidAction"),
        ("Action=Pong&Version=2011-06-15", "InvalidAction"),
    ] {
        let answer = running
            .client()
            .send("form", Method::POST, "/", "", headers.clone(), body.into(), now)
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 400, "{text}");
        assert!(text.contains(&format!("<Code>{code}</Code>")), "{body}: {text}");
    }
}

#[tokio::test]
async fn a_denied_call_is_recorded_with_its_caller() {
    let running = start(ServerLimits::default()).await;
    match running.call("Forbidden").await {
        Err(ClientError::Api { status: 400, code, message }) => {
            assert_eq!(code, "AccessDeniedException");
            assert_eq!(message, "not on arn:aws:fake:us-east-1:000000000000:Forbidden");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(running.calls.all(), ["fake:Forbidden 400 AccessDeniedException test"]);
}

#[tokio::test]
async fn failures_and_panics_tell_nothing_and_harm_nobody_else() {
    let running = start(ServerLimits::default()).await;
    for operation in ["Fail", "Panic", "Fail"] {
        match running.call(operation).await {
            Err(ClientError::Api { status: 500, code, message }) => {
                assert_eq!(code, "InternalFailure");
                assert!(!message.contains("nobody may see"), "{message}");
            }
            other => panic!("{other:?}"),
        }
        running.call("Echo").await.unwrap();
    }
}

#[tokio::test]
async fn calls_beyond_the_limit_are_throttled() {
    let running = start_with(ServerLimits::default(), 1).await;
    let waiting = running.call("Wait");
    tokio::pin!(waiting);
    tokio::select! {
        ended = &mut waiting => panic!("{ended:?}"),
        begun = running.begun.acquire() => begun.unwrap().forget(),
    }
    let error = running.call("Echo").await.unwrap_err();
    assert_eq!(refusal(Err(error)), ("ThrottlingException".to_owned(), 400));
    running.gate.add_permits(1);
    waiting.await.unwrap();
    running.call("Echo").await.unwrap();
}

#[tokio::test]
async fn a_call_runs_to_its_end_when_its_caller_is_gone() {
    let running = start(small_limits()).await;
    tokio::select! {
        ended = running.call("Wait") => panic!("{ended:?}"),
        // The caller hangs up once the call has begun.
        begun = running.begun.acquire() => begun.unwrap().forget(),
    }
    assert!(running.calls.all().is_empty());
    running.gate.add_permits(1);
    eventually("the call is recorded", || running.calls.all() == ["fake:Wait 200 - test"]).await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let running = start(small_limits()).await;
    let one =
        "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: Fake_2026.Echo\r\nContent-Length: 2\r\n\r\n{}";
    let two = "GET /_wharf/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = running.say(format!("{one}{one}{two}").as_bytes()).await;
    let statuses: Vec<u16> =
        answer.match_indices("HTTP/1.1 ").map(|(index, _)| status(&answer[index..])).collect();
    assert_eq!(statuses, [400, 400, 200], "{answer}");
}

#[tokio::test]
async fn a_body_in_many_small_chunks_is_one_body() {
    let running = start(ServerLimits::default()).await;
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_str(&running.address.to_string()).unwrap());
    headers.insert("x-amz-target", HeaderValue::from_static("Fake_2026.Echo"));
    let credentials = wharf_wire::sigv4::SigningCredentials {
        access_key_id: support::KEY.to_owned(),
        secret_access_key: support::SECRET.to_owned(),
        session_token: None,
    };
    let body = b"{          }";
    wharf_wire::sigv4::sign(
        &credentials,
        "fake",
        "us-east-1",
        "POST",
        "/",
        "",
        &mut headers,
        body,
        SystemClock.now(),
    )
    .unwrap();
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n".to_owned();
    for (name, value) in &headers {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    for byte in body {
        stream.write_all(&[b"1\r\n", &[*byte][..], b"\r\n"].concat()).await.unwrap();
        tokio::task::yield_now().await;
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let answer = read_all(&mut stream).await;
    assert_eq!(status(&answer), 200, "{answer}");
}

#[tokio::test]
async fn shutdown_finishes_what_is_under_way_and_cuts_what_does_not_end() {
    let running = Arc::new(start(ServerLimits::default()).await);
    let call = tokio::spawn({
        let running = Arc::clone(&running);
        async move { running.call("Wait").await }
    });
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    idle.write_all(b"GET /_wharf/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    running.begun.acquire().await.unwrap().forget();
    // Nobody has opened the gate: the idle connection ends and the busy one is cut off.
    assert_eq!(running.server.shutdown(Duration::from_millis(200)).await, 1);
    assert!(TcpStream::connect(running.address).await.is_err(), "the port is closed");
    running.gate.add_permits(1);
    assert_eq!(running.server.shutdown(Duration::from_secs(20)).await, 0);
    call.await.unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_waits_for_a_call_whose_caller_is_gone() {
    let running = start(ServerLimits::default()).await;
    tokio::select! {
        ended = running.call("Wait") => panic!("{ended:?}"),
        begun = running.begun.acquire() => begun.unwrap().forget(),
    }
    let stopping = running.server.shutdown(Duration::from_secs(20));
    tokio::pin!(stopping);
    // The call goes on only because the gate is opened while the server waits for it.
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut stopping).await.is_err());
    assert!(running.calls.all().is_empty());
    running.gate.add_permits(1);
    assert_eq!(stopping.await, 0);
    eventually("the call is recorded", || running.calls.all() == ["fake:Wait 200 - test"]).await;
}

#[tokio::test]
async fn the_client_survives_that_an_idle_connection_is_closed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Each connection is good for one answer, and says nothing of it.
    let closed = Arc::new(tokio::sync::Semaphore::new(0));
    let closes = Arc::clone(&closed);
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            assert!(stream.read(&mut buffer).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
            drop(stream);
            closes.add_permits(1);
        }
    });
    let mut client = client(address, support::KEY, support::SECRET);
    for _ in 0..20 {
        let answer = client.call_json("fake", "Fake_2026.Echo", "1.1", "{}", SystemClock.now()).await;
        assert_eq!(answer.unwrap(), "{}");
        closed.acquire().await.unwrap().forget();
        // The end of the connection is in the client's socket; its task has to be given a turn.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    server.abort();
}

fn reset_route() -> wharf_wire::InternalHandler {
    Arc::new(|request: Request<bytes::Bytes>| {
        Box::pin(async move { http::Response::new(request.into_body().into()) })
    })
}

#[tokio::test]
async fn internal_routes_answer_the_host_and_no_web_page() {
    let fake = start(ServerLimits::default()).await;
    fake.call("Echo").await.unwrap();
    let say = async |method: &str, path: &str, headers: &str| {
        fake.say(format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n").as_bytes()).await
    };
    let health = say("GET", "/_wharf/health", "Host: localhost:4566\r\n").await;
    assert!(health.contains(r#""services":["fake","form"]"#), "{health}");
    let metrics = say("GET", "/_wharf/metrics", "Host: 127.0.0.1\r\n").await;
    assert!(
        metrics.contains(r#"wharf_api_requests_total{service="fake",operation="Echo",status="200"} 1"#),
        "{metrics}"
    );
    for headers in [
        "Host: evil.example\r\n",
        "Host: localhost\r\nOrigin: https://evil.example\r\n",
        "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n",
    ] {
        assert_eq!(status(&say("GET", "/_wharf/health", headers).await), 403, "{headers}");
    }
    assert_eq!(status(&say("POST", "/_wharf/health", "Host: localhost\r\n").await), 405);
    assert_eq!(status(&say("GET", "/_wharf/nothing", "Host: localhost\r\n").await), 404);
    let page = "Host: localhost\r\nOrigin: https://evil.example\r\nX-Amz-Target: Fake_2026.Echo\r\n";
    assert_eq!(status(&say("POST", "/", page).await), 403);
}

#[tokio::test]
async fn the_binary_adds_routes_and_tasks_see_the_apis_alone() {
    let metrics = Arc::new(wharf_wire::Metrics::default());
    let pipeline = support::pipeline(&metrics);
    let server = wharf_wire::Server::builder(pipeline, metrics)
        .route(Method::POST, "/_wharf/reset", reset_route())
        .build();
    let host = server.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let inside = listener.local_addr().unwrap();
    server.serve_listener(listener, Exposure::ApiOnly).unwrap();
    let reset =
        "POST /_wharf/reset HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    let say = async |address| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(reset.as_bytes()).await.unwrap();
        read_all(&mut stream).await
    };
    let answer = say(host).await;
    assert!(status(&answer) == 200 && answer.ends_with("ok"), "{answer}");
    assert_eq!(status(&say(inside).await), 404);
    let echoed = client(inside, support::KEY, support::SECRET)
        .call_json("fake", "Fake_2026.Echo", "1.1", "{}", SystemClock.now())
        .await;
    assert!(echoed.is_ok(), "{echoed:?}");
}
