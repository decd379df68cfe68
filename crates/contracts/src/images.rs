//! From the name in a task definition to something that can be run.

use std::path::PathBuf;

use async_trait::async_trait;

/// An image that is present and unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedImage {
    /// The digest of the manifest: `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    pub config: ImageConfig,
    /// Unpacked layers, the topmost first, ready as overlayfs lower directories. They stay as they
    /// are for as long as the image is in the store.
    pub layers: Vec<PathBuf>,
}

/// The execution parameters of an image (OCI image-spec, "config" of `config.md`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    pub user: String,
    /// `NAME=value`.
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub working_dir: String,
    pub stop_signal: Option<String>,
    /// Paths in the container that are volumes, in order.
    pub volumes: Vec<String>,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ImageError {
    /// The text is what ECS puts behind `CannotPullContainerError: `.
    #[error("{reference}: not found")]
    NotFound { reference: String },
    #[error("invalid reference format: {reference:?}")]
    InvalidReference { reference: String },
    #[error("no matching manifest for {platform} in the manifest list entries")]
    Platform { reference: String, platform: String },
    #[error("{message}")]
    Store { message: String },
}

#[async_trait]
pub trait ImageSource: Send + Sync {
    /// Finds an image by `name`, `name:tag` or `name@digest`, unpacking layers that are not yet.
    ///
    /// # Errors
    /// As [`ImageError`] says; nothing half-unpacked is left visible.
    async fn resolve(&self, reference: &str) -> Result<ResolvedImage, ImageError>;
}
