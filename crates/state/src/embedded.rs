//! The embedded journal: an LSM tree (`fjall`) in a data directory.
//!
//! Two keyspaces, one atomic batch and one `fdatasync` for each group of transactions:
//!
//! ```text
//! records   'm' name                       → revision, epoch, the sizes of the histories
//!           'r' epoch table 00 key         → record
//! history   epoch history 00 key           → entry
//! ```
//!
//! An open costs what fjall's own log holds, which it reads whole and gives up at 64 MB only: 2 ms when
//! it is short, some 10 ms for each of its MB.
//!
//! A wipe is one small batch that raises the epoch; what older epochs left is deleted behind it in
//! bounded steps, and the next open goes on with that if it was interrupted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use parking_lot::{Mutex, RwLock};

use crate::directory::{Directory, DirectoryError};
use crate::history::{Direction, HistoryStats};
use crate::journal::{Batch, Change, Entry, Journal, JournalError, Visit};

/// Blocks of history files that are kept in memory. Records are read once, at open.
const CACHE_BYTES: u64 = 2 * 1024 * 1024;
/// Changes that are held in memory, for each of the two keyspaces, before they become a file.
const MEMTABLE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Journal files that are waiting for their changes to become files. The smallest that fjall takes.
const JOURNALS_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Flushing and compaction in the background.
const WORKER_THREADS: usize = 1;
const OPEN_FILES_MAX: usize = 128;
/// Free space below which writes are refused, so that the background work of what was accepted,
/// which cannot be refused, does not run out of it.
const FREE_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// Rows of an older epoch that one batch deletes.
const WIPE_ROWS_MAX: usize = 10_000;

const META: u8 = b'm';
const RECORD: u8 = b'r';
const META_REVISION: &[u8] = b"mrevision";
const META_EPOCH: &[u8] = b"mepoch";
const META_HISTORY: &[u8] = b"mhistory/";

/// See the module's documentation. One per data directory.
pub struct FjallJournal {
    database: Database,
    records: Keyspace,
    history: Keyspace,
    meta: RwLock<Meta>,
    /// Commits and wipes one at a time: the sizes of the histories depend on it.
    turn: Mutex<()>,
    path: PathBuf,
    /// Given up last.
    _directory: Directory,
}

#[derive(Clone, Default)]
struct Meta {
    revision: u64,
    epoch: u32,
    histories: HashMap<String, HistoryStats>,
}

impl FjallJournal {
    /// Opens the journal in `path`, and makes a new one when `path` is missing or empty.
    ///
    /// # Errors
    /// When another process has it open, when the directory is not a store's or of another format,
    /// when the journal is damaged.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let directory = Directory::open(path)?;
        let damaged =
            |error: fjall::Error| DirectoryError::Journal { path: path.to_owned(), source: error.into() };
        directory
            .make_journal(|path| open_database(path).map(drop))
            .map_err(|source| DirectoryError::Journal { path: path.to_owned(), source })?;
        let (database, records, history) = open_database(&directory.journal()).map_err(damaged)?;
        let meta = read_meta(&records).map_err(damaged)?;
        let journal = Self {
            path: directory.path().to_owned(),
            database,
            records,
            history,
            meta: RwLock::new(meta),
            turn: Mutex::new(()),
            _directory: directory,
        };
        journal.delete_older_epochs().map_err(damaged)?;
        Ok(journal)
    }

    /// Bytes on disk, the journal files included.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn disk_bytes(&self) -> Result<u64, JournalError> {
        self.database.disk_space().map_err(read_error)
    }

    fn refuse_when_full(&self, bytes: u64) -> Result<(), JournalError> {
        let stat =
            rustix::fs::statvfs(&self.path).map_err(|error| read_error(std::io::Error::from(error)))?;
        let available = stat.f_bavail.saturating_mul(stat.f_frsize);
        let needed = FREE_BYTES_MIN.saturating_add(bytes);
        if available < needed { Err(JournalError::Full { available, needed }) } else { Ok(()) }
    }

    fn batch(&self) -> OwnedWriteBatch {
        self.database.batch().durability(Some(PersistMode::SyncData))
    }

    /// The size of a history's entry on disk, if there is one.
    fn entry_bytes(&self, key: &[u8], prefix: usize) -> Result<Option<u64>, JournalError> {
        let value = self.history.size_of(key).map_err(read_error)?;
        Ok(value.map(|value| (key.len() - prefix) as u64 + u64::from(value)))
    }

    fn delete_older_epochs(&self) -> Result<(), fjall::Error> {
        let epoch = self.meta.read().epoch;
        let older_records = (record_prefix(0), record_prefix(epoch));
        let older_history = (0u32.to_be_bytes().to_vec(), epoch.to_be_bytes().to_vec());
        for (keyspace, (low, high)) in [(&self.records, older_records), (&self.history, older_history)] {
            loop {
                let mut batch = self.batch();
                for row in keyspace.range(low.clone()..high.clone()).take(WIPE_ROWS_MAX) {
                    batch.remove(keyspace, row.key()?);
                }
                if batch.is_empty() {
                    break;
                }
                batch.commit()?;
            }
        }
        Ok(())
    }
}

