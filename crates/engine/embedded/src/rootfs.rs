//! The file systems of a container, made by its own first process in its own mount namespace.
//!
//! Order matters. Before `pivot_root`, host paths are opened and cloned as detached mounts. After
//! it no host path exists any more, and what is mounted goes to descriptors found by [`Root`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use crate::cgroup::DeviceControl;
use crate::host::OverlayLayers;
use crate::in_root::Root;
use crate::plan::{Plan, TmpfsOption};
use crate::sys;

/// A step that failed, with its name.
pub type Step<T> = Result<T, (String, io::Error)>;

/// Names a step.
pub trait Context<T> {
    fn step(self, what: &str) -> Step<T>;
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn step(self, what: &str) -> Step<T> {
        self.map_err(|error| (what.to_owned(), error.into()))
    }
}

impl<T> Context<T> for io::Result<T> {
    fn step(self, what: &str) -> Step<T> {
        self.map_err(|error| (what.to_owned(), error))
    }
}

const QUIET: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const ATTRIBUTE_READ_ONLY: u64 = 1;
const ATTRIBUTE_NODEV: u64 = 4;

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

/// Builds the root and enters it. On return the process sees nothing but the container's files.
pub fn enter(plan: &Plan<'_>) -> Step<Root> {
    let etc = ["hosts", "hostname", "resolv.conf"]
        .map(|name| (name, clone_mount(&plan.sandbox_dir.join(name), Depth::One)));
    let volumes: Vec<_> =
        plan.spec.mounts.iter().map(|mount| clone_mount(&mount.source, Depth::All)).collect();
    let mask = clone_mount(&plan.mask_dir, Depth::One).step("clone the mask")?;
    sys::set_mount_attributes(mask.as_fd(), ATTRIBUTE_READ_ONLY).step("make the mask read-only")?;

    let overlay = mount_overlay(plan)?;
    pivot(&overlay)?;
    let root = Root::new(
        rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .step("open the root")?,
    );

    let devices = mount_dev(&root, plan)?;
    let null = rustix::mount::open_tree(
        &devices,
        "null",
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )
    .step("clone /dev/null")?;
    let mut covers = Covers { directory: Cover::new(mask), file: Cover::new(null) };
    mount_proc(&root, &mut covers)?;
    mount_sys(&root, plan, &mut covers)?;

    for (name, clone) in etc {
        let clone = clone.step("clone a file for /etc")?;
        let target = root.make_file(&format!("/etc/{name}")).step("make a mount point in /etc")?;
        attach(&clone, &target).step("mount a file in /etc")?;
    }
    for (mount, clone) in plan.spec.mounts.iter().zip(volumes) {
        let what = format!("mount {} at {}", mount.source.display(), mount.target);
        let clone = clone.step(&what)?;
        let read_only = if mount.readonly { ATTRIBUTE_READ_ONLY } else { 0 };
        sys::set_mount_attributes(clone.as_fd(), ATTRIBUTE_NODEV | read_only).step(&what)?;
        let target = if is_directory(&clone).step(&what)? {
            root.make_directory(&mount.target)
        } else {
            root.make_file(&mount.target)
        };
        attach(&clone, &target.step(&what)?).step(&what)?;
    }
    for tmpfs in &plan.spec.tmpfs {
        mount_tmpfs(&root, tmpfs)?;
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
enum Depth {
    One,
    All,
}

fn clone_mount(path: &Path, depth: Depth) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if depth == Depth::All {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(rustix::fs::CWD, path, flags)
}

fn attach(mount: &OwnedFd, target: &OwnedFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, "", flags)
}

fn is_directory(fd: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode).is_dir())
}

/// Mounts a new file system on the directory that `target` stands for.
fn mount_on(target: &OwnedFd, kind: &str, flags: MountFlags, options: &str) -> rustix::io::Result<()> {
    rustix::process::fchdir(target)?;
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount(kind, ".", kind, flags, Some(options.as_c_str()))
}

