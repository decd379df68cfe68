//! Load from many connections. What the client costs is taken from the same cores as the server, so
//! that it does as little as it may: each connection signs its request once and sends the same bytes
//! again, which the server verifies each time, and the answer is read but not parsed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wharf_core::{Clock as _, SystemClock};
use wharf_wire::sigv4::{self, SigningCredentials};

/// More than an answer is long.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Requests a second.
pub async fn list_tasks(endpoint: &str, cluster: &str, connections: usize, time: Duration) -> Result<f64> {
    let authority = endpoint.strip_prefix("http://").context("an http:// endpoint")?.to_owned();
    let request = signed(&authority, &format!("{{\"cluster\":\"{cluster}\"}}"))?;
    let begun = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (authority, request) = (authority.clone(), request.clone());
        clients.spawn(async move {
            let mut stream = TcpStream::connect(&authority).await?;
            stream.set_nodelay(true)?;
            let mut answer = vec![0; ANSWER_BYTES_MAX];
            let mut count = 0_u64;
            while begun.elapsed() < time {
                stream.write_all(&request).await?;
                read_answer(&mut stream, &mut answer).await?;
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let mut total = 0;
    while let Some(count) = clients.join_next().await {
        total += count??;
    }
    Ok(total as f64 / begun.elapsed().as_secs_f64())
}

fn signed(authority: &str, body: &str) -> Result<Vec<u8>> {
    let credentials = SigningCredentials {
        access_key_id: "test".to_owned(),
        secret_access_key: "test".to_owned(),
        session_token: None,
    };
    let mut headers = http::HeaderMap::new();
    headers.insert("host", authority.parse()?);
    headers.insert("content-type", "application/x-amz-json-1.1".parse()?);
    headers.insert("x-amz-target", "AmazonEC2ContainerServiceV20141113.ListTasks".parse()?);
    let now = SystemClock.now();
    sigv4::sign(&credentials, "ecs", "us-east-1", "POST", "/", "", &mut headers, body.as_bytes(), now)?;
    let mut request = b"POST / HTTP/1.1\r\n".to_vec();
    for (name, value) in &headers {
        request.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    request.extend(format!("content-length: {}\r\n\r\n{body}", body.len()).into_bytes());
    Ok(request)
}

/// Reads one answer to its end.
async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    let mut length = 0;
    let mut whole = usize::MAX;
    while length < whole {
        match stream.read(&mut buffer[length..]).await? {
            0 => bail!("the answer is cut, or longer than {ANSWER_BYTES_MAX} bytes"),
            more => length += more,
        }
        if whole == usize::MAX
            && let Some(head) = buffer[..length].windows(4).position(|window| window == b"\r\n\r\n")
        {
            whole = head + 4 + body_length(std::str::from_utf8(&buffer[..head])?)?;
        }
    }
    Ok(())
}

fn body_length(head: &str) -> Result<usize> {
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("the server refused: {head}");
    }
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    Ok(length.context("an answer has a length")?.1.trim().parse()?)
}
