//! Calls of the AWS API, as the commands make them: signed, and through the front door.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use wharf_core::{Clock as _, SystemClock};
use wharf_wire::client::Client;
use wharf_wire::sigv4::SigningCredentials;

use crate::credentials::SECRET_ACCESS_KEY;
use crate::failure::{Context as _, Failure, Result};
use crate::layout::ServerFile;

/// AWS JSON services: (signing name, target prefix).
const TARGETS: [(&str, &str); 2] = [("ecs", "AmazonEC2ContainerServiceV20141113"), ("logs", "Logs_20140328")];

/// The largest answer of a task that is shown.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

pub struct Aws {
    client: Mutex<Result<Client, String>>,
}

impl Aws {
    /// Calls in one region, as the root of the server's account or of another one.
    pub fn new(server: &ServerFile, region: &str, account: Option<&str>) -> Self {
        let own = account.is_none_or(|account| account == server.account);
        let credentials = SigningCredentials {
            access_key_id: match account {
                Some(account) if !own => account.to_owned(),
                _ => server.access_key_id.clone(),
            },
            secret_access_key: SECRET_ACCESS_KEY.to_owned(),
            session_token: None,
        };
        let client =
            region.parse().map_err(|error: wharf_core::id::IdError| error.to_string()).and_then(|region| {
                Client::new(&server.endpoint, credentials, region).map_err(|error| error.to_string())
            });
        Self { client: Mutex::new(client) }
    }

    /// Calls an operation of a service that speaks AWS JSON.
    pub async fn call(&self, service: &str, operation: &str, input: &Value) -> Result<Value> {
        let prefix = TARGETS.iter().find(|(name, _)| *name == service).map_or(service, |(_, prefix)| prefix);
        let body = serde_json::to_vec(input).context(|| "cannot encode the request".to_owned())?;
        let mut client = self.client.lock().await;
        let client = client.as_mut().map_err(|error| Failure::new(error.clone()))?;
        let answer = client
            .call_json(service, &format!("{prefix}.{operation}"), "1.1", body, SystemClock.now())
            .await
            .context(|| format!("{service}:{operation} failed"))?;
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer)
            .context(|| format!("the answer of {service}:{operation} is not understood"))
    }

    /// Calls an operation of a service that speaks Query; returns the XML. `parameters` need no escaping.
    pub async fn query(
        &self,
        service: &str,
        version: &str,
        operation: &str,
        parameters: &[(&str, &str)],
    ) -> Result<String> {
        let mut body = format!("Action={operation}&Version={version}");
        for (name, value) in parameters {
            body.push_str(&format!("&{name}={value}"));
        }
        let mut headers = hyper::HeaderMap::new();
        headers.insert(
            hyper::header::CONTENT_TYPE,
            hyper::header::HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8"),
        );
        let mut client = self.client.lock().await;
        let client = client.as_mut().map_err(|error| Failure::new(error.clone()))?;
        let answer = client
            .send(service, hyper::Method::POST, "/", "", headers, body.into(), SystemClock.now())
            .await
            .context(|| format!("{service}:{operation} failed"))?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if answer.status == 200 {
            Ok(text)
        } else {
            Err(Failure::new(format!("{service}:{operation} failed: {text}")))
        }
    }

    /// Asks a task over HTTP until it answers: its program may listen a moment after it has started.
    pub async fn get(url: &str, deadline: Duration) -> Result<String> {
        let asking = async {
            loop {
                if let Ok(text) = get_once(url).await {
                    return text;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(deadline, asking).await.map_err(|_| {
            Failure::new(format!("{url} did not answer for {} s", deadline.as_secs()))
                .hint("does the image serve HTTP on that port? see `wharf logs`, and `--port`")
        })
    }
}

async fn get_once(url: &str) -> Result<String> {
    let uri: hyper::Uri = url.parse().context(|| format!("{url} is not a URL"))?;
    let authority = uri.authority().ok_or_else(|| Failure::new(format!("{url} names no host")))?.clone();
    let socket =
        TcpStream::connect(authority.as_str()).await.context(|| format!("cannot connect to {authority}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
        .await
        .context(|| format!("cannot speak to {authority}"))?;
    tokio::spawn(connection);
    let request = hyper::Request::get(uri.path())
        .header("host", authority.as_str())
        .body(Empty::<Bytes>::new())
        .context(|| "cannot make the request".to_owned())?;
    let answer = sender.send_request(request).await.context(|| format!("{authority} did not answer"))?;
    let body = http_body_util::Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
    let body =
        body.collect().await.map_err(|error| Failure::new(format!("{authority} broke off: {error}")))?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}
