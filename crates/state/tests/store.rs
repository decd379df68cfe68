//! The store's guarantees, seen from outside, on a journal in memory.

use std::convert::Infallible;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharf_state::{Direction, Index, Key as _, MemoryJournal, Record, Store, TransactError, WatchError};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Task {
    cluster: String,
    id: u64,
    status: String,
}

impl Record for Task {
    const TABLE: &'static str = "task";
    const VERSION: u32 = 1;
    type Key = (String, u64);

    fn key(&self) -> Self::Key {
        (self.cluster.clone(), self.id)
    }

    fn indexes() -> &'static [Index<Self>] {
        &[Index {
            name: "by_status",
            keys: |task| vec![(task.status.clone(), task.cluster.clone()).to_bytes()],
        }]
    }
}

fn task(cluster: &str, id: u64, status: &str) -> Task {
    Task { cluster: cluster.into(), id, status: status.into() }
}

fn open(journal: &MemoryJournal) -> Store {
    Store::builder(Arc::new(journal.clone())).table::<Task>().history("log-events").open().unwrap()
}

async fn put(store: &Store, tasks: &[Task]) {
    store
        .transact(|transaction| {
            tasks.iter().for_each(|task| transaction.put(task.clone()));
            Ok::<_, Infallible>(())
        })
        .await
        .unwrap();
}

fn ids(tasks: impl Iterator<Item = Arc<Task>>) -> Vec<u64> {
    tasks.map(|task| task.id).collect()
}

#[tokio::test]
async fn a_transaction_sees_its_own_writes_and_a_snapshot_keeps_what_it_saw() {
    let store = open(&MemoryJournal::new());
    let before = store.snapshot();
    let seen = store
        .transact(|transaction| {
            transaction.put(task("web", 1, "PENDING"));
            transaction.put(task("web", 1, "RUNNING"));
            transaction.put(task("web", 2, "RUNNING"));
            assert_eq!(transaction.delete::<Task>(&("web".into(), 2)).unwrap().id, 2);
            assert!(transaction.delete::<Task>(&("web".into(), 2)).is_none());
            assert_eq!(ids(transaction.index("by_status", &"PENDING".to_owned().to_bytes())), []);
            Ok::<_, Infallible>(transaction.get::<Task>(&("web".into(), 1)).unwrap().status.clone())
        })
        .await
        .unwrap();
    assert_eq!(seen, "RUNNING");
    assert_eq!((before.revision(), before.count::<Task>()), (0, 0));
    let after = store.snapshot();
    assert_eq!((after.revision(), after.count::<Task>()), (1, 1));
}

#[tokio::test]
async fn an_aborted_transaction_leaves_nothing() {
    let store = open(&MemoryJournal::new());
    let result = store
        .transact(|transaction| {
            transaction.put(task("web", 1, "PENDING"));
            transaction.append("log-events", b"k", b"v");
            Err::<(), _>("no")
        })
        .await;
    assert!(matches!(result, Err(TransactError::Aborted("no"))));
    assert_eq!(store.snapshot().revision(), 0);
    assert_eq!(store.history("log-events").stats().unwrap().entries, 0);
}

#[tokio::test]
async fn indexes_follow_updates_and_sort_by_index_key_then_key() {
    let store = open(&MemoryJournal::new());
    put(&store, &[task("web", 2, "RUNNING"), task("api", 9, "RUNNING"), task("web", 1, "STOPPED")]).await;
    let running = "RUNNING".to_owned().to_bytes();
    assert_eq!(ids(store.snapshot().index("by_status", &running)), [9, 2]);
    put(&store, &[task("web", 1, "RUNNING"), task("api", 9, "STOPPED")]).await;
    let snapshot = store.snapshot();
    assert_eq!(ids(snapshot.index("by_status", &running)), [1, 2]);
    assert_eq!(ids(snapshot.index::<Task>("by_status", &running).rev()), [2, 1]);
    assert_eq!(
        ids(snapshot.index("by_status", &("RUNNING".to_owned(), "web".to_owned()).to_bytes())),
        [1, 2]
    );
    assert_eq!(ids(snapshot.prefix(&"web".to_owned().to_bytes())), [1, 2]);
    assert_eq!(ids(snapshot.range(("web".to_owned(), 2)..)), [2]);
}

#[tokio::test]
async fn a_store_opened_again_holds_what_was_acknowledged() {
    let journal = MemoryJournal::new();
    let store = open(&journal);
    put(&store, &[task("web", 1, "RUNNING"), task("web", 2, "RUNNING")]).await;
    put(&store, &[task("web", 1, "STOPPED")]).await;
    drop(store);
    let store = open(&journal);
    let snapshot = store.snapshot();
    assert_eq!(snapshot.revision(), 2);
    assert_eq!(ids(snapshot.index("by_status", &"STOPPED".to_owned().to_bytes())), [1]);
}

