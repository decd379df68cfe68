//! Credentials of roles for what Wharf runs: the task role of a task, the execution role that an
//! image is pulled with.

use std::fmt;
use std::time::Duration;

use wharf_core::{AccountId, Principal, Session, Timestamp};

/// Which role, for whom.
#[derive(Clone, Copy, Debug)]
pub struct VendRequest<'a> {
    pub role_arn: &'a str,
    /// The service that assumes the role, which its trust policy must let in:
    /// `ecs-tasks.amazonaws.com`.
    pub service: &'a str,
    /// The name of the session; for a task, its id.
    pub session_name: &'a str,
    /// `aws:SourceArn` and `aws:SourceAccount`: on behalf of which resource.
    pub source_arn: Option<&'a str>,
    pub source_account: Option<AccountId>,
    pub lifetime: Duration,
    pub now: Timestamp,
}

/// A session of a role, with what a client needs to sign as it and with what the authorizer needs to
/// decide about it.
#[derive(Clone)]
pub struct Vended {
    pub access_key_id: String,
    /// Never logged.
    pub secret_access_key: String,
    /// Never logged.
    pub session_token: String,
    pub expires_at: Timestamp,
    pub principal: Principal,
    pub session: Session,
}

impl fmt::Debug for Vended {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Vended")
            .field("access_key_id", &self.access_key_id)
            .field("expires_at", &self.expires_at)
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VendError {
    #[error("the ARN is not that of a role")]
    Arn,
    #[error("there is no such role")]
    NoRole,
    #[error("the role does not trust the service")]
    NotTrusted,
    /// The session cannot be put into a token: a mistake of ours.
    #[error("the session does not fit into a token")]
    TooLarge,
}

/// Implemented by STS.
pub trait CredentialVendor: Send + Sync {
    /// # Errors
    /// As [`VendError`] says. Asked again later it may succeed: roles are made after tasks, too.
    fn vend(&self, request: &VendRequest<'_>) -> Result<Vended, VendError>;
}
