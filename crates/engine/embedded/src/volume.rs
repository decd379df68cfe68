//! Where volumes lie, and how an empty one gets what the image has at its place.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::{Errno, Result};
use wharf_engine::{EngineError, Mount, MountSource, SandboxId, SandboxSpec, VolumeName};

use crate::host::Host;
use crate::in_root::Root;

/// Below a sandbox's directory.
const SANDBOX_VOLUMES: &str = "v";
/// Below a named volume's directory: its files. What else lies beside is the keeper's.
const DATA: &str = "data";
/// As Docker makes a volume.
const MODE: u32 = 0o755;
/// In a volume while it is being filled: what is found with it is filled anew.
const FILLING: &str = ".wharf-filling";
/// Extended attributes of one file, names and each value; more are not copied.
const ATTRIBUTE_BYTES_MAX: usize = 64 * 1024;

/// The files of a volume of one sandbox.
pub fn of_sandbox(sandbox_dir: &Path, volume: &VolumeName) -> PathBuf {
    sandbox_dir.join(SANDBOX_VOLUMES).join(volume.as_str())
}

/// The files of a named volume.
pub fn named(volumes_dir: &Path, volume: &VolumeName) -> PathBuf {
    volumes_dir.join(volume.as_str()).join(DATA)
}

/// Makes a volume's directory; one that is there stays as it is.
pub fn make(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => DirBuilder::new().recursive(true).mode(0o700).create(parent)?,
        None => return Err(io::ErrorKind::InvalidInput.into()),
    }
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Whatever the umask is.
        other => other.and_then(|()| std::fs::set_permissions(path, PermissionsExt::from_mode(MODE))),
    }
}

/// Where a mount's source is on the host.
///
/// # Errors
/// `NoVolume` for a volume that the sandbox or the engine does not have.
pub fn source(
    host: &Host,
    sandbox: &SandboxSpec,
    mount: &Mount,
) -> std::result::Result<PathBuf, EngineError> {
    let (path, volume) = match &mount.source {
        MountSource::Host(path) => return Ok(path.clone()),
        MountSource::Sandbox(volume) if sandbox.volumes.contains(volume) => {
            (of_sandbox(&host.sandbox_dir(&sandbox.id), volume), volume)
        }
        MountSource::Sandbox(volume) => return Err(EngineError::NoVolume(volume.clone())),
        MountSource::Named(volume) => (named(&host.volumes_dir(), volume), volume),
    };
    if path.is_dir() { Ok(path) } else { Err(EngineError::NoVolume(volume.clone())) }
}

