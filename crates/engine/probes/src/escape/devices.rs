//! Ways over devices: nodes of one's own, and those that are there.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::call::{HERE, bytes, call, text};
use crate::{Outcome, Probe, World, all_refused};

pub const PROBES: &[Probe] = &[
    ("raw-disk", raw_disk),
    ("memory-device", |_| nodes(&[("mem", 'c', 1, 1), ("kmem", 'c', 1, 2), ("port", 'c', 1, 4)])),
    ("kernel-log-device", |_| nodes(&[("kmsg", 'c', 1, 11)])),
    ("fuse-device", |_| nodes(&[("fuse", 'c', 10, 229)])),
    ("tunnel-device", |_| nodes(&[("tun", 'c', 10, 200)])),
    ("loop-control-device", |_| nodes(&[("loop-control", 'c', 10, 237), ("loop0", 'b', 7, 0)])),
    ("virtual-machine-device", |_| nodes(&[("kvm", 'c', 10, 232), ("vhost-vsock", 'c', 10, 241)])),
    ("userfaultfd-device", |_| nodes(&[("userfaultfd", 'c', 10, 257)])),
    ("console-devices", |_| nodes(&[("tty0", 'c', 4, 0), ("vcs", 'c', 7, 0), ("ttyS0", 'c', 4, 64)])),
    ("device-nodes", device_nodes),
    ("terminal-injection-tiocsti", terminal_injection),
    ("terminals-of-others", terminals),
];

/// Makes each node wherever one can be made, and opens it.
fn nodes(list: &[(&str, char, u32, u32)]) -> Outcome {
    let mut tries = Vec::new();
    for place in ["/", "/dev/", "/tmp/", "/dev/shm/", "/run/"] {
        for (name, kind, major, minor) in list {
            let path = format!("{place}escape-{name}");
            tries.push((path.clone(), open_node(&path, *kind, *major, *minor)));
        }
    }
    all_refused(tries)
}

fn open_node(path: &str, kind: char, major: u32, minor: u32) -> io::Result<()> {
    let mode = if kind == 'b' { libc::S_IFBLK } else { libc::S_IFCHR } | 0o600;
    let device = libc::makedev(major, minor) as usize;
    call(libc::SYS_mknodat, &[HERE, text(path), mode as usize, device])?;
    let opened = OpenOptions::new().read(true).open(path).map(drop);
    let _ = fs::remove_file(path);
    // What this kernel does not have proves nothing; what is refused does.
    match opened {
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
        other => other,
    }
}

fn raw_disk(_: &World) -> Outcome {
    let partitions = fs::read_to_string("/proc/partitions").unwrap_or_default();
    let mut disks = Vec::new();
    for line in partitions.lines().skip(2) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [major, minor, _, name] = fields[..] {
            disks.push((name.to_owned(), major.parse().unwrap_or(0), minor.parse().unwrap_or(0)));
        }
    }
    // A disk of a virtual machine, and a usual one, where the list is hidden.
    disks.extend([("vda".to_owned(), 254, 0), ("sda".to_owned(), 8, 0)]);
    all_refused(
        disks.into_iter().map(|(name, major, minor)| {
            (name.clone(), open_node(&format!("/escape-{name}"), 'b', major, minor))
        }),
    )
}

/// Everything below /dev is what every container has.
fn device_nodes(_: &World) -> Outcome {
    const KNOWN: [(u32, u32); 9] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, 0)];
    for entry in fs::read_dir("/dev").into_iter().flatten().flatten() {
        let Ok(of) = fs::symlink_metadata(entry.path()) else { continue };
        let device = (libc::major(of.rdev()), libc::minor(of.rdev()));
        if of.file_type().is_block_device() || (of.file_type().is_char_device() && !KNOWN.contains(&device)) {
            return Outcome::Escaped(format!("{} is {device:?}", entry.path().display()));
        }
    }
    Outcome::Held("they are those of every container".to_owned())
}

/// Types into the terminal that started us: through a standard stream that is one.
fn terminal_injection(_: &World) -> Outcome {
    let mut tries = Vec::new();
    for path in ["/dev/tty", "/dev/console", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"] {
        let opened = OpenOptions::new().read(true).write(true).open(path);
        let tried = opened.and_then(|file| {
            call(libc::SYS_ioctl, &[file.as_raw_fd() as usize, libc::TIOCSTI as usize, bytes(b"\n")])
        });
        tries.push((path.to_owned(), tried));
    }
    all_refused(tries)
}

fn terminals(_: &World) -> Outcome {
    let found = fs::read_dir("/dev/pts").into_iter().flatten().flatten().map(|entry| entry.path());
    let foreign = found.filter(|path| path != Path::new("/dev/pts/ptmx") && path != Path::new("/dev/pts/0"));
    match foreign.into_iter().next() {
        Some(path) => Outcome::Escaped(path.display().to_string()),
        None => Outcome::Held("there are none".to_owned()),
    }
}
