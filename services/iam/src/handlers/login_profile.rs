//! Passwords of users (API Reference: CreateLoginProfile, GetLoginProfile, UpdateLoginProfile,
//! DeleteLoginProfile, ChangePassword). There is no console to sign in to: a password is kept,
//! checked against the account's policy, and changed by who knows it.

use std::sync::Arc;

use wharf_core::{ApiError, Principal, RequestContext};
use wharf_iam_api::{errors, types};
use wharf_state::{Snapshot, Transaction};

use crate::find::{self, Subject};
use crate::records::{Account, Login, PasswordPolicy, User};
use crate::{Iam, failures, password};

impl Iam {
    pub(super) async fn create_login_profile(
        &self,
        context: &RequestContext,
        input: types::CreateLoginProfileRequest,
    ) -> Result<types::CreateLoginProfileResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let user = user_of(&snapshot, context, input.user_name.as_deref())?;
        if user.login.is_some() {
            return Err(exists(&user.name));
        }
        let new = input.password.ok_or_else(|| failures::validation("Password is required."))?;
        password::check(policy_of(&snapshot, context).as_ref(), &user.name, &new)?;
        let reset_required = input.password_reset_required == Some(true);
        let hash = self.passwords.hash(new, &*self.rng).await?;
        let login = Login {
            created_at: context.now,
            changed_at: context.now,
            reset_required,
            hash,
            former: Vec::new(),
        };
        self.change_user(&user, |user| {
            if user.login.is_some() {
                return Err(exists(&user.name));
            }
            user.login = Some(login);
            Ok(())
        })
        .await?;
        Ok(types::CreateLoginProfileResponse {
            login_profile: types::LoginProfile {
                create_date: context.now,
                password_reset_required: Some(reset_required),
                user_name: user.name.clone(),
            },
        })
    }

    pub(super) async fn get_login_profile(
        &self,
        context: &RequestContext,
        input: types::GetLoginProfileRequest,
    ) -> Result<types::GetLoginProfileResponse, ApiError> {
        let user = user_of(&self.store.snapshot(), context, input.user_name.as_deref())?;
        let login = user.login.as_ref().ok_or_else(|| no_login(&user.name))?;
        Ok(types::GetLoginProfileResponse {
            login_profile: types::LoginProfile {
                create_date: login.created_at,
                password_reset_required: Some(login.reset_required),
                user_name: user.name.clone(),
            },
        })
    }

    pub(super) async fn update_login_profile(
        &self,
        context: &RequestContext,
        input: types::UpdateLoginProfileRequest,
    ) -> Result<(), ApiError> {
        let snapshot = self.store.snapshot();
        let user = find::user(&snapshot, context.account(), &input.user_name)?;
        let login = user.login.as_ref().ok_or_else(|| no_login(&user.name))?;
        let changed = match input.password {
            Some(new) => Some(self.new_password(policy_of(&snapshot, context), &user, login, new).await?),
            None => None,
        };
        self.change_user(&user, |user| {
            let login = user.login.as_mut().ok_or_else(|| no_login(&user.name))?;
            if let Some(changed) = changed {
                changed.apply(login, context)?;
            }
            if let Some(reset_required) = input.password_reset_required {
                login.reset_required = reset_required;
            }
            Ok(())
        })
        .await
    }

    pub(super) async fn delete_login_profile(
        &self,
        context: &RequestContext,
        input: types::DeleteLoginProfileRequest,
    ) -> Result<(), ApiError> {
        let user = user_of(&self.store.snapshot(), context, input.user_name.as_deref())?;
        self.change_user(&user, |user| match user.login.take() {
            Some(_) => Ok(()),
            None => Err(no_login(&user.name)),
        })
        .await
    }

    pub(super) async fn change_password(
        &self,
        context: &RequestContext,
        input: types::ChangePasswordRequest,
    ) -> Result<(), ApiError> {
        let snapshot = self.store.snapshot();
        if !matches!(context.principal, Principal::User { .. }) {
            return Err(errors::invalid_user_type_exception("Only IAM Users can change their own password"));
        }
        let user = user_of(&snapshot, context, None)?;
        let login = user.login.as_ref().ok_or_else(|| no_login(&user.name))?;
        let policy = policy_of(&snapshot, context);
        if self.passwords.matching(input.old_password, vec![login.hash.clone()]).await?.is_none() {
            return Err(ApiError::sender("AccessDenied", "The old password was incorrect.").with_status(403));
        }
        let expired = policy.as_ref().filter(|policy| policy.hard_expiry).and_then(|policy| policy.max_age);
        if expired.is_some_and(|days| login.age_days(context.now) >= days) {
            return Err(errors::password_policy_violation_exception(
                "The password has expired; an administrator has to set a new one.",
            ));
        }
        let changed = self.new_password(policy, &user, login, input.new_password).await?;
        self.change_user(&user, |user| {
            let login = user.login.as_mut().ok_or_else(|| no_login(&user.name))?;
            login.reset_required = false;
            changed.apply(login, context)
        })
        .await
    }

    /// Checks and hashes a new password for a user who has one.
    async fn new_password(
        &self,
        policy: Option<PasswordPolicy>,
        user: &User,
        login: &Login,
        new: String,
    ) -> Result<NewPassword, ApiError> {
        password::check(policy.as_ref(), &user.name, &new)?;
        let kept = policy.and_then(|policy| policy.reuse_prevention).unwrap_or(0) as usize;
        let mut former: Vec<String> = std::iter::once(&login.hash).chain(&login.former).cloned().collect();
        former.truncate(kept);
        if self.passwords.matching(new.clone(), former.clone()).await?.is_some() {
            return Err(errors::password_policy_violation_exception(
                "Policy constraint violation with password reuse prevention during password change.",
            ));
        }
        let hash = self.passwords.hash(new, &*self.rng).await?;
        Ok(NewPassword { instead_of: login.hash.clone(), hash, former })
    }

    async fn change_user(
        &self,
        user: &User,
        change: impl FnOnce(&mut User) -> Result<(), ApiError> + Send,
    ) -> Result<(), ApiError> {
        let key = (user.account, user.id.clone());
        self.change(|transaction: &mut Transaction<'_>| {
            let user = transaction.get::<User>(&key).ok_or_else(|| failures::no_user(&user.name))?;
            let mut user = User::clone(&user);
            change(&mut user)?;
            transaction.put(user);
            Ok(())
        })
        .await
    }
}

