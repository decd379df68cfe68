//! Roles, and what became of the deletion of service-linked ones.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharf_core::{AccountId, Timestamp};
use wharf_state::{Index, Record};

use super::{
    BY_ATTACHED, BY_BOUNDARY, BY_NAME, IdKey, Policies, Tags, attached_keys, boundary_keys, name_key,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Role {
    pub account: AccountId,
    /// `AROA…`.
    pub id: String,
    pub name: String,
    pub path: String,
    pub created_at: Timestamp,
    pub description: Option<String>,
    pub max_session_seconds: u32,
    pub trust_policy: Arc<str>,
    pub policies: Policies,
    pub tags: Tags,
    /// The service principal that a service-linked role belongs to: `ecs.amazonaws.com`.
    pub linked_service: Option<String>,
}

impl Record for Role {
    const TABLE: &'static str = "iam.role";
    const VERSION: u32 = 1;
    type Key = IdKey;

    fn key(&self) -> IdKey {
        (self.account, self.id.clone())
    }

    fn indexes() -> &'static [Index<Self>] {
        &[
            Index { name: BY_NAME, keys: |role| vec![name_key(role.account, &role.name)] },
            Index { name: BY_ATTACHED, keys: |role| attached_keys(role.account, &role.policies) },
            Index { name: BY_BOUNDARY, keys: |role| boundary_keys(role.account, &role.policies) },
        ]
    }
}

/// A deletion of a service-linked role that was asked for. It is carried out at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deletion {
    pub account: AccountId,
    /// `task/aws-service-role/SERVICE/ROLE/UUID`.
    pub task_id: String,
    pub at: Timestamp,
}

impl Record for Deletion {
    const TABLE: &'static str = "iam.deletion";
    const VERSION: u32 = 1;
    type Key = IdKey;

    fn key(&self) -> IdKey {
        (self.account, self.task_id.clone())
    }
}
