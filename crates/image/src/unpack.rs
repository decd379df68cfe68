//! From a layer's tar stream to a directory that overlayfs takes as a lower one.
//!
//! A layer is hostile. No path of it is resolved but by `openat2` with `RESOLVE_IN_ROOT`, so that
//! a symbolic link, wherever it points, leads nowhere outside the layer's own directory. As with
//! Docker's overlay2 driver each layer is unpacked alone, without the layers below it.
//!
//! OCI image-spec, `layer.md`; overlayfs: `Documentation/filesystems/overlayfs.rst`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat,
    chownat, fchmod, fchown, fsetxattr, futimens, linkat, lsetxattr, makedev, mkdirat, mknodat, openat,
    openat2, readlinkat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::digest::{Digest, Hashing};
use crate::error::{Error, is_no_space};
use crate::limits::Limits;
use crate::stream::Stream;
use crate::tarball::{Entry, Kind, TarReader};

const LAYER: &str = "layer";
const NAME_BYTES_MAX: usize = 255;
const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// AUFS's own bookkeeping, which means nothing but in [`OPAQUE_MARKER`].
const WHITEOUT_META_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
/// The devices that a layer may hold: null, zero, full, random, urandom and tty.
const DEVICES_ALLOWED: [(u32, u32); 6] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0)];
/// `openat2` answers `EAGAIN` when something was renamed anywhere while it resolved a `..`.
const RESOLVE_ATTEMPTS_MAX: u32 = 1000;
/// The memory that the paths of a layer's directories may take until their times are set.
const DIRECTORY_PATHS_BYTES_MAX: usize = 128 * 1024 * 1024;
const COPY_BYTES: usize = 128 * 1024;

/// What a layer turned out to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unpacked {
    /// The digest of the uncompressed tar.
    pub(crate) diff_id: Digest,
}

/// Unpacks `blob`, compressed or not, into `directory`, which must be empty. On an error the
/// directory holds some of the layer, and is the caller's to remove.
pub(crate) fn unpack_layer(blob: impl Read, directory: &Path, limits: &Limits) -> Result<Unpacked, Error> {
    let stream = Stream::open(blob, LAYER, limits.layer_bytes_max, limits)?;
    let mut reader = TarReader::new(Hashing::new(stream), LAYER, limits.layer_entries_max);
    let mut unpacker = Unpacker::open(directory, limits)?;
    while let Some(entry) = reader.next_entry()? {
        unpacker.entry(&entry, &mut reader)?;
    }
    unpacker.finish()?;
    let mut hashing = reader.into_inner();
    io::copy(&mut hashing, &mut io::sink()).map_err(|error| Error::read(LAYER, error))?;
    let (mut stream, diff_id, _) = hashing.finish();
    stream.drain().map_err(|error| Error::read(LAYER, error))?;
    Ok(Unpacked { diff_id })
}

struct Unpacker<'a> {
    directory: &'a Path,
    root: Rc<OwnedFd>,
    root_depth: usize,
    limits: &'a Limits,
    /// The directory that was opened last, by its cleaned path: entries come in runs of siblings.
    parent: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// Directories and their times, which are set when nothing is written into them any more.
    directory_times: Vec<(Vec<u8>, Timestamps)>,
    directory_path_bytes: usize,
    /// What files take, sparse ones at their full size.
    bytes: u64,
    buffer: Vec<u8>,
}

/// A path of the layer: no empty, `.` or `..` component in it. The root has no components.
struct LayerPath<'a> {
    components: Vec<&'a [u8]>,
}

