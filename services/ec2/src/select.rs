//! What every `Describe…` does with ids, filters and pages (Amazon EC2 API Reference, "Filtering"
//! and "Pagination"). It knows no resource.

use wharf_core::ApiError;
use wharf_ec2_api::types::{Filter, Tag};

/// EC2's own bound: "The maximum number of filter values specified on a single call is 200."
const FILTER_VALUES_MAX: usize = 200;
/// The page when the caller names no size.
const PAGE_DEFAULT: usize = 1000;
const TOKEN_PREFIX: &str = "wharf1";

/// A filter's name and the values of a resource that it compares with.
pub type FilterField<R> = (&'static str, fn(&R) -> Vec<String>);

/// How one kind of resource is selected.
pub struct Kind<R: 'static> {
    pub id: fn(&R) -> &str,
    /// The error code of an id that names nothing.
    pub not_found: &'static str,
    /// How EC2's sentence names the id: `vpc ID`.
    pub noun: &'static str,
    /// The request's parameter that holds ids.
    pub parameter: &'static str,
    pub filters: &'static [FilterField<R>],
    /// For filters on tags; a kind without tags has none.
    pub tags: fn(&R) -> &[Tag],
}

/// The part of a request that selects.
#[derive(Debug, Default)]
pub struct Selection {
    pub ids: Vec<String>,
    pub filters: Vec<Filter>,
    pub max_results: Option<i32>,
    pub next_token: Option<String>,
}

/// Answers a dry run before anything is done.
pub fn check_dry_run(dry_run: Option<bool>) -> Result<(), ApiError> {
    if dry_run == Some(true) {
        let message = "Request would have succeeded, but DryRun flag is set.";
        return Err(ApiError::sender("DryRunOperation", message).with_status(412));
    }
    Ok(())
}

/// The resources asked for, in the order of their ids, and the token of the next page.
pub fn select<R>(
    kind: &Kind<R>,
    mut resources: Vec<R>,
    selection: &Selection,
) -> Result<(Vec<R>, Option<String>), ApiError> {
    if !selection.ids.is_empty() && selection.max_results.is_some() {
        return Err(ApiError::sender(
            "InvalidParameterCombination",
            format!("The parameter {} cannot be used with the parameter MaxResults", kind.parameter),
        ));
    }
    if let Some(missing) =
        selection.ids.iter().find(|id| !resources.iter().any(|resource| (kind.id)(resource) == **id))
    {
        let (noun, missing) = (kind.noun, shortened(missing));
        return Err(ApiError::sender(kind.not_found, format!("The {noun} '{missing}' does not exist")));
    }
    if !selection.ids.is_empty() {
        resources.retain(|resource| selection.ids.iter().any(|id| id == (kind.id)(resource)));
    }
    let mut resources = filter(kind.filters, kind.tags, resources, &selection.filters)?;
    resources.sort_by(|one, other| (kind.id)(one).cmp((kind.id)(other)));
    if let Some(token) = &selection.next_token {
        let after = token
            .strip_prefix(TOKEN_PREFIX)
            .filter(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
            .ok_or_else(|| {
                ApiError::sender("InvalidPaginationToken", "The specified pagination token is not valid.")
            })?;
        resources.retain(|resource| (kind.id)(resource) > after);
    }
    let page =
        selection.max_results.and_then(|size| usize::try_from(size).ok()).unwrap_or(PAGE_DEFAULT).max(1);
    if resources.len() <= page {
        return Ok((resources, None));
    }
    resources.truncate(page);
    let token = resources.last().map(|last| format!("{TOKEN_PREFIX}{}", (kind.id)(last)));
    Ok((resources, token))
}

/// Keeps what matches every filter.
pub fn filter<R>(
    fields: &[FilterField<R>],
    tags: fn(&R) -> &[Tag],
    mut resources: Vec<R>,
    filters: &[Filter],
) -> Result<Vec<R>, ApiError> {
    let count: usize = filters.iter().map(|filter| filter.values.as_ref().map_or(0, Vec::len)).sum();
    if count > FILTER_VALUES_MAX {
        return Err(ApiError::sender(
            "FilterLimitExceeded",
            format!("The maximum number of filter values specified on a single call is {FILTER_VALUES_MAX}"),
        ));
    }
    for filter in filters {
        let name = filter.name.as_deref().unwrap_or("null");
        let values = filter.values.as_deref().unwrap_or_default();
        let fits = |text: &str| values.iter().any(|pattern| matches(pattern, text));
        let tag_text = |text: &Option<String>| fits(text.as_deref().unwrap_or_default());
        match fields.iter().find(|(known, _)| *known == name) {
            _ if name == "tag-key" => resources.retain(|one| tags(one).iter().any(|tag| tag_text(&tag.key))),
            _ if name == "tag-value" => {
                resources.retain(|one| tags(one).iter().any(|tag| tag_text(&tag.value)));
            }
            None if name.starts_with("tag:") => resources.retain(|one| {
                let key = name.strip_prefix("tag:");
                tags(one).iter().any(|tag| tag.key.as_deref() == key && tag_text(&tag.value))
            }),
            Some((_, field)) => resources.retain(|resource| field(resource).iter().any(|text| fits(text))),
            None => {
                let message = format!("The filter '{}' is invalid", shortened(name));
                return Err(ApiError::sender("InvalidParameterValue", message));
            }
        }
    }
    Ok(resources)
}

/// `*` stands for any text, `?` for one character, `\` takes the next character as it is.
fn matches(pattern: &str, text: &str) -> bool {
    #[derive(Clone, Copy, PartialEq)]
    enum Part {
        Any,
        One,
        Exactly(char),
    }
    let mut parts = Vec::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        parts.push(match character {
            '*' => Part::Any,
            '?' => Part::One,
            '\\' => Part::Exactly(characters.next().unwrap_or('\\')),
            other => Part::Exactly(other),
        });
    }
    let text: Vec<char> = text.chars().collect();
    // The last `*` and where its match ended: going back there alone is enough.
    let (mut at, mut read, mut retry) = (0, 0, None);
    while read < text.len() {
        match parts.get(at) {
            Some(Part::Any) => {
                retry = Some((at, read));
                at += 1;
            }
            Some(Part::One) => (at, read) = (at + 1, read + 1),
            Some(Part::Exactly(character)) if *character == text[read] => (at, read) = (at + 1, read + 1),
            _ => match &mut retry {
                Some((star, end)) => {
                    *end += 1;
                    (at, read) = (*star + 1, *end);
                }
                None => return false,
            },
        }
    }
    parts[at..].iter().all(|part| *part == Part::Any)
}

