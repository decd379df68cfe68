//! A journal in memory, for tests and for the simulator: commits on the caller's thread, holds
//! nothing beyond the process. Clones share their content, so that a store can be opened again.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::history::{Direction, HistoryStats};
use crate::journal::{Batch, Change, Entry, Journal, JournalError, Visit};

#[derive(Clone, Default)]
pub struct MemoryJournal(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    revision: u64,
    records: BTreeMap<(String, Vec<u8>), Vec<u8>>,
    histories: BTreeMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl MemoryJournal {
    pub fn new() -> Self {
        Self::default()
    }
}

impl Journal for MemoryJournal {
    fn load(&self, visit: Visit<'_>) -> Result<u64, JournalError> {
        let content = self.0.lock();
        for ((table, key), value) in &content.records {
            visit(table, key, value)?;
        }
        Ok(content.revision)
    }

    fn commit(&self, batch: &Batch<'_>) -> Result<(), JournalError> {
        let mut content = self.0.lock();
        content.revision = batch.revision;
        for change in batch.changes {
            match change {
                Change::Put { table, key, value } => {
                    content.records.insert(((*table).to_owned(), key.to_vec()), value.clone());
                }
                Change::Delete { table, key } => {
                    content.records.remove(&((*table).to_owned(), key.to_vec()));
                }
                Change::Append { history, key, value } => {
                    content.histories.entry(history).or_default().insert(key.clone(), value.clone());
                }
                Change::Remove { history, key } => {
                    content.histories.entry(history).or_default().remove(key);
                }
            }
        }
        Ok(())
    }

    fn wipe(&self, revision: u64) -> Result<(), JournalError> {
        *self.0.lock() = Content { revision, ..Content::default() };
        Ok(())
    }

    fn history_get(&self, history: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        Ok(self.0.lock().histories.get(history).and_then(|entries| entries.get(key).cloned()))
    }

    fn history_range(
        &self,
        history: &'static str,
        low: Bound<&[u8]>,
        high: Bound<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, JournalError> {
        let content = self.0.lock();
        let Some(entries) = content.histories.get(history) else { return Ok(Vec::new()) };
        let found = entries.range::<[u8], _>((low, high)).map(|(key, value)| (key.clone(), value.clone()));
        Ok(match direction {
            Direction::Forward => found.take(limit).collect(),
            Direction::Backward => found.rev().take(limit).collect(),
        })
    }

    fn history_stats(&self, history: &'static str) -> Result<HistoryStats, JournalError> {
        let content = self.0.lock();
        let mut stats = HistoryStats::default();
        for (key, value) in content.histories.get(history).into_iter().flatten() {
            stats.entries += 1;
            stats.bytes += (key.len() + value.len()) as u64;
        }
        Ok(stats)
    }

    fn commits_inline(&self) -> bool {
        true
    }
}
