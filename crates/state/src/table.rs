//! Tables without their record types: rows by encoded key, and the indexes beside them.
//!
//! A row is an `Arc<dyn Any>`; the typed faces ([`crate::Snapshot`], [`crate::Transaction`]) put the
//! type back. Index entries are (index key, escaped) followed by the record's own key.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

use crate::key::{Key as _, escape, escape_open};
use crate::map::{Bounds, KeyBytes, Map};
use crate::record::{self, DecodeError, Record};

pub(crate) type Row = Arc<dyn Any + Send + Sync>;

/// What a store must know of a record type to keep rows of it.
pub(crate) struct Spec {
    pub name: &'static str,
    pub type_id: TypeId,
    indexes: Vec<&'static str>,
    /// The keys of a row in every index, in the order of `indexes`.
    index_keys: fn(&Row) -> Vec<Vec<Vec<u8>>>,
    pub decode: fn(key: &[u8], value: &[u8]) -> Result<Row, DecodeError>,
}

impl Spec {
    pub fn of<R: Record>() -> Self {
        Self {
            name: R::TABLE,
            type_id: TypeId::of::<R>(),
            indexes: R::indexes().iter().map(|index| index.name).collect(),
            index_keys: |row| match row.downcast_ref::<R>() {
                Some(record) => R::indexes().iter().map(|index| (index.keys)(record)).collect(),
                None => Vec::new(),
            },
            decode: |key, value| Ok(Arc::new(record::decode::<R>(key, value)?)),
        }
    }

    /// # Panics
    /// When the record type has no index of that name.
    pub fn index(&self, name: &str) -> usize {
        self.indexes
            .iter()
            .position(|index| *index == name)
            .unwrap_or_else(|| panic!("the table {:?} has no index {name:?}", self.name))
    }

    fn index_entries(&self, row: &Row, key: &[u8]) -> Vec<Vec<KeyBytes>> {
        if self.indexes.is_empty() {
            return Vec::new();
        }
        let keys_of_all = (self.index_keys)(row);
        keys_of_all
            .into_iter()
            .map(|keys| keys.iter().map(|index_key| index_entry(index_key, key)).collect())
            .collect()
    }
}

fn index_entry(index_key: &[u8], key: &[u8]) -> KeyBytes {
    let mut out = Vec::with_capacity(index_key.len() + key.len() + 8);
    escape(index_key, &mut out);
    out.extend_from_slice(key);
    out.into()
}

/// The tables and histories that a store was built with.
pub(crate) struct Registry {
    pub tables: Vec<Spec>,
    pub by_type: HashMap<TypeId, usize>,
    pub histories: Vec<&'static str>,
}

impl Registry {
    /// # Panics
    /// When the store was built without this table: a mistake in the wiring.
    pub fn table<R: Record>(&self) -> usize {
        *self
            .by_type
            .get(&TypeId::of::<R>())
            .unwrap_or_else(|| panic!("the store was built without the table {:?}", R::TABLE))
    }

    /// # Panics
    /// When the store was built without this history: a mistake in the wiring.
    pub fn history(&self, name: &str) -> &'static str {
        self.histories
            .iter()
            .find(|history| **history == name)
            .unwrap_or_else(|| panic!("the store was built without the history {name:?}"))
    }
}

#[derive(Clone)]
pub(crate) struct Table {
    pub rows: Map<Row>,
    indexes: Vec<Map<Row>>,
}

impl Table {
    pub fn new(spec: &Spec) -> Self {
        Self { rows: Map::new(), indexes: spec.indexes.iter().map(|_| Map::new()).collect() }
    }

    pub fn put(&mut self, spec: &Spec, key: KeyBytes, row: Row) {
        let fresh = spec.index_entries(&row, &key);
        if !fresh.is_empty()
            && let Some(old) = self.rows.get(&key)
        {
            // An update rarely moves a row within an index; entries that stay are overwritten below.
            let stale = spec.index_entries(old, &key);
            for ((index, stale), fresh) in self.indexes.iter_mut().zip(stale).zip(&fresh) {
                for entry in stale.iter().filter(|entry| !fresh.contains(entry)) {
                    index.remove(entry);
                }
            }
        }
        for (index, entries) in self.indexes.iter_mut().zip(fresh) {
            for entry in entries {
                index.insert(entry, Arc::clone(&row));
            }
        }
        self.rows.insert(key, row);
    }

    /// Whether there was such a row.
    pub fn delete(&mut self, spec: &Spec, key: &[u8]) -> bool {
        let Some(old) = self.rows.get(key) else { return false };
        for (index, entries) in self.indexes.iter_mut().zip(spec.index_entries(old, key)) {
            for entry in entries {
                index.remove(&entry);
            }
        }
        self.rows.remove(key)
    }

    pub fn index(&self, index: usize, prefix: &[u8]) -> impl DoubleEndedIterator<Item = &Row> + use<'_> {
        let mut escaped = Vec::with_capacity(prefix.len() + 8);
        escape_open(prefix, &mut escaped);
        self.indexes[index].range(Bounds::prefix(escaped)).map(|(_, row)| row)
    }
}

/// Every table at one revision. Cloning shares all rows.
#[derive(Clone)]
pub(crate) struct State {
    pub revision: u64,
    pub tables: Vec<Arc<Table>>,
}

impl State {
    pub fn empty(registry: &Registry, revision: u64) -> Self {
        Self { revision, tables: registry.tables.iter().map(|spec| Arc::new(Table::new(spec))).collect() }
    }

    pub fn get<R: Record>(&self, table: usize, key: &R::Key) -> Option<Arc<R>> {
        typed(self.tables[table].rows.get(&key.to_bytes())?)
    }
}

pub(crate) fn typed<R: Record>(row: &Row) -> Option<Arc<R>> {
    Arc::clone(row).downcast().ok()
}
