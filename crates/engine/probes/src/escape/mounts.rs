//! Ways over mounts and namespaces.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;

use crate::call::{HERE, call, call_in_child, in_child, text};
use crate::{Outcome, Probe, World, all_refused, refused};

pub const PROBES: &[Probe] = &[
    ("mount-tmpfs", |_| mount("tmpfs", "tmpfs", 0, "")),
    ("mount-proc", |_| mount("proc", "proc", 0, "")),
    ("mount-sysfs", |_| mount("sysfs", "sysfs", 0, "")),
    ("mount-cgroup-v1", |_| mount("cgroup", "cgroup", 0, "memory")),
    ("mount-cgroup-v2", |_| mount("cgroup2", "cgroup2", 0, "")),
    ("mount-overlay", |_| mount("overlay", "overlay", 0, "lowerdir=/etc:/dev")),
    ("mount-debugfs", |_| mount("debugfs", "debugfs", 0, "")),
    ("mount-devtmpfs", |_| mount("devtmpfs", "devtmpfs", 0, "")),
    ("mount-bind", |_| mount("/etc", "", libc::MS_BIND, "")),
    ("remount-proc-sys-writable", |_| remount("/proc/sys")),
    ("remount-cgroup-writable", |_| remount("/sys/fs/cgroup")),
    ("remount-root", |_| remount("/")),
    ("unmount-masks", unmount_masks),
    ("pivot-root", |_| refused(call_in_child(libc::SYS_pivot_root, &[text("."), text(".")]))),
    ("new-mount-interface", new_mount_interface),
    ("clone-mount-tree", |_| refused(call(libc::SYS_open_tree, &[HERE, text("/"), 1]))),
    ("change-mount-attributes", change_attributes),
    ("unshare-user", |_| unshare(libc::CLONE_NEWUSER)),
    ("unshare-mount", |_| unshare(libc::CLONE_NEWNS)),
    ("unshare-pid", |_| unshare(libc::CLONE_NEWPID)),
    ("unshare-network", |_| unshare(libc::CLONE_NEWNET)),
    ("unshare-cgroup-cve-2022-0492", |_| unshare(libc::CLONE_NEWCGROUP)),
    ("unshare-user-and-network", |_| unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)),
    ("clone-user-namespace", clone_user),
    ("clone3-user-namespace", clone3_user),
    ("enter-namespaces-of-init", enter_init),
    ("enter-namespaces-of-host", enter_host),
    ("owner-of-namespace", owner_of_namespace),
    ("user-map-write", user_map),
    ("host-name", |_| refused(call(libc::SYS_sethostname, &[text("escape"), 6]))),
    ("domain-name", |_| refused(call(libc::SYS_setdomainname, &[text("escape"), 6]))),
];

fn mount(source: &str, kind: &str, flags: u64, data: &str) -> Outcome {
    let place = "/tmp/escape-mount";
    let _ = fs::create_dir_all(place);
    let arguments = [text(source), text(place), text(kind), flags as usize, text(data)];
    let tried = call(libc::SYS_mount, &arguments);
    if tried.is_ok() {
        let _ = call(libc::SYS_umount2, &[text(place), libc::MNT_DETACH as usize]);
    }
    let _ = fs::remove_dir(place);
    refused(tried)
}

fn remount(path: &str) -> Outcome {
    let flags = (libc::MS_REMOUNT | libc::MS_BIND) as usize;
    refused(call_in_child(libc::SYS_mount, &[text("none"), text(path), 0, flags, 0]))
}

fn unmount_masks(_: &World) -> Outcome {
    all_refused(["/proc/kcore", "/proc/keys", "/sys/firmware", "/proc/sys"].iter().map(|path| {
        let tried = call_in_child(libc::SYS_umount2, &[text(path), libc::MNT_DETACH as usize]);
        ((*path).to_owned(), tried)
    }))
}

fn new_mount_interface(_: &World) -> Outcome {
    refused(call(libc::SYS_fsopen, &[text("tmpfs"), 0]))
}

fn change_attributes(_: &World) -> Outcome {
    // Clears MOUNT_ATTR_RDONLY.
    let attributes: [u64; 4] = [0, 1, 0, 0];
    let pointer = attributes.as_ptr() as usize;
    refused(call_in_child(libc::SYS_mount_setattr, &[HERE, text("/proc/sys"), 0, pointer, 32]))
}

fn unshare(namespaces: i32) -> Outcome {
    refused(call_in_child(libc::SYS_unshare, &[namespaces as usize]))
}

fn clone_user(_: &World) -> Outcome {
    let flags = (libc::CLONE_NEWUSER | libc::SIGCHLD) as usize;
    refused(in_child(|| match call(libc::SYS_clone, &[flags, 0, 0, 0, 0])? {
        // The grandchild, with our memory: it ends as its parent does.
        0 => Ok(()),
        _ => Ok(()),
    }))
}

fn clone3_user(_: &World) -> Outcome {
    let mut arguments = [0u64; 11];
    arguments[0] = libc::CLONE_NEWUSER as u64;
    arguments[4] = libc::SIGCHLD as u64;
    let pointer = arguments.as_ptr() as usize;
    refused(in_child(|| call(libc::SYS_clone3, &[pointer, size_of_val(&arguments)]).map(drop)))
}

const NAMESPACES: [&str; 7] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];

fn enter(pid: &str) -> Outcome {
    all_refused(NAMESPACES.iter().map(|name| {
        let path = format!("/proc/{pid}/ns/{name}");
        let own = fs::read_link(format!("/proc/self/ns/{name}")).ok();
        let tried = fs::File::open(&path).and_then(|file| {
            if fs::read_link(&path).ok() == own {
                return Err(io::Error::other("it is our own"));
            }
            in_child(|| call(libc::SYS_setns, &[file.as_raw_fd() as usize, 0]).map(drop))
        });
        (path, tried)
    }))
}

fn enter_init(_: &World) -> Outcome {
    enter("1")
}

fn enter_host(world: &World) -> Outcome {
    enter(&world.pid.to_string())
}

/// The user namespace that owns another one of ours, and its parent.
fn owner_of_namespace(_: &World) -> Outcome {
    const GET_USER: usize = 0xb701;
    const GET_PARENT: usize = 0xb702;
    let own = fs::read_link("/proc/self/ns/user").ok();
    let mut tries = Vec::new();
    for (name, request) in
        [("pid", GET_USER), ("mnt", GET_USER), ("net", GET_USER), ("user", GET_PARENT), ("pid", GET_PARENT)]
    {
        let tried = fs::File::open(format!("/proc/self/ns/{name}")).and_then(|file| {
            let found = call(libc::SYS_ioctl, &[file.as_raw_fd() as usize, request])?;
            if request == GET_USER && fs::read_link(format!("/proc/self/fd/{found}")).ok() == own {
                return Err(io::Error::other("it is our own"));
            }
            Ok(())
        });
        tries.push((format!("{name} {request:#x}"), tried));
    }
    all_refused(tries)
}

fn user_map(_: &World) -> Outcome {
    all_refused(["uid_map", "gid_map", "projid_map"].iter().map(|file| {
        let tried = fs::write(format!("/proc/self/{file}"), "0 0 4294967295\n");
        ((*file).to_owned(), tried)
    }))
}
