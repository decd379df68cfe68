//! Which devices containers may open: the v1 devices controller.
//!
//! Containers with Docker's default devices share one group, which the spawners sit in: a child
//! inherits it and pays nothing for it. One with more, or with all, has a group of its own.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::v1::SHARED;
use super::{CgroupError, Directory, retry_busy};

/// What Docker lets containers open, devices(5) of the kernel's v1 documentation.
const ALLOWED: [&str; 11] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",   // null
    "c 1:5 rwm",   // zero
    "c 1:7 rwm",   // full
    "c 1:8 rwm",   // random
    "c 1:9 rwm",   // urandom
    "c 5:0 rwm",   // tty
    "c 5:1 rwm",   // console
    "c 5:2 rwm",   // ptmx
    "c 136:* rwm", // pts
];

/// The devices of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceRules {
    /// Docker's.
    #[default]
    Default,
    /// Those and more, as `c 10:200 rwm`.
    More(Vec<String>),
    /// Every device of the host.
    All,
}

/// The groups of an instance.
#[derive(Debug)]
pub struct Devices {
    /// `wharf-<instance>`.
    parent: Directory,
    shared: Directory,
}

impl Devices {
    pub fn open(path: &Path, parent: &str) -> Result<Self, CgroupError> {
        let top = Directory::open(path)?;
        top.make(parent)?;
        let group = format!("{parent}/{SHARED}");
        let made = !top.children(parent)?.iter().any(|child| child == SHARED);
        top.make(&group)?;
        let devices = Self { shared: top.open_below(&group)?, parent: top.open_below(parent)? };
        if made {
            allow(&devices.shared, "", &[])?;
        }
        Ok(devices)
    }

    pub fn enter_shared(&self) -> Result<(), CgroupError> {
        self.shared.write("cgroup.procs", "0")
    }

    /// Makes a container's group if its rules are not those of all.
    pub fn create(&self, sandbox: &str, container: &str, rules: &DeviceRules) -> Result<(), CgroupError> {
        if *rules == DeviceRules::Default {
            return Ok(());
        }
        self.parent.make(sandbox)?;
        let path = format!("{sandbox}/{container}");
        self.parent.make(&path)?;
        match rules {
            DeviceRules::More(more) => allow(&self.parent, &format!("{path}/"), more),
            // As its parent, which holds nothing back.
            DeviceRules::Default | DeviceRules::All => Ok(()),
        }
    }

    /// The file by which a process joins a container's own group, if it has one.
    pub fn join(&self, sandbox: &str, container: &str) -> Result<Option<OwnedFd>, CgroupError> {
        match self.parent.open_file(&format!("{sandbox}/{container}/cgroup.procs"), OFlags::WRONLY) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the groups at a path and below, once nothing runs in them.
    pub fn remove(&self, path: &str) -> Result<(), CgroupError> {
        self.parent.remove_all(path)
    }

    pub fn remove_instance(&self, name: &str) -> Result<(), CgroupError> {
        retry_busy(SHARED, || self.parent.remove(SHARED))?;
        let top = Directory::at(self.parent.as_fd(), "..")?;
        retry_busy(name, || top.remove(name))
    }
}

fn allow(group: &Directory, path: &str, more: &[String]) -> Result<(), CgroupError> {
    group.write(&format!("{path}devices.deny"), "a")?;
    let allow = format!("{path}devices.allow");
    ALLOWED
        .iter()
        .copied()
        .chain(more.iter().map(String::as_str))
        .try_for_each(|rule| group.write(&allow, rule))
}
