//! What grows without bound: entries on disk in key order, never held in memory.
//!
//! Entries are written by [`crate::Transaction::append`] and [`crate::Transaction::remove`], in one
//! piece with the records of the same transaction. Reads here go to the disk and block for as long
//! as that takes: some microseconds from the cache, a disk read otherwise. Call them through
//! `spawn_blocking` where the range is large.

use std::convert::Infallible;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use crate::journal::{Entry, Journal, JournalError};
use crate::map::Bounds;
use crate::store::Store;
use crate::transaction::TransactError;

/// From which end a range is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

/// The size of a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryStats {
    pub entries: u64,
    /// Of keys and values, before compression.
    pub bytes: u64,
}

/// What one bounded step of a deletion did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    pub entries: usize,
    /// Whether the limit was reached, so that there may be more to delete.
    pub more: bool,
}

/// One history of a store.
#[derive(Clone)]
pub struct History {
    pub(crate) store: Store,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) name: &'static str,
}

impl History {
    /// # Errors
    /// When the disk cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        self.journal.history_get(self.name, key)
    }

    /// At most `limit` entries within `bounds`, as (key, value), from the end that `direction` says.
    /// Bounds are byte strings: `low..high` of `Vec<u8>`, or a pair of [`Bound`]s.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn range(
        &self,
        bounds: impl RangeBounds<Vec<u8>>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, JournalError> {
        self.read(
            &Bounds { low: bounds.start_bound().cloned(), high: bounds.end_bound().cloned() },
            direction,
            limit,
        )
    }

    /// At most `limit` entries whose keys begin with `prefix`.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn prefix(
        &self,
        prefix: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, JournalError> {
        self.read(&Bounds::prefix(prefix.to_vec()), direction, limit)
    }

    /// # Errors
    /// When the disk cannot be read.
    pub fn stats(&self) -> Result<HistoryStats, JournalError> {
        self.journal.history_stats(self.name)
    }

    /// Deletes the first entries within `bounds`, `limit` at most, in a transaction of its own.
    /// Retention calls it until there is no more.
    ///
    /// # Errors
    /// When the disk cannot be read or written.
    pub async fn delete_range(
        &self,
        bounds: impl RangeBounds<Vec<u8>>,
        limit: usize,
    ) -> Result<Deleted, TransactError<Infallible>> {
        self.delete(Bounds { low: bounds.start_bound().cloned(), high: bounds.end_bound().cloned() }, limit)
            .await
    }

    /// Deletes the first entries whose keys begin with `prefix`, `limit` at most.
    ///
    /// # Errors
    /// When the disk cannot be read or written.
    pub async fn delete_prefix(
        &self,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Deleted, TransactError<Infallible>> {
        self.delete(Bounds::prefix(prefix.to_vec()), limit).await
    }

    async fn delete(&self, bounds: Bounds, limit: usize) -> Result<Deleted, TransactError<Infallible>> {
        let entries = self
            .read(&bounds, Direction::Forward, limit)
            .map_err(|error| TransactError::Journal(Arc::new(error)))?;
        let deleted = Deleted { entries: entries.len(), more: entries.len() == limit };
        if deleted.entries > 0 {
            self.store
                .transact(|transaction| {
                    for (key, _) in entries {
                        transaction.remove(self.name, key);
                    }
                    Ok(())
                })
                .await?;
        }
        Ok(deleted)
    }

    fn read(&self, bounds: &Bounds, direction: Direction, limit: usize) -> Result<Vec<Entry>, JournalError> {
        if bounds.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        let (low, high): (Bound<&[u8]>, Bound<&[u8]>) = (bounds.start_bound(), bounds.end_bound());
        self.journal.history_range(self.name, low, high, direction, limit)
    }
}
