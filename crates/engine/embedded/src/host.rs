//! What this host can do, found once, and the sandboxes on it.
//!
//! A [`Host`] holds descriptors only: control group directories, the host's root and its mount
//! namespace, so it goes on working inside a spawner that has left the host's mounts behind.
//! Everything it makes lives below `sandboxes_dir` and in cgroups named `wharf-<instance>`:
//!
//! ```text
//! <sandboxes_dir>/.skeleton/            mount points, the lowest layer of every root
//! <sandboxes_dir>/.mask/                an empty directory to hide others with
//! <sandboxes_dir>/<sandbox>/hosts|hostname|resolv.conf
//! <sandboxes_dir>/<sandbox>/netns       where the caller gave none
//! <sandboxes_dir>/<sandbox>/c/<container>/upper|work
//! <sandboxes_dir>/<sandbox>/v/<volume>/
//! <sandboxes_dir>/../volumes/<volume>/data/
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use wharf_engine::{
    ContainerId, ContainerSpec, EngineError, Resources, SandboxId, SandboxSpec, Stats, Users, VolumeName,
    WritableLayer,
};

use crate::capability::{Capability, CapabilitySet};
use crate::cgroup::{self, CgroupError, CgroupMounts, ContainerLimits, DeviceRules, Driver, Freezer, Kind};
use crate::cleaner::{self, Cleaner};
use crate::init::InitProgram;
use crate::kits::{self, Kits};
use crate::rlimit::Raise;
use crate::seccomp::Filters;
use crate::users::{self, UserNamespaces};
use crate::{etc, netns, plan, sys, sysctl, volume};

/// The oldest kernel that has `mount_setattr`, `openat2`, `close_range` and `clone3` with all flags.
const KERNEL_MIN: (u32, u32) = (5, 12);
const INSTANCE_BYTES_MAX: usize = 32;
const OVERLAYFS_MAGIC: i64 = 0x794c_7630;

/// Where an engine keeps its things.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Names our cgroups: 1 to 32 lower-case letters, digits and hyphens. Two engines on a host have
    /// different ones.
    pub instance: String,
    /// Made if missing; ours alone.
    pub sandboxes_dir: PathBuf,
}

/// Why containers cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("containers need root: the capability SYS_ADMIN is missing")]
    NotRoot,
    #[error("the kernel is too old: Linux {}.{} or newer is needed, this is {found}", KERNEL_MIN.0, KERNEL_MIN.1)]
    Kernel { found: String },
    #[error(
        "the kernel has no overlayfs: load its module with `modprobe overlay`, or take a kernel that has it"
    )]
    NoOverlay,
    #[error(
        "the directory {} is on overlayfs, which cannot hold the writable layer of another: \
         choose one on another filesystem",
        .0.display()
    )]
    OverlayOnOverlay(PathBuf),
    #[error(
        "the instance name {0:?} is not 1 to {INSTANCE_BYTES_MAX} lower-case letters, digits and hyphens"
    )]
    Instance(String),
    #[error("control groups: {0}")]
    Cgroup(#[from] CgroupError),
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
}

/// How overlayfs takes its layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlayLayers {
    /// One by one by descriptor (Linux 6.13): any number of them, of any path.
    ByDescriptor,
    /// As one text of at most a page.
    ByText,
}

/// A host that can run containers.
#[derive(Debug)]
pub struct Host {
    pub(crate) config: HostConfig,
    pub(crate) driver: Box<dyn Driver>,
    pub(crate) filters: FilterCache,
    pub(crate) overlay: OverlayLayers,
    pub(crate) permitted: CapabilitySet,
    /// A spawner's, which has no time to remove directories itself.
    pub(crate) cleaner: OnceLock<Cleaner>,
    kits: Kits,
    root: OwnedFd,
    pub(crate) mount_namespace: OwnedFd,
    /// The host's, for what is made after one was made elsewhere.
    pub(crate) pid_namespace: OwnedFd,
    /// The host's `/proc`, which a spawner has no mount of.
    pub(crate) proc: OwnedFd,
    pub(crate) user_namespaces: UserNamespaces,
    private_users: OnceLock<bool>,
    pub(crate) init: InitProgram,
    /// Holding it keeps cgroup moves fast, see [`favor_moves`].
    _moves: Option<OwnedFd>,
}

