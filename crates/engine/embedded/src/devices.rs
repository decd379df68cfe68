//! The host's devices that a container is given, looked up before a process exists.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Dir, FileType, Mode, OFlags};
use wharf_engine::{ContainerSpec, Device, DeviceAccess, EngineError, Privileges};

use crate::cgroup::{DeviceControl, DeviceRules};
use crate::host::{Host, io_error};
use crate::plan::{Plan, check_target, unsupported};

/// A privileged container sees no more devices than that.
const NODES_MAX: usize = 4096;
/// Deeper than `/dev/bus/usb/001/002`.
const DEPTH_MAX: usize = 8;
/// Below `/dev`, what a container has of its own.
const OWN: [&str; 6] = ["pts", "shm", "mqueue", "fd", "console", "ptmx"];

/// A device node to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub target: String,
    pub block: bool,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub access: DeviceAccess,
}

impl Node {
    fn from_stat(target: String, stat: &rustix::fs::Stat, access: DeviceAccess) -> Option<Self> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !kind.is_char_device() && !kind.is_block_device() {
            return None;
        }
        Some(Self {
            target,
            block: kind.is_block_device(),
            major: rustix::fs::major(stat.st_rdev),
            minor: rustix::fs::minor(stat.st_rdev),
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            access,
        })
    }
}

/// What the devices of a container mean to its control group.
pub fn rules(plan: &Plan<'_>) -> DeviceRules {
    if plan.spec.privileges == Privileges::Privileged {
        return DeviceRules::All;
    }
    if plan.devices.is_empty() {
        return DeviceRules::Default;
    }
    let rule = |node: &Node| {
        let letters = [(node.access.read, 'r'), (node.access.write, 'w'), (node.access.make, 'm')];
        let access: String = letters.iter().filter(|(has, _)| *has).map(|(_, letter)| letter).collect();
        format!("{} {}:{} {access}", if node.block { 'b' } else { 'c' }, node.major, node.minor)
    };
    DeviceRules::More(plan.devices.iter().map(rule).collect())
}

/// # Errors
/// `Unsupported` for what is no device, and for a limit on access that this host cannot enforce.
pub fn resolve(host: &Host, spec: &ContainerSpec) -> Result<Vec<Node>, EngineError> {
    let mut nodes: Vec<Node> =
        spec.devices.iter().map(|device| resolve_one(host, device)).collect::<Result<_, _>>()?;
    if spec.privileges == Privileges::Privileged {
        let failed = |error: rustix::io::Errno| io_error("list the host's devices", &error.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dev = host.open_on_host(Path::new("/dev"), flags).map_err(failed)?;
        list(&dev, "/dev", DEPTH_MAX, &mut nodes).map_err(failed)?;
    }
    Ok(nodes)
}

fn resolve_one(host: &Host, device: &Device) -> Result<Node, EngineError> {
    let what = format!("the device {}", device.source.display());
    check_target(&device.target)?;
    let stat = host
        .open_on_host(&device.source, OFlags::PATH)
        .and_then(rustix::fs::fstat)
        .map_err(|error| unsupported(&what, &std::io::Error::from(error).to_string()))?;
    let node = Node::from_stat(device.target.clone(), &stat, device.access)
        .ok_or_else(|| unsupported(&what, "it is no device"))?;
    if host.driver.device_control() == DeviceControl::None {
        if device.access != DeviceAccess::ALL {
            return Err(unsupported(
                &format!("{what} with less access than all"),
                "without the v1 devices controller access cannot be held back",
            ));
        }
        if !device.target.starts_with("/dev/") {
            return Err(unsupported(
                &format!("{what} at {}", device.target),
                "without the v1 devices controller a container's root has no devices outside /dev",
            ));
        }
    }
    Ok(node)
}

/// Every device below an open directory.
fn list(directory: impl AsFd, path: &str, depth: usize, nodes: &mut Vec<Node>) -> rustix::io::Result<()> {
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name.starts_with('.') || (path == "/dev" && OWN.contains(&name)) {
            continue;
        }
        // What goes away while we look is not there.
        let Ok(stat) = rustix::fs::statat(&directory, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let target = format!("{path}/{name}");
        if FileType::from_raw_mode(stat.st_mode).is_dir() && depth > 0 {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            if let Ok(below) = rustix::fs::openat(&directory, name, flags, Mode::empty()) {
                list(below, &target, depth - 1, nodes)?;
            }
        } else if let Some(node) = Node::from_stat(target, &stat, DeviceAccess::ALL)
            && nodes.len() < NODES_MAX
            && !nodes.iter().any(|known| known.target == node.target)
        {
            nodes.push(node);
        }
    }
    Ok(())
}
