//! Access keys of users and of root users.

use serde::{Deserialize, Serialize};
use wharf_core::{AccountId, Timestamp};
use wharf_state::{Index, Key as _, Record};

/// The keys of a user, or of a root user: (account, user's id or none).
pub(crate) const BY_OWNER: &str = "owner";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    Active,
    Inactive,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct AccessKey {
    /// `AKIA…`, unique in the world.
    pub id: String,
    pub account: AccountId,
    /// The user's id; `None`: the root user's.
    pub user: Option<String>,
    pub status: Status,
    pub created_at: Timestamp,
    /// When its status was last changed, or it was made.
    pub changed_at: Timestamp,
    /// The secret access key, sealed by the vault.
    #[serde(with = "bytes")]
    pub sealed_secret: Vec<u8>,
}

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("AccessKey")
            .field("id", &self.id)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl AccessKey {
    pub(crate) fn owner_key(account: AccountId, user: Option<&str>) -> Vec<u8> {
        (account, user.map(str::to_owned)).to_bytes()
    }
}

impl Record for AccessKey {
    const TABLE: &'static str = "iam.access_key";
    const VERSION: u32 = 1;
    type Key = String;

    fn key(&self) -> String {
        self.id.clone()
    }

    fn indexes() -> &'static [Index<Self>] {
        &[Index { name: BY_OWNER, keys: |key| vec![AccessKey::owner_key(key.account, key.user.as_deref())] }]
    }
}

/// Bytes as MessagePack's own byte string instead of a list of numbers.
mod bytes {
    use serde::{Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;

        impl de::Visitor<'_> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}
