//! What can go wrong with an image, each with the object it concerns.
//!
//! The cause stands in `source()` and is not repeated in the message; [`Error::chain`] writes both.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::digest::Digest;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no space left on the device that holds {}", path.display())]
    NoSpace { path: PathBuf },
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The source of the bytes failed: a file, a connection, or a decoder of gzip or zstd.
    #[error("the {what} cannot be read")]
    Read {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("corrupt {what}: {reason}")]
    Corrupt { what: &'static str, reason: String },
    #[error("{what} is larger than {max} {unit}")]
    TooLarge { what: String, max: u64, unit: &'static str },
    #[error("{what} expands to more than {ratio} times its compressed size")]
    Ratio { what: &'static str, ratio: u64 },
    #[error("entry \"{}\" of the {what} {reason}", name.escape_ascii())]
    Entry { what: &'static str, name: Vec<u8>, reason: String },
    #[error("{what} has digest {actual}, not {expected}")]
    WrongDigest { what: String, expected: Digest, actual: Digest },
    #[error("layer {layer} unpacks to diff id {actual}, but the image's configuration says {expected}")]
    WrongDiffId { layer: Digest, expected: Digest, actual: Digest },
    #[error("blob {digest}, the {what} of the image, is missing")]
    MissingBlob { what: &'static str, digest: String },
    #[error("unsupported media type {media_type:?} of {what}")]
    MediaType { what: &'static str, media_type: String },
    #[error("no matching manifest for {platform} in the manifest list entries")]
    Platform { platform: String },
    #[error("invalid reference format: {reference:?}")]
    InvalidReference { reference: String },
    #[error("{reference}: not found")]
    NotFound { reference: String },
    #[error("the archive does not name its image; give it a name to load it under")]
    NoName,
    #[error("the archive holds {count} images, so one name is not enough for it")]
    OneName { count: usize },
    #[error("this needs root: layers carry owners and device nodes")]
    NotRoot,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        if is_no_space(&source) {
            return Self::NoSpace { path: path.to_path_buf() };
        }
        Self::Io { action, path: path.to_path_buf(), source }
    }

    pub(crate) fn corrupt(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Corrupt { what, reason: reason.into() }
    }

    pub(crate) fn entry(what: &'static str, name: &[u8], reason: impl Into<String>) -> Self {
        Self::Entry { what, name: name[..name.len().min(256)].to_vec(), reason: reason.into() }
    }

    /// From a reader of ours: our own error travels inside the `io::Error`.
    pub(crate) fn read(what: &'static str, source: io::Error) -> Self {
        match source.downcast::<Self>() {
            Ok(error) => error,
            Err(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                Self::corrupt(what, "it ends too early")
            }
            Err(source) => Self::Read { what, source },
        }
    }

    /// The message and its causes on one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}

pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::NOSPC | Errno::DQUOT))
}