#[tokio::test]
async fn a_watch_tells_revisions_in_order_and_a_snapshot_then_holds_them() {
    let store = open(&MemoryJournal::new());
    let mut watch = store.watch::<Task>();
    put(&store, &[task("web", 1, "PENDING"), task("web", 2, "PENDING"), task("web", 1, "RUNNING")]).await;
    store
        .transact(|transaction| {
            transaction.append("log-events", b"k", b"v");
            Ok::<_, Infallible>(())
        })
        .await
        .unwrap();
    put(&store, &[task("api", 3, "PENDING")]).await;
    let first = watch.recv().await.unwrap();
    assert_eq!((first.revision, first.keys), (1, vec![("web".into(), 1), ("web".into(), 2)]));
    let second = watch.recv().await.unwrap();
    assert_eq!((second.revision, second.keys), (3, vec![("api".into(), 3)]));
    assert!(store.snapshot().revision() >= 3);
    drop(store);
    assert_eq!(watch.recv().await, Err(WatchError::Closed));
}

#[tokio::test]
async fn a_slow_watch_is_told_to_scan_again_and_then_goes_on() {
    let store = open(&MemoryJournal::new());
    let mut watch = store.watch::<Task>();
    for id in 0..2000 {
        put(&store, &[task("web", id, "PENDING")]).await;
    }
    assert_eq!(watch.recv().await, Err(WatchError::Lagged));
    assert!(watch.recv().await.unwrap().revision > 1);
}

#[tokio::test]
async fn a_wipe_empties_tables_and_histories_and_tells_the_watches() {
    let journal = MemoryJournal::new();
    let store = open(&journal);
    put(&store, &[task("web", 1, "RUNNING")]).await;
    let mut watch = store.watch::<Task>();
    store.wipe().await.unwrap();
    assert_eq!(watch.recv().await, Err(WatchError::Lagged));
    put(&store, &[task("web", 2, "RUNNING")]).await;
    assert_eq!(watch.recv().await.unwrap().revision, 3);
    assert_eq!(ids(store.snapshot().prefix(b"")), [2]);
    drop(store);
    assert_eq!(ids(open(&journal).snapshot().prefix(b"")), [2]);
}

#[tokio::test]
async fn history_is_read_from_both_ends_and_deleted_in_steps() {
    let store = open(&MemoryJournal::new());
    store
        .transact(|transaction| {
            for number in 0..10u8 {
                transaction.append("log-events", [b'a', number], [number]);
            }
            transaction.append("log-events", b"b", b"other");
            transaction.remove("log-events", [b'a', 3]);
            Ok::<_, Infallible>(())
        })
        .await
        .unwrap();
    let history = store.history("log-events");
    let values =
        |entries: Vec<(Vec<u8>, Vec<u8>)>| entries.into_iter().map(|(_, value)| value[0]).collect::<Vec<_>>();
    assert_eq!(values(history.prefix(b"a", Direction::Forward, 4).unwrap()), [0, 1, 2, 4]);
    assert_eq!(values(history.prefix(b"a", Direction::Backward, 2).unwrap()), [9, 8]);
    assert_eq!(values(history.range(vec![b'a', 2]..vec![b'a', 5], Direction::Backward, 9).unwrap()), [4, 2]);
    assert_eq!(values(history.range(vec![b'a', 5]..vec![b'a', 2], Direction::Forward, 9).unwrap()), []);
    assert_eq!(history.stats().unwrap().entries, 10);
    let mut steps = 0;
    while history.delete_prefix(b"a", 4).await.unwrap().more {
        steps += 1;
    }
    assert_eq!(steps, 2);
    assert_eq!(history.prefix(b"", Direction::Forward, 9).unwrap(), [(b"b".to_vec(), b"other".to_vec())]);
    assert_eq!(history.get(b"b").unwrap(), Some(b"other".to_vec()));
}

#[tokio::test]
async fn what_is_too_large_is_refused_whole() {
    let store = open(&MemoryJournal::new());
    let result = store
        .transact(|transaction| {
            transaction.put(task("web", 1, "RUNNING"));
            transaction.put(task(&"x".repeat(9000), 1, "RUNNING"));
            Ok::<_, Infallible>(())
        })
        .await;
    assert!(matches!(result, Err(TransactError::Refused(_))));
    assert_eq!(store.snapshot().count::<Task>(), 0);
}
