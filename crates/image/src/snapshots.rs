//! Unpacking the layers of an image that are not unpacked yet, several at a time, each verified
//! against its diff id before it is put in its place.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::digest::Digest;
use crate::documents::Layer;
use crate::error::Error;
use crate::layout::Layout;
use crate::limits::Limits;
use crate::unpack::unpack_layer;

/// Layers unpacked at the same time, whatever the number of processors.
const WORKERS_MAX: usize = 4;

/// Layers that are unpacked and verified, but not visible yet: diff id → directory.
pub(crate) type Staged = BTreeMap<Digest, PathBuf>;

/// Unpacks into `directory` those of `layers` that have no snapshot.
pub(crate) fn stage<'a>(
    layout: &Layout,
    limits: &Limits,
    directory: &Path,
    layers: impl Iterator<Item = &'a Layer>,
    open: impl Fn(&Digest) -> Result<File, Error> + Sync,
) -> Result<Staged, Error> {
    let missing: BTreeMap<Digest, Digest> = layers
        .filter(|layer| !layout.snapshot(&layer.diff_id).exists())
        .map(|layer| (layer.diff_id, layer.blob))
        .collect();
    if missing.is_empty() {
        return Ok(Staged::new());
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let missing: Vec<(Digest, Digest)> = missing.into_iter().collect();
    let next = AtomicUsize::new(0);
    let result = Mutex::new(Ok(Staged::new()));
    let work = || {
        while let Some((diff_id, blob)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
            let unpacked = open(blob).and_then(|file| stage_one(limits, directory, diff_id, blob, &file));
            let mut result = result.lock();
            match (&mut *result, unpacked) {
                (Ok(staged), Ok(path)) => {
                    staged.insert(*diff_id, path);
                }
                (Ok(_), Err(error)) => *result = Err(error),
                (Err(_), _) => return,
            }
        }
    };
    let workers = std::thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .min(WORKERS_MAX)
        .min(missing.len());
    std::thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(work);
        }
        work();
    });
    result.into_inner()
}

fn stage_one(
    limits: &Limits,
    directory: &Path,
    diff_id: &Digest,
    blob: &Digest,
    file: &File,
) -> Result<PathBuf, Error> {
    let snapshot = directory.join(format!("layer-{}", diff_id.hex()));
    let root = snapshot.join("fs");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&root)
        .and_then(|()| std::fs::set_permissions(&root, Permissions::from_mode(0o755)))
        .map_err(|error| Error::io("create", &root, error))?;
    let actual = unpack_layer(file, &root, limits)?.diff_id;
    if actual != *diff_id {
        return Err(Error::WrongDiffId { layer: *blob, expected: *diff_id, actual });
    }
    Ok(snapshot)
}
