//! When keys, users, roles and root users were last used: noted in memory for every request, written
//! to disk from time to time. A crash forgets the uses of the last [`FLUSH_INTERVAL`]; AWS itself
//! promises to tell of a use within hours.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, btree_map};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use wharf_contracts::{PrincipalUse, PrincipalUses};
use wharf_core::access_key::LONG_TERM_PREFIX;
use wharf_core::{AccountId, ApiError, Principal};
use wharf_state::{Record as _, Snapshot, Transaction};

use crate::handlers::BUILT_IN_KEY;
use crate::records::{AccessKey, Role, Use, UseRecord, User};
use crate::{Iam, ids};

/// How often uses are written.
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(10);
/// How many keys and principals may have unwritten uses; beyond it, the uses of further ones are
/// noted after the next write.
const UNWRITTEN_MAX: usize = 100_000;
/// How many services are kept of one principal.
const SERVICES_MAX: usize = 200;
/// The name under which a root user's uses are kept.
pub const ROOT: &str = "root";

/// Uses that are not on disk yet. Noting one more of something that is there allocates nothing.
#[derive(Default)]
pub struct Uses(Mutex<Unwritten>);

#[derive(Default)]
struct Unwritten {
    by_account: HashMap<AccountId, HashMap<String, UseRecord>>,
    count: usize,
}

impl Uses {
    pub fn clear(&self) {
        *self.0.lock() = Unwritten::default();
    }

    fn note(&self, account: AccountId, id: &str, used: &PrincipalUse<'_>) {
        let mut unwritten = self.0.lock();
        let unwritten = &mut *unwritten;
        let of_account = unwritten.by_account.entry(account).or_default();
        if let Some(record) = of_account.get_mut(id) {
            note_again(record, used);
        } else if unwritten.count < UNWRITTEN_MAX {
            let last = Use { at: used.at, region: used.region.clone(), service: used.service.to_owned() };
            let services = BTreeMap::from([(last.service.clone(), last.clone())]);
            of_account.insert(id.to_owned(), UseRecord { account, id: id.to_owned(), last, services });
            unwritten.count += 1;
        }
    }

    fn take(&self) -> Vec<UseRecord> {
        let unwritten = std::mem::take(&mut *self.0.lock());
        unwritten.by_account.into_values().flat_map(HashMap::into_values).collect()
    }

    /// Puts back what could not be written, beside what is newer.
    fn put_back(&self, records: Vec<UseRecord>) {
        let mut unwritten = self.0.lock();
        for record in records {
            let of_account = unwritten.by_account.entry(record.account).or_default();
            match of_account.entry(record.id.clone()) {
                Entry::Occupied(mut newer) => merge(newer.get_mut(), record),
                Entry::Vacant(place) => {
                    place.insert(record);
                    unwritten.count += 1;
                }
            }
        }
    }

    fn get(&self, account: AccountId, id: &str) -> Option<UseRecord> {
        self.0.lock().by_account.get(&account)?.get(id).cloned()
    }
}

fn note_again(record: &mut UseRecord, used: &PrincipalUse<'_>) {
    let renew = |known: &mut Use| {
        if known.at <= used.at {
            known.at = used.at;
            if known.region != *used.region {
                known.region = used.region.clone();
            }
            if known.service != used.service {
                used.service.clone_into(&mut known.service);
            }
        }
    };
    renew(&mut record.last);
    if let Some(of_service) = record.services.get_mut(used.service) {
        renew(of_service);
    } else if record.services.len() < SERVICES_MAX {
        let first = Use { at: used.at, region: used.region.clone(), service: used.service.to_owned() };
        record.services.insert(used.service.to_owned(), first);
    }
}

/// A key of IAM's, or one of those that root users have out of the box. The uses of temporary keys
/// are those of their principal, and unknown keys (`--auth any`) leave no trace.
fn is_long_term(access_key_id: &str) -> bool {
    access_key_id.starts_with(LONG_TERM_PREFIX)
        || access_key_id == BUILT_IN_KEY
        || access_key_id.parse::<AccountId>().is_ok()
}

/// Whether what was used is still there: nothing is written of what has been deleted.
fn exists(transaction: &Transaction<'_>, record: &UseRecord) -> bool {
    let key = (record.account, record.id.clone());
    match record.id.get(..4) {
        Some(LONG_TERM_PREFIX) => transaction.get::<AccessKey>(&record.id).is_some(),
        Some(ids::USER) => transaction.get::<User>(&key).is_some(),
        Some(ids::ROLE) => transaction.get::<Role>(&key).is_some(),
        _ => true,
    }
}

/// Adds what is newer in `other`.
fn merge(record: &mut UseRecord, other: UseRecord) {
    for (service, used) in other.services {
        let full = record.services.len() >= SERVICES_MAX;
        match record.services.entry(service) {
            btree_map::Entry::Occupied(mut known) if known.get().at <= used.at => *known.get_mut() = used,
            btree_map::Entry::Vacant(place) if !full => {
                place.insert(used);
            }
            _ => {}
        }
    }
    if record.last.at <= other.last.at {
        record.last = other.last;
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
        if is_long_term(used.access_key_id) {
            self.uses.note(account, used.access_key_id, used);
        }
    }
}

impl Iam {
    /// The last uses of a key, a user or a role; [`ROOT`] for the root user.
    pub(crate) fn uses_of(&self, snapshot: &Snapshot, account: AccountId, id: &str) -> Option<UseRecord> {
        let written = snapshot.get::<UseRecord>(&(account, id.to_owned()));
        let Some(unwritten) = self.uses.get(account, id) else {
            return written.map(|record| UseRecord::clone(&record));
        };
        let mut record = written.map_or_else(|| unwritten.clone(), |record| UseRecord::clone(&record));
        merge(&mut record, unwritten);
        Some(record)
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
        let result = self
            .store
            .transact(|transaction| {
                for record in &unwritten {
                    if !exists(transaction, record) {
                        continue;
                    }
                    let record = match transaction.get::<UseRecord>(&record.key()) {
                        Some(written) => {
                            let mut merged = UseRecord::clone(&written);
                            merge(&mut merged, record.clone());
                            merged
                        }
                        None => record.clone(),
                    };
                    transaction.put(record);
                }
                Ok::<(), ApiError>(())
            })
            .await;
        result.map_err(|error| {
            self.uses.put_back(unwritten);
            ApiError::from(error)
        })
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

#[cfg(test)]
mod tests {
    use wharf_core::Timestamp;

    use super::*;

    #[test]
    fn what_could_not_be_written_stands_beside_what_was_noted_meanwhile() {
        let account: AccountId = "123456789012".parse().unwrap();
        let region = "us-east-1".parse().unwrap();
        let uses = Uses::default();
        let note = |service, at| {
            uses.note(
                account,
                ROOT,
                &PrincipalUse {
                    principal: &Principal::Root { account },
                    access_key_id: BUILT_IN_KEY,
                    service,
                    region: &region,
                    at: Timestamp::from_millis(at),
                },
            );
        };
        note("ecs", 1_000);
        let unwritten = uses.take();
        assert!(uses.get(account, ROOT).is_none());
        note("logs", 2_000);
        uses.put_back(unwritten);
        let record = uses.get(account, ROOT).unwrap();
        assert_eq!(record.services.keys().collect::<Vec<_>>(), ["ecs", "logs"]);
        assert_eq!((record.last.service.as_str(), record.last.at.as_millis()), ("logs", 2_000));
    }
}
