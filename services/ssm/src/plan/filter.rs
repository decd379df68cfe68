//! Filters of `DescribeParameters` and `GetParametersByPath` (API Reference: ParameterStringFilter).

use std::collections::{BTreeMap, BTreeSet};

use super::name::{Depth, is_hierarchy, lies_below};

/// Which operation the filters are for: they do not know the same keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    Describe,
    ByPath,
}

/// A filter as it was given.
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub key: String,
    pub option: Option<String>,
    pub values: Vec<String>,
}

/// Why the filters are refused; each holds AWS's sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error("{0}")]
    Key(String),
    #[error("{0}")]
    Option(String),
    #[error("{0}")]
    Value(String),
    #[error("{0}")]
    Validation(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Attribute {
    Name,
    Type,
    KeyId,
    Path(Depth),
    Label,
    Tier,
    DataType,
    Tag(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equals,
    BeginsWith,
    Contains,
}

/// A filter that is understood. A parameter passes when one of its values matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    key: Attribute,
    comparison: Comparison,
    values: Vec<String>,
}

/// What a filter looks at.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub name: &'a str,
    pub kind: &'a str,
    pub key_id: Option<&'a str>,
    pub tier: &'a str,
    pub data_type: &'a str,
    pub tags: &'a BTreeMap<String, String>,
    pub labels: &'a [String],
}

const KINDS: [&str; 3] = ["String", "StringList", "SecureString"];
const TIERS: [&str; 3] = ["Standard", "Advanced", "Intelligent-Tiering"];

/// Reads the filters of a request.
///
/// # Errors
/// The first filter that AWS would refuse.
pub fn parse(listing: Listing, given: Vec<Given>) -> Result<Vec<Filter>, FilterError> {
    let mut seen = BTreeSet::new();
    let mut filters = Vec::with_capacity(given.len());
    for filter in given {
        if !seen.insert(filter.key.clone()) {
            return Err(FilterError::Key(format!(
                "The following filter is duplicated in the request: {}. A request can contain only one occurrence \
                 of a specific filter.",
                filter.key
            )));
        }
        filters.push(parse_one(listing, filter)?);
    }
    Ok(filters)
}

fn parse_one(listing: Listing, given: Given) -> Result<Filter, FilterError> {
    let known = match listing {
        Listing::Describe => "[Path, Name, Type, KeyId, Tier, DataType]",
        Listing::ByPath => "[Type, KeyId, Label]",
    };
    let no_key = || {
        FilterError::Key(format!(
            "The following filter key is not valid: {}. Valid filter keys include: {known}.",
            given.key
        ))
    };
    let no_option = |valid: &str| {
        let option = given.option.as_deref().unwrap_or("");
        FilterError::Option(format!(
            "The following filter option is not valid: {option}. Valid options include: {valid}."
        ))
    };
    let option = given.option.as_deref();
    let key = match (given.key.as_str(), listing) {
        ("Type", _) => Attribute::Type,
        ("KeyId", _) => Attribute::KeyId,
        ("Label", Listing::ByPath) => Attribute::Label,
        ("Name", Listing::Describe) => Attribute::Name,
        ("Tier", Listing::Describe) => Attribute::Tier,
        ("DataType", Listing::Describe) => Attribute::DataType,
        ("Path", Listing::Describe) => Attribute::Path(match option {
            None | Some("OneLevel") => Depth::OneLevel,
            Some("Recursive") => Depth::Recursive,
            Some(_) => return Err(no_option("[Recursive, OneLevel]")),
        }),
        (key, Listing::Describe) => match key.strip_prefix("tag:") {
            Some(tag) if !tag.is_empty() => Attribute::Tag(tag.to_owned()),
            _ => return Err(no_key()),
        },
        (_, Listing::ByPath) => return Err(no_key()),
    };
    let comparison = match (option, &key) {
        (_, Attribute::Path(_)) | (None | Some("Equals"), _) => Comparison::Equals,
        (Some("BeginsWith"), Attribute::Label) => return Err(no_option("[Equals]")),
        (Some("BeginsWith"), _) => Comparison::BeginsWith,
        (Some("Contains"), Attribute::Name) => Comparison::Contains,
        (Some(_), Attribute::Name) => return Err(no_option("[BeginsWith, Contains, Equals]")),
        (Some(_), Attribute::Label) => return Err(no_option("[Equals]")),
        (Some(_), _) => return Err(no_option("[BeginsWith, Equals]")),
    };
    // A tag alone asks whether there is such a tag.
    if given.values.is_empty() && !matches!(key, Attribute::Tag(_)) {
        return Err(FilterError::Value(format!(
            "The following filter values are missing : null for filter key {}.",
            given.key
        )));
    }
    check_values(&key, comparison, &given.values)?;
    Ok(Filter { key, comparison, values: given.values })
}

fn check_values(key: &Attribute, comparison: Comparison, values: &[String]) -> Result<(), FilterError> {
    let one_of = |valid: &[&str]| {
        let wrong = values.iter().find(|value| match comparison {
            Comparison::BeginsWith => !valid.iter().any(|known| known.starts_with(value.as_str())),
            _ => !valid.contains(&value.as_str()),
        });
        wrong.map_or(Ok(()), |value| {
            Err(FilterError::Option(format!(
                "The following filter value is not valid: {value}. Valid values include: [{}].",
                valid.join(", ")
            )))
        })
    };
    match key {
        Attribute::Type => one_of(&KINDS),
        Attribute::Tier => one_of(&TIERS),
        Attribute::Path(_) => values.iter().try_for_each(|value| check_path(value)),
        _ => Ok(()),
    }
}

