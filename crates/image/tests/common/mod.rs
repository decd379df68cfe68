//! Stores in temporary directories, and archives byte by byte: honest ones and others.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tar::{EntryType, Header};
use wharf_core::{ManualClock, Timestamp};
use wharf_image::archive::{ArchiveImage, Layer, write_oci};
use wharf_image::{Error, ImageConfig, ImageStore, Limits, LoadOptions, LoadedImage, Reference};

/// Leaves the test, visibly, when it is not run by root.
macro_rules! needs_root {
    () => {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: this test needs root, to make device nodes and trusted attributes");
            return;
        }
    };
}
pub(crate) use needs_root;

pub struct Fixture {
    pub directory: tempfile::TempDir,
    pub store: ImageStore,
}

impl Fixture {
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    pub fn with_limits(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory.path().join("images"), limits);
        Self { directory, store }
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("images")
    }

    pub fn load(&self, archive: &[u8]) -> Result<Vec<LoadedImage>, Error> {
        self.store.load(archive, &LoadOptions::default())
    }

    /// The unpacked layer of an image with one layer.
    pub fn layer(&self, name: &str) -> PathBuf {
        let resolved = self.store.resolve_blocking(&reference(name)).unwrap();
        assert_eq!(resolved.layers.len(), 1);
        resolved.layers[0].clone()
    }

    /// Loads an image of one layer, made of this tar, as `test`.
    pub fn load_layer(&self, tar: Vec<u8>) -> Result<PathBuf, Error> {
        self.load(&image_of(tar))?;
        Ok(self.layer("test"))
    }

    /// Nothing is left of what failed: no name, no content, no work in progress.
    pub fn assert_empty(&self) {
        assert_eq!(self.store.list().unwrap(), []);
        for directory in ["blobs/sha256", "snapshots", "ingest"] {
            assert_eq!(names(&self.root().join(directory)), [""; 0], "{directory}");
        }
        assert_eq!(names(self.directory.path()), ["images"]);
    }
}

pub fn open(directory: &Path, limits: Limits) -> ImageStore {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
    ImageStore::open(directory, clock, limits).unwrap()
}

pub fn reference(name: &str) -> Reference {
    Reference::parse(name).unwrap()
}

pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

pub fn config() -> ImageConfig {
    ImageConfig {
        user: "1000:1000".to_owned(),
        env: vec!["PATH=/bin".to_owned(), "A=b=c".to_owned()],
        entrypoint: vec!["/hello".to_owned()],
        cmd: vec!["--port".to_owned(), "8080".to_owned()],
        working_dir: "/srv".to_owned(),
        stop_signal: Some("SIGINT".to_owned()),
        volumes: vec!["/data".to_owned(), "/var/lib/app".to_owned()],
    }
}

/// An image archive with one layer made of this tar, named `test`.
pub fn image_of(tar: Vec<u8>) -> Vec<u8> {
    oci(&ArchiveImage::new(reference("test"), config()).layer(Layer::from_tar(tar)))
}

pub fn oci(image: &ArchiveImage) -> Vec<u8> {
    let mut archive = Vec::new();
    write_oci(&mut archive, image).unwrap();
    archive
}

/// A tar without the politeness of a writer: what is put in a header stays as it is.
#[derive(Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    pub fn entry(
        mut self,
        kind: EntryType,
        name: &str,
        data: &[u8],
        change: impl FnOnce(&mut Header),
    ) -> Self {
        let mut header = Header::new_gnu();
        assert!(name.len() <= 100, "{name}");
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_size(data.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, data: &[u8]) -> Self {
        self.entry(EntryType::Regular, name, data, |_| {})
    }

    pub fn directory(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name, &[], |_| {})
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, &[], |header| header.set_link_name_literal(target).unwrap())
    }

    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name, &[], |header| header.set_link_name_literal(target).unwrap())
    }

    pub fn device(self, kind: EntryType, name: &str, major: u32, minor: u32) -> Self {
        self.entry(kind, name, &[], |header| {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        })
    }

    /// An extended header for the entry that follows.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length =
                (1..=6).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length);
            data.extend_from_slice(format!("{} {key}=", length.unwrap()).as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.entry(EntryType::XHeader, "pax", &data, |_| {})
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}
