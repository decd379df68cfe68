//! What IAM knows of principals, for whoever authenticates and authorizes them. Implemented by the
//! IAM service; read for every request, so an answer that has not changed is the same `Arc`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use wharf_core::{AccountId, Principal, Region, Timestamp};

/// A user or a role by its unique id: a name that was given to another since finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityRef<'a> {
    /// `AIDA…`.
    User { account: AccountId, id: &'a str },
    /// `AROA…`.
    Role { account: AccountId, id: &'a str },
}

/// A policy document and whose it is. The text is shared with the record: while a policy (version)
/// is not changed, its `document` is the same `Arc`, whoever it is attached to, so that what was
/// compiled of it can be found by the pointer.
#[derive(Clone, Debug)]
pub struct PolicySource {
    /// The ARN of a managed policy, or `user/NAME/POLICY`, `group/NAME/POLICY`, `role/NAME/POLICY` of
    /// an inline one. For explanations.
    pub name: Arc<str>,
    /// The document's JSON, which has passed the grammar check.
    pub document: Arc<str>,
}

/// Everything that decides what a user or a role may do.
#[derive(Clone, Debug)]
pub struct Identity {
    pub account: AccountId,
    pub id: String,
    pub path: String,
    pub name: String,
    pub tags: BTreeMap<String, String>,
    /// Inline and attached policies, those of a user's groups included.
    pub policies: Vec<PolicySource>,
    /// The permissions boundary.
    pub boundary: Option<PolicySource>,
}

/// The identity policies of users and roles.
pub trait IdentityPolicies: Send + Sync {
    /// `None` when there is no such user or role (any more): its keys and sessions are void then.
    /// Costs a hash look-up while nothing in IAM has changed, and gives the same `Arc` then.
    fn identity(&self, identity: IdentityRef<'_>) -> Option<Arc<Identity>>;

    /// The document of a managed policy's default version, of this account or of AWS; for session
    /// policies that are named by their ARN.
    fn managed_policy(&self, account: AccountId, arn: &str) -> Option<PolicySource>;
}

/// What assuming a role needs to know of it.
#[derive(Clone, Debug)]
pub struct RoleFacts {
    pub account: AccountId,
    pub id: String,
    pub path: String,
    pub name: String,
    /// The trust policy's JSON.
    pub trust_policy: Arc<str>,
    pub max_session_duration: Duration,
    pub tags: BTreeMap<String, String>,
}

/// The roles of all accounts.
pub trait Roles: Send + Sync {
    /// By its name, without its path; names differ by more than case.
    fn role(&self, account: AccountId, name: &str) -> Option<RoleFacts>;
}

/// That a principal has called: what `GetAccessKeyLastUsed`, `RoleLastUsed` and the service last
/// accessed details tell.
#[derive(Clone, Copy, Debug)]
pub struct PrincipalUse<'a> {
    pub principal: &'a Principal,
    /// The key that signed, long-term or temporary.
    pub access_key_id: &'a str,
    /// The service's namespace, such as `ecs`.
    pub service: &'a str,
    pub region: &'a Region,
    pub at: Timestamp,
}

/// Where uses of principals are noted.
pub trait PrincipalUses: Send + Sync {
    /// Notes a use in memory; it reaches the disk some time later. Cheap: called for every request.
    fn used(&self, used: &PrincipalUse<'_>);
}
