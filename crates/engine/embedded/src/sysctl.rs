//! Kernel parameters of a sandbox: those of its namespaces, and no others.
//!
//! They are written through the host's `/proc/sys`, where a look-up gives the values of whoever looks:
//! of the network namespace when the sandbox is made, of the ipc namespace when it is. What the
//! network namespace had before comes back when the sandbox goes: it is its giver's.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use wharf_engine::{EngineError, IpcMode, SandboxSpec, Sysctl};

use crate::host::{Host, io_error};
use crate::plan::unsupported;

const PROC_MAGIC: i128 = 0x9fa0;
const NAME_BYTES_MAX: usize = 256;
const VALUE_BYTES_MAX: usize = 4096;
/// In the sandbox's directory: where the namespace is, then what it had, one `name value` a line.
const BEFORE: &str = "sysctls";

/// Of the ipc namespace, beside `fs.mqueue.`: Docker's list.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// The namespace that a parameter belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Network,
    Ipc,
}

fn kind(name: &str) -> Option<Kind> {
    let well_formed = name.len() <= NAME_BYTES_MAX
        && name.split('.').all(|part| {
            !part.is_empty()
                && part != "."
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'/'))
                && part.split('/').all(|name| !name.is_empty())
        });
    if !well_formed {
        return None;
    }
    if name.starts_with("net.") {
        Some(Kind::Network)
    } else if name.starts_with("fs.mqueue.") || IPC.contains(&name) {
        Some(Kind::Ipc)
    } else {
        None
    }
}

/// # Errors
/// `Unsupported` for a parameter that is not of a namespace which the sandbox has for itself.
pub fn check(spec: &SandboxSpec) -> Result<(), EngineError> {
    for Sysctl { name, value } in &spec.sysctls {
        let refused = |reason: &str| Err(unsupported(&format!("the kernel parameter {name}"), reason));
        match kind(name) {
            None => return refused("it is not one of the sandbox's namespaces, but the host's"),
            Some(Kind::Ipc) if spec.ipc == IpcMode::Host => {
                return refused("the sandbox shares the ipc namespace of the host");
            }
            Some(_) if value.len() > VALUE_BYTES_MAX || value.contains(['\0', '\n']) => {
                return refused("its value is not one line");
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Writes the parameters of the ipc namespace that the caller is in.
pub fn apply_ipc(proc: &OwnedFd, sysctls: &[Sysctl]) -> io::Result<()> {
    sysctls
        .iter()
        .filter(|sysctl| kind(&sysctl.name) == Some(Kind::Ipc))
        .try_for_each(|sysctl| write(proc, &sysctl.name, &sysctl.value))
}

/// Writes the parameters of the sandbox's network namespace. Repeatable.
pub fn apply_network(
    host: &Host,
    netns: &Path,
    spec: &SandboxSpec,
    directory: &Path,
) -> Result<(), EngineError> {
    let wanted: Vec<_> = spec.sysctls.iter().filter(|of| kind(&of.name) == Some(Kind::Network)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let failed = |error: io::Error| io_error("set kernel parameters of the network", &error);
    let before = directory.join(BEFORE);
    within(host, netns, || {
        if !before.exists() {
            let mut text = String::new();
            for sysctl in &wanted {
                let value = read(&host.proc, &sysctl.name)?;
                text.push_str(&format!("{} {}\n", sysctl.name, value.trim_end()));
            }
            // The namespace's path, then what it had.
            fs::write(&before, format!("{}\n{text}", netns.display()))?;
        }
        wanted.iter().try_for_each(|sysctl| {
            write(&host.proc, &sysctl.name, &sysctl.value).map_err(|error| {
                io::Error::new(error.kind(), format!("{} = {:?}: {error}", sysctl.name, sysctl.value))
            })
        })
    })
    .map_err(failed)
}

/// Gives the network namespace back as it was. Best effort: the namespace may be gone.
pub fn restore_network(host: &Host, directory: &Path) {
    let Ok(before) = fs::read_to_string(directory.join(BEFORE)) else { return };
    let Some((netns, before)) = before.split_once('\n') else { return };
    let _ = within(host, Path::new(netns), || {
        for (name, value) in before.lines().filter_map(|line| line.split_once(' ')) {
            let _ = write(&host.proc, name, value);
        }
        Ok(())
    });
}

/// Does `work` in a network namespace. The calling thread comes back to its own.
fn within(host: &Host, netns: &Path, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let network = Some(LinkNameSpaceType::Network);
    let own = rustix::fs::openat(
        &host.proc,
        "thread-self/ns/net",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let target = host.open_on_host(netns, OFlags::RDONLY)?;
    move_into_link_name_space(target.as_fd(), network)?;
    let done = work();
    move_into_link_name_space(own.as_fd(), network)?;
    done
}

fn open(proc: &OwnedFd, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let path = format!("sys/{}", name.replace('.', "/"));
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let file = rustix::fs::openat2(proc, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    // What is written must be a kernel parameter, whatever stands in the way.
    if i128::from(rustix::fs::fstatfs(&file)?.f_type) != PROC_MAGIC {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(file)
}

fn write(proc: &OwnedFd, name: &str, value: &str) -> io::Result<()> {
    let file = open(proc, name, OFlags::WRONLY)?;
    Ok(rustix::io::write(&file, value.as_bytes()).map(drop)?)
}

fn read(proc: &OwnedFd, name: &str) -> io::Result<String> {
    let file = open(proc, name, OFlags::RDONLY)?;
    let mut buffer = [0; VALUE_BYTES_MAX];
    let length = rustix::io::read(&file, &mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[cfg(test)]
mod tests {
    use wharf_engine::SandboxId;

    use super::*;

    fn spec(name: &str, value: &str) -> SandboxSpec {
        let sysctls = vec![Sysctl { name: name.into(), value: value.into() }];
        SandboxSpec { sysctls, ..SandboxSpec::new(SandboxId::new("s").unwrap()) }
    }

    #[test]
    fn parameters_of_namespaces_are_taken_and_the_hosts_are_not() {
        for good in
            ["net.core.somaxconn", "net.ipv4.ip_local_port_range", "kernel.shmmax", "fs.mqueue.msg_max"]
        {
            assert!(check(&spec(good, "1")).is_ok(), "{good}");
        }
        for bad in [
            "kernel.core_pattern",
            "kernel.modprobe",
            "vm.swappiness",
            "fs.file-max",
            "kernel.hostname",
            "net",
            "net.",
            "net..core",
            "net.../../kernel/core_pattern",
            "net./../kernel",
            "",
        ] {
            assert!(check(&spec(bad, "1")).is_err(), "{bad:?}");
        }
        assert!(check(&spec("net.core.somaxconn", "1\n2")).is_err());
        let shared = SandboxSpec { ipc: IpcMode::Host, ..spec("kernel.shmmax", "1") };
        assert!(check(&shared).is_err());
    }
}
