//! Writing image archives: from files in memory or a directory tree, the same bytes each time.
//!
//! [`write_oci`] makes an OCI image layout, [`write_docker`] the same with the `manifest.json` that
//! `docker load` reads. Nothing here touches a store.
//!
//! ```
//! use wharf_image::archive::{ArchiveImage, Layer, write_docker};
//! use wharf_image::{ImageConfig, Reference};
//!
//! let image = ArchiveImage::new(
//!     Reference::parse("hello")?,
//!     ImageConfig { entrypoint: vec!["/hello".into()], ..ImageConfig::default() },
//! )
//! .layer(Layer::new().file("hello", 0o755, b"a static program")?);
//! let mut archive = Vec::new();
//! write_docker(&mut archive, &image)?;
//! # Ok::<(), wharf_image::Error>(())
//! ```

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use oci_spec::image::{Descriptor, ImageManifestBuilder, MediaType};
use serde_json::json;
use tar::{EntryType, Header};
use wharf_contracts::ImageConfig;
use wharf_core::Timestamp;

use crate::digest::Digest;
use crate::documents::{OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST, Platform};
use crate::error::Error;
use crate::reference::Reference;
use crate::references::{NAME_ANNOTATION, REF_NAME_ANNOTATION, descriptor, index_bytes, json as json_bytes};

const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const WHAT: &str = "archive to write";

/// How a layer is stored in the archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerCompression {
    #[default]
    None,
    Gzip,
    Zstd,
}

/// A layer under construction: a tar whose entries are owned by root and have no times of their own.
#[derive(Default)]
pub struct Layer {
    tar: Vec<u8>,
    end: End,
    compression: LayerCompression,
}

/// Whether the tar has its two closing blocks.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum End {
    #[default]
    Missing,
    Present,
}

impl Layer {
    pub fn new() -> Self {
        Self::default()
    }

    /// A layer from a tar that exists, complete with its end.
    pub fn from_tar(tar: Vec<u8>) -> Self {
        Self { tar, end: End::Present, compression: LayerCompression::None }
    }

    /// All that is below `directory`, in the order of the names, with its modes and owners.
    ///
    /// # Errors
    /// When something cannot be read, or is neither file, directory nor symbolic link.
    pub fn from_directory(directory: &Path) -> Result<Self, Error> {
        let mut layer = Self::new();
        layer.add_tree(directory, &[])?;
        Ok(layer)
    }

    #[must_use]
    pub fn compressed(mut self, compression: LayerCompression) -> Self {
        self.compression = compression;
        self
    }

    /// # Errors
    /// When the path cannot be written to a tar.
    pub fn file(mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<Self, Error> {
        self.add(path.as_bytes(), EntryType::Regular, mode, (0, 0), &[], bytes)?;
        Ok(self)
    }

    /// # Errors
    /// When the path cannot be written to a tar.
    pub fn directory(mut self, path: &str, mode: u32) -> Result<Self, Error> {
        self.add(path.as_bytes(), EntryType::Directory, mode, (0, 0), &[], &[])?;
        Ok(self)
    }

    /// # Errors
    /// When the path or the target cannot be written to a tar.
    pub fn symlink(mut self, path: &str, target: &str) -> Result<Self, Error> {
        self.add(path.as_bytes(), EntryType::Symlink, 0o777, (0, 0), target.as_bytes(), &[])?;
        Ok(self)
    }

    fn add_tree(&mut self, directory: &Path, prefix: &[u8]) -> Result<(), Error> {
        let failed = |error| Error::io("read", directory, error);
        let mut entries =
            fs::read_dir(directory).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(failed)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let failed = |error| Error::io("read", &path, error);
            let metadata = fs::symlink_metadata(&path).map_err(failed)?;
            let mut name = prefix.to_vec();
            name.extend_from_slice(entry.file_name().as_bytes());
            let mode = metadata.permissions().mode() & 0o7777;
            let owner = (metadata.uid(), metadata.gid());
            if metadata.is_dir() {
                self.add(&name, EntryType::Directory, mode, owner, &[], &[])?;
                name.push(b'/');
                self.add_tree(&path, &name)?;
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path).map_err(failed)?;
                self.add(&name, EntryType::Symlink, mode, owner, target.as_os_str().as_bytes(), &[])?;
            } else if metadata.is_file() {
                let bytes = fs::read(&path).map_err(failed)?;
                self.add(&name, EntryType::Regular, mode, owner, &[], &bytes)?;
            } else {
                return Err(Error::entry(WHAT, &name, "is neither file, directory nor symbolic link"));
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        path: &[u8],
        kind: EntryType,
        mode: u32,
        (uid, gid): (u32, u32),
        target: &[u8],
        bytes: &[u8],
    ) -> Result<(), Error> {
        append(&mut self.tar, path, kind, mode, (uid, gid), target, bytes)
    }

    fn finish(&self) -> Result<(Digest, Vec<u8>, &'static str), Error> {
        let mut tar = self.tar.clone();
        if self.end == End::Missing {
            tar.extend_from_slice(&[0; 1024]);
        }
        let diff_id = Digest::of(&tar);
        let failed = |source| Error::Read { what: WHAT, source };
        Ok(match self.compression {
            LayerCompression::None => (diff_id, tar, OCI_LAYER),
            LayerCompression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(&tar).map_err(failed)?;
                (diff_id, encoder.finish().map_err(failed)?, OCI_LAYER_GZIP)
            }
            LayerCompression::Zstd => {
                (diff_id, zstd::encode_all(&tar[..], 0).map_err(failed)?, OCI_LAYER_ZSTD)
            }
        })
    }
}

