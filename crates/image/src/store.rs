//! The content store: images by name, each ready to run.
//!
//! What is guaranteed: a name is visible only when the image it stands for is complete, verified
//! and on disk; a failed or killed load leaves nothing visible; a snapshot stays as it is until
//! [`ImageStore::collect`] or [`ImageStore::remove`] finds that nothing refers to it.
//! What is assumed: one process owns the directory, and tells which images its tasks still use.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use wharf_contracts::{ImageError, ImageSource, ResolvedImage};
use wharf_core::{Clock, Timestamp};

use crate::digest::Digest;
use crate::documents::{self, Blobs, Image, Platform, Target};
use crate::error::Error;
use crate::layout::{Ingest, Layout, sync_directory, sync_file_system};
use crate::limits::Limits;
use crate::load::{self, Found, Spool};
use crate::reference::Reference;
use crate::references::{self, Named, References};
use crate::snapshots::{self, Staged};

/// A content store. Cloning gives another handle on the same one.
#[derive(Clone)]
pub struct ImageStore(Arc<Inner>);

struct Inner {
    layout: Layout,
    limits: Limits,
    clock: Arc<dyn Clock>,
    platform: Platform,
    /// Held in shared mode while something is made that must not be collected, and exclusively by
    /// what changes names or removes content. Never taken on the path of a ready image.
    gate: RwLock<()>,
    /// One unpack at a time, so that two resolves of an image unpack it once.
    unpacking: Mutex<()>,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    references: References,
    /// Images that have been read, by the digest of the reference's target.
    images: HashMap<Digest, Arc<Image>>,
    /// Images that are unpacked.
    ready: HashMap<Digest, Arc<ResolvedImage>>,
}

#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The name to load the archive's one image under, instead of the names that it has in it.
    pub name: Option<Reference>,
}

/// One image that [`ImageStore::load`] has put into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedImage {
    pub references: Vec<Reference>,
    /// Of the manifest, or of the index when the image is for several platforms.
    pub digest: Digest,
    /// Manifest, configuration and layers of this machine's platform, as they are stored.
    pub bytes: u64,
}

/// A line of `wharf images`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSummary {
    pub reference: Reference,
    /// What the name stands for: a manifest, or an index.
    pub digest: Digest,
    /// The manifest of this machine's platform: what [`ResolvedImage::digest`] says.
    pub manifest_digest: Digest,
    /// Manifest, configuration and layers of this machine's platform, as they are stored.
    pub bytes: u64,
    /// RFC 3339, from the image's configuration.
    pub created: Option<String>,
    pub loaded: Timestamp,
}

/// What a collection has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    pub blobs: usize,
    pub blob_bytes: u64,
    pub snapshots: usize,
}

impl ImageStore {
    /// Opens the store in `directory`, making it when it is not there, and sweeps what a killed
    /// process left unfinished.
    ///
    /// # Errors
    /// When the directory cannot be read or written, or its index is corrupt.
    pub fn open(directory: &Path, clock: Arc<dyn Clock>, limits: Limits) -> Result<Self, Error> {
        let layout = Layout::open(directory)?;
        let references = references::read(&layout)?;
        Ok(Self(Arc::new(Inner {
            layout,
            limits,
            clock,
            platform: Platform::host(),
            gate: RwLock::new(()),
            unpacking: Mutex::new(()),
            state: RwLock::new(State { references, ..State::default() }),
        })))
    }

    /// Loads an OCI image-layout tar or a `docker save` archive, plain or compressed with gzip or
    /// zstd. It blocks: call it from `spawn_blocking`.
    ///
    /// # Errors
    /// Nothing of the archive is in the store then.
    pub fn load(&self, reader: impl Read, options: &LoadOptions) -> Result<Vec<LoadedImage>, Error> {
        self.0.load(reader, options)
    }

    /// The images of the store, by name.
    ///
    /// # Errors
    /// When an image's own documents are damaged.
    pub fn list(&self) -> Result<Vec<ImageSummary>, Error> {
        // What is named now must not be collected before it has been read.
        let _gate = self.0.gate.read();
        let references = self.0.state.read().references.clone();
        references
            .into_iter()
            .map(|(reference, named)| {
                let image = self.0.image(&named.target)?;
                Ok(ImageSummary {
                    reference,
                    digest: named.target.digest,
                    manifest_digest: image.manifest,
                    bytes: image.bytes,
                    created: image.created.clone(),
                    loaded: named.loaded,
                })
            })
            .collect()
    }

