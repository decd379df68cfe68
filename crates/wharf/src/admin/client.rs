//! The commands' side of the admin socket.

use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use super::messages::Refusal;
use crate::failure::{Context as _, Failure, Result};
use crate::layout::{Layout, not_running};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

const CHUNK_BYTES: usize = 256 * 1024;

pub struct Client<'a> {
    layout: &'a Layout,
}

impl<'a> Client<'a> {
    pub fn new(layout: &'a Layout) -> Self {
        Self { layout }
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.send(Method::GET, path, Empty::new().map_err(|never| match never {}).boxed_unsync()).await
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.send(Method::POST, path, Full::default().map_err(|never| match never {}).boxed_unsync()).await
    }

    /// Posts a file, telling `progress` how many bytes have been read.
    pub async fn post_file<T: DeserializeOwned>(
        &self,
        path: &str,
        file: tokio::fs::File,
        progress: impl Fn(u64) + Send + 'static,
    ) -> Result<T> {
        let chunks = futures_util::stream::try_unfold((file, progress), |(mut file, progress)| async move {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            let count = file.read_buf(&mut chunk).await?;
            if count == 0 {
                return Ok(None);
            }
            progress(count as u64);
            Ok(Some((Frame::data(Bytes::from(chunk)), (file, progress))))
        });
        self.send(Method::POST, path, BodyExt::boxed_unsync(StreamBody::new(chunks))).await
    }

    async fn send<T: DeserializeOwned>(&self, method: Method, path: &str, body: Body) -> Result<T> {
        let socket = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
            .await
            .context(|| "cannot speak to the server".to_owned())?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "wharf")
            .body(body)
            .context(|| "cannot make the request".to_owned())?;
        let answer = sender.send_request(request).await.context(|| "the server went away".to_owned())?;
        let status = answer.status();
        let bytes =
            answer.into_body().collect().await.context(|| "the server went away".to_owned())?.to_bytes();
        drop(sender);
        let _ = connection.await;
        if status == StatusCode::OK {
            return serde_json::from_slice(&bytes)
                .context(|| "the server's answer is not understood".to_owned());
        }
        let refusal: Refusal =
            serde_json::from_slice(&bytes).context(|| format!("the server answered {status}"))?;
        let failure = Failure::new(refusal.error);
        Err(match refusal.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        })
    }

    async fn connect(&self) -> Result<UnixStream> {
        if !Path::exists(&self.layout.run()) {
            return Err(not_running(self.layout));
        }
        let socket = self.layout.admin_socket()?;
        UnixStream::connect(socket.path()).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => not_running(self.layout),
            std::io::ErrorKind::PermissionDenied => Failure::new("cannot reach the server")
                .because(&error)
                .hint("the data directory belongs to root: use sudo"),
            _ => Failure::new("cannot reach the server").because(&error),
        })
    }

    /// Whether a server answers.
    pub async fn is_running(&self) -> bool {
        self.connect().await.is_ok()
    }
}
