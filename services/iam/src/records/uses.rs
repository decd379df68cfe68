//! When keys, users and roles were last used, as far as it has reached the disk.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharf_core::{AccountId, Region, Timestamp};
use wharf_state::Record;

/// A use: when, where, and of which service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Use {
    pub at: Timestamp,
    pub region: Region,
    pub service: String,
}

/// The last use of an access key, a user, a role or a root user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UseRecord {
    pub account: AccountId,
    /// The id of the key, the user or the role; `root`.
    pub id: String,
    pub last: Use,
    /// The last use of each service.
    pub services: BTreeMap<String, Use>,
}

impl Record for UseRecord {
    const TABLE: &'static str = "iam.use";
    const VERSION: u32 = 1;
    type Key = super::IdKey;

    fn key(&self) -> Self::Key {
        (self.account, self.id.clone())
    }
}
