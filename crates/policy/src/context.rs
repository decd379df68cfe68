//! The condition keys of a request, as policies look at them.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// The value or values of a condition key. Which of the two is a property of the key: a multivalued
/// key with one value is [`Values::Many`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values<'a> {
    One(Cow<'a, str>),
    Many(Vec<Cow<'a, str>>),
}

/// Where condition keys come from. Asked only for what a policy looks at.
pub trait Context {
    /// `key` is in ASCII lower case: `aws:principaltag/team`. `None`: the request has no such key.
    fn get(&self, key: &str) -> Option<Values<'_>>;
}

/// Condition keys in a map: of the simulator, and of tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(BTreeMap<String, KeyValues>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum KeyValues {
    One(String),
    Many(Vec<String>),
}

impl Keys {
    pub fn new() -> Self {
        Self::default()
    }

    /// With a single-valued key; key names differ by more than case.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.0.insert(key.to_ascii_lowercase(), KeyValues::One(value.into()));
        self
    }

    /// With a multivalued key.
    #[must_use]
    pub fn with_many(mut self, key: &str, values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        self.0.insert(key.to_ascii_lowercase(), KeyValues::Many(values));
        self
    }

    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(&key.to_ascii_lowercase())
    }
}

impl Context for Keys {
    fn get(&self, key: &str) -> Option<Values<'_>> {
        self.0.get(key).map(|values| match values {
            KeyValues::One(value) => Values::One(value.into()),
            KeyValues::Many(values) => Values::Many(values.iter().map(Into::into).collect()),
        })
    }
}
