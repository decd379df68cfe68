//! Session tags: which a request may set, and which come from the session that makes it.
//!
//! IAM User Guide, "Pass session tags in AWS STS".

use std::collections::{BTreeMap, BTreeSet};

/// The most tags of one request.
pub const TAGS_MAX: usize = 50;
const KEY_CHARACTERS_MAX: usize = 128;
const VALUE_CHARACTERS_MAX: usize = 256;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionTags {
    pub tags: BTreeMap<String, String>,
    pub transitive: BTreeSet<String>,
}

/// The texts are AWS's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    #[error("Duplicate tag keys found. Please note that Tag keys are case insensitive.")]
    Duplicate,
    #[error("Tag keys that begin with aws: are reserved for system use.")]
    Reserved,
    #[error(
        "A tag key has 1 to {KEY_CHARACTERS_MAX} characters and a tag value at most {VALUE_CHARACTERS_MAX}."
    )]
    Size,
    #[error("A session has at most {TAGS_MAX} tags.")]
    TooMany,
    #[error("The specified transitive tag key must be included in the requested tags.")]
    TransitiveWithoutTag,
    #[error(
        "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key \
         from the calling session."
    )]
    Conflict,
}

/// Checks what a request asks for. Keys are compared without their case.
///
/// # Errors
/// As [`TagError`] says.
pub fn requested(
    tags: impl IntoIterator<Item = (String, String)>,
    transitive: impl IntoIterator<Item = String>,
) -> Result<SessionTags, TagError> {
    let mut wanted = SessionTags::default();
    let mut folded = BTreeSet::new();
    for (key, value) in tags {
        if key.is_empty()
            || key.chars().count() > KEY_CHARACTERS_MAX
            || value.chars().count() > VALUE_CHARACTERS_MAX
        {
            return Err(TagError::Size);
        }
        if fold(&key).starts_with("aws:") {
            return Err(TagError::Reserved);
        }
        if !folded.insert(fold(&key)) {
            return Err(TagError::Duplicate);
        }
        wanted.tags.insert(key, value);
        if wanted.tags.len() > TAGS_MAX {
            return Err(TagError::TooMany);
        }
    }
    for key in transitive {
        let name = wanted.tags.keys().find(|name| fold(name) == fold(&key)).cloned();
        wanted.transitive.insert(name.ok_or(TagError::TransitiveWithoutTag)?);
    }
    Ok(wanted)
}

/// Adds the transitive tags of the calling session, which nothing may override.
///
/// # Errors
/// [`TagError::Conflict`].
pub fn inherited(
    mut requested: SessionTags,
    calling_tags: &BTreeMap<String, String>,
    calling_transitive: &BTreeSet<String>,
) -> Result<SessionTags, TagError> {
    for key in calling_transitive {
        if requested.tags.keys().any(|name| fold(name) == fold(key)) {
            return Err(TagError::Conflict);
        }
    }
    for key in calling_transitive {
        if let Some(value) = calling_tags.get(key) {
            requested.tags.insert(key.clone(), value.clone());
            requested.transitive.insert(key.clone());
        }
    }
    Ok(requested)
}

fn fold(key: &str) -> String {
    key.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(tags: &[(&str, &str)], transitive: &[&str]) -> Result<SessionTags, TagError> {
        requested(
            tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
            transitive.iter().map(|key| (*key).to_owned()),
        )
    }

    #[test]
    fn tag_keys_are_told_apart_without_their_case() {
        assert_eq!(ask(&[("Team", "a"), ("team", "b")], &[]), Err(TagError::Duplicate));
        assert_eq!(ask(&[("AWS:x", "a")], &[]), Err(TagError::Reserved));
        assert_eq!(ask(&[("", "a")], &[]), Err(TagError::Size));
        assert_eq!(ask(&[("a", &"v".repeat(257))], &[]), Err(TagError::Size));
        assert_eq!(ask(&[("Team", "a")], &["cost"]), Err(TagError::TransitiveWithoutTag));
        assert!(ask(&[("Team", "a")], &["team"]).unwrap().transitive.contains("Team"));
        let many: Vec<String> = (0..51).map(|number| format!("k{number}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "")).collect();
        assert_eq!(ask(&many, &[]), Err(TagError::TooMany));
    }

    #[test]
    fn transitive_tags_go_on_and_cannot_be_overridden() {
        let calling = ask(&[("Team", "a"), ("Cost", "7")], &["Team"]).unwrap();
        let next =
            inherited(ask(&[("Env", "dev")], &[]).unwrap(), &calling.tags, &calling.transitive).unwrap();
        assert_eq!(next.tags.keys().collect::<Vec<_>>(), ["Env", "Team"]);
        assert!(next.transitive.contains("Team"));
        let again = inherited(ask(&[("TEAM", "b")], &[]).unwrap(), &calling.tags, &calling.transitive);
        assert_eq!(again, Err(TagError::Conflict));
    }
}