    /// Takes a name away, and with it all content that neither another name nor a manifest digest
    /// in `in_use` refers to. It blocks.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such name.
    pub fn remove(&self, reference: &Reference, in_use: &[Digest]) -> Result<Collected, Error> {
        let inner = &self.0;
        let gate = inner.gate.write();
        inner.read_repository(reference)?;
        let mut references = inner.state.read().references.clone();
        let key = find_reference(&references, reference, &inner.state.read().images)
            .ok_or_else(|| Error::NotFound { reference: reference.to_string() })?;
        references.remove(&key);
        references::write(&inner.layout, &references)?;
        inner.state.write().references = references;
        let (collected, trash) = inner.collect(in_use)?;
        drop(gate);
        drop(trash);
        Ok(collected)
    }

    /// Removes all content that neither a name nor a manifest digest in `in_use` refers to: what a
    /// process left that was killed between a load's last two steps, or an image whose last task
    /// has ended. It blocks.
    ///
    /// # Errors
    /// When an image's own documents are damaged; nothing is removed then.
    pub fn collect(&self, in_use: &[Digest]) -> Result<Collected, Error> {
        let gate = self.0.gate.write();
        let (collected, trash) = self.0.collect(in_use)?;
        // It is out of sight; that its removal takes a while is nobody else's concern.
        drop(gate);
        drop(trash);
        Ok(collected)
    }

    /// As [`ImageSource::resolve`], on the caller's thread: it blocks when layers must be unpacked.
    ///
    /// # Errors
    /// As [`Error`] says; nothing half-unpacked is left visible.
    pub fn resolve_blocking(&self, reference: &Reference) -> Result<Arc<ResolvedImage>, Error> {
        if let Some(ready) = self.0.ready(reference)? {
            return Ok(ready);
        }
        self.0.unpack(reference)
    }
}

#[async_trait]
impl ImageSource for ImageStore {
    async fn resolve(&self, reference: &str) -> Result<ResolvedImage, ImageError> {
        let parsed = Reference::parse(reference).map_err(|error| image_error(reference, &error))?;
        if let Some(ready) = self.0.ready(&parsed).map_err(|error| image_error(reference, &error))? {
            return Ok((*ready).clone());
        }
        let store = self.clone();
        let unpacked = tokio::task::spawn_blocking(move || store.0.unpack(&parsed)).await;
        match unpacked {
            Ok(Ok(ready)) => Ok((*ready).clone()),
            Ok(Err(error)) => Err(image_error(reference, &error)),
            Err(error) => Err(ImageError::Store { message: error.to_string() }),
        }
    }
}

fn image_error(reference: &str, error: &Error) -> ImageError {
    match error {
        Error::NotFound { reference } => ImageError::NotFound { reference: reference.clone() },
        Error::InvalidReference { reference } => {
            ImageError::InvalidReference { reference: reference.clone() }
        }
        Error::Platform { platform } => {
            ImageError::Platform { reference: reference.to_owned(), platform: platform.clone() }
        }
        error => ImageError::Store { message: error.chain() },
    }
}

/// The name under which a reference is found: itself, or, for a digest, any name of the repository
/// that stands for it.
fn find_reference(
    references: &References,
    reference: &Reference,
    images: &HashMap<Digest, Arc<Image>>,
) -> Option<Reference> {
    let Some(digest) = reference.digest() else {
        return references.contains_key(reference).then(|| reference.clone());
    };
    references
        .iter()
        .find(|(key, named)| {
            key.repository() == reference.repository()
                && (named.target.digest == digest
                    || images.get(&named.target.digest).is_some_and(|image| image.manifest == digest))
        })
        .map(|(key, _)| key.clone())
}

