//! Manifests, indexes and configurations: parsed, bounded, and reduced to what Wharf acts on.
//!
//! OCI image-spec `manifest.md`, `image-index.md`, `config.md`; Docker's image manifest version 2,
//! schema 2. Nothing here touches a file: bytes come from a [`Blobs`].

use std::collections::BTreeSet;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::Deserialize;
use wharf_contracts::ImageConfig;
use wharf_core::limits::{IMAGE_INDEX_DEPTH_MAX, IMAGE_LAYERS_MAX};

use crate::digest::Digest;
use crate::error::Error;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const CONFIGS: [&str; 2] = [OCI_CONFIG, "application/vnd.docker.container.image.v1+json"];
const LAYERS: [&str; 6] = [
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];

/// Where documents are read from: the store, or an archive that is being loaded.
pub(crate) trait Blobs {
    /// The size of a blob; `None` when it is not here.
    fn bytes(&self, digest: &Digest) -> Result<Option<u64>, Error>;

    /// A whole document, refused when it is larger than a document may be.
    fn document(&self, what: &'static str, digest: &Digest) -> Result<Vec<u8>, Error>;
}

/// An operating system and an architecture, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Platform {
    pub(crate) os: &'static str,
    pub(crate) architecture: &'static str,
}

impl Platform {
    pub(crate) fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self { os: "linux", architecture }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) blob: Digest,
    pub(crate) diff_id: Digest,
}

/// An image for one platform, all of whose blobs are present.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) manifest: Digest,
    pub(crate) config: ImageConfig,
    /// RFC 3339, as the builder wrote it.
    pub(crate) created: Option<String>,
    /// The lowest first.
    pub(crate) layers: Vec<Layer>,
    /// Manifest, configuration and layers as they are stored.
    pub(crate) bytes: u64,
}

/// What is known of a blob before it is read.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: u64,
}

impl Target {
    pub(crate) fn from_descriptor(what: &'static str, descriptor: &Descriptor) -> Result<Self, Error> {
        let digest = descriptor.digest().as_ref();
        Ok(Self {
            digest: digest
                .parse()
                .map_err(|_| Error::corrupt(what, format!("{digest:?} is not a sha256 digest")))?,
            media_type: descriptor.media_type().to_string(),
            bytes: descriptor.size(),
        })
    }
}

/// A document that a reference may stand for.
enum Document {
    Index(Box<ImageIndex>),
    Manifest(Box<ImageManifest>),
}

/// Follows a reference's target to the image of `platform`.
pub(crate) fn find_image(blobs: &dyn Blobs, target: &Target, platform: &Platform) -> Result<Image, Error> {
    find_at_depth(blobs, target, platform, 0)
}

fn find_at_depth(
    blobs: &dyn Blobs,
    target: &Target,
    platform: &Platform,
    depth: usize,
) -> Result<Image, Error> {
    match read_document(blobs, target)? {
        Document::Manifest(manifest) => read_image(blobs, target, &manifest, platform),
        Document::Index(index) => {
            if depth >= IMAGE_INDEX_DEPTH_MAX {
                return Err(Error::corrupt("image index", "it is nested too deep"));
            }
            let mut matching = index.manifests().iter().filter(|descriptor| match descriptor.platform() {
                Some(found) => {
                    found.os().to_string() == platform.os
                        && found.architecture().to_string() == platform.architecture
                }
                // One image without a platform is for every platform; its configuration decides.
                None => index.manifests().len() == 1,
            });
            let descriptor =
                matching.next().ok_or_else(|| Error::Platform { platform: platform.to_string() })?;
            find_at_depth(blobs, &Target::from_descriptor("image index", descriptor)?, platform, depth + 1)
        }
    }
}

/// Every blob that belongs to a reference's target and is present: those of other platforms too.
pub(crate) fn reachable(
    blobs: &dyn Blobs,
    target: &Target,
    found: &mut BTreeSet<Digest>,
) -> Result<(), Error> {
    reachable_at_depth(blobs, target, found, 0)
}

/// What a manifest or index of the store is, from its own members; `None` when it is not here.
pub(crate) fn target_of(blobs: &dyn Blobs, digest: &Digest) -> Result<Option<Target>, Error> {
    let Some(bytes) = blobs.bytes(digest)? else {
        return Ok(None);
    };
    let shape: Shape = parse("manifest", &blobs.document("manifest", digest)?)?;
    let fallback = if shape.manifests.is_some() { OCI_INDEX } else { OCI_MANIFEST };
    let media_type = shape.media_type.unwrap_or_else(|| fallback.to_owned());
    Ok(Some(Target { digest: *digest, media_type, bytes }))
}

fn reachable_at_depth(
    blobs: &dyn Blobs,
    target: &Target,
    found: &mut BTreeSet<Digest>,
    depth: usize,
) -> Result<(), Error> {
    if blobs.bytes(&target.digest)?.is_none() || !found.insert(target.digest) || depth > IMAGE_INDEX_DEPTH_MAX
    {
        return Ok(());
    }
    match read_document(blobs, target)? {
        Document::Index(index) => {
            for descriptor in index.manifests() {
                let target = Target::from_descriptor("image index", descriptor)?;
                reachable_at_depth(blobs, &target, found, depth + 1)?;
            }
        }
        Document::Manifest(manifest) => {
            for descriptor in std::iter::once(manifest.config()).chain(manifest.layers()) {
                let digest = Target::from_descriptor("manifest", descriptor)?.digest;
                if blobs.bytes(&digest)?.is_some() {
                    found.insert(digest);
                }
            }
        }
    }
    Ok(())
}

