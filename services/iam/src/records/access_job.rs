//! Reports of the access advisor, each as it was when it was asked for.

use serde::{Deserialize, Serialize};
use wharf_core::{AccountId, Timestamp};
use wharf_state::Record;

use super::{IdKey, Use};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccessJob {
    pub account: AccountId,
    /// A UUID.
    pub id: String,
    pub at: Timestamp,
    /// The services that could be accessed, in the order of their namespaces.
    pub services: Vec<ServiceAccess>,
    /// The users and roles that could.
    pub entities: Vec<AccessEntity>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceAccess {
    pub namespace: String,
    /// Who did: a place in `entities`, and the last time.
    pub uses: Vec<(u32, Use)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccessEntity {
    pub kind: EntityKind,
    pub id: String,
    pub name: String,
    pub path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntityKind {
    User,
    Role,
}

impl Record for AccessJob {
    const TABLE: &'static str = "iam.access_job";
    const VERSION: u32 = 1;
    type Key = IdKey;

    fn key(&self) -> IdKey {
        (self.account, self.id.clone())
    }
}
