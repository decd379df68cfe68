//! Filters of `ListSecrets` and `BatchGetSecretValue` (API Reference: Filter).

use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    Description,
    Name,
    TagKey,
    TagValue,
    PrimaryRegion,
    OwningService,
    All,
}

/// A secret passes when it matches one of the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub key: Attribute,
    pub values: Vec<String>,
}

/// What a filter looks at.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub name: &'a str,
    pub description: &'a str,
    pub tags: &'a BTreeMap<String, String>,
    pub primary_region: Option<&'a str>,
}

impl Filter {
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        self.values.iter().any(|value| match value.strip_prefix('!') {
            Some(unwanted) => !self.matches_value(unwanted, subject),
            None => self.matches_value(value, subject),
        })
    }

    fn matches_value(&self, value: &str, subject: &Subject<'_>) -> bool {
        match self.key {
            Attribute::Name => subject.name.starts_with(value),
            Attribute::TagKey => subject.tags.keys().any(|key| key.starts_with(value)),
            Attribute::TagValue => subject.tags.values().any(|tag| tag.starts_with(value)),
            Attribute::PrimaryRegion => {
                subject.primary_region.is_some_and(|region| region.starts_with(value))
            }
            // No service of AWS makes secrets here.
            Attribute::OwningService => false,
            Attribute::Description => begins_with_ignoring_case(subject.description, value),
            Attribute::All => value.split_whitespace().all(|word| mentions(subject, word)),
        }
    }
}

fn begins_with_ignoring_case(text: &str, prefix: &str) -> bool {
    text.to_lowercase().starts_with(&prefix.to_lowercase())
}

fn mentions(subject: &Subject<'_>, word: &str) -> bool {
    let word = word.to_lowercase();
    let holds = |text: &str| text.to_lowercase().contains(&word);
    holds(subject.name)
        || holds(subject.description)
        || subject.tags.iter().any(|(key, value)| holds(key) || holds(value))
        || subject.primary_region.is_some_and(holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(key: Attribute, values: &[&str]) -> bool {
        let tags = BTreeMap::from([("Team".to_owned(), "red".to_owned())]);
        let subject =
            Subject { name: "prod/db", description: "The Main database", tags: &tags, primary_region: None };
        Filter { key, values: values.iter().map(|&value| value.into()).collect() }.matches(&subject)
    }

    #[test]
    fn filters_choose_as_aws_does() {
        assert!(
            passes(Attribute::Name, &["prod/"])
                && !passes(Attribute::Name, &["PROD"])
                && !passes(Attribute::Name, &["db"])
        );
        assert!(passes(Attribute::Description, &["the main"]) && !passes(Attribute::Description, &["main"]));
        assert!(passes(Attribute::TagKey, &["Te"]) && !passes(Attribute::TagKey, &["te"]));
        assert!(passes(Attribute::TagValue, &["x", "red"]));
        assert!(passes(Attribute::All, &["DATABASE prod"]) && !passes(Attribute::All, &["database missing"]));
        assert!(passes(Attribute::Name, &["!test"]) && !passes(Attribute::Name, &["!prod"]));
        assert!(!passes(Attribute::OwningService, &["rds"]) && !passes(Attribute::PrimaryRegion, &["us"]));
    }
}