fn read_document(blobs: &dyn Blobs, target: &Target) -> Result<Document, Error> {
    const WHAT: &str = "manifest";
    let bytes = read_blob(blobs, WHAT, target)?;
    // A document that could be read as either kind is how a digest is made to mean two images
    // (GHSA-77vh-xpmg-72qh).
    let shape: Shape = parse(WHAT, &bytes)?;
    let media_type = shape.media_type.unwrap_or_else(|| target.media_type.clone());
    if media_type != target.media_type {
        return Err(Error::corrupt(
            WHAT,
            format!("it is {media_type:?}, but {:?} points to it", target.media_type),
        ));
    }
    match media_type.as_str() {
        OCI_INDEX | DOCKER_INDEX if shape.layers.is_none() && shape.config.is_none() => {
            Ok(Document::Index(parse(WHAT, &bytes)?))
        }
        OCI_MANIFEST | DOCKER_MANIFEST if shape.manifests.is_none() => {
            Ok(Document::Manifest(parse(WHAT, &bytes)?))
        }
        OCI_INDEX | DOCKER_INDEX | OCI_MANIFEST | DOCKER_MANIFEST => {
            Err(Error::corrupt(WHAT, "it has the members of an image and of an index"))
        }
        _ => Err(Error::MediaType { what: "the image", media_type }),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Configuration {
    architecture: Option<String>,
    os: Option<String>,
    created: Option<String>,
    rootfs: RootFs,
    config: Option<Execution>,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Execution {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
    /// A set, written as a map to nothing.
    volumes: Option<std::collections::BTreeMap<String, serde::de::IgnoredAny>>,
}

fn read_image(
    blobs: &dyn Blobs,
    target: &Target,
    manifest: &ImageManifest,
    platform: &Platform,
) -> Result<Image, Error> {
    const WHAT: &str = "image configuration";
    let config_target = Target::from_descriptor("manifest", manifest.config())?;
    if !CONFIGS.contains(&config_target.media_type.as_str()) {
        return Err(Error::MediaType { what: WHAT, media_type: config_target.media_type });
    }
    let configuration: Configuration = parse(WHAT, &read_blob(blobs, WHAT, &config_target)?)?;
    let is_for = |found: &Option<String>, wanted: &str| {
        found.as_deref().is_none_or(|found| found.is_empty() || found == wanted)
    };
    if !is_for(&configuration.os, platform.os) || !is_for(&configuration.architecture, platform.architecture)
    {
        return Err(Error::Platform { platform: platform.to_string() });
    }
    let diff_ids = configuration.rootfs.diff_ids.unwrap_or_default();
    if manifest.layers().len() > IMAGE_LAYERS_MAX {
        return Err(Error::TooLarge {
            what: "the image".to_owned(),
            max: IMAGE_LAYERS_MAX as u64,
            unit: "layers",
        });
    }
    if diff_ids.len() != manifest.layers().len() {
        let (layers, ids) = (manifest.layers().len(), diff_ids.len());
        return Err(Error::corrupt(WHAT, format!("it has {ids} diff ids for {layers} layers")));
    }
    let mut bytes = target.bytes.saturating_add(config_target.bytes);
    let mut layers = Vec::with_capacity(diff_ids.len());
    for (descriptor, diff_id) in manifest.layers().iter().zip(&diff_ids) {
        let layer = Target::from_descriptor("manifest", descriptor)?;
        if !LAYERS.contains(&layer.media_type.as_str()) {
            return Err(Error::MediaType { what: "a layer", media_type: layer.media_type });
        }
        check_size(blobs, "layer", &layer)?;
        bytes = bytes.saturating_add(layer.bytes);
        let diff_id = diff_id
            .parse()
            .map_err(|_| Error::corrupt(WHAT, format!("{diff_id:?} is not a sha256 digest")))?;
        layers.push(Layer { blob: layer.digest, diff_id });
    }
    let execution = configuration.config.unwrap_or_default();
    Ok(Image {
        manifest: target.digest,
        config: ImageConfig {
            user: execution.user.unwrap_or_default(),
            env: execution.env.unwrap_or_default(),
            entrypoint: execution.entrypoint.unwrap_or_default(),
            cmd: execution.cmd.unwrap_or_default(),
            working_dir: execution.working_dir.unwrap_or_default(),
            stop_signal: execution.stop_signal.filter(|signal| !signal.is_empty()),
            volumes: execution.volumes.unwrap_or_default().into_keys().collect(),
        },
        created: configuration.created.filter(|created| !created.is_empty()),
        layers,
        bytes,
    })
}

fn read_blob(blobs: &dyn Blobs, what: &'static str, target: &Target) -> Result<Vec<u8>, Error> {
    check_size(blobs, what, target)?;
    blobs.document(what, &target.digest)
}

fn check_size(blobs: &dyn Blobs, what: &'static str, target: &Target) -> Result<(), Error> {
    match blobs.bytes(&target.digest)? {
        None => Err(Error::MissingBlob { what, digest: target.digest.to_string() }),
        Some(bytes) if bytes != target.bytes => {
            let (digest, expected) = (target.digest, target.bytes);
            Err(Error::corrupt(
                what,
                format!("blob {digest} has {bytes} bytes, and its descriptor says {expected}"),
            ))
        }
        Some(_) => Ok(()),
    }
}

pub(crate) fn parse<'a, T: Deserialize<'a>>(what: &'static str, bytes: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::corrupt(what, error.to_string()))
}
