//! Documents that are made to be slow, large or strange, and seeded fuzzing of parser and conditions.
//! `WHARF_FUZZ` sets the rounds.

mod common;

use std::sync::Arc;

use common::{allowed, identity, statement};
use proptest::prelude::*;
use wharf_core::{Rng as _, SeededRng};
use wharf_policy::{DOCUMENT_BYTES_MAX, Keys, Kind, Pattern, Policy, fuzz};

/// Backtracking would take longer than the universe has time on the first of these.
#[test]
fn wildcards_are_matched_in_linear_time() {
    let keys = Keys::new();
    let text = format!("{}b", "a".repeat(2000));
    for (pattern, expected) in [
        (format!("{}c", "a*".repeat(1000)), false),
        (format!("{}b", "a*".repeat(1000)), true),
        (format!("{}c", "*a?".repeat(600)), false),
        (format!("{}?", "*a".repeat(1000)), true),
        (format!("*{}c", "?".repeat(1999)), false),
        (format!("*{}b", "?".repeat(2000)), true),
        (format!("*{}b*", "a?".repeat(990)), true),
    ] {
        assert_eq!(Pattern::free(&pattern).matches(&text, &keys), expected, "{}…", &pattern[..8]);
    }
}

#[test]
fn a_document_full_of_slow_patterns_is_decided_at_once() {
    let pattern = format!("arn:aws:ecs:{}", "*a?*".repeat(500));
    let resources = vec![format!("\"{pattern}\""); DOCUMENT_BYTES_MAX / (pattern.len() + 3) - 1].join(",");
    let document = format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"*","Resource":[{resources}]}}}}"#
    );
    let resource = format!("arn:aws:ecs:{}", "a".repeat(2000));
    assert!(allowed(&[identity(&document)], "ecs:RunTask", &resource, &Keys::new()));
    assert!(!allowed(&[identity(&document)], "ecs:RunTask", "arn:aws:ecs:b", &Keys::new()));
}

#[test]
fn ten_thousand_statements_are_found_by_their_service() {
    let policies: Vec<Arc<Policy>> = (0..20)
        .map(|number| {
            let statements: Vec<String> = (0..500)
                .map(|of| format!(r#"{{"Effect":"Allow","Action":"s{number}x{of}:*","Resource":"*"}}"#))
                .collect();
            identity(&format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(",")))
        })
        .collect();
    assert_eq!(policies.iter().map(|policy| policy.statements().len()).sum::<usize>(), 10_000);
    assert!(allowed(&policies, "s19x499:Do", "*", &Keys::new()));
    assert!(!allowed(&policies, "s20x1:Do", "*", &Keys::new()));
}

/// `*` and `?` by the definition, without any cleverness.
fn naive(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|skipped| naive(rest, &text[skipped..])),
        Some(('?', rest)) => !text.is_empty() && naive(rest, &text[1..]),
        Some((wanted, rest)) => text.first() == Some(wanted) && naive(rest, &text[1..]),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn wildcards_match_as_their_definition_says(pattern in "[ab:é*?]{0,9}", text in "[ab:é]{0,9}") {
        let (of, on): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
        prop_assert_eq!(Pattern::free(&pattern).matches(&text, &Keys::new()), naive(&of, &on));
    }

    #[test]
    fn what_a_variable_brings_is_literal(value in "[ab*?$\\{\\}]{0,6}", text in "[ab*?$\\{\\}]{0,6}") {
        let policy = identity(&statement("Allow", "*", "*", r#"{"StringLike":{"a:b":"${a:v}"}}"#));
        let keys = Keys::new().with("a:v", value.as_str()).with("a:b", text.as_str());
        prop_assert_eq!(allowed(&[policy], "a:x", "*", &keys), value == text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
        for kind in [Kind::Identity, Kind::Resource, Kind::Trust, Kind::ServiceControl] {
            let _ = Policy::parse(kind, &text);
        }
    }
}

/// What mutations start from.
const SEEDS: [&str; 5] = [
    r#"arn:aws:ecs:us-east-1:1:x
{"Version":"2012-10-17","Statement":[{"Sid":"a1","Effect":"Allow","Action":["ecs:*","s3:Get?bject"],"Resource":"arn:aws:ecs:*:*:x/${aws:username,'d'}/*","Condition":{"StringLike":{"aws:username":"a*b?${*}"},"NumericLessThan":{"a:n":10},"DateGreaterThan":{"a:d":"2020-01-01T00:00:00Z"}}}]}"#,
    r#"10.0.0.1
{"Version":"2008-10-17","Id":"x","Statement":{"Effect":"Deny","NotPrincipal":{"AWS":["123456789012","arn:aws:iam::123456789012:user/bob"]},"NotAction":"ecs:Run*","NotResource":"*","Condition":{"IpAddress":{"aws:SourceIp":["10.0.0.0/8","2001:db8::/32"]},"Null":{"a:b":false}}}}"#,
    r#"x
{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com","Federated":"arn:aws:iam::123456789012:oidc-provider/x.y"},"Action":"sts:AssumeRole","Condition":{"ForAnyValue:ArnLike":{"aws:SourceArn":"arn:aws:*:*:*:x"},"BoolIfExists":{"a:b":"true"}}}]}"#,
    r#"QQ==
{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"BinaryEquals":{"a:b":"QQ=="},"ForAllValues:StringNotEqualsIgnoreCase":{"a:c":["É","ß"]}}}]}"#,
    r#"\u00e9
{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"\u0065cs:*","Resource":["*"],"Condition":{"StringEquals":{"a:b":"\ud83d\ude00"}}}]}"#,
];

#[test]
fn mutated_documents_neither_panic_nor_decide_differently_when_traced() {
    let rounds =
        std::env::var("WHARF_FUZZ").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20_000_u64);
    let rng = SeededRng::new(2026);
    let words: [&[u8]; 12] =
        [b"\"", b"{", b"}", b"[", b"]", b":", b",", b"*", b"${", b"\\u", b"Condition", b"\xc3"];
    for _ in 0..rounds {
        let pick = |below: usize| usize::try_from(rng.below(below as u64)).unwrap();
        let mut data = SEEDS[pick(SEEDS.len())].as_bytes().to_vec();
        for _ in 0..=pick(4) {
            let at = pick(data.len().max(1)).min(data.len());
            match pick(5) {
                0 if !data.is_empty() => drop(data.remove(at.min(data.len() - 1))),
                1 => data.insert(at, pick(256) as u8),
                2 => drop(data.splice(at..at, words[pick(words.len())].iter().copied())),
                3 => data.truncate(at),
                _ => {
                    let other = SEEDS[pick(SEEDS.len())].as_bytes();
                    let from = pick(other.len());
                    let to = (from + pick(40)).min(other.len());
                    drop(data.splice(at..at, other[from..to].iter().copied()));
                }
            }
        }
        fuzz(&data);
    }
}
