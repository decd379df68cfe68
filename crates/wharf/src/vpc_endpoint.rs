//! What a task finds at 169.254.170.2: the container metadata endpoint, in every VPC.
//!
//! Whenever a VPC comes to be, a listener is opened inside it. A caller is known by its address
//! alone.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use wharf_contracts::TaskMetadata;
use wharf_ec2::VpcEndpoints;
use wharf_network::{DataPlane, NetworkError, TASK_ENDPOINT, VpcSpec};

const PORT: u16 = 80;
/// Connections to one VPC's endpoint at a time; the next ones wait.
const CONNECTIONS_MAX: usize = 256;
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A task that holds its connection open gives its place back after this.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

pub struct TaskEndpoints {
    plane: Arc<dyn DataPlane>,
    metadata: Arc<OnceLock<Arc<dyn TaskMetadata>>>,
    /// By VPC. Ending one ends its connections.
    listeners: Mutex<HashMap<String, JoinHandle<()>>>,
}

impl TaskEndpoints {
    pub fn new(plane: Arc<dyn DataPlane>) -> Arc<Self> {
        Arc::new(Self { plane, metadata: Arc::default(), listeners: Mutex::default() })
    }

    /// Who answers. Until then every request gets 503.
    pub fn answer_with(&self, metadata: Arc<dyn TaskMetadata>) {
        // A second call would be a mistake of the wiring, and changes nothing.
        let _ = self.metadata.set(metadata);
    }

    /// Closes every socket in every VPC: a namespace is gone only when its last socket is.
    pub async fn close_all(&self) {
        for (_, listener) in self.listeners.lock().await.drain() {
            end(listener).await;
        }
    }
}

#[async_trait]
impl VpcEndpoints for TaskEndpoints {
    async fn open(&self, vpc: &VpcSpec) -> Result<(), NetworkError> {
        let listener = self.plane.listen(vpc.clone(), TASK_ENDPOINT, PORT).await?;
        let accepting = tokio::spawn(accept(listener, vpc.id.clone(), Arc::clone(&self.metadata)));
        let before = self.listeners.lock().await.insert(vpc.id.clone(), accepting);
        if let Some(before) = before {
            end(before).await;
        }
        Ok(())
    }

    async fn close(&self, vpc_id: &str) {
        let listener = self.listeners.lock().await.remove(vpc_id);
        if let Some(listener) = listener {
            end(listener).await;
        }
    }
}

/// Ends the task and waits until its sockets are closed.
async fn end(listener: JoinHandle<()>) {
    listener.abort();
    // It ends as cancelled, which is what was asked for.
    let _ = listener.await;
}

async fn accept(listener: TcpListener, vpc_id: String, metadata: Arc<OnceLock<Arc<dyn TaskMetadata>>>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, vpc_id, "the task metadata endpoint cannot be served");
            return;
        }
    };
    let vpc_id: Arc<str> = vpc_id.into();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, %vpc_id, "the task metadata endpoint cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let IpAddr::V4(address) = peer.ip() else { continue };
        let (vpc_id, metadata) = (Arc::clone(&vpc_id), Arc::clone(&metadata));
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &vpc_id, address, metadata.get());
                async move { Ok::<_, std::convert::Infallible>(answer) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(socket), service);
            // What a task does to its own connection is its own business.
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
            drop(place);
        });
    }
}

fn answer(
    request: &Request<Incoming>,
    vpc_id: &str,
    address: Ipv4Addr,
    metadata: Option<&Arc<dyn TaskMetadata>>,
) -> Response<Full<Bytes>> {
    let plain = |status: u16, text: &'static str| (status, "text/plain", text.to_owned());
    let (status, content_type, body) = match (request.method(), metadata) {
        (&Method::GET, Some(metadata)) => {
            let answer = metadata.get(vpc_id, address, request.uri().path());
            (answer.status, answer.content_type, answer.body)
        }
        (&Method::GET, None) => plain(503, "Wharf is starting\n"),
        _ => plain(405, "only GET is answered here\n"),
    };
    let response = Response::builder().status(status).header("content-type", content_type);
    response.body(Full::new(Bytes::from(body))).unwrap_or_default()
}
