//! A small client for our own API: signed AWS JSON calls over one kept connection.
//!
//! For the command line and the benchmarks. It does not retry, pool or follow redirects: whoever
//! needs that uses an AWS SDK. One [`Client`] makes one call at a time.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use wharf_core::limits::CLIENT_RESPONSE_BYTES_MAX;
use wharf_core::{Region, Timestamp};

use crate::sigv4::{self, SigningCredentials};

/// Where and as whom to call.
pub struct Client {
    /// `host:port`, as it stands in the Host header.
    authority: String,
    host: HeaderValue,
    credentials: SigningCredentials,
    region: Region,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct ClientResponse {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{endpoint:?} is not an http:// URL with a host and a port")]
    Endpoint { endpoint: String },
    #[error("cannot connect to {authority}")]
    Connect {
        authority: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the call to {authority} broke off")]
    Http {
        authority: String,
        #[source]
        source: hyper::Error,
    },
    #[error("the answer of {authority} is broken or larger than {CLIENT_RESPONSE_BYTES_MAX} bytes")]
    Body {
        authority: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the credentials or the name of the operation cannot stand in a header")]
    Header,
    /// The service refused.
    #[error("{code}: {message}")]
    Api { status: u16, code: String, message: String },
}

impl Client {
    /// A client for `http://host:port`. It connects with the first call.
    ///
    /// # Errors
    /// [`ClientError::Endpoint`] when the text is no such URL.
    pub fn new(endpoint: &str, credentials: SigningCredentials, region: Region) -> Result<Self, ClientError> {
        let wrong = || ClientError::Endpoint { endpoint: endpoint.to_owned() };
        let uri: Uri = endpoint.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong());
        }
        let authority = uri.authority().ok_or_else(wrong)?;
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| wrong())?;
        let authority = match authority.port() {
            Some(_) => authority.to_string(),
            None => format!("{authority}:80"),
        };
        Ok(Self { authority, host, credentials, region, connection: None })
    }

    /// Calls an operation of an AWS JSON service: `target` is `Prefix.Operation`, `json_version`
    /// is `1.0` or `1.1`. Returns the body of a successful answer.
    ///
    /// # Errors
    /// [`ClientError::Api`] when the service refuses; the others when no answer came.
    pub async fn call_json(
        &mut self,
        service: &str,
        target: &str,
        json_version: &str,
        body: impl Into<Bytes>,
        now: Timestamp,
    ) -> Result<Bytes, ClientError> {
        let mut headers = HeaderMap::new();
        let content_type = HeaderValue::from_str(&format!("application/x-amz-json-{json_version}"));
        headers.insert(header::CONTENT_TYPE, content_type.map_err(|_| ClientError::Header)?);
        headers.insert("x-amz-target", HeaderValue::from_str(target).map_err(|_| ClientError::Header)?);
        let response = self.send(service, Method::POST, "/", "", headers, body.into(), now).await?;
        if response.status < 300 {
            return Ok(response.body);
        }
        let error: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let text = |names: [&str; 2]| {
            names.iter().find_map(|name| error.get(name)?.as_str()).unwrap_or_default().to_owned()
        };
        let code = text(["__type", "code"]);
        let code = code.rsplit('#').next().unwrap_or_default().to_owned();
        Err(ClientError::Api { status: response.status, code, message: text(["message", "Message"]) })
    }

    /// Sends a signed request and reads the whole answer.
    ///
    /// # Errors
    /// When no whole answer came.
    #[expect(clippy::too_many_arguments, reason = "the parts of a request, each once")]
    pub async fn send(
        &mut self,
        service: &str,
        method: Method,
        path: &str,
        query: &str,
        mut headers: HeaderMap,
        body: Bytes,
        now: Timestamp,
    ) -> Result<ClientResponse, ClientError> {
        headers.insert(header::HOST, self.host.clone());
        sigv4::sign(
            &self.credentials,
            service,
            self.region.as_str(),
            method.as_str(),
            path,
            query,
            &mut headers,
            &body,
            now,
        )
        .map_err(|_| ClientError::Header)?;
        self.send_as_is(method, path, query, headers, body).await
    }

    /// Sends a request without signing it: for `/_wharf/`, whose routes need no signature.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn send_unsigned(&mut self, method: Method, path: &str) -> Result<ClientResponse, ClientError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, self.host.clone());
        self.send_as_is(method, path, "", headers, Bytes::new()).await
    }

    async fn send_as_is(
        &mut self,
        method: Method,
        path: &str,
        query: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<ClientResponse, ClientError> {
        let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let uri: Uri = target.parse().map_err(|_| ClientError::Header)?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let http = |source| ClientError::Http { authority: self.authority.clone(), source };
        let (mut connection, kept) = match self.connection.take() {
            Some(kept) => (kept, true),
            None => (self.connect().await?, false),
        };
        let response = match connection.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => match error.take_message() {
                // The server has closed a connection that was idle: nothing of the request was sent.
                Some(request) if kept => {
                    connection = self.connect().await?;
                    connection.send_request(request).await.map_err(http)?
                }
                _ => return Err(http(error.into_error())),
            },
        };
        let (head, body) = response.into_parts();
        let body = Limited::new(body, CLIENT_RESPONSE_BYTES_MAX)
            .collect()
            .await
            .map_err(|source| ClientError::Body { authority: self.authority.clone(), source })?
            .to_bytes();
        // Kept only after a whole answer: a connection in the middle of one is of no use.
        self.connection = Some(connection);
        Ok(ClientResponse { status: head.status.as_u16(), headers: head.headers, body })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        let stream = TcpStream::connect(&self.authority)
            .await
            .map_err(|source| ClientError::Connect { authority: self.authority.clone(), source })?;
        // A request is written whole; without this the kernel may hold its tail back.
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|source| ClientError::Http { authority: self.authority.clone(), source })?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a client connection ended early");
            }
        });
        Ok(sender)
    }
}
