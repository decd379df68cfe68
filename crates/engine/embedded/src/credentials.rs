//! What is left to a container's program of the powers of its maker.
//!
//! Decided before a process exists ([`Credentials::of`]), carried out right before `execve`
//! ([`drop_privileges`]): by the first process of a container, and by those that join it later.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{FileType, Gid, Uid};
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
};
use seccompiler::BpfProgram;
use wharf_engine::{EngineError, Privileges, ProcessSpec, SandboxSpec, Users};

use crate::capability::{Capability, CapabilitySet};
use crate::cgroup::DeviceControl;
use crate::container::EXIT_NOT_EXECUTABLE;
use crate::host::{Host, io_error};
use crate::rootfs::{Context, Step};
use crate::shared::{self, Init};
use crate::sys;
use crate::user::Identity;
use crate::users::{self, UserNamespace};

#[derive(Clone)]
pub(crate) struct Credentials {
    /// Bounding, permitted and effective.
    pub capabilities: CapabilitySet,
    /// `None`: every system call is open.
    pub filter: Option<Arc<BpfProgram>>,
    pub no_new_privileges: bool,
    /// `None`: the host's users.
    pub users: Option<UserNamespace>,
}

impl Credentials {
    /// # Errors
    /// `Unsupported` for a capability that nobody has, or that this host does not give to us.
    pub fn of(
        host: &Host,
        sandbox: &SandboxSpec,
        process: &ProcessSpec,
        privileges: Privileges,
    ) -> Result<Self, EngineError> {
        let users = user_namespace(host, sandbox)?;
        if privileges == Privileges::Privileged {
            return Ok(Self {
                capabilities: CapabilitySet::all().intersection(host.permitted),
                filter: None,
                no_new_privileges: process.no_new_privileges,
                users,
            });
        }
        let mut capabilities = CapabilitySet::resolve(&process.capabilities_add, &process.capabilities_drop)?;
        if users.is_none() {
            for name in &process.capabilities_add {
                // `ALL` means all that we have ourselves.
                if let Some(capability) = Capability::parse(name)
                    && !host.permitted.has(capability)
                {
                    return Err(EngineError::Unsupported {
                        what: format!("the capability {name}"),
                        reason: "this host does not give it to us".into(),
                    });
                }
            }
            capabilities = capabilities.intersection(host.permitted);
        }
        if host.driver.device_control() == DeviceControl::None {
            capabilities = capabilities.without(Capability::MKNOD);
        }
        let filter = host.filters.0.get(capabilities).map_err(|message| EngineError::Internal { message })?;
        Ok(Self { capabilities, filter: Some(filter), no_new_privileges: process.no_new_privileges, users })
    }

    /// Of a process that works on the sandbox's files for the engine: it gives nothing up.
    pub fn of_users(host: &Host, sandbox: &SandboxSpec) -> Result<Self, EngineError> {
        let users = user_namespace(host, sandbox)?;
        Ok(Self { capabilities: host.permitted, filter: None, no_new_privileges: false, users })
    }

    /// What an id of the container is on the host. `None`: the sandbox has no such id.
    pub fn outside_id(&self, id: u32) -> Option<u32> {
        self.users.as_ref().map_or(Some(id), |users| users.range.outside(id))
    }

    /// The user and the group on the host of what was found by [`Credentials::check`].
    pub fn outside(&self, identity: &Identity) -> (u32, u32) {
        let id = |id| self.outside_id(id).unwrap_or(u32::MAX - 1);
        (id(identity.uid), id(identity.gid))
    }

    /// # Errors
    /// `Start` when the sandbox has no such user or group.
    pub fn check(&self, identity: &Identity) -> Result<(), EngineError> {
        let ids = identity.groups.iter().chain([&identity.uid, &identity.gid]);
        match ids.copied().find(|&id| self.outside_id(id).is_none()) {
            None => Ok(()),
            Some(id) => Err(EngineError::Start {
                exit_code: EXIT_NOT_EXECUTABLE,
                message: format!("the id {id} is not one of the sandbox's {}", users::IDS),
            }),
        }
    }

