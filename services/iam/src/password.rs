//! Passwords: what a policy asks of them, and their form at rest.
//!
//! A password is stored as `pbkdf2-sha256$ITERATIONS$SALT$HASH` (NIST SP 800-132; the number of
//! iterations follows OWASP's password storage cheat sheet), both parts in base 64. Hashing takes a
//! good part of a second: never on a thread that serves requests.

use std::num::NonZeroU32;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::pbkdf2;
use tokio::sync::Semaphore;
use wharf_core::{ApiError, Rng};
use wharf_iam_api::errors;

use crate::records::PasswordPolicy;

const ITERATIONS: NonZeroU32 = NonZeroU32::new(600_000).unwrap();
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
const NAME: &str = "pbkdf2-sha256";
/// How many passwords are hashed at once.
const HASHING_MAX: usize = 2;

/// "Setting an account password policy" of the IAM User Guide: the policy of an account that has set
/// none.
const DEFAULT_LENGTH_MIN: u32 = 8;
const DEFAULT_KINDS_MIN: usize = 3;
const SYMBOLS: &str = "!@#$%^&*()_+-=[]{}|'";

/// Hashes passwords, a few at a time.
pub struct Hasher {
    permits: Arc<Semaphore>,
}

impl Default for Hasher {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(HASHING_MAX)) }
    }
}

impl Hasher {
    /// The form at rest of a password.
    ///
    /// # Errors
    /// An internal one, when the runtime ends.
    pub async fn hash(&self, password: String, rng: &dyn Rng) -> Result<String, ApiError> {
        let mut salt = [0; SALT_BYTES];
        for chunk in salt.chunks_mut(8) {
            chunk.copy_from_slice(&rng.next_u64().to_le_bytes()[..chunk.len()]);
        }
        self.run(move || hash(&password, &salt, ITERATIONS)).await
    }

    /// The index of the first of `hashes` that is of this password.
    ///
    /// # Errors
    /// An internal one, when the runtime ends.
    pub async fn matching(&self, password: String, hashes: Vec<String>) -> Result<Option<usize>, ApiError> {
        self.run(move || hashes.iter().position(|hash| matches(&password, hash))).await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        // Never closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(ApiError::internal)?;
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        })
        .await
        .map_err(ApiError::internal)
    }
}

fn hash(password: &str, salt: &[u8], iterations: NonZeroU32) -> String {
    let mut out = [0; HASH_BYTES];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password.as_bytes(), &mut out);
    format!("{NAME}${iterations}${}${}", STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(out))
}

fn matches(password: &str, stored: &str) -> bool {
    let verify = || {
        let mut parts = stored.split('$');
        if parts.next()? != NAME {
            return None;
        }
        let iterations = parts.next()?.parse::<NonZeroU32>().ok()?;
        let salt = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
        let hash = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
        // In constant time.
        pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), &hash).ok()
    };
    verify().is_some()
}

/// Checks a new password against the account's policy, or AWS's where the account has none.
///
/// # Errors
/// `PasswordPolicyViolation`.
pub fn check(policy: Option<&PasswordPolicy>, user_name: &str, password: &str) -> Result<(), ApiError> {
    let has = |of: fn(char) -> bool| password.chars().any(of);
    let upper = has(|char| char.is_ascii_uppercase());
    let lower = has(|char| char.is_ascii_lowercase());
    let digit = has(|char| char.is_ascii_digit());
    let symbol = has(|char| SYMBOLS.contains(char));
    let length = u32::try_from(password.chars().count()).unwrap_or(u32::MAX);
    let wanting = match policy {
        Some(policy) if length < policy.minimum_length => Some(too_short(policy.minimum_length)),
        Some(policy) if policy.require_uppercase && !upper => {
            Some("Password should have at least one uppercase letter".to_owned())
        }
        Some(policy) if policy.require_lowercase && !lower => {
            Some("Password should have at least one lowercase letter".to_owned())
        }
        Some(policy) if policy.require_numbers && !digit => {
            Some("Password should have at least one number".to_owned())
        }
        Some(policy) if policy.require_symbols && !symbol => {
            Some("Password should have at least one symbol".to_owned())
        }
        Some(_) => None,
        None if length < DEFAULT_LENGTH_MIN => Some(too_short(DEFAULT_LENGTH_MIN)),
        None if [upper, lower, digit, symbol].into_iter().filter(|kind| *kind).count() < DEFAULT_KINDS_MIN => Some(
            "Password should have at least three of uppercase letters, lowercase letters, numbers and symbols"
                .to_owned(),
        ),
        None if password == user_name => Some("Password should not be the name of the user".to_owned()),
        None => None,
    };
    match wanting {
        Some(message) => Err(errors::password_policy_violation_exception(message)),
        None => Ok(()),
    }
}

fn too_short(min: u32) -> String {
    format!("Password should have a minimum length of {min}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_its_password_alone() {
        let few = NonZeroU32::new(2).unwrap();
        let stored = hash("correct horse", b"salt", few);
        assert!(matches("correct horse", &stored));
        assert!(!matches("correct horsf", &stored));
        assert!(!stored.contains("correct"));
        for broken in ["", "pbkdf2-sha256$0$$", "md5$1$a$b", "pbkdf2-sha256$2$!$!", "pbkdf2-sha256$2$YQ"] {
            assert!(!matches("", broken), "{broken}");
        }
        // RFC 7914, section 11: PBKDF2-HMAC-SHA-256 of "passwd" and "salt", one iteration.
        let vector = hash("passwd", b"salt", NonZeroU32::MIN);
        let expected = "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc";
        let bytes: Vec<u8> =
            (0..32).map(|at| u8::from_str_radix(&expected[at * 2..at * 2 + 2], 16).unwrap()).collect();
        assert!(vector.ends_with(&STANDARD_NO_PAD.encode(bytes)));
    }

    #[test]
    fn without_a_policy_of_the_account_aws_has_one() {
        let ok = |password| check(None, "alice", password).is_ok();
        assert!(ok("Passw0rd"));
        assert!(ok("passw0rd!"));
        assert!(!ok("Passw0r"));
        assert!(!ok("passw0rd"));
    }

    #[test]
    fn an_account_s_policy_is_kept() {
        let policy = PasswordPolicy {
            minimum_length: 6,
            require_symbols: true,
            require_numbers: true,
            require_uppercase: true,
            require_lowercase: true,
            allow_users_to_change: false,
            max_age: None,
            reuse_prevention: None,
            hard_expiry: false,
        };
        let ok = |password| check(Some(&policy), "alice", password).is_ok();
        assert!(ok("aB3$ef"));
        for wrong in ["aB3$e", "ab3$ef", "AB3$EF", "aBc$ef", "aB3def"] {
            assert!(!ok(wrong), "{wrong}");
        }
    }
}
