//! Tags: the limits that AWS sets on them.

use std::collections::BTreeMap;

use wharf_core::ApiError;
use wharf_ecs_api::errors::invalid_parameter_exception;
use wharf_ecs_api::types;

/// Tags of one resource (Amazon ECS Developer Guide, "Tag restrictions").
pub const TAGS_MAX: usize = 50;
const KEY_CHARS_MAX: usize = 128;
const VALUE_CHARS_MAX: usize = 256;

pub type Tags = BTreeMap<String, String>;

/// # Errors
/// `InvalidParameterException` when a tag breaks a limit of AWS.
pub fn from_api(given: Option<Vec<types::Tag>>) -> Result<Tags, ApiError> {
    let mut tags = Tags::new();
    for tag in given.unwrap_or_default() {
        let key = tag.key.unwrap_or_default();
        let value = tag.value.unwrap_or_default();
        check_key(&key)?;
        if value.chars().count() > VALUE_CHARS_MAX {
            return Err(invalid_parameter_exception(format!(
                "Tag value for key {key} exceeds the maximum length of {VALUE_CHARS_MAX}."
            )));
        }
        if tags.insert(key.clone(), value).is_some() {
            return Err(invalid_parameter_exception(format!("Duplicate tag key found: {key}")));
        }
    }
    check_count(&tags)?;
    Ok(tags)
}

fn check_key(key: &str) -> Result<(), ApiError> {
    if key.is_empty() || key.chars().count() > KEY_CHARS_MAX {
        return Err(invalid_parameter_exception(format!("Tag keys have 1 to {KEY_CHARS_MAX} characters.")));
    }
    if key.to_ascii_lowercase().starts_with("aws:") {
        return Err(invalid_parameter_exception("Tag keys beginning with aws: are reserved for AWS use."));
    }
    Ok(())
}

/// # Errors
/// `InvalidParameterException` when there are too many.
pub fn check_count(tags: &Tags) -> Result<(), ApiError> {
    if tags.keys().filter(|key| !key.starts_with("aws:")).count() > TAGS_MAX {
        return Err(invalid_parameter_exception(format!("A resource has at most {TAGS_MAX} tags.")));
    }
    Ok(())
}

pub fn to_api(tags: &Tags) -> Vec<types::Tag> {
    tags.iter()
        .map(|(key, value)| types::Tag { key: Some(key.clone()), value: Some(value.clone()) })
        .collect()
}
