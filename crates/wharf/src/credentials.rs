//! The keys that exist out of the box.
//!
//! - `test` with the secret `test`: the root of the default account.
//! - A 12-digit account id as access key id, with the secret `test`: the root of that account.
//! - With `--auth any`, any other key, unverified: the root of the default account.

use wharf_contracts::{CredentialError, CredentialSource, Credentials, Secret};
use wharf_core::{AccountId, Principal};

pub const ACCESS_KEY_ID: &str = "test";
pub const SECRET_ACCESS_KEY: &str = "test";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AuthMode {
    /// Verify every signature
    Verify,
    /// Take unknown access keys for the root of the default account, unverified
    Any,
}

pub struct BuiltInKeys {
    pub default_account: AccountId,
    pub mode: AuthMode,
}

impl CredentialSource for BuiltInKeys {
    fn credentials(&self, access_key_id: &str) -> Result<Credentials, CredentialError> {
        let root = |account, secret| Credentials {
            principal: Principal::Root { account },
            secret,
            session_token: None,
            expires: None,
        };
        let known = || Secret::Known(SECRET_ACCESS_KEY.to_owned());
        if access_key_id == ACCESS_KEY_ID {
            return Ok(root(self.default_account, known()));
        }
        if let Ok(account) = access_key_id.parse() {
            return Ok(root(account, known()));
        }
        match self.mode {
            AuthMode::Any => Ok(root(self.default_account, Secret::Unverified)),
            AuthMode::Verify => Err(CredentialError::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account_of(mode: AuthMode, key: &str) -> Option<String> {
        let keys = BuiltInKeys { default_account: AccountId::DEFAULT, mode };
        keys.credentials(key).ok().map(|found| found.principal.account().to_string())
    }

    #[test]
    fn a_key_of_twelve_digits_is_the_root_of_that_account() {
        assert_eq!(account_of(AuthMode::Verify, "test").as_deref(), Some("000000000000"));
        assert_eq!(account_of(AuthMode::Verify, "123456789012").as_deref(), Some("123456789012"));
        assert_eq!(account_of(AuthMode::Verify, "AKIAIOSFODNN7EXAMPLE"), None);
        assert_eq!(account_of(AuthMode::Any, "AKIAIOSFODNN7EXAMPLE").as_deref(), Some("000000000000"));
    }
}
