//! Records of older and of newer versions, from a data directory that is checked in.
//!
//! `fixtures/pets-v1` was written by `write_the_fixture` below with the record as it was in version 1.

use std::convert::Infallible;
use std::error::Error as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharf_state::{Direction, FjallJournal, Index, Key as _, OpenError, Record, Store, UpgradeError};

/// A pet as it was in version 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PetV1 {
    id: u64,
    name: String,
    legs: u8,
}

impl Record for PetV1 {
    const TABLE: &'static str = "pet";
    const VERSION: u32 = 1;
    type Key = u64;

    fn key(&self) -> u64 {
        self.id
    }
}

/// A pet as it is: `legs` became `limbs`, and there are tags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pet {
    id: u64,
    name: String,
    limbs: u32,
    tags: Vec<String>,
}

impl Record for Pet {
    const TABLE: &'static str = "pet";
    const VERSION: u32 = 2;
    type Key = u64;

    fn key(&self) -> u64 {
        self.id
    }

    fn indexes() -> &'static [Index<Self>] {
        &[Index { name: "by_limbs", keys: |pet| vec![pet.limbs.to_bytes()] }]
    }

    fn upgrade(version: u32, bytes: &[u8]) -> Result<Self, UpgradeError> {
        match version {
            1 => {
                let old: PetV1 = UpgradeError::decode(version, bytes)?;
                Ok(Self { id: old.id, name: old.name, limbs: u32::from(old.legs), tags: Vec::new() })
            }
            _ => Err(UpgradeError::NoPath { from: version }),
        }
    }
}

/// A table that a later build may not know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Ghost {
    id: u64,
}

impl Record for Ghost {
    const TABLE: &'static str = "ghost";
    const VERSION: u32 = 1;
    type Key = u64;

    fn key(&self) -> u64 {
        self.id
    }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pets-v1")
}

/// The fixture, copied to where it may be written.
fn copy() -> tempfile::TempDir {
    fn copy_tree(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy_tree(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    copy_tree(&fixture(), directory.path());
    // Git keeps no empty directories.
    for keyspace in ["1", "2"] {
        fs::create_dir_all(directory.path().join("journal/keyspaces").join(keyspace).join("tables")).unwrap();
    }
    directory
}

fn open<R: Record>(path: &Path) -> Result<Store, OpenError> {
    Store::builder(Arc::new(FjallJournal::open(path).unwrap())).table::<R>().history("visits").open()
}

fn pet(id: u64, name: &str, limbs: u32) -> Pet {
    Pet { id, name: name.into(), limbs, tags: vec![] }
}

async fn put<R: Record>(store: &Store, record: R) {
    store
        .transact(|transaction| {
            transaction.put(record);
            Ok::<_, Infallible>(())
        })
        .await
        .unwrap();
}

fn pets(store: &Store) -> Vec<Pet> {
    store.snapshot().range::<Pet>(..).map(|pet| (*pet).clone()).collect()
}

#[tokio::test]
async fn records_of_version_1_are_upgraded_as_they_are_loaded_and_indexed_as_they_are_now() {
    let directory = copy();
    let store = open::<Pet>(directory.path()).unwrap();
    assert_eq!(store.snapshot().revision(), 6);
    assert_eq!(pets(&store), [pet(1, "Rex", 4), pet(3, "Tweety", 2)]);
    let two_limbs: Vec<_> =
        store.snapshot().index::<Pet>("by_limbs", &2u32.to_bytes()).map(|pet| pet.id).collect();
    assert_eq!(two_limbs, [3]);
    assert_eq!(
        store.history("visits").prefix(b"", Direction::Forward, 9).unwrap(),
        [(b"2026-11-20".to_vec(), b"Rex".to_vec())]
    );

    // Old and new versions side by side, over another reopen.
    put(&store, Pet { tags: vec!["yellow".into()], ..pet(3, "Tweety", 2) }).await;
    let expected = pets(&store);
    drop(store);
    assert_eq!(pets(&open::<Pet>(directory.path()).unwrap()), expected);
}

#[tokio::test]
async fn a_record_of_a_newer_version_is_an_error_that_names_it_and_nothing_is_lost() {
    let directory = copy();
    let store = open::<Pet>(directory.path()).unwrap();
    put(&store, pet(9, "Hydra", 9)).await;
    let expected = pets(&store);
    drop(store);

    let error = open::<PetV1>(directory.path()).err().unwrap();
    let journal_error = error.source().unwrap();
    assert_eq!(
        journal_error.to_string(),
        r#"the record \x00\x00\x00\x00\x00\x00\x00\t of the table "pet" cannot be read"#
    );
    assert_eq!(
        journal_error.source().unwrap().to_string(),
        "the record has version 2, this build knows 1 at most"
    );
    assert_eq!(pets(&open::<Pet>(directory.path()).unwrap()), expected);
}

#[tokio::test]
async fn a_table_that_is_not_named_is_kept() {
    let directory = copy();
    let store = open::<Pet>(directory.path()).unwrap();
    put(&store, pet(1, "Rex", 3)).await;
    drop(store);
    let store = open::<Ghost>(directory.path()).unwrap();
    assert_eq!(*store.snapshot().get::<Ghost>(&7).unwrap(), Ghost { id: 7 });
}

/// Run by hand to write the fixture anew: `cargo test -p wharf-state --test upgrade -- --ignored`.
#[tokio::test]
#[ignore = "writes the fixture"]
async fn write_the_fixture() {
    let _ = fs::remove_dir_all(fixture());
    let journal = Arc::new(FjallJournal::open(&fixture()).unwrap());
    let store = Store::builder(journal).table::<PetV1>().table::<Ghost>().history("visits").open().unwrap();
    put(&store, PetV1 { id: 1, name: "from before the wipe".into(), legs: 1 }).await;
    store.wipe().await.unwrap();
    put(&store, PetV1 { id: 1, name: "Rex".into(), legs: 4 }).await;
    store
        .transact(|transaction| {
            transaction.put(PetV1 { id: 2, name: "Nessie".into(), legs: 0 });
            transaction.put(PetV1 { id: 3, name: "Tweety".into(), legs: 2 });
            transaction.append("visits", "2026-11-20", "Rex");
            Ok::<_, Infallible>(())
        })
        .await
        .unwrap();
    store
        .transact(|transaction| {
            transaction.delete::<PetV1>(&2);
            Ok::<_, Infallible>(())
        })
        .await
        .unwrap();
    put(&store, Ghost { id: 7 }).await;
    drop(store);
    // The journal file is 64 MiB of preallocated zeros behind some hundred bytes.
    let file = fs::OpenOptions::new().write(true).open(fixture().join("journal/0.jnl")).unwrap();
    let bytes = fs::read(fixture().join("journal/0.jnl")).unwrap();
    file.set_len(bytes.iter().rposition(|&byte| byte != 0).unwrap() as u64 + 1).unwrap();
}
