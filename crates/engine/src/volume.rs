//! Directories that outlive a container, and how they and the host's files come into one.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wharf_core::Timestamp;

use crate::spec::{ContainerId, VolumeName};

/// Something that is mounted into a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub source: MountSource,
    /// An absolute path in the container; made when missing.
    pub target: String,
    pub readonly: bool,
    pub content: InitialContent,
}

impl Mount {
    /// A writable bind mount of a path of the host.
    pub fn host(source: impl Into<PathBuf>, target: impl Into<String>) -> Self {
        Self {
            source: MountSource::Host(source.into()),
            target: target.into(),
            readonly: false,
            content: InitialContent::AsItIs,
        }
    }

    /// A writable volume that starts with what the image has at `target`, as Docker mounts one.
    pub fn volume(source: MountSource, target: impl Into<String>) -> Self {
        Self { source, target: target.into(), readonly: false, content: InitialContent::FromImage }
    }

    #[must_use]
    pub fn read_only(self) -> Self {
        Self { readonly: true, ..self }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A path of the host, which must exist. Whether a caller may have it is for whoever calls the
    /// engine to say.
    Host(PathBuf),
    /// One of [`crate::SandboxSpec::volumes`]: shared by the sandbox's containers, gone with it.
    Sandbox(VolumeName),
    /// A volume of the engine, made by [`crate::Engine::create_volume`].
    Named(VolumeName),
}

/// What a volume holds when it is empty at its mounting. Bind mounts stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum InitialContent {
    #[default]
    AsItIs,
    /// What the image has at the mount's target, with owners and modes, those of the directory itself
    /// included. Only into an empty volume, and done once the first container that asks for it runs.
    FromImage,
}

/// What a named volume is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    pub name: VolumeName,
    /// Free for the caller.
    pub labels: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeStatus {
    pub name: VolumeName,
    pub labels: Vec<(String, String)>,
    pub created_at: Timestamp,
    /// Where its files are on the host.
    pub path: PathBuf,
    /// Containers that mount it, running or exited; in order.
    pub used_by: Vec<ContainerId>,
}
