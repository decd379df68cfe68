//! Unique ids and secrets (IAM User Guide, "IAM identifiers": a prefix of four letters that tells the
//! kind).

use wharf_core::Rng;

pub const USER: &str = "AIDA";
pub const GROUP: &str = "AGPA";
pub const ROLE: &str = "AROA";
pub const POLICY: &str = "ANPA";
pub const INSTANCE_PROFILE: &str = "AIPA";
pub const SERVER_CERTIFICATE: &str = "ASCA";

/// What stands behind the prefix of an id.
const ID_DIGITS: usize = 17;
/// What stands behind `AKIA`.
const KEY_DIGITS: usize = 16;
const SECRET_CHARS: usize = 40;

const BASE_32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BASE_64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A new id of a kind: `AIDA` and 17 characters, 85 random bits.
pub fn unique(prefix: &str, rng: &dyn Rng) -> String {
    format!("{prefix}{}", random(BASE_32, ID_DIGITS, rng))
}

/// A new access key id: 20 characters.
pub fn access_key_id(rng: &dyn Rng) -> String {
    format!("AKIA{}", random(BASE_32, KEY_DIGITS, rng))
}

/// A new secret access key: 40 characters, 240 random bits.
pub fn secret_access_key(rng: &dyn Rng) -> String {
    random(BASE_64, SECRET_CHARS, rng)
}

/// A UUID, version 4.
pub fn uuid(rng: &dyn Rng) -> String {
    wharf_core::RequestId::random(rng).to_string()
}

fn random(alphabet: &[u8], length: usize, rng: &dyn Rng) -> String {
    (0..length)
        .map(|_| {
            let index = usize::try_from(rng.below(alphabet.len() as u64)).unwrap_or_default();
            char::from(alphabet[index])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use wharf_core::SeededRng;

    use super::*;

    #[test]
    fn ids_have_their_prefix_and_length_and_differ() {
        let rng = SeededRng::new(1);
        let id = unique(USER, &rng);
        assert!(id.starts_with("AIDA") && id.len() == 21, "{id}");
        assert_ne!(id, unique(USER, &rng));
        assert_eq!(access_key_id(&rng).len(), 20);
        assert_eq!(secret_access_key(&rng).len(), 40);
    }
}
