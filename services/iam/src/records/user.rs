//! Users and their passwords.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use wharf_core::{AccountId, Timestamp};
use wharf_state::{Index, Key as _, Record};

use super::{
    BY_ATTACHED, BY_BOUNDARY, BY_NAME, IdKey, Policies, Tags, attached_keys, boundary_keys, name_key,
};

/// The users of a group.
pub(crate) const BY_GROUP: &str = "group";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct User {
    pub account: AccountId,
    /// `AIDA…`.
    pub id: String,
    pub name: String,
    pub path: String,
    pub created_at: Timestamp,
    /// Ids of the groups that it is in.
    pub groups: BTreeSet<String>,
    pub policies: Policies,
    pub tags: Tags,
    pub login: Option<Login>,
}

/// A login profile.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Login {
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
    pub reset_required: bool,
    /// The password, hashed; see `password.rs`.
    pub hash: String,
    /// Hashes of the passwords before it, the latest first; as many as the password policy forbids to
    /// use again.
    #[serde(default)]
    pub former: Vec<String>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Login").field("created_at", &self.created_at).finish_non_exhaustive()
    }
}

impl Login {
    /// How many whole days old the password is.
    pub fn age_days(&self, now: Timestamp) -> u32 {
        u32::try_from(now.since(self.changed_at).as_secs() / (24 * 60 * 60)).unwrap_or(u32::MAX)
    }
}

impl Record for User {
    const TABLE: &'static str = "iam.user";
    const VERSION: u32 = 1;
    type Key = IdKey;

    fn key(&self) -> IdKey {
        (self.account, self.id.clone())
    }

    fn indexes() -> &'static [Index<Self>] {
        &[
            Index { name: BY_NAME, keys: |user| vec![name_key(user.account, &user.name)] },
            Index { name: BY_ATTACHED, keys: |user| attached_keys(user.account, &user.policies) },
            Index { name: BY_BOUNDARY, keys: |user| boundary_keys(user.account, &user.policies) },
            Index {
                name: BY_GROUP,
                keys: |user| {
                    user.groups.iter().map(|group| (user.account, group.clone()).to_bytes()).collect()
                },
            },
        ]
    }
}
