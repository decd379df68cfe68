//! The account's password policy (API Reference: UpdateAccountPasswordPolicy,
//! GetAccountPasswordPolicy, DeleteAccountPasswordPolicy).

use wharf_core::{ApiError, RequestContext};
use wharf_iam_api::{errors, types};

use super::account::account_of;
use crate::Iam;
use crate::records::{Account, PasswordPolicy};

/// What `MinimumPasswordLength` is where the caller does not say.
const LENGTH_MIN: u32 = 6;

impl Iam {
    /// What is not given becomes its default: nothing of the policy before stays.
    pub(super) async fn update_account_password_policy(
        &self,
        context: &RequestContext,
        input: types::UpdateAccountPasswordPolicyRequest,
    ) -> Result<(), ApiError> {
        // The model has checked the ranges.
        let number = |value: Option<i32>| value.and_then(|value| u32::try_from(value).ok());
        let policy = PasswordPolicy {
            minimum_length: number(input.minimum_password_length).unwrap_or(LENGTH_MIN),
            require_symbols: input.require_symbols == Some(true),
            require_numbers: input.require_numbers == Some(true),
            require_uppercase: input.require_uppercase_characters == Some(true),
            require_lowercase: input.require_lowercase_characters == Some(true),
            allow_users_to_change: input.allow_users_to_change_password == Some(true),
            max_age: number(input.max_password_age).filter(|days| *days > 0),
            reuse_prevention: number(input.password_reuse_prevention).filter(|count| *count > 0),
            hard_expiry: input.hard_expiry == Some(true),
        };
        self.change(|transaction| {
            let mut account = account_of(transaction, context);
            account.password_policy = Some(policy);
            transaction.put(account);
            Ok(())
        })
        .await
    }

    pub(super) async fn get_account_password_policy(
        &self,
        context: &RequestContext,
        _input: (),
    ) -> Result<types::GetAccountPasswordPolicyResponse, ApiError> {
        let account = self.store.snapshot().get::<Account>(&context.account());
        let policy = account.and_then(|account| account.password_policy.clone());
        let policy = policy.ok_or_else(|| no_policy(context))?;
        let number = |value: Option<u32>| value.map(u32::cast_signed);
        Ok(types::GetAccountPasswordPolicyResponse {
            password_policy: types::PasswordPolicy {
                allow_users_to_change_password: Some(policy.allow_users_to_change),
                expire_passwords: Some(policy.max_age.is_some()),
                hard_expiry: Some(policy.hard_expiry),
                max_password_age: number(policy.max_age),
                minimum_password_length: Some(policy.minimum_length.cast_signed()),
                password_reuse_prevention: number(policy.reuse_prevention),
                require_lowercase_characters: Some(policy.require_lowercase),
                require_numbers: Some(policy.require_numbers),
                require_symbols: Some(policy.require_symbols),
                require_uppercase_characters: Some(policy.require_uppercase),
            },
        })
    }

    pub(super) async fn delete_account_password_policy(
        &self,
        context: &RequestContext,
        _input: (),
    ) -> Result<(), ApiError> {
        self.change(|transaction| {
            let mut account = account_of(transaction, context);
            account.password_policy.take().ok_or_else(|| no_policy(context))?;
            transaction.put(account);
            Ok(())
        })
        .await
    }
}

fn no_policy(context: &RequestContext) -> ApiError {
    errors::no_such_entity_exception(format!(
        "The Password Policy with domain name {} cannot be found.",
        context.account()
    ))
}
