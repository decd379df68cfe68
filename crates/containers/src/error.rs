//! What can go wrong, in words for whoever typed the command.

use wharf_contracts::ImageError;
use wharf_engine::EngineError;

use crate::network::NetworkError;
use crate::plan::spec::SpecError;
use crate::ports::PortError;

#[derive(Debug, thiserror::Error)]
pub enum ContainersError {
    #[error("no such container: {0}")]
    NoContainer(String),
    #[error("{count} containers begin with {given:?}: give more of the id")]
    Ambiguous { given: String, count: usize },
    #[error(
        "{0:?} is no name for a container: it has 2 to 128 letters, digits, `_`, `.` and `-`, and begins with a letter or digit"
    )]
    Name(String),
    #[error("the name {name:?} is in use by container {id}")]
    NameTaken { name: String, id: String },
    #[error("container {0} is not running")]
    NotRunning(String),
    #[error("container {0} is paused: unpause it before")]
    Paused(String),
    #[error("container {0} is not paused")]
    NotPaused(String),
    /// Refused while it runs.
    #[error("container {0} runs: stop it before, or force it")]
    Running(String),
    #[error("container {0} is being removed")]
    Removing(String),
    #[error("there are {0} containers already")]
    TooMany(usize),
    /// Its program cannot be run. The code is that of a shell: 127 not found, 126 not executable.
    #[error("{message}")]
    Start { code: i32, message: String },
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Port(#[from] PortError),
    #[error("the network: {0}")]
    Network(#[from] NetworkError),
    #[error("{path}: {message}")]
    Path { path: String, message: String },
    #[error(transparent)]
    Engine(EngineError),
    #[error("the state cannot be written: {0}")]
    Store(String),
}

impl From<EngineError> for ContainersError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Start { exit_code, message } => Self::Start { code: exit_code, message },
            EngineError::NoPath { path, message } => Self::Path { path, message },
            other => Self::Engine(other),
        }
    }
}
