//! Sandbox directories that are used again.
//!
//! Some file systems give a directory's block back at once, by a discard that the disk takes
//! milliseconds for, and look at all that was deleted of late for each inode that they give out
//! (ext4 without a journal). So what a sandbox leaves is emptied, and its directories are kept for the
//! next one.
//!
//! Nothing that a container could hold on to is kept: writable layers, volumes and the files of `/etc`
//! go. A descriptor that was handed to another container would else reach the next one's files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Where they wait, below the sandboxes directory.
const POOL: &str = ".pool";
/// More are removed.
const KITS_MAX: usize = 128;
/// In the directory of containers: an empty one for the first.
const SPARE: &str = ".spare";
/// Directories that were grown are not worth keeping.
const DIRECTORY_BYTES_MAX: u64 = 4096;

/// Directories that are ready, as far as this process knows.
#[derive(Debug, Default)]
pub struct Kits {
    names: Mutex<Vec<String>>,
}

pub fn pool_dir(sandboxes_dir: &Path) -> PathBuf {
    sandboxes_dir.join(POOL)
}

impl Kits {
    /// Puts a used directory at `to`, where there must be none. Whether there was one.
    pub fn take(&self, sandboxes_dir: &Path, to: &Path) -> bool {
        let pool = pool_dir(sandboxes_dir);
        let Ok(mut names) = self.names.lock() else { return false };
        if names.is_empty() {
            let found = fs::read_dir(&pool).into_iter().flatten().flatten();
            names.extend(found.filter_map(|entry| entry.file_name().into_string().ok()));
        }
        // Another spawner may have been faster.
        while let Some(name) = names.pop() {
            match fs::rename(pool.join(name), to) {
                Ok(()) => return true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => return false,
            }
        }
        false
    }
}

/// As `create_dir`, with the empty directory of a kit where there is one.
pub fn make_container(containers: &Path, directory: &Path) -> io::Result<()> {
    if directory.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(containers.join(SPARE), directory).or_else(|_| fs::create_dir(directory))
}

/// Empties a directory that was a sandbox's and keeps it; one that cannot be kept is removed.
pub fn keep(sandboxes_dir: &Path, directory: &Path) -> io::Result<()> {
    let pool = pool_dir(sandboxes_dir);
    let has_room = fs::read_dir(&pool).is_ok_and(|found| found.take(KITS_MAX).count() < KITS_MAX);
    let kept = has_room && is_sandbox(directory) && empty(directory).is_ok();
    let name = directory.file_name().unwrap_or_default();
    if kept && fs::rename(directory, pool.join(name)).is_ok() {
        return Ok(());
    }
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn is_sandbox(directory: &Path) -> bool {
    let is_small = |path: &Path| {
        path.symlink_metadata().is_ok_and(|found| found.is_dir() && found.len() <= DIRECTORY_BYTES_MAX)
    };
    is_small(directory) && is_small(&directory.join("c"))
}

/// Leaves `c` and one empty directory in it.
fn empty(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_name().to_str() {
            Some("c") => {}
            _ => remove(&entry)?,
        }
    }
    let containers = directory.join("c");
    let mut has_spare = containers.join(SPARE).exists();
    for entry in fs::read_dir(&containers)? {
        let entry = entry?;
        if entry.file_name() == SPARE {
            continue;
        }
        if has_spare || !entry.file_type()?.is_dir() {
            remove(&entry)?;
            continue;
        }
        for inner in fs::read_dir(entry.path())? {
            remove(&inner?)?;
        }
        fs::rename(entry.path(), containers.join(SPARE))?;
        has_spare = true;
    }
    Ok(())
}

fn remove(entry: &fs::DirEntry) -> io::Result<()> {
    if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kit_holds_nothing_of_the_sandbox_that_it_was() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(pool_dir(top.path())).unwrap();
        let used = top.path().join("used");
        for directory in ["c/one/upper/secret", "c/one/work/work", "c/two/upper", "volumes/v"] {
            fs::create_dir_all(used.join(directory)).unwrap();
        }
        for file in ["hosts", "hostname", "resolv.conf", "users", "c/one/upper/file"] {
            fs::write(used.join(file), "x").unwrap();
        }
        std::os::unix::fs::symlink("/etc", used.join("c/one/upper/link")).unwrap();
        keep(top.path(), &used).unwrap();

        let kits = Kits::default();
        let new = top.path().join("new");
        assert!(kits.take(top.path(), &new));
        assert!(!kits.take(top.path(), &top.path().join("another")));
        let names = |path: &Path| {
            let mut names: Vec<_> = fs::read_dir(path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(&new), ["c"]);
        assert_eq!(names(&new.join("c")), [SPARE]);
        make_container(&new.join("c"), &new.join("c/three")).unwrap();
        make_container(&new.join("c"), &new.join("c/four")).unwrap();
        assert_eq!(names(&new.join("c")), ["four", "three"]);
        assert!(names(&new.join("c/three")).is_empty());
        assert!(make_container(&new.join("c"), &new.join("c/four")).is_err());
        assert!(Path::new("/etc/passwd").exists());
    }

    #[test]
    fn what_is_no_sandbox_is_removed() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(pool_dir(top.path())).unwrap();
        let layer = top.path().join("layer");
        fs::create_dir_all(layer.join("upper/a")).unwrap();
        keep(top.path(), &layer).unwrap();
        assert!(!layer.exists());
        assert_eq!(fs::read_dir(pool_dir(top.path())).unwrap().count(), 0);
    }
}
