//! Words: the forms of a variable, quotes, and what cannot be expanded.

use proptest::prelude::*;

use crate::{ExpandError, Expander};

fn lookup(name: &str) -> Option<String> {
    Some(
        match name {
            "foo" => "foo-value",
            "empty" => "",
            "path" => "/usr/local/lib/x.tar.gz",
            "ports" => "80 443",
            _ => return None,
        }
        .to_owned(),
    )
}

fn word(text: &str) -> Result<String, ExpandError> {
    Expander::new('\\', &lookup).word(text)
}

#[test]
fn every_form_of_a_variable_is_expanded() {
    for (text, expected) in [
        ("$foo", "foo-value"),
        ("${foo}x", "foo-valuex"),
        ("a${none}b", "ab"),
        ("${none:-d}", "d"),
        ("${empty:-d}", "d"),
        ("${empty-d}", ""),
        ("${none-d}", "d"),
        ("${foo:+d}", "d"),
        ("${empty:+d}", ""),
        ("${empty+d}", "d"),
        ("${none:-${foo}}", "foo-value"),
        ("${none:-a b}", "a b"),
        ("${path#*/}", "usr/local/lib/x.tar.gz"),
        ("${path##*/}", "x.tar.gz"),
        ("${path%.*}", "/usr/local/lib/x.tar"),
        ("${path%%.*}", "/usr/local/lib/x"),
        ("${path/l?/_}", "/usr/_cal/lib/x.tar.gz"),
        ("${path//l?/_}", "/usr/_ca__b/x.tar.gz"),
        ("${path//\\//}", "usrlocallibx.tar.gz"),
        ("${path/zz}", "/usr/local/lib/x.tar.gz"),
        ("${foo:?needed}", "foo-value"),
        ("$", "$"),
        ("a$.b", "a$.b"),
        ("$$x", "x"),
    ] {
        assert_eq!(word(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn quotes_and_escapes_are_taken_away() {
    for (text, expected) in [
        ("'$foo'", "$foo"),
        ("\"$foo\"", "foo-value"),
        (r"\$foo", "$foo"),
        (r#""\$foo\"\\\n""#, r#"$foo"\\n"#),
        (r"a\ b", "a b"),
        ("a\"b c\"'d'", "ab cd"),
        (r"\\", r"\"),
        ("x\\", "x\\"),
    ] {
        assert_eq!(word(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn what_cannot_be_expanded_says_so() {
    assert!(matches!(word("${foo"), Err(ExpandError::Unterminated('}'))));
    assert!(matches!(word("'a"), Err(ExpandError::Unterminated('\''))));
    assert!(matches!(word("\"a"), Err(ExpandError::Unterminated('"'))));
    assert!(matches!(word("${foo!x}"), Err(ExpandError::Modifier { .. })));
    assert!(matches!(word("${foo:x}"), Err(ExpandError::Modifier { .. })));
    assert!(matches!(word("${}"), Err(ExpandError::BadSubstitution(_))));
    assert_eq!(word("${none:?say why}").unwrap_err().to_string(), "none: say why");
    assert!(matches!(word(&"${a:-".repeat(1_000)), Err(ExpandError::TooDeep)));
}

#[test]
fn unset_variables_are_told() {
    let expanded = Expander::new('\\', &lookup).expand("$a ${b} $foo ${c:-x}").unwrap();
    assert_eq!(expanded.unset.into_iter().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn one_word_may_become_several_and_a_document_keeps_its_quotes() {
    let expander = Expander::new('\\', &lookup);
    assert_eq!(expander.words("$ports 90/udp \"$ports\"").unwrap(), ["80", "443", "90/udp", "80 443"]);
    assert_eq!(expander.document("'$foo' \"x\" \\$foo \\n").unwrap(), "'foo-value' \"x\" $foo \\n");
}

proptest! {
    #[test]
    fn quoted_text_comes_back_as_it_is(text in "[^']{0,40}") {
        prop_assert_eq!(word(&format!("'{text}'")).unwrap(), text);
    }

    #[test]
    fn text_without_meaning_stays(text in "[a-zA-Z0-9 ._/:=-]{0,40}") {
        prop_assert_eq!(word(&text).unwrap(), text);
    }

    #[test]
    fn any_text_gives_an_answer(text in ".{0,60}") {
        let expander = Expander::new('\\', &lookup);
        // Any answer will do, as long as there is one.
        let _ = expander.word(&text);
        let _ = expander.words(&text);
        let _ = expander.document(&text);
    }

    #[test]
    fn stripping_agrees_with_a_search_of_all_prefixes(value in "[ab/]{0,8}", pattern in "[ab/*?]{0,5}") {
        let lookup = |_: &str| Some(value.clone());
        let expander = Expander::new('\\', &lookup);
        // A slash would end nothing in these forms.
        let stripped = expander.word(&format!("${{v##{pattern}}}"));
        // `##` followed by `#`-less patterns only.
        let longest = (0..=value.len()).rev().find(|end| naive(&pattern, &value[..*end]));
        let expected = &value[longest.unwrap_or(0)..];
        prop_assert_eq!(stripped.unwrap(), expected);
    }
}

/// The definition of a pattern, by recursion.
fn naive(pattern: &str, text: &str) -> bool {
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => naive(&pattern[1..], text) || (!text.is_empty() && naive(pattern, &text[1..])),
        (Some('?'), Some(_)) => naive(&pattern[1..], &text[1..]),
        (Some(wanted), Some(here)) if wanted == here => naive(&pattern[1..], &text[1..]),
        _ => false,
    }
}
