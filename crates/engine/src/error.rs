//! What can go wrong in an engine, in words for an operator.

use crate::spec::{ContainerId, SandboxId};

#[derive(Clone, Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum EngineError {
    #[error("sandbox {0} does not exist")]
    NoSandbox(SandboxId),
    #[error("container {0} does not exist")]
    NoContainer(ContainerId),
    /// The same id with another spec.
    #[error("{what} exists with other settings")]
    Conflict { what: String },
    /// The container's own program could not be run: the image's or the user's fault.
    #[error("{message}")]
    Start { exit_code: i32, message: String },
    /// The spec asks for something this engine or this host cannot give.
    #[error("{what} is not supported: {reason}")]
    Unsupported { what: String, reason: String },
    /// The host is out of something: disk, memory, processes, descriptors.
    #[error("the host is out of {resource}: {message}")]
    Exhausted { resource: String, message: String },
    /// The engine could not be reached, or failed in a way it does not know.
    #[error("{message}")]
    Internal { message: String },
}
