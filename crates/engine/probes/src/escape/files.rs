//! Ways to the host's files: leaked descriptors, directories, links, handles, the kernel's files.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::call::{HERE, bytes, call, in_child, text};
use crate::{Outcome, Probe, World, all_refused, refused};

pub const PROBES: &[Probe] = &[
    ("host-path", host_path),
    ("leaked-descriptors-cve-2024-21626", leaked_descriptors),
    ("leaked-working-directory-cve-2024-21626", leaked_working_directory),
    ("parent-directories", parent_directories),
    ("proc-root-of-others", proc_root),
    ("proc-environment-of-init", environment),
    ("chroot-breakout", chroot_breakout),
    ("open-by-handle-shocker", open_by_handle),
    ("open-by-handle-of-namespace", open_namespace_by_handle),
    ("executable-overwrite-cve-2019-5736", executable_overwrite),
    ("executable-of-others-cve-2019-5736", executable_of_others),
    ("release-agent-cve-2022-0492", release_agent),
    ("cgroup-files-write", cgroup_write),
    ("cgroup-make", cgroup_make),
    ("cgroup-devices-allow", devices_allow),
    ("core-pattern", |_| write_refused(&["/proc/sys/kernel/core_pattern"])),
    ("modprobe-path", |_| write_refused(&["/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug"])),
    ("uevent-helper", |_| write_refused(&["/sys/kernel/uevent_helper"])),
    ("sysrq-trigger", |_| write_refused(&["/proc/sysrq-trigger"])),
    ("binfmt-misc-register", |_| write_refused(&["/proc/sys/fs/binfmt_misc/register"])),
    ("proc-sys-write", proc_sys_write),
    ("proc-irq-write", |_| walk_writes("/proc/irq", 3)),
    ("proc-bus-write", |_| walk_writes("/proc/bus", 4)),
    ("proc-fs-write", |_| walk_writes("/proc/fs", 4)),
    ("sysfs-write", |_| walk_writes("/sys", 5)),
    ("kcore-read", |_| empty(&["/proc/kcore", "/proc/kmem"])),
    ("kernel-keys-read", |_| empty(&["/proc/keys", "/proc/timer_list", "/proc/sched_debug"])),
    ("kernel-log-read", |_| read_refused(&["/proc/kmsg", "/dev/kmsg"])),
    ("firmware-read", |_| empty_directories(&["/sys/firmware", "/proc/acpi", "/proc/scsi"])),
    ("powercap-read-cve-2020-8694", |_| empty_directories(&["/sys/devices/virtual/powercap"])),
    ("debug-file-systems", debug_file_systems),
    ("masked-paths-are-devices-cve-2025-31133", masked_paths),
    ("proc-is-procfs-cve-2019-19921", proc_is_procfs),
    ("attribute-files-are-procfs-cve-2025-52881", attribute_files),
    ("runtime-sockets", runtime_sockets),
    ("immutable-flag", immutable_flag),
];

fn reads_secret(path: &Path, world: &World) -> io::Result<()> {
    let text = fs::read_to_string(path)?;
    if text.contains(&world.secret) { Ok(()) } else { Err(io::Error::other("there is another file")) }
}

fn host_path(world: &World) -> Outcome {
    refused(reads_secret(Path::new(&world.path), world))
}

fn leaked_descriptors(_: &World) -> Outcome {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return Outcome::Skipped("there is no /proc".to_owned());
    };
    for entry in entries.flatten() {
        let number: i32 = entry.file_name().to_string_lossy().parse().unwrap_or(0);
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let own = target.to_string_lossy().contains("/proc/");
        if number > 2 && !own {
            return Outcome::Escaped(format!("{number} is {}", target.display()));
        }
        if number <= 2 && fs::metadata(entry.path()).is_ok_and(|of| of.is_dir()) {
            return Outcome::Escaped(format!("{number} is a directory"));
        }
    }
    Outcome::Held("0, 1 and 2 are all".to_owned())
}

