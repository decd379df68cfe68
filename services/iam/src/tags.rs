//! Tags (IAM User Guide, "Tags for AWS Identity and Access Management resources": at most 50; keys
//! keep their case and differ by more than it; none begins with `aws:`).

use wharf_core::ApiError;
use wharf_iam_api::{errors, types};

use crate::failures::validation;
use crate::records::Tags;

const TAGS_MAX: usize = 50;

/// The tags of something that is made.
///
/// # Errors
/// As [`add`].
pub fn of_new(tags: Option<Vec<types::Tag>>) -> Result<Tags, ApiError> {
    let mut all = Tags::new();
    add(&mut all, tags.unwrap_or_default())?;
    Ok(all)
}

/// Sets tags. A key that is there in another case is replaced, its case too.
///
/// # Errors
/// When a key is given twice or begins with `aws:`, or there would be too many.
pub fn add(all: &mut Tags, new: Vec<types::Tag>) -> Result<(), ApiError> {
    let mut seen = Vec::with_capacity(new.len());
    for tag in &new {
        let folded = tag.key.to_lowercase();
        if folded.starts_with("aws:") {
            return Err(validation("Tag keys beginning with aws: are reserved for system use."));
        }
        seen.push(folded);
    }
    seen.sort_unstable();
    if seen.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(errors::invalid_input_exception(
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
        ));
    }
    for tag in new {
        remove(all, std::slice::from_ref(&tag.key));
        all.insert(tag.key, tag.value);
    }
    if all.len() > TAGS_MAX {
        return Err(errors::limit_exceeded_exception("The number of tags has reached the maximum limit."));
    }
    Ok(())
}

/// Takes tags away; keys that are not there are passed over.
pub fn remove(all: &mut Tags, keys: &[String]) {
    let folded: Vec<String> = keys.iter().map(|key| key.to_lowercase()).collect();
    all.retain(|key, _| !folded.contains(&key.to_lowercase()));
}

/// For an answer; `None` when there are none.
pub fn described(tags: &Tags) -> Option<Vec<types::Tag>> {
    (!tags.is_empty()).then(|| listed(tags))
}

pub fn listed(tags: &Tags) -> Vec<types::Tag> {
    tags.iter().map(|(key, value)| types::Tag { key: key.clone(), value: value.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(key: &str, value: &str) -> types::Tag {
        types::Tag { key: key.into(), value: value.into() }
    }

    #[test]
    fn keys_differ_by_more_than_case() {
        let mut tags = of_new(Some(vec![tag("Team", "a"), tag("x", "")])).unwrap();
        add(&mut tags, vec![tag("TEAM", "b")]).unwrap();
        assert_eq!(tags.get("TEAM").map(String::as_str), Some("b"));
        assert_eq!(tags.len(), 2);
        remove(&mut tags, &["team".into(), "none".into()]);
        assert_eq!(tags.len(), 1);
        assert_eq!(of_new(Some(vec![tag("a", ""), tag("A", "")])).unwrap_err().code, "InvalidInput");
        assert_eq!(of_new(Some(vec![tag("AWS:a", "")])).unwrap_err().code, "ValidationError");
        let many = (0..51).map(|n| tag(&n.to_string(), "")).collect();
        assert_eq!(of_new(Some(many)).unwrap_err().code, "LimitExceeded");
    }
}
