//! Identity providers.

use serde::{Deserialize, Serialize};
use wharf_core::{AccountId, Timestamp};
use wharf_state::{Index, Record};

use super::{IdKey, Tags};

/// An OpenID Connect provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OidcProvider {
    pub account: AccountId,
    /// The URL without its scheme: what stands in the ARN.
    pub name: String,
    /// With its scheme.
    pub url: String,
    pub created_at: Timestamp,
    /// In the order in which they were given.
    pub client_ids: Vec<String>,
    /// In lower case.
    pub thumbprints: Vec<String>,
    pub tags: Tags,
}

impl Record for OidcProvider {
    const TABLE: &'static str = "iam.oidc_provider";
    const VERSION: u32 = 1;
    type Key = IdKey;

    fn key(&self) -> IdKey {
        (self.account, self.name.clone())
    }

    fn indexes() -> &'static [Index<Self>] {
        &[]
    }
}

/// A SAML provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamlProvider {
    pub account: AccountId,
    pub name: String,
    pub uuid: String,
    pub created_at: Timestamp,
    pub valid_until: Timestamp,
    /// XML.
    pub metadata: String,
    pub tags: Tags,
}

impl Record for SamlProvider {
    const TABLE: &'static str = "iam.saml_provider";
    const VERSION: u32 = 1;
    type Key = IdKey;

    fn key(&self) -> IdKey {
        (self.account, self.name.clone())
    }

    fn indexes() -> &'static [Index<Self>] {
        &[]
    }
}