fn open_database(path: &Path) -> Result<(Database, Keyspace, Keyspace), fjall::Error> {
    let database = Database::builder(path)
        .cache_size(CACHE_BYTES)
        .max_cached_files(Some(OPEN_FILES_MAX))
        .max_journaling_size(JOURNALS_BYTES_MAX)
        .worker_threads(WORKER_THREADS)
        .manual_journal_persist(true)
        .open()?;
    let options = || {
        KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES_MAX).manual_journal_persist(true)
    };
    let records = database.keyspace("records", options)?;
    let history = database.keyspace("history", options)?;
    // A new keyspace must not be younger on disk than the rows that are acknowledged in it.
    database.persist(PersistMode::SyncAll)?;
    Ok((database, records, history))
}

fn read_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> JournalError {
    JournalError::Read(error.into())
}

fn broken(error: fjall::Error) -> JournalError {
    JournalError::Broken(error.into())
}

fn record_prefix(epoch: u32) -> Vec<u8> {
    let mut out = vec![RECORD];
    out.extend_from_slice(&epoch.to_be_bytes());
    out
}

fn record_key(epoch: u32, table: &str, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(6 + table.len() + key.len());
    out.push(RECORD);
    out.extend_from_slice(&epoch.to_be_bytes());
    out.extend_from_slice(table.as_bytes());
    out.push(0);
    out.extend_from_slice(key);
    out
}

fn history_key(epoch: u32, history: &str, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(5 + history.len() + key.len());
    out.extend_from_slice(&epoch.to_be_bytes());
    out.extend_from_slice(history.as_bytes());
    out.push(0);
    out.extend_from_slice(key);
    out
}

fn meta_history_key(history: &str) -> Vec<u8> {
    [META_HISTORY, history.as_bytes()].concat()
}

fn stats_value(stats: HistoryStats) -> Vec<u8> {
    [stats.entries.to_be_bytes(), stats.bytes.to_be_bytes()].concat()
}

fn read_meta(records: &Keyspace) -> Result<Meta, fjall::Error> {
    let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |chunk| u64::from_be_bytes(*chunk));
    let mut meta = Meta::default();
    for row in records.prefix([META]) {
        let (key, value) = row.into_inner()?;
        if &*key == META_REVISION {
            meta.revision = number(&value);
        } else if &*key == META_EPOCH {
            meta.epoch = u32::try_from(number(&value)).unwrap_or(u32::MAX);
        } else if let Some(history) = key.strip_prefix(META_HISTORY) {
            let stats =
                HistoryStats { entries: number(&value), bytes: number(value.get(8..).unwrap_or_default()) };
            meta.histories.insert(String::from_utf8_lossy(history).into_owned(), stats);
        }
    }
    Ok(meta)
}

impl Journal for FjallJournal {
    fn load(&self, visit: Visit<'_>) -> Result<u64, JournalError> {
        let meta = self.meta.read();
        let prefix = record_prefix(meta.epoch);
        for row in self.records.prefix(&prefix) {
            let (key, value) = row.into_inner().map_err(read_error)?;
            let name_and_key = &key[prefix.len()..];
            let end = name_and_key.iter().position(|&byte| byte == 0);
            let table = end.and_then(|end| std::str::from_utf8(&name_and_key[..end]).ok());
            let (Some(end), Some(table)) = (end, table) else {
                return Err(read_error(format!("the row {} belongs to no table", key.escape_ascii())));
            };
            visit(table, &name_and_key[end + 1..], &value)?;
        }
        Ok(meta.revision)
    }