/// [`Filters`] with a `Debug` that does not print programs.
#[derive(Default)]
pub(crate) struct FilterCache(pub Filters);

impl std::fmt::Debug for FilterCache {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("FilterCache")
    }
}

impl Host {
    /// Looks at the host, and makes `sandboxes_dir` and the parent groups.
    pub fn detect(config: HostConfig) -> Result<Self, HostError> {
        let instance_is_name = (1..=INSTANCE_BYTES_MAX).contains(&config.instance.len())
            && config.instance.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !instance_is_name {
            return Err(HostError::Instance(config.instance));
        }
        let permitted = sys::permitted_capabilities().map_err(failed("read our capabilities"))?;
        if !permitted.has(Capability::SYS_ADMIN) {
            return Err(HostError::NotRoot);
        }
        check_kernel()?;
        let overlay = find_overlay()?;

        let mut config = config;
        make_private_directory(&config.sandboxes_dir).map_err(failed("make the sandboxes directory"))?;
        config.sandboxes_dir =
            config.sandboxes_dir.canonicalize().map_err(failed("find the sandboxes directory"))?;
        let filesystem = rustix::fs::statfs(&config.sandboxes_dir)
            .map_err(|error| failed("look at the sandboxes directory")(error.into()))?;
        if i128::from(filesystem.f_type) == i128::from(OVERLAYFS_MAGIC) {
            return Err(HostError::OverlayOnOverlay(config.sandboxes_dir));
        }
        make_skeleton(&config.sandboxes_dir).map_err(failed("make the skeleton layer"))?;

        let mountinfo = fs::read_to_string("/proc/self/mountinfo").map_err(failed("read the mounts"))?;
        let driver = cgroup::detect(&CgroupMounts::parse(&mountinfo), &config.instance, cgroup::Open::Make)?;
        let moves = match driver.kind() {
            Kind::V1 | Kind::Hybrid => favor_moves(&config.instance),
            Kind::V2 => None,
        };
        let open = |path: &str, flags| {
            rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| failed(&format!("open {path}"))(error.into()))
        };
        Ok(Self {
            driver,
            filters: FilterCache::default(),
            overlay,
            permitted,
            cleaner: OnceLock::new(),
            kits: Kits::default(),
            root: open("/", OFlags::PATH | OFlags::DIRECTORY)?,
            mount_namespace: open("/proc/self/ns/mnt", OFlags::RDONLY)?,
            pid_namespace: open("/proc/self/ns/pid", OFlags::RDONLY)?,
            proc: open("/proc", OFlags::PATH | OFlags::DIRECTORY)?,
            user_namespaces: UserNamespaces::default(),
            private_users: OnceLock::new(),
            init: InitProgram::default(),
            _moves: moves,
            config,
        })
    }

    /// For a log: which of its ways the engine has taken.
    pub fn kernel_summary(&self) -> String {
        let cgroup = match self.driver.kind() {
            Kind::V1 => "v1",
            Kind::Hybrid => "hybrid",
            Kind::V2 => "v2",
        };
        let layers = match self.overlay {
            OverlayLayers::ByDescriptor => "by descriptor",
            OverlayLayers::ByText => "as text",
        };
        let moves = if self._moves.is_some() { ", cgroup moves favored" } else { "" };
        format!("cgroup {cgroup}, overlay layers {layers}{moves}")
    }

    pub fn config(&self) -> &HostConfig {
        &self.config
    }

    pub(crate) fn raise_limits(&self) -> Raise {
        if self.permitted.has(Capability::SYS_RESOURCE) { Raise::Allowed } else { Raise::Refused }
    }

    pub(crate) fn sandbox_dir(&self, sandbox: &SandboxId) -> PathBuf {
        self.config.sandboxes_dir.join(sandbox.as_str())
    }

    pub(crate) fn container_dir(&self, sandbox: &SandboxId, container: &ContainerId) -> PathBuf {
        self.sandbox_dir(sandbox).join("c").join(container.as_str())
    }

    /// What a container writes to: its own directory, or one that it shares with later containers of
    /// the sandbox. No container's id starts with a dot.
    pub(crate) fn writable_dir(&self, sandbox: &SandboxId, spec: &ContainerSpec) -> PathBuf {
        match &spec.writable_layer {
            WritableLayer::Own => self.container_dir(sandbox, &spec.id),
            WritableLayer::Kept(name) => self.sandbox_dir(sandbox).join("c").join(format!(".kept-{name}")),
        }
    }

    pub(crate) fn skeleton_dir(&self) -> PathBuf {
        self.config.sandboxes_dir.join(SKELETON)
    }

    /// Holds the named volumes: `volumes` beside the sandboxes directory. Made with the first one, and
    /// never removed: volumes outlive the engine.
    pub fn volumes_dir(&self) -> PathBuf {
        self.config.sandboxes_dir.with_file_name(VOLUMES)
    }

    pub(crate) fn mask_dir(&self) -> PathBuf {
        self.config.sandboxes_dir.join(MASK)
    }

    /// Opens a path as the host sees it, whatever mount namespace we are in.
    pub(crate) fn open_on_host(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT)
    }

    /// Makes the sandbox: groups with limits, files, and a network namespace where none is given.
    /// Repeatable.
    pub fn create_sandbox(&self, spec: &SandboxSpec) -> Result<(), EngineError> {
        let files = etc::render(spec)?;
        plan::check_sandbox(spec)?;
        if let Some(path) = &spec.netns {
            netns::check(self, path)?;
        }
        let directory = self.sandbox_dir(&spec.id);
        let step = |what: &str| {
            let what = format!("{what} of sandbox {}", spec.id);
            move |error: io::Error| io_error(&what, &error)
        };
        if !directory.exists() {
            self.kits.take(&self.config.sandboxes_dir, &directory);
        }
        make_private_directory(&directory.join("c")).map_err(step("make the directory"))?;
        for (name, text) in
            [("hosts", &files.hosts), ("hostname", &files.hostname), ("resolv.conf", &files.resolv_conf)]
        {
            let file = directory.join(name);
            fs::write(&file, text).and_then(|()| readable_by_all(&file)).map_err(step("write the files"))?;
        }
        if self.gives_users(spec)? {
            users::assign(&self.config.sandboxes_dir, &directory, &spec.id)?;
        }
        volume::make_of_sandbox(self, spec).map_err(step("make the volumes"))?;
        if spec.netns.is_none() {
            netns::pin(self.mount_namespace.as_fd(), &directory.join("netns"))
                .map_err(step("make the network namespace"))?;
        }
        sysctl::apply_network(self, &netns::path(self, spec), spec, &directory)?;
        self.driver.create_sandbox(&spec.id, &spec.resources).map_err(|error| cgroup_error(&error))
    }

    /// Whether the sandbox gets users of its own.
    fn gives_users(&self, spec: &SandboxSpec) -> Result<bool, EngineError> {
        let possible = || *self.private_users.get_or_init(|| users::are_possible(self));
        match spec.users {
            Users::Host => Ok(false),
            Users::PrivateWherePossible => Ok(possible()),
            Users::Private if possible() => Ok(true),
            Users::Private => Err(plan::unsupported(
                "a sandbox with users of its own",
                "it takes Linux 5.19, and a file system with idmapped mounts",
            )),
        }
    }

    /// Kills what is left in the sandbox and removes its groups and directories. Repeatable. The
    /// network namespace that was given to it is its giver's.
    pub fn remove_sandbox(&self, sandbox: &SandboxId) -> Result<(), EngineError> {
        self.driver.remove_sandbox(sandbox).map_err(|error| cgroup_error(&error))?;
        let directory = self.sandbox_dir(sandbox);
        sysctl::restore_network(self, &directory);
        let range = users::of_sandbox(&directory)
            .map_err(|error| io_error(&format!("read the user ids of sandbox {sandbox}"), &error))?;
        let netns = directory.join("netns");
        if netns.exists() {
            netns::unpin(self.mount_namespace.as_fd(), &netns)
                .map_err(|error| io_error(&format!("remove the network namespace of {sandbox}"), &error))?;
        }
        self.throw_away(&directory)
            .map_err(|error| io_error(&format!("remove the directory of sandbox {sandbox}"), &error))?;
        self.user_namespaces.forget(sandbox);
        range
            .map_or(Ok(()), |range| users::release(&self.config.sandboxes_dir, range))
            .map_err(|error| io_error(&format!("give back the user ids of sandbox {sandbox}"), &error))
    }

    /// Kills what is left in the container's groups, and removes them and its writable layer.
    /// Repeatable. Ask [`Host::oom_killed`] before.
    pub fn clean_container(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<(), EngineError> {
        self.driver.remove_container(sandbox, container).map_err(|error| cgroup_error(&error))?;
        self.throw_away(&self.container_dir(sandbox, container))
            .map_err(|error| io_error(&format!("remove the files of container {container}"), &error))
    }

    fn throw_away(&self, directory: &Path) -> io::Result<()> {
        match self.cleaner.get().map(|cleaner| cleaner.take(directory)) {
            Some(Ok(())) => Ok(()),
            _ => remove_tree(directory),
        }
    }

    /// Removes every sandbox of an earlier life that is not in `keep`, and what earlier lives threw
    /// away.
    pub fn sweep(&self, keep: &BTreeSet<SandboxId>) -> Result<(), EngineError> {
        empty(&cleaner::trash_dir(&self.config.sandboxes_dir))
            .map_err(|error| io_error("remove what was thrown away", &error))?;
        let mut found: BTreeSet<SandboxId> = self
            .driver
            .sandboxes()
            .map_err(|error| cgroup_error(&error))?
            .into_iter()
            .filter_map(SandboxId::new)
            .collect();
        let entries = fs::read_dir(&self.config.sandboxes_dir)
            .map_err(|error| io_error("list the sandboxes directory", &error))?;
        found.extend(
            entries.flatten().filter_map(|entry| SandboxId::new(entry.file_name().into_string().ok()?)),
        );
        found
            .iter()
            .filter(|sandbox| !keep.contains(*sandbox))
            .try_for_each(|sandbox| self.remove_sandbox(sandbox))?;
        users::sweep(&self.config.sandboxes_dir)
            .map_err(|error| io_error("give back the user ids of removed sandboxes", &error))
    }

    /// Removes what [`Host::detect`] made, once every sandbox is gone and the spawners have ended.
    pub fn tear_down(&self) -> Result<(), EngineError> {
        self.sweep(&BTreeSet::new())?;
        self.driver.remove_instance().map_err(|error| cgroup_error(&error))?;
        remove_tree(&self.config.sandboxes_dir)
            .map_err(|error| io_error("remove the sandboxes directory", &error))
    }

    /// # Errors
    /// `Unsupported` for a device that is none.
    pub(crate) fn container_limits<'a>(
        &self,
        resources: &'a Resources,
        devices: DeviceRules,
    ) -> Result<ContainerLimits<'a>, EngineError> {
        let number = |limit: &wharf_engine::BlockLimit| {
            let stat = self.open_on_host(&limit.device, OFlags::PATH).and_then(rustix::fs::fstat);
            let reason = match stat {
                Ok(stat) if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_block_device() => {
                    return Ok((rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)));
                }
                Ok(_) => "it is no block device".to_owned(),
                Err(error) => io::Error::from(error).to_string(),
            };
            let what = format!("a limit on the I/O of {}", limit.device.display());
            Err(EngineError::Unsupported { what, reason })
        };
        let block_devices = resources.block_io.limits.iter().map(number).collect::<Result<_, _>>()?;
        Ok(ContainerLimits { resources, block_devices, devices })
    }

    /// Kills what is left in the container's groups and removes them; its writable layer stays.
    pub fn clean_groups(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<(), EngineError> {
        self.driver.remove_container(sandbox, container).map_err(|error| cgroup_error(&error))
    }

    /// The control groups of programs beside the container's own; none if it is gone.
    pub fn exec_groups(&self, sandbox: &SandboxId, container: &ContainerId) -> Vec<String> {
        self.driver.execs(sandbox, container).unwrap_or_default()
    }

    /// Kills what is left in such a group and removes it. Repeatable.
    pub fn remove_exec(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
        group: &str,
    ) -> Result<(), EngineError> {
        self.driver.remove_exec(sandbox, container, group).map_err(|error| cgroup_error(&error))
    }

    /// Removes a named volume with its files. Repeatable.
    pub fn remove_volume(&self, volume: &VolumeName) -> Result<(), EngineError> {
        self.throw_away(&self.volumes_dir().join(volume.as_str()))
            .map_err(|error| io_error(&format!("remove the files of volume {volume}"), &error))
    }

    /// Freezes or thaws a container, and waits until it is done.
    pub fn freeze(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
        to: Freezer,
    ) -> Result<(), EngineError> {
        self.driver.freeze(sandbox, container, to).map_err(|error| cgroup_error(&error))
    }

    /// Whether a container is frozen; one that is gone is not.
    pub fn frozen(&self, sandbox: &SandboxId, container: &ContainerId) -> Freezer {
        self.driver.frozen(sandbox, container).unwrap_or(Freezer::Thawed)
    }

    /// What a container uses, but for the network. Cheap: a few small reads.
    pub fn stats(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<Stats, EngineError> {
        self.driver.stats(sandbox, container, cgroup::Reading::Once).map_err(|error| match error.errno() {
            Some(Errno::NOENT | Errno::NODEV) => EngineError::NoContainer(container.clone()),
            _ => cgroup_error(&error),
        })
    }

    /// The processes of a running container. Cheap: a small read.
    pub fn processes(&self, sandbox: &SandboxId, container: &ContainerId) -> Result<Vec<u32>, EngineError> {
        self.driver.processes(sandbox, container).map_err(|error| match error.errno() {
            Some(Errno::NOENT | Errno::NODEV) => EngineError::NoContainer(container.clone()),
            _ => cgroup_error(&error),
        })
    }

    /// Whether the kernel killed a process of the container for want of memory. Cheap; to be asked
    /// once the container has exited and before it is cleaned.
    pub fn oom_killed(&self, sandbox: &SandboxId, container: &ContainerId) -> bool {
        self.driver.oom_kills(sandbox, container).is_ok_and(|kills| kills > 0)
    }
}

const SKELETON: &str = ".skeleton";
const VOLUMES: &str = "volumes";
const MASK: &str = ".mask";

fn failed(what: &str) -> impl FnOnce(io::Error) -> HostError {
    let what = format!("cannot {what}");
    move |source| HostError::Io { what, source }
}

fn check_kernel() -> Result<(), HostError> {
    if kernel_version() < KERNEL_MIN {
        let found = rustix::system::uname().release().to_string_lossy().into_owned();
        return Err(HostError::Kernel { found });
    }
    Ok(())
}

/// Its first two numbers.
pub(crate) fn kernel_version() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn find_overlay() -> Result<OverlayLayers, HostError> {
    let context =
        rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| match error {
            Errno::NODEV => HostError::NoOverlay,
            other => failed("open overlayfs")(other.into()),
        })?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| failed("open /")(error.into()))?;
    let by_descriptor = rustix::mount::fsconfig_set_fd(context.as_fd(), "lowerdir+", root.as_fd()).is_ok();
    Ok(if by_descriptor { OverlayLayers::ByDescriptor } else { OverlayLayers::ByText })
}

