//! What is stored of parameters.
//!
//! A value is stored sealed, whatever the parameter's type: what differs between a `String` and a
//! `SecureString` is the key, and whether a caller has to ask for decryption.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharf_core::{Arn, Scope, Timestamp};
use wharf_state::{Key as _, Record};
use wharf_vault::Sealed;

use crate::plan::policy::Policy;
use crate::plan::value::{Kind, Tier};

/// A parameter: what all of its versions have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    pub scope: Scope,
    pub name: String,
    pub kind: Kind,
    pub tier: Tier,
    /// The newest version; versions are never numbered anew.
    pub version: u64,
    pub policies: Vec<Policy>,
    pub tags: BTreeMap<String, String>,
}

impl Parameter {
    pub fn arn(&self) -> String {
        arn(&self.scope, &self.name)
    }

    /// The encoded beginning of the keys of its versions.
    pub fn versions_prefix(scope: &Scope, name: &str) -> Vec<u8> {
        (scope.clone(), name.to_owned()).to_bytes()
    }
}

/// `arn:aws:ssm:REGION:ACCOUNT:parameter/a/b`; a name without a slash in front gets one.
pub fn arn(scope: &Scope, name: &str) -> String {
    let bare = name.strip_prefix('/').unwrap_or(name);
    Arn::regional("ssm", &scope.region, scope.account, format!("parameter/{bare}")).to_string()
}

impl Record for Parameter {
    const TABLE: &'static str = "ssm.parameter";
    const VERSION: u32 = 1;
    type Key = (Scope, String);

    fn key(&self) -> Self::Key {
        (self.scope.clone(), self.name.clone())
    }
}

/// One version of a parameter, as it was put.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParameterVersion {
    pub scope: Scope,
    pub name: String,
    pub version: u64,
    pub kind: Kind,
    pub tier: Tier,
    pub data_type: String,
    pub value: Sealed,
    /// The KMS key of a `SecureString`, as the caller named it, and its ARN.
    pub key: Option<KeyName>,
    pub description: Option<String>,
    pub allowed_pattern: Option<String>,
    pub policies: Vec<Policy>,
    pub labels: Vec<String>,
    pub modified_at: Timestamp,
    pub modified_by: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyName {
    pub given: String,
    pub arn: String,
}

impl Record for ParameterVersion {
    const TABLE: &'static str = "ssm.version";
    const VERSION: u32 = 1;
    type Key = (Scope, String, u64);

    fn key(&self) -> Self::Key {
        (self.scope.clone(), self.name.clone(), self.version)
    }
}
