//! `/proc` and `/sys`: the kernel's file systems, with what reaches the host masked or read-only.
//!
//! What is written on, hidden or made read-only is reached through a descriptor of the mount itself,
//! whose kind was looked at: a link that an image puts in the way is an error, never followed.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags};
use wharf_engine::Privileges;

use super::{ATTRIBUTE_READ_ONLY, Context, QUIET, Step, mount_on};
use crate::in_root::Root;
use crate::plan::Plan;
use crate::sys;

pub const PROC_MAGIC: i128 = 0x9fa0;
pub const SYSFS_MAGIC: i128 = 0x6265_6572;

/// As Docker's `MaskedPaths`, below `/proc` and `/sys`.
const MASKED_IN_PROC: [&str; 10] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];
const MASKED_IN_SYS: [&str; 2] = ["firmware", "devices/virtual/powercap"];
/// As Docker's `ReadonlyPaths`.
const READ_ONLY_IN_PROC: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// The mount point `/name` of the image: a directory of its own, no link.
fn mount_point(root: &Root, name: &str) -> Step<OwnedFd> {
    root.make_plain_directory(name).step(&format!("make /{name}"))
}

/// The root of what was just mounted at `/name`, if it is that.
fn mounted(root: &Root, name: &str, magic: i128) -> Step<OwnedFd> {
    let what = format!("look at /{name}");
    let fd = root.open_plain(name, OFlags::PATH | OFlags::DIRECTORY).step(&what)?;
    if is_on(&fd, &[magic]).step(&what)? {
        Ok(fd)
    } else {
        Err((what, std::io::Error::other("something else is mounted there")))
    }
}

/// Whether a file is one of a file system of these kinds.
pub fn is_on(fd: &OwnedFd, magics: &[i128]) -> rustix::io::Result<bool> {
    Ok(magics.contains(&i128::from(rustix::fs::fstatfs(fd)?.f_type)))
}

pub fn mount_proc(root: &Root, plan: &Plan<'_>, covers: &mut Covers) -> Step<()> {
    let target = mount_point(root, "proc")?;
    mount_on(&target, "proc", QUIET, "").step("mount /proc")?;
    let proc = mounted(root, "proc", PROC_MAGIC)?;
    if plan.spec.privileges == Privileges::Privileged {
        return Ok(());
    }
    for path in READ_ONLY_IN_PROC {
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let clone = match rustix::mount::open_tree(&proc, path, flags) {
            Err(Errno::NOENT) => continue,
            other => other.step("clone a read-only path of /proc")?,
        };
        sys::set_mount_attributes(clone.as_fd(), ATTRIBUTE_READ_ONLY)
            .step("make a path of /proc read-only")?;
        let below = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&clone, "", &proc, path, below).step("mount a read-only path of /proc")?;
    }
    covers.hide(&proc, &MASKED_IN_PROC)
}

pub fn mount_sys(root: &Root, plan: &Plan<'_>, covers: &mut Covers) -> Step<()> {
    let privileged = plan.spec.privileges == Privileges::Privileged;
    let write = if privileged { MountFlags::empty() } else { MountFlags::RDONLY };
    let target = mount_point(root, "sys")?;
    mount_on(&target, "sysfs", QUIET | write, "").step("mount /sys")?;
    let sys = mounted(root, "sys", SYSFS_MAGIC)?;
    if !privileged {
        covers.hide(&sys, &MASKED_IN_SYS)?;
    }

    let open_groups = || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&sys, "fs/cgroup", flags, Mode::empty())
    };
    let groups = match open_groups() {
        Err(Errno::NOENT) => return Ok(()),
        other => other.step("open /sys/fs/cgroup")?,
    };
    if let [only] = plan.cgroup_mounts.as_slice()
        && only.directory.is_empty()
    {
        return mount_on(&groups, only.filesystem, QUIET | write, &only.options).step("mount /sys/fs/cgroup");
    }
    mount_on(&groups, "tmpfs", QUIET, "mode=755,size=64k").step("mount /sys/fs/cgroup")?;
    let groups = open_groups().step("open /sys/fs/cgroup")?;
    for mount in &plan.cgroup_mounts {
        let what = format!("mount the cgroup {}", mount.directory);
        rustix::fs::mkdirat(&groups, mount.directory.as_str(), Mode::from(0o755)).step(&what)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let target =
            rustix::fs::openat(&groups, mount.directory.as_str(), flags, Mode::empty()).step(&what)?;
        mount_on(&target, mount.filesystem, QUIET | write, &mount.options).step(&what)?;
        // `cpu,cpuacct` is known as `cpu` and as `cpuacct` too.
        for name in mount.directory.split(',').filter(|name| *name != mount.directory) {
            rustix::fs::symlinkat(mount.directory.as_str(), &groups, name).step(&what)?;
        }
    }
    sys::set_mount_attributes(groups.as_fd(), ATTRIBUTE_READ_ONLY).step("make /sys/fs/cgroup read-only")
}

/// A mount that hides what it is put on. It is used itself first and copied from there on: to let
/// go of one that was never attached costs a grace period of RCU.
struct Cover {
    mount: OwnedFd,
    use_next: CoverUse,
}

#[derive(Clone, Copy)]
enum CoverUse {
    Itself,
    Copy,
}

impl Cover {
    fn new(mount: OwnedFd) -> Self {
        Self { mount, use_next: CoverUse::Itself }
    }

    fn put_on(&mut self, base: &OwnedFd, path: &str) -> rustix::io::Result<()> {
        let attach = |mount: &OwnedFd| {
            rustix::mount::move_mount(mount, "", base, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        };
        match self.use_next {
            CoverUse::Itself => {
                self.use_next = CoverUse::Copy;
                attach(&self.mount)
            }
            CoverUse::Copy => {
                let flags = OpenTreeFlags::OPEN_TREE_CLONE
                    | OpenTreeFlags::OPEN_TREE_CLOEXEC
                    | OpenTreeFlags::AT_EMPTY_PATH;
                attach(&rustix::mount::open_tree(&self.mount, "", flags)?)
            }
        }
    }
}

/// Files are covered with `/dev/null`, directories with an empty read-only one.
pub struct Covers {
    directory: Cover,
    file: Cover,
}

impl Covers {
    /// # Errors
    /// When `null` is not the null device: what a link could have been put in the place of.
    pub fn new(directory: OwnedFd, null: OwnedFd) -> Step<Self> {
        let stat = rustix::fs::fstat(&null).step("look at /dev/null")?;
        let is_null = FileType::from_raw_mode(stat.st_mode).is_char_device()
            && stat.st_rdev == rustix::fs::makedev(1, 3);
        if !is_null {
            return Err(("look at /dev/null".into(), std::io::Error::other("it is not the null device")));
        }
        Ok(Self { directory: Cover::new(directory), file: Cover::new(null) })
    }

    /// What this kernel does not have needs no cover.
    fn hide(&mut self, base: &OwnedFd, paths: &[&str]) -> Step<()> {
        for path in paths {
            let what = || format!("mask {path}");
            let stat = match rustix::fs::statat(base, *path, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                other => other.step(&what())?,
            };
            let is_directory = FileType::from_raw_mode(stat.st_mode).is_dir();
            let cover = if is_directory { &mut self.directory } else { &mut self.file };
            cover.put_on(base, path).step(&what())?;
        }
        Ok(())
    }
}
