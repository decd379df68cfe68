//! What goes into a container and comes out of it: programs beside its own, its streams, its output,
//! its files.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use wharf_core::Timestamp;
use wharf_engine::copy::{Archive, CopyOwner, CopyRoot, FileStat, FollowLink};
use wharf_engine::log::{LogPosition, Stream};
use wharf_engine::session::{AttachSpec, ExecSpec, Process, Session};
use wharf_engine::{ContainerId, EngineError, EventKind, Stats};

use crate::event::Action;
use crate::plan::spec;
use crate::records::{Container, State};
use crate::{Containers, ContainersError};

/// Of a log, at once.
const LOG_BYTES: usize = 256 * 1024;
/// Lines that wait for a reader.
const LINES_QUEUED_MAX: usize = 256;
/// `--tail` keeps so many at most while it looks for the last ones.
pub const TAIL_LINES_MAX: usize = 1 << 20;
/// How long a follower of a log waits for an event before it looks again.
const FOLLOW_LOOK: Duration = Duration::from_secs(5);

/// Those who read a container's output.
pub(crate) struct Readers(watch::Sender<usize>);

impl Default for Readers {
    fn default() -> Self {
        Self(watch::channel(0).0)
    }
}

impl Readers {
    /// Returns once there are none.
    pub(crate) async fn gone(&self) {
        // The sender is ours, so it cannot be closed.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// A place among them.
struct Place(Arc<Readers>);

impl Place {
    fn take(readers: Arc<Readers>) -> Self {
        readers.0.send_modify(|count| *count += 1);
        Self(readers)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// An attached session. A container that removes itself stays until it is dropped, so that its
/// output can be read to the end.
pub struct Attachment {
    pub session: Session,
    /// As the container is.
    pub terminal: bool,
    told: Option<(Containers, Arc<Container>)>,
    _place: Place,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Some((containers, container)) = self.told.take() {
            containers.tell(&container, Action::Detach);
        }
    }
}

/// What of a container's output is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOptions {
    pub follow: bool,
    /// The last lines alone.
    pub tail: Option<usize>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// A line of output, or a part of a long one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    pub unix_nanos: u64,
    pub stream: Stream,
    /// Without its newline.
    pub text: Vec<u8>,
    /// The line goes on in the next one of the same stream.
    pub partial: bool,
}

impl Containers {
    /// Runs a program beside the container's own.
    pub async fn exec(&self, given: &str, spec: ExecSpec) -> Result<Session, ContainersError> {
        let container = self.running(given)?;
        if matches!(container.state, State::Paused { .. }) {
            return Err(ContainersError::Paused(container.name.clone()));
        }
        let command = spec.args.join(" ");
        let session = self.0.engine.exec(&self.engine_id(&container)?, spec).await?;
        self.tell(&container, Action::ExecStart { command });
        Ok(session)
    }

    /// Joins the streams of the container's own program, running or ended.
    pub async fn attach(&self, given: &str, spec: AttachSpec) -> Result<Attachment, ContainersError> {
        let container = self.find(given)?;
        if container.run == 0 {
            return Err(ContainersError::NotRunning(container.name.clone()));
        }
        let readers = Arc::clone(self.0.attached.lock().entry(container.id.clone()).or_default());
        let place = Place::take(readers);
        let session = self.0.engine.attach(&self.engine_id(&container)?, spec).await?;
        self.tell(&container, Action::Attach);
        Ok(Attachment {
            session,
            terminal: container.config.terminal.is_some(),
            told: Some((self.clone(), container)),
            _place: place,
        })
    }

    /// Keeps a container that removes itself until the value is dropped: for whoever will attach to
    /// it once it runs.
    pub fn hold(&self, id: &str) -> impl Send + use<> {
        Place::take(Arc::clone(self.0.attached.lock().entry(id.to_owned()).or_default()))
    }

    pub async fn processes(&self, given: &str) -> Result<Vec<Process>, ContainersError> {
        let container = self.running(given)?;
        Ok(self.0.engine.processes(&self.engine_id(&container)?).await?)
    }

    pub async fn stats(&self, given: &str) -> Result<Stats, ContainersError> {
        let container = self.running(given)?;
        Ok(self.0.engine.stats(&self.engine_id(&container)?).await?)
    }

    /// Looks at a file.
    pub async fn stat_file(
        &self,
        given: &str,
        path: &str,
        follow: FollowLink,
    ) -> Result<FileStat, ContainersError> {
        let root = self.copy_root(given).await?;
        Ok(self.0.engine.stat_file(&root, path, follow).await?)
    }

    pub async fn copy_out(
        &self,
        given: &str,
        path: &str,
        follow: FollowLink,
    ) -> Result<(FileStat, Archive), ContainersError> {
        let root = self.copy_root(given).await?;
        Ok(self.0.engine.copy_out(&root, path, follow).await?)
    }

    pub async fn copy_in(
        &self,
        given: &str,
        directory: &str,
        archive: Archive,
        owner: CopyOwner,
    ) -> Result<(), ContainersError> {
        let root = self.copy_root(given).await?;
        Ok(self.0.engine.copy_in(&root, directory, archive, owner).await?)
    }

    async fn copy_root(&self, given: &str) -> Result<CopyRoot, ContainersError> {
        let container = self.find(given)?;
        if matches!(container.state, State::Running { .. } | State::Paused { .. }) {
            return Ok(CopyRoot::Running(self.engine_id(&container)?));
        }
        let missing = || ContainersError::NotRunning(container.name.clone());
        let image = self.0.images.resolve(&container.config.image).await?;
        let sandbox = spec::sandbox_id(&container.id).ok_or_else(missing)?;
        if container.run == 0 {
            // It has no sandbox yet, and so no layer to write to.
            return Err(missing());
        }
        let spec = spec::container(&container, &image)?.ok_or_else(missing)?;
        Ok(CopyRoot::Stopped { sandbox, spec: Box::new(spec) })
    }

    /// The container's output, of all runs that are still there.
    pub fn logs(&self, given: &str, options: LogOptions) -> Result<mpsc::Receiver<LogLine>, ContainersError> {
        let container = self.find(given)?;
        let (sender, receiver) = mpsc::channel(LINES_QUEUED_MAX);
        let readers = Arc::clone(self.0.attached.lock().entry(container.id.clone()).or_default());
        let place = Place::take(readers);
        let containers = self.clone();
        tokio::spawn(async move {
            // A reader that has gone away ends it.
            let _ = containers.pump_logs(&container, options, &sender).await;
            drop(place);
        });
        Ok(receiver)
    }

    async fn pump_logs(
        &self,
        container: &Container,
        options: LogOptions,
        to: &mpsc::Sender<LogLine>,
    ) -> Result<(), Ended> {
        let mut events = self.0.engine.events();
        let mut last: VecDeque<LogLine> = VecDeque::new();
        let mut run = container.run.saturating_sub(8).max(1);
        let mut position: LogPosition = 0;
        let mut tailing = options.tail.map(|tail| tail.min(TAIL_LINES_MAX));
        loop {
            let newest = self.get(&container.id).map(|now| now.run).unwrap_or(run);
            let Some(engine_id) = spec::container_id(&container.id, run) else { return Ok(()) };
            let read = self.0.engine.read_log(&engine_id, position, LOG_BYTES).await;
            let (records, ended, missing) = match read {
                Ok(chunk) => {
                    position = chunk.next;
                    (chunk.records, chunk.ended, false)
                }
                Err(EngineError::NoContainer(_)) => (Vec::new(), true, true),
                Err(_) => return Err(Ended),
            };
            let progressed = !records.is_empty();
            for record in records {
                let at =
                    Timestamp::from_millis(i64::try_from(record.unix_nanos / 1_000_000).unwrap_or(i64::MAX));
                if options.since.is_some_and(|since| at < since) {
                    continue;
                }
                if options.until.is_some_and(|until| at > until) {
                    send_all(&mut last, to).await?;
                    return Ok(());
                }
                let line = LogLine {
                    unix_nanos: record.unix_nanos,
                    stream: record.stream,
                    text: record.text,
                    partial: record.partial,
                };
                match tailing {
                    Some(tail) => {
                        last.push_back(line);
                        if last.len() > tail {
                            last.pop_front();
                        }
                    }
                    None => to.send(line).await.map_err(|_| Ended)?,
                }
            }
            if progressed {
                continue;
            }
            // The end of this run's output, for now or for good.
            if ended && run < newest {
                (run, position) = (run + 1, 0);
                continue;
            }
            send_all(&mut last, to).await?;
            tailing = None;
            if ended || missing || !options.follow {
                return Ok(());
            }
            let woken = wait_for(&mut events, &engine_id);
            tokio::select! {
                _ = tokio::time::timeout(FOLLOW_LOOK, woken) => {}
                () = to.closed() => return Ok(()),
            }
        }
    }
}

struct Ended;

async fn send_all(lines: &mut VecDeque<LogLine>, to: &mpsc::Sender<LogLine>) -> Result<(), Ended> {
    for line in lines.drain(..) {
        to.send(line).await.map_err(|_| Ended)?;
    }
    Ok(())
}

/// Returns once there may be more output, or the end.
async fn wait_for(events: &mut wharf_engine::EventStream, container: &ContainerId) {
    loop {
        match events.recv().await {
            Ok(event) => {
                let matters = matches!(
                    event.kind,
                    EventKind::Logged { .. } | EventKind::Exited(_) | EventKind::Restarting { .. }
                );
                if event.container == *container && matters {
                    return;
                }
            }
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => return,
            // Nobody tells any more: looked at by the clock.
            Err(tokio::sync::broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}
