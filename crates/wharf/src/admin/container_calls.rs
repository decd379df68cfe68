//! The server's side of [`super::containers`].

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame as BodyFrame, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use wharf_containers::config::Size;
use wharf_containers::{Attachment, Containers, ContainersError};
use wharf_engine::log::Stream;
use wharf_engine::session::{AttachSpec, OutputFrom, Session, SessionStdin, TerminalSize};
use wharf_engine::{EngineError, Signal};

use super::containers::{
    CALL_HEADER, Call, ContainerDetails, ContainerStats, CopyInCall, CopyOutCall, Ended, FRAME_BYTES_MAX,
    Frame, SessionCall, UPGRADE, Watch, frame,
};
use super::server::Answer;
use crate::failure::{Context as _, Failure, Result};

/// A call is no longer.
const CALL_BYTES_MAX: usize = 4 << 20;
/// Lines that wait for a slow reader.
const LINES_QUEUED_MAX: usize = 256;
const CHUNK_BYTES: usize = 64 * 1024;

pub fn full(bytes: Vec<u8>) -> Answer {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}

pub fn is_mine(path: &str) -> bool {
    path.starts_with("/containers/")
}

pub async fn answer(request: Request<Incoming>, containers: &Containers) -> Result<Response<Answer>> {
    match request.uri().path() {
        "/containers/call" => {
            let call: Call = body(request.into_body()).await?;
            Ok(Response::new(full(carry_out(containers, call).await?)))
        }
        "/containers/watch" => {
            let watch: Watch = body(request.into_body()).await?;
            watching(containers, watch)
        }
        "/containers/session" => session(request, containers).await,
        "/containers/copy-out" => {
            let call: CopyOutCall = body(request.into_body()).await?;
            copy_out(containers, call).await
        }
        "/containers/copy-in" => {
            let call = request.headers().get(CALL_HEADER).and_then(|value| value.to_str().ok());
            let call: CopyInCall = serde_json::from_str(call.unwrap_or_default())
                .context(|| "the command is not understood".to_owned())?;
            copy_in(containers, call, request.into_body()).await
        }
        other => Err(Failure::new(format!("the server knows no {other}"))),
    }
}