impl Inner {
    fn load(&self, reader: impl Read, options: &LoadOptions) -> Result<Vec<LoadedImage>, Error> {
        let (spool, found) = load::read_archive(reader, options.name.as_ref(), &self.layout, &self.limits)?;
        let mut images = Vec::with_capacity(found.len());
        let mut keep = BTreeSet::new();
        for image in &found {
            images.push(Arc::new(documents::find_image(&spool, &image.target, &self.platform)?));
            documents::reachable(&spool, &image.target, &mut keep)?;
        }
        let layers = images.iter().flat_map(|image| &image.layers);
        let staged = snapshots::stage(&self.layout, &self.limits, spool.path(), layers, |digest| {
            let file = spool
                .blob(digest)
                .ok_or_else(|| Error::MissingBlob { what: "layer", digest: digest.to_string() })?;
            File::open(&file.path).map_err(|error| Error::io("read", &file.path, error))
        })?;
        sync_file_system(spool.path())?;

        let _gate = self.gate.write();
        let mut published = Vec::new();
        let committed = self
            .publish_blobs(&spool, &keep, &mut published)
            .and_then(|()| self.publish_snapshots(&staged, &mut published))
            .and_then(|()| self.publish_names(&found));
        if let Err(error) = committed {
            Layout::retract(&published);
            return Err(error);
        }
        let mut state = self.state.write();
        let loaded = found
            .into_iter()
            .zip(images)
            .map(|(found, image)| {
                let loaded = LoadedImage {
                    references: found.references,
                    digest: found.target.digest,
                    bytes: image.bytes,
                };
                state.images.insert(found.target.digest, image);
                loaded
            })
            .collect();
        Ok(loaded)
    }

    fn publish_blobs(
        &self,
        spool: &Spool,
        digests: &BTreeSet<Digest>,
        published: &mut Vec<PathBuf>,
    ) -> Result<(), Error> {
        for digest in digests {
            if let Some(file) = spool.blob(digest) {
                Layout::publish(&file.path, self.layout.blob(digest), published)?;
            }
        }
        sync_directory(&self.layout.blobs())
    }

    fn publish_names(&self, found: &[Found]) -> Result<(), Error> {
        let loaded = self.clock.now();
        let mut references = self.state.read().references.clone();
        for image in found {
            for reference in &image.references {
                references.insert(reference.clone(), Named { target: image.target.clone(), loaded });
            }
        }
        references::write(&self.layout, &references)?;
        self.state.write().references = references;
        Ok(())
    }

    /// Moves layers, which are on disk, to their places.
    fn publish_snapshots(&self, staged: &Staged, published: &mut Vec<PathBuf>) -> Result<(), Error> {
        if staged.is_empty() {
            return Ok(());
        }
        for (diff_id, path) in staged {
            Layout::publish(path, self.layout.snapshot(diff_id), published)?;
        }
        sync_directory(&self.layout.snapshots())
    }

    /// The image of a name, when it has been unpacked: no file is touched.
    fn ready(&self, reference: &Reference) -> Result<Option<Arc<ResolvedImage>>, Error> {
        let state = self.state.read();
        if reference.digest().is_some() {
            // Found by comparing digests, some of which may have to be read first.
            return Ok(find_reference(&state.references, reference, &state.images)
                .and_then(|key| state.references.get(&key))
                .and_then(|named| state.ready.get(&named.target.digest).cloned()));
        }
        let named = state
            .references
            .get(reference)
            .ok_or_else(|| Error::NotFound { reference: reference.to_string() })?;
        Ok(state.ready.get(&named.target.digest).cloned())
    }

    fn unpack(&self, reference: &Reference) -> Result<Arc<ResolvedImage>, Error> {
        let _one = self.unpacking.lock();
        let _gate = self.gate.read();
        if let Some(ready) = self.ready(reference)? {
            return Ok(ready);
        }
        let target = self.target(reference)?;
        let image = self.image(&target)?;
        let ingest = self.layout.new_ingest()?;
        let staged =
            snapshots::stage(&self.layout, &self.limits, ingest.path(), image.layers.iter(), |digest| {
                let path = self.layout.blob(digest);
                File::open(&path).map_err(|error| Error::io("read", &path, error))
            })?;
        if !staged.is_empty() {
            sync_file_system(ingest.path())?;
            self.publish_snapshots(&staged, &mut Vec::new())?;
        }
        let layers =
            distinct_layers(&image).into_iter().map(|diff_id| self.layout.snapshot_root(&diff_id)).collect();
        let ready = Arc::new(ResolvedImage {
            digest: image.manifest.to_string(),
            config: image.config.clone(),
            layers,
        });
        self.state.write().ready.insert(target.digest, Arc::clone(&ready));
        Ok(ready)
    }

