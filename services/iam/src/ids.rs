//! Unique ids (IAM User Guide, "IAM identifiers": a prefix of four letters that tells the
//! kind). Access keys are made by `wharf_core::access_key`.

use wharf_core::Rng;

pub const USER: &str = "AIDA";
pub const GROUP: &str = "AGPA";
pub const ROLE: &str = "AROA";
pub const POLICY: &str = "ANPA";
pub const INSTANCE_PROFILE: &str = "AIPA";
pub const SERVER_CERTIFICATE: &str = "ASCA";

/// What stands behind the prefix of an id.
const ID_DIGITS: usize = 17;

const BASE_32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A new id of a kind: `AIDA` and 17 characters, 85 random bits.
pub fn unique(prefix: &str, rng: &dyn Rng) -> String {
    format!("{prefix}{}", random(ID_DIGITS, rng))
}

/// A UUID, version 4.
pub fn uuid(rng: &dyn Rng) -> String {
    wharf_core::RequestId::random(rng).to_string()
}

fn random(length: usize, rng: &dyn Rng) -> String {
    (0..length)
        .map(|_| {
            let index = usize::try_from(rng.below(BASE_32.len() as u64)).unwrap_or_default();
            char::from(BASE_32[index])
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
    }
}
