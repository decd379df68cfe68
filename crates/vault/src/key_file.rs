//! The file that holds the master key: made once, read at each start, never changed.
//!
//! One line: `wharf-vault 1 ` and 64 hexadecimal digits. Only its owner may read it (mode 0600), and a
//! file that others can read is refused rather than mended: the key may have been seen already.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use wharf_core::Rng;
use zeroize::Zeroizing;

use crate::{Fingerprint, MASTER_BYTES, fill, fingerprint};

const HEAD: &str = "wharf-vault 1 ";
/// The longest file that is read.
const FILE_BYTES_MAX: u64 = 256;

/// Why there is no key. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("the key file {} can be read or written by others (mode {mode:03o})", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("the key file {} belongs to another user (uid {owner})", path.display())]
    Foreign { path: PathBuf, owner: u32 },
    #[error("{} is not a key file of this version of Wharf", .0.display())]
    Malformed(PathBuf),
    #[error("the key file {} cannot be used", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A master key that stands in a file.
pub struct KeyFile(Zeroizing<[u8; MASTER_BYTES]>);

impl KeyFile {
    /// The key of the file; `None` when there is no file.
    ///
    /// # Errors
    /// When there is something that is not a key file, is exposed to others, or cannot be read.
    pub fn read(path: &Path) -> Result<Option<Self>, KeyFileError> {
        let io = |source| KeyFileError::Io { path: path.to_owned(), source };
        // A link could point at a file of somebody else's choice; a fifo would wait for ever.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(KeyFileError::Malformed(path.to_owned()));
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(KeyFileError::Foreign { path: path.to_owned(), owner: metadata.uid() });
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(KeyFileError::Exposed { path: path.to_owned(), mode: metadata.mode() & 0o777 });
        }
        let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX as usize));
        match file.take(FILE_BYTES_MAX).read_to_string(&mut text) {
            Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(io(error)),
            _ => {}
        }
        Self::parse(&text).map(Some).ok_or_else(|| KeyFileError::Malformed(path.to_owned()))
    }

    /// Draws a key and writes it where no file is. When this returns, the file outlives a crash.
    ///
    /// # Errors
    /// When a file is there already, or cannot be written.
    pub fn create(path: &Path, rng: &dyn Rng) -> Result<Self, KeyFileError> {
        let io = |source| KeyFileError::Io { path: path.to_owned(), source };
        let mut master = Zeroizing::new([0; MASTER_BYTES]);
        fill(rng, &mut *master);
        let draft = path.with_extension("new");
        match std::fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let digits = Zeroizing::new(hex::encode(*master));
        let text = Zeroizing::new(format!("{HEAD}{}\n", *digits));
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(io)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
        // A link, unlike a rename, never replaces a key that is there.
        let linked = std::fs::hard_link(&draft, path);
        std::fs::remove_file(&draft).map_err(io)?;
        linked.map_err(io)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))
            .and_then(|directory| directory.sync_all())
            .map_err(io)?;
        Ok(Self(master))
    }

    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.0)
    }

    pub(crate) fn master(&self) -> &[u8; MASTER_BYTES] {
        &self.0
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(HEAD)?;
        let digits = digits.strip_suffix('\n').unwrap_or(digits);
        let mut master = Zeroizing::new([0; MASTER_BYTES]);
        hex::decode_to_slice(digits, &mut *master).ok()?;
        Some(Self(master))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use wharf_core::SeededRng;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault.key");
        assert!(KeyFile::read(&path).unwrap().is_none());
        std::fs::write(path.with_extension("new"), "half a key of a process that was killed").unwrap();
        let made = KeyFile::create(&path, &SeededRng::new(1)).unwrap();
        let found = KeyFile::read(&path).unwrap().unwrap();
        assert_eq!(made.fingerprint(), found.fingerprint());
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(matches!(KeyFile::create(&path, &SeededRng::new(2)), Err(KeyFileError::Io { .. })));
        assert_eq!(KeyFile::read(&path).unwrap().unwrap().fingerprint(), made.fingerprint());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault.key");
        KeyFile::create(&path, &SeededRng::new(1)).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o777] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(
                matches!(KeyFile::read(&path), Err(KeyFileError::Exposed { mode: found, .. }) if found == mode)
            );
        }
    }

    #[test]
    fn what_is_no_key_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault.key");
        for text in ["", "wharf-vault 1 ", "wharf-vault 2 00", "wharf-vault 1 00\n", "\u{0}\u{1}"] {
            let _ = std::fs::remove_file(&path);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            assert!(matches!(KeyFile::read(&path), Err(KeyFileError::Malformed(_))), "{text:?}");
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(KeyFile::read(&path).is_err());
        std::fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(KeyFile::read(&path).is_err());
    }
}
