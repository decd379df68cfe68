//! Where the containers' pipes lie: in memory where the host has a tmpfs for it, since a disk's file
//! system may take a hundred times as long to make and forget an inode. `pipes` in the keeper's
//! directory then leads there.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::paths;

const MEMORY: &str = "/dev/shm";
const TMPFS_MAGIC: i128 = 0x0102_1994;
const FOR_OTHERS: u32 = 0o077;

/// The directory in memory of the engine with this name.
pub fn in_memory(instance: &str) -> PathBuf {
    Path::new(MEMORY).join(format!("wharf-{instance}"))
}

/// A directory that a start has made. Dropped before [`Made::keep`], that start failed: what it made is
/// taken away, unless something lies in it.
pub struct Made(());

impl Made {
    /// The keeper serves: the directory stays until [`remove`].
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let directory = fs::read_link(paths::PIPES);
        if fs::remove_dir(directory.as_deref().unwrap_or(paths::PIPES.as_ref())).is_ok() && directory.is_ok()
        {
            let _ = fs::remove_file(paths::PIPES);
        }
    }
}

/// Makes the directory. `None`: it is there.
pub fn make(instance: &str) -> io::Result<Option<Made>> {
    if fs::metadata(paths::PIPES).is_ok_and(|found| found.is_dir()) {
        return Ok(None);
    }
    // A link that led into the memory of an earlier boot.
    if fs::symlink_metadata(paths::PIPES).is_ok_and(|found| found.is_symlink()) {
        fs::remove_file(paths::PIPES)?;
    }
    let in_memory = in_memory(instance);
    match make_in_memory(&in_memory) {
        Ok(()) => symlink(&in_memory, paths::PIPES).inspect_err(|_| {
            let _ = fs::remove_dir(&in_memory);
        }),
        Err(_) => fs::create_dir(paths::PIPES),
    }?;
    Ok(Some(Made(())))
}

fn make_in_memory(directory: &Path) -> io::Result<()> {
    let filesystem = rustix::fs::statfs(MEMORY)?;
    if i128::from(filesystem.f_type) != TMPFS_MAGIC {
        return Err(io::ErrorKind::Unsupported.into());
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => return other,
    }
    // Everybody may write in the directory above.
    let found = fs::symlink_metadata(directory)?;
    let is_ours = found.is_dir()
        && found.uid() == rustix::process::geteuid().as_raw()
        && found.permissions().mode() & FOR_OTHERS == 0;
    if is_ours { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// Removes the directory with what is in it.
pub fn remove() {
    // What is not there is removed.
    match fs::read_link(paths::PIPES) {
        Ok(directory) => {
            let _ = fs::remove_dir_all(directory);
            let _ = fs::remove_file(paths::PIPES);
        }
        Err(_) => {
            let _ = fs::remove_dir_all(paths::PIPES);
        }
    }
}