/// An image to write.
pub struct ArchiveImage {
    references: Vec<Reference>,
    config: ImageConfig,
    architecture: String,
    created: Timestamp,
    layers: Vec<Layer>,
}

impl ArchiveImage {
    /// An image for this machine's architecture, made at the epoch.
    pub fn new(reference: Reference, config: ImageConfig) -> Self {
        Self {
            references: vec![reference],
            config,
            architecture: Platform::host().architecture.to_owned(),
            created: Timestamp::from_millis(0),
            layers: Vec::new(),
        }
    }

    /// Adds a layer on top.
    #[must_use]
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Gives it one more name.
    #[must_use]
    pub fn also_named(mut self, reference: Reference) -> Self {
        self.references.push(reference);
        self
    }

    /// In Go's words, such as `arm64`.
    #[must_use]
    pub fn architecture(mut self, architecture: &str) -> Self {
        architecture.clone_into(&mut self.architecture);
        self
    }

    #[must_use]
    pub fn created(mut self, created: Timestamp) -> Self {
        self.created = created;
        self
    }
}

/// An image that holds one static program and nothing else. The program stands at the root under
/// the last part of the image's name, and is the entrypoint: `hello:latest` runs `/hello`.
///
/// # Errors
/// When the name cannot be written to a tar.
pub fn program_image(reference: Reference, program: &[u8]) -> Result<ArchiveImage, Error> {
    let name = reference.repository().rsplit('/').next().unwrap_or_default().to_owned();
    let config = ImageConfig { entrypoint: vec![format!("/{name}")], ..ImageConfig::default() };
    let layer = Layer::new().file(&name, 0o755, program)?;
    Ok(ArchiveImage::new(reference, config).layer(layer))
}

/// Writes an OCI image layout as a tar.
///
/// # Errors
/// When the writer fails.
pub fn write_oci(writer: impl Write, image: &ArchiveImage) -> Result<(), Error> {
    write_files(writer, build(image)?.files)
}

/// Writes what `docker save` writes since version 25, for `docker load` of any version: an OCI image
/// layout with a `manifest.json`.
///
/// # Errors
/// When the writer fails.
pub fn write_docker(writer: impl Write, image: &ArchiveImage) -> Result<(), Error> {
    let mut built = build(image)?;
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let list = json!([{
        "Config": path(&built.config),
        "RepoTags": image.references.iter().map(Reference::familiar).collect::<Vec<_>>(),
        "Layers": built.layers.iter().map(path).collect::<Vec<_>>(),
    }]);
    built.files.push(("manifest.json".to_owned(), json_bytes("manifest.json", &list)?));
    write_files(writer, built.files)
}

struct Built {
    files: Vec<(String, Vec<u8>)>,
    config: Digest,
    layers: Vec<Digest>,
}

