//! The regular expressions of the models, which are in Java's dialect and match whole strings.

use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};

/// The largest automaton that a pattern may compile to, in bytes.
const COMPILED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A pattern of a model, compiled when it is first used.
pub struct Pattern {
    text: &'static str,
    compiled: OnceLock<Option<Regex>>,
}

/// A pattern that cannot be compiled. `cargo xtask generate` refuses to write one.
#[derive(Debug, thiserror::Error)]
#[error("the pattern {pattern:?} cannot be compiled")]
pub struct PatternError {
    pub pattern: String,
    #[source]
    source: Box<regex::Error>,
}

impl Pattern {
    pub const fn new(text: &'static str) -> Self {
        Self { text, compiled: OnceLock::new() }
    }

    /// As it stands in the model and in AWS's messages.
    pub fn as_str(&self) -> &'static str {
        self.text
    }

    /// Whether the whole of `text` matches. Linear in the length of `text`.
    pub fn matches(&self, text: &str) -> bool {
        self.compiled
            .get_or_init(|| compile(self.text).ok())
            .as_ref()
            // The generator lets no pattern through that does not compile.
            .is_none_or(|regex| regex.is_match(text))
    }

    /// Whether a pattern of a model can be compiled.
    ///
    /// # Errors
    /// With the cause, when it cannot.
    pub fn check(text: &str) -> Result<(), PatternError> {
        compile(text)
            .map(|_| ())
            .map_err(|source| PatternError { pattern: text.to_owned(), source: Box::new(source) })
    }
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Pattern({:?})", self.text)
    }
}

fn compile(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(&format!(r"\A(?:{})\z", from_java(text))).size_limit(COMPILED_BYTES_MAX).build()
}

/// Java's `\w`, `\d` and `\s` know ASCII alone, and its classes may hold a bare hyphen anywhere.
fn from_java(text: &str) -> String {
    // Java's characters are halves of UTF-16; this is how the models say all beyond U+FFFF.
    let text = text.replace(r"\uD800\uDC00-\uDBFF\uDFFF", r"\x{10000}-\x{10FFFF}");
    let mut out = String::with_capacity(text.len() + 32);
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        if next != '\\' {
            out.push(next);
            continue;
        }
        match chars.next() {
            Some('w') => out.push_str("[0-9A-Za-z_]"),
            Some('W') => out.push_str("[^0-9A-Za-z_]"),
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some('s') => out.push_str(r"[ \t\n\x0B\f\r]"),
            Some('S') => out.push_str(r"[^ \t\n\x0B\f\r]"),
            Some('p') if posix_class(chars.as_str()).is_some() => {
                if let Some((length, class)) = posix_class(chars.as_str()) {
                    out.push_str(class);
                    chars = chars.as_str()[length..].chars();
                }
            }
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

/// Java's names for classes of ASCII, behind a `\p`: how long the name is, and the class.
fn posix_class(text: &str) -> Option<(usize, &'static str)> {
    [
        ("{ASCII}", r"[\x00-\x7F]"),
        ("{Alnum}", "[0-9A-Za-z]"),
        ("{Alpha}", "[A-Za-z]"),
        ("{Digit}", "[0-9]"),
        ("{Graph}", r"[\x21-\x7E]"),
        ("{Lower}", "[a-z]"),
        ("{Print}", r"[\x20-\x7E]"),
        ("{Punct}", r"[!-/:-@\[-`{-~]"),
        ("{Space}", r"[ \t\n\x0B\f\r]"),
        ("{Upper}", "[A-Z]"),
        ("{XDigit}", "[0-9A-Fa-f]"),
    ]
    .into_iter()
    .find_map(|(name, class)| text.starts_with(name).then_some((name.len(), class)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_string_and_ascii_words_alone() {
        static PATTERN: Pattern = Pattern::new(r"[\w+=,.@:\/-]*");
        assert!(PATTERN.matches("role+name=x/y"));
        assert!(PATTERN.matches(""));
        assert!(!PATTERN.matches("rôle"));
        assert!(!PATTERN.matches("role name"));
        assert!(!PATTERN.matches("role\n"));
    }

    #[test]
    fn java_classes_are_known() {
        static PATTERN: Pattern = Pattern::new(r"[\p{Print}]+\p{Alnum}");
        assert!(PATTERN.matches("a ~b"));
        assert!(!PATTERN.matches("a\tb"));
        assert!(!PATTERN.matches("a ~"));
        static WIDE: Pattern = Pattern::new(r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\r\n\t]*");
        assert!(WIDE.matches("a😀\n"));
        assert!(!WIDE.matches("\u{1}"));
    }

    #[test]
    fn a_pattern_that_does_not_compile_is_told() {
        assert!(Pattern::check("[a").is_err());
        assert!(Pattern::check(r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]+)$").is_ok());
    }
}
