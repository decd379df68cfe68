//! The store against a model made of `BTreeMap`s, under random transactions, wipes and reopens.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use wharf_state::{
    Direction, FjallJournal, Index, Journal, Key as _, MemoryJournal, Record, Snapshot, Store,
};

type RowKey = (String, u64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    group: String,
    id: u64,
    labels: Vec<String>,
}

impl Record for Row {
    const TABLE: &'static str = "row";
    const VERSION: u32 = 1;
    type Key = RowKey;

    fn key(&self) -> RowKey {
        (self.group.clone(), self.id)
    }

    fn indexes() -> &'static [Index<Self>] {
        // The raw bytes of a label tell no end: the index must keep "a" + "b…" and "ab" + "…" apart itself.
        &[
            Index {
                name: "by_label",
                keys: |row| row.labels.iter().map(|label| label.clone().into_bytes()).collect(),
            },
            Index { name: "by_id", keys: |row| vec![row.id.to_bytes()] },
        ]
    }
}

#[derive(Clone, Debug)]
enum Change {
    Put(Row),
    Delete(RowKey),
    Append(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Change>),
    Abort(Vec<Change>),
    Wipe,
    Reopen,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    rows: BTreeMap<RowKey, Row>,
    log: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Model {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Put(row) => {
                self.rows.insert(row.key(), row);
            }
            Change::Delete(key) => {
                self.rows.remove(&key);
            }
            Change::Append(key, value) => {
                self.log.insert(key, value);
            }
            Change::Remove(key) => {
                self.log.remove(&key);
            }
        }
    }

    fn by_label(&self, prefix: &str) -> Vec<Row> {
        let mut found: Vec<_> = self
            .rows
            .values()
            .flat_map(|row| row.labels.iter().map(move |label| (label.as_bytes(), row.key(), row)))
            .filter(|(label, ..)| label.starts_with(prefix.as_bytes()))
            .collect();
        found.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        found.dedup_by(|a, b| (a.0, &a.1) == (b.0, &b.1));
        found.into_iter().map(|(.., row)| row.clone()).collect()
    }

    fn check_rows(&self, snapshot: &Snapshot, bounds: (Bound<RowKey>, Bound<RowKey>), prefix: &str) {
        let all: Vec<_> = self.rows.values().cloned().collect();
        assert_eq!(owned(snapshot.range::<Row>(..)), all);
        assert_eq!(snapshot.count::<Row>(), all.len());
        let inside: Vec<_> = all.iter().filter(|row| contains(&bounds, &row.key())).cloned().collect();
        assert_eq!(owned(snapshot.range::<Row>(bounds.clone())), inside);
        let mut reversed = owned(snapshot.range::<Row>(bounds).rev());
        reversed.reverse();
        assert_eq!(reversed, inside);
        assert_eq!(owned(snapshot.index::<Row>("by_label", prefix.as_bytes())), self.by_label(prefix));
        assert_eq!(snapshot.index::<Row>("by_id", &[]).count(), all.len());
        for row in &all {
            assert_eq!(snapshot.get::<Row>(&row.key()).as_deref(), Some(row));
        }
    }

    fn check_log(&self, store: &Store, limit: usize, low: &[u8], high: &[u8]) {
        let history = store.history("log");
        let stats = history.stats().unwrap();
        let bytes: usize = self.log.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert_eq!((stats.entries, stats.bytes), (self.log.len() as u64, bytes as u64));
        let mut inside: Vec<_> = self
            .log
            .iter()
            .filter(|(key, _)| low <= key.as_slice() && key.as_slice() < high)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let range = low.to_vec()..high.to_vec();
        let forward: Vec<_> = inside.iter().take(limit).cloned().collect();
        assert_eq!(history.range(range.clone(), Direction::Forward, limit).unwrap(), forward);
        inside.reverse();
        inside.truncate(limit);
        assert_eq!(history.range(range, Direction::Backward, limit).unwrap(), inside);
        assert_eq!(history.get(low).unwrap().as_ref(), self.log.get(low));
        assert_eq!(history.range(.., Direction::Forward, usize::MAX).unwrap().len(), self.log.len());
    }
}

fn contains(bounds: &(Bound<RowKey>, Bound<RowKey>), key: &RowKey) -> bool {
    std::ops::RangeBounds::contains(bounds, key)
}

fn owned(rows: impl Iterator<Item = Arc<Row>>) -> Vec<Row> {
    rows.map(|row| (*row).clone()).collect()
}

