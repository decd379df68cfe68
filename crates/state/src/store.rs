//! The store: building it, reading it, writing it, closing it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::committer::{Committer, Receipt};
use crate::history::History;
use crate::journal::{Journal, JournalError};
use crate::record::Record;
use crate::snapshot::Snapshot;
use crate::table::{Registry, Spec, State};
use crate::transaction::{TransactError, Transaction};
use crate::watch::Watch;

/// How many transactions may wait for the disk; more callers wait for their turn.
const TRANSACTIONS_WAITING_MAX: usize = 4096;

/// Names the tables and histories of a store before it is opened.
pub struct Builder {
    journal: Arc<dyn Journal>,
    tables: Vec<Spec>,
    histories: Vec<&'static str>,
}

/// Why a store could not be opened. Nothing on disk was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the table {0:?} was named twice")]
    TableTwice(&'static str),
    #[error("the history {0:?} was named twice")]
    HistoryTwice(&'static str),
    #[error("the stored state could not be loaded")]
    Journal(#[from] JournalError),
    #[error("the committer thread could not be started")]
    Thread(#[source] std::io::Error),
}

impl Builder {
    #[must_use]
    pub fn table<R: Record>(mut self) -> Self {
        self.tables.push(Spec::of::<R>());
        self
    }

    #[must_use]
    pub fn history(mut self, name: &'static str) -> Self {
        self.histories.push(name);
        self
    }

    /// Loads every record of the named tables. Records of tables that are not named stay on disk
    /// untouched.
    ///
    /// # Errors
    /// When a table is named twice, when the journal cannot be read, or when a record is malformed or
    /// newer than this build.
    pub fn open(self) -> Result<Store, OpenError> {
        self.check_names()?;
        let registry = Arc::new(Registry {
            by_type: self.tables.iter().enumerate().map(|(index, spec)| (spec.type_id, index)).collect(),
            tables: self.tables,
            histories: self.histories,
        });
        let mut state = State::empty(&registry, 0);
        let by_name: HashMap<&str, usize> =
            registry.tables.iter().enumerate().map(|(index, spec)| (spec.name, index)).collect();
        let mut rows_unknown = 0u64;
        state.revision = self.journal.load(&mut |table, key, value| {
            let Some(&index) = by_name.get(table) else {
                rows_unknown += 1;
                return Ok(());
            };
            let spec = &registry.tables[index];
            let row = (spec.decode)(key, value).map_err(|source| JournalError::Record {
                table: table.to_owned(),
                key: key.escape_ascii().to_string(),
                source,
            })?;
            Arc::make_mut(&mut state.tables[index]).put(spec, key.into(), row);
            Ok(())
        })?;
        if rows_unknown > 0 {
            tracing::warn!(rows_unknown, "the store holds records of tables that this build does not know");
        }

        let inline = self.journal.commits_inline();
        let committer = Arc::new(Committer::new(registry, self.journal, state));
        let thread = if inline {
            None
        } else {
            let committer = Arc::clone(&committer);
            let run = move || committer.run();
            Some(
                std::thread::Builder::new()
                    .name("wharf-committer".into())
                    .spawn(run)
                    .map_err(OpenError::Thread)?,
            )
        };
        Ok(Store(Arc::new(Shared {
            committer,
            waiting: Semaphore::new(TRANSACTIONS_WAITING_MAX),
            thread: Mutex::new(thread),
        })))
    }

    fn check_names(&self) -> Result<(), OpenError> {
        for (index, spec) in self.tables.iter().enumerate() {
            if self.tables[..index]
                .iter()
                .any(|earlier| earlier.name == spec.name || earlier.type_id == spec.type_id)
            {
                return Err(OpenError::TableTwice(spec.name));
            }
        }
        for (index, name) in self.histories.iter().enumerate() {
            if self.histories[..index].contains(name) {
                return Err(OpenError::HistoryTwice(name));
            }
        }
        Ok(())
    }
}

/// The state of everything that is alive. A clone is another handle; the last one to go waits for
/// the transactions that are on their way to the disk and closes the journal.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    committer: Arc<Committer>,
    waiting: Semaphore,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.committer.close();
        if let Some(thread) = self.thread.lock().take() {
            // A panic of the committer has been reported by its own hook.
            let _ = thread.join();
        }
    }
}

impl Store {
    pub fn builder(journal: Arc<dyn Journal>) -> Builder {
        Builder { journal, tables: Vec::new(), histories: Vec::new() }
    }

    /// The newest durable state.
    pub fn snapshot(&self) -> Snapshot {
        let committer = &self.0.committer;
        Snapshot { registry: Arc::clone(&committer.registry), state: committer.durable() }
    }

    /// Runs `closure` alone on the newest state and resolves when what it wrote, and all that it may
    /// have read, is durable. See the crate's documentation for the guarantees.
    ///
    /// # Errors
    /// [`TransactError::Aborted`] with the closure's own error; otherwise the store's.
    pub async fn transact<T, E>(
        &self,
        closure: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, TransactError<E>> {
        let Ok(_permit) = self.0.waiting.acquire().await else { return Err(TransactError::Closed) };
        let committer = &self.0.committer;
        let (answer, accepted, receipt) = committer.submit(|latest| {
            let mut transaction = Transaction {
                registry: &committer.registry,
                state: latest.clone(),
                changes: Vec::new(),
                refused: None,
            };
            let answer = closure(&mut transaction);
            let Transaction { state, changes, refused, .. } = transaction;
            match (answer, refused) {
                (Err(error), _) => (Err(TransactError::Aborted(error)), None),
                (Ok(_), Some(refused)) => (Err(TransactError::Refused(refused)), None),
                (Ok(value), None) => (Ok(value), (!changes.is_empty()).then_some((changes, state))),
            }
        });
        accepted.map_err(TransactError::Journal)?;
        settle(receipt).await?;
        answer.unwrap_or(Err(TransactError::Closed))
    }

    /// Empties every table and every history, durably and in one step. Watches are told to scan
    /// again.
    ///
    /// # Errors
    /// When the journal fails; the store is as it was.
    pub async fn wipe(&self) -> Result<(), TransactError<Infallible>> {
        let receipt = self.0.committer.submit_wipe().map_err(TransactError::Journal)?;
        settle(receipt).await
    }

    /// Tells the changes of a table from now on.
    pub fn watch<R: Record>(&self) -> Watch<R::Key> {
        let committer = &self.0.committer;
        committer.watches.watch(committer.registry.table::<R>())
    }

    /// # Panics
    /// When the store was built without this history: a mistake in the wiring.
    pub fn history(&self, name: &str) -> History {
        let committer = &self.0.committer;
        History {
            name: committer.registry.history(name),
            journal: Arc::clone(&committer.journal),
            store: self.clone(),
        }
    }
}

async fn settle<E>(receipt: Receipt) -> Result<(), TransactError<E>> {
    match receipt {
        Receipt::Now => Ok(()),
        Receipt::Later(receipt) => match receipt.await {
            Ok(durable) => durable.map_err(TransactError::Journal),
            Err(_) => Err(TransactError::Closed),
        },
    }
}