/// What a container sees must not depend on the umask of the process that prepared it.
fn readable_by_all(file: &Path) -> io::Result<()> {
    fs::set_permissions(file, fs::Permissions::from_mode(0o644))
}

/// The mount points that every container needs, so that making them writes nothing to its layer.
fn make_skeleton(sandboxes_dir: &Path) -> io::Result<()> {
    let skeleton = sandboxes_dir.join(SKELETON);
    for directory in ["", "proc", "sys", "dev", "etc"] {
        let directory = skeleton.join(directory);
        fs::create_dir_all(&directory)?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
    }
    for file in ["hosts", "hostname", "resolv.conf"] {
        let file = skeleton.join("etc").join(file);
        fs::OpenOptions::new().create(true).append(true).open(&file)?;
        readable_by_all(&file)?;
    }
    make_private_directory(&sandboxes_dir.join(MASK))?;
    make_private_directory(&users::taken_dir(sandboxes_dir))?;
    make_private_directory(&kits::pool_dir(sandboxes_dir))?;
    make_private_directory(&cleaner::trash_dir(sandboxes_dir))
}

/// Makes `write(cgroup.procs)` take microseconds where it takes a grace period of RCU (5 to 15 ms).
///
/// `favordynmods` (Linux 6.0) is an option of a hierarchy with an effect on all. Rather than to change
/// the options of the host's hierarchies we mount one of our own, without controllers and attached
/// nowhere; it is gone with its last descriptor. Forks and exits get a little dearer meanwhile.
fn favor_moves(instance: &str) -> Option<OwnedFd> {
    let mount = || -> Result<OwnedFd, Errno> {
        let context = rustix::mount::fsopen("cgroup", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_flag(context.as_fd(), "none")?;
        rustix::mount::fsconfig_set_string(context.as_fd(), "name", format!("wharf-{instance}"))?;
        rustix::mount::fsconfig_set_flag(context.as_fd(), "favordynmods")?;
        rustix::mount::fsconfig_create(context.as_fd())?;
        rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    };
    // An older kernel: everything works, slower.
    mount().ok()
}

fn make_private_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn empty(directory: &Path) -> io::Result<()> {
    fs::read_dir(directory)?.try_for_each(|entry| remove_tree(&entry?.path()))
}

/// An I/O error in the engine's words: what is exhausted is told apart from what is broken.
pub(crate) fn io_error(what: &str, error: &io::Error) -> EngineError {
    let resource = match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => "disk space",
        Some(libc::ENOMEM) => "memory",
        Some(libc::EMFILE | libc::ENFILE) => "descriptors",
        Some(libc::EAGAIN) => "processes",
        _ => return EngineError::Internal { message: format!("cannot {what}: {error}") },
    };
    EngineError::Exhausted { resource: resource.into(), message: format!("cannot {what}: {error}") }
}

pub(crate) fn cgroup_error(error: &CgroupError) -> EngineError {
    let source = error.errno().map(|errno| format!(": {}", io::Error::from(errno))).unwrap_or_default();
    let message = format!("{error}{source}");
    if let CgroupError::Unsupported { what, reason } = error {
        return EngineError::Unsupported { what: what.clone(), reason: reason.clone() };
    }
    match error.errno() {
        Some(Errno::NOSPC | Errno::AGAIN) => {
            EngineError::Exhausted { resource: "control groups".into(), message }
        }
        _ => EngineError::Internal { message },
    }
}
