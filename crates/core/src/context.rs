//! Who calls, from where, and for which account and region.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::arn::Partition;
use crate::clock::Timestamp;
use crate::id::{AccountId, Region, RequestId};

/// Where a resource lives: state is kept for each account and region.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope {
    pub account: AccountId,
    pub region: Region,
}

/// A caller. Everything but [`Principal::Anonymous`] has proved who it is.
///
/// IAM User Guide, "IAM identifiers" and "AWS JSON policy elements: Principal".
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// The root user of an account: may do all in it.
    Root { account: AccountId },
    /// An IAM user, by a long-term key or by `sts:GetSessionToken`.
    User {
        account: AccountId,
        /// `AIDA…`: a user made anew under an old name is another user.
        id: Arc<str>,
        /// `/` or `/division/`.
        path: Arc<str>,
        name: Arc<str>,
    },
    /// A session of a role.
    AssumedRole {
        account: AccountId,
        /// `AROA…`.
        role_id: Arc<str>,
        role_path: Arc<str>,
        role_name: Arc<str>,
        session_name: Arc<str>,
    },
    /// A session that a user made for somebody else (`sts:GetFederationToken`). What it may do
    /// follows from the user in [`Session::issuer`].
    FederatedUser { account: AccountId, name: Arc<str> },
    /// The caller of an operation that needs no signature. Belongs to no account.
    Anonymous,
}

impl Principal {
    /// The account that the caller belongs to; [`AccountId::ANONYMOUS`], which owns nothing, for
    /// a caller without one.
    pub fn account(&self) -> AccountId {
        match self {
            Self::Root { account }
            | Self::User { account, .. }
            | Self::AssumedRole { account, .. }
            | Self::FederatedUser { account, .. } => *account,
            Self::Anonymous => AccountId::ANONYMOUS,
        }
    }

    pub fn is_root(&self) -> bool {
        matches!(self, Self::Root { .. })
    }

    /// The ARN that `sts:GetCallerIdentity` reports and that error messages name.
    pub fn arn(&self, partition: Partition) -> String {
        match self {
            Self::Root { account } => format!("arn:{partition}:iam::{account}:root"),
            Self::User { account, path, name, .. } => {
                format!("arn:{partition}:iam::{account}:user{path}{name}")
            }
            Self::AssumedRole { account, role_name, session_name, .. } => {
                format!("arn:{partition}:sts::{account}:assumed-role/{role_name}/{session_name}")
            }
            Self::FederatedUser { account, name } => {
                format!("arn:{partition}:sts::{account}:federated-user/{name}")
            }
            Self::Anonymous => "anonymous".to_owned(),
        }
    }

    /// The value of `aws:PrincipalArn`: as [`Principal::arn`], but the role's own ARN for its
    /// sessions. Absent for an anonymous caller.
    pub fn principal_arn(&self, partition: Partition) -> Option<String> {
        match self {
            Self::AssumedRole { account, role_path, role_name, .. } => {
                Some(format!("arn:{partition}:iam::{account}:role{role_path}{role_name}"))
            }
            Self::Anonymous => None,
            Self::Root { .. } | Self::User { .. } | Self::FederatedUser { .. } => Some(self.arn(partition)),
        }
    }

    /// The unique id that `sts:GetCallerIdentity` reports as `UserId`, the value of `aws:userid`.
    pub fn user_id(&self) -> String {
        match self {
            Self::Root { account } => account.to_string(),
            Self::User { id, .. } => id.to_string(),
            Self::AssumedRole { role_id, session_name, .. } => format!("{role_id}:{session_name}"),
            Self::FederatedUser { account, name } => format!("{account}:{name}"),
            Self::Anonymous => "anonymous".to_owned(),
        }
    }

    /// The value of `aws:PrincipalType`.
    pub fn principal_type(&self) -> &'static str {
        match self {
            Self::Root { .. } => "Account",
            Self::User { .. } => "User",
            Self::AssumedRole { .. } => "AssumedRole",
            Self::FederatedUser { .. } => "FederatedUser",
            Self::Anonymous => "Anonymous",
        }
    }
}

