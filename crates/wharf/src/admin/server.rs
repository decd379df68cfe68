//! The server's side of the admin socket.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::{UnixListener, UnixStream};

use super::container_calls;
use super::messages::Refusal;
use crate::failure::{Context as _, Failure, Result};
use crate::layout::Layout;
use crate::platform::Platform;

/// Opens the socket; the data directory's lock must be held.
pub fn bind(layout: &Layout) -> Result<UnixListener> {
    let socket = layout.admin_socket()?;
    // Whoever held the lock before is gone, and so is what listened here.
    let _ = std::fs::remove_file(socket.path());
    let listener = UnixListener::bind(socket.path())
        .context(|| format!("cannot listen on {}/admin.sock", layout.run().display()))?;
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(socket.path(), std::fs::Permissions::from_mode(0o600))
        .context(|| "cannot close the admin socket to others".to_owned())?;
    Ok(listener)
}

/// Serves until the listener fails or the task is aborted.
pub async fn serve(listener: UnixListener, platform: Arc<Platform>) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                tokio::spawn(serve_connection(socket, Arc::clone(&platform)));
            }
            Err(error) => {
                tracing::error!(%error, "the admin socket cannot accept");
                // Out of descriptors: wait until some are given back.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(socket: UnixStream, platform: Arc<Platform>) {
    let service = service_fn(move |request| {
        let platform = Arc::clone(&platform);
        async move { Ok::<_, std::convert::Infallible>(answer(request, &platform).await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
    if let Err(error) = connection.with_upgrades().await {
        tracing::debug!(%error, "an admin connection broke");
    }
}

/// Whole, or as it comes.
pub type Answer = UnsyncBoxBody<Bytes, BodyError>;
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

async fn answer(request: Request<Incoming>, platform: &Arc<Platform>) -> Response<Answer> {
    if container_calls::is_mine(request.uri().path()) {
        return match container_calls::answer(request, &platform.containers).await {
            Ok(response) => response,
            Err(failure) => refusal(&failure),
        };
    }
    let (head, body) = request.into_parts();
    let outcome = match (&head.method, head.uri.path()) {
        (&Method::GET, "/status") => platform.status().await.map(|status| encode(&status)),
        (&Method::GET, "/images") => platform.images().map(|images| encode(&images)),
        (&Method::POST, "/images") => load(platform, body).await,
        (&Method::GET, "/tasks") => Ok(encode(&platform.tasks())),
        (&Method::POST, "/down") => platform.down().await.map(|downed| encode(&downed)),
        _ => Err(Failure::new(format!("the server knows no {} {}", head.method, head.uri.path())).hint(
            "the command and the server may be of different versions: run `wharf down` and `wharf up`",
        )),
    };
    match outcome {
        Ok(bytes) => Response::new(container_calls::full(bytes)),
        Err(failure) => refusal(&failure),
    }
}

fn refusal(failure: &Failure) -> Response<Answer> {
    let refusal = Refusal {
        error: failure.to_string(),
        hint: failure.hint_text().map(str::to_owned),
        exit_code: failure.exit_code(),
    };
    let mut response = Response::new(container_calls::full(encode(&refusal)));
    *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    response
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// Feeds the body into the content store, which reads on a thread of its own.
async fn load(platform: &Arc<Platform>, mut body: Incoming) -> Result<Vec<u8>> {
    let (sender, receiver) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(8);
    let platform = Arc::clone(platform);
    let loading = tokio::task::spawn_blocking(move || platform.load(ChannelReader::new(receiver)));
    while let Some(frame) = body.frame().await {
        let data = match frame {
            Ok(frame) => frame.into_data().map_err(|_| std::io::Error::other("unexpected trailers")),
            Err(error) => Err(std::io::Error::other(error)),
        };
        let failed = data.is_err();
        // A closed channel: the store has seen enough, and its answer says why.
        if sender.send(data).await.is_err() || failed {
            break;
        }
    }
    drop(sender);
    let loaded = loading.await.context(|| "loading the archive failed".to_owned())??;
    Ok(encode(&loaded))
}

/// Reads what a channel brings, blocking.
struct ChannelReader {
    receiver: tokio::sync::mpsc::Receiver<std::io::Result<Bytes>>,
    rest: Bytes,
}

impl ChannelReader {
    fn new(receiver: tokio::sync::mpsc::Receiver<std::io::Result<Bytes>>) -> Self {
        Self { receiver, rest: Bytes::new() }
    }
}

impl std::io::Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.rest.is_empty() {
            match self.receiver.blocking_recv() {
                Some(bytes) => self.rest = bytes?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}
