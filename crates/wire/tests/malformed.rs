//! Clients that are wrong, slow or gone: each gets an error and nobody else notices.

mod support;

use std::time::Duration;

use support::{read_all, small_limits, start, status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HEAD: &str = "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: Fake_2026.Echo\r\n";

#[tokio::test]
async fn malformed_requests_get_an_error_that_is_not_ours_and_the_server_goes_on() {
    let running = start(small_limits()).await;
    let long = "a".repeat(100_000);
    let many: String = (0..300).map(|number| format!("h{number}: x\r\n")).collect();
    let requests: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("not HTTP", b"hello\r\n\r\n".to_vec(), &[400]),
        ("no version", b"GET /\r\n\r\n".to_vec(), &[400]),
        ("bad method", b"P\0ST / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), &[400]),
        ("bad version", b"GET / HTTP/9.9\r\nHost: x\r\n\r\n".to_vec(), &[400, 505]),
        ("a line break in a header", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\nc: d\r\0\r\n\r\n".to_vec(), &[400]),
        ("a huge header", format!("{HEAD}X: {long}\r\n\r\n").into_bytes(), &[431]),
        ("a huge path", format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes(), &[414, 431]),
        ("300 headers", format!("{HEAD}{many}\r\n").into_bytes(), &[431]),
        ("length is no number", format!("{HEAD}Content-Length: ten\r\n\r\n").into_bytes(), &[400]),
        ("length is negative", format!("{HEAD}Content-Length: -1\r\n\r\n").into_bytes(), &[400]),
        (
            "two lengths",
            format!("{HEAD}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab").into_bytes(),
            &[400],
        ),
        (
            "length and chunks",
            format!("{HEAD}Content-Length: 1\r\nTransfer-Encoding: gzip\r\n\r\nab").into_bytes(),
            &[400],
        ),
        ("a truncated body", format!("{HEAD}Content-Length: 100\r\n\r\n{{").into_bytes(), &[400]),
        ("a bad chunk", format!("{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n").into_bytes(), &[400]),
        (
            "a truncated chunk",
            format!("{HEAD}Transfer-Encoding: chunked\r\n\r\nff\r\nab").into_bytes(),
            &[400],
        ),
        (
            "a body that is too large",
            format!("{HEAD}Content-Length: 20000\r\n\r\n{}", &long[..20_000]).into_bytes(),
            &[413],
        ),
        (
            "a length beyond all sense",
            format!("{HEAD}Content-Length: 18446744073709551615\r\n\r\n").into_bytes(),
            &[400, 413, 431],
        ),
        (
            "a chunked body that is too large",
            format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n4e20\r\n{}\r\n0\r\n\r\n", &long[..20_000])
                .into_bytes(),
            &[413],
        ),
        ("no signature", format!("{HEAD}Content-Length: 2\r\n\r\n{{}}").into_bytes(), &[400]),
        (
            "bad UTF-8 without a signature",
            [HEAD.as_bytes(), b"Content-Length: 2\r\n\r\n\xff\xfe"].concat(),
            &[400],
        ),
        (
            "an unreadable signature",
            format!("{HEAD}Authorization: AWS4-HMAC-SHA256 =,=\r\n\r\n").into_bytes(),
            &[400],
        ),
        (
            "a signature that is not text",
            [HEAD.as_bytes(), b"Authorization: \xff\xfe\r\n\r\n"].concat(),
            &[400],
        ),
        ("HEAD", b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), &[403]),
        ("OPTIONS", b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), &[403]),
        ("CONNECT", b"CONNECT evil:443 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), &[400, 403]),
        ("absolute form", b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), &[403]),
    ];
    for (what, bytes, expected) in requests {
        let answer = running.say(&bytes).await;
        assert!(expected.contains(&status(&answer)), "{what}: {answer:?}");
        running.call("Echo").await.unwrap_or_else(|error| panic!("after {what}: {error}"));
    }
}

#[tokio::test]
async fn an_error_before_the_body_is_read_is_in_the_protocol_of_the_service() {
    let running = start(small_limits()).await;
    let json =
        running.say(format!("{HEAD}Content-Length: 20000\r\nExpect: 100-continue\r\n\r\n").as_bytes()).await;
    assert!(json.starts_with("HTTP/1.1 413 "), "{json}");
    assert!(!json.contains("100 Continue"), "{json}");
    assert!(json.contains("\"__type\"") && json.contains("RequestEntityTooLargeException"), "{json}");
    assert!(json.to_ascii_lowercase().contains("x-amzn-requestid: "), "{json}");
    let xml = running
        .say(
            b"POST / HTTP/1.1\r\nHost: form.localhost\r\nContent-Length: 20000\r\nExpect: 100-continue\r\n\r\n",
        )
        .await;
    assert!(xml.contains("<Code>RequestEntityTooLarge</Code>"), "{xml}");
}

#[tokio::test]
async fn tls_is_closed_and_silence_is_ended() {
    let running = start(small_limits()).await;
    assert_eq!(running.say(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await, "");
    // Neither of these sends another byte; the server ends them by its own clock.
    for part in ["", "POST", "POST / HTTP/1.1\r\nHost: localhost\r\nX-Slow"] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(part.as_bytes()).await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(answer.is_empty() || status(&answer) == 408, "{part:?}: {answer}");
    }
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(format!("{HEAD}Content-Length: 5\r\n\r\n{{").as_bytes()).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert_eq!(status(&answer), 408, "{answer}");
    running.call("Echo").await.unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_and_are_served_when_others_end() {
    let running = start(small_limits()).await;
    let mut idle = Vec::new();
    for _ in 0..16 {
        idle.push(TcpStream::connect(running.address).await.unwrap());
    }
    // All places are taken by silent clients until the head's timeout frees them.
    let called = tokio::time::timeout(Duration::from_secs(20), running.call("Echo")).await;
    called.expect("a place is freed").unwrap();
}

#[tokio::test]
async fn bodies_of_all_requests_together_are_bounded() {
    let mut limits = small_limits();
    limits.body_timeout = Duration::from_secs(20);
    limits.bodies_bytes_max = 15_000;
    let running = start(limits).await;
    let mut first = TcpStream::connect(running.address).await.unwrap();
    let held = format!("{HEAD}Content-Length: 9999\r\nExpect: 100-continue\r\n\r\n");
    first.write_all(held.as_bytes()).await.unwrap();
    // The server has begun to read the first body when it asks for it.
    let mut asked = [0; 25];
    first.read_exact(&mut asked).await.unwrap();
    assert!(asked.starts_with(b"HTTP/1.1 100 Continue"), "{asked:?}");
    first.write_all(&[b' '; 9000]).await.unwrap();
    // The first body counts once it has been read, which the second client can only see by asking.
    let second = format!("{HEAD}Content-Length: 9000\r\n\r\n{}", " ".repeat(9000));
    let refused = async {
        loop {
            let answer = running.say(second.as_bytes()).await;
            if status(&answer) == 503 {
                return answer;
            }
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(20), refused).await.unwrap();
    assert!(refused.contains("ServiceUnavailable"), "{refused}");
    drop(first);
    let served = async { while running.call("Echo").await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(20), served).await.unwrap();
}