impl<'a> LayerPath<'a> {
    fn parse(text: &'a [u8], depth_max: usize) -> Result<Self, &'static str> {
        let components: Vec<&[u8]> =
            text.split(|byte| *byte == b'/').filter(|component| !matches!(*component, b"" | b".")).collect();
        if components.contains(&b"..".as_slice()) {
            return Err("has \"..\" in its path");
        }
        if components.iter().any(|component| component.len() > NAME_BYTES_MAX) {
            return Err("has a name longer than 255 bytes");
        }
        if components.len() > depth_max {
            return Err("is nested too deep");
        }
        Ok(Self { components })
    }

    fn split(&self) -> Option<(Vec<u8>, &'a [u8])> {
        let (name, parent) = self.components.split_last()?;
        Some((parent.join(&b'/'), name))
    }
}

impl<'a> Unpacker<'a> {
    fn open(directory: &'a Path, limits: &'a Limits) -> Result<Self, Error> {
        let root = openat(CWD, directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::io("open", directory, errno))?;
        let root_depth = depth(&root).map_err(|errno| Error::io("find", directory, errno))?;
        Ok(Self {
            directory,
            root: Rc::new(root),
            root_depth,
            limits,
            parent: None,
            directory_times: Vec::new(),
            directory_path_bytes: 0,
            bytes: 0,
            buffer: vec![0; COPY_BYTES],
        })
    }

    fn entry(&mut self, entry: &Entry, data: &mut impl Read) -> Result<(), Error> {
        let refused = |reason: &str| Error::entry(LAYER, &entry.name, reason);
        let path = LayerPath::parse(&entry.name, self.limits.layer_depth_max).map_err(refused)?;
        self.bytes = self.bytes.saturating_add(entry.bytes);
        if entry.kind == Kind::File && self.bytes > self.limits.layer_bytes_max {
            return Err(Error::TooLarge {
                what: "the layer".to_owned(),
                max: self.limits.layer_bytes_max,
                unit: "bytes",
            });
        }
        let Some((parent_path, name)) = path.split() else {
            if entry.kind != Kind::Directory {
                return Err(refused("is the root, and not a directory"));
            }
            let root = Rc::clone(&self.root);
            return self.describe_directory(&root, Vec::new(), entry);
        };
        let parent = self.parent(&parent_path).map_err(|error| self.failed(entry, error))?;
        if let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) {
            return self.whiteout(entry, &parent, name, hidden);
        }
        match entry.kind {
            Kind::Directory => self.directory(entry, &parent, name, path.components.join(&b'/')),
            Kind::File => self.file(entry, &parent, name, data),
            Kind::Symlink => {
                if entry.link.is_empty() {
                    return Err(refused("is a symbolic link to nothing"));
                }
                self.make_room(&parent, name).map_err(|error| self.failed(entry, error))?;
                symlinkat(&entry.link[..], &*parent, name).map_err(|errno| self.failed(entry, errno))?;
                self.describe(&parent, name, entry)
            }
            Kind::HardLink => self.hard_link(entry, &parent, name),
            Kind::Fifo => self.node(entry, &parent, name, FileType::Fifo, 0),
            Kind::CharacterDevice => {
                let device = (entry.device_major, entry.device_minor);
                if !DEVICES_ALLOWED.contains(&device) {
                    let reason =
                        format!("is the device {}:{}, which a layer may not hold", device.0, device.1);
                    return Err(refused(&reason));
                }
                self.node(entry, &parent, name, FileType::CharacterDevice, makedev(device.0, device.1))
            }
            Kind::BlockDevice => Err(refused("is a block device, which a layer may not hold")),
        }
    }

