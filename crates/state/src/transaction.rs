//! What a transaction's closure sees and does.

use std::ops::RangeBounds;
use std::sync::Arc;

use wharf_core::ApiError;

use crate::journal::{Change, JournalError};
use crate::key::Key as _;
use crate::map::{Bounds, KeyBytes};
use crate::record::{self, Record};
use crate::snapshot::encoded_bounds;
use crate::table::{Registry, State, typed};

/// The longest encoded key of a record or a history entry.
pub(crate) const KEY_BYTES_MAX: usize = 8 * 1024;
/// The largest encoded record or history value.
pub(crate) const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The newest state, with this transaction's own writes.
pub struct Transaction<'store> {
    pub(crate) registry: &'store Registry,
    pub(crate) state: State,
    pub(crate) changes: Vec<Change>,
    /// The first write that could not be accepted; it fails the transaction.
    pub(crate) refused: Option<Refused>,
}

/// Why a write was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("an encoded key has at most {KEY_BYTES_MAX} bytes")]
    Key,
    #[error("an encoded value has at most {VALUE_BYTES_MAX} bytes")]
    Value,
    #[error("a record of the table {table:?} cannot be encoded")]
    Encode {
        table: &'static str,
        #[source]
        source: rmp_serde::encode::Error,
    },
}

/// Why a transaction did not happen.
#[derive(Debug, thiserror::Error)]
pub enum TransactError<E> {
    /// The closure's own error. Nothing was written.
    #[error("the transaction was aborted")]
    Aborted(E),
    /// A write of the closure was too large or could not be encoded. Nothing was written.
    #[error("the transaction was refused")]
    Refused(#[source] Refused),
    /// The journal could not make it durable; nothing of it is visible. See [`JournalError`] for
    /// what that means for later transactions.
    #[error("the transaction could not be made durable")]
    Journal(#[source] Arc<JournalError>),
    /// The store was closed before the transaction was durable.
    #[error("the store is closed")]
    Closed,
}

impl<E> TransactError<E> {
    /// The closure's error, or what `otherwise` makes of a failure of the store.
    pub fn aborted_or(self, otherwise: impl FnOnce(TransactError<std::convert::Infallible>) -> E) -> E {
        match self {
            Self::Aborted(error) => error,
            Self::Refused(refused) => otherwise(TransactError::Refused(refused)),
            Self::Journal(error) => otherwise(TransactError::Journal(error)),
            Self::Closed => otherwise(TransactError::Closed),
        }
    }
}

/// What a handler answers: its own error as it is, anything else as an internal failure.
impl From<TransactError<ApiError>> for ApiError {
    fn from(error: TransactError<ApiError>) -> Self {
        error.aborted_or(ApiError::internal)
    }
}

/// Every method panics when the store was built without the table, the history or the index: mistakes
/// in the wiring.
impl Transaction<'_> {
    /// The revision that this transaction gets if it writes.
    pub fn revision(&self) -> u64 {
        self.state.revision + 1
    }

    pub fn get<R: Record>(&self, key: &R::Key) -> Option<Arc<R>> {
        self.state.get(self.registry.table::<R>(), key)
    }

    /// The number of records.
    pub fn count<R: Record>(&self) -> usize {
        self.state.tables[self.registry.table::<R>()].rows.len()
    }

    /// The records within the bounds, in key order.
    pub fn range<R: Record>(
        &self,
        bounds: impl RangeBounds<R::Key>,
    ) -> impl DoubleEndedIterator<Item = Arc<R>> {
        self.rows(encoded_bounds(&bounds))
    }

    /// The records whose encoded keys begin with `prefix`, in key order.
    pub fn prefix<R: Record>(&self, prefix: &[u8]) -> impl DoubleEndedIterator<Item = Arc<R>> + use<'_, R> {
        self.rows(Bounds::prefix(prefix.to_vec()))
    }

    /// The records with an index key that begins with `prefix`, in the order of (index key, key).
    pub fn index<R: Record>(
        &self,
        index: &str,
        prefix: &[u8],
    ) -> impl DoubleEndedIterator<Item = Arc<R>> + use<'_, R> {
        let table = self.registry.table::<R>();
        let index = self.registry.tables[table].index(index);
        self.state.tables[table].index(index, prefix).filter_map(typed)
    }

    /// Writes a record, over the one with the same key if there is one. A record that cannot be
    /// encoded, or is too large, fails the transaction at its end.
    pub fn put<R: Record>(&mut self, record: R) {
        let table = self.registry.table::<R>();
        let key: KeyBytes = record.key().to_bytes().into();
        let value = match record::encode(&record) {
            Ok(value) => value,
            Err(source) => {
                self.refused.get_or_insert(Refused::Encode { table: R::TABLE, source });
                return;
            }
        };
        if !self.accepts(&key, &value) {
            return;
        }
        let rows = Arc::make_mut(&mut self.state.tables[table]);
        rows.put(&self.registry.tables[table], Arc::clone(&key), Arc::new(record));
        self.changes.push(Change::Put { table: R::TABLE, key, value });
    }

    /// Deletes a record; returns it if there was one.
    pub fn delete<R: Record>(&mut self, key: &R::Key) -> Option<Arc<R>> {
        let old = self.get::<R>(key)?;
        let table = self.registry.table::<R>();
        let key: KeyBytes = key.to_bytes().into();
        let rows = Arc::make_mut(&mut self.state.tables[table]);
        rows.delete(&self.registry.tables[table], &key);
        self.changes.push(Change::Delete { table: R::TABLE, key });
        Some(old)
    }

    /// Writes a history entry, over the one with the same key if there is one.
    pub fn append(&mut self, history: &str, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        let history = self.registry.history(history);
        let (key, value) = (key.into(), value.into());
        if self.accepts(&key, &value) {
            self.changes.push(Change::Append { history, key, value });
        }
    }

    /// Removes a history entry, if there is one.
    pub fn remove(&mut self, history: &str, key: impl Into<Vec<u8>>) {
        let history = self.registry.history(history);
        let key = key.into();
        if self.accepts(&key, &[]) {
            self.changes.push(Change::Remove { history, key });
        }
    }

    fn accepts(&mut self, key: &[u8], value: &[u8]) -> bool {
        let refused = if key.len() > KEY_BYTES_MAX {
            Refused::Key
        } else if value.len() > VALUE_BYTES_MAX {
            Refused::Value
        } else {
            return true;
        };
        self.refused.get_or_insert(refused);
        false
    }

    fn rows<R: Record>(&self, bounds: Bounds) -> impl DoubleEndedIterator<Item = Arc<R>> + use<'_, R> {
        self.state.tables[self.registry.table::<R>()].rows.range(bounds).filter_map(|(_, row)| typed(row))
    }
}
