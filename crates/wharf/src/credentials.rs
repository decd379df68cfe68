//! Whose key signed a request: the sources of credentials, asked in order.
//!
//! 1. The keys that exist out of the box, unless they have been deleted:
//!    `test` with the secret `test` is the root of the default account; a 12-digit account id with
//!    the secret `test` is the root of that account.
//! 2. `AKIA…`: the long-term keys that IAM keeps.
//! 3. `ASIA…`: temporary keys, whose session token says everything about them.
//! 4. With `--auth any`, any other key, unverified: the root of the default account.

use std::sync::Arc;

use wharf_contracts::{AccessKeys, CredentialError, CredentialSource, Credentials, KeyStatus, Secret};
use wharf_core::{AccountId, Principal, Timestamp};

pub const ACCESS_KEY_ID: &str = "test";
pub const SECRET_ACCESS_KEY: &str = "test";

/// How the id of a temporary key begins (IAM User Guide, "Understanding unique ID prefixes").
const TEMPORARY_PREFIX: &str = "ASIA";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AuthMode {
    /// Verify every signature
    Verify,
    /// Take unknown access keys for the root of the default account, unverified
    Any,
}

/// The sources that exist, in order.
pub struct CredentialChain {
    pub default_account: AccountId,
    pub mode: AuthMode,
    /// `None` while no service keeps keys.
    pub long_term: Option<Arc<dyn AccessKeys>>,
    /// `None` while no service gives temporary keys.
    pub temporary: Option<Arc<dyn CredentialSource>>,
}

impl CredentialChain {
    /// The root user that a key of the box stands for.
    fn built_in_account(&self, access_key_id: &str) -> Option<AccountId> {
        if access_key_id == ACCESS_KEY_ID { Some(self.default_account) } else { access_key_id.parse().ok() }
    }

    fn built_in(&self, access_key_id: &str) -> Option<Result<Credentials, CredentialError>> {
        let account = self.built_in_account(access_key_id)?;
        let status = match &self.long_term {
            Some(keys) => keys.built_in_key(access_key_id, account)?,
            None => KeyStatus::Active,
        };
        Some(usable(status).map(|()| Credentials {
            principal: Principal::Root { account },
            secret: Secret::Known(SECRET_ACCESS_KEY.to_owned()),
            session: None,
        }))
    }

    fn long_term(&self, access_key_id: &str) -> Option<Result<Credentials, CredentialError>> {
        let key = self.long_term.as_ref()?.access_key(access_key_id)?;
        Some(usable(key.status).map(|()| Credentials {
            principal: key.principal,
            secret: key.secret,
            session: None,
        }))
    }

    /// A key that no source knows.
    fn unknown(&self) -> Result<Credentials, CredentialError> {
        match self.mode {
            AuthMode::Any => Ok(Credentials {
                principal: Principal::Root { account: self.default_account },
                secret: Secret::Unverified,
                session: None,
            }),
            AuthMode::Verify => Err(CredentialError::Unknown),
        }
    }
}

fn usable(status: KeyStatus) -> Result<(), CredentialError> {
    match status {
        KeyStatus::Active => Ok(()),
        KeyStatus::Inactive => Err(CredentialError::Inactive),
    }
}

impl CredentialSource for CredentialChain {
    fn credentials(
        &self,
        access_key_id: &str,
        session_token: Option<&str>,
        now: Timestamp,
    ) -> Result<Credentials, CredentialError> {
        if let Some(found) = self.built_in(access_key_id).or_else(|| self.long_term(access_key_id)) {
            // A long-term key has no token: what comes with one was made of two credentials.
            return if session_token.is_some() { Err(CredentialError::InvalidToken) } else { found };
        }
        if let Some(source) = self.temporary.as_ref().filter(|_| access_key_id.starts_with(TEMPORARY_PREFIX))
        {
            return match source.credentials(access_key_id, session_token, now) {
                // Without a token it was never one of ours, and is as unknown as any other key.
                Err(CredentialError::InvalidToken) if session_token.is_none() => self.unknown(),
                found => found,
            };
        }
        self.unknown()
    }
}

#[cfg(test)]
mod tests {
    use wharf_contracts::AccessKey;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);

    /// IAM with one active and one inactive key, in which `test` has been deleted.
    struct Keys;

    impl AccessKeys for Keys {
        fn access_key(&self, access_key_id: &str) -> Option<AccessKey> {
            let status = match access_key_id {
                "AKIAACTIVE" => KeyStatus::Active,
                "AKIAINACTIVE" => KeyStatus::Inactive,
                _ => return None,
            };
            let account = AccountId::DEFAULT;
            let principal =
                Principal::User { account, id: "AIDA1".into(), path: "/".into(), name: "alice".into() };
            Some(AccessKey { principal, secret: Secret::Known("s".to_owned()), status })
        }

        fn built_in_key(&self, access_key_id: &str, _account: AccountId) -> Option<KeyStatus> {
            (access_key_id != ACCESS_KEY_ID).then_some(KeyStatus::Active)
        }
    }

    fn chain(mode: AuthMode, long_term: Option<Arc<dyn AccessKeys>>) -> CredentialChain {
        CredentialChain { default_account: AccountId::DEFAULT, mode, long_term, temporary: None }
    }

    fn account_of(mode: AuthMode, key: &str) -> Option<String> {
        let found = chain(mode, None).credentials(key, None, NOW);
        found.ok().map(|found| found.principal.account().to_string())
    }

    #[test]
    fn a_key_of_twelve_digits_is_the_root_of_that_account() {
        assert_eq!(account_of(AuthMode::Verify, "test").as_deref(), Some("000000000000"));
        assert_eq!(account_of(AuthMode::Verify, "123456789012").as_deref(), Some("123456789012"));
        assert_eq!(account_of(AuthMode::Verify, "AKIAIOSFODNN7EXAMPLE"), None);
        assert_eq!(account_of(AuthMode::Any, "AKIAIOSFODNN7EXAMPLE").as_deref(), Some("000000000000"));
    }

    #[test]
    fn keys_of_iam_work_while_they_are_active_and_a_deleted_root_key_is_gone() {
        let chain = chain(AuthMode::Verify, Some(Arc::new(Keys)));
        let error = |key, token| chain.credentials(key, token, NOW).err();
        assert_eq!(error("AKIAACTIVE", None), None);
        assert_eq!(error("AKIAACTIVE", Some("a token")), Some(CredentialError::InvalidToken));
        assert_eq!(error("AKIAINACTIVE", None), Some(CredentialError::Inactive));
        assert_eq!(error("test", None), Some(CredentialError::Unknown));
        assert_eq!(error("123456789012", None), None);
    }
}