/// Copies what the image has at `target` into an empty volume, with owners, modes and times, those
/// of the directory itself included. Devices and sockets stay out: a volume is mounted `nodev`.
/// Two containers that begin at once fill it once: the second waits.
pub fn fill(volume: &OwnedFd, image: &Root, target: &str) -> Result<()> {
    let from = match image.open(target, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other?,
    };
    let volume = open_directory(volume, ".")?;
    rustix::fs::flock(&volume, FlockOperation::LockExclusive)?;
    match rustix::fs::statat(&volume, FILLING, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => empty(&volume)?,
        Err(_) if !entries(&volume)?.is_empty() => return Ok(()),
        Err(_) => {}
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    drop(rustix::fs::openat(&volume, FILLING, flags, Mode::RUSR)?);
    copy_below(&from, &volume)?;
    rustix::fs::unlinkat(&volume, FILLING, AtFlags::empty())?;
    // Last, for each entry made in it changes its times.
    take_after(&volume, &rustix::fs::fstat(&from)?)
}

fn open_directory(at: &impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

fn entries(directory: &OwnedFd) -> Result<Vec<std::ffi::CString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes everything in a directory. As deep as there are descriptors.
fn empty(directory: &OwnedFd) -> Result<()> {
    for name in entries(directory)? {
        match rustix::fs::unlinkat(directory, &name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                empty(&open_directory(directory, &name)?)?;
                rustix::fs::unlinkat(directory, &name, AtFlags::REMOVEDIR)?;
            }
            other => other?,
        }
    }
    Ok(())
}

struct Level {
    from: OwnedFd,
    to: OwnedFd,
    /// Given to `to` when all below it is copied.
    stat: Stat,
    left: Vec<std::ffi::CString>,
}

/// Not by calls of itself: an image may be as deep as it likes. Each level holds two descriptors, so
/// one that is too deep ends in an error.
fn copy_below(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let duplicate = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 0);
    let stat = rustix::fs::fstat(from)?;
    let top = Level { from: duplicate(from)?, to: duplicate(to)?, stat, left: entries(from)? };
    let mut levels = vec![top];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.left.pop() else {
            take_after(&level.to, &level.stat)?;
            levels.pop();
            continue;
        };
        let stat = rustix::fs::statat(&level.from, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let from = open_directory(&level.from, &name)?;
                rustix::fs::mkdirat(&level.to, &name, Mode::RWXU)?;
                let to = open_directory(&level.to, &name)?;
                let left = entries(&from)?;
                levels.push(Level { from, to, stat, left });
            }
            FileType::RegularFile => copy_file(&level.from, &level.to, &name, &stat)?,
            FileType::Symlink => {
                let to = rustix::fs::readlinkat(&level.from, &name, Vec::new())?;
                rustix::fs::symlinkat(&to, &level.to, &name)?;
                let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
                rustix::fs::chownat(&level.to, &name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            FileType::Fifo => {
                rustix::fs::mknodat(&level.to, &name, FileType::Fifo, Mode::from_raw_mode(stat.st_mode), 0)?;
                let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
                rustix::fs::chownat(&level.to, &name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
                rustix::fs::chmodat(&level.to, &name, mode, AtFlags::empty())?;
                rustix::fs::utimensat(&level.to, &name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &std::ffi::CStr, stat: &Stat) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut source = File::from(rustix::fs::openat(from, name, flags, Mode::empty())?);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut target = File::from(rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
    io::copy(&mut source, &mut target)
        .map_err(|error| error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))?;
    take_after(&target, stat)?;
    copy_attributes(&source, &target);
    Ok(())
}

/// Those that the target's file system has: a capability of a program, what users put there.
fn copy_attributes(from: &File, to: &File) {
    let mut names = vec![0; ATTRIBUTE_BYTES_MAX];
    let Ok(length) = rustix::fs::flistxattr(from, &mut names) else { return };
    let mut value = vec![0; ATTRIBUTE_BYTES_MAX];
    for name in names[..length].split(|&byte| byte == 0) {
        if name == b"security.capability" || name.starts_with(b"user.") {
            let Ok(length) = rustix::fs::fgetxattr(from, name, &mut value) else { continue };
            let _ = rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty());
        }
    }
}

/// Owner, mode and times.
fn take_after(target: &impl AsFd, stat: &Stat) -> Result<()> {
    rustix::fs::fchown(target, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    // After the owner, whose change clears set-id bits.
    rustix::fs::fchmod(target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    rustix::fs::futimens(target, &times(stat))
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanos| Timespec { tv_sec: seconds, tv_nsec: i64::try_from(nanos).unwrap_or(0) };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Makes the sandbox's own volumes. Repeatable.
pub(crate) fn make_of_sandbox(host: &Host, spec: &SandboxSpec) -> io::Result<()> {
    let directory = host.sandbox_dir(&spec.id);
    spec.volumes.iter().try_for_each(|volume| make(&of_sandbox(&directory, volume)))
}

/// For messages and the quota: what counts as a sandbox's storage, below its directory.
pub(crate) fn storage_dirs(host: &Host, sandbox: &SandboxId) -> [PathBuf; 2] {
    let directory = host.sandbox_dir(sandbox);
    [directory.join("c"), directory.join(SANDBOX_VOLUMES)]
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    struct Place {
        dir: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let place = Self { dir: tempfile::tempdir().unwrap() };
            let image = place.path("image/data");
            std::fs::create_dir_all(image.join("sub/empty")).unwrap();
            std::fs::write(image.join("file"), "content").unwrap();
            std::fs::write(image.join("sub/run"), "#!").unwrap();
            symlink("../file", image.join("sub/link")).unwrap();
            rustix::fs::mkfifoat(rustix::fs::CWD, image.join("pipe"), Mode::from(0o622)).unwrap();
            let mode = |path: &str, mode| {
                std::fs::set_permissions(image.join(path), PermissionsExt::from_mode(mode)).unwrap();
            };
            mode("sub/run", 0o4750);
            mode("sub", 0o1777);
            mode("", 0o710);
            if rustix::process::geteuid().is_root() {
                std::os::unix::fs::chown(&image, Some(12), Some(34)).unwrap();
                std::os::unix::fs::lchown(image.join("sub/link"), Some(56), Some(78)).unwrap();
                mode("", 0o710);
            }
            make(&place.path("volume")).unwrap();
            place
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn fill(&self, target: &str) -> Result<()> {
            let open = |name: &str| {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::open(self.path(name), flags, Mode::empty()).unwrap()
            };
            fill(&open("volume"), &Root::new(open("image")), target)
        }

        /// Every file below `name`, with all that is to be kept of it.
        fn tree(&self, name: &str) -> Vec<String> {
            let mut found = Vec::new();
            let mut left = vec![self.path(name)];
            while let Some(path) = left.pop() {
                let stat = std::fs::symlink_metadata(&path).unwrap();
                let content =
                    if stat.is_file() { std::fs::read_to_string(&path).unwrap() } else { String::new() };
                let link = std::fs::read_link(&path).unwrap_or_default();
                let mtime = if stat.is_symlink() { 0 } else { stat.mtime_nsec() };
                found.push(format!(
                    "{:?} {:o} {} {} {mtime} {content:?} {link:?}",
                    path.strip_prefix(self.path(name)).unwrap(),
                    stat.mode(),
                    stat.uid(),
                    stat.gid(),
                ));
                if stat.is_dir() {
                    left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                }
            }
            found.sort();
            found
        }
    }

    #[test]
    fn an_empty_volume_becomes_what_the_image_has() {
        let place = Place::new();
        place.fill("/data").unwrap();
        assert_eq!(place.tree("volume"), place.tree("image/data"));
        assert_eq!(place.tree("volume").len(), 7);
    }

    #[test]
    fn a_volume_that_holds_something_stays_as_it_is() {
        let place = Place::new();
        std::fs::write(place.path("volume/mine"), "").unwrap();
        let before = place.tree("volume");
        place.fill("/data").unwrap();
        assert_eq!(place.tree("volume"), before);
    }

    #[test]
    fn what_was_left_half_filled_is_filled_anew() {
        let place = Place::new();
        std::fs::create_dir_all(place.path("volume/sub/half")).unwrap();
        std::fs::write(place.path("volume").join(FILLING), "").unwrap();
        place.fill("/data").unwrap();
        assert_eq!(place.tree("volume"), place.tree("image/data"));
    }

    #[test]
    fn what_the_image_does_not_have_is_empty_and_no_link_leads_out() {
        let place = Place::new();
        std::fs::create_dir(place.path("secret")).unwrap();
        std::fs::write(place.path("secret/key"), "").unwrap();
        symlink(place.path("secret"), place.path("image/out")).unwrap();
        for target in ["/nothing", "/data/file", "/out", "/out/deeper"] {
            place.fill(target).unwrap();
            assert_eq!(place.tree("volume").len(), 1, "{target}");
        }
    }

    #[test]
    fn two_that_begin_at_once_fill_it_once() {
        let place = Place::new();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| place.fill("/data"))).collect();
            for thread in threads {
                thread.join().unwrap().unwrap();
            }
        });
        assert_eq!(place.tree("volume"), place.tree("image/data"));
    }
}