/// A text of the caller's, short enough to be sent back.
pub fn shortened(text: &str) -> String {
    text.chars().take(256).collect()
}

/// The texts of an optional field, for a filter.
pub fn texts(value: Option<impl ToString>) -> Vec<String> {
    value.map(|value| value.to_string()).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wildcards_match_as_ec2_says() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("vpc-*", "vpc-1", true),
            ("*a*b", "xaxbxb", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            (r"\*amazon\?\\", r"*amazon?\", true),
            (r"\*", "x", false),
            ("abc", "ABC", false),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_and_what_is_cut_out_of_it(text in "[a-z]{0,20}", from: prop::sample::Index, to: prop::sample::Index) {
            let (from, to) = (from.index(text.len() + 1), to.index(text.len() + 1));
            let (from, to) = (from.min(to), from.max(to));
            let pattern = format!("{}*{}", &text[..from], &text[to..]);
            prop_assert!(matches(&pattern, &text) && matches(&text, &text));
        }

        #[test]
        fn no_pattern_makes_it_panic(pattern in r"[a*?\\]{0,30}", text in "[a*?]{0,30}") {
            let _ = matches(&pattern, &text);
        }
    }

    #[test]
    fn pages_cover_everything_once() {
        const KIND: Kind<String> = Kind {
            id: String::as_str,
            not_found: "InvalidThingID.NotFound",
            noun: "thing ID",
            parameter: "ThingIds",
            filters: &[("thing-id", |thing| vec![thing.clone()])],
            tags: |_| &[],
        };
        let things: Vec<String> = (10..37).map(|number| format!("thing-{number}")).collect();
        let (mut seen, mut token) = (Vec::new(), None);
        loop {
            let selection = Selection { max_results: Some(5), next_token: token, ..Selection::default() };
            let (page, next) = select(&KIND, things.clone(), &selection).unwrap();
            assert!(page.len() <= 5);
            seen.extend(page);
            token = next;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(seen, things);

        let refused = |selection: Selection| select(&KIND, things.clone(), &selection).unwrap_err();
        let missing = refused(Selection { ids: vec!["thing-99".into()], ..Selection::default() });
        assert_eq!(missing.to_string(), "InvalidThingID.NotFound: The thing ID 'thing-99' does not exist");
        let both = Selection { ids: vec!["thing-10".into()], max_results: Some(5), ..Selection::default() };
        assert_eq!(refused(both).code, "InvalidParameterCombination");
        let token = Selection { next_token: Some("x".into()), ..Selection::default() };
        assert_eq!(refused(token).code, "InvalidPaginationToken");
        let filter = |name: &str, values: usize| Selection {
            filters: vec![Filter { name: Some(name.into()), values: Some(vec!["*".into(); values]) }],
            ..Selection::default()
        };
        assert_eq!(
            refused(filter("color", 1)).to_string(),
            "InvalidParameterValue: The filter 'color' is invalid"
        );
        assert_eq!(refused(filter("thing-id", 201)).code, "FilterLimitExceeded");
        assert_eq!(select(&KIND, things.clone(), &filter("tag:Name", 1)).unwrap().0.len(), 0);
        assert_eq!(select(&KIND, things.clone(), &filter("thing-id", 1)).unwrap().0.len(), 27);
    }
}
