//! Customer-managed policies, each with its versions. AWS-managed ones are no records: see
//! `managed`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharf_core::{AccountId, Timestamp};
use wharf_state::{Index, Record};

use super::{BY_NAME, IdKey, PolicyName, Tags, name_key};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    pub account: AccountId,
    /// `ANPA…`.
    pub id: String,
    pub name: String,
    pub path: String,
    pub description: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// The number of the default version.
    pub default_version: u32,
    /// The number of the next version; numbers are not used again.
    pub next_version: u32,
    /// At least the default one; the oldest first.
    pub versions: Vec<PolicyVersion>,
    pub tags: Tags,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyVersion {
    pub number: u32,
    pub created_at: Timestamp,
    pub document: Arc<str>,
}

impl Policy {
    pub fn full_name(&self) -> PolicyName {
        PolicyName(format!("{}:policy{}{}", self.account, self.path, self.name))
    }

    pub fn version(&self, number: u32) -> Option<&PolicyVersion> {
        self.versions.iter().find(|version| version.number == number)
    }
}

impl Record for Policy {
    const TABLE: &'static str = "iam.policy";
    const VERSION: u32 = 1;
    type Key = IdKey;

    fn key(&self) -> IdKey {
        (self.account, self.id.clone())
    }

    fn indexes() -> &'static [Index<Self>] {
        &[Index { name: BY_NAME, keys: |policy| vec![name_key(policy.account, &policy.name)] }]
    }
}
