//! User ids of a sandbox's own: which range of the host's ids it has, and the namespace that maps it.
//!
//! A range is 65,536 ids between those that systemd gives to its containers and those that it keeps
//! for foreign images (<https://systemd.io/UIDS-GIDS/>), which nobody else uses. It is taken by a link
//! `<sandboxes_dir>/.users/<number>` → sandbox id and kept in `<sandbox>/users` until the sandbox is
//! removed; any spawner finds it there.
//!
//! The namespace itself is not kept: it is made anew where it is needed, with the same mapping, and
//! remembered by the spawner for the next container of the sandbox. Mounts map owners with it, so
//! that files on disk keep the ids that the image and the containers know.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::mount::OpenTreeFlags;
use wharf_engine::{EngineError, SandboxId};

use crate::host::{Host, io_error, kernel_version};
use crate::sys::{self, MountChange};

/// Ids of a range, 0 to 65,535 inside.
pub const IDS: u32 = 1 << 16;
/// The first after systemd's containers.
const BASE_MIN: u32 = 0x7000_0000;
/// Up to systemd's foreign range at 0x7FFE_0000.
const RANGES_MAX: u32 = (0x7FFE_0000 - BASE_MIN) / IDS;
/// Namespaces that a spawner remembers.
const REMEMBERED_MAX: usize = 64;

/// The first with mapped owners in the layers of overlayfs.
const KERNEL_MIN: (u32, u32) = (5, 19);

const TAKEN: &str = ".users";
const FILE: &str = "users";

/// The host's ids of one sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    base: u32,
}

impl Range {
    fn number(self) -> u32 {
        (self.base - BASE_MIN) / IDS
    }

    fn from_number(number: u32) -> Self {
        Self { base: BASE_MIN + number * IDS }
    }

    /// What the container's `id` is on the host. `None`: it has no such id.
    pub fn outside(self, id: u32) -> Option<u32> {
        (id < IDS).then(|| self.base + id)
    }

    fn parse(text: &str) -> Option<Self> {
        let base: u32 = text.trim_end().parse().ok()?;
        let fits =
            base >= BASE_MIN && (base - BASE_MIN).is_multiple_of(IDS) && (base - BASE_MIN) / IDS < RANGES_MAX;
        fits.then_some(Self { base })
    }
}

pub fn taken_dir(sandboxes_dir: &Path) -> PathBuf {
    sandboxes_dir.join(TAKEN)
}

/// Gives the sandbox a range, or finds the one that it has. Its directory must be there.
pub fn assign(sandboxes_dir: &Path, sandbox_dir: &Path, sandbox: &SandboxId) -> Result<Range, EngineError> {
    let failed = |error: io::Error| io_error(&format!("give user ids to sandbox {sandbox}"), &error);
    if let Some(range) = of_sandbox(sandbox_dir).map_err(failed)? {
        return Ok(range);
    }
    let taken = taken_dir(sandboxes_dir);
    // Engines of one host start at different places, so that they seldom use the same ids.
    let start = u32::try_from(spread(sandboxes_dir, sandbox) % u64::from(RANGES_MAX)).unwrap_or_default();
    for offset in 0..RANGES_MAX {
        let range = Range::from_number((start + offset) % RANGES_MAX);
        let link = taken.join(range.number().to_string());
        match symlink(sandbox.as_str(), &link) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Ours, from an attempt that was cut off before its file was written?
                if fs::read_link(&link).ok().as_deref() != Some(Path::new(sandbox.as_str())) {
                    continue;
                }
            }
            other => other.map_err(failed)?,
        }
        return fs::write(sandbox_dir.join(FILE), range.base.to_string()).map(|()| range).map_err(failed);
    }
    Err(EngineError::Exhausted {
        resource: "user ids".into(),
        message: format!("all {RANGES_MAX} ranges are given to sandboxes"),
    })
}

