//! The file systems of a container, made by its own first process in its own mount namespace.
//!
//! Order matters. Before `pivot_root`, host paths are opened and cloned as detached mounts. After
//! it no host path exists any more, and what is mounted goes to descriptors found by [`Root`].
//!
//! All of it is done with the host's privileges. With private users the process makes files as the
//! sandbox's root meanwhile, so that they belong to it.

mod dev;
mod kernel;
mod overlay;
mod volumes;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use crate::cgroup::DeviceControl;
use crate::faults;
use crate::in_root::Root;
use crate::plan::Plan;
use crate::shared;
use crate::sys::{self, MountChange};

/// A step that failed, with its name.
pub type Step<T> = Result<T, (String, io::Error)>;

/// Names a step.
pub trait Context<T> {
    fn step(self, what: &str) -> Step<T>;
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn step(self, what: &str) -> Step<T> {
        self.and_then(|value| faults::strike().map(|()| value))
            .map_err(|error| (what.to_owned(), error.into()))
    }
}

impl<T> Context<T> for io::Result<T> {
    fn step(self, what: &str) -> Step<T> {
        self.and_then(|value| faults::strike().map(|()| value).map_err(io::Error::from))
            .map_err(|error| (what.to_owned(), error))
    }
}

const QUIET: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const ATTRIBUTE_READ_ONLY: u64 = 1;
const ATTRIBUTE_NODEV: u64 = 4;

/// Builds the root and enters it. On return the process sees nothing but the container's files.
pub fn enter(plan: &Plan<'_>) -> Step<Root> {
    let etc = volumes::take_etc(plan);
    let taken = volumes::take(plan);
    let shared_memory = shared::memory(plan)?;
    let mask = clone_mount(&plan.mask_dir, Depth::One).step("clone the mask")?;
    sys::set_mount_attributes(mask.as_fd(), ATTRIBUTE_READ_ONLY).step("make the mask read-only")?;

    let overlay = overlay::mount(plan)?;
    pivot(&overlay)?;
    let root = Root::new(
        rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .step("open the root")?,
    );

    let devices = dev::mount(&root, plan, shared_memory.as_ref())?;
    let mut covers = kernel::Covers::new(mask, dev::clone_null(&devices)?)?;
    kernel::mount_proc(&root, plan, &mut covers)?;
    kernel::mount_sys(&root, plan, &mut covers)?;
    dev::make_nodes(&root, plan)?;
    volumes::mount_etc(&root, plan, etc)?;
    volumes::mount(&root, plan, taken)?;
    for tmpfs in &plan.spec.tmpfs {
        volumes::mount_tmpfs(&root, plan, tmpfs)?;
    }
    Ok(root)
}

/// Makes the root read-only, once everything is in place.
pub fn seal(plan: &Plan<'_>, root: &Root) -> Step<()> {
    let mut attributes = 0;
    if plan.spec.readonly_root {
        attributes |= ATTRIBUTE_READ_ONLY;
    }
    if plan.device_control == DeviceControl::None {
        attributes |= ATTRIBUTE_NODEV;
    }
    if attributes == 0 {
        return Ok(());
    }
    sys::set_mount_attributes(root.as_fd(), attributes).step("set the attributes of the root")
}

#[derive(Clone, Copy, PartialEq)]
pub enum Depth {
    One,
    All,
}

pub fn clone_mount(path: &Path, depth: Depth) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if depth == Depth::All {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(rustix::fs::CWD, path, flags)
}

/// Has a mount that was never attached show the owners that a user namespace makes of those on disk.
fn map_owners(mount: &OwnedFd, users: BorrowedFd<'_>, path: &Path) -> Step<()> {
    let change = MountChange { idmap: Some(users), ..MountChange::default() };
    sys::change_mount(mount.as_fd(), change).map_err(|error| {
        let what = format!("map the owners of {}", path.display());
        match error.raw_os_error() {
            Some(libc::EINVAL) => (what, io::Error::other("its file system has no idmapped mounts")),
            _ => (what, error),
        }
    })
}

fn attach(mount: &OwnedFd, target: &OwnedFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, "", flags)
}

/// Mounts a new file system on the directory that `target` stands for.
pub fn mount_on(target: &OwnedFd, kind: &str, flags: MountFlags, options: &str) -> rustix::io::Result<()> {
    rustix::process::fchdir(target)?;
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount(kind, ".", kind, flags, Some(options.as_c_str()))
}

/// Makes the container's layers the root of this process, and mounts nothing in it.
pub fn mount_alone(plan: &Plan<'_>) -> Step<()> {
    let overlay = overlay::mount(plan)?;
    pivot(&overlay)
}

/// Makes the mount the root, and lets go of the old one with all that is below it.
pub fn pivot(new_root: &OwnedFd) -> Step<()> {
    rustix::process::fchdir(new_root).step("enter the root")?;
    // Stacks the old root on the new one, where it is then the topmost at `.` (pivot_root(2)).
    rustix::process::pivot_root(".", ".").step("pivot to the root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).step("detach the host's root")?;
    rustix::process::chdir("/").step("enter the root")
}