fn leaked_working_directory(_: &World) -> Outcome {
    match fs::read_link("/proc/self/cwd") {
        Ok(path) if path.to_string_lossy().starts_with("(unreachable)") => {
            Outcome::Escaped(path.display().to_string())
        }
        Ok(path) if !path.exists() => Outcome::Escaped(format!("{} is elsewhere", path.display())),
        Ok(path) => Outcome::Held(path.display().to_string()),
        Err(error) => Outcome::Skipped(error.to_string()),
    }
}

fn parent_directories(world: &World) -> Outcome {
    let up = "../".repeat(32);
    let starts =
        ["", "/proc/self/cwd/", "/proc/self/fd/0/", "/dev/fd/1/", "/etc/", "/dev/shm/", "/sys/fs/cgroup/"];
    all_refused(starts.iter().map(|start| {
        let path = format!("{start}{up}{}", world.path.trim_start_matches('/'));
        (path.clone(), reads_secret(Path::new(&path), world))
    }))
}

fn processes() -> Vec<String> {
    let entries = fs::read_dir("/proc").map(|entries| entries.flatten().collect::<Vec<_>>());
    let names =
        entries.unwrap_or_default().into_iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect()
}

fn proc_root(world: &World) -> Outcome {
    let mut tries = Vec::new();
    for pid in processes() {
        for link in ["root", "cwd", "cwd/../../../../.."] {
            let path = format!("/proc/{pid}/{link}{}", world.path);
            tries.push((path.clone(), reads_secret(Path::new(&path), world)));
        }
    }
    all_refused(tries)
}

fn environment(world: &World) -> Outcome {
    all_refused(processes().into_iter().map(|pid| {
        let path = format!("/proc/{pid}/environ");
        let found = fs::read(&path).and_then(|bytes| {
            // Its own arguments hold the secret; the environment of no process may.
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if text.contains(&world.secret) { Ok(()) } else { Err(io::Error::other("it is not in there")) }
        });
        (path, found)
    }))
}

fn chroot_breakout(world: &World) -> Outcome {
    let tried = in_child(|| {
        let place = Path::new("/tmp/escape-chroot");
        let _ = fs::create_dir_all(place);
        call(libc::SYS_chroot, &[text("/tmp/escape-chroot")])?;
        for _ in 0..64 {
            call(libc::SYS_chdir, &[text("..")])?;
        }
        call(libc::SYS_chroot, &[text(".")])?;
        reads_secret(Path::new(&world.path), world).map_err(|_| io::Error::from_raw_os_error(libc::ENOENT))
    });
    let _ = fs::remove_dir("/tmp/escape-chroot");
    refused(tried)
}

/// The handle of the root directory of a file system is known: on ext4 inode 2.
fn open_by_handle(_: &World) -> Outcome {
    all_refused(["/etc/hosts", "/etc/resolv.conf", "/"].iter().map(|path| {
        let tried = fs::File::open(path).and_then(|mount| {
            let mut handle = Vec::new();
            handle.extend(8u32.to_ne_bytes());
            handle.extend(1i32.to_ne_bytes());
            handle.extend(2u32.to_ne_bytes());
            handle.extend(0u32.to_ne_bytes());
            call(libc::SYS_open_by_handle_at, &[mount.as_raw_fd() as usize, bytes(&handle), 0])
        });
        ((*path).to_owned(), tried)
    }))
}

fn open_namespace_by_handle(_: &World) -> Outcome {
    // FD_NSFS_ROOT and FD_PIDFS_ROOT of linux/fcntl.h.
    all_refused([-10003i32, -10002].into_iter().map(|root| {
        let mut handle = Vec::new();
        handle.extend(16u32.to_ne_bytes());
        handle.extend(0xf1u32.to_ne_bytes());
        handle.extend([0; 16]);
        let tried = call(libc::SYS_open_by_handle_at, &[root as usize, bytes(&handle), 0]);
        (root.to_string(), tried)
    }))
}

fn executable_overwrite(_: &World) -> Outcome {
    all_refused(["/proc/self/exe", "/proc/1/exe"].iter().map(|path| {
        let tried = OpenOptions::new().write(true).open(path).map(drop);
        ((*path).to_owned(), tried)
    }))
}

