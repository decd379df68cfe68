//! What can go wrong in an engine, in words for an operator.

use crate::spec::{ContainerId, SandboxId, VolumeName};

#[derive(Clone, Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum EngineError {
    #[error("sandbox {0} does not exist")]
    NoSandbox(SandboxId),
    #[error("container {0} does not exist")]
    NoContainer(ContainerId),
    #[error("container {0} is not running")]
    NotRunning(ContainerId),
    /// A path in a container that is not there, or is not what is asked for.
    #[error("{path}: {message}")]
    NoPath { path: String, message: String },
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
    #[error("volume {0} does not exist")]
    NoVolume(VolumeName),
    /// What was to be removed is used.
    #[error("{what} is used by {by}")]
    InUse { what: String, by: String },
}
