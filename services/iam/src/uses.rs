//! When keys, users, roles and root users were last used: noted in memory for every request, written
//! to disk from time to time. A crash forgets the uses of the last [`FLUSH_INTERVAL`]; AWS itself
//! promises to tell of a use within hours.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use wharf_contracts::{PrincipalUse, PrincipalUses};
use wharf_core::{AccountId, ApiError, Principal};
use wharf_state::Snapshot;

use crate::Iam;
use crate::records::{Use, UseRecord};

/// How often uses are written.
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(10);
/// How many keys and principals may have unwritten uses; beyond it, the uses of further ones are
/// noted after the next write.
const UNWRITTEN_MAX: usize = 100_000;
/// How many services are kept of one principal.
const SERVICES_MAX: usize = 200;
/// The name under which a root user's uses are kept.
pub const ROOT: &str = "root";
/// The prefix of temporary access keys, whose uses are those of their principal.
const TEMPORARY: &str = "ASIA";

/// Uses that are not on disk yet.
#[derive(Default)]
pub struct Uses(Mutex<HashMap<(AccountId, String), UseRecord>>);

impl Uses {
    pub fn clear(&self) {
        self.0.lock().clear();
    }

    fn note(&self, account: AccountId, id: &str, used: &PrincipalUse<'_>) {
        let used = Use { at: used.at, region: used.region.clone(), service: used.service.to_owned() };
        let mut unwritten = self.0.lock();
        let key = (account, id.to_owned());
        if let Some(record) = unwritten.get_mut(&key) {
            merge(record, used);
        } else if unwritten.len() < UNWRITTEN_MAX {
            let mut record =
                UseRecord { account, id: key.1.clone(), last: used.clone(), services: Default::default() };
            merge(&mut record, used);
            unwritten.insert(key, record);
        }
    }

    fn take(&self) -> Vec<UseRecord> {
        self.0.lock().drain().map(|(_, record)| record).collect()
    }

    fn get(&self, key: &(AccountId, String)) -> Option<UseRecord> {
        self.0.lock().get(key).cloned()
    }
}

fn merge(record: &mut UseRecord, used: Use) {
    if record.services.len() < SERVICES_MAX || record.services.contains_key(&used.service) {
        let of_service = record.services.entry(used.service.clone()).or_insert_with(|| used.clone());
        if of_service.at <= used.at {
            of_service.clone_from(&used);
        }
    }
    if record.last.at <= used.at {
        record.last = used;
    }
}

impl PrincipalUses for Iam {
    fn used(&self, used: &PrincipalUse<'_>) {
        let account = used.principal.account();
        match used.principal {
            Principal::Root { .. } => self.uses.note(account, ROOT, used),
            Principal::User { id, .. } => self.uses.note(account, id, used),
            Principal::AssumedRole { role_id, .. } => self.uses.note(account, role_id, used),
            Principal::FederatedUser { .. } | Principal::Anonymous => return,
        }
        if !used.access_key_id.starts_with(TEMPORARY) {
            self.uses.note(account, used.access_key_id, used);
        }
    }
}

impl Iam {
    /// The last uses of a key, a user or a role; [`ROOT`] for the root user.
    pub(crate) fn uses_of(&self, snapshot: &Snapshot, account: AccountId, id: &str) -> Option<UseRecord> {
        let key = (account, id.to_owned());
        let written = snapshot.get::<UseRecord>(&key).map(|record| UseRecord::clone(&record));
        match (written, self.uses.get(&key)) {
            (Some(mut written), Some(unwritten)) => {
                for used in unwritten.services.into_values() {
                    merge(&mut written, used);
                }
                merge(&mut written, unwritten.last);
                Some(written)
            }
            (written, unwritten) => unwritten.or(written),
        }
    }

    /// Writes the uses that are in memory.
    ///
    /// # Errors
    /// When the store fails; the uses are noted again.
    pub async fn flush_uses(&self) -> Result<(), ApiError> {
        let unwritten = self.uses.take();
        if unwritten.is_empty() {
            return Ok(());
        }
        let written = unwritten.clone();
        let result = self
            .store
            .transact(|transaction| {
                for record in written {
                    let merged = match transaction.get::<UseRecord>(&(record.account, record.id.clone())) {
                        Some(older) => {
                            let mut merged = UseRecord::clone(&older);
                            for used in record.services.into_values() {
                                merge(&mut merged, used);
                            }
                            merge(&mut merged, record.last);
                            merged
                        }
                        None => record,
                    };
                    transaction.put(merged);
                }
                Ok(())
            })
            .await
            .map_err(ApiError::from);
        if result.is_err() {
            let mut again = self.uses.0.lock();
            for record in unwritten {
                again.entry((record.account, record.id.clone())).or_insert(record);
            }
        }
        result
    }

    /// Writes uses from time to time, for as long as the process lives.
    pub async fn flush_uses_forever(self: Arc<Self>) {
        loop {
            tokio::time::sleep(FLUSH_INTERVAL).await;
            if let Err(error) = self.flush_uses().await {
                tracing::warn!(%error, "the last uses of access keys could not be written");
            }
        }
    }
}