/// How temporary credentials came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SessionOrigin {
    AssumeRole,
    AssumeRoleWithWebIdentity,
    GetSessionToken,
    GetFederationToken,
    /// Made by Wharf for something that it runs, such as a task with a task role.
    Service,
}

/// What temporary credentials carry beside the principal. Everything in it is authentic: it was
/// sealed by this server and has not been changed since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// `aws:TokenIssueTime`.
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    pub origin: SessionOrigin,
    /// The ARN of the role, user or root that the permissions come from.
    pub issuer: String,
    /// `AROA…`, `AIDA…` or the account id of `issuer`.
    pub issuer_id: String,
    /// Inline session policies: JSON documents. With `policy_arns`, they narrow what the issuer
    /// may do. When both are empty, a session of a role or a user is not narrowed, and a
    /// federated user may do nothing by its issuer's policies.
    pub policies: Vec<String>,
    /// Managed policies as session policies.
    pub policy_arns: Vec<String>,
    /// Session tags: `aws:PrincipalTag/*`, above the role's own tags of the same key.
    pub tags: BTreeMap<String, String>,
    /// Keys of `tags` that go on to the sessions of roles assumed from this one.
    pub transitive_tag_keys: BTreeSet<String>,
    /// `aws:SourceIdentity`.
    pub source_identity: Option<String>,
    /// `aws:FederatedProvider`: the ARN of the OIDC or SAML provider.
    pub federated_provider: Option<String>,
    /// Condition keys of the federated login, such as `token.example.com:sub`.
    pub federated_keys: BTreeMap<String, Vec<String>>,
    /// When the issuer showed a second factor, for `aws:MultiFactorAuthAge`.
    pub mfa_at: Option<Timestamp>,
    /// SHA-256 of the session token: the session's identity for caches.
    pub token_digest: [u8; 32],
}

/// What the pipeline knows of a request by the time a handler sees it.
#[derive(Clone, Debug)]
pub struct RequestContext {
    pub request_id: RequestId,
    pub scope: Scope,
    pub principal: Principal,
    /// `None` for long-term credentials and for anonymous callers.
    pub session: Option<Arc<Session>>,
    /// The access key that signed the request; empty when none did.
    pub access_key_id: String,
    pub source_ip: IpAddr,
    /// When the request arrived. A handler uses this instead of asking a clock.
    pub now: Timestamp,
}

impl RequestContext {
    pub fn account(&self) -> AccountId {
        self.scope.account
    }

    pub fn region(&self) -> &Region {
        &self.scope.region
    }

    pub fn partition(&self) -> Partition {
        Partition::of_region(&self.scope.region)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_have_the_arns_and_ids_of_the_iam_user_guide() {
        let account: AccountId = "123456789012".parse().unwrap();
        let user =
            Principal::User { account, id: "AIDA1".into(), path: "/division/".into(), name: "alice".into() };
        assert_eq!(user.arn(Partition::Aws), "arn:aws:iam::123456789012:user/division/alice");
        assert_eq!(user.user_id(), "AIDA1");
        let role = Principal::AssumedRole {
            account,
            role_id: "AROA1".into(),
            role_path: "/x/".into(),
            role_name: "deploy".into(),
            session_name: "s".into(),
        };
        assert_eq!(role.arn(Partition::AwsCn), "arn:aws-cn:sts::123456789012:assumed-role/deploy/s");
        assert_eq!(
            role.principal_arn(Partition::Aws).as_deref(),
            Some("arn:aws:iam::123456789012:role/x/deploy")
        );
        assert_eq!(role.user_id(), "AROA1:s");
        let federated = Principal::FederatedUser { account, name: "bob".into() };
        assert_eq!(federated.arn(Partition::Aws), "arn:aws:sts::123456789012:federated-user/bob");
        assert_eq!(federated.user_id(), "123456789012:bob");
    }

    #[test]
    fn an_anonymous_caller_shares_its_account_with_nobody() {
        let account = Principal::Anonymous.account();
        assert_eq!(account.to_string().parse::<AccountId>().ok(), None);
        assert_ne!(account, AccountId::DEFAULT);
    }
}