    /// Sets the times of directories, the deepest first.
    fn finish(&mut self) -> Result<(), Error> {
        while let Some((path, times)) = self.directory_times.pop() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            match self.resolve(&path, flags) {
                Ok(directory) => {
                    futimens(&directory, &times)
                        .map_err(|errno| Error::io("set the time of", self.directory, errno))?;
                }
                // Replaced by a later entry.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(Error::io("open a directory of", self.directory, errno)),
            }
        }
        Ok(())
    }

    fn directory(
        &mut self,
        entry: &Entry,
        parent: &OwnedFd,
        name: &[u8],
        path: Vec<u8>,
    ) -> Result<(), Error> {
        let mut opaque = false;
        match kind_of(parent, name).map_err(|errno| self.failed(entry, errno))? {
            Some(Existing::Directory) => {}
            existing => {
                if let Some(existing) = existing {
                    // A directory in the place of a whiteout still hides what lies below.
                    opaque = existing == Existing::Whiteout;
                    self.make_room(parent, name).map_err(|error| self.failed(entry, error))?;
                }
                self.make_directory(parent, name).map_err(|error| self.failed(entry, error))?;
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory =
            openat(parent, name, flags, Mode::empty()).map_err(|errno| self.failed(entry, errno))?;
        if opaque {
            self.set_opaque(entry, &directory)?;
        }
        self.describe_directory(&directory, path, entry)
    }

    fn describe_directory(&mut self, directory: &OwnedFd, path: Vec<u8>, entry: &Entry) -> Result<(), Error> {
        // The root is held as a path only; reading needs a descriptor of its own.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            openat(directory, ".", flags, Mode::empty()).map_err(|errno| self.failed(entry, errno))?;
        fchown(&directory, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
            .and_then(|()| fchmod(&directory, Mode::from_raw_mode(entry.mode)))
            .map_err(|errno| self.failed(entry, errno))?;
        self.set_xattrs(entry, |name, value| fsetxattr(&directory, name, value, XattrFlags::empty()))?;
        self.directory_path_bytes += path.len() + size_of::<(Vec<u8>, Timestamps)>();
        if self.directory_path_bytes > DIRECTORY_PATHS_BYTES_MAX {
            let max = DIRECTORY_PATHS_BYTES_MAX as u64;
            return Err(Error::TooLarge {
                what: "the list of the layer's directories".to_owned(),
                max,
                unit: "bytes",
            });
        }
        self.directory_times.push((path, times(entry)));
        Ok(())
    }

    fn file(
        &mut self,
        entry: &Entry,
        parent: &OwnedFd,
        name: &[u8],
        data: &mut impl Read,
    ) -> Result<(), Error> {
        self.make_room(parent, name).map_err(|error| self.failed(entry, error))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| self.failed(entry, errno))?;
        let mut file = File::from(file);
        if let Some(regions) = &entry.regions {
            file.set_len(entry.bytes).map_err(|error| self.failed(entry, error))?;
            for region in regions {
                file.seek(SeekFrom::Start(region.offset)).map_err(|error| self.failed(entry, error))?;
                self.copy(entry, data, &mut file, region.bytes)?;
            }
        } else {
            self.copy(entry, data, &mut file, entry.bytes)?;
        }
        // The owner first: a change of owner takes the setuid bit and the capabilities away.
        fchown(&file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
            .and_then(|()| fchmod(&file, Mode::from_raw_mode(entry.mode)))
            .map_err(|errno| self.failed(entry, errno))?;
        self.set_xattrs(entry, |name, value| fsetxattr(&file, name, value, XattrFlags::empty()))?;
        futimens(&file, &times(entry)).map_err(|errno| self.failed(entry, errno))
    }

    fn copy(
        &mut self,
        entry: &Entry,
        data: &mut impl Read,
        file: &mut File,
        bytes: u64,
    ) -> Result<(), Error> {
        let mut left = bytes;
        while left > 0 {
            let wanted = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = data.read(&mut self.buffer[..wanted]).map_err(|error| Error::read(LAYER, error))?;
            if count == 0 {
                return Err(Error::corrupt(LAYER, "it ends too early"));
            }
            file.write_all(&self.buffer[..count]).map_err(|error| self.failed(entry, error))?;
            left -= count as u64;
        }
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<(), Error> {
        let target_text = entry.link.escape_ascii();
        let target = LayerPath::parse(&entry.link, self.limits.layer_depth_max).map_err(|reason| {
            Error::entry(
                LAYER,
                &entry.name,
                format!("is a hard link whose target \"{target_text}\" {reason}"),
            )
        })?;
        let absent = || {
            let reason = format!("is a hard link to \"{target_text}\", which is no file of this layer");
            Error::entry(LAYER, &entry.name, reason)
        };
        let (target_parent_path, target_name) = target.split().ok_or_else(absent)?;
        let target_parent =
            self.resolve(&target_parent_path, OFlags::PATH | OFlags::DIRECTORY).map_err(|_| absent())?;
        match kind_of(&target_parent, target_name).map_err(|errno| self.failed(entry, errno))? {
            Some(Existing::Other) => {}
            Some(Existing::Directory | Existing::Whiteout) | None => return Err(absent()),
        }
        if is_same(parent, name, &target_parent, target_name).map_err(|errno| self.failed(entry, errno))? {
            return Ok(());
        }
        self.make_room(parent, name).map_err(|error| self.failed(entry, error))?;
        linkat(&target_parent, target_name, parent, name, AtFlags::empty()).map_err(|errno| match errno {
            // It was below what had to make room.
            Errno::NOENT => absent(),
            errno => self.failed(entry, errno),
        })
    }

    fn node(
        &mut self,
        entry: &Entry,
        parent: &OwnedFd,
        name: &[u8],
        kind: FileType,
        device: u64,
    ) -> Result<(), Error> {
        self.make_room(parent, name).map_err(|error| self.failed(entry, error))?;
        mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device)
            .map_err(|errno| self.failed(entry, errno))?;
        chmodat(parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
            .map_err(|errno| self.failed(entry, errno))?;
        self.describe(parent, name, entry)
    }

    /// `.wh.NAME` hides NAME of the layers below, and never one of its own layer.
    fn whiteout(&mut self, entry: &Entry, parent: &OwnedFd, name: &[u8], hidden: &[u8]) -> Result<(), Error> {
        if name == OPAQUE_MARKER {
            let directory =
                openat(parent, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                    .map_err(|errno| self.failed(entry, errno))?;
            return self.set_opaque(entry, &directory);
        }
        if name.starts_with(WHITEOUT_META_PREFIX) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Error::entry(LAYER, &entry.name, "is a whiteout of nothing"));
        }
        match kind_of(parent, hidden).map_err(|errno| self.failed(entry, errno))? {
            Some(Existing::Directory) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = openat(parent, hidden, flags, Mode::empty())
                    .map_err(|errno| self.failed(entry, errno))?;
                self.set_opaque(entry, &directory)
            }
            Some(Existing::Whiteout | Existing::Other) => Ok(()),
            None => mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))
                .map_err(|errno| self.failed(entry, errno)),
        }
    }

    fn set_opaque(&self, entry: &Entry, directory: &OwnedFd) -> Result<(), Error> {
        fsetxattr(directory, OPAQUE_XATTR, b"y", XattrFlags::empty())
            .map_err(|errno| self.failed(entry, errno))
    }

    /// Owner, extended attributes and time of what is no file and no directory.
    fn describe(&self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<(), Error> {
        let (owner, group) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        chownat(parent, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.failed(entry, errno))?;
        if !entry.xattrs.is_empty() {
            let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
            path.extend_from_slice(name);
            self.set_xattrs(entry, |name, value| lsetxattr(&path[..], name, value, XattrFlags::empty()))?;
        }
        utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.failed(entry, errno))
    }

    /// Sets what an image may carry: file capabilities, ACLs and the `user.` names. Overlayfs's own
    /// attributes would let a layer reach into others, so they are refused; labels of the security
    /// modules of the machine that built the image mean nothing here.
    fn set_xattrs(
        &self,
        entry: &Entry,
        set: impl Fn(&[u8], &[u8]) -> rustix::io::Result<()>,
    ) -> Result<(), Error> {
        for (name, value) in &entry.xattrs {
            let is_overlay = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
            let is_wanted = name == b"security.capability"
                || name.starts_with(b"user.")
                || name.starts_with(b"system.posix_acl_");
            if is_overlay {
                let reason = format!(
                    "has the extended attribute \"{}\", which a layer may not set",
                    name.escape_ascii()
                );
                return Err(Error::entry(LAYER, &entry.name, reason));
            }
            if !is_wanted {
                tracing::debug!(attribute = %name.escape_ascii(), "left out an extended attribute of a layer");
                continue;
            }
            set(name, value).map_err(|errno| self.failed(entry, errno))?;
        }
        Ok(())
    }

    /// Opens the directory at a cleaned path, making what is not there of it.
    fn parent(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Errno> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some((cached, directory)) = &self.parent
            && cached == path
        {
            return Ok(Rc::clone(directory));
        }
        let directory = match self.resolve(path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => self.make_parents(path)?,
            Err(errno) => return Err(errno),
        };
        let directory = Rc::new(directory);
        self.parent = Some((path.to_vec(), Rc::clone(&directory)));
        Ok(directory)
    }

    fn make_parents(&mut self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let mut end = 0;
        let mut parent = None;
        for component in path.split(|byte| *byte == b'/') {
            end += component.len();
            let next = match self.resolve(&path[..end], OFlags::PATH | OFlags::DIRECTORY) {
                Err(Errno::NOENT) => {
                    let parent = parent.as_ref().unwrap_or(&*self.root);
                    self.make_directory(parent, component)?;
                    self.resolve(&path[..end], OFlags::PATH | OFlags::DIRECTORY)?
                }
                resolved => resolved?,
            };
            parent = Some(next);
            end += 1;
        }
        parent.ok_or(Errno::NOENT)
    }

    /// Makes a directory, unless it would nest too deep: a path through symbolic links is deeper
    /// than it looks.
    fn make_directory(&self, parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        if depth(parent)? - self.root_depth >= self.limits.layer_depth_max {
            return Err(Errno::NAMETOOLONG);
        }
        let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
        mkdirat(parent, name, mode)?;
        // Whatever the process's umask is.
        chmodat(parent, name, mode, AtFlags::empty())
    }

    /// Removes what stands where an entry goes.
    fn make_room(&mut self, parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
        match unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) => {
                // It may have been a link on the way to the cached directory.
                self.parent = None;
                Ok(())
            }
            Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => {
                self.parent = None;
                let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
                path.extend_from_slice(name);
                std::fs::remove_dir_all(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&path))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Opens a cleaned path as if the layer's directory were the root of the file system.
    fn resolve(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b".".as_slice() } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut attempts = 0;
        loop {
            match openat2(&*self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN) if attempts < RESOLVE_ATTEMPTS_MAX => attempts += 1,
                result => return result,
            }
        }
    }

    fn failed(&self, entry: &Entry, error: impl Into<io::Error>) -> Error {
        let error = error.into();
        if is_no_space(&error) {
            return Error::NoSpace { path: self.directory.to_path_buf() };
        }
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        let reason = match errno {
            Some(Errno::LOOP | Errno::NOTDIR | Errno::EXIST) => {
                "lies below something that is no directory of this layer".to_owned()
            }
            Some(Errno::NAMETOOLONG) => "is nested too deep".to_owned(),
            _ => format!("cannot be unpacked: {error}"),
        };
        Error::entry(LAYER, &entry.name, reason)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existing {
    Directory,
    Whiteout,
    Other,
}

fn kind_of(parent: &OwnedFd, name: &[u8]) -> Result<Option<Existing>, Errno> {
    let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Existing::Directory,
        FileType::CharacterDevice if stat.st_rdev == 0 => Existing::Whiteout,
        _ => Existing::Other,
    }))
}

fn is_same(parent: &OwnedFd, name: &[u8], other_parent: &OwnedFd, other_name: &[u8]) -> Result<bool, Errno> {
    let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(errno),
    };
    let other = statat(other_parent, other_name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((stat.st_dev, stat.st_ino) == (other.st_dev, other.st_ino))
}

/// How many directories lie between a directory and the root of the file system.
fn depth(directory: impl AsFd) -> Result<usize, Errno> {
    let path = readlinkat(CWD, format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd()), Vec::new())?;
    Ok(path.as_bytes().iter().filter(|byte| **byte == b'/').count())
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime_s, tv_nsec: entry.mtime_ns.into() };
    Timestamps { last_access: time, last_modification: time }
}
