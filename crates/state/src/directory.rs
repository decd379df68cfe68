//! The directory that a journal lives in: whose it is, in which format, and who is using it.
//!
//! ```text
//! LOCK     locked (flock) by the process that has the store open; holds its pid
//! FORMAT   "wharf-state 1": that this is a store, and which layout
//! journal/ the journal's own files
//! ```
//!
//! The journal is made under another name and renamed when it is whole: a process that is killed while
//! it makes one leaves nothing that the next open stumbles over.
//!
//! `FORMAT` is written before the first file of the journal, so that a directory without it that
//! holds anything is somebody else's and is left alone.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

const LOCK: &str = "LOCK";
const FORMAT: &str = "FORMAT";
const FORMAT_DRAFT: &str = "FORMAT.new";
const JOURNAL: &str = "journal";
const JOURNAL_DRAFT: &str = "journal.new";
const FORMAT_NAME: &str = "wharf-state";
const FORMAT_VERSION: u32 = 1;
/// The longest `FORMAT` or `LOCK` that is read.
const FILE_BYTES_MAX: u64 = 256;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a directory cannot be used as a store's. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("the data directory {} is in use by {}", path.display(), holder(*pid))]
    InUse { path: PathBuf, pid: Option<u32> },
    #[error("{} is not a data directory of Wharf: it has no {FORMAT} file and is not empty", .0.display())]
    Foreign(PathBuf),
    #[error("the data directory {} has the format {found:?}, this build reads {FORMAT_NAME} {FORMAT_VERSION}", path.display())]
    Format { path: PathBuf, found: String },
    #[error("the data directory cannot be used: {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the journal in {} cannot be opened", path.display())]
    Journal {
        path: PathBuf,
        #[source]
        source: BoxError,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// A directory that this process alone uses until it is dropped.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Closing it gives up the lock.
    _lock: File,
}

impl Directory {
    /// Takes the directory, and makes it a store's when it is new or empty.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let io = |source| DirectoryError::Io { path: path.to_owned(), source };
        match fs::read_dir(path) {
            Ok(entries) => refuse_foreign(path, entries).map_err(io)?.map_or(Ok(()), Err)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(path).map_err(io)?,
            Err(error) => return Err(io(error)),
        }
        let lock = lock(path)?;
        match read_short(&path.join(FORMAT)) {
            Ok(found) if found.trim_end() == format!("{FORMAT_NAME} {FORMAT_VERSION}") => {}
            Ok(found) => {
                return Err(DirectoryError::Format {
                    path: path.to_owned(),
                    found: found.trim_end().to_owned(),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => write_format(path).map_err(io)?,
            Err(error) => return Err(io(error)),
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the journal, by `make`, if there is none.
    pub fn make_journal<E>(&self, make: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), BoxError>
    where
        BoxError: From<E>,
    {
        if self.journal().try_exists()? {
            return Ok(());
        }
        let draft = self.path.join(JOURNAL_DRAFT);
        match fs::remove_dir_all(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        make(&draft)?;
        fs::rename(&draft, self.journal())?;
        File::open(&self.path)?.sync_all()?;
        Ok(())
    }

    pub fn journal(&self) -> PathBuf {
        self.path.join(JOURNAL)
    }
}

fn refuse_foreign(path: &Path, entries: fs::ReadDir) -> io::Result<Option<DirectoryError>> {
    let mut foreign = false;
    for entry in entries {
        let name = entry?.file_name();
        if name == FORMAT {
            return Ok(None);
        }
        foreign |= name != LOCK && name != FORMAT_DRAFT;
    }
    Ok(foreign.then(|| DirectoryError::Foreign(path.to_owned())))
}

fn lock(path: &Path) -> Result<File, DirectoryError> {
    let io = |source| DirectoryError::Io { path: path.to_owned(), source };
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path.join(LOCK))
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = read_short(&path.join(LOCK)).ok().and_then(|text| text.trim().parse().ok());
            return Err(DirectoryError::InUse { path: path.to_owned(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    // The pid is a courtesy to whoever is refused; a full disk must not keep the owner out.
    if let Err(error) = write(&mut file) {
        tracing::warn!(error = &error as &dyn std::error::Error, "the lock file could not name this process");
    }
    Ok(file)
}

fn write_format(path: &Path) -> io::Result<()> {
    let draft = path.join(FORMAT_DRAFT);
    let mut file = File::create(&draft)?;
    writeln!(file, "{FORMAT_NAME} {FORMAT_VERSION}")?;
    file.sync_all()?;
    fs::rename(&draft, path.join(FORMAT))?;
    File::open(path)?.sync_all()
}

fn read_short(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
