//! The door to the disk: what a store asks of the thing that makes its transactions durable.
//!
//! A journal knows tables and histories by name and values as bytes; it never looks into them.

use std::error::Error;
use std::ops::Bound;

use crate::history::{Direction, HistoryStats};
use crate::map::KeyBytes;

/// One effect of a transaction. Later changes of the same key win over earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put { table: &'static str, key: KeyBytes, value: Vec<u8> },
    Delete { table: &'static str, key: KeyBytes },
    Append { history: &'static str, key: Vec<u8>, value: Vec<u8> },
    Remove { history: &'static str, key: Vec<u8> },
}

/// The changes of a group of transactions, in order. Durable together or not at all.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The revision of the last transaction in the group.
    pub revision: u64,
    pub changes: &'a [Change],
}

/// A history entry: key, value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Receives a stored record: table, key, value.
pub type Visit<'a> = &'a mut dyn FnMut(&str, &[u8], &[u8]) -> Result<(), JournalError>;

/// Makes batches durable and gives back what it holds.
pub trait Journal: Send + Sync + 'static {
    /// Shows every stored record, tables the caller does not know included, and returns the revision
    /// of the last durable batch (0 in a new journal).
    fn load(&self, visit: Visit<'_>) -> Result<u64, JournalError>;

    /// Writes a batch. `Ok` means that it is durable; `Err` means that no read shows any of it.
    fn commit(&self, batch: &Batch<'_>) -> Result<(), JournalError>;

    /// Empties every table and every history, all or nothing, and keeps `revision`.
    fn wipe(&self, revision: u64) -> Result<(), JournalError>;

    fn history_get(&self, history: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError>;

    /// At most `limit` durable entries within the bounds, in key order or against it.
    fn history_range(
        &self,
        history: &'static str,
        low: Bound<&[u8]>,
        high: Bound<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, JournalError>;

    fn history_stats(&self, history: &'static str) -> Result<HistoryStats, JournalError>;

    /// Whether [`Journal::commit`] is a matter of memory, so that the caller's own thread may do it:
    /// what the simulator needs to stay deterministic.
    fn commits_inline(&self) -> bool {
        false
    }
}

/// Why the journal did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// There was no room, and nothing was written. The journal goes on once there is room.
    #[error("no space left for the journal: {available} bytes are free, {needed} are needed")]
    Full { available: u64, needed: u64 },
    /// A write or an fsync failed; what the disk holds is in doubt until the store is opened again.
    #[error("the journal failed; nothing can be written until the store is opened again")]
    Broken(#[source] Box<dyn Error + Send + Sync>),
    /// A read failed. Nothing was written.
    #[error("the journal could not be read")]
    Read(#[source] Box<dyn Error + Send + Sync>),
    /// What is stored is not what this build can read. Nothing was changed.
    #[error("the record {key} of the table {table:?} cannot be read")]
    Record {
        table: String,
        /// The encoded key, printable bytes as they are.
        key: String,
        #[source]
        source: crate::record::DecodeError,
    },
}

impl JournalError {
    /// Whether the journal may take later batches.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Read(_))
    }
}
