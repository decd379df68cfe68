//! The embedded journal in a real directory.

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharf_state::{Direction, DirectoryError, FjallJournal, Record, Store};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    id: u64,
    text: String,
}

impl Record for Row {
    const TABLE: &'static str = "row";
    const VERSION: u32 = 1;
    type Key = u64;

    fn key(&self) -> u64 {
        self.id
    }
}

fn open(path: &Path) -> Store {
    let journal = FjallJournal::open(path).unwrap();
    Store::builder(Arc::new(journal)).table::<Row>().history("log").history("lo").open().unwrap()
}

async fn write(store: &Store, id: u64, text: &str) {
    store
        .transact(|transaction| {
            transaction.put(Row { id, text: text.into() });
            transaction.append("log", id.to_be_bytes(), text);
            Ok::<_, Infallible>(())
        })
        .await
        .unwrap();
}

fn texts(store: &Store) -> Vec<String> {
    store.snapshot().range::<Row>(..).map(|row| row.text.clone()).collect()
}

fn history(store: &Store) -> Vec<String> {
    let entries = store.history("log").prefix(b"", Direction::Forward, 100).unwrap();
    entries.into_iter().map(|(_, value)| String::from_utf8(value).unwrap()).collect()
}

#[tokio::test]
async fn records_and_history_are_there_after_a_reopen() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    write(&store, 1, "one").await;
    write(&store, 2, "two").await;
    write(&store, 1, "uno").await;
    store
        .transact(|transaction| {
            transaction.delete::<Row>(&2);
            transaction.remove("log", 2u64.to_be_bytes());
            transaction.append("lo", b"gx", b"another history");
            Ok::<_, Infallible>(())
        })
        .await
        .unwrap();
    let stats = store.history("log").stats().unwrap();
    assert_eq!((stats.entries, stats.bytes), (1, 8 + 3));
    drop(store);

    let store = open(directory.path());
    assert_eq!(store.snapshot().revision(), 4);
    assert_eq!(texts(&store), ["uno"]);
    assert_eq!(history(&store), ["uno"]);
    assert_eq!(store.history("log").stats().unwrap(), stats);
    assert_eq!(store.history("lo").prefix(b"", Direction::Backward, 9).unwrap().len(), 1);
}

#[tokio::test]
async fn the_last_change_of_a_key_counts_within_a_transaction_and_within_a_group() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let writers = (0..64u64).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            store
                .transact(|transaction| {
                    transaction.put(Row { id: 1, text: "first".into() });
                    transaction.delete::<Row>(&1);
                    transaction.put(Row { id: 1, text: transaction.revision().to_string() });
                    transaction.append("log", b"k", "first");
                    transaction.remove("log", b"k");
                    transaction.append("log", b"k", transaction.revision().to_string());
                    if number == 63 {
                        transaction.put(Row { id: 2, text: "63".into() });
                    }
                    Ok::<_, Infallible>(())
                })
                .await
                .unwrap();
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    drop(store);
    let store = open(directory.path());
    assert_eq!(texts(&store), ["64", "63"]);
    assert_eq!(history(&store), ["64"]);
    assert_eq!(store.history("log").stats().unwrap().entries, 1);
}

#[tokio::test]
async fn a_wipe_is_durable_and_revisions_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    write(&store, 1, "one").await;
    store.wipe().await.unwrap();
    assert_eq!((texts(&store), history(&store)), (vec![], vec![]));
    write(&store, 2, "two").await;
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.snapshot().revision(), 3);
    assert_eq!((texts(&store), history(&store)), (vec!["two".to_owned()], vec!["two".to_owned()]));
    assert_eq!(store.history("log").stats().unwrap().entries, 1);
}

#[test]
fn a_directory_in_use_names_the_process_that_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let first = FjallJournal::open(directory.path()).unwrap();
    let error = FjallJournal::open(directory.path()).err().unwrap();
    assert!(error.to_string().ends_with(&format!("is in use by process {}", std::process::id())), "{error}");
    drop(first);
    FjallJournal::open(directory.path()).unwrap();
}

#[test]
fn a_directory_that_is_not_ours_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("thesis.txt"), "years of work").unwrap();
    assert!(matches!(FjallJournal::open(directory.path()), Err(DirectoryError::Foreign(_))));
    let names: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["thesis.txt"]);
}

#[test]
fn another_format_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    drop(FjallJournal::open(directory.path()).unwrap());
    fs::write(directory.path().join("FORMAT"), "wharf-state 2\n").unwrap();
    let error = FjallJournal::open(directory.path()).err().unwrap();
    assert!(error.to_string().contains("\"wharf-state 2\""), "{error}");
}

#[tokio::test]
async fn a_torn_last_write_is_dropped_and_everything_before_it_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    write(&store, 1, "one").await;
    write(&store, 2, "the last transaction, half of which never reached the disk").await;
    drop(store);
    let journal = fs::read_dir(directory.path().join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "jnl"))
        .unwrap();
    let bytes = fs::read(&journal).unwrap();
    let torn = bytes.windows(4).rposition(|window| window == b"half").unwrap();
    fs::OpenOptions::new().write(true).open(&journal).unwrap().set_len(torn as u64).unwrap();
    let store = open(directory.path());
    assert_eq!(texts(&store), ["one"]);
    assert_eq!(history(&store), ["one"]);
    assert_eq!(store.snapshot().revision(), 1);
    write(&store, 3, "three").await;
    assert_eq!(texts(&store), ["one", "three"]);
}

#[test]
fn garbage_where_the_journal_was_is_an_error_and_not_an_empty_store() {
    let directory = tempfile::tempdir().unwrap();
    drop(FjallJournal::open(directory.path()).unwrap());
    for entry in fs::read_dir(directory.path().join("journal")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && path.extension().is_none_or(|extension| extension != "jnl") {
            fs::write(path, b"garbage").unwrap();
        }
    }
    assert!(matches!(FjallJournal::open(directory.path()), Err(DirectoryError::Journal { .. })));
}

#[tokio::test]
async fn a_journal_that_was_being_made_when_the_process_died_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let draft = directory.path().join("journal.new");
    fs::create_dir(&draft).unwrap();
    fs::write(draft.join("0.jnl"), b"").unwrap();
    fs::write(directory.path().join("FORMAT"), "wharf-state 1\n").unwrap();
    let store = open(directory.path());
    write(&store, 1, "one").await;
    drop(store);
    assert_eq!(texts(&open(directory.path())), ["one"]);
    assert!(!draft.exists());
}
