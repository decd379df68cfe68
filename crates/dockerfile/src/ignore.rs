//! `.dockerignore`: what of a build context counts as not there.
//!
//! A line is a pattern of [`crate::glob`]; `!` before it takes back what earlier lines have excluded;
//! the last line that matches decides. A pattern that matches a directory matches all below it.

use crate::glob::{Glob, Matched};

/// The lines of a `.dockerignore`, at most.
const PATTERNS_MAX: usize = 10_000;

/// A compiled `.dockerignore`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    glob: Glob,
    effect: Effect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Exclude,
    Include,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    #[error("line {line}: {source}")]
    Pattern { line: usize, source: crate::glob::BadPattern },
    #[error("line {line}: illegal exclusion pattern: \"!\"")]
    NothingToInclude { line: usize },
    #[error("more than {PATTERNS_MAX} patterns")]
    TooMany,
}

impl Ignore {
    /// # Errors
    /// A pattern that cannot be read, with its line.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let mut rules = Vec::new();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            if line.starts_with('#') {
                continue;
            }
            let pattern = line.trim();
            let (pattern, effect) = match pattern.strip_prefix('!') {
                Some(rest) => (rest.trim_start(), Effect::Include),
                None => (pattern, Effect::Exclude),
            };
            let line = index + 1;
            if pattern.is_empty() {
                if effect == Effect::Include {
                    return Err(IgnoreError::NothingToInclude { line });
                }
                continue;
            }
            let glob = Glob::new(&clean(pattern)).map_err(|source| IgnoreError::Pattern { line, source })?;
            if rules.len() == PATTERNS_MAX {
                return Err(IgnoreError::TooMany);
            }
            rules.push(Rule { glob, effect });
        }
        Ok(Self { rules })
    }

    /// Whether `path`, relative to the context, counts as not there.
    pub fn excludes(&self, path: &str) -> bool {
        let mut excluded = false;
        for rule in &self.rules {
            let wanted = rule.effect == Effect::Exclude;
            if excluded != wanted && rule.glob.matched(path) != Matched::No {
                excluded = wanted;
            }
        }
        excluded
    }

    /// Whether something below the excluded directory `path` may still be included.
    pub fn may_include_below(&self, path: &str) -> bool {
        self.rules.iter().any(|rule| {
            rule.effect == Effect::Include
                && (rule.glob.may_match_below(path) || rule.glob.matched(path) != Matched::No)
        })
    }
}

/// As Go's `filepath.Clean`: `a/../b` is `b`, and nothing leads above the root.
fn clean(pattern: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in pattern.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    names.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignore(text: &str) -> Ignore {
        Ignore::parse(text).unwrap()
    }

    #[test]
    fn the_examples_of_the_reference_hold() {
        let rules = ignore("# comment\n*/temp*\n*/*/temp*\ntemp?\n");
        assert!(rules.excludes("somedir/temporary.txt") && rules.excludes("somedir/temp"));
        assert!(rules.excludes("somedir/subdir/temporary.txt"));
        assert!(rules.excludes("tempa") && !rules.excludes("temp") && !rules.excludes("tempab"));
    }

    #[test]
    fn the_last_line_that_matches_decides() {
        let readme = ignore("*.md\n!README*.md\nREADME-secret.md\n");
        assert!(!readme.excludes("README.md") && readme.excludes("README-secret.md"));
        assert!(readme.excludes("CHANGES.md"));
        let late = ignore("*.md\nREADME-secret.md\n!README*.md\n");
        assert!(!late.excludes("README-secret.md"));
    }

    #[test]
    fn a_directory_goes_with_all_below_it_and_a_part_may_come_back() {
        let rules = ignore("/target/\n!target/keep\n..//vendor/../dist\n");
        assert!(rules.excludes("target/debug/x") && !rules.excludes("target/keep/y"));
        assert!(rules.excludes("dist/a") && !rules.excludes("vendor/a"));
        assert!(rules.may_include_below("target") && !rules.may_include_below("dist"));
    }

    #[test]
    fn an_allow_list_of_everything_but_works() {
        let rules = ignore("**\n!src/**/*.rs\n");
        assert!(rules.excludes("Cargo.toml") && !rules.excludes("src/a/b.rs") && rules.excludes("src/a.c"));
    }

    #[test]
    fn a_bad_line_is_named() {
        assert!(matches!(Ignore::parse("a\n[\n"), Err(IgnoreError::Pattern { line: 2, .. })));
        assert_eq!(Ignore::parse("!"), Err(IgnoreError::NothingToInclude { line: 1 }));
    }
}
