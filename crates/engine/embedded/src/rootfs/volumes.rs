//! What is mounted into a container beside its root: volumes, directories of the host, tmpfs, files of `/etc`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::FileType;
use wharf_engine::{InitialContent, Mount, Tmpfs};

use super::kernel::{PROC_MAGIC, SYSFS_MAGIC, is_on};
use super::{
    ATTRIBUTE_NODEV, ATTRIBUTE_READ_ONLY, Context, Depth, QUIET, Step, attach, clone_mount, mount_on,
};
use crate::in_root::Root;
use crate::plan::{Plan, TmpfsOption};
use crate::sys::{self, MountChange};

/// The mounts of a container's volumes, taken while the host's paths are there.
pub struct Volumes(Vec<rustix::io::Result<OwnedFd>>);

pub fn take(plan: &Plan<'_>) -> Volumes {
    Volumes(plan.volumes.iter().map(|source| clone_mount(source, Depth::All)).collect())
}

pub fn mount(root: &Root, plan: &Plan<'_>, volumes: Volumes) -> Step<()> {
    for (mount, clone) in plan.spec.mounts.iter().zip(volumes.0) {
        let what = format!("mount a volume at {}", mount.target);
        mount_volume(root, plan, mount, &clone.step(&what)?)
            .map_err(|(step, error)| (format!("{what}: {step}"), error))?;
    }
    Ok(())
}

fn mount_volume(root: &Root, plan: &Plan<'_>, mount: &Mount, clone: &OwnedFd) -> Step<()> {
    if let Some(users) = &plan.credentials.users {
        let change = MountChange { idmap: Some(users.fd.as_fd()), recursive: true, ..MountChange::default() };
        sys::change_mount(clone.as_fd(), change).step("map the owners of its files")?;
    }
    let is_directory = is_directory(clone).step("look at it")?;
    if is_directory && mount.content == InitialContent::FromImage {
        crate::volume::fill(clone, root, &mount.target).step("copy what the image has there")?;
    }
    let read_only = if mount.readonly { ATTRIBUTE_READ_ONLY } else { 0 };
    let change = MountChange { set: ATTRIBUTE_NODEV | read_only, recursive: true, ..MountChange::default() };
    sys::change_mount(clone.as_fd(), change).step("set its attributes")?;
    let target =
        if is_directory { root.make_directory(&mount.target) } else { root.make_file(&mount.target) };
    attach_checked(clone, &target.step("make its mount point")?)
}

/// A link in another volume could lead to what isolates the container.
fn attach_checked(mount: &OwnedFd, target: &OwnedFd) -> Step<()> {
    refuse_kernel_files(target)?;
    attach(mount, target).step("attach it")
}

fn refuse_kernel_files(target: &OwnedFd) -> Step<()> {
    if is_on(target, &[PROC_MAGIC, SYSFS_MAGIC]).step("look at its mount point")? {
        return Err(("look at its mount point".into(), io::Error::other("it leads to /proc or /sys")));
    }
    Ok(())
}

fn is_directory(fd: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode).is_dir())
}

/// The files of the sandbox that every container has in `/etc`.
pub struct EtcFiles(Vec<(&'static str, rustix::io::Result<OwnedFd>)>);

pub fn take_etc(plan: &Plan<'_>) -> EtcFiles {
    let take = |name| (name, clone_mount(&plan.sandbox_dir.join(name), Depth::One));
    EtcFiles(["hosts", "hostname", "resolv.conf"].map(take).into())
}

pub fn mount_etc(root: &Root, plan: &Plan<'_>, files: EtcFiles) -> Step<()> {
    for (name, clone) in files.0 {
        let clone = clone.step("clone a file for /etc")?;
        if let Some(users) = &plan.credentials.users {
            let change = MountChange { idmap: Some(users.fd.as_fd()), ..MountChange::default() };
            sys::change_mount(clone.as_fd(), change).step("map the owner of a file for /etc")?;
        }
        let target = root.make_file(&format!("/etc/{name}")).step("make a mount point in /etc")?;
        attach_checked(&clone, &target)
            .map_err(|(step, error)| (format!("mount /etc/{name}: {step}"), error))?;
    }
    Ok(())
}

pub fn mount_tmpfs(root: &Root, plan: &Plan<'_>, tmpfs: &Tmpfs) -> Step<()> {
    let what = format!("mount a tmpfs at {}", tmpfs.target);
    let mut flags = QUIET;
    let mut data = format!("size={}", tmpfs.size_bytes);
    for option in &tmpfs.options {
        match TmpfsOption::parse(option).map_err(|error| (what.clone(), io::Error::other(error)))? {
            TmpfsOption::Nothing => {}
            TmpfsOption::Flag { set } => flags |= set,
            TmpfsOption::Clear { flag } => flags -= flag,
            TmpfsOption::Owner { key, id } => {
                let no_id = || io::Error::other(format!("the sandbox has no id {id}"));
                let id = plan.credentials.outside_id(id).ok_or_else(|| (what.clone(), no_id()))?;
                data.push_str(&format!(",{key}={id}"));
            }
            TmpfsOption::Data(text) => {
                data.push(',');
                data.push_str(&text);
            }
        }
    }
    let target = root.make_directory(&tmpfs.target).step(&what)?;
    refuse_kernel_files(&target).map_err(|(step, error)| (format!("{what}: {step}"), error))?;
    mount_on(&target, "tmpfs", flags, &data).step(&what)
}
