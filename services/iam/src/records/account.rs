//! What an account has once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharf_core::{AccountId, Timestamp};
use wharf_state::{Index, Key as _, Record};

/// The accounts with an alias, which is unique in the world.
pub(crate) const BY_ALIAS: &str = "alias";

/// Written when the first of it is set; an account without a record has nothing of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Account {
    pub id: AccountId,
    pub alias: Option<String>,
    pub password_policy: Option<PasswordPolicy>,
    /// What became of keys that the root user has out of the box: `Some(active)` or deleted. A key
    /// that is not named is active.
    pub built_in_keys: BTreeMap<String, Option<super::Status>>,
}

impl Account {
    pub fn new(id: AccountId) -> Self {
        Self { id, alias: None, password_policy: None, built_in_keys: BTreeMap::new() }
    }
}

/// An account's credential report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CredentialReport {
    pub account: AccountId,
    pub generated_at: Timestamp,
    /// CSV.
    pub content: String,
}

/// As `UpdateAccountPasswordPolicy` has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PasswordPolicy {
    pub minimum_length: u32,
    pub require_symbols: bool,
    pub require_numbers: bool,
    pub require_uppercase: bool,
    pub require_lowercase: bool,
    pub allow_users_to_change: bool,
    /// Days; `None`: passwords do not expire.
    pub max_age: Option<u32>,
    pub reuse_prevention: Option<u32>,
    pub hard_expiry: bool,
}

impl Record for Account {
    const TABLE: &'static str = "iam.account";
    const VERSION: u32 = 1;
    type Key = AccountId;

    fn key(&self) -> AccountId {
        self.id
    }

    fn indexes() -> &'static [Index<Self>] {
        &[Index {
            name: BY_ALIAS,
            keys: |account| account.alias.iter().map(|alias| alias.clone().to_bytes()).collect(),
        }]
    }
}

impl Record for CredentialReport {
    const TABLE: &'static str = "iam.credential_report";
    const VERSION: u32 = 1;
    type Key = AccountId;

    fn key(&self) -> AccountId {
        self.account
    }
}
