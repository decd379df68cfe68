//! What is stored of parameters.
//!
//! A value is stored sealed, whatever the parameter's type: what differs between a `String` and a
//! `SecureString` is the key, and whether a caller has to ask for decryption.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharf_core::{Arn, Scope, Timestamp};
use wharf_state::{Key as _, Record};

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
    #[serde(with = "sealed")]
    pub value: Vec<u8>,
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

/// Sealed bytes are stored as bytes, not as a list of numbers.
mod sealed {
    use std::fmt;

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_byte_buf(Bytes)
    }

    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("sealed bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_owned())
        }

        fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }
    }
}