/// FNV-1a: where to begin the search.
fn spread(sandboxes_dir: &Path, sandbox: &SandboxId) -> u64 {
    let bytes = sandboxes_dir.as_os_str().as_encoded_bytes().iter().chain(sandbox.as_str().as_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The sandbox's range; `None` when it has none.
pub fn of_sandbox(sandbox_dir: &Path) -> io::Result<Option<Range>> {
    match fs::read_to_string(sandbox_dir.join(FILE)) {
        Ok(text) => Ok(Range::parse(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives back what [`of_sandbox`] said before the sandbox's directory went away.
pub fn release(sandboxes_dir: &Path, range: Range) -> io::Result<()> {
    match fs::remove_file(taken_dir(sandboxes_dir).join(range.number().to_string())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Gives back the ranges of sandboxes that are gone.
pub fn sweep(sandboxes_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(taken_dir(sandboxes_dir))?.flatten() {
        let owner = fs::read_link(entry.path())?;
        if !sandboxes_dir.join(&owner).is_dir() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// A user namespace that maps a range.
#[derive(Clone, Debug)]
pub struct UserNamespace {
    pub range: Range,
    pub fd: Arc<OwnedFd>,
}

/// The namespaces of the sandboxes that started containers last.
#[derive(Debug, Default)]
pub struct UserNamespaces {
    remembered: Mutex<Vec<(SandboxId, UserNamespace)>>,
}

impl UserNamespaces {
    /// The namespace of a sandbox with this range, made if it is not remembered.
    ///
    /// Never one of another sandbox, though it may have had the same range: keyrings belong to
    /// namespaces.
    pub fn of(&self, host: &Host, sandbox: &SandboxId, range: Range) -> Result<UserNamespace, EngineError> {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = remembered.iter().find(|(of, known)| of == sandbox && known.range == range)
        {
            return Ok(known.clone());
        }
        let fd = make(host, range).map_err(|error| io_error("make a user namespace", &error))?;
        let made = UserNamespace { range, fd: Arc::new(fd) };
        if remembered.len() >= REMEMBERED_MAX {
            remembered.remove(0);
        }
        remembered.push((sandbox.clone(), made.clone()));
        Ok(made)
    }

    pub fn forget(&self, sandbox: &SandboxId) {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _)| of != sandbox);
    }
}

/// Whether this host can have sandboxes with users of their own: overlayfs takes layers with mapped
/// owners (Linux 5.19), and the file system of the sandboxes maps them.
pub fn are_possible(host: &Host) -> bool {
    let probe = || -> io::Result<()> {
        let namespace = make(host, Range::from_number(0))?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = rustix::mount::open_tree(rustix::fs::CWD, &host.config.sandboxes_dir, flags)?;
        let change = MountChange { idmap: Some(namespace.as_fd()), ..MountChange::default() };
        sys::change_mount(mount.as_fd(), change)
    };
    kernel_version() >= KERNEL_MIN && probe().is_ok()
}

fn make(host: &Host, range: Range) -> io::Result<OwnedFd> {
    let waiter = sys::wait_in_new_user_namespace()?;
    let pid = waiter.pid.as_raw_nonzero();
    let map = format!("0 {} {IDS}\n", range.base);
    let open = |file: &str, flags| {
        rustix::fs::openat(&host.proc, format!("{pid}/{file}"), flags | OFlags::CLOEXEC, Mode::empty())
    };
    // Who is in it may write the last one itself, to any projects of the host, as long as nobody has.
    for file in ["uid_map", "gid_map", "projid_map"] {
        rustix::io::write(open(file, OFlags::WRONLY)?, map.as_bytes())?;
    }
    Ok(open("ns/user", OFlags::RDONLY)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(name: &str) -> SandboxId {
        SandboxId::new(name).unwrap()
    }

    fn place() -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(taken_dir(place.path())).unwrap();
        for name in ["a", "b"] {
            fs::create_dir(place.path().join(name)).unwrap();
        }
        place
    }

    #[test]
    fn a_sandbox_keeps_its_range_and_no_other_gets_it() {
        let place = place();
        let assigned = |name: &str| assign(place.path(), &place.path().join(name), &sandbox(name)).unwrap();
        let first = assigned("a");
        assert_eq!(assigned("a"), first);
        assert_ne!(assigned("b"), first);
        assert_eq!(first.outside(0), Some(first.base));
        assert_eq!(first.outside(65_535), Some(first.base + 65_535));
        assert_eq!(first.outside(65_536), None);
    }

    #[test]
    fn a_range_is_given_back_and_taken_from_the_dead() {
        let place = place();
        let first = assign(place.path(), &place.path().join("a"), &sandbox("a")).unwrap();
        release(place.path(), first).unwrap();
        release(place.path(), first).unwrap();
        assert_eq!(fs::read_dir(taken_dir(place.path())).unwrap().count(), 0);

        assign(place.path(), &place.path().join("b"), &sandbox("b")).unwrap();
        fs::remove_dir_all(place.path().join("b")).unwrap();
        sweep(place.path()).unwrap();
        assert_eq!(fs::read_dir(taken_dir(place.path())).unwrap().count(), 0);
    }

    #[test]
    fn an_assignment_that_was_cut_off_is_gone_on_with() {
        let place = place();
        let first = assign(place.path(), &place.path().join("a"), &sandbox("a")).unwrap();
        fs::remove_file(place.path().join("a").join(FILE)).unwrap();
        assert_eq!(assign(place.path(), &place.path().join("a"), &sandbox("a")).unwrap(), first);
    }

    #[test]
    fn a_file_that_says_a_foreign_range_is_not_believed() {
        for bad in ["0", "1000", "1879048193", "4294901760", "", "x"] {
            assert_eq!(Range::parse(bad), None, "{bad:?}");
        }
        assert_eq!(Range::parse("1879048192\n"), Some(Range::from_number(0)));
    }
}
