//! Files into and out of containers, as tar streams.
//!
//! Paths are those of the container: every look-up is confined to its root, whatever links it holds
//! and however they change meanwhile. A running container's volumes and tmpfs are seen as it sees
//! them; of one that does not run, only its root is there. Owners are the container's ids.

use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;

use crate::spec::{ContainerId, ContainerSpec, SandboxId};

/// Bytes of a path in a container, as the kernel has it.
pub const PATH_BYTES_MAX: usize = 4096;

/// Whose files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CopyRoot {
    /// One that runs.
    Running(ContainerId),
    /// One that does not: its layers, with the writable layer that [`ContainerSpec::writable_layer`]
    /// names in the sandbox.
    Stopped { sandbox: SandboxId, spec: Box<ContainerSpec> },
}

/// A tar stream (POSIX, with PAX records where a name or number needs one). An error at its end means
/// that it is not whole.
pub type Archive = Box<dyn AsyncRead + Send + Unpin>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileKind {
    File,
    Directory,
    Link,
    Other,
}

/// A file as the container sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStat {
    /// The last component of the path; `/` for the root.
    pub name: String,
    pub kind: FileKind,
    pub bytes: u64,
    /// Permissions with the set-id and sticky bits.
    pub mode: u32,
    pub modified_unix_secs: i64,
    /// Of a link, as it stands.
    pub link_target: Option<String>,
}

/// What a path's last component means when it is a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FollowLink {
    /// The link itself.
    #[default]
    No,
    Yes,
}

/// Whose the files are that were copied in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyOwner {
    /// Root's in the container, as `docker cp` does.
    #[default]
    Root,
    /// As the archive says.
    Archive,
}
