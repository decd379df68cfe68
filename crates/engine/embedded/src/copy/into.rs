//! An archive, unpacked into a container's directory.
//!
//! The archive is as hostile as the container. Names that lead up are refused; links on the way are
//! followed in the container's root, by the kernel, at each single look-up; what is at a name is
//! removed before it is made anew, and never opened.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use tar::{Archive, EntryType};
use wharf_engine::EngineError;
use wharf_engine::copy::CopyOwner;

use super::{Copied, Tree, kind, no_path, path_error};
use crate::host::io_error;

const BUFFER_BYTES: usize = 64 * 1024;
/// Of directories that are made on the way.
const DIRECTORY_MODE: u32 = 0o755;

struct Unpacker<'a> {
    tree: &'a Tree<'a>,
    /// Where to, as a path of the container.
    directory: Vec<u8>,
    owner: CopyOwner,
}

pub fn unpack(tree: &Tree<'_>, directory: &str, owner: CopyOwner, from: File) -> Copied<()> {
    tree.directory(directory.as_bytes()).map_err(|error| path_error(directory.as_bytes(), error))?;
    let unpacker = Unpacker { tree, directory: directory.as_bytes().to_vec(), owner };
    let mut archive = Archive::new(BufReader::with_capacity(BUFFER_BYTES, from));
    let broken = |error: std::io::Error| EngineError::Unsupported {
        what: "the archive".to_owned(),
        reason: error.to_string(),
    };
    // Times of directories, set when nothing more is put into them.
    let mut directories: Vec<(Vec<u8>, u64)> = Vec::new();
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let names = names(&entry.path_bytes())?;
        let header = entry.header().clone();
        let link = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
        let meta = Meta {
            mode: header.mode().map_err(broken)? & 0o7777,
            uid: id(header.uid().map_err(broken)?)?,
            gid: id(header.gid().map_err(broken)?)?,
            mtime: header.mtime().map_err(broken)?,
        };
        let kind = header.entry_type();
        unpacker.put(&names, kind, &meta, link.as_deref(), &mut entry)?;
        if kind == EntryType::Directory {
            directories.push((unpacker.path(&names), meta.mtime));
        }
    }
    for (path, mtime) in directories.into_iter().rev() {
        if let Ok(directory) = tree.open(&path, OFlags::RDONLY | OFlags::DIRECTORY) {
            let _ = rustix::fs::futimens(&directory, &times(mtime));
        }
    }
    Ok(())
}

struct Meta {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: u64,
}

fn id(number: u64) -> Copied<u32> {
    u32::try_from(number).map_err(|_| EngineError::Unsupported {
        what: format!("the owner {number} in the archive"),
        reason: "it is no id".to_owned(),
    })
}

