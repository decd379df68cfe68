//! As much of HTTP/1.1 as this example needs: one request and one response a connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const HEAD_BYTES_MAX: u64 = 8 * 1024;
const BODY_BYTES_MAX: u64 = 1024 * 1024;
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub accepts_json: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The client left, or said nothing for too long.
    Closed,
    Malformed,
}

impl Request {
    pub fn read(stream: &TcpStream) -> Result<Self, ReadError> {
        stream.set_read_timeout(Some(CLIENT_TIMEOUT)).map_err(|_| ReadError::Closed)?;
        stream.set_write_timeout(Some(CLIENT_TIMEOUT)).map_err(|_| ReadError::Closed)?;
        Self::parse(stream)
    }

    fn parse(source: impl Read) -> Result<Self, ReadError> {
        let mut lines = BufReader::new(source.take(HEAD_BYTES_MAX));
        let first = line(&mut lines)?;
        if first.is_empty() {
            return Err(ReadError::Closed);
        }
        let mut words = first.trim_end().split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(ReadError::Malformed);
        };
        let is_token = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_token(method) || !is_token(target) {
            return Err(ReadError::Malformed);
        }
        let mut request = Self {
            method: method.to_owned(),
            path: target.split(['?', '#']).next().unwrap_or_default().to_owned(),
            accepts_json: false,
        };
        loop {
            let header = line(&mut lines)?;
            match header.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("accept") => {
                    request.accepts_json |= value.to_ascii_lowercase().contains("application/json");
                }
                Some(_) => {}
                // The end of the head, and not of the connection.
                None if header == "\r\n" || header == "\n" => return Ok(request),
                None => return Err(ReadError::Malformed),
            }
        }
    }
}

fn line(source: &mut impl BufRead) -> Result<String, ReadError> {
    let mut bytes = Vec::new();
    source.read_until(b'\n', &mut bytes).map_err(|_| ReadError::Closed)?;
    String::from_utf8(bytes).map_err(|_| ReadError::Malformed)
}

pub struct Response {
    pub status: u16,
    content_type: &'static str,
    body: String,
}

impl Response {
    pub fn text(status: u16, body: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.to_owned() }
    }

    pub fn json(body: &str) -> Self {
        Self { status: 200, content_type: "application/json", body: body.to_owned() }
    }

    pub fn write(&self, mut stream: &TcpStream) -> io::Result<()> {
        let reason = match self.status {
            200 => "OK",
            404 => "Not Found",
            405 => "Method Not Allowed",
            _ => "Bad Request",
        };
        let (status, content_type, length) = (self.status, self.content_type, self.body.len());
        // One write, so that the answer is one packet.
        let message = format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{}",
            self.body
        );
        stream.write_all(message.as_bytes())?;
        stream.flush()
    }
}

/// The body of a `http://address/path` that answers 200.
pub fn get(url: &str) -> Option<Vec<u8>> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let address: SocketAddr = authority.parse().or_else(|_| format!("{authority}:80").parse()).ok()?;
    let mut stream = TcpStream::connect_timeout(&address, METADATA_TIMEOUT).ok()?;
    stream.set_read_timeout(Some(METADATA_TIMEOUT)).ok()?;
    stream.set_write_timeout(Some(METADATA_TIMEOUT)).ok()?;
    // 1.0: the answer is not chunked and ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\nAccept: application/json\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.take(HEAD_BYTES_MAX + BODY_BYTES_MAX).read_to_end(&mut answer).ok()?;
    body(&answer).map(<[u8]>::to_vec)
}

fn body(answer: &[u8]) -> Option<&[u8]> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let status = answer.strip_prefix(b"HTTP/1.1 ").or_else(|| answer.strip_prefix(b"HTTP/1.0 "))?;
    status.starts_with(b"200").then_some(&answer[end + 4..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_to_the_end_of_its_head() {
        let request =
            Request::parse(&b"GET /?a=b HTTP/1.1\r\nHost: x\r\nAccept: Application/JSON\r\n\r\nrest"[..]);
        let expected = Request { method: "GET".to_owned(), path: "/".to_owned(), accepts_json: true };
        assert_eq!(request, Ok(expected));
    }

    #[test]
    fn what_is_no_request_is_told_apart_from_a_client_that_left() {
        assert_eq!(Request::parse(&b""[..]), Err(ReadError::Closed));
        for text in [
            "hello\r\n\r\n",
            "GET / HTTP/2\r\n\r\n",
            "GET  HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x",
            "\u{0}\r\n",
        ] {
            assert_eq!(Request::parse(text.as_bytes()), Err(ReadError::Malformed), "{text}");
        }
        let endless = vec![b'a'; 100_000];
        assert_eq!(Request::parse(&endless[..]), Err(ReadError::Malformed));
    }

    #[test]
    fn only_a_complete_answer_has_a_body() {
        assert_eq!(body(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}"), Some(&b"{}"[..]));
        assert_eq!(body(b"HTTP/1.1 404 Not Found\r\n\r\n{}"), None);
        assert_eq!(body(b"HTTP/1.1 200 OK\r\n"), None);
    }
}
