//! Groups. Who is in one stands in the users' records.

use serde::{Deserialize, Serialize};
use wharf_core::{AccountId, Timestamp};
use wharf_state::{Index, Record};

use super::{BY_ATTACHED, BY_NAME, IdKey, Policies, attached_keys, name_key};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    pub account: AccountId,
    /// `AGPA…`.
    pub id: String,
    pub name: String,
    pub path: String,
    pub created_at: Timestamp,
    pub policies: Policies,
}

impl Record for Group {
    const TABLE: &'static str = "iam.group";
    const VERSION: u32 = 1;
    type Key = IdKey;

    fn key(&self) -> IdKey {
        (self.account, self.id.clone())
    }

    fn indexes() -> &'static [Index<Self>] {
        &[
            Index { name: BY_NAME, keys: |group| vec![name_key(group.account, &group.name)] },
            Index { name: BY_ATTACHED, keys: |group| attached_keys(group.account, &group.policies) },
        ]
    }
}
