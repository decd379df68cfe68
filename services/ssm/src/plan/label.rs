//! Labels of versions (Systems Manager User Guide, "Working with parameter labels").

use std::collections::BTreeMap;

/// Labels of one version.
pub const LABELS_MAX: usize = 10;
const LABEL_CHARS_MAX: usize = 100;

/// A version would have more than [`LABELS_MAX`] labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a version has at most {LABELS_MAX} labels")]
pub struct TooManyLabels;

/// Whether a text may be a label: letters, digits, `.`, `-`, `_`; not beginning with a digit, `aws`
/// or `ssm`.
pub fn is_label(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let reserved = text
        .get(..3)
        .is_some_and(|head| head.eq_ignore_ascii_case("aws") || head.eq_ignore_ascii_case("ssm"));
    (1..=LABEL_CHARS_MAX).contains(&text.len())
        && text.bytes().all(plain)
        && !text.as_bytes()[0].is_ascii_digit()
        && !reserved
}

/// The labels of all versions after `labels` have been given to `version`. A label that another
/// version has moves; texts that are no labels are left out.
///
/// # Errors
/// [`TooManyLabels`]; nothing is moved then.
pub fn attach(
    mut versions: BTreeMap<u64, Vec<String>>,
    version: u64,
    labels: &[String],
) -> Result<BTreeMap<u64, Vec<String>>, TooManyLabels> {
    let valid: Vec<&String> = labels.iter().filter(|label| is_label(label)).collect();
    for (other, owned) in &mut versions {
        if *other != version {
            owned.retain(|label| !valid.contains(&label));
        }
    }
    let owned = versions.entry(version).or_default();
    for label in valid {
        if !owned.contains(label) {
            owned.push(label.clone());
        }
    }
    if owned.len() > LABELS_MAX { Err(TooManyLabels) } else { Ok(versions) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_keep_to_the_rules() {
        for label in ["prod", "Prod.1", "_x", "-", "aw"] {
            assert!(is_label(label), "{label}");
        }
        for label in ["", "1st", "AWSx", "ssm", "a b", "é", "a:b", &"x".repeat(101)] {
            assert!(!is_label(label), "{label}");
        }
    }

    proptest! {
        #[test]
        fn a_label_is_on_one_version_at_most(
            moves in prop::collection::vec((1..4u64, prop::collection::vec("[a-n]", 1..4)), 0..20),
        ) {
            let mut versions: BTreeMap<u64, Vec<String>> = (1..4).map(|version| (version, Vec::new())).collect();
            for (version, labels) in moves {
                if let Ok(after) = attach(versions.clone(), version, &labels) {
                    prop_assert!(labels.iter().all(|label| after[&version].contains(label)));
                    versions = after;
                }
                let mut all: Vec<&String> = versions.values().flatten().collect();
                let count = all.len();
                all.sort();
                all.dedup();
                prop_assert_eq!(all.len(), count);
                prop_assert!(versions.values().all(|labels| labels.len() <= LABELS_MAX));
            }
        }
    }
}
