//! The archive of a file, or of a directory with all below it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use tar::{Builder, EntryType, Header};
use wharf_engine::EngineError;

use super::{Copied, Found, Tree, kind, link_target, names_in, path_error};
use crate::host::io_error;

/// A tree that is deeper is refused: each level holds a descriptor.
const DEPTH_MAX: usize = 400;
/// Files with several names that are remembered; the next ones are copied once for each name.
const LINKS_MAX: usize = 1 << 20;
const BUFFER_BYTES: usize = 64 * 1024;

struct Writer<'a> {
    tree: &'a Tree<'a>,
    archive: Builder<BufWriter<File>>,
    /// Where a file with several names was first put.
    links: HashMap<(u64, u64), Vec<u8>>,
}

/// Writes what was found, under its name.
pub fn write(tree: &Tree<'_>, found: &Found, to: File) -> Copied<()> {
    let archive = Builder::new(BufWriter::with_capacity(BUFFER_BYTES, to));
    let mut writer = Writer { tree, archive, links: HashMap::new() };
    writer.put(&found.fd, &found.stat, &found.name, 0)?;
    let written = writer.archive.into_inner().and_then(|mut buffer| buffer.flush());
    written.map_err(|error| io_error("write the archive", &error))
}

impl Writer<'_> {
    fn put(&mut self, fd: &OwnedFd, stat: &Stat, path: &[u8], depth: usize) -> Copied<()> {
        if depth > DEPTH_MAX {
            return Err(EngineError::Unsupported {
                what: format!("the directory {}", String::from_utf8_lossy(path)),
                reason: format!("it is more than {DEPTH_MAX} levels deep"),
            });
        }
        let mut header = Header::new_gnu();
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(u64::from(self.tree.inside(stat.st_uid)));
        header.set_gid(u64::from(self.tree.inside(stat.st_gid)));
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        header.set_size(0);
        let kind = kind(stat);
        let shared = stat.st_nlink > 1 && kind == FileType::RegularFile;
        if shared && let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)).cloned() {
            header.set_entry_type(EntryType::Link);
            return self.link(&mut header, path, &first);
        }
        if shared && self.links.len() < LINKS_MAX {
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        match kind {
            FileType::RegularFile => self.file(fd, stat, header, path),
            FileType::Directory => self.directory(fd, header, path, depth),
            FileType::Symlink => {
                let target = link_target(fd).map_err(|error| path_error(path, error))?;
                header.set_entry_type(EntryType::Symlink);
                self.link(&mut header, path, &target)
            }
            FileType::Fifo => {
                header.set_entry_type(EntryType::Fifo);
                self.append(&mut header, path, io::empty())
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let block = kind == FileType::BlockDevice;
                header.set_entry_type(if block { EntryType::Block } else { EntryType::Char });
                let failed = |error| io_error("describe a device", &error);
                header.set_device_major(rustix::fs::major(stat.st_rdev)).map_err(failed)?;
                header.set_device_minor(rustix::fs::minor(stat.st_rdev)).map_err(failed)?;
                self.append(&mut header, path, io::empty())
            }
            // A socket is somebody's end: a copy of it is nobody's.
            _ => Ok(()),
        }
    }

    fn file(&mut self, fd: &OwnedFd, stat: &Stat, mut header: Header, path: &[u8]) -> Copied<()> {
        let file = self.tree.read(fd, OFlags::empty()).map_err(|error| path_error(path, error))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        // As many bytes as were promised, whatever becomes of the file meanwhile.
        let exactly = File::from(file).chain(io::repeat(0)).take(size);
        self.append(&mut header, path, exactly)
    }

    fn directory(&mut self, fd: &OwnedFd, mut header: Header, path: &[u8], depth: usize) -> Copied<()> {
        header.set_entry_type(EntryType::Directory);
        let mut named = path.to_vec();
        named.push(b'/');
        self.append(&mut header, &named, io::empty())?;
        let failed = |error| path_error(path, error);
        let directory = self.tree.read(fd, OFlags::DIRECTORY).map_err(failed)?;
        for name in names_in(&directory).map_err(failed)? {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let below = match rustix::fs::openat(&directory, name.as_c_str(), flags, Mode::empty()) {
                // It went away meanwhile.
                Err(rustix::io::Errno::NOENT) => continue,
                other => other.map_err(failed)?,
            };
            let stat = rustix::fs::fstat(&below).map_err(failed)?;
            let below_path = [path, b"/", name.as_bytes()].concat();
            self.put(&below, &stat, &below_path, depth + 1)?;
        }
        Ok(())
    }

    fn append(&mut self, header: &mut Header, path: &[u8], data: impl Read) -> Copied<()> {
        let appended = self.archive.append_data(header, Path::new(OsStr::from_bytes(path)), data);
        appended.map_err(|error| {
            io_error(&format!("write {} to the archive", String::from_utf8_lossy(path)), &error)
        })
    }

    fn link(&mut self, header: &mut Header, path: &[u8], target: &[u8]) -> Copied<()> {
        let (path_of, target) = (Path::new(OsStr::from_bytes(path)), Path::new(OsStr::from_bytes(target)));
        let appended = self.archive.append_link(header, path_of, target);
        appended.map_err(|error| {
            io_error(&format!("write {} to the archive", String::from_utf8_lossy(path)), &error)
        })
    }
}