fn build(image: &ArchiveImage) -> Result<Built, Error> {
    let mut files = Vec::new();
    let mut add = |bytes: Vec<u8>, media_type: &str| -> Result<Descriptor, Error> {
        let digest = Digest::of(&bytes);
        let described = descriptor(media_type, digest, bytes.len() as u64, None);
        let path = format!("blobs/sha256/{}", digest.hex());
        if files.iter().all(|(found, _)| *found != path) {
            files.push((path, bytes));
        }
        described
    };
    let mut diff_ids = Vec::new();
    let mut layers = Vec::new();
    let mut layer_digests = Vec::new();
    for layer in &image.layers {
        let (diff_id, bytes, media_type) = layer.finish()?;
        diff_ids.push(diff_id.to_string());
        layer_digests.push(Digest::of(&bytes));
        layers.push(add(bytes, media_type)?);
    }
    let config = json_bytes("image configuration", &configuration(image, &diff_ids))?;
    let config_digest = Digest::of(&config);
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(add(config, OCI_CONFIG)?)
        .layers(layers)
        .build()
        .map_err(|error| Error::corrupt(WHAT, error.to_string()))?;
    let manifest = json_bytes("manifest", &manifest)?;
    let (digest, bytes) = (Digest::of(&manifest), manifest.len() as u64);
    add(manifest, OCI_MANIFEST)?;
    let named = image
        .references
        .iter()
        .map(|reference| {
            let annotations = HashMap::from([
                (NAME_ANNOTATION.to_owned(), reference.to_string()),
                (REF_NAME_ANNOTATION.to_owned(), reference.tag().unwrap_or_default().to_owned()),
            ]);
            descriptor(OCI_MANIFEST, digest, bytes, Some(annotations))
        })
        .collect::<Result<_, _>>()?;
    files.push(("index.json".to_owned(), index_bytes(named)?));
    files.push(("oci-layout".to_owned(), OCI_LAYOUT.to_vec()));
    Ok(Built { files, config: config_digest, layers: layer_digests })
}

fn configuration(image: &ArchiveImage, diff_ids: &[String]) -> serde_json::Value {
    let ImageConfig { user, env, entrypoint, cmd, working_dir, stop_signal, volumes } = &image.config;
    let mut config = serde_json::Map::new();
    let mut set = |name: &str, value: serde_json::Value, is_empty: bool| {
        if !is_empty {
            config.insert(name.to_owned(), value);
        }
    };
    set("User", json!(user), user.is_empty());
    set("Env", json!(env), env.is_empty());
    set("Entrypoint", json!(entrypoint), entrypoint.is_empty());
    set("Cmd", json!(cmd), cmd.is_empty());
    set("WorkingDir", json!(working_dir), working_dir.is_empty());
    set("StopSignal", json!(stop_signal), stop_signal.is_none());
    let volume_set: serde_json::Map<_, _> = volumes.iter().map(|path| (path.clone(), json!({}))).collect();
    set("Volumes", json!(volume_set), volumes.is_empty());
    json!({
        "architecture": image.architecture,
        "os": "linux",
        "created": image.created.to_iso8601(),
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
}

fn write_files(mut writer: impl Write, files: Vec<(String, Vec<u8>)>) -> Result<(), Error> {
    let mut tar = Vec::new();
    for (path, bytes) in files {
        append(&mut tar, path.as_bytes(), EntryType::Regular, 0o644, (0, 0), &[], &bytes)?;
    }
    tar.extend_from_slice(&[0; 1024]);
    writer.write_all(&tar).and_then(|()| writer.flush()).map_err(|source| Error::Read { what: WHAT, source })
}

/// Appends one entry, with GNU long names where the header's fields are too short.
fn append(
    tar: &mut Vec<u8>,
    path: &[u8],
    kind: EntryType,
    mode: u32,
    (uid, gid): (u32, u32),
    target: &[u8],
    bytes: &[u8],
) -> Result<(), Error> {
    if path.is_empty() || path.contains(&0) || target.contains(&0) {
        return Err(Error::entry(WHAT, path, "has an invalid name"));
    }
    let mut header = Header::new_gnu();
    for (long, kind) in [(path, EntryType::GNULongName), (target, EntryType::GNULongLink)] {
        if long.len() > 100 {
            let mut long = long.to_vec();
            long.push(0);
            append(tar, b"././@LongLink", kind, 0, (0, 0), &[], &long)?;
        }
    }
    let old = header.as_old_mut();
    let shortened = &path[..path.len().min(100)];
    old.name[..shortened.len()].copy_from_slice(shortened);
    let shortened = &target[..target.len().min(100)];
    old.linkname[..shortened.len()].copy_from_slice(shortened);
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(uid.into());
    header.set_gid(gid.into());
    header.set_mtime(0);
    header.set_size(bytes.len() as u64);
    header.set_cksum();
    tar.extend_from_slice(header.as_bytes());
    tar.extend_from_slice(bytes);
    tar.resize(tar.len().next_multiple_of(512), 0);
    Ok(())
}
