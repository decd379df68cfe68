//! Gives back the space of deleted streams and of expired events, in bounded steps.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use wharf_state::{TransactError, Transaction};

use crate::records::{DoomedStream, LogGroup, LogStream};
use crate::{Logs, events};

/// Retention is looked after this often; what expires in between is hidden from readers already.
const INTERVAL: Duration = Duration::from_secs(10 * 60);
/// The events that one step deletes.
const STEP_EVENTS: usize = 2_000;

type Swept = Result<(), TransactError<Infallible>>;

impl Logs {
    /// Sweeps for as long as the task lives: at once, when something was deleted, and from time to
    /// time.
    pub async fn sweep_forever(self: Arc<Self>) {
        loop {
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "log events could not be swept; the next round tries again");
            }
            // Either wakes it; a deadline that passes is no error.
            let _ = tokio::time::timeout(INTERVAL, self.swept.notified()).await;
        }
    }

    /// One round.
    pub async fn sweep(&self) -> Swept {
        let history = self.store.history(events::HISTORY);
        let snapshot = self.store.snapshot();
        for doomed in snapshot.range::<DoomedStream>(..) {
            while history.delete_prefix(&events::stream_prefix(doomed.id), STEP_EVENTS).await?.more {}
            self.store
                .transact(|transaction: &mut Transaction<'_>| {
                    transaction.delete::<DoomedStream>(&doomed.id);
                    Ok::<_, Infallible>(())
                })
                .await?;
        }
        let now = self.clock.now();
        for group in snapshot.range::<LogGroup>(..) {
            let Some(expired_before) = group.expired_before(now) else { continue };
            for stream in snapshot.prefix::<LogStream>(&group.streams_prefix()) {
                if stream.first_event.is_some_and(|first| first < expired_before) {
                    self.expire(&stream, expired_before).await?;
                }
            }
        }
        Ok(())
    }

    async fn expire(&self, stream: &LogStream, expired_before: i64) -> Swept {
        use wharf_state::Record as _;
        let history = self.store.history(events::HISTORY);
        while history.delete_range(events::before(stream.id, expired_before), STEP_EVENTS).await?.more {}
        let key = stream.key();
        self.store
            .transact(|transaction: &mut Transaction<'_>| {
                if let Some(stream) = transaction.get::<LogStream>(&key) {
                    let mut stream = LogStream::clone(&stream);
                    stream.first_event = stream.first_event.map(|first| first.max(expired_before));
                    if stream.last_event.is_some_and(|last| last < expired_before) {
                        (stream.first_event, stream.last_event, stream.stored_bytes) = (None, None, 0);
                    }
                    transaction.put(stream);
                }
                Ok::<_, Infallible>(())
            })
            .await
    }
}