/// What others execute must be files of the container, or such as cannot be written.
fn executable_of_others(_: &World) -> Outcome {
    for pid in processes() {
        let path = format!("/proc/{pid}/exe");
        let (Ok(link), Ok(file)) = (fs::read_link(&path), fs::metadata(&path)) else { continue };
        let inside = fs::metadata(&link).is_ok_and(|of| (of.dev(), of.ino()) == (file.dev(), file.ino()));
        if !inside && OpenOptions::new().append(true).open(&path).is_ok() {
            return Outcome::Escaped(format!("{pid} executes {}", link.display()));
        }
    }
    Outcome::Held("they are files of the container".to_owned())
}

fn writes(paths: impl IntoIterator<Item = PathBuf>) -> Vec<(String, io::Result<()>)> {
    paths
        .into_iter()
        .filter(|path| fs::symlink_metadata(path).is_ok())
        .map(|path| (path.display().to_string(), OpenOptions::new().write(true).open(&path).map(drop)))
        .collect()
}

fn write_refused(paths: &[&str]) -> Outcome {
    all_refused(writes(paths.iter().map(PathBuf::from)))
}

fn read_refused(paths: &[&str]) -> Outcome {
    all_refused(paths.iter().filter(|path| Path::new(path).exists()).map(|path| {
        let tried = OpenOptions::new().read(true).open(path).map(drop);
        ((*path).to_owned(), tried)
    }))
}

fn empty(paths: &[&str]) -> Outcome {
    for path in paths {
        if let Ok(mut file) = fs::File::open(path) {
            let mut byte = [0];
            if matches!(io::Read::read(&mut file, &mut byte), Ok(1)) {
                return Outcome::Escaped((*path).to_owned());
            }
        }
    }
    Outcome::Held("nothing is in there".to_owned())
}

fn empty_directories(paths: &[&str]) -> Outcome {
    for path in paths {
        if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
            return Outcome::Escaped((*path).to_owned());
        }
    }
    Outcome::Held("nothing is in there".to_owned())
}

fn cgroup_directories() -> Vec<PathBuf> {
    let top = PathBuf::from("/sys/fs/cgroup");
    let below =
        fs::read_dir(&top).map(|entries| entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>());
    std::iter::once(top).chain(below.unwrap_or_default()).filter(|path| path.is_dir()).collect()
}

fn release_agent(_: &World) -> Outcome {
    all_refused(writes(
        cgroup_directories()
            .into_iter()
            .map(|of| of.join("release_agent"))
            .chain(cgroup_directories().into_iter().map(|of| of.join("notify_on_release"))),
    ))
}

fn cgroup_write(_: &World) -> Outcome {
    const FILES: [&str; 7] = [
        "cgroup.procs",
        "tasks",
        "memory.limit_in_bytes",
        "cpu.cfs_quota_us",
        "pids.max",
        "memory.max",
        "cgroup.subtree_control",
    ];
    let files = cgroup_directories().into_iter().flat_map(|of| FILES.map(|file| of.join(file)));
    all_refused(writes(files))
}

fn cgroup_make(_: &World) -> Outcome {
    all_refused(cgroup_directories().into_iter().map(|of| {
        let path = of.join("escape");
        let made = fs::create_dir(&path);
        let _ = fs::remove_dir(&path);
        (path.display().to_string(), made)
    }))
}

fn devices_allow(_: &World) -> Outcome {
    all_refused(writes(cgroup_directories().into_iter().map(|of| of.join("devices.allow"))))
}

fn proc_sys_write(_: &World) -> Outcome {
    const FILES: [&str; 9] = [
        "kernel/panic",
        "kernel/poweroff_cmd",
        "kernel/randomize_va_space",
        "kernel/ns_last_pid",
        "vm/overcommit_memory",
        "vm/drop_caches",
        "fs/file-max",
        "net/ipv4/ip_forward",
        "kernel/shmmax",
    ];
    write_refused(&FILES.map(|file| &*Box::leak(format!("/proc/sys/{file}").into_boxed_str())))
}

