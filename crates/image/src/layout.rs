//! The store's directory, and the only ways in which something appears in it or goes.
//!
//! ```text
//! oci-layout, index.json       an OCI image layout: references and the digests they stand for
//! blobs/sha256/HEX             content; a file here has the digest that its name says
//! snapshots/HEX/fs             an unpacked layer, named by its diff id
//! ingest/N/                    work in progress; what a killed process left goes to trash/
//! trash/N/                     on its way out, removed in the background
//! ```
//!
//! Whatever becomes visible is made under `ingest/`, brought to disk and renamed. One process owns
//! the directory; its lock is the caller's.

use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::digest::Digest;
use crate::error::Error;

const OCI_LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

#[derive(Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    next_ingest: AtomicU64,
}

impl Layout {
    /// Makes what is missing, and removes what a killed process left unfinished.
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        let root = fs::canonicalize(root)
            .or_else(|_| make_directory(root).and_then(|()| fs::canonicalize(root)))
            .map_err(|error| Error::io("open the image store", root, error))?;
        let layout = Self { root, next_ingest: AtomicU64::new(0) };
        layout.sweep()?;
        for directory in [layout.blobs(), layout.snapshots(), layout.ingest()] {
            make_directory(&directory).map_err(|error| Error::io("create", &directory, error))?;
        }
        let marker = layout.root.join("oci-layout");
        if !marker.exists() {
            layout.write_file(&marker, OCI_LAYOUT.as_bytes())?;
        }
        Ok(layout)
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index.json")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(crate) fn snapshot(&self, diff_id: &Digest) -> PathBuf {
        self.snapshots().join(diff_id.hex())
    }

    /// The directory that overlayfs takes.
    pub(crate) fn snapshot_root(&self, diff_id: &Digest) -> PathBuf {
        self.snapshot(diff_id).join("fs")
    }

    /// A directory for work in progress, removed with all in it when it is dropped.
    pub(crate) fn new_ingest(&self) -> Result<Ingest, Error> {
        let number = self.next_ingest.fetch_add(1, Ordering::Relaxed);
        let path = self.ingest().join(number.to_string());
        make_directory(&path).map_err(|error| Error::io("create", &path, error))?;
        Ok(Ingest { path })
    }

    /// Moves what is complete and on disk to its place, and notes that it did. What is there
    /// already stays.
    pub(crate) fn publish(from: &Path, to: PathBuf, published: &mut Vec<PathBuf>) -> Result<(), Error> {
        if to.exists() {
            return Ok(());
        }
        fs::rename(from, &to).map_err(|error| Error::io("create", &to, error))?;
        published.push(to);
        Ok(())
    }

    /// Takes back what was published for nothing.
    pub(crate) fn retract(published: &[PathBuf]) {
        for path in published {
            let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "cannot remove what a failed load left; a collection will");
            }
        }
    }

    /// Takes something out of sight at once; its space is free when `trash` is dropped.
    pub(crate) fn discard(path: &Path, trash: &Ingest) -> Result<(), Error> {
        let Some(name) = path.file_name() else {
            return Ok(());
        };
        fs::rename(path, trash.path.join(name)).map_err(|error| Error::io("remove", path, error))
    }

    /// Replaces a file as a whole, durably.
    pub(crate) fn write_file(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let ingest = self.new_ingest()?;
        let temporary = ingest.path.join("file");
        File::create(&temporary)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, path))
            .map_err(|error| Error::io("write", path, error))?;
        sync_directory(&self.root)
    }

    /// Takes unfinished work out of the way. Removing it may take long, and nobody waits for it: a
    /// sweep that is cut off goes on at the next start.
    fn sweep(&self) -> Result<(), Error> {
        let (ingest, trash) = (self.ingest(), self.root.join("trash"));
        make_directory(&trash).map_err(|error| Error::io("create", &trash, error))?;
        let place = (0_u64..).map(|number| trash.join(number.to_string())).find(|path| !path.exists());
        if let Some(place) = place {
            match fs::rename(&ingest, &place) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("sweep", &ingest, error));
                }
                _ => {}
            }
        }
        let failed = |error| Error::io("list", &trash, error);
        let left = fs::read_dir(&trash).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(failed)?;
        let remove = move || {
            for entry in left {
                if let Err(error) = fs::remove_dir_all(entry.path()) {
                    tracing::warn!(path = %entry.path().display(), %error, "cannot remove what an earlier process left");
                }
            }
        };
        std::thread::Builder::new().name("image-sweep".to_owned()).spawn(remove).map_err(failed)?;
        Ok(())
    }

    fn ingest(&self) -> PathBuf {
        self.root.join("ingest")
    }
}

/// Brings the names in a directory to disk.
pub(crate) fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| Error::io("sync", path, error))
}

/// Brings everything to disk that has been written to the file system holding `path`: one call
/// for the thousands of files of a layer.
pub(crate) fn sync_file_system(path: &Path) -> Result<(), Error> {
    let directory = File::open(path).map_err(|error| Error::io("sync", path, error))?;
    rustix::fs::syncfs(&directory).map_err(|errno| Error::io("sync", path, errno))
}

/// Only the owner of the store may look into it: layers hold setuid programs of other people's.
fn make_directory(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[derive(Debug)]
pub(crate) struct Ingest {
    path: PathBuf,
}

impl Ingest {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a work directory; it is swept at the next start");
        }
    }
}