/// A password that may take the place of another.
struct NewPassword {
    /// The hash that it was checked against.
    instead_of: String,
    hash: String,
    former: Vec<String>,
}

impl NewPassword {
    fn apply(self, login: &mut Login, context: &RequestContext) -> Result<(), ApiError> {
        if login.hash != self.instead_of {
            return Err(errors::entity_temporarily_unmodifiable_exception(
                "The password was changed at the same time. Try again later.",
            ));
        }
        login.hash = self.hash;
        login.former = self.former;
        login.changed_at = context.now;
        Ok(())
    }
}

fn policy_of(snapshot: &Snapshot, context: &RequestContext) -> Option<PasswordPolicy> {
    snapshot.get::<Account>(&context.account())?.password_policy.clone()
}

fn user_of(snapshot: &Snapshot, context: &RequestContext, name: Option<&str>) -> Result<Arc<User>, ApiError> {
    match find::subject(snapshot, context, name)? {
        Subject::User(user) => Ok(user),
        Subject::Root => {
            Err(failures::validation("Must specify userName when calling with non-User credentials"))
        }
    }
}

fn exists(user_name: &str) -> ApiError {
    errors::entity_already_exists_exception(format!("Login Profile for user {user_name} already exists."))
}

fn no_login(user_name: &str) -> ApiError {
    errors::no_such_entity_exception(format!("Login Profile for User {user_name} cannot be found."))
}
