//! Access keys of users and of the root user (API Reference: CreateAccessKey, ListAccessKeys,
//! UpdateAccessKey, DeleteAccessKey, GetAccessKeyLastUsed).
//!
//! A root user has keys out of the box, which are no records: `test` in the default account, and the
//! account's own twelve digits. They are listed, deactivated and deleted like others; what became of
//! them stands in the account's record.

use wharf_core::{AccountId, ApiError, RequestContext, access_key};
use wharf_iam_api::types;
use wharf_state::Transaction;

use crate::find::{self, Read, Subject};
use crate::pages::page;
use crate::records::{AccessKey, Account, BY_OWNER, Status, UseRecord, User};
use crate::{Iam, failures};

/// "Access keys assigned to an IAM user", and to a root user.
pub const KEYS_MAX: usize = 2;
/// The id of the key that the root user of the default account has out of the box.
pub const BUILT_IN_KEY: &str = "test";

/// A key that a root user has out of the box.
pub struct BuiltInKey {
    pub id: String,
    pub status: Status,
}

impl Iam {
    /// The keys that the root user of an account has out of the box and that were not deleted.
    pub(crate) fn built_in_keys(&self, read: &impl Read, account: AccountId) -> Vec<BuiltInKey> {
        let record = read.record::<Account>(&account);
        let mut ids = vec![account.to_string()];
        if account == self.default_account {
            ids.push(BUILT_IN_KEY.to_owned());
        }
        ids.into_iter()
            .filter_map(|id| {
                let changed = record.as_ref().and_then(|record| record.built_in_keys.get(&id).copied());
                Some(BuiltInKey { id, status: changed.unwrap_or(Some(Status::Active))? })
            })
            .collect()
    }

    pub(super) async fn create_access_key(
        &self,
        context: &RequestContext,
        input: types::CreateAccessKeyRequest,
    ) -> Result<types::CreateAccessKeyResponse, ApiError> {
        let account = context.account();
        let id = access_key::random_id(access_key::LONG_TERM_PREFIX, account, &*self.rng);
        let secret = access_key::random_secret(&*self.rng);
        let sealed_secret = self.access_key_secrets.seal(id.as_bytes(), secret.as_bytes());
        let user_name = self
            .change(|transaction| {
                let subject = find::subject(transaction, context, input.user_name.as_deref())?;
                let owner = AccessKey::owner_key(account, subject.user_id());
                if transaction.index::<AccessKey>(BY_OWNER, &owner).count() >= KEYS_MAX {
                    return Err(failures::quota("AccessKeysPerUser", KEYS_MAX));
                }
                transaction.put(AccessKey {
                    id: id.clone(),
                    account,
                    user: subject.user_id().map(str::to_owned),
                    status: Status::Active,
                    created_at: context.now,
                    changed_at: context.now,
                    sealed_secret,
                });
                Ok(subject_name(&subject))
            })
            .await?;
        Ok(types::CreateAccessKeyResponse {
            access_key: types::AccessKey {
                access_key_id: id,
                create_date: Some(context.now),
                secret_access_key: secret,
                status: types::StatusType::Active,
                user_name: user_name.unwrap_or_else(|| "root".to_owned()),
            },
        })
    }

