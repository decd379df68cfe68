//! Records, tables, transactions, watches and history on a durable journal.
//!
//! # Flow
//!
//! ```text
//! transact(closure) ─ runs at once, alone, on the newest state ─▶ queue ─▶ committer ─▶ journal (one write, one fsync)
//!                                                                              │
//!                    caller is answered ◀─ watches told ◀─ snapshot published ◀┘
//! ```
//!
//! A [`Store`] holds every table in memory as a persistent sorted map, so that a [`Snapshot`] is a
//! pointer and costs nothing to keep. A transaction's closure sees the newest state, including
//! transactions that are still on their way to the disk, and its own writes. The committer takes all
//! transactions that wait, hands them to the [`Journal`] as one batch and answers them together.
//!
//! # Guarantees
//!
//! - **Durable**: [`Store::transact`] returns `Ok` only after the journal's fsync. An answer that
//!   rests on somebody else's unfinished transaction (a read-only transaction, an abort) waits for
//!   that transaction too, so that nobody is told of a state that a crash could take back.
//! - **Atomic**: all of a transaction is found after a crash, or nothing of it; records and history
//!   entries alike.
//! - **Serializable**: closures run one at a time; revisions number the transactions that wrote.
//! - **Honest reads**: snapshots, watches and history reads show durable transactions only, whole
//!   ones, in the order of their revisions. A snapshot that is taken after a watch told of a revision
//!   holds that revision.
//! - **Honest failures**: when the journal fails, every transaction that waits for it, and every one
//!   built upon it, gets [`TransactError::Journal`] and the newest state falls back to the durable
//!   one. After [`JournalError::Full`] nothing was written and later transactions may succeed.
//!   After any other failure the store refuses every write until it is opened again: the kernel
//!   reports a failed fsync once and may drop the pages, so a second fsync would prove nothing. What
//!   failed so is in doubt: after a reopen it is there whole or not at all.
//!
//! # Assumptions
//!
//! - Closures are quick and do no I/O: they hold the store's lock.
//! - Time, ids and randomness are captured by the closure as values; a store has no clock.
//! - Dropping the future of [`Store::transact`] after its first poll does not undo the transaction.
//!
//! This crate knows no AWS word and no service; it must not grow queries beyond key order.

#![forbid(unsafe_code)]

mod committer;
mod directory;
mod embedded;
mod history;
mod journal;
mod key;
mod map;
mod memory;
mod record;
mod snapshot;
mod store;
mod table;
mod transaction;
mod watch;

pub use directory::DirectoryError;
pub use embedded::FjallJournal;
pub use history::{Deleted, Direction, History, HistoryStats};
pub use journal::{Batch, Change, Entry, Journal, JournalError};
pub use key::Key;
pub use memory::MemoryJournal;
pub use record::{Index, Record, UpgradeError};
pub use snapshot::Snapshot;
pub use store::{Builder, OpenError, Store};
pub use transaction::{TransactError, Transaction};
pub use watch::{Changed, Watch, WatchError};
