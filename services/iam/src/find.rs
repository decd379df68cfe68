//! Finding records, alike in a snapshot and within a transaction.

use std::sync::Arc;

use wharf_core::{AccountId, ApiError, Partition, Principal, RequestContext};
use wharf_state::{Key as _, Record, Snapshot, Transaction};

use crate::failures;
use crate::managed::{self, ManagedPolicy};
use crate::names;
use crate::records::{
    BY_ATTACHED, BY_BOUNDARY, BY_NAME, Group, InstanceProfile, Policy, PolicyName, Role, ServerCertificate,
    User, name_key,
};

/// What a snapshot and a transaction have in common.
pub trait Read {
    fn record<R: Record>(&self, key: &R::Key) -> Option<Arc<R>>;

    fn indexed<'a, R: Record>(
        &'a self,
        index: &'static str,
        prefix: &[u8],
    ) -> impl Iterator<Item = Arc<R>> + use<'a, R, Self>;
}

impl Read for Snapshot {
    fn record<R: Record>(&self, key: &R::Key) -> Option<Arc<R>> {
        self.get(key)
    }

    fn indexed<'a, R: Record>(
        &'a self,
        index: &'static str,
        prefix: &[u8],
    ) -> impl Iterator<Item = Arc<R>> + use<'a, R> {
        self.index(index, prefix)
    }
}

impl<'s> Read for Transaction<'s> {
    fn record<R: Record>(&self, key: &R::Key) -> Option<Arc<R>> {
        self.get(key)
    }

    fn indexed<'a, R: Record>(
        &'a self,
        index: &'static str,
        prefix: &[u8],
    ) -> impl Iterator<Item = Arc<R>> + use<'a, 's, R> {
        self.index(index, prefix)
    }
}

/// The one with a name; names differ by more than case.
pub fn named<R: Record>(read: &impl Read, account: AccountId, name: &str) -> Option<Arc<R>> {
    read.indexed(BY_NAME, &name_key(account, name)).next()
}

/// All of an account, in the order of their names.
pub fn all<'a, R: Record, V: Read>(
    read: &'a V,
    account: AccountId,
) -> impl Iterator<Item = Arc<R>> + use<'a, R, V> {
    read.indexed(BY_NAME, &account.to_bytes())
}

pub fn user(read: &impl Read, account: AccountId, name: &str) -> Result<Arc<User>, ApiError> {
    named(read, account, name).ok_or_else(|| failures::no_user(name))
}

pub fn group(read: &impl Read, account: AccountId, name: &str) -> Result<Arc<Group>, ApiError> {
    named(read, account, name).ok_or_else(|| failures::no_group(name))
}

pub fn role(read: &impl Read, account: AccountId, name: &str) -> Result<Arc<Role>, ApiError> {
    named(read, account, name).ok_or_else(|| failures::no_role(name))
}

/// A role that may be changed by others than AWS.
pub fn own_role(read: &impl Read, account: AccountId, name: &str) -> Result<Arc<Role>, ApiError> {
    let role = role(read, account, name)?;
    if role.linked_service.is_some() { Err(failures::protected_role(&role.name)) } else { Ok(role) }
}

pub fn instance_profile(
    read: &impl Read,
    account: AccountId,
    name: &str,
) -> Result<Arc<InstanceProfile>, ApiError> {
    named(read, account, name).ok_or_else(|| failures::no_instance_profile(name))
}

pub fn server_certificate(
    read: &impl Read,
    account: AccountId,
    name: &str,
) -> Result<Arc<ServerCertificate>, ApiError> {
    named(read, account, name).ok_or_else(|| failures::no_server_certificate(name))
}

/// A managed policy: a customer's, or AWS's.
#[derive(Clone)]
pub enum AnyPolicy {
    Customer(Arc<Policy>),
    Aws(&'static ManagedPolicy),
}

impl AnyPolicy {
    pub fn full_name(&self) -> PolicyName {
        match self {
            Self::Customer(policy) => policy.full_name(),
            Self::Aws(policy) => policy.full_name(),
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Customer(policy) => &policy.name,
            Self::Aws(policy) => &policy.name,
        }
    }

    pub fn path(&self) -> &str {
        match self {
            Self::Customer(policy) => &policy.path,
            Self::Aws(policy) => &policy.path,
        }
    }

