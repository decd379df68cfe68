//! From an access key id to the secret that verifies its signatures.

use wharf_core::{Principal, Timestamp};

/// What an access key id stands for.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub principal: Principal,
    /// Never logged, never sent.
    pub secret: Secret,
    /// The token that must come with a temporary key; `None` for a long-term key.
    pub session_token: Option<String>,
    pub expires: Option<Timestamp>,
}

/// How the signature of this key is checked.
#[derive(Clone)]
pub enum Secret {
    /// Verify SigV4 with this secret access key.
    Known(String),
    /// Accept without a check: `--auth any` on a loopback listener, for an unknown key.
    Unverified,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Known(_) => "Known(…)",
            Self::Unverified => "Unverified",
        })
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("the access key id is not known")]
    Unknown,
}

pub trait CredentialSource: Send + Sync {
    /// # Errors
    /// [`CredentialError::Unknown`] when no key has this id.
    fn credentials(&self, access_key_id: &str) -> Result<Credentials, CredentialError>;
}
