//! The client's side of a copy: the archive goes over a pipe between it and the process that copies;
//! how it went comes over that process's report.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};
use wharf_engine::EngineError;
use wharf_engine::copy::{Archive, CopyOwner, CopyRoot, FileStat, FollowLink};
use wharf_engine_embedded::copy::{CopyJob, FRAME_BYTES_MAX, Said};

use super::session::{Connection, End, broken};
use super::{KeeperEngine, unexpected};
use crate::protocol::{Answer, Request};

/// A copy that runs. Dropping it ends the process.
struct Copy {
    _connection: Connection,
    report: End,
    data: Option<End>,
}

async fn begin(engine: &KeeperEngine, root: &CopyRoot, job: CopyJob) -> Result<Copy, EngineError> {
    let mut connection = Connection::open(engine).await?;
    match connection.call(Request::Copy { root: root.clone(), job }).await? {
        Answer::Copying => {}
        other => return unexpected(&other),
    }
    // The pidfd: the connection is the process's life, so it is not needed.
    let mut descriptors = std::mem::take(&mut connection.descriptors).into_iter().skip(1);
    let report = descriptors.next().ok_or_else(|| broken("a descriptor is missing"))?;
    let report = End::new(report).map_err(broken)?;
    let data = descriptors.next().map(End::new).transpose().map_err(broken)?;
    Ok(Copy { _connection: connection, report, data })
}

impl Copy {
    async fn said(&mut self) -> Result<Said, EngineError> {
        let ended = |_| broken("the process that copies has ended");
        let length = self.report.read_u32_le().await.map_err(ended)? as usize;
        if length > FRAME_BYTES_MAX {
            return Err(broken("a report is too long"));
        }
        let mut bytes = vec![0; length];
        self.report.read_exact(&mut bytes).await.map_err(ended)?;
        match postcard::from_bytes(&bytes).map_err(broken)? {
            Said::Failed(error) => Err(error),
            other => Ok(other),
        }
    }

    async fn stat(&mut self) -> Result<FileStat, EngineError> {
        match self.said().await? {
            Said::Stat(stat) => Ok(stat),
            Said::Done | Said::Failed(_) => Err(broken("the process that copies says nothing of the file")),
        }
    }
}

pub async fn stat_file(
    engine: &KeeperEngine,
    root: &CopyRoot,
    path: &str,
    follow: FollowLink,
) -> Result<FileStat, EngineError> {
    begin(engine, root, CopyJob::Stat { path: path.to_owned(), follow }).await?.stat().await
}

pub async fn copy_out(
    engine: &KeeperEngine,
    root: &CopyRoot,
    path: &str,
    follow: FollowLink,
) -> Result<(FileStat, Archive), EngineError> {
    let mut copy = begin(engine, root, CopyJob::Out { path: path.to_owned(), follow }).await?;
    let stat = copy.stat().await?;
    let data = copy.data.take().ok_or_else(|| broken("a descriptor is missing"))?;
    let end = Box::pin(async move { copy.said().await.map(drop) });
    Ok((stat, Box::new(OutStream { data: Some(data), end })))
}

type Ended = Pin<Box<dyn Future<Output = Result<(), EngineError>> + Send>>;

/// The archive, and at its end whether it is whole.
struct OutStream {
    data: Option<End>,
    end: Ended,
}

impl AsyncRead for OutStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(data) = &mut self.data {
            let before = buffer.filled().len();
            ready!(Pin::new(data).poll_read(context, buffer))?;
            if buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            self.data = None;
        }
        let ended = ready!(self.end.as_mut().poll(context));
        // Asked again, it has ended all the same.
        self.end = Box::pin(async { Ok(()) });
        Poll::Ready(ended.map_err(io::Error::other))
    }
}

pub async fn copy_in(
    engine: &KeeperEngine,
    root: &CopyRoot,
    directory: &str,
    mut archive: Archive,
    owner: CopyOwner,
) -> Result<(), EngineError> {
    let mut copy = begin(engine, root, CopyJob::In { directory: directory.to_owned(), owner }).await?;
    let mut data = copy.data.take().ok_or_else(|| broken("a descriptor is missing"))?;
    let sent = tokio::io::copy(&mut archive, &mut data).await;
    drop(data);
    // Its own word says more than a broken pipe.
    copy.said().await?;
    match sent {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(broken(error)),
        _ => Ok(()),
    }
}