fn times(mtime: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(mtime).unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// The parts of an entry's name; none for the directory itself.
fn names(path: &[u8]) -> Copied<Vec<Vec<u8>>> {
    let parts: Vec<Vec<u8>> = path
        .split(|&byte| byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .collect();
    if parts.iter().any(|part| part == b".." || part.contains(&0)) {
        return Err(no_path(&String::from_utf8_lossy(path), "the archive's name leads out of it"));
    }
    Ok(parts)
}

impl Unpacker<'_> {
    fn path(&self, names: &[Vec<u8>]) -> Vec<u8> {
        let mut path = self.directory.clone();
        for name in names {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        path
    }

    /// The directory that holds an entry, made where it is missing.
    fn parent(&self, names: &[Vec<u8>]) -> Copied<OwnedFd> {
        let mut parent =
            self.tree.directory(&self.directory).map_err(|error| path_error(&self.directory, error))?;
        for count in 1..=names.len() {
            let path = self.path(&names[..count]);
            parent = match self.tree.directory(&path) {
                Err(Errno::NOENT) => {
                    // A link that leads nowhere is there, and is not followed.
                    rustix::fs::mkdirat(&parent, names[count - 1].as_slice(), Mode::from(DIRECTORY_MODE))
                        .and_then(|()| self.tree.directory(&path))
                        .map_err(|error| path_error(&path, error))?
                }
                other => other.map_err(|error| path_error(&path, error))?,
            };
        }
        Ok(parent)
    }

    fn put(
        &self,
        names: &[Vec<u8>],
        kind_of: EntryType,
        meta: &Meta,
        link: Option<&[u8]>,
        data: &mut impl Read,
    ) -> Copied<()> {
        let path = self.path(names);
        let failed = |error| path_error(&path, error);
        let Some((name, above)) = names.split_last() else {
            // The directory itself, which is there and stays as it is.
            return Ok(());
        };
        if matches!(kind_of, EntryType::XGlobalHeader | EntryType::XHeader) {
            return Ok(());
        }
        let parent = self.parent(above)?;
        let name = name.as_slice();
        let there = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(kind(&stat)),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(failed(error)),
        };
        let wants_directory = kind_of == EntryType::Directory;
        match there {
            Some(FileType::Directory) if !wants_directory => {
                return Err(no_path(
                    &String::from_utf8_lossy(&path),
                    "cannot overwrite directory with non-directory",
                ));
            }
            Some(FileType::Directory) => {}
            Some(_) if wants_directory => {
                return Err(no_path(
                    &String::from_utf8_lossy(&path),
                    "cannot overwrite non-directory with directory",
                ));
            }
            Some(_) => rustix::fs::unlinkat(&parent, name, AtFlags::empty()).map_err(failed)?,
            None => {}
        }
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match kind_of {
            EntryType::Directory => {
                if there.is_none() {
                    rustix::fs::mkdirat(&parent, name, Mode::from(DIRECTORY_MODE)).map_err(failed)?;
                }
                let made = rustix::fs::openat(
                    &parent,
                    name,
                    flags | OFlags::RDONLY | OFlags::DIRECTORY,
                    Mode::empty(),
                )
                .map_err(failed)?;
                self.finish(&made, meta, &path)
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let create = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let made = rustix::fs::openat(&parent, name, create, Mode::from(0o600)).map_err(failed)?;
                let mut file = File::from(made);
                std::io::copy(data, &mut file).map_err(|error| {
                    io_error(&format!("write {}", String::from_utf8_lossy(&path)), &error)
                })?;
                self.finish(&file.into(), meta, &path)
            }
            EntryType::Symlink => {
                let target = link.ok_or_else(|| failed(Errno::INVAL))?;
                rustix::fs::symlinkat(target, &parent, name).map_err(failed)?;
                let (uid, gid) = self.owner_of(meta)?;
                rustix::fs::chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
                let _ = rustix::fs::utimensat(&parent, name, &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW);
                Ok(())
            }
            EntryType::Link => {
                // To an entry of the same archive.
                let target = self::names(link.ok_or_else(|| failed(Errno::INVAL))?)?;
                let Some((target_name, target_above)) = target.split_last() else {
                    return Err(failed(Errno::INVAL));
                };
                let from = self.parent(target_above)?;
                rustix::fs::linkat(&from, target_name.as_slice(), &parent, name, AtFlags::empty())
                    .map_err(failed)
            }
            EntryType::Fifo => {
                rustix::fs::mknodat(&parent, name, FileType::Fifo, Mode::from(meta.mode), 0)
                    .map_err(failed)?;
                let (uid, gid) = self.owner_of(meta)?;
                rustix::fs::chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
            }
            EntryType::Char | EntryType::Block => Err(EngineError::Unsupported {
                what: format!("the device {} in the archive", String::from_utf8_lossy(&path)),
                reason: "a copy makes no devices in a container".to_owned(),
            }),
            other => Err(EngineError::Unsupported {
                what: format!("{} in the archive", String::from_utf8_lossy(&path)),
                reason: format!("entries of type {:?} are not known", other.as_byte() as char),
            }),
        }
    }

    fn owner_of(&self, meta: &Meta) -> Copied<(Option<Uid>, Option<Gid>)> {
        let (uid, gid) = match self.owner {
            CopyOwner::Root => (0, 0),
            CopyOwner::Archive => (meta.uid, meta.gid),
        };
        let outside = |id| {
            self.tree.credentials.outside_id(id).ok_or_else(|| EngineError::Unsupported {
                what: format!("the owner {id} in the archive"),
                reason: "the container has no such id".to_owned(),
            })
        };
        Ok((Some(Uid::from_raw(outside(uid)?)), Some(Gid::from_raw(outside(gid)?))))
    }

    /// Owner before mode: a change of owner clears set-id bits.
    fn finish(&self, made: &OwnedFd, meta: &Meta, path: &[u8]) -> Copied<()> {
        let failed = |error| path_error(path, error);
        let (uid, gid) = self.owner_of(meta)?;
        rustix::fs::fchown(made, uid, gid).map_err(failed)?;
        rustix::fs::fchmod(made, Mode::from(meta.mode)).map_err(failed)?;
        let _ = rustix::fs::futimens(made, &times(meta.mtime));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_stay_below() {
        assert_eq!(names(b"./a//b/").unwrap(), [b"a".to_vec(), b"b".to_vec()]);
        assert_eq!(names(b"/etc/passwd").unwrap(), [b"etc".to_vec(), b"passwd".to_vec()]);
        assert!(names(b".").unwrap().is_empty());
        for bad in [&b"../x"[..], b"a/../../x", b"..", b"a\0b"] {
            assert!(names(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_name_leads_up(path in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(names) = names(&path) {
                prop_assert!(names.iter().all(|name| name != b".." && !name.contains(&b'/')));
            }
        }
    }
}
