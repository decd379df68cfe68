//! The HTTP server: listeners, connections, bodies, and the routes under `/_wharf/`.
//!
//! One port serves every API. A connection that fails harms no other; a client that is slow, wrong
//! or gone is bounded in time and bytes. What a request means is none of this module's business:
//! it hands head and body to the [`Pipeline`].

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::Once;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch};
use tokio::task::JoinHandle;
use wharf_core::ApiError;
use wharf_core::limits::{
    CONNECTIONS_MAX, REQUEST_BODIES_BYTES_MAX, REQUEST_BODY_BYTES_MAX, REQUEST_BODY_TIMEOUT,
    REQUEST_HEAD_BYTES_MAX, REQUEST_HEAD_TIMEOUT, REQUEST_HEADERS_MAX,
};

use crate::browser::{self, BrowserRefusal};
use crate::observe::Metrics;
use crate::pipeline::{Body, Pipeline};

/// Everything under this path belongs to Wharf itself.
const INTERNAL_PREFIX: &str = "/_wharf/";
/// How long an accept loop rests after an error such as "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How much of a body that is too large is read and dropped, so that a client that sends first and
/// reads afterwards gets to see the answer.
const EXCESS_BYTES_MAX: usize = 4 * REQUEST_BODY_BYTES_MAX;

/// A route under `/_wharf/`, which needs no signature.
pub type InternalHandler = Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Bounds that tests make small. The defaults are those of `wharf_core::limits`.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    pub connections_max: usize,
    pub body_bytes_max: usize,
    /// For all requests together.
    pub bodies_bytes_max: usize,
    pub head_timeout: Duration,
    pub body_timeout: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            body_bytes_max: REQUEST_BODY_BYTES_MAX,
            bodies_bytes_max: REQUEST_BODIES_BYTES_MAX,
            head_timeout: REQUEST_HEAD_TIMEOUT,
            body_timeout: REQUEST_BODY_TIMEOUT,
        }
    }
}

/// What a listener shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// The AWS APIs and `/_wharf/`: for the host.
    Everything,
    /// The AWS APIs alone: for tasks, which have no business with the platform's own routes.
    ApiOnly,
}

/// A server before its first listener.
pub struct ServerBuilder {
    pipeline: Arc<Pipeline>,
    metrics: Arc<Metrics>,
    limits: ServerLimits,
    routes: BTreeMap<String, (Method, InternalHandler)>,
}

impl ServerBuilder {
    #[must_use]
    pub fn limits(mut self, limits: ServerLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Adds a route. `path` begins with `/_wharf/`.
    #[must_use]
    pub fn route(mut self, method: Method, path: &str, handler: InternalHandler) -> Self {
        debug_assert!(path.starts_with(INTERNAL_PREFIX));
        self.routes.insert(path.to_owned(), (method, handler));
        self
    }

    pub fn build(self) -> Server {
        let (stop, _) = watch::channel(false);
        Server {
            shared: Arc::new(Shared {
                pipeline: self.pipeline,
                metrics: self.metrics,
                limits: self.limits,
                routes: self.routes,
                connections: Arc::new(Semaphore::new(self.limits.connections_max)),
                body_bytes: Semaphore::new(self.limits.bodies_bytes_max),
                tls_seen: Once::new(),
                stop,
            }),
        }
    }
}

/// The API server. Dropping it leaves its listeners running; [`Server::shutdown`] ends them.
pub struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    pipeline: Arc<Pipeline>,
    metrics: Arc<Metrics>,
    limits: ServerLimits,
    routes: BTreeMap<String, (Method, InternalHandler)>,
    connections: Arc<Semaphore>,
    body_bytes: Semaphore,
    tls_seen: Once,
    stop: watch::Sender<bool>,
}

impl Server {
    /// `metrics` is what `/_wharf/metrics` shows; hand the same to the pipeline as an observer.
    pub fn builder(pipeline: Arc<Pipeline>, metrics: Arc<Metrics>) -> ServerBuilder {
        ServerBuilder { pipeline, metrics, limits: ServerLimits::default(), routes: BTreeMap::new() }
    }

    /// Listens on an address of the host; port 0 picks a free one. Returns the address it got.
    ///
    /// # Errors
    /// When the address cannot be bound, such as a port already taken.
    pub async fn bind(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        self.accept(listener, Exposure::Everything);
        Ok(address)
    }

    /// Serves a listener that was made elsewhere, such as in a VPC's network namespace. Aborting
    /// the handle closes the listener; its open connections end with the server.
    ///
    /// # Errors
    /// When the listener cannot be made non-blocking.
    pub fn serve_listener(
        &self,
        listener: std::net::TcpListener,
        exposure: Exposure,
    ) -> io::Result<JoinHandle<()>> {
        listener.set_nonblocking(true)?;
        Ok(self.accept(TcpListener::from_std(listener)?, exposure))
    }