fn mount_overlay(plan: &Plan<'_>) -> Step<OwnedFd> {
    let (upper, work) = (plan.container_dir.join("upper"), plan.container_dir.join("work"));
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).step("open overlayfs")?;
    let context = context.as_fd();
    match plan.overlay {
        OverlayLayers::ByDescriptor => {
            for layer in &plan.layers {
                set_layer(context, "lowerdir+", layer)?;
            }
            set_layer(context, "upperdir", &upper)?;
            set_layer(context, "workdir", &work)?;
        }
        OverlayLayers::ByText => return mount_overlay_by_text(plan, &upper, &work),
    }
    rustix::mount::fsconfig_set_string(context, "source", "overlay").step("mount the root")?;
    rustix::mount::fsconfig_set_flag(context, "volatile").step("mount the root volatile")?;
    rustix::mount::fsconfig_set_string(context, "metacopy", "off").step("mount the root")?;
    rustix::mount::fsconfig_create(context).step("mount the root")?;
    let mount = rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .step("mount the root")?;
    // Any directory will do in a mount namespace that is ours alone and about to be left.
    rustix::mount::move_mount(
        &mount,
        "",
        rustix::fs::CWD,
        plan.sandboxes_dir.as_path(),
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .step("attach the root")?;
    Ok(mount)
}

fn set_layer(context: BorrowedFd<'_>, key: &str, path: &Path) -> Step<()> {
    let what = || format!("open the layer {}", path.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let layer = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| (what(), error.into()))?;
    rustix::mount::fsconfig_set_fd(context, key, layer.as_fd()).map_err(|error| (what(), error.into()))
}

/// For kernels before 6.13: one text of at most a page.
fn mount_overlay_by_text(plan: &Plan<'_>, upper: &Path, work: &Path) -> Step<OwnedFd> {
    const OPTIONS_BYTES_MAX: usize = 4095;
    let mut options = b"volatile,metacopy=off,lowerdir=".to_vec();
    for (index, layer) in plan.layers.iter().enumerate() {
        if index > 0 {
            options.push(b':');
        }
        push_escaped(&mut options, layer);
    }
    options.extend(b",upperdir=");
    push_escaped(&mut options, upper);
    options.extend(b",workdir=");
    push_escaped(&mut options, work);
    if options.len() > OPTIONS_BYTES_MAX {
        let error = io::Error::other("so many layers take Linux 6.13 or newer");
        return Err(("mount the root".into(), error));
    }
    let options =
        std::ffi::CString::new(options).map_err(|error| ("mount the root".to_owned(), error.into()))?;
    let flags = MountFlags::empty();
    rustix::mount::mount("overlay", plan.sandboxes_dir.as_path(), "overlay", flags, Some(options.as_c_str()))
        .step("mount the root")?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(plan.sandboxes_dir.as_path(), flags, Mode::empty()).step("open the root")
}

/// overlayfs splits at colons, mount(2) at commas.
fn push_escaped(options: &mut Vec<u8>, path: &Path) {
    for &byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            options.push(b'\\');
        }
        options.push(byte);
    }
}