    pub(super) async fn list_access_keys(
        &self,
        context: &RequestContext,
        input: types::ListAccessKeysRequest,
    ) -> Result<types::ListAccessKeysResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let account = context.account();
        let subject = find::subject(&snapshot, context, input.user_name.as_deref())?;
        let user_name = subject_name(&subject);
        let owner = AccessKey::owner_key(account, subject.user_id());
        let mut keys: Vec<_> = snapshot
            .index::<AccessKey>(BY_OWNER, &owner)
            .map(|key| types::AccessKeyMetadata {
                access_key_id: Some(key.id.clone()),
                create_date: Some(key.created_at),
                status: Some(status(key.status)),
                user_name: user_name.clone(),
            })
            .collect();
        if matches!(subject, Subject::Root) {
            keys.extend(self.built_in_keys(&snapshot, account).into_iter().map(|key| {
                types::AccessKeyMetadata {
                    access_key_id: Some(key.id),
                    create_date: None,
                    status: Some(status(key.status)),
                    user_name: None,
                }
            }));
        }
        let place = |key: &types::AccessKeyMetadata| key.access_key_id.clone().unwrap_or_default();
        keys.sort_by_cached_key(place);
        let page = page(keys, place, input.marker.as_deref(), input.max_items)?;
        Ok(types::ListAccessKeysResponse {
            access_key_metadata: page.items,
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    pub(super) async fn update_access_key(
        &self,
        context: &RequestContext,
        input: types::UpdateAccessKeyRequest,
    ) -> Result<(), ApiError> {
        let wanted = match input.status {
            types::StatusType::Active => Status::Active,
            types::StatusType::Inactive => Status::Inactive,
            _ => {
                return Err(failures::validation(
                    "The status of an access key can be set to Active or Inactive.",
                ));
            }
        };
        self.change(|transaction| {
            match self.own_key(transaction, context, input.user_name.as_deref(), &input.access_key_id)? {
                Own::Record(mut key) => {
                    if key.status != wanted {
                        key.status = wanted;
                        key.changed_at = context.now;
                        transaction.put(key);
                    }
                }
                Own::BuiltIn => {
                    set_built_in(transaction, context.account(), &input.access_key_id, Some(wanted));
                }
            }
            Ok(())
        })
        .await
    }

    pub(super) async fn delete_access_key(
        &self,
        context: &RequestContext,
        input: types::DeleteAccessKeyRequest,
    ) -> Result<(), ApiError> {
        self.change(|transaction| {
            match self.own_key(transaction, context, input.user_name.as_deref(), &input.access_key_id)? {
                Own::Record(key) => {
                    transaction.delete::<AccessKey>(&key.id);
                    transaction.delete::<UseRecord>(&(key.account, key.id.clone()));
                }
                Own::BuiltIn => set_built_in(transaction, context.account(), &input.access_key_id, None),
            }
            Ok(())
        })
        .await
    }

    /// The key, when it is of the user that the request names or means.
    fn own_key(
        &self,
        transaction: &Transaction<'_>,
        context: &RequestContext,
        user_name: Option<&str>,
        id: &str,
    ) -> Result<Own, ApiError> {
        let subject = find::subject(transaction, context, user_name)?;
        let account = context.account();
        if let Some(key) = transaction.get::<AccessKey>(&id.to_owned())
            && key.account == account
            && key.user.as_deref() == subject.user_id()
        {
            return Ok(Own::Record(AccessKey::clone(&key)));
        }
        let built_in = matches!(subject, Subject::Root)
            && self.built_in_keys(transaction, account).iter().any(|key| key.id == id);
        if built_in { Ok(Own::BuiltIn) } else { Err(failures::no_access_key(id)) }
    }

    pub(super) async fn get_access_key_last_used(
        &self,
        context: &RequestContext,
        input: types::GetAccessKeyLastUsedRequest,
    ) -> Result<types::GetAccessKeyLastUsedResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let account = context.account();
        let id = input.access_key_id;
        let user_name = match snapshot.get::<AccessKey>(&id).filter(|key| key.account == account) {
            Some(key) => match &key.user {
                Some(user) => snapshot.get::<User>(&(account, user.clone())).map(|user| user.name.clone()),
                None => None,
            },
            None if self.built_in_keys(&snapshot, account).iter().any(|key| key.id == id) => None,
            None => return Err(failures::no_access_key(&id)),
        };
        let not_available = || "N/A".to_owned();
        let last_used = match self.uses_of(&snapshot, account, &id) {
            Some(used) => types::AccessKeyLastUsed {
                last_used_date: Some(used.last.at),
                region: used.last.region.to_string(),
                service_name: used.last.service,
            },
            None => types::AccessKeyLastUsed {
                last_used_date: None,
                region: not_available(),
                service_name: not_available(),
            },
        };
        Ok(types::GetAccessKeyLastUsedResponse { access_key_last_used: Some(last_used), user_name })
    }
}

/// A key that may be changed.
enum Own {
    Record(AccessKey),
    BuiltIn,
}

fn set_built_in(transaction: &mut Transaction<'_>, account: AccountId, id: &str, status: Option<Status>) {
    let mut record = transaction
        .get::<Account>(&account)
        .map_or_else(|| Account::new(account), |record| Account::clone(&record));
    record.built_in_keys.insert(id.to_owned(), status);
    transaction.put(record);
}

fn subject_name(subject: &Subject) -> Option<String> {
    match subject {
        Subject::User(user) => Some(user.name.clone()),
        Subject::Root => None,
    }
}

fn status(status: Status) -> types::StatusType {
    match status {
        Status::Active => types::StatusType::Active,
        Status::Inactive => types::StatusType::Inactive,
    }
}
