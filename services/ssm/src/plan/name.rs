//! Names of parameters, and what a request points at (Systems Manager User Guide, "Requirements and
//! constraints for parameter names" and "Working with parameter hierarchies").

use wharf_core::{AccountId, Arn, Region};

/// How many levels a name may have: `/a/b` has two.
pub const LEVELS_MAX: usize = 15;
/// The longest name, with the part of its ARN that stands before it.
pub const QUALIFIED_CHARS_MAX: usize = 1011;
/// How the names of AWS's own parameters begin.
pub const PUBLIC_PREFIX: &str = "/aws/service/";

/// Why a text is not the name of a parameter that may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the name begins with aws, which is reserved")]
    ReservedPath,
    #[error("the name begins with aws or ssm, which are reserved")]
    ReservedWord,
    #[error("the name begins with ssm, which is reserved, or has a character that no name has")]
    Form,
    #[error("the name has levels and does not begin with a slash")]
    NotQualified,
    #[error("the name has more than {LEVELS_MAX} levels")]
    TooDeep,
    #[error("the name is too long")]
    TooLong,
}

/// Whether every level has only the characters that names have, and none is empty.
fn is_path(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    name.strip_prefix('/')
        .unwrap_or(name)
        .split('/')
        .all(|level| !level.is_empty() && level.bytes().all(plain))
}

/// Whether a parameter may be made under this name. `arn_chars` is the length of what stands before
/// the name in its ARN.
///
/// # Errors
/// The first rule that it breaks.
pub fn check(name: &str, arn_chars: usize) -> Result<(), NameError> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let first = bare.get(..3).unwrap_or("");
    let levels = bare.split('/').count();
    if !is_path(name) {
        return Err(NameError::Form);
    }
    if first.eq_ignore_ascii_case("aws") {
        let path = name.starts_with('/') && levels > 1;
        return Err(if path { NameError::ReservedPath } else { NameError::ReservedWord });
    }
    if first.eq_ignore_ascii_case("ssm") {
        return Err(if levels > 1 { NameError::Form } else { NameError::ReservedWord });
    }
    if levels > 1 && !name.starts_with('/') {
        return Err(NameError::NotQualified);
    }
    if levels > LEVELS_MAX {
        return Err(NameError::TooDeep);
    }
    if arn_chars + name.len() > QUALIFIED_CHARS_MAX {
        return Err(NameError::TooLong);
    }
    Ok(())
}

/// Whether a text can be the `Path` of a hierarchy: `/`, or `/a/b` with or without a slash behind.
pub fn is_hierarchy(path: &str) -> bool {
    path == "/" || (path.starts_with('/') && is_path(path.strip_suffix('/').unwrap_or(path)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    OneLevel,
    Recursive,
}

/// Whether a parameter lies below a path. Names without a slash lie below `/`.
pub fn lies_below(name: &str, path: &str, depth: Depth) -> bool {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let path = path.trim_matches('/');
    let rest = if path.is_empty() {
        Some(bare)
    } else {
        bare.strip_prefix(path).and_then(|rest| rest.strip_prefix('/'))
    };
    rest.is_some_and(|rest| depth == Depth::Recursive || !rest.contains('/'))
}

/// Which version of a parameter is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    Version(u64),
    Label(String),
}

impl std::fmt::Display for Selector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Version(version) => write!(formatter, ":{version}"),
            Self::Label(label) => write!(formatter, ":{label}"),
        }
    }
}

/// What a request points at: `name`, `name:version`, `name:label`, or one of these behind
/// `arn:aws:ssm:REGION:ACCOUNT:parameter/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Whose parameter, where an ARN said so.
    pub place: Option<(AccountId, Region)>,
    /// One name, or the two that one ARN may stand for: `…:parameter/web` is the ARN of `web` and of
    /// `/web`.
    pub names: Vec<String>,
    pub selector: Option<Selector>,
}

/// The text points at nothing that a parameter could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is neither a parameter's name nor its ARN")]
pub struct ReferenceError;

