//! What is wrong with a Dockerfile, and on which line.

/// An error with the line that it is on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("dockerfile parse error on line {line}: {problem}")]
pub struct Error {
    /// From 1.
    pub line: usize,
    pub problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("the file has more than {max} bytes")]
    TooLong { max: usize },
    #[error("the file has more than {max} {what}")]
    TooMany { what: &'static str, max: usize },
    #[error("the file is empty")]
    Empty,
    #[error("there is no FROM: the file has no stage to build")]
    NoStage,
    #[error("the text is not UTF-8")]
    NotText,
    #[error("no build stage in current context: {instruction} stands before the first FROM")]
    BeforeStage { instruction: String },
    #[error("unknown instruction: {name}{}", suggestion.map(|known| format!(" (did you mean {known}?)")).unwrap_or_default())]
    UnknownInstruction { name: String, suggestion: Option<&'static str> },
    #[error("{instruction} requires {wanted}")]
    Arguments { instruction: &'static str, wanted: &'static str },
    #[error("unknown flag: --{flag} of {instruction}")]
    UnknownFlag { instruction: &'static str, flag: String },
    #[error("the flag --{flag} of {instruction} {problem}")]
    Flag { instruction: &'static str, flag: String, problem: String },
    #[error("the mount {mount:?}: {problem}")]
    Mount { mount: String, problem: String },
    #[error("invalid name for build stage: {name:?}, {problem}")]
    StageName { name: String, problem: &'static str },
    #[error("the stage name {name:?} is used twice")]
    StageNameTwice { name: String },
    #[error("unterminated heredoc: {name:?} is nowhere on a line of its own")]
    HereDocument { name: String },
    #[error("the directive {name:?}: {problem}")]
    Directive { name: String, problem: String },
    #[error("{instruction}: {problem}")]
    Value { instruction: &'static str, problem: String },
}

impl Problem {
    pub(crate) fn at(self, line: usize) -> Error {
        Error { line, problem: self }
    }

    pub(crate) fn value(instruction: &'static str, problem: impl Into<String>) -> Self {
        Self::Value { instruction, problem: problem.into() }
    }
}
