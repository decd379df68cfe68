//! How far a sandbox and its containers are kept from the host and from each other.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Whose user ids the processes of a sandbox have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Users {
    /// The host's: root inside is root outside, held by capabilities, filter and namespaces alone.
    #[default]
    Host,
    /// A user namespace with 65,536 ids of the sandbox's own: root inside is nobody outside. The
    /// engine chooses the range and keeps it as long as the sandbox lives. Images and volumes keep
    /// their owners on disk. Takes Linux 5.19 and a file system with idmapped mounts.
    Private,
    /// As [`Users::Private`] where this host can, else as [`Users::Host`].
    PrivateWherePossible,
}

/// Which processes a container sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidMode {
    /// Its own: its first process is process 1.
    #[default]
    Container,
    /// Those of all containers of its sandbox. Process 1 is an init of the engine's that reaps. Ends
    /// a container's first process, the others of that container are killed.
    Sandbox,
    /// The host's. Not for sandboxes with [`Users::Private`].
    Host,
}

/// With whom a container shares System V objects, POSIX message queues and `/dev/shm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpcMode {
    /// With nobody.
    #[default]
    Container,
    /// With all containers of its sandbox. `/dev/shm` is as large as the largest
    /// [`crate::ContainerSpec::shm_bytes`] that one of them asked for.
    Sandbox,
    /// With the host. Not for sandboxes with [`Users::Private`].
    Host,
    /// With nobody, and without `/dev/shm`.
    None,
}

/// A kernel parameter of the sandbox's namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// As `net.core.somaxconn`, sysctl(8). Of `net.`, `fs.mqueue.` and the System V parameters of
    /// `kernel.` alone: all others are the host's.
    pub name: String,
    pub value: String,
}

/// A device of the host in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// A character or block device.
    pub source: PathBuf,
    /// Where it is in the container, an absolute path. Made when missing.
    pub target: String,
    pub access: DeviceAccess,
}

/// What a container may do with a device. Docker's default is all three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAccess {
    pub read: bool,
    pub write: bool,
    /// Make a node of it, mknod(2).
    pub make: bool,
}

impl DeviceAccess {
    pub const ALL: Self = Self { read: true, write: true, make: true };

    /// From `rwm`, any of the letters once, in any order.
    pub fn parse(text: &str) -> Option<Self> {
        let mut access = Self { read: false, write: false, make: false };
        for letter in text.chars() {
            let field = match letter {
                'r' => &mut access.read,
                'w' => &mut access.write,
                'm' => &mut access.make,
                _ => return None,
            };
            if std::mem::replace(field, true) {
                return None;
            }
        }
        (!text.is_empty()).then_some(access)
    }
}

/// Whether a container is kept from the host at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Privileges {
    /// By capabilities, system call filter, masked paths and the list of its devices.
    #[default]
    Confined,
    /// By its namespaces alone: every capability, call and device of the host is open to it, as with
    /// `docker run --privileged`. Not for sandboxes with [`Users::Private`].
    Privileged,
}

/// What process 1 of a container is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Init {
    /// The container's own program.
    #[default]
    Program,
    /// A tiny init that starts the program, forwards signals to it, reaps what is orphaned, and ends
    /// with the program's exit code.
    Reaper,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_access_is_read_letter_by_letter() {
        assert_eq!(DeviceAccess::parse("mrw"), Some(DeviceAccess::ALL));
        assert_eq!(DeviceAccess::parse("r"), Some(DeviceAccess { read: true, write: false, make: false }));
        for bad in ["", "x", "rr", "rw "] {
            assert_eq!(DeviceAccess::parse(bad), None, "{bad:?}");
        }
    }
}