    /// The document of the default version.
    pub fn document(&self) -> Arc<str> {
        match self {
            Self::Customer(policy) => policy
                .version(policy.default_version)
                .map_or_else(|| Arc::from(""), |version| Arc::clone(&version.document)),
            Self::Aws(policy) => Arc::clone(&policy.document),
        }
    }

    /// The customer's policy.
    ///
    /// # Errors
    /// `AccessDenied`, as AWS has it for a change to one of its own.
    pub fn customer(self, action: &str, arn: &str) -> Result<Arc<Policy>, ApiError> {
        match self {
            Self::Customer(policy) => Ok(policy),
            Self::Aws(_) => Err(ApiError::sender(
                "AccessDenied",
                format!("Cannot perform iam:{action} on the AWS managed policy {arn}: only AWS changes it."),
            )
            .with_status(403)),
        }
    }
}

/// A managed policy that `account` can see.
pub fn policy(read: &impl Read, account: AccountId, name: &PolicyName) -> Option<AnyPolicy> {
    match name.parts()? {
        (None, path_and_name) => managed::find(path_and_name).map(AnyPolicy::Aws),
        (Some(owner), _) if owner == account => {
            let policy: Arc<Policy> = named(read, account, name.name())?;
            // Names are found without their case, ARNs are not the same without it: a policy may allow
            // or deny one by its ARN (`iam:PolicyARN`).
            (policy.full_name() == *name).then_some(AnyPolicy::Customer(policy))
        }
        _ => None,
    }
}

/// The managed policy that a request names by its ARN.
///
/// # Errors
/// `InvalidInput` when it is no policy's ARN, else `missing` when there is none.
pub fn policy_by_arn(
    read: &impl Read,
    context: &RequestContext,
    arn: &str,
    missing: fn(&str) -> ApiError,
) -> Result<AnyPolicy, ApiError> {
    let name = names::policy_of_arn(context.partition(), arn).ok_or_else(|| failures::bad_policy_arn(arn))?;
    policy(read, context.account(), &name).ok_or_else(|| missing(arn))
}

/// The permissions boundary that a request names; `None` when it names none.
///
/// # Errors
/// `InvalidInput` when it is no policy's ARN, `NoSuchEntity` when there is no such policy.
pub fn boundary(
    read: &impl Read,
    context: &RequestContext,
    arn: Option<&str>,
) -> Result<Option<PolicyName>, ApiError> {
    arn.map(|arn| policy_by_arn(read, context, arn, failures::no_boundary).map(|policy| policy.full_name()))
        .transpose()
}

/// How many users, groups and roles a policy is attached to.
pub fn attachments(read: &impl Read, account: AccountId, policy: &PolicyName) -> usize {
    let key = (account, policy.0.clone()).to_bytes();
    read.indexed::<User>(BY_ATTACHED, &key).count()
        + read.indexed::<Group>(BY_ATTACHED, &key).count()
        + read.indexed::<Role>(BY_ATTACHED, &key).count()
}

/// How many users and roles have it as their permissions boundary.
pub fn boundary_uses(read: &impl Read, account: AccountId, policy: &PolicyName) -> usize {
    let key = (account, policy.0.clone()).to_bytes();
    read.indexed::<User>(BY_BOUNDARY, &key).count() + read.indexed::<Role>(BY_BOUNDARY, &key).count()
}

/// Whom a request without a user's name means: the caller.
pub enum Subject {
    User(Arc<User>),
    Root,
}

impl Subject {
    /// The id of the user; `None` for the root user.
    pub fn user_id(&self) -> Option<&str> {
        match self {
            Self::User(user) => Some(&user.id),
            Self::Root => None,
        }
    }
}

/// The user that a request names, or else its caller.
///
/// # Errors
/// When there is no such user, or the caller is neither a user nor the root user.
pub fn subject(read: &impl Read, context: &RequestContext, name: Option<&str>) -> Result<Subject, ApiError> {
    if let Some(name) = name {
        return user(read, context.account(), name).map(Subject::User);
    }
    match &context.principal {
        Principal::Root { .. } => Ok(Subject::Root),
        Principal::User { account, id, name, .. } => read
            .record::<User>(&(*account, id.to_string()))
            .map(Subject::User)
            .ok_or_else(|| failures::no_user(name)),
        _ => Err(failures::validation("Must specify userName when calling with non-User credentials")),
    }
}

/// `arn:…:iam::…` of a user.
pub fn user_arn(partition: Partition, user: &User) -> String {
    names::arn(partition, user.account, "user", &user.path, &user.name)
}
