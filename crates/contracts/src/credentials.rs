//! From an access key id to the secret that verifies its signatures.

use std::sync::Arc;

use wharf_core::{AccountId, Principal, Session, Timestamp};

/// What an access key id stands for.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub principal: Principal,
    /// Never logged, never sent.
    pub secret: Secret,
    /// `Some` for temporary credentials.
    pub session: Option<Arc<Session>>,
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

/// Why an access key id stands for nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    #[error("the access key id is not known")]
    Unknown,
    #[error("the access key is inactive")]
    Inactive,
    /// The session token is missing, not ours, changed, or of another key.
    #[error("the session token is not that of the access key")]
    InvalidToken,
    #[error("the session token is expired")]
    Expired,
}

/// Asked once for every request. Synchronous and cheap: what it needs is in memory.
pub trait CredentialSource: Send + Sync {
    /// `session_token` is what came with the request. A source of long-term keys refuses one, and a
    /// source of temporary keys refuses its absence.
    ///
    /// # Errors
    /// As [`CredentialError`] says.
    fn credentials(
        &self,
        access_key_id: &str,
        session_token: Option<&str>,
        now: Timestamp,
    ) -> Result<Credentials, CredentialError>;
}

/// May a key be used? IAM API reference, `UpdateAccessKey`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStatus {
    Active,
    Inactive,
}

/// A long-term key of a user, or of a root user.
#[derive(Clone, Debug)]
pub struct AccessKey {
    pub principal: Principal,
    pub secret: Secret,
    pub status: KeyStatus,
}

/// The long-term keys that IAM keeps.
pub trait AccessKeys: Send + Sync {
    /// The key with this id, while its user exists.
    fn access_key(&self, access_key_id: &str) -> Option<AccessKey>;

    /// What has become of a key that exists out of the box (`test`, or a 12-digit account id), which
    /// stands for the root of `account`. `None` when it has been deleted.
    fn built_in_key(&self, access_key_id: &str, account: AccountId) -> Option<KeyStatus>;
}
