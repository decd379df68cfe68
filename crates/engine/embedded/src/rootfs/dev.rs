//! `/dev`: the devices that every container has, those that it was given, terminals and shared memory.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{MountFlags, OpenTreeFlags};
use wharf_engine::IpcMode;

use super::{Context, QUIET, Step, attach, mount_on};
use crate::devices::Node;
use crate::in_root::Root;
use crate::plan::Plan;

/// The group `tty` of every distribution.
const TTY_GID: u32 = 5;

/// `shared_memory`: what to mount at `/dev/shm` in the place of an own one.
pub fn mount(root: &Root, plan: &Plan<'_>, shared_memory: Option<&OwnedFd>) -> Step<OwnedFd> {
    const DEVICES: [(&str, u32, u32); 6] =
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    const LINKS: [(&str, &str); 6] = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
        ("core", "/proc/kcore"),
    ];
    let target = root.make_plain_directory("dev").step("make /dev")?;
    let flags = MountFlags::NOSUID | MountFlags::STRICTATIME;
    mount_on(&target, "tmpfs", flags, "mode=755,size=65536k").step("mount /dev")?;
    let devices = root.open_plain("dev", OFlags::PATH | OFlags::DIRECTORY).step("open /dev")?;
    for (name, major, minor) in DEVICES {
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(&devices, name, FileType::CharacterDevice, Mode::from(0o666), device)
            .step("make a device in /dev")?;
    }
    for (name, to) in LINKS {
        rustix::fs::symlinkat(to, &devices, name).step("make a link in /dev")?;
    }
    for directory in ["pts", "shm", "mqueue"] {
        rustix::fs::mkdirat(&devices, directory, Mode::from(0o755)).step("make a directory in /dev")?;
    }
    let below = |name: &str| {
        rustix::fs::openat(&devices, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    };
    let tty = plan.credentials.outside_id(TTY_GID).unwrap_or(TTY_GID);
    mount_on(
        &below("pts").step("open /dev/pts")?,
        "devpts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        &format!("newinstance,ptmxmode=0666,mode=0620,gid={tty}"),
    )
    .step("mount /dev/pts")?;
    let shm = below("shm").step("open /dev/shm")?;
    match (shared_memory, plan.sandbox.ipc) {
        (Some(shared), _) => attach(shared, &shm).step("mount /dev/shm")?,
        (None, IpcMode::None) => {}
        (None, _) => {
            let options = format!("mode=1777,size={}", plan.shm_bytes);
            mount_on(&shm, "tmpfs", QUIET, &options).step("mount /dev/shm")?;
        }
    }
    mount_on(&below("mqueue").step("open /dev/mqueue")?, "mqueue", QUIET, "").step("mount /dev/mqueue")?;
    Ok(devices)
}

/// The null device, for hiding files with.
pub fn clone_null(devices: &OwnedFd) -> Step<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(devices, "null", flags).step("clone /dev/null")
}

/// Makes the nodes of the devices that the container was given.
pub fn make_nodes(root: &Root, plan: &Plan<'_>) -> Step<()> {
    for node in &plan.devices {
        make_node(root, plan, node).map_err(|(what, error)| (format!("{what} {}", node.target), error))?;
    }
    Ok(())
}

fn make_node(root: &Root, plan: &Plan<'_>, node: &Node) -> Step<()> {
    let (parent, name) = node.target.rsplit_once('/').unwrap_or(("", &node.target));
    let parent = root.make_directory(parent).step("make the directory of the device")?;
    let kind = if node.block { FileType::BlockDevice } else { FileType::CharacterDevice };
    let mode = Mode::from(node.mode & 0o777);
    match rustix::fs::mknodat(&parent, name, kind, mode, rustix::fs::makedev(node.major, node.minor)) {
        // `/dev/null` and its like are there already; whatever else is there is in the way.
        Err(Errno::EXIST) => {
            let there = rustix::fs::statat(&parent, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
                .step("look at the device")?;
            if FileType::from_raw_mode(there.st_mode) == kind
                && there.st_rdev == rustix::fs::makedev(node.major, node.minor)
            {
                return Ok(());
            }
            return Err(("make the device".into(), Errno::EXIST.into()));
        }
        other => other.step("make the device")?,
    }
    // Owners as the host has them, where the sandbox has such ids.
    let owner = plan.credentials.outside_id(node.uid).map(Uid::from_raw);
    let group = plan.credentials.outside_id(node.gid).map(Gid::from_raw);
    rustix::fs::chownat(parent.as_fd(), name, owner, group, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .step("give the device to its owner")
}
