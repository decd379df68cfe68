//! Server certificates.

use serde::{Deserialize, Serialize};
use wharf_core::{AccountId, Timestamp};
use wharf_state::{Index, Record};

use super::{BY_NAME, IdKey, Tags, name_key};

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerCertificate {
    pub account: AccountId,
    /// `ASCA…`.
    pub id: String,
    pub name: String,
    pub path: String,
    pub uploaded_at: Timestamp,
    pub expires_at: Timestamp,
    /// PEM.
    pub body: String,
    pub chain: Option<String>,
    /// PEM, sealed by the vault; never given out.
    pub sealed_private_key: Vec<u8>,
    pub tags: Tags,
}

impl std::fmt::Debug for ServerCertificate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ServerCertificate").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Record for ServerCertificate {
    const TABLE: &'static str = "iam.server_certificate";
    const VERSION: u32 = 1;
    type Key = IdKey;

    fn key(&self) -> IdKey {
        (self.account, self.id.clone())
    }

    fn indexes() -> &'static [Index<Self>] {
        &[Index { name: BY_NAME, keys: |certificate| vec![name_key(certificate.account, &certificate.name)] }]
    }
}
