//! The files of an archive, on disk under names of our own and known by their digests.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::digest::{Digest, Hashing};
use crate::documents::Blobs;
use crate::error::Error;
use crate::layout::{Ingest, Layout};
use crate::limits::Limits;
use crate::load::ARCHIVE;
use crate::stream::Stream;
use crate::tarball::{Kind, TarReader};

/// Symbolic links followed within an archive (`docker save` before version 25 links equal layers).
const LINKS_FOLLOWED_MAX: usize = 8;
const BLOB_PREFIX: &[u8] = b"blobs/sha256/";

#[derive(Clone, Debug)]
pub(crate) struct Spooled {
    pub(crate) path: PathBuf,
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

pub(crate) struct Spool {
    ingest: Ingest,
    document_bytes_max: u64,
    files: BTreeMap<Vec<u8>, Spooled>,
    by_digest: HashMap<Digest, Spooled>,
    links: BTreeMap<Vec<u8>, Vec<u8>>,
    next_file: u64,
}

impl Spool {
    pub(crate) fn read(reader: impl Read, layout: &Layout, limits: &Limits) -> Result<Self, Error> {
        let mut spool = Self {
            ingest: layout.new_ingest()?,
            document_bytes_max: limits.document_bytes_max,
            files: BTreeMap::new(),
            by_digest: HashMap::new(),
            links: BTreeMap::new(),
            next_file: 0,
        };
        let stream = Stream::open(reader, ARCHIVE, limits.archive_bytes_max, limits)?;
        let mut reader = TarReader::new(stream, ARCHIVE, limits.archive_entries_max);
        while let Some(entry) = reader.next_entry()? {
            let name = clean(&entry.name)
                .ok_or_else(|| Error::entry(ARCHIVE, &entry.name, "has \"..\" in its path"))?;
            match entry.kind {
                Kind::Directory => {}
                Kind::File if entry.regions.is_none() => spool.add_file(name, &mut reader)?,
                Kind::HardLink => spool.add_link(name, &entry.link)?,
                Kind::Symlink => {
                    // A symbolic link is relative to the directory that it stands in.
                    let mut target = match name.iter().rposition(|byte| *byte == b'/') {
                        Some(slash) if !entry.link.starts_with(b"/") => name[..=slash].to_vec(),
                        _ => Vec::new(),
                    };
                    target.extend_from_slice(&entry.link);
                    spool.add_link(name, &target)?;
                }
                Kind::File | Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo => {
                    return Err(Error::entry(ARCHIVE, &entry.name, "is no plain file, directory or link"));
                }
            }
        }
        // To the end, so that what is behind the tar is verified by its decoder too.
        reader.into_inner().drain().map_err(|error| Error::read(ARCHIVE, error))?;
        Ok(spool)
    }

    pub(crate) fn path(&self) -> &Path {
        self.ingest.path()
    }

    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.files.contains_key(name)
    }

    /// A file by the name that another document gives it; links are followed.
    pub(crate) fn file(&self, name: &[u8]) -> Result<&Spooled, Error> {
        let missing = || Error::entry(ARCHIVE, name, "is missing");
        let mut at = clean(name).ok_or_else(missing)?;
        for _ in 0..LINKS_FOLLOWED_MAX {
            if let Some(file) = self.files.get(&at) {
                return Ok(file);
            }
            at = clean_relative(self.links.get(&at).ok_or_else(missing)?).ok_or_else(missing)?;
        }
        Err(Error::entry(ARCHIVE, name, "is a link to itself"))
    }

    pub(crate) fn blob(&self, digest: &Digest) -> Option<&Spooled> {
        self.by_digest.get(digest)
    }

    pub(crate) fn read_file(&self, what: &'static str, file: &Spooled) -> Result<Vec<u8>, Error> {
        read_document(what, &file.path, file.bytes, self.document_bytes_max)
    }

    /// Adds a document that the archive does not hold itself.
    pub(crate) fn add_document(&mut self, bytes: &[u8]) -> Result<Spooled, Error> {
        self.write(&mut &bytes[..])
    }