/// Tries to open for writing every file below a directory.
fn walk_writes(top: &str, depth: usize) -> Outcome {
    const FILES_MAX: usize = 4000;
    let mut files = Vec::new();
    let mut directories = vec![(PathBuf::from(top), depth)];
    while let Some((directory, depth)) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && depth > 0 {
                directories.push((entry.path(), depth - 1));
            } else if kind.is_file() && files.len() < FILES_MAX {
                files.push(entry.path());
            }
        }
    }
    all_refused(writes(files))
}

fn debug_file_systems(_: &World) -> Outcome {
    empty_directories(&[
        "/sys/kernel/debug",
        "/sys/kernel/tracing",
        "/sys/kernel/security",
        "/sys/kernel/config",
        "/sys/fs/bpf",
        "/sys/fs/pstore",
        "/sys/firmware/efi/efivars",
    ])
}

/// A masked file must be the null device itself, not what a link in the image made of it.
fn masked_paths(_: &World) -> Outcome {
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"] {
        let Ok(of) = fs::metadata(path) else { continue };
        if of.file_type().is_dir() && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none()) {
            continue;
        }
        if !of.file_type().is_char_device() || of.rdev() != libc::makedev(1, 3) {
            return Outcome::Escaped(format!("{path} is {:?}", of.file_type()));
        }
    }
    Outcome::Held("masked files are the null device".to_owned())
}

fn file_system(path: &str) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let of = |line: &str| {
        let mut fields = line.split(' ');
        Some((fields.nth(1)?.to_owned(), fields.next()?.to_owned()))
    };
    mounts.lines().filter_map(of).filter(|(at, _)| at == path).map(|(_, kind)| kind).next_back()
}

fn proc_is_procfs(_: &World) -> Outcome {
    let links = ["/proc", "/sys", "/dev"]
        .iter()
        .any(|path| fs::symlink_metadata(path).is_ok_and(|of| of.is_symlink()));
    match (file_system("/proc").as_deref(), file_system("/sys").as_deref(), links) {
        (Some("proc"), Some("sysfs"), false) => Outcome::Held("/proc is procfs, /sys is sysfs".to_owned()),
        other => Outcome::Escaped(format!("{other:?}")),
    }
}

fn attribute_files(_: &World) -> Outcome {
    let proc = fs::metadata("/proc").map(|of| of.dev()).unwrap_or_default();
    for path in ["/proc/self/attr/current", "/proc/self/oom_score_adj", "/proc/self/setgroups"] {
        if fs::metadata(path).is_ok_and(|of| of.dev() != proc) {
            return Outcome::Escaped(format!("{path} is no file of procfs"));
        }
    }
    Outcome::Held("they are files of procfs".to_owned())
}

fn runtime_sockets(_: &World) -> Outcome {
    let paths = [
        "/var/run/docker.sock",
        "/run/docker.sock",
        "/run/containerd/containerd.sock",
        "/run/wharf",
        "/var/lib/wharf",
        "/run/systemd/private",
    ];
    match paths.iter().find(|path| Path::new(path).exists()) {
        Some(path) => Outcome::Escaped((*path).to_owned()),
        None => Outcome::Held("there are none".to_owned()),
    }
}

fn immutable_flag(_: &World) -> Outcome {
    const SET_FLAGS: usize = 0x4008_6602;
    const IMMUTABLE: u64 = 0x10;
    let path = "/escape-immutable";
    let tried = fs::File::create(path).and_then(|file| {
        call(libc::SYS_ioctl, &[file.as_raw_fd() as usize, SET_FLAGS, bytes(&IMMUTABLE.to_ne_bytes())])
    });
    if tried.is_ok()
        && let Ok(file) = fs::File::open(path)
    {
        let _ = call(libc::SYS_ioctl, &[file.as_raw_fd() as usize, SET_FLAGS, bytes(&0u64.to_ne_bytes())]);
    }
    let _ = fs::remove_file(path);
    let _ = HERE;
    refused(tried)
}