/// Makes the mount the root, and lets go of the old one with all that is below it.
fn pivot(new_root: &OwnedFd) -> Step<()> {
    rustix::process::fchdir(new_root).step("enter the root")?;
    // Stacks the old root on the new one, where it is then the topmost at `.` (pivot_root(2)).
    rustix::process::pivot_root(".", ".").step("pivot to the root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).step("detach the host's root")?;
    rustix::process::chdir("/").step("enter the root")
}

fn mount_dev(root: &Root, plan: &Plan<'_>) -> Step<OwnedFd> {
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
    let target = root.make_directory("/dev").step("make /dev")?;
    let flags = MountFlags::NOSUID | MountFlags::STRICTATIME;
    mount_on(&target, "tmpfs", flags, "mode=755,size=65536k").step("mount /dev")?;
    let devices = root.open("/dev", OFlags::PATH | OFlags::DIRECTORY).step("open /dev")?;
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
    mount_on(
        &below("pts").step("open /dev/pts")?,
        "devpts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        "newinstance,ptmxmode=0666,mode=0620,gid=5",
    )
    .step("mount /dev/pts")?;
    let shm = format!("mode=1777,size={}", plan.shm_bytes);
    mount_on(&below("shm").step("open /dev/shm")?, "tmpfs", QUIET, &shm).step("mount /dev/shm")?;
    mount_on(&below("mqueue").step("open /dev/mqueue")?, "mqueue", QUIET, "").step("mount /dev/mqueue")?;
    Ok(devices)
}

fn mount_proc(root: &Root, covers: &mut Covers) -> Step<()> {
    let target = root.make_directory("/proc").step("make /proc")?;
    mount_on(&target, "proc", QUIET, "").step("mount /proc")?;
    let proc = root.open("/proc", OFlags::PATH | OFlags::DIRECTORY).step("open /proc")?;
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
struct Covers {
    directory: Cover,
    file: Cover,
}

impl Covers {
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

fn mount_sys(root: &Root, plan: &Plan<'_>, covers: &mut Covers) -> Step<()> {
    let target = root.make_directory("/sys").step("make /sys")?;
    mount_on(&target, "sysfs", QUIET | MountFlags::RDONLY, "").step("mount /sys")?;
    let sys = root.open("/sys", OFlags::PATH | OFlags::DIRECTORY).step("open /sys")?;
    covers.hide(&sys, &MASKED_IN_SYS)?;

    let open_groups = || {
        rustix::fs::openat(
            &sys,
            "fs/cgroup",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
    };
    let groups = match open_groups() {
        Err(Errno::NOENT) => return Ok(()),
        other => other.step("open /sys/fs/cgroup")?,
    };
    if let [only] = plan.cgroup_mounts.as_slice()
        && only.directory.is_empty()
    {
        return mount_on(&groups, only.filesystem, QUIET | MountFlags::RDONLY, &only.options)
            .step("mount /sys/fs/cgroup");
    }
    mount_on(&groups, "tmpfs", QUIET, "mode=755,size=64k").step("mount /sys/fs/cgroup")?;
    let groups = open_groups().step("open /sys/fs/cgroup")?;
    for mount in &plan.cgroup_mounts {
        let what = format!("mount the cgroup {}", mount.directory);
        rustix::fs::mkdirat(&groups, mount.directory.as_str(), Mode::from(0o755)).step(&what)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let target =
            rustix::fs::openat(&groups, mount.directory.as_str(), flags, Mode::empty()).step(&what)?;
        mount_on(&target, mount.filesystem, QUIET | MountFlags::RDONLY, &mount.options).step(&what)?;
        // `cpu,cpuacct` is known as `cpu` and as `cpuacct` too.
        for name in mount.directory.split(',').filter(|name| *name != mount.directory) {
            rustix::fs::symlinkat(mount.directory.as_str(), &groups, name).step(&what)?;
        }
    }
    sys::set_mount_attributes(groups.as_fd(), ATTRIBUTE_READ_ONLY).step("make /sys/fs/cgroup read-only")
}

fn mount_tmpfs(root: &Root, tmpfs: &wharf_engine::Tmpfs) -> Step<()> {
    let what = format!("mount a tmpfs at {}", tmpfs.target);
    let mut flags = QUIET;
    let mut data = format!("size={}", tmpfs.size_bytes);
    for option in &tmpfs.options {
        match TmpfsOption::parse(option).map_err(|error| (what.clone(), io::Error::other(error)))? {
            TmpfsOption::Flag { set } => flags |= set,
            TmpfsOption::Clear { flag } => flags -= flag,
            TmpfsOption::Data(text) => {
                data.push(',');
                data.push_str(&text);
            }
        }
    }
    let target = root.make_directory(&tmpfs.target).step(&what)?;
    mount_on(&target, "tmpfs", flags, &data).step(&what)
}