impl Reference {
    /// Spaces around the text are taken away, as AWS does.
    ///
    /// # Errors
    /// [`ReferenceError`] for a text that cannot point at a parameter.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let text = text.trim_matches(' ');
        let (place, rest, of_arn) = if text.starts_with("arn:") {
            let arn: Arn = text.parse().map_err(|_| ReferenceError)?;
            let (Some(region), Some(account)) = (arn.region, arn.account) else { return Err(ReferenceError) };
            if arn.service != "ssm" {
                return Err(ReferenceError);
            }
            let rest = arn.resource.strip_prefix("parameter/").ok_or(ReferenceError)?.to_owned();
            (Some((account, region)), rest, true)
        } else {
            (None, text.to_owned(), false)
        };
        let (name, selector) = match rest.split_once(':') {
            None => (rest.as_str(), None),
            Some((name, selector)) => (name, Some(Self::selector(selector)?)),
        };
        let bare = name.strip_prefix('/').unwrap_or(name);
        if !is_path(name) || (of_arn && name.starts_with('/')) {
            return Err(ReferenceError);
        }
        let names = match (of_arn, bare.contains('/')) {
            (false, _) => vec![name.to_owned()],
            (true, true) => vec![format!("/{name}")],
            (true, false) => vec![name.to_owned(), format!("/{name}")],
        };
        Ok(Self { place, names, selector })
    }

    fn selector(text: &str) -> Result<Selector, ReferenceError> {
        if text.is_empty() || text.contains(':') {
            return Err(ReferenceError);
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Selector::Version).map_err(|_| ReferenceError);
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        text.bytes().all(plain).then(|| Selector::Label(text.to_owned())).ok_or(ReferenceError)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_keep_to_the_rules_of_aws() {
        for name in ["web", "/web", "/a/b/c", "a.b_c-d", "/A/0/_"] {
            assert_eq!(check(name, 45), Ok(()), "{name}");
        }
        for (name, error) in [
            ("", NameError::Form),
            ("/", NameError::Form),
            ("a b", NameError::Form),
            ("/a//b", NameError::Form),
            ("/a/", NameError::Form),
            ("//a", NameError::Form),
            ("é", NameError::Form),
            ("a/b", NameError::NotQualified),
            ("aws.x", NameError::ReservedWord),
            ("/AWS", NameError::ReservedWord),
            ("ssm", NameError::ReservedWord),
            ("/Aws/x", NameError::ReservedPath),
            ("/SSM/x", NameError::Form),
        ] {
            assert_eq!(check(name, 45), Err(error), "{name}");
        }
        let deep = |levels: usize| "/x".repeat(levels);
        assert_eq!(check(&deep(15), 45), Ok(()));
        assert_eq!(check(&deep(16), 45), Err(NameError::TooDeep));
        assert_eq!(check(&"x".repeat(966), 45), Ok(()));
        assert_eq!(check(&"x".repeat(967), 45), Err(NameError::TooLong));
    }

    #[test]
    fn a_hierarchy_holds_what_lies_below_it() {
        use Depth::{OneLevel, Recursive};
        for (name, path, depth, below) in [
            ("/a/b", "/a", OneLevel, true),
            ("/a/b", "/a/", OneLevel, true),
            ("/a/b/c", "/a", OneLevel, false),
            ("/a/b/c", "/a", Recursive, true),
            ("/ab/c", "/a", Recursive, false),
            ("/a", "/a", Recursive, false),
            ("web", "/", OneLevel, true),
            ("/a/b", "/", OneLevel, false),
            ("/a/b", "/", Recursive, true),
        ] {
            assert_eq!(lies_below(name, path, depth), below, "{name} {path}");
        }
        assert!(is_hierarchy("/") && is_hierarchy("/a/b/") && !is_hierarchy("a") && !is_hierarchy("/a//b"));
    }

    #[test]
    fn an_arn_of_one_level_stands_for_two_names() {
        let parse = |text| Reference::parse(text).unwrap();
        let reference = parse("arn:aws:ssm:eu-west-1:123456789012:parameter/web:3");
        assert_eq!(reference.names, ["web", "/web"]);
        assert_eq!(reference.selector, Some(Selector::Version(3)));
        assert_eq!(reference.place.unwrap().1.as_str(), "eu-west-1");
        assert_eq!(parse("arn:aws:ssm:eu-west-1:123456789012:parameter/a/b").names, ["/a/b"]);
        assert_eq!(parse("  /a/b:prod ").selector, Some(Selector::Label("prod".into())));
        for text in ["", "a:", "a:b:c", "a b", "arn:aws:ssm:eu-west-1:1:parameter/x", "arn:aws:s3:::x", "a:é"]
        {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_reference_or_refused(text in "\\PC{0,80}") {
            let _ = check(&text, 45);
            let _ = is_hierarchy(&text);
            if let Ok(reference) = Reference::parse(&text) {
                for name in &reference.names {
                    prop_assert!(is_path(name) && !name.contains(':'));
                }
            }
        }

        #[test]
        fn a_name_and_its_selector_come_back_as_they_were(
            levels in prop::collection::vec("[a-zA-Z0-9_.-]{1,6}", 1..5),
            version in prop::option::of(0..200u64),
            slash in any::<bool>(),
        ) {
            let rooted = slash || levels.len() > 1;
            let name = format!("{}{}", if rooted { "/" } else { "" }, levels.join("/"));
            let selector = version.map(Selector::Version);
            let suffix = selector.as_ref().map_or(String::new(), ToString::to_string);
            let plain = Reference::parse(&format!("{name}{suffix}")).unwrap();
            prop_assert_eq!(&plain.names, &vec![name.clone()]);
            prop_assert_eq!(&plain.selector, &selector);
            let bare = name.trim_start_matches('/');
            let arn = Reference::parse(&format!("arn:aws:ssm:eu-west-1:123456789012:parameter/{bare}{suffix}")).unwrap();
            prop_assert!(arn.names.contains(&name));
            prop_assert_eq!(&arn.selector, &selector);
        }

        #[test]
        fn what_is_one_level_below_is_also_somewhere_below(
            name in "(/[ab]{1,2}){1,4}", path in "(/[ab]{1,2}){0,3}/?",
        ) {
            let near = lies_below(&name, &path, Depth::OneLevel);
            prop_assert!(!near || lies_below(&name, &path, Depth::Recursive));
        }
    }
}
