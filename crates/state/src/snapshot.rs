//! A view of all tables at one durable revision.

use std::ops::RangeBounds;
use std::sync::Arc;

use crate::key::Key;
use crate::map::Bounds;
use crate::record::Record;
use crate::table::{Registry, State, typed};

/// Every table as it was after one transaction. A clone is two pointers; a snapshot that is kept
/// keeps the rows it shows in memory.
#[derive(Clone)]
pub struct Snapshot {
    pub(crate) registry: Arc<Registry>,
    pub(crate) state: Arc<State>,
}

pub(crate) fn encoded_bounds<K: Key>(bounds: &impl RangeBounds<K>) -> Bounds {
    Bounds { low: bounds.start_bound().map(Key::to_bytes), high: bounds.end_bound().map(Key::to_bytes) }
}

/// Every method panics when the store was built without the table, or the table has no index of the
/// name: mistakes in the wiring.
impl Snapshot {
    /// The number of the last transaction that this snapshot holds.
    pub fn revision(&self) -> u64 {
        self.state.revision
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

    /// The records whose encoded keys begin with `prefix`, in key order: `scope.to_bytes()` for all
    /// of a scope.
    pub fn prefix<R: Record>(&self, prefix: &[u8]) -> impl DoubleEndedIterator<Item = Arc<R>> + use<'_, R> {
        self.rows(Bounds::prefix(prefix.to_vec()))
    }

    /// The records with an index key that begins with `prefix`, in the order of (index key, key). A
    /// record with several such keys comes several times.
    pub fn index<R: Record>(
        &self,
        index: &str,
        prefix: &[u8],
    ) -> impl DoubleEndedIterator<Item = Arc<R>> + use<'_, R> {
        let table = self.registry.table::<R>();
        let index = self.registry.tables[table].index(index);
        self.state.tables[table].index(index, prefix).filter_map(typed)
    }

    fn rows<R: Record>(&self, bounds: Bounds) -> impl DoubleEndedIterator<Item = Arc<R>> + use<'_, R> {
        self.state.tables[self.registry.table::<R>()].rows.range(bounds).filter_map(|(_, row)| typed(row))
    }
}
