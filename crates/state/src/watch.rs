//! Being told what changed, once it is durable.

use std::marker::PhantomData;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::key::Key;
use crate::map::KeyBytes;

/// How many transactions a watch may be behind before it is told to scan the table again.
const TRANSACTIONS_BEHIND_MAX: usize = 1024;

/// The records of one table that one transaction put or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed<K> {
    pub revision: u64,
    /// Each key once, in the order of the first change.
    pub keys: Vec<K>,
}

/// Why a watch has no change to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// Changes were missed, or the store was wiped: take a snapshot and scan the table. The next
    /// call goes on with what is newer than that.
    #[error("changes were missed, the table must be scanned again")]
    Lagged,
    #[error("the store is closed")]
    Closed,
}

/// Receives the changes of one table. Dropping it ends the watch.
///
/// Take the watch first and the snapshot second: what the snapshot lacks, the watch tells.
pub struct Watch<K> {
    receiver: broadcast::Receiver<Event>,
    key: PhantomData<fn() -> K>,
}

impl<K: Key> Watch<K> {
    /// Waits for the next transaction that changed the table. May be cancelled without loss.
    ///
    /// # Errors
    /// See [`WatchError`]; after `Lagged` the watch goes on.
    pub async fn recv(&mut self) -> Result<Changed<K>, WatchError> {
        let event = match self.receiver.recv().await {
            Ok(event) => event,
            Err(RecvError::Lagged(_)) => return Err(WatchError::Lagged),
            Err(RecvError::Closed) => return Err(WatchError::Closed),
        };
        match event {
            Event::Wiped => Err(WatchError::Lagged),
            Event::Changed { revision, keys } => {
                Ok(Changed { revision, keys: keys.iter().filter_map(|key| K::decode(key)).collect() })
            }
        }
    }
}

#[derive(Clone)]
enum Event {
    Changed { revision: u64, keys: Arc<[KeyBytes]> },
    Wiped,
}

/// The sending side: one channel a table, made when it is first watched.
pub(crate) struct Watches(RwLock<Vec<Option<broadcast::Sender<Event>>>>);

impl Watches {
    pub fn new(tables: usize) -> Self {
        Self(RwLock::new(vec![None; tables]))
    }

    pub fn watch<K: Key>(&self, table: usize) -> Watch<K> {
        let mut senders = self.0.write();
        let sender = senders[table].get_or_insert_with(|| broadcast::channel(TRANSACTIONS_BEHIND_MAX).0);
        Watch { receiver: sender.subscribe(), key: PhantomData }
    }

    pub fn tell(&self, table: usize, revision: u64, keys: impl FnOnce() -> Vec<KeyBytes>) {
        if let Some(sender) = &self.0.read()[table]
            && sender.receiver_count() > 0
        {
            // An error says that the last receiver has just gone.
            let _ = sender.send(Event::Changed { revision, keys: keys().into() });
        }
    }

    pub fn tell_wiped(&self) {
        for sender in self.0.read().iter().flatten() {
            let _ = sender.send(Event::Wiped);
        }
    }

    /// Ends every watch.
    pub fn close(&self) {
        self.0.write().fill(None);
    }
}