    fn target(&self, reference: &Reference) -> Result<Target, Error> {
        let not_found = || Error::NotFound { reference: reference.to_string() };
        self.read_repository(reference)?;
        let references = self.state.read().references.clone();
        let key = find_reference(&references, reference, &self.state.read().images).ok_or_else(not_found)?;
        references.get(&key).map(|named| named.target.clone()).ok_or_else(not_found)
    }

    /// Reads what the names of a repository stand for, so that a digest can be found among them.
    fn read_repository(&self, reference: &Reference) -> Result<(), Error> {
        if reference.digest().is_none() {
            return Ok(());
        }
        let references = self.state.read().references.clone();
        for (_, named) in references.iter().filter(|(key, _)| key.repository() == reference.repository()) {
            self.image(&named.target)?;
        }
        Ok(())
    }

    /// What a name stands for, read once.
    fn image(&self, target: &Target) -> Result<Arc<Image>, Error> {
        if let Some(image) = self.state.read().images.get(&target.digest) {
            return Ok(Arc::clone(image));
        }
        let image = Arc::new(documents::find_image(self, target, &self.platform)?);
        self.state.write().images.insert(target.digest, Arc::clone(&image));
        Ok(image)
    }

    /// Moves what nothing refers to into directories that the caller drops. The caller holds the gate.
    fn collect(&self, in_use: &[Digest]) -> Result<(Collected, [Ingest; 2]), Error> {
        let references = self.state.read().references.clone();
        let mut targets: Vec<Target> = references.into_values().map(|named| named.target).collect();
        for digest in in_use {
            targets.extend(documents::target_of(self, digest)?);
        }
        let mut blobs = BTreeSet::new();
        let mut snapshots = BTreeSet::new();
        let mut kept = BTreeSet::new();
        for target in &targets {
            documents::reachable(self, target, &mut blobs)?;
            snapshots.extend(self.image(target)?.layers.iter().map(|layer| layer.diff_id));
            kept.insert(target.digest);
        }
        {
            let mut state = self.state.write();
            state.images.retain(|digest, _| kept.contains(digest));
            state.ready.retain(|digest, _| kept.contains(digest));
        }
        // Two places: the blob of an uncompressed layer has the name of its snapshot.
        let trash = [self.layout.new_ingest()?, self.layout.new_ingest()?];
        let mut collected = Collected::default();
        for (path, _) in unreferenced(&self.layout.snapshots(), &snapshots)? {
            Layout::discard(&path, &trash[0])?;
            collected.snapshots += 1;
        }
        for (path, bytes) in unreferenced(&self.layout.blobs(), &blobs)? {
            Layout::discard(&path, &trash[1])?;
            collected.blobs += 1;
            collected.blob_bytes += bytes;
        }
        Ok((collected, trash))
    }
}

impl Blobs for Inner {
    fn bytes(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        let path = self.layout.blob(digest);
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path, error)),
        }
    }

    fn document(&self, what: &'static str, digest: &Digest) -> Result<Vec<u8>, Error> {
        let bytes =
            self.bytes(digest)?.ok_or_else(|| Error::MissingBlob { what, digest: digest.to_string() })?;
        let document =
            load::read_document(what, &self.layout.blob(digest), bytes, self.limits.document_bytes_max)?;
        let actual = Digest::of(&document);
        if actual != *digest {
            return Err(Error::WrongDigest {
                what: format!("the {what} in the store"),
                expected: *digest,
                actual,
            });
        }
        Ok(document)
    }
}

/// The layers of an image, the topmost first, each once: overlayfs refuses a directory that it is
/// given twice (builders repeat the empty layer). Of equal layers the topmost is enough, for it says
/// last whatever the lower one says of a path.
fn distinct_layers(image: &Image) -> Vec<Digest> {
    let mut seen = BTreeSet::new();
    image.layers.iter().rev().map(|layer| layer.diff_id).filter(|diff_id| seen.insert(*diff_id)).collect()
}

/// What stands in a directory under a digest that is not in `keep`, and its size.
fn unreferenced(directory: &Path, keep: &BTreeSet<Digest>) -> Result<Vec<(PathBuf, u64)>, Error> {
    let failed = |error| Error::io("list", directory, error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let digest = entry.file_name().to_str().and_then(|name| Digest::from_hex(name).ok());
        if digest.is_some_and(|digest| !keep.contains(&digest)) {
            found.push((entry.path(), entry.metadata().map_err(failed)?.len()));
        }
    }
    Ok(found)
}
