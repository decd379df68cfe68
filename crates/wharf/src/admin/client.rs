//! The commands' side of the admin socket.

use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use wharf_engine::copy::FileStat;

use super::containers::{CALL_HEADER, Call, CopyInCall, CopyOutCall, SessionCall, UPGRADE, Watch};
use super::messages::Refusal;
use crate::failure::{Context as _, Failure, Result};
use crate::layout::{Layout, not_running};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

const CHUNK_BYTES: usize = 256 * 1024;

fn json(value: &impl serde::Serialize) -> Body {
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}

fn refused(status: StatusCode, bytes: &[u8]) -> Failure {
    let Ok(refusal) = serde_json::from_slice::<Refusal>(bytes) else {
        return Failure::new(format!("the server answered {status}"));
    };
    let mut failure = Failure::new(refusal.error);
    if let Some(code) = refusal.exit_code {
        failure = failure.exit(code);
    }
    match refusal.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Lines of JSON.
pub struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    /// The next line; `None` at the end.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        loop {
            if let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return serde_json::from_slice(&line)
                    .map(Some)
                    .context(|| "the server's answer is not understood".to_owned());
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    let frame = frame.context(|| "the server went away".to_owned())?;
                    if let Ok(data) = frame.into_data() {
                        self.rest.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

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
        Err(refused(status, &bytes))
    }

    /// A command about containers run by hand.
    pub async fn call<T: DeserializeOwned>(&self, call: &Call) -> Result<T> {
        self.send(Method::POST, "/containers/call", json(call)).await
    }

    /// Lines of JSON as they come.
    pub async fn watch(&self, watch: &Watch) -> Result<Lines> {
        let answer = self.open("/containers/watch", None, json(watch)).await?;
        Ok(Lines { body: answer.into_body(), rest: Vec::new() })
    }

    /// Becomes a stream of frames.
    pub async fn session(&self, call: &SessionCall) -> Result<TokioIo<Upgraded>> {
        let answer = self.open("/containers/session", None, json(call)).await?;
        let upgraded = hyper::upgrade::on(answer).await.context(|| "the server went away".to_owned())?;
        Ok(TokioIo::new(upgraded))
    }

    /// The file's description, and the archive.
    pub async fn copy_out(&self, call: &CopyOutCall) -> Result<(FileStat, Incoming)> {
        let answer = self.open("/containers/copy-out", None, json(call)).await?;
        let stat = answer.headers().get(CALL_HEADER).map(|value| value.as_bytes().to_vec());
        let stat = serde_json::from_slice(&stat.unwrap_or_default())
            .context(|| "the server's answer is not understood".to_owned())?;
        Ok((stat, answer.into_body()))
    }

    /// Sends an archive as it comes.
    pub async fn copy_in(
        &self,
        call: &CopyInCall,
        archive: tokio::sync::mpsc::Receiver<std::io::Result<Bytes>>,
    ) -> Result<()> {
        let chunks = futures_util::stream::unfold(archive, |mut archive| async move {
            let chunk = archive.recv().await?;
            Some((chunk.map(Frame::data), archive))
        });
        let call = serde_json::to_string(call).context(|| "cannot make the request".to_owned())?;
        let body = BodyExt::boxed_unsync(StreamBody::new(chunks));
        self.open("/containers/copy-in", Some(call), body).await.map(drop)
    }

    async fn open(&self, path: &str, header: Option<String>, body: Body) -> Result<Response<Incoming>> {
        let socket = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
            .await
            .context(|| "cannot speak to the server".to_owned())?;
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("host", "wharf")
            .header("connection", "upgrade")
            .header("upgrade", UPGRADE);
        if let Some(header) = header {
            request = request.header(CALL_HEADER, header);
        }
        let request = request.body(body).context(|| "cannot make the request".to_owned())?;
        let answer = sender.send_request(request).await.context(|| "the server went away".to_owned())?;
        let status = answer.status();
        if matches!(status, StatusCode::OK | StatusCode::SWITCHING_PROTOCOLS) {
            return Ok(answer);
        }
        let bytes =
            answer.into_body().collect().await.context(|| "the server went away".to_owned())?.to_bytes();
        Err(refused(status, &bytes))
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