    /// Stops to accept and lets what is under way finish, calls whose callers have gone included,
    /// until `deadline` has passed. Returns how many connections were cut off.
    pub async fn shutdown(&self, deadline: Duration) -> usize {
        self.shared.stop.send_replace(true);
        let all = u32::try_from(self.shared.limits.connections_max).unwrap_or(u32::MAX);
        let drained = tokio::time::timeout(deadline, async {
            let connections = self.shared.connections.acquire_many(all).await;
            self.shared.pipeline.idle().await;
            drop(connections);
        });
        match drained.await {
            Ok(()) => 0,
            Err(_) => self.shared.limits.connections_max - self.shared.connections.available_permits(),
        }
    }

    fn accept(&self, listener: TcpListener, exposure: Exposure) -> JoinHandle<()> {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let mut stop = shared.stop.subscribe();
            loop {
                let next = async {
                    // Without a permit nobody is accepted: what is beyond waits in the backlog.
                    let permit = Arc::clone(&shared.connections).acquire_owned().await;
                    (permit, listener.accept().await)
                };
                let (permit, accepted) = tokio::select! {
                    next = next => next,
                    () = stopped(&mut stop) => return,
                };
                match (permit, accepted) {
                    (Ok(permit), Ok((stream, peer))) => {
                        let connection = Arc::clone(&shared).connection(stream, peer.ip(), exposure, permit);
                        tokio::spawn(connection);
                    }
                    (Ok(_), Err(error)) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                    // The semaphore is never closed.
                    (Err(_), _) => return,
                }
            }
        })
    }
}

