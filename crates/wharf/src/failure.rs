//! What a command tells when it fails: what failed, on what, why, and what to do about it.

use std::fmt;

/// A command's failure.
#[derive(Debug)]
pub struct Failure {
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    exit_code: Option<i32>,
}

pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), causes: Vec::new(), hint: None, exit_code: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What the command exits with, where it is not 1.
    #[must_use]
    pub fn exit(mut self, code: i32) -> Self {
        self.exit_code = Some(code);
        self
    }

    pub fn exit_code(&self) -> Option<i32> {
        self.exit_code
    }

    #[must_use]
    pub fn because(mut self, source: &dyn std::error::Error) -> Self {
        let mut next = Some(source);
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        self
    }

    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)?;
        let mut told = self.message.as_str();
        for cause in &self.causes {
            // Some libraries repeat their cause in their own message.
            if !told.ends_with(cause.as_str()) {
                write!(formatter, ": {cause}")?;
            }
            told = cause;
        }
        Ok(())
    }
}

/// Says on what an operation failed.
pub trait Context<T> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: std::error::Error + 'static> Context<T> for std::result::Result<T, E> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Failure::new(message()).because(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_causes_once() {
        let io = std::io::Error::other("no space left");
        let failure = Failure::new("cannot write the index").because(&io).hint("free some space");
        assert_eq!(failure.to_string(), "cannot write the index: no space left");
        assert_eq!(failure.hint_text(), Some("free some space"));
        assert_eq!(Failure::new("x: no space left").because(&io).to_string(), "x: no space left");
    }
}
