//! The vault of a data directory: its key file beside the state, and the state's memory of which key
//! it was sealed with.
//!
//! The state is asked first. If it names a key, only that key will do: a key that is missing or is
//! another one is an error, since a new key would make everything sealed unreadable for ever, without
//! a word. Only a state that has never had a key gets one.

use std::convert::Infallible;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharf_core::Rng;
use wharf_state::{Builder, Record, Store};
use wharf_vault::{KeyFile, Vault};

use crate::failure::{Context as _, Failure, Result};
use crate::layout::Layout;

/// Which key the secrets in this state are sealed with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SealedWith {
    fingerprint: String,
}

impl Record for SealedWith {
    const TABLE: &'static str = "wharf.sealed-with";
    const VERSION: u32 = 1;
    /// There is one.
    type Key = u8;

    fn key(&self) -> u8 {
        0
    }
}

pub fn tables(builder: Builder) -> Builder {
    builder.table::<SealedWith>()
}

/// Opens the vault; makes its key when the state has never had one.
pub async fn open(layout: &Layout, store: &Store, rng: Arc<dyn Rng>) -> Result<Vault> {
    let path = layout.vault_key();
    let known = store.snapshot().get::<SealedWith>(&0);
    let found = KeyFile::read(&path).context(|| "cannot open the vault".to_owned()).map_err(|failure| {
        failure.hint("the key file must belong to the user of the server, with mode 0600")
    })?;
    let key = match (known, found) {
        (None, None) => KeyFile::create(&path, &*rng).context(|| "cannot make the vault's key".to_owned())?,
        (None, Some(key)) => key,
        (Some(known), Some(key)) if key.fingerprint().to_string() == known.fingerprint => key,
        (Some(known), Some(key)) => {
            return Err(Failure::new(format!(
                "{} holds the key {}, and the secrets in this data directory are sealed with the key {}",
                path.display(),
                key.fingerprint(),
                known.fingerprint
            ))
            .hint("put the right key file back; nothing was changed"));
        }
        (Some(known), None) => {
            return Err(Failure::new(format!(
                "the key file {} is missing, and the secrets in this data directory are sealed with it (key {})",
                path.display(),
                known.fingerprint
            ))
            .hint(
                "put the key file back from a backup; without it the secrets cannot be read, and only a new data \
                 directory can go on",
            ));
        }
    };
    let vault = Vault::new(&key, rng);
    remember(store, &vault).await?;
    Ok(vault)
}

/// Writes down which key the state is sealed with; after a reset it must be written again.
pub async fn remember(store: &Store, vault: &Vault) -> Result<()> {
    let sealed_with = SealedWith { fingerprint: vault.fingerprint().to_string() };
    if store.snapshot().get::<SealedWith>(&0).is_some_and(|known| *known == sealed_with) {
        return Ok(());
    }
    store
        .transact(|transaction| {
            transaction.put(sealed_with);
            Ok::<_, Infallible>(())
        })
        .await
        .context(|| "the vault's key could not be written down".to_owned())
}

#[cfg(test)]
mod tests {
    use wharf_core::SeededRng;
    use wharf_state::MemoryJournal;

    use super::*;

    struct Fixture {
        _directory: tempfile::TempDir,
        layout: Layout,
        store: Store,
    }

    fn fixture() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path()).unwrap();
        layout.create().unwrap();
        let store = tables(Store::builder(Arc::new(MemoryJournal::new()))).open().unwrap();
        Fixture { _directory: directory, layout, store }
    }

    async fn open(fixture: &Fixture, seed: u64) -> Result<Vault> {
        super::open(&fixture.layout, &fixture.store, Arc::new(SeededRng::new(seed))).await
    }

    #[tokio::test]
    async fn the_same_key_opens_again() {
        let fixture = fixture();
        let sealed = open(&fixture, 1).await.unwrap().seal("p", b"", b"text");
        assert_eq!(&**open(&fixture, 2).await.unwrap().unseal("p", b"", &sealed).unwrap(), b"text");
    }

    #[tokio::test]
    async fn a_missing_key_is_refused_and_never_made_anew() {
        let fixture = fixture();
        open(&fixture, 1).await.unwrap();
        std::fs::remove_file(fixture.layout.vault_key()).unwrap();
        let failure = open(&fixture, 2).await.err().unwrap();
        assert!(failure.to_string().contains("is missing"), "{failure}");
        assert!(!fixture.layout.vault_key().exists());
    }

    #[tokio::test]
    async fn another_key_is_refused() {
        let fixture = fixture();
        open(&fixture, 1).await.unwrap();
        std::fs::remove_file(fixture.layout.vault_key()).unwrap();
        KeyFile::create(&fixture.layout.vault_key(), &SeededRng::new(9)).unwrap();
        let failure = open(&fixture, 2).await.err().unwrap();
        assert!(failure.to_string().contains("holds the key"), "{failure}");
    }

    #[tokio::test]
    async fn a_reset_keeps_the_key_and_remembers_it() {
        let fixture = fixture();
        let vault = open(&fixture, 1).await.unwrap();
        fixture.store.wipe().await.unwrap();
        remember(&fixture.store, &vault).await.unwrap();
        assert_eq!(open(&fixture, 2).await.unwrap().fingerprint(), vault.fingerprint());
        std::fs::remove_file(fixture.layout.vault_key()).unwrap();
        assert!(open(&fixture, 3).await.is_err());
    }
}