    fn commit(&self, batch: &Batch<'_>) -> Result<(), JournalError> {
        let _turn = self.turn.lock();
        let mut meta = self.meta.read().clone();
        meta.revision = batch.revision;

        // One batch is one point in time for fjall: a key may be in it once, and the last change is
        // the one that counts.
        let mut records: BTreeMap<Vec<u8>, Option<&[u8]>> = BTreeMap::new();
        let mut entries: BTreeMap<Vec<u8>, (&'static str, Option<&[u8]>)> = BTreeMap::new();
        for change in batch.changes {
            match change {
                Change::Put { table, key, value } => {
                    records.insert(record_key(meta.epoch, table, key), Some(value));
                }
                Change::Delete { table, key } => {
                    records.insert(record_key(meta.epoch, table, key), None);
                }
                Change::Append { history, key, value } => {
                    entries.insert(history_key(meta.epoch, history, key), (history, Some(value)));
                }
                Change::Remove { history, key } => {
                    entries.insert(history_key(meta.epoch, history, key), (history, None));
                }
            }
        }

        let mut write = self.batch();
        let mut bytes = 0;
        for (key, value) in records {
            bytes += (key.len() + value.map_or(0, <[u8]>::len)) as u64;
            match value {
                Some(value) => write.insert(&self.records, key, value),
                None => write.remove(&self.records, key),
            }
        }
        let mut touched = HashSet::new();
        for (key, (history, value)) in entries {
            bytes += (key.len() + value.map_or(0, <[u8]>::len)) as u64;
            let prefix = history_key(meta.epoch, history, &[]).len();
            let before = self.entry_bytes(&key, prefix)?;
            let after = value.map(|value| (key.len() - prefix + value.len()) as u64);
            let stats = meta.histories.entry(history.to_owned()).or_default();
            stats.entries =
                (stats.entries + u64::from(after.is_some())).saturating_sub(u64::from(before.is_some()));
            stats.bytes = (stats.bytes + after.unwrap_or(0)).saturating_sub(before.unwrap_or(0));
            touched.insert(history);
            match value {
                Some(value) => write.insert(&self.history, key, value),
                None if before.is_some() => write.remove(&self.history, key),
                None => {}
            }
        }
        for history in touched {
            write.insert(&self.records, meta_history_key(history), stats_value(meta.histories[history]));
        }
        write.insert(&self.records, META_REVISION, meta.revision.to_be_bytes());

        self.refuse_when_full(bytes)?;
        write.commit().map_err(broken)?;
        *self.meta.write() = meta;
        Ok(())
    }

    fn wipe(&self, revision: u64) -> Result<(), JournalError> {
        let _turn = self.turn.lock();
        // No check for space: a wipe is how space is made.
        let old = self.meta.read().clone();
        let fresh = Meta { revision, epoch: old.epoch + 1, histories: HashMap::new() };
        let mut write = self.batch();
        for history in old.histories.keys() {
            write.remove(&self.records, meta_history_key(history));
        }
        write.insert(&self.records, META_EPOCH, u64::from(fresh.epoch).to_be_bytes());
        write.insert(&self.records, META_REVISION, fresh.revision.to_be_bytes());
        write.commit().map_err(broken)?;
        *self.meta.write() = fresh;
        if let Err(error) = self.delete_older_epochs() {
            // The wipe is done; only its garbage is still there, and the next open deletes it.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "what a wipe left behind could not be deleted"
            );
        }
        Ok(())
    }

    fn history_get(&self, history: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        let key = history_key(self.meta.read().epoch, history, key);
        Ok(self.history.get(key).map_err(read_error)?.map(|value| value.to_vec()))
    }

    fn history_range(
        &self,
        history: &'static str,
        low: Bound<&[u8]>,
        high: Bound<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, JournalError> {
        let epoch = self.meta.read().epoch;
        let prefix = history_key(epoch, history, &[]);
        let inside = |key: &[u8]| history_key(epoch, history, key);
        let low = match low {
            Bound::Unbounded => Bound::Included(prefix.clone()),
            bound => bound.map(inside),
        };
        let high = match high {
            Bound::Unbounded => {
                // The name ends with 00, so this is the first key behind the history.
                let mut behind = prefix.clone();
                behind.pop();
                behind.push(1);
                Bound::Excluded(behind)
            }
            bound => bound.map(inside),
        };
        let mut rows = self.history.range::<Vec<u8>, _>((low, high));
        let mut found = Vec::new();
        while found.len() < limit {
            let row = match direction {
                Direction::Forward => rows.next(),
                Direction::Backward => rows.next_back(),
            };
            let Some(row) = row else { break };
            let (key, value) = row.into_inner().map_err(read_error)?;
            found.push((key[prefix.len()..].to_vec(), value.to_vec()));
        }
        Ok(found)
    }

    fn history_stats(&self, history: &'static str) -> Result<HistoryStats, JournalError> {
        Ok(self.meta.read().histories.get(history).copied().unwrap_or_default())
    }
}
