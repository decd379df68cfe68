//! What users, groups and roles have in common: they hold policies.

use std::sync::Arc;

use wharf_core::{AccountId, ApiError};
use wharf_state::Record;

use crate::find::{self, Read};
use crate::records::{Group, IdKey, Policies, Role, User};

pub trait Holder: Record<Key = IdKey> {
    /// As in messages: `user`.
    const NOUN: &'static str;
    /// The size that all inline policies together may have, in characters without white space.
    const INLINE_CHARS_MAX: usize;
    /// The name of the quota of attached policies.
    const ATTACHED_QUOTA: &'static str;

    fn name(&self) -> &str;

    fn policies(&self) -> &Policies;

    fn policies_mut(&mut self) -> &mut Policies;

    /// # Errors
    /// `NoSuchEntity`.
    fn find(read: &impl Read, account: AccountId, name: &str) -> Result<Arc<Self>, ApiError>;

    /// As [`Holder::find`], to be changed.
    ///
    /// # Errors
    /// `UnmodifiableEntity` for a role that is AWS's.
    fn find_own(read: &impl Read, account: AccountId, name: &str) -> Result<Arc<Self>, ApiError> {
        Self::find(read, account, name)
    }
}

impl Holder for User {
    const NOUN: &'static str = "user";
    const INLINE_CHARS_MAX: usize = 2048;
    const ATTACHED_QUOTA: &'static str = "PoliciesPerUser";

    fn name(&self) -> &str {
        &self.name
    }

    fn policies(&self) -> &Policies {
        &self.policies
    }

    fn policies_mut(&mut self) -> &mut Policies {
        &mut self.policies
    }

    fn find(read: &impl Read, account: AccountId, name: &str) -> Result<Arc<Self>, ApiError> {
        find::user(read, account, name)
    }
}

impl Holder for Group {
    const NOUN: &'static str = "group";
    const INLINE_CHARS_MAX: usize = 5120;
    const ATTACHED_QUOTA: &'static str = "PoliciesPerGroup";

    fn name(&self) -> &str {
        &self.name
    }

    fn policies(&self) -> &Policies {
        &self.policies
    }

    fn policies_mut(&mut self) -> &mut Policies {
        &mut self.policies
    }

    fn find(read: &impl Read, account: AccountId, name: &str) -> Result<Arc<Self>, ApiError> {
        find::group(read, account, name)
    }
}

impl Holder for Role {
    const NOUN: &'static str = "role";
    const INLINE_CHARS_MAX: usize = 10_240;
    const ATTACHED_QUOTA: &'static str = "PoliciesPerRole";

    fn name(&self) -> &str {
        &self.name
    }

    fn policies(&self) -> &Policies {
        &self.policies
    }

    fn policies_mut(&mut self) -> &mut Policies {
        &mut self.policies
    }

    fn find(read: &impl Read, account: AccountId, name: &str) -> Result<Arc<Self>, ApiError> {
        find::role(read, account, name)
    }

    fn find_own(read: &impl Read, account: AccountId, name: &str) -> Result<Arc<Self>, ApiError> {
        find::own_role(read, account, name)
    }
}
