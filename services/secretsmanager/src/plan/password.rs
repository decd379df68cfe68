//! Random passwords (API Reference: GetRandomPassword).

use wharf_core::Rng;

const UPPERCASE: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const LOWERCASE: &str = "abcdefghijklmnopqrstuvwxyz";
const NUMBERS: &str = "0123456789";
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
pub const LENGTH_DEFAULT: usize = 32;

/// Which characters a password may have.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub length: usize,
    pub excluded: String,
    /// The types that are wanted, in no order.
    pub types: Vec<CharacterType>,
    pub require_each: RequireEach,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CharacterType {
    Uppercase,
    Lowercase,
    Numbers,
    Punctuation,
    /// May be in the password, and is never required.
    Space,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequireEach {
    #[default]
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    #[error("the password is shorter than the number of types that it must have")]
    TooShort,
    #[error("no character is left that the password may have")]
    NoCharacters,
}

impl CharacterType {
    fn characters(self) -> &'static str {
        match self {
            Self::Uppercase => UPPERCASE,
            Self::Lowercase => LOWERCASE,
            Self::Numbers => NUMBERS,
            Self::Punctuation => PUNCTUATION,
            Self::Space => " ",
        }
    }
}

/// Draws a password. Every character that is allowed is equally likely, apart from what
/// [`RequireEach`] puts in.
///
/// # Errors
/// When no password keeps to the rules.
pub fn generate(rules: &Rules, rng: &dyn Rng) -> Result<String, PasswordError> {
    let sets: Vec<(CharacterType, Vec<u8>)> = rules
        .types
        .iter()
        .map(|&kind| {
            let left = kind.characters().bytes().filter(|&byte| !rules.excluded.contains(char::from(byte)));
            (kind, left.collect::<Vec<u8>>())
        })
        .filter(|(_, set)| !set.is_empty())
        .collect();
    let all: Vec<u8> = sets.iter().flat_map(|(_, set)| set.iter().copied()).collect();
    if all.is_empty() {
        return Err(PasswordError::NoCharacters);
    }
    let mut password: Vec<u8> = match rules.require_each {
        RequireEach::No => Vec::new(),
        RequireEach::Yes => {
            let required = sets.iter().filter(|(kind, _)| *kind != CharacterType::Space);
            required.map(|(_, set)| one_of(set, rng)).collect()
        }
    };
    if password.len() > rules.length {
        return Err(PasswordError::TooShort);
    }
    while password.len() < rules.length {
        password.push(one_of(&all, rng));
    }
    // Fisher and Yates: what is required may stand anywhere.
    for last in (1..password.len()).rev() {
        password.swap(last, rng.below(last as u64 + 1) as usize);
    }
    Ok(password.into_iter().map(char::from).collect())
}

fn one_of(set: &[u8], rng: &dyn Rng) -> u8 {
    set[rng.below(set.len() as u64) as usize]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wharf_core::SeededRng;

    use super::*;
    use CharacterType::{Lowercase, Numbers, Punctuation, Space, Uppercase};

    fn rules(length: usize, types: &[CharacterType]) -> Rules {
        Rules { length, types: types.to_vec(), ..Rules::default() }
    }

    proptest! {
        #[test]
        fn a_password_keeps_to_its_rules(
            length in 4..80usize,
            mask in 1..32u8,
            excluded in "[a-zA-Z0-9!-/]{0,20}",
            seed in any::<u64>(),
        ) {
            let all = [Uppercase, Lowercase, Numbers, Punctuation, Space];
            let types: Vec<_> = (0..5).filter(|bit| mask & (1 << bit) != 0).map(|bit| all[bit]).collect();
            let rules = Rules { excluded, ..rules(length, &types) };
            if let Ok(password) = generate(&rules, &SeededRng::new(seed)) {
                prop_assert_eq!(password.len(), length);
                prop_assert!(password.chars().all(|c| !rules.excluded.contains(c)));
                prop_assert!(password.chars().all(|c| types.iter().any(|kind| kind.characters().contains(c))));
                for kind in types.iter().filter(|kind| **kind != Space) {
                    let possible = kind.characters().chars().any(|c| !rules.excluded.contains(c));
                    prop_assert!(!possible || password.chars().any(|c| kind.characters().contains(c)));
                }
            }
        }
    }

    #[test]
    fn impossible_rules_are_refused() {
        let rng = SeededRng::new(1);
        let four = [Uppercase, Lowercase, Numbers, Punctuation];
        assert_eq!(generate(&rules(3, &four), &rng), Err(PasswordError::TooShort));
        assert_eq!(generate(&rules(4, &[]), &rng), Err(PasswordError::NoCharacters));
        let none = Rules { excluded: NUMBERS.into(), ..rules(4, &[Numbers]) };
        assert_eq!(generate(&none, &rng), Err(PasswordError::NoCharacters));
        let loose = Rules { require_each: RequireEach::No, ..rules(1, &four) };
        assert_eq!(generate(&loose, &rng).unwrap().len(), 1);
    }

    #[test]
    fn no_place_and_no_character_is_preferred() {
        let rng = SeededRng::new(7);
        let mut first = [0u32; 10];
        for _ in 0..10_000 {
            let password = generate(&rules(4, &[Numbers]), &rng).unwrap();
            first[usize::from(password.as_bytes()[0] - b'0')] += 1;
        }
        assert!(first.iter().all(|&count| (850..1150).contains(&count)), "{first:?}");
    }
}
