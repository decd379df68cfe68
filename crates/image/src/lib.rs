//! Images: one content store in OCI layout, layers unpacked once and shared, archives read and
//! written.
//!
//! This crate knows nothing of tasks and containers: it turns a name into directories that
//! overlayfs can take as lower ones. It takes no network connection; everything that it reads is
//! hostile, bounded and verified before it can be seen.

#![forbid(unsafe_code)]

pub mod archive;

mod digest;
mod documents;
mod error;
mod layout;
mod limits;
mod load;
mod reference;
mod references;
mod snapshots;
mod store;
mod stream;
mod tarball;
mod unpack;

pub use digest::{Digest, DigestParseError};
pub use error::Error;
pub use limits::Limits;
pub use reference::Reference;
pub use store::{Collected, ImageStore, ImageSummary, LoadOptions, LoadedImage};
pub use wharf_contracts::ImageConfig;