fn text() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "\0", "\0\u{1}", "a", "a\0", "aa", "ab", "b", "\u{ff}"])
        .prop_map(str::to_owned)
}

fn key() -> impl Strategy<Value = RowKey> {
    (text(), 0..3u64)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0u8, 1, 0x7f, 0xff]), 0..3)
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let put = (key(), prop::collection::vec(text(), 0..3))
        .prop_map(|((group, id), labels)| Change::Put(Row { group, id, labels }));
    let change = prop_oneof![
        4 => put,
        2 => key().prop_map(Change::Delete),
        3 => (bytes(), bytes()).prop_map(|(key, value)| Change::Append(key, value)),
        1 => bytes().prop_map(Change::Remove),
    ];
    prop::collection::vec(change, 0..6)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => changes().prop_map(Step::Commit),
        3 => changes().prop_map(Step::Abort),
        1 => Just(Step::Wipe),
        2 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..24)
}

fn bound() -> impl Strategy<Value = Bound<RowKey>> {
    prop_oneof![Just(Bound::Unbounded), key().prop_map(Bound::Included), key().prop_map(Bound::Excluded)]
}

#[derive(Clone, Debug)]
struct Probe {
    bounds: (Bound<RowKey>, Bound<RowKey>),
    label: String,
    log: (usize, Vec<u8>, Vec<u8>),
}

fn probe() -> impl Strategy<Value = Probe> {
    ((bound(), bound()), text(), (0..5usize, bytes(), bytes())).prop_map(|(bounds, label, log)| Probe {
        bounds,
        label,
        log,
    })
}

fn run(steps: Vec<Step>, probe: &Probe, journal: impl Fn() -> Arc<dyn Journal>) {
    let open = || Store::builder(journal()).table::<Row>().history("lo").history("log").open().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut store = open();
    let mut model = Model::default();
    let mut revision = 0;
    let mut kept: Vec<(Snapshot, Model)> = Vec::new();
    for step in steps {
        match step {
            Step::Commit(changes) | Step::Abort(changes) if changes.is_empty() => {}
            Step::Commit(changes) => {
                let mut expected = model.clone();
                runtime
                    .block_on(store.transact(|transaction| {
                        let before = transaction.revision();
                        for change in changes {
                            // A deletion of nothing is not a change.
                            perform(transaction, &change);
                            expected.apply(change);
                            assert_eq!(
                                owned(transaction.range::<Row>(..)),
                                expected.rows.values().cloned().collect::<Vec<_>>()
                            );
                        }
                        assert_eq!(before, transaction.revision());
                        Ok::<_, Infallible>(())
                    }))
                    .unwrap();
                model = expected;
                let now = store.snapshot().revision();
                assert!(now == revision || now == revision + 1);
                revision = now;
            }
            Step::Abort(changes) => {
                let result = runtime.block_on(store.transact(|transaction| {
                    changes.iter().for_each(|change| perform(transaction, change));
                    Err::<(), _>(())
                }));
                assert!(result.is_err());
            }
            Step::Wipe => {
                runtime.block_on(store.wipe()).unwrap();
                model = Model::default();
                revision += 1;
            }
            Step::Reopen => {
                drop(store);
                store = open();
            }
        }
        assert_eq!(store.snapshot().revision(), revision);
        model.check_rows(&store.snapshot(), probe.bounds.clone(), &probe.label);
        model.check_log(&store, probe.log.0, &probe.log.1, &probe.log.2);
        kept.push((store.snapshot(), model.clone()));
    }
    for (snapshot, model) in kept {
        model.check_rows(&snapshot, probe.bounds.clone(), &probe.label);
    }
}

fn perform(transaction: &mut wharf_state::Transaction<'_>, change: &Change) {
    match change.clone() {
        Change::Put(row) => transaction.put(row),
        Change::Delete(key) => drop(transaction.delete::<Row>(&key)),
        Change::Append(key, value) => transaction.append("log", key, value),
        Change::Remove(key) => transaction.remove("log", key),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn the_store_does_as_the_model_in_memory(steps in steps(), probe in probe()) {
        let journal = MemoryJournal::new();
        run(steps, &probe, || Arc::new(journal.clone()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn the_store_does_as_the_model_on_disk(steps in steps(), probe in probe()) {
        let directory = tempfile::tempdir().unwrap();
        let open = |path: &Path| FjallJournal::open(path).unwrap();
        run(steps, &probe, || Arc::new(open(directory.path())));
    }
}
