//! Instance profiles.

use serde::{Deserialize, Serialize};
use wharf_core::{AccountId, Timestamp};
use wharf_state::{Index, Key as _, Record};

use super::{BY_NAME, IdKey, Tags, name_key};

/// The instance profiles of a role.
pub(crate) const BY_ROLE: &str = "role";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceProfile {
    pub account: AccountId,
    /// `AIPA…`.
    pub id: String,
    pub name: String,
    pub path: String,
    pub created_at: Timestamp,
    /// The id of its role.
    pub role: Option<String>,
    pub tags: Tags,
}

impl Record for InstanceProfile {
    const TABLE: &'static str = "iam.instance_profile";
    const VERSION: u32 = 1;
    type Key = IdKey;

    fn key(&self) -> IdKey {
        (self.account, self.id.clone())
    }

    fn indexes() -> &'static [Index<Self>] {
        &[
            Index { name: BY_NAME, keys: |profile| vec![name_key(profile.account, &profile.name)] },
            Index {
                name: BY_ROLE,
                keys: |profile| {
                    profile.role.iter().map(|role| (profile.account, role.clone()).to_bytes()).collect()
                },
            },
        ]
    }
}
