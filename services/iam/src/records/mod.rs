//! What is stored. Everything belongs to an account and to no region.
//!
//! Users, groups, roles, instance profiles and policies are kept under their unique ids, which live
//! and die with them, and found by name through an index; so a new name moves nothing, and what
//! refers to a deleted one never finds a namesake. Names differ by more than case.

mod access_job;
mod account;
mod certificate;
mod group;
mod instance_profile;
mod key;
mod policy;
mod provider;
mod role;
mod user;
mod uses;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharf_core::AccountId;
use wharf_state::Key as _;

pub use access_job::{AccessEntity, AccessJob, EntityKind, ServiceAccess};
pub(crate) use account::BY_ALIAS;
pub use account::{Account, CredentialReport, PasswordPolicy};
pub use certificate::ServerCertificate;
pub use group::Group;
pub(crate) use instance_profile::BY_ROLE;
pub use instance_profile::InstanceProfile;
pub(crate) use key::BY_OWNER;
pub use key::{AccessKey, Status};
pub use policy::{Policy, PolicyVersion};
pub use provider::{OidcProvider, SamlProvider};
pub use role::{Deletion, Role};
pub(crate) use user::BY_GROUP;
pub use user::{Login, User};
pub use uses::{Use, UseRecord};

/// Tag keys and values. Keys differ by more than case.
pub type Tags = BTreeMap<String, String>;

/// The key of a record of an account: (account, unique id).
pub type IdKey = (AccountId, String);

/// Policies of a user, group or role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Policies {
    /// Documents by name.
    pub inline: BTreeMap<String, Arc<str>>,
    /// The managed policies that are attached, as [`PolicyName`]s.
    pub attached: BTreeSet<PolicyName>,
    /// The permissions boundary; groups have none.
    #[serde(default)]
    pub boundary: Option<PolicyName>,
}

/// A managed policy, named as in its ARN behind `arn:PARTITION:iam::`: `123456789012:policy/a/b` or
/// `aws:policy/a/b`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyName(pub String);

impl PolicyName {
    /// The account of a policy that is not AWS's, and its path and name together: `/a/b`.
    pub fn parts(&self) -> Option<(Option<AccountId>, &str)> {
        let (owner, resource) = self.0.split_once(':')?;
        let path_and_name = resource.strip_prefix("policy")?;
        if !path_and_name.starts_with('/') {
            return None;
        }
        if owner == "aws" {
            Some((None, path_and_name))
        } else {
            Some((Some(owner.parse().ok()?), path_and_name))
        }
    }

    /// The name alone: `b`.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

/// The form in which names are compared.
pub fn folded(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// The key of an index by name.
pub(crate) fn name_key(account: AccountId, name: &str) -> Vec<u8> {
    (account, folded(name)).to_bytes()
}

/// The keys of an index by managed policy.
fn attached_keys(account: AccountId, policies: &Policies) -> Vec<Vec<u8>> {
    policies.attached.iter().map(|policy| (account, policy.0.clone()).to_bytes()).collect()
}

/// The keys of an index by permissions boundary.
fn boundary_keys(account: AccountId, policies: &Policies) -> Vec<Vec<u8>> {
    policies.boundary.iter().map(|policy| (account, policy.0.clone()).to_bytes()).collect()
}

/// Indexes that users, groups and roles share.
pub(crate) const BY_NAME: &str = "name";
pub(crate) const BY_ATTACHED: &str = "attached";
pub(crate) const BY_BOUNDARY: &str = "boundary";