fn check_path(path: &str) -> Result<(), FilterError> {
    let reserved = |word: &str| {
        path.get(1..1 + word.len())
            .is_some_and(|head| path.starts_with('/') && head.eq_ignore_ascii_case(word))
    };
    if reserved("aws") || reserved("ssm") {
        return Err(FilterError::Validation(
            "Filters for common parameters can't be prefixed with \"aws\" or \"ssm\" (case-insensitive). When using \
             global parameters, please specify within a global namespace."
                .to_owned(),
        ));
    }
    if is_hierarchy(path) { Ok(()) } else { Err(FilterError::Validation(PATH_RULES.to_owned())) }
}

/// AWS's sentence for a path that is none.
pub const PATH_RULES: &str = "The parameter doesn't meet the parameter name requirements. The parameter name must \
    begin with a forward slash \"/\". It can't be prefixed with \\\"aws\\\" or \\\"ssm\\\" (case-insensitive). It must \
    use only letters, numbers, or the following symbols: . (period), - (hyphen), _ (underscore). Special characters \
    are not allowed. All sub-paths, if specified, must use the forward slash symbol \"/\". Valid example: \
    /get/parameters2-/by1./path0_.";

impl Filter {
    pub fn is_label(&self) -> bool {
        self.key == Attribute::Label
    }

    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        let text = |text: &str| {
            self.values.iter().any(|value| match self.comparison {
                Comparison::Equals => text == value,
                Comparison::BeginsWith => text.starts_with(value.as_str()),
                Comparison::Contains => text.contains(value.as_str()),
            })
        };
        match &self.key {
            // With and without a slash in front, a name of one level is one parameter to a searcher.
            Attribute::Name => text(subject.name) || text(&format!("/{}", subject.name)),
            Attribute::Type => text(subject.kind),
            Attribute::KeyId => subject.key_id.is_some_and(text),
            Attribute::Path(depth) => self.values.iter().any(|path| lies_below(subject.name, path, *depth)),
            Attribute::Label => subject.labels.iter().any(|label| self.values.contains(label)),
            Attribute::Tier => text(subject.tier),
            Attribute::DataType => text(subject.data_type),
            Attribute::Tag(tag) => {
                subject.tags.get(tag).is_some_and(|value| self.values.is_empty() || text(value))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(key: &str, option: Option<&str>, values: &[&str]) -> Given {
        Given {
            key: key.into(),
            option: option.map(Into::into),
            values: values.iter().map(|&value| value.into()).collect(),
        }
    }

    fn passes(filter: Given, name: &str) -> bool {
        let tags = BTreeMap::from([("team".to_owned(), "red".to_owned())]);
        let labels = ["prod".to_owned()];
        let subject = Subject {
            name,
            kind: "SecureString",
            key_id: Some("alias/aws/ssm"),
            tier: "Standard",
            data_type: "text",
            tags: &tags,
            labels: &labels,
        };
        let listing = if filter.key == "Label" { Listing::ByPath } else { Listing::Describe };
        parse(listing, vec![filter]).unwrap()[0].matches(&subject)
    }

    #[test]
    fn filters_choose_as_aws_does() {
        for (key, option, values, name, passed) in [
            ("Name", None, &["/a/b"][..], "/a/b", true),
            ("Name", Some("BeginsWith"), &["/a"], "/a/b", true),
            ("Name", Some("BeginsWith"), &["/we"], "web", true),
            ("Name", Some("Contains"), &["b"], "/a/b", true),
            ("Name", None, &["x", "/a/b"], "/a/b", true),
            ("Path", None, &["/a"], "/a/b/c", false),
            ("Path", Some("Recursive"), &["/a"], "/a/b/c", true),
            ("Type", None, &["String"], "x", false),
            ("KeyId", Some("BeginsWith"), &["alias/"], "x", true),
            ("tag:team", None, &["red", "blue"], "x", true),
            ("tag:team", None, &[], "x", true),
            ("tag:other", None, &[], "x", false),
            ("Tier", None, &["Advanced"], "x", false),
            ("DataType", None, &["text"], "x", true),
            ("Label", None, &["prod"], "x", true),
        ] {
            assert_eq!(passes(given(key, option, values), name), passed, "{key} {option:?} {values:?}");
        }
    }

    #[test]
    fn filters_that_aws_refuses_are_refused() {
        let refused = |listing, filter| parse(listing, vec![filter]).unwrap_err();
        use Listing::{ByPath, Describe};
        assert!(matches!(refused(Describe, given("Label", None, &["x"])), FilterError::Key(_)));
        assert!(matches!(refused(ByPath, given("Name", None, &["x"])), FilterError::Key(_)));
        assert!(matches!(refused(ByPath, given("tag:a", None, &["x"])), FilterError::Key(_)));
        assert!(matches!(refused(Describe, given("Type", Some("Contains"), &["x"])), FilterError::Option(_)));
        assert!(matches!(refused(Describe, given("Type", None, &["x"])), FilterError::Option(_)));
        assert!(matches!(refused(Describe, given("Name", None, &[])), FilterError::Value(_)));
        assert!(matches!(refused(Describe, given("Path", None, &["a"])), FilterError::Validation(_)));
        assert!(matches!(refused(Describe, given("Path", None, &["/aws/x"])), FilterError::Validation(_)));
        let twice = vec![given("Name", None, &["x"]), given("Name", None, &["y"])];
        assert!(matches!(parse(Describe, twice), Err(FilterError::Key(_))));
    }
}
