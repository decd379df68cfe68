//! Filter patterns for unstructured messages (CloudWatch Logs User Guide, "Filter pattern syntax").
//!
//! Terms stand beside each other: all plain ones must be in the message; `-TERM` must not; of the
//! `?TERM`s at least one must. A term is a word or is quoted. Matching is case-sensitive. Patterns
//! for JSON (`{…}`), for fields (`[…]`) and regular expressions (`%…%`) are told apart, not matched.

/// A pattern that is understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    all: Vec<String>,
    any: Vec<String>,
    none: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("Invalid filter pattern")]
    Malformed,
    /// A form of the language that is not matched here.
    #[error("{0}")]
    Unsupported(&'static str),
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut pattern = Self::default();
        let mut rest = text.trim();
        if rest.starts_with('{') {
            return Err(PatternError::Unsupported("JSON filter patterns"));
        }
        if rest.starts_with('[') {
            return Err(PatternError::Unsupported("space-delimited filter patterns"));
        }
        while !rest.is_empty() {
            let (kind, body) = match rest.as_bytes()[0] {
                b'-' => ('-', &rest[1..]),
                b'?' => ('?', &rest[1..]),
                _ => ('+', rest),
            };
            let (term, after) = term(body)?;
            match kind {
                '-' => pattern.none.push(term),
                '?' => pattern.any.push(term),
                _ => pattern.all.push(term),
            }
            rest = after.trim_start();
        }
        Ok(pattern)
    }

    pub fn matches(&self, message: &str) -> bool {
        self.all.iter().all(|term| message.contains(term))
            && !self.none.iter().any(|term| message.contains(term))
            // "?ERROR ALL": optional terms beside required ones are ignored, as the guide warns.
            && (self.any.is_empty() || !self.all.is_empty() || self.any.iter().any(|term| message.contains(term)))
    }
}

/// The term at the start of `text`, and what follows it.
fn term(text: &str) -> Result<(String, &str), PatternError> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut term = String::new();
        let mut characters = quoted.char_indices();
        while let Some((index, character)) = characters.next() {
            match character {
                '"' if term.is_empty() => return Err(PatternError::Malformed),
                '"' => return Ok((term, &quoted[index + 1..])),
                '\\' => term.push(characters.next().ok_or(PatternError::Malformed)?.1),
                _ => term.push(character),
            }
        }
        return Err(PatternError::Malformed);
    }
    if text.starts_with('%') {
        return Err(PatternError::Unsupported("regular expressions in filter patterns"));
    }
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let word = &text[..end];
    // Anything but letters, digits and underscores must be quoted.
    if word.is_empty() || !word.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return Err(PatternError::Malformed);
    }
    Ok((word.to_owned(), &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, message: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(message)
    }

    #[test]
    fn terms_are_all_wanted_and_case_matters() {
        assert!(matches("", "anything"));
        assert!(matches("ERROR", "[ERROR] x"));
        assert!(!matches("ERROR", "[error] x"));
        assert!(matches("ERROR disk", "disk ERROR"));
        assert!(!matches("ERROR disk", "ERROR cpu"));
        assert!(matches(r#""disk \"a\" full""#, r#"the disk "a" full"#));
    }

    #[test]
    fn terms_can_be_excluded_or_optional() {
        assert!(!matches("ERROR -retry", "ERROR, will retry"));
        assert!(matches("?ERROR ?WARN", "WARN x"));
        assert!(!matches("?ERROR ?WARN", "INFO x"));
        assert!(matches("-\"a b\"", "a c"));
    }

    #[test]
    fn what_is_not_understood_is_not_guessed() {
        assert_eq!(Pattern::parse("\"open"), Err(PatternError::Malformed));
        assert_eq!(Pattern::parse("a=b"), Err(PatternError::Malformed));
        assert_eq!(Pattern::parse("\"\""), Err(PatternError::Malformed));
        assert!(matches!(Pattern::parse("{ $.x = 1 }"), Err(PatternError::Unsupported(_))));
        assert!(matches!(Pattern::parse("[ip, user]"), Err(PatternError::Unsupported(_))));
        assert!(matches!(Pattern::parse("%x+%"), Err(PatternError::Unsupported(_))));
    }

    proptest::proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in ".{0,64}", message in ".{0,64}") {
            if let Ok(pattern) = Pattern::parse(&text) {
                pattern.matches(&message);
            }
        }
    }
}
