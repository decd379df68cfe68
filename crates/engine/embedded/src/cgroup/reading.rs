//! Reading the same control files again and again: to open one costs several times what it costs to
//! read it.

use std::os::fd::OwnedFd;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::CgroupError;
use super::directory::{Directory, number_of};

/// The open control files of one container, in the order in which they are always read.
#[derive(Debug, Default)]
pub struct Kept {
    /// `None`: the kernel does not have it.
    files: Vec<Option<OwnedFd>>,
    next: usize,
}

impl Kept {
    /// Descriptors that it holds.
    pub fn len(&self) -> usize {
        self.files.iter().flatten().count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How files are read.
pub enum Reading<'a> {
    Once,
    /// From the first file on: begun anew for each reading.
    Again(&'a mut Kept),
}

impl<'a> Reading<'a> {
    pub fn again(kept: &'a mut Kept) -> Self {
        kept.next = 0;
        Self::Again(kept)
    }

    pub fn read(&mut self, directory: &Directory, path: &str) -> Result<String, CgroupError> {
        let Self::Again(kept) = self else { return directory.read(path) };
        let missing = || CgroupError::File { path: path.to_owned(), action: "open", source: Errno::NOENT };
        let at = kept.next;
        kept.next += 1;
        if at == kept.files.len() {
            let opened = match directory.open_file(path, OFlags::RDONLY) {
                Ok(file) => Some(file),
                Err(error) if error.errno() == Some(Errno::NOENT) => None,
                Err(error) => return Err(error),
            };
            kept.files.push(opened);
        }
        let file = kept.files.get(at).and_then(Option::as_ref).ok_or_else(missing)?;
        directory.read_from(file, path)
    }

    /// A file that holds one number; `max` is `u64::MAX`.
    pub fn read_number(&mut self, directory: &Directory, path: &str) -> Result<u64, CgroupError> {
        number_of(&self.read(directory, path)?).ok_or_else(|| CgroupError::File {
            path: path.to_owned(),
            action: "parse",
            source: Errno::INVAL,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_file_is_read_again_and_one_that_is_not_there_is_not_sought_again() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        std::fs::write(dir.path().join("a"), "1\n").unwrap();
        let mut kept = Kept::default();
        for value in [1, 2] {
            std::fs::write(dir.path().join("a"), format!("{value}\n")).unwrap();
            let mut reading = Reading::again(&mut kept);
            assert!(reading.read(&directory, "b").is_err());
            assert_eq!(reading.read_number(&directory, "a").unwrap(), value);
            // Made too late to be noticed.
            std::fs::write(dir.path().join("b"), "").unwrap();
        }
        assert_eq!(kept.len(), 1);
        assert_eq!(Reading::Once.read(&directory, "a").unwrap(), "2\n");
    }
}
