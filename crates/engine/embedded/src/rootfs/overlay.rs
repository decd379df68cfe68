//! The root of a container: its image's layers below a writable one.
//!
//! With private users every layer, the writable one included, is reached through a mount that maps
//! owners, so that files keep on disk the ids that containers know. One such mount serves all layers
//! below the directory that they have in common: to let go of a mount costs a grace period of RCU,
//! unless it goes together with others.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags};

use super::{Context, Depth, Step, clone_mount, map_owners};
use crate::host::OverlayLayers;
use crate::plan::Plan;

/// Mounts the root somewhere in our mount namespace, which is about to be left.
pub fn mount(plan: &Plan<'_>) -> Step<OwnedFd> {
    let (upper, work) = (plan.upper_dir.clone(), plan.work_dir.clone());
    let mut layers = Layers::new(plan, [&upper, &work])?;
    match plan.overlay {
        OverlayLayers::ByDescriptor => {}
        OverlayLayers::ByText => return mount_by_text(plan, &layers, &upper, &work),
    }
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).step("open overlayfs")?;
    let context = context.as_fd();
    for layer in &plan.layers {
        layers.set(context, "lowerdir+", layer)?;
    }
    layers.set(context, "upperdir", &upper)?;
    layers.set(context, "workdir", &work)?;
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

/// The way to the layers.
enum Layers<'a> {
    AsTheyAre,
    Mapped {
        users: BorrowedFd<'a>,
        base: PathBuf,
        mount: OwnedFd,
        /// Where it is attached.
        at: &'a Path,
        /// What is not below `base` in one file system has a mount of its own, until the overlay is
        /// there.
        others: Vec<OwnedFd>,
    },
}

impl<'a> Layers<'a> {
    fn new(plan: &'a Plan<'_>, more: [&PathBuf; 2]) -> Step<Self> {
        let Some(users) = &plan.credentials.users else { return Ok(Self::AsTheyAre) };
        let base = common_ancestor(plan.layers.iter().chain(more));
        let what = format!("map the owners of {}", base.display());
        let mount = clone_mount(&base, Depth::One).step(&what)?;
        let users = users.fd.as_fd();
        map_owners(&mount, users, &base)?;
        // Attached, it goes with all other mounts of this namespace at once.
        let at = plan.mask_dir.as_path();
        rustix::mount::move_mount(&mount, "", rustix::fs::CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .step(&what)?;
        Ok(Self::Mapped { users, base, mount, at, others: Vec::new() })
    }

    fn set(&mut self, context: BorrowedFd<'_>, key: &str, path: &Path) -> Step<()> {
        let what = || format!("open the layer {}", path.display());
        let layer = self.open(path)?;
        rustix::mount::fsconfig_set_fd(context, key, layer.as_fd()).map_err(|error| (what(), error.into()))
    }

    fn open(&mut self, path: &Path) -> Step<OwnedFd> {
        let what = || format!("open the layer {}", path.display());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let plain = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| (what(), error.into()))?;
        let Self::Mapped { users, base, mount, others, .. } = self else { return Ok(plain) };
        let below = below(base, path);
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mapped = rustix::fs::openat2(&*mount, below, flags, Mode::empty(), resolve);
        if let Ok(mapped) = mapped
            && same_file(&plain, &mapped).step(&what())?
        {
            return Ok(mapped);
        }
        let own = clone_mount(path, Depth::One).step(&what())?;
        map_owners(&own, *users, path)?;
        let again = own.try_clone().step(&what())?;
        others.push(own);
        Ok(again)
    }

    /// The layer's path for a text of options.
    fn path(&self, path: &Path) -> PathBuf {
        match self {
            Self::AsTheyAre => path.to_owned(),
            Self::Mapped { base, at, .. } => at.join(below(base, path)),
        }
    }
}

fn below<'p>(base: &Path, path: &'p Path) -> &'p Path {
    match path.strip_prefix(base) {
        Ok(rest) if !rest.as_os_str().is_empty() => rest,
        _ => Path::new("."),
    }
}

fn same_file(one: &OwnedFd, other: &OwnedFd) -> rustix::io::Result<bool> {
    let (one, other) = (rustix::fs::fstat(one)?, rustix::fs::fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

fn common_ancestor<'p>(paths: impl Iterator<Item = &'p PathBuf>) -> PathBuf {
    paths
        .map(PathBuf::as_path)
        .fold(None, |common: Option<PathBuf>, path| {
            Some(match common {
                None => path.to_owned(),
                Some(common) => common
                    .components()
                    .zip(path.components())
                    .take_while(|(one, other)| one == other)
                    .map(|(component, _)| component)
                    .collect(),
            })
        })
        .unwrap_or_else(|| PathBuf::from("/"))
}

/// For kernels before 6.13: one text of at most a page.
fn mount_by_text(plan: &Plan<'_>, layers: &Layers<'_>, upper: &Path, work: &Path) -> Step<OwnedFd> {
    const OPTIONS_BYTES_MAX: usize = 4095;
    let mut options = b"volatile,metacopy=off,lowerdir=".to_vec();
    for (index, layer) in plan.layers.iter().enumerate() {
        if index > 0 {
            options.push(b':');
        }
        push_escaped(&mut options, &layers.path(layer));
    }
    options.extend(b",upperdir=");
    push_escaped(&mut options, &layers.path(upper));
    options.extend(b",workdir=");
    push_escaped(&mut options, &layers.path(work));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_have_the_directory_in_common_that_holds_them_all() {
        let of = |paths: &[&str]| common_ancestor(paths.iter().map(PathBuf::from).collect::<Vec<_>>().iter());
        assert_eq!(of(&["/a/b/c", "/a/b/d"]), Path::new("/a/b"));
        assert_eq!(of(&["/a/bc", "/a/b"]), Path::new("/a"));
        assert_eq!(of(&["/a", "/b"]), Path::new("/"));
        assert_eq!(of(&["/a/b"]), Path::new("/a/b"));
        assert_eq!(below(Path::new("/a"), Path::new("/a/b/c")), Path::new("b/c"));
        assert_eq!(below(Path::new("/a"), Path::new("/a")), Path::new("."));
    }
}