impl Shared {
    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: IpAddr,
        exposure: Exposure,
        _permit: OwnedSemaphorePermit,
    ) {
        let mut stop = self.stop.subscribe();
        let mut first = [0];
        let peeked = tokio::select! {
            peeked = tokio::time::timeout(self.limits.head_timeout, stream.peek(&mut first)) => peeked,
            () = stopped(&mut stop) => return,
        };
        match peeked {
            Ok(Ok(1)) => {}
            // Closed, broken or silent.
            _ => return,
        }
        if first[0] == TLS_HANDSHAKE {
            self.tls_seen.call_once(|| {
                tracing::warn!("a client tried HTTPS; this port speaks HTTP: use an http:// endpoint URL");
            });
            return;
        }
        // Answers are written whole; waiting to fill a segment only delays them.
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&self);
        let service = service_fn(move |request| {
            let shared = Arc::clone(&shared);
            async move { Ok::<_, std::convert::Infallible>(shared.request(request, peer, exposure).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_timeout)
            .max_buf_size(REQUEST_HEAD_BYTES_MAX)
            .max_header_size(REQUEST_HEAD_BYTES_MAX)
            .max_headers(REQUEST_HEADERS_MAX)
            // A client may close its side for writing and still read the answer.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = stopped(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, %peer, "a connection ended early");
        }
    }

    async fn request(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: IpAddr,
        exposure: Exposure,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        if head.uri.path().starts_with(INTERNAL_PREFIX) {
            return self.internal(head, body, exposure).await;
        }
        if let Err(refusal) = check_api_browser(&head) {
            return self.pipeline.refuse(&head, forbidden(refusal), peer);
        }
        match self.read_body(&head, body).await {
            Ok((body, permit)) => {
                let response = self.pipeline.handle(head, body, peer).await;
                drop(permit);
                response
            }
            Err(error) => {
                let mut response = self.pipeline.refuse(&head, error.into(), peer);
                // What is left of the body is not read: the connection cannot go on.
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                response
            }
        }
    }

    async fn read_body(
        &self,
        head: &request::Parts,
        body: Incoming,
    ) -> Result<(Bytes, Option<SemaphorePermit<'_>>), BodyError> {
        if body.is_end_stream() {
            return Ok((Bytes::new(), None));
        }
        tokio::time::timeout(self.limits.body_timeout, self.read_frames(head, body))
            .await
            .unwrap_or(Err(BodyError::Timeout))
    }

    async fn read_frames(
        &self,
        head: &request::Parts,
        mut body: Incoming,
    ) -> Result<(Bytes, Option<SemaphorePermit<'_>>), BodyError> {
        let max = self.limits.body_bytes_max;
        if body.size_hint().lower() > max as u64 {
            // A client that asks first is told no before it sends anything.
            if !head.headers.contains_key(header::EXPECT) {
                discard(&mut body, EXCESS_BYTES_MAX).await;
            }
            return Err(BodyError::TooLarge { max });
        }
        let mut permit: Option<SemaphorePermit<'_>> = None;
        let mut first = Bytes::new();
        let mut rest: Option<BytesMut> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(BodyError::Broken)?;
            // Trailers carry nothing that any protocol here reads.
            let Ok(data) = frame.into_data() else { continue };
            let length = rest.as_ref().map_or(first.len(), BytesMut::len) + data.len();
            if length > max {
                discard(&mut body, EXCESS_BYTES_MAX).await;
                return Err(BodyError::TooLarge { max });
            }
            // Frames are bounded by the read buffer, far below what a u32 holds.
            let wanted = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let more = self.body_bytes.try_acquire_many(wanted).map_err(|_| BodyError::Busy)?;
            match &mut permit {
                Some(permit) => permit.merge(more),
                None => permit = Some(more),
            }
            // A body that comes in one piece, as most do, is never copied.
            match &mut rest {
                Some(rest) => rest.extend_from_slice(&data),
                None if first.is_empty() => first = data,
                None => {
                    let mut whole = BytesMut::with_capacity(length.max(2 * first.len()));
                    whole.extend_from_slice(&first);
                    whole.extend_from_slice(&data);
                    rest = Some(whole);
                }
            }
        }
        Ok((rest.map_or(first, BytesMut::freeze), permit))
    }

    async fn internal(&self, head: request::Parts, body: Incoming, exposure: Exposure) -> Response<Body> {
        let allowed = match exposure {
            Exposure::Everything => {
                browser::check_host(&head.headers).and_then(|()| browser::check_origin(&head.headers))
            }
            Exposure::ApiOnly => return plain(StatusCode::NOT_FOUND, "not found"),
        };
        if let Err(refusal) = allowed {
            return plain(StatusCode::FORBIDDEN, &refusal.to_string());
        }
        let method = if head.method == Method::HEAD { Method::GET } else { head.method.clone() };
        let found = match head.uri.path() {
            "/_wharf/health" => Some((&Method::GET, None)),
            "/_wharf/metrics" => Some((&Method::GET, None)),
            path => self.routes.get(path).map(|(method, handler)| (method, Some(handler))),
        };
        let Some((expected, handler)) = found else {
            return plain(StatusCode::NOT_FOUND, "not found");
        };
        if *expected != method {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
            if let Ok(allow) = HeaderValue::from_str(expected.as_str()) {
                response.headers_mut().insert(header::ALLOW, allow);
            }
            return response;
        }
        match handler {
            Some(handler) => match self.read_body(&head, body).await {
                Ok((body, _permit)) => handler(Request::from_parts(head, body)).await,
                Err(error) => {
                    let error = ApiError::from(error);
                    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST);
                    plain(status, &error.message)
                }
            },
            None if head.uri.path() == "/_wharf/health" => self.health(),
            None => {
                let mut response = plain(StatusCode::OK, &self.metrics.render());
                response.headers_mut().insert(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
                );
                response
            }
        }
    }

    fn health(&self) -> Response<Body> {
        let body = serde_json::json!({
            "status": "ok",
            "version": env!("CARGO_PKG_VERSION"),
            "services": self.pipeline.service_names(),
        });
        let mut response = plain(StatusCode::OK, &body.to_string());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// Resolves once the server is told to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the server is gone, which is the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The first byte of a TLS record that opens a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// A page can sign with a key that everybody knows. It cannot hide where it comes from, except in
/// a `GET` after rebinding its name, which no AWS client sends to a name that is not AWS's.
fn check_api_browser(head: &request::Parts) -> Result<(), BrowserRefusal> {
    browser::check_origin(&head.headers)?;
    if head.method == Method::POST {
        return Ok(());
    }
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.split(':').next().unwrap_or_default();
    if name.ends_with(".amazonaws.com") || name.ends_with(".amazonaws.com.cn") {
        return Ok(());
    }
    browser::check_host(&head.headers)
}

fn forbidden(refusal: BrowserRefusal) -> ApiError {
    ApiError::sender("AccessDenied", refusal.to_string()).with_status(403)
}

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error("the request body is larger than {max} bytes")]
    TooLarge { max: usize },
    #[error("the request body did not arrive in time")]
    Timeout,
    #[error("the request body is broken")]
    Broken(#[source] hyper::Error),
    #[error("too many bytes of request bodies are being read")]
    Busy,
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        let message = error.to_string();
        match error {
            BodyError::TooLarge { .. } => Self::sender("RequestEntityTooLarge", message).with_status(413),
            BodyError::Timeout => Self::sender("RequestTimeout", message).with_status(408),
            BodyError::Broken(_) => Self::sender("IncompleteBody", message),
            BodyError::Busy => Self::receiver("ServiceUnavailable", message).with_status(503),
        }
    }
}

/// Reads and drops up to `max` bytes of a body.
async fn discard(body: &mut Incoming, max: usize) {
    let mut dropped = 0;
    while dropped < max {
        match body.frame().await {
            Some(Ok(frame)) => dropped += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) | None => return,
        }
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The address of the host's default listener.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4566);