    fn add_file(&mut self, name: Vec<u8>, data: &mut impl Read) -> Result<(), Error> {
        let file = self.write(data)?;
        if let Some(hex) = name.strip_prefix(BLOB_PREFIX) {
            let named = std::str::from_utf8(hex).ok().and_then(|hex| Digest::from_hex(hex).ok());
            let expected = named.ok_or_else(|| Error::entry(ARCHIVE, &name, "is not named by a digest"))?;
            if expected != file.digest {
                let what = format!("entry \"{}\" of the archive", name.escape_ascii());
                return Err(Error::WrongDigest { what, expected, actual: file.digest });
            }
        }
        if self.files.get(&name).is_some_and(|earlier| earlier.digest != file.digest) {
            return Err(Error::entry(ARCHIVE, &name, "is there twice, with different content"));
        }
        self.files.insert(name, file);
        Ok(())
    }

    fn add_link(&mut self, name: Vec<u8>, target: &[u8]) -> Result<(), Error> {
        match self.links.insert(name, target.to_vec()) {
            Some(earlier) if earlier != target => {
                Err(Error::corrupt(ARCHIVE, "a link is there twice, with different targets"))
            }
            _ => Ok(()),
        }
    }

    fn write(&mut self, data: &mut impl Read) -> Result<Spooled, Error> {
        let path = self.ingest.path().join(self.next_file.to_string());
        self.next_file += 1;
        let file = File::create_new(&path).map_err(|error| Error::io("create", &path, error))?;
        let mut hashing = Hashing::new(file);
        let mut buffer = vec![0; 128 * 1024];
        loop {
            // By hand, to tell a failing source from a full disk.
            match data.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    hashing
                        .write_all(&buffer[..count])
                        .map_err(|error| Error::io("write", self.ingest.path(), error))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::read(ARCHIVE, error)),
            }
        }
        let (_, digest, bytes) = hashing.finish();
        let spooled = Spooled { path, digest, bytes };
        self.by_digest.entry(digest).or_insert_with(|| spooled.clone());
        Ok(spooled)
    }
}

impl Blobs for Spool {
    fn bytes(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        Ok(self.by_digest.get(digest).map(|file| file.bytes))
    }

    fn document(&self, what: &'static str, digest: &Digest) -> Result<Vec<u8>, Error> {
        let file = self
            .by_digest
            .get(digest)
            .ok_or_else(|| Error::MissingBlob { what, digest: digest.to_string() })?;
        self.read_file(what, file)
    }
}

/// Reads a document of known size, refusing what is too large before a byte of it is kept.
pub(crate) fn read_document(
    what: &'static str,
    path: &Path,
    bytes: u64,
    bytes_max: u64,
) -> Result<Vec<u8>, Error> {
    if bytes > bytes_max {
        return Err(Error::TooLarge { what: format!("the {what}"), max: bytes_max, unit: "bytes" });
    }
    std::fs::read(path).map_err(|error| Error::io("read", path, error))
}

/// A name in the archive without empty and `.` components; `None` with a `..` in it.
fn clean(name: &[u8]) -> Option<Vec<u8>> {
    let components: Vec<&[u8]> =
        name.split(|byte| *byte == b'/').filter(|component| !matches!(*component, b"" | b".")).collect();
    (!components.contains(&b"..".as_slice())).then(|| components.join(&b'/'))
}

/// The same for a link's target, whose `..` may go up within the archive and no further.
fn clean_relative(name: &[u8]) -> Option<Vec<u8>> {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop()?;
            }
            component => components.push(component),
        }
    }
    Some(components.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_the_archive() {
        assert_eq!(clean(b"./a//b/").unwrap(), b"a/b");
        assert_eq!(clean(b"a/../b"), None);
        assert_eq!(clean_relative(b"a/../b/layer.tar").unwrap(), b"b/layer.tar");
        assert_eq!(clean_relative(b"a/../../b"), None);
    }
}