    /// Makes files as the sandbox's root from now on, with all that we may do.
    pub fn make_files_as_root(&self, host: CapabilitySet) -> Step<()> {
        let Some(users) = &self.users else { return Ok(()) };
        let root = users.range.outside(0).unwrap_or_default();
        sys::set_file_owner(root, root).step("make files as the sandbox's root")?;
        sys::set_capabilities(host).step("keep the capabilities")
    }

    /// Leaves the host's users for the sandbox's: the last that is done with the host's privileges.
    pub fn enter_own_users(&self) -> Step<()> {
        let Some(users) = &self.users else { return Ok(()) };
        move_into_link_name_space(users.fd.as_fd(), Some(LinkNameSpaceType::User))
            .step("enter the user namespace")
    }

    /// As [`Credentials::enter_own_users`], for the very namespace that a container's process has: two
    /// namespaces with the same ids have no power over each other.
    pub fn enter_users_of(&self, container: BorrowedFd<'_>) -> Step<()> {
        if self.users.is_none() {
            return Ok(());
        }
        move_into_thread_name_spaces(container, ThreadNameSpaceType::USER).step("enter the user namespace")
    }
}

/// A stream that is a pipe becomes the user's, so that one who is not root may open /dev/stdout again.
pub(crate) fn give_stream(stream: BorrowedFd<'_>, owner: (u32, u32)) -> Step<()> {
    let kind = rustix::fs::fstat(stream).step("look at a standard stream")?.st_mode;
    if FileType::from_raw_mode(kind) != FileType::Fifo {
        return Ok(());
    }
    let owner = (Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)));
    rustix::fs::fchown(stream, owner.0, owner.1).step("give a standard stream to the user")
}

/// A namespace that maps the sandbox's range; `None` where it has the host's users.
fn user_namespace(host: &Host, sandbox: &SandboxSpec) -> Result<Option<UserNamespace>, EngineError> {
    if sandbox.users == Users::Host {
        return Ok(None);
    }
    let range = users::of_sandbox(&host.sandbox_dir(&sandbox.id))
        .map_err(|error| io_error("read the user ids of a sandbox", &error))?;
    match range {
        None if sandbox.users == Users::PrivateWherePossible => Ok(None),
        None => Err(EngineError::NoSandbox(sandbox.id.clone())),
        Some(range) => {
            // Those who see each other's processes have one namespace: two with the same ids have no
            // power over each other.
            if let Some(init) =
                shared::is_needed(sandbox).then(|| Init::find(host, &sandbox.id).ok()).flatten()
            {
                let fd = init
                    .user_namespace(host)
                    .map_err(|error| io_error("open the user namespace of a sandbox", &error))?;
                return Ok(Some(UserNamespace { range, fd: Arc::new(fd) }));
            }
            host.user_namespaces.of(host, &sandbox.id, range).map(Some)
        }
    }
}

/// After the sandbox's users are entered, which gives all capabilities anew. The order is forced: a filter
/// takes `CAP_SYS_ADMIN` where `no_new_privs` is not set, the bounding set `CAP_SETPCAP`, and a change
/// of user takes all of them away unless they are kept.
pub(crate) fn drop_privileges(credentials: &Credentials, identity: &Identity) -> Step<()> {
    if credentials.no_new_privileges {
        rustix::thread::set_no_new_privs(true).step("set no_new_privs")?;
    }
    sys::bound_capabilities(credentials.capabilities).step("bound the capabilities")?;
    rustix::thread::clear_ambient_capability_set().step("clear the ambient capabilities")?;
    let groups: Vec<Gid> = identity.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    rustix::thread::set_thread_groups(&groups).step("set the groups")?;
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).step("set the group")?;
    rustix::thread::set_keep_capabilities(true).step("keep the capabilities")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).step("set the user")?;
    rustix::thread::set_keep_capabilities(false).step("keep the capabilities")?;
    // A change of user empties the effective set: back with what the filter takes.
    sys::set_capabilities(credentials.capabilities.with(Capability::SYS_ADMIN))
        .step("set the capabilities")?;
    if let Some(filter) = &credentials.filter {
        sys::install_filter(filter).step("install the system call filter")?;
    }
    // Not root: nothing is left after execve anyway, and nothing before it.
    let rest = if identity.uid == 0 { credentials.capabilities } else { CapabilitySet::EMPTY };
    sys::set_capabilities(rest).step("set the capabilities")
}
