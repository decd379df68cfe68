//! Names: which may be given, and those that are made up.

/// Docker's rule: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, bounded.
const NAME_BYTES_MAX: usize = 128;
/// Tries before a number is put behind a made-up name.
pub const MADE_UP_TRIES_MAX: u64 = 8;

const FIRST: [&str; 48] = [
    "amber", "bold", "brave", "bright", "brisk", "calm", "clever", "coral", "cosy", "crisp", "deft", "dry",
    "eager", "early", "even", "fair", "fleet", "fond", "frank", "fresh", "gentle", "glad", "golden", "green",
    "hardy", "honest", "humble", "jolly", "keen", "kind", "lively", "lucid", "mellow", "merry", "modest",
    "neat", "noble", "patient", "placid", "proud", "quick", "quiet", "ready", "silver", "steady", "sunny",
    "swift", "vivid",
];
/// Of boats and harbours.
const SECOND: [&str; 48] = [
    "anchor", "barge", "beacon", "bollard", "bow", "brig", "buoy", "cable", "canoe", "capstan", "clipper",
    "compass", "crane", "cutter", "deck", "derrick", "dinghy", "dock", "ferry", "frigate", "galley",
    "harbor", "hawser", "helm", "hull", "jetty", "keel", "ketch", "lagoon", "lantern", "launch", "lock",
    "mast", "mooring", "oar", "packet", "pier", "pilot", "quay", "rudder", "sail", "schooner", "sextant",
    "skiff", "sloop", "tide", "tug", "yawl",
];

pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    (2..=NAME_BYTES_MAX).contains(&text.len())
        && bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// A name from a random number; the attempt after [`MADE_UP_TRIES_MAX`] others carries a number.
pub fn made_up(random: u64, attempt: u64) -> String {
    let pick = |words: &[&'static str], random: u64| words[(random % words.len() as u64) as usize];
    let name = format!("{}_{}", pick(&FIRST, random), pick(&SECOND, random >> 32));
    if attempt < MADE_UP_TRIES_MAX { name } else { format!("{name}{}", random >> 48) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_made_up_is_a_name(random: u64, attempt in 0u64..20) {
            prop_assert!(is_name(&made_up(random, attempt)));
        }

        #[test]
        fn any_text_is_a_name_or_not(text in ".{0,200}") {
            is_name(&text);
        }
    }

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["web", "a1", "my_db.v2-x"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "a", "-a", ".a", "a b", "a/b", "ü1", &"x".repeat(129)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
