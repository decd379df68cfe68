//! The form of access keys. Their ids tell the account that they belong to, as AWS's do: behind the
//! prefix stand 80 bits in base 32, of which the first is set, the next 40 are the account, and the
//! rest is random.
//!
//! IAM User Guide, "IAM identifiers": `AKIA` begins a long-term key, `ASIA` a temporary one.

use crate::id::AccountId;
use crate::rng::Rng;

pub const LONG_TERM_PREFIX: &str = "AKIA";
pub const TEMPORARY_PREFIX: &str = "ASIA";

/// RFC 4648, section 6.
const BASE_32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Those of base 64, which secret access keys are made of.
const BASE_64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Characters of an id behind its prefix.
const ID_CHARACTERS: u32 = 16;
const SECRET_CHARACTERS: usize = 40;
/// Random bits at the end of an id.
const RANDOM_BITS: u32 = 39;
/// Set in ids that tell their account; clear in those that AWS gave before 2019.
const TELLS_ACCOUNT: u128 = 1 << 79;

/// A new access key id.
pub fn random_id(prefix: &str, account: AccountId, rng: &dyn Rng) -> String {
    let random = u128::from(rng.next_u64()) & ((1 << RANDOM_BITS) - 1);
    let bits = TELLS_ACCOUNT | (u128::from(account.as_u64()) << RANDOM_BITS) | random;
    let digits = (0..ID_CHARACTERS).rev().map(|place| {
        let digit = (bits >> (place * 5)) & 0x1f;
        char::from(BASE_32[digit as usize])
    });
    prefix.chars().chain(digits).collect()
}

/// A new secret access key: 240 random bits.
pub fn random_secret(rng: &dyn Rng) -> String {
    (0..SECRET_CHARACTERS).map(|_| char::from(BASE_64[(rng.next_u64() & 0x3f) as usize])).collect()
}

/// The account that an access key id tells; `None` for ids of another form.
pub fn account_of(access_key_id: &str) -> Option<AccountId> {
    let digits = access_key_id
        .strip_prefix(LONG_TERM_PREFIX)
        .or_else(|| access_key_id.strip_prefix(TEMPORARY_PREFIX))?;
    if digits.len() != ID_CHARACTERS as usize {
        return None;
    }
    let mut bits: u128 = 0;
    for byte in digits.bytes() {
        let digit = BASE_32.iter().position(|known| *known == byte)?;
        bits = (bits << 5) | digit as u128;
    }
    if bits & TELLS_ACCOUNT == 0 {
        return None;
    }
    format!("{:012}", (bits & !TELLS_ACCOUNT) >> RANDOM_BITS).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SeededRng;

    #[test]
    fn an_id_tells_its_account() {
        let rng = SeededRng::new(1);
        for account in ["000000000000", "123456789012", "999999999999"] {
            let account: AccountId = account.parse().unwrap();
            let id = random_id(TEMPORARY_PREFIX, account, &rng);
            assert_eq!(id.len(), 20);
            assert_eq!(account_of(&id), Some(account), "{id}");
        }
        assert_ne!(
            random_id(LONG_TERM_PREFIX, AccountId::DEFAULT, &rng),
            random_id(LONG_TERM_PREFIX, AccountId::DEFAULT, &rng)
        );
        assert_eq!(random_secret(&rng).len(), 40);
    }

    #[test]
    fn ids_of_another_form_tell_nothing() {
        // A published id, and the account that it was published with.
        assert_eq!(
            account_of("ASIAY34FZKBOKMUTVV7A").map(|it| it.to_string()).as_deref(),
            Some("609629065308")
        );
        for id in [
            "",
            "test",
            "AKIA",
            "AKIAIOSFODNN7EXAMPLE",
            "AKIAQ1",
            "AKIA7777777777777777",
            "ASIAé234567890123456",
        ] {
            assert_eq!(account_of(id), None, "{id}");
        }
    }
}
