//! What is stored of secrets. Values are stored sealed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharf_core::{Arn, Region, Scope, Timestamp};
use wharf_state::{Key as _, Record};
use wharf_vault::Sealed;

/// A secret: what all of its versions have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Secret {
    pub scope: Scope,
    pub name: String,
    /// The six random characters at the end of the ARN. A replica has those of its primary.
    pub suffix: String,
    pub description: Option<String>,
    /// `None`: `aws/secretsmanager`.
    pub key: Option<KeyName>,
    pub tags: BTreeMap<String, String>,
    pub policy: Option<Arc<str>>,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
    /// A day, not a time.
    pub accessed_on: Option<Timestamp>,
    /// When the secret and its versions are deleted.
    pub deleted_at: Option<Timestamp>,
    pub role: Role,
}

/// A KMS key as the caller named it, and its ARN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyName {
    pub given: String,
    pub arn: String,
}

/// Whether a secret has copies, or is one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Role {
    Primary {
        replicas: Vec<Replica>,
    },
    /// Follows the secret of the same name in another region of the account.
    Replica {
        primary: Region,
    },
}

/// A copy, as its primary knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replica {
    pub region: Region,
    pub key: Option<KeyName>,
    /// Why there is none. A copy that exists is always as its primary is: both change in one
    /// transaction.
    pub failure: Option<String>,
}

impl Secret {
    pub fn arn(&self) -> String {
        arn(&self.scope, &self.name, &self.suffix)
    }

    /// The encoded beginning of the keys of its versions.
    pub fn versions_prefix(scope: &Scope, name: &str) -> Vec<u8> {
        (scope.clone(), name.to_owned()).to_bytes()
    }

    pub fn replicas(&self) -> &[Replica] {
        match &self.role {
            Role::Primary { replicas } => replicas,
            Role::Replica { .. } => &[],
        }
    }

    /// The region of the primary, once there is more than one copy.
    pub fn primary_region(&self) -> Option<&Region> {
        match &self.role {
            Role::Primary { replicas } if replicas.is_empty() => None,
            Role::Primary { .. } => Some(&self.scope.region),
            Role::Replica { primary } => Some(primary),
        }
    }
}

/// `arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX`
pub fn arn(scope: &Scope, name: &str, suffix: &str) -> String {
    let resource = format!("secret:{name}-{suffix}");
    Arn::regional("secretsmanager", &scope.region, scope.account, resource).to_string()
}

impl Record for Secret {
    const TABLE: &'static str = "secretsmanager.secret";
    const VERSION: u32 = 1;
    type Key = (Scope, String);

    fn key(&self) -> Self::Key {
        (self.scope.clone(), self.name.clone())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    Text,
    Binary,
}

/// One version of a secret's value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    pub scope: Scope,
    pub name: String,
    pub id: String,
    /// The suffix of the secret that it belongs to: a value does not open in a later secret of the
    /// same name.
    pub suffix: String,
    pub form: Form,
    pub value: Sealed,
    /// What it is sealed with; `None`: `aws/secretsmanager`.
    pub key: Option<KeyName>,
    pub stages: BTreeSet<String>,
    pub created_at: Timestamp,
    pub accessed_on: Option<Timestamp>,
}

impl Record for Version {
    const TABLE: &'static str = "secretsmanager.version";
    const VERSION: u32 = 1;
    type Key = (Scope, String, String);

    fn key(&self) -> Self::Key {
        (self.scope.clone(), self.name.clone(), self.id.clone())
    }
}