async fn body<T: DeserializeOwned>(body: Incoming) -> Result<T> {
    let limited = http_body_util::Limited::new(body, CALL_BYTES_MAX);
    let bytes =
        limited.collect().await.map_err(|error| Failure::new(format!("the command is not read: {error}")))?;
    serde_json::from_slice(&bytes.to_bytes()).context(|| "the command is not understood".to_owned())
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// In words for whoever typed the command, with the exit code of `docker run`.
#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
pub fn failure(error: ContainersError) -> Failure {
    let (hint, code) = match &error {
        ContainersError::Image(_) => (
            Some(
                "put it in with `wharf load ARCHIVE` (`docker save IMAGE | wharf load /dev/stdin`); `wharf images` lists what is there",
            ),
            125,
        ),
        ContainersError::Start { code, .. } => (None, *code),
        ContainersError::NameTaken { .. } => {
            (Some("remove or rename that container, or choose another name"), 125)
        }
        ContainersError::NoContainer(_) => (Some("`wharf ps --all` lists them"), 125),
        ContainersError::Running(_) => (Some("`wharf rm --force` kills it first"), 125),
        ContainersError::Engine(EngineError::Unsupported { .. }) => (None, 125),
        _ => (None, 125),
    };
    let failure = Failure::new(error.to_string()).exit(code);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

async fn carry_out(containers: &Containers, call: Call) -> Result<Vec<u8>> {
    let done = |result: std::result::Result<(), ContainersError>| result.map(|()| json(&()));
    let answer = match call {
        Call::Create { config, name } => containers.create(*config, name).await.map(|made| json(&made)),
        Call::List => {
            let all: Vec<ContainerDetails> =
                containers.list().iter().map(|container| ContainerDetails::from(&**container)).collect();
            Ok(json(&all))
        }
        Call::Inspect { container } => {
            containers.find(&container).map(|found| json(&ContainerDetails::from(&*found)))
        }
        Call::Start { container } => done(containers.start(&container).await),
        Call::Stop { container, grace_secs } => done(containers.stop(&container, grace_secs).await),
        Call::Restart { container, grace_secs } => done(containers.restart(&container, grace_secs).await),
        Call::Kill { container, signal } => done(containers.kill(&container, Signal(signal)).await),
        Call::Pause { container } => done(containers.pause(&container).await),
        Call::Unpause { container } => done(containers.unpause(&container).await),
        Call::Rename { container, to } => done(containers.rename(&container, &to).await),
        Call::Remove { container, options } => done(containers.remove(&container, options).await),
        Call::Wait { container, until } => {
            containers.wait(&container, until).await.map(|code| json(&Ended { code }))
        }
        Call::Top { container } => containers.processes(&container).await.map(|processes| json(&processes)),
        Call::Stats { containers: names } => stats(containers, names).await.map(|stats| json(&stats)),
        Call::StatFile { container, path, follow } => {
            containers.stat_file(&container, &path, follow).await.map(|stat| json(&stat))
        }
    };
    answer.map_err(failure)
}

async fn stats(
    containers: &Containers,
    names: Vec<String>,
) -> std::result::Result<Vec<ContainerStats>, ContainersError> {
    let wanted = if names.is_empty() {
        containers.list().into_iter().filter(|container| container.state.is_alive()).collect()
    } else {
        names.iter().map(|name| containers.find(name)).collect::<std::result::Result<Vec<_>, _>>()?
    };
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut all = Vec::with_capacity(wanted.len());
    for container in wanted {
        // One that does not run uses nothing.
        let stats = containers.stats(&container.id).await.unwrap_or_default();
        let at_ms = wharf_core::Clock::now(&wharf_core::SystemClock).as_millis();
        all.push(ContainerStats {
            id: container.id.clone(),
            name: container.name.clone(),
            at_ms,
            cpus,
            stats,
        });
    }
    Ok(all)
}

fn streaming(lines: mpsc::Receiver<Bytes>) -> Answer {
    let frames = futures_util::stream::unfold(lines, |mut lines| async move {
        let line = lines.recv().await?;
        Some((Ok::<_, super::server::BodyError>(BodyFrame::data(line)), lines))
    });
    StreamBody::new(frames).boxed_unsync()
}

fn watching(containers: &Containers, watch: Watch) -> Result<Response<Answer>> {
    let (sender, receiver) = mpsc::channel(LINES_QUEUED_MAX);
    let line = |value: &dyn erased::Json| {
        let mut bytes = value.json();
        bytes.push(b'\n');
        Bytes::from(bytes)
    };
    match watch {
        Watch::Logs { container, options } => {
            let mut lines = containers.logs(&container, options).map_err(failure)?;
            tokio::spawn(async move {
                while let Some(log) = lines.recv().await {
                    if sender.send(line(&log)).await.is_err() {
                        return;
                    }
                }
            });
        }
        Watch::Events => {
            let mut events = containers.events();
            tokio::spawn(async move {
                loop {
                    let event = match events.recv().await {
                        Ok(event) => event,
                        Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => continue,
                        Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                    };
                    if sender.send(line(&event)).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
    Ok(Response::new(streaming(receiver)))
}

mod erased {
    //! One closure for values of several types.

    pub trait Json {
        fn json(&self) -> Vec<u8>;
    }

    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> Vec<u8> {
            serde_json::to_vec(self).unwrap_or_default()
        }
    }
}

/// What a session is held by, so that it lives as long as its connection.
enum Held {
    Exec(Session),
    Attached(Attachment),
}

impl Held {
    fn session(&mut self) -> &mut Session {
        match self {
            Self::Exec(session) => session,
            Self::Attached(attachment) => &mut attachment.session,
        }
    }
}

async fn session(mut request: Request<Incoming>, containers: &Containers) -> Result<Response<Answer>> {
    let upgrade = hyper::upgrade::on(&mut request);
    let call: SessionCall = body(request.into_body()).await?;
    let held = begin(containers, call).await.map_err(failure)?;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(stream) => carry(held, TokioIo::new(stream)).await,
            Err(error) => tracing::debug!(%error, "a session's connection broke"),
        }
    });
    let mut response = Response::new(full(Vec::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let value = hyper::header::HeaderValue::from_static(UPGRADE);
    response.headers_mut().insert(hyper::header::UPGRADE, value);
    let value = hyper::header::HeaderValue::from_static("upgrade");
    response.headers_mut().insert(hyper::header::CONNECTION, value);
    Ok(response)
}

async fn begin(containers: &Containers, call: SessionCall) -> std::result::Result<Held, ContainersError> {
    let stdin = |wanted| if wanted { SessionStdin::Open } else { SessionStdin::Closed };
    match call {
        SessionCall::Exec { container, spec } => containers.exec(&container, spec).await.map(Held::Exec),
        SessionCall::Attach { container, stdin: wanted } => {
            let found = containers.find(&container)?;
            if !found.state.is_alive() {
                return Err(ContainersError::NotRunning(found.name.clone()));
            }
            let spec = AttachSpec { output: OutputFrom::Now, stdin: stdin(wanted) };
            containers.attach(&container, spec).await.map(Held::Attached)
        }
        SessionCall::Start { container, stdin: wanted } => {
            let id = containers.find(&container)?.id.clone();
            // One that removes itself may be over before anybody is attached.
            let hold = containers.hold(&id);
            containers.start(&id).await?;
            let spec = AttachSpec { output: OutputFrom::Start, stdin: stdin(wanted) };
            let attached = containers.attach(&id, spec).await;
            let attached = match attached {
                // Its program is over already, and with it its input.
                Err(ContainersError::Engine(EngineError::Unsupported { .. })) if wanted => {
                    let spec = AttachSpec { output: OutputFrom::Start, stdin: SessionStdin::Closed };
                    containers.attach(&id, spec).await
                }
                other => other,
            };
            drop(hold);
            attached.map(Held::Attached)
        }
    }
}

/// Frames to and from a session, until it ends or the other side goes away.
async fn carry(mut held: Held, stream: TokioIo<hyper::upgrade::Upgraded>) {
    let (mut from, mut to) = tokio::io::split(stream);
    let mut input = held.session().input.take();
    let (commands, mut waiting) = mpsc::channel::<(Frame, Vec<u8>)>(16);
    let reading = tokio::spawn(async move {
        while let Ok(Some(message)) = read_frame(&mut from).await {
            if commands.send(message).await.is_err() {
                return;
            }
        }
    });
    loop {
        let session = held.session();
        tokio::select! {
            chunk = session.output.recv() => match chunk {
                Some(chunk) => {
                    let kind = if chunk.stream == Stream::Stdout { Frame::Stdout } else { Frame::Stderr };
                    if to.write_all(&frame(kind, &chunk.bytes)).await.is_err() {
                        break;
                    }
                }
                None => {
                    let code = session.control.wait().await.code;
                    let _ = to.write_all(&frame(Frame::End, &json(&Ended { code }))).await;
                    let _ = to.shutdown().await;
                    break;
                }
            },
            command = waiting.recv() => match command {
                // The other side is gone, and with it what it began.
                None => break,
                Some((Frame::Stdin, bytes)) => {
                    // A program that reads no more does not mind.
                    if let Some(writer) = &mut input
                        && tokio::select! {
                            written = writer.write_all(&bytes) => written.is_err(),
                            _ = session.control.wait() => true,
                        }
                    {
                        input = None;
                    }
                }
                Some((Frame::CloseStdin, _)) => {
                    if let Some(mut writer) = input.take() {
                        let _ = writer.shutdown().await;
                    }
                }
                Some((Frame::Resize, bytes)) => {
                    if let Ok(size) = serde_json::from_slice::<Size>(&bytes) {
                        let size = TerminalSize { rows: size.rows, columns: size.columns };
                        let _ = session.control.resize(size).await;
                    }
                }
                Some((Frame::Signal, bytes)) => {
                    if let Ok(signal) = serde_json::from_slice::<i32>(&bytes) {
                        let _ = session.control.signal(Signal(signal)).await;
                    }
                }
                Some((Frame::Stdout | Frame::Stderr | Frame::End, _)) => break,
            },
        }
    }
    reading.abort();
    drop(input);
}

/// The next frame; `None` at the end of the stream.
pub async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<(Frame, Vec<u8>)>> {
    let kind = match from.read_u8().await {
        Ok(kind) => kind,
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = from.read_u32().await? as usize;
    let kind = Frame::from_byte(kind).filter(|_| length <= FRAME_BYTES_MAX);
    let kind = kind.ok_or(std::io::ErrorKind::InvalidData)?;
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    Ok(Some((kind, bytes)))
}

async fn copy_out(containers: &Containers, call: CopyOutCall) -> Result<Response<Answer>> {
    let (stat, archive) =
        containers.copy_out(&call.container, &call.path, call.follow).await.map_err(failure)?;
    let chunks = futures_util::stream::try_unfold(archive, |mut archive| async move {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let count = archive.read_buf(&mut chunk).await?;
        Ok::<_, std::io::Error>((count > 0).then(|| (BodyFrame::data(Bytes::from(chunk)), archive)))
    });
    let body: UnsyncBoxBody<Bytes, std::io::Error> =
        http_body_util::BodyExt::boxed_unsync(StreamBody::new(chunks));
    // An error in the midst breaks the connection, and the other side sees that it is not whole.
    let mut response =
        Response::new(body.map_err(|error| -> super::server::BodyError { Box::new(error) }).boxed_unsync());
    let stat = hyper::header::HeaderValue::from_bytes(&json(&stat))
        .context(|| "the file's name cannot be told".to_owned())?;
    response.headers_mut().insert(CALL_HEADER, stat);
    Ok(response)
}

async fn copy_in(containers: &Containers, call: CopyInCall, body: Incoming) -> Result<Response<Answer>> {
    let (reader, mut writer) = tokio::io::duplex(CHUNK_BYTES);
    let feeding = tokio::spawn(async move {
        let mut body = body;
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else { continue };
            if writer.write_all(&data).await.is_err() {
                return;
            }
        }
        let _ = writer.shutdown().await;
    });
    let copied = containers.copy_in(&call.container, &call.directory, Box::new(reader), call.owner).await;
    feeding.abort();
    copied.map_err(failure)?;
    Ok(Response::new(full(json(&()))))
}
