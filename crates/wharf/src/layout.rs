//! What stands where in a data directory, and who listens there.
//!
//! ```text
//! DATA/
//!   state/        the journal: records and history
//!   images/       the content store
//!   vault.key     the key that secrets in the state are sealed with
//!   engine/       sandboxes, container logs, the keeper's state file and socket
//!   run/          admin.sock, server.json, bind mounts of network namespaces
//!   wharf.log     what a detached server says
//! ```

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::failure::{Context as _, Failure, Result};

/// The default data directory.
pub const DEFAULT_DIRECTORY: &str = "/var/lib/wharf";

#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// An absolute form of the directory, which need not exist.
    pub fn new(directory: &Path) -> Result<Self> {
        let root = std::path::absolute(directory)
            .context(|| format!("cannot find the data directory {}", directory.display()))?;
        Ok(Self { root })
    }

    /// Makes the directories that are missing; only their owner may look inside.
    pub fn create(&self) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        for directory in [self.root.clone(), self.state(), self.images(), self.engine(), self.run()] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory)
                .context(|| format!("cannot make the data directory {}", directory.display()))?;
        }
        Ok(())
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn exists(&self) -> bool {
        self.state().is_dir()
    }

    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub fn engine(&self) -> PathBuf {
        self.root.join("engine")
    }

    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    pub fn vault_key(&self) -> PathBuf {
        self.root.join("vault.key")
    }

    pub fn log(&self) -> PathBuf {
        self.root.join("wharf.log")
    }

    fn server_file(&self) -> PathBuf {
        self.run().join("server.json")
    }

    /// A path to the admin socket that fits into a socket address however deep the data directory
    /// lies. It works for as long as the value lives.
    pub fn admin_socket(&self) -> Result<SocketPath> {
        let run = self.run();
        let directory =
            rustix::fs::open(&run, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .context(|| format!("cannot open {}", run.display()))?;
        Ok(SocketPath { directory })
    }

    pub fn write_server(&self, server: &ServerFile) -> Result<()> {
        let path = self.server_file();
        let text = serde_json::to_vec_pretty(server).context(|| "cannot encode server.json".to_owned())?;
        let temporary = path.with_extension("json.new");
        std::fs::write(&temporary, text).context(|| format!("cannot write {}", temporary.display()))?;
        std::fs::rename(&temporary, &path).context(|| format!("cannot write {}", path.display()))
    }

    pub fn remove_server(&self) {
        let _ = std::fs::remove_file(self.server_file());
    }

    /// What the server of this directory wrote when it was ready.
    pub fn read_server(&self) -> Result<ServerFile> {
        let path = self.server_file();
        let text = std::fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => not_running(self),
            std::io::ErrorKind::PermissionDenied => Failure::new(format!("cannot read {}", path.display()))
                .because(&error)
                .hint("the data directory belongs to root: use sudo"),
            _ => Failure::new(format!("cannot read {}", path.display())).because(&error),
        })?;
        serde_json::from_slice(&text).context(|| format!("{} is not what a server writes", path.display()))
    }
}

/// No server runs on this data directory.
pub fn not_running(layout: &Layout) -> Failure {
    Failure::new(format!("no Wharf is running on {}", layout.root.display()))
        .hint("start one with `wharf up`, or name another directory with `--data-dir`")
}

pub struct SocketPath {
    directory: OwnedFd,
}

impl SocketPath {
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/admin.sock", self.directory.as_raw_fd()))
    }
}

/// How to reach a server, for the commands that run beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerFile {
    pub pid: u32,
    pub endpoint: String,
    pub account: String,
    pub region: String,
    pub access_key_id: String,
    pub secret_access_key: String,
    pub data_dir: PathBuf,
}
