//! The fake's files: a container has what a test puts there, and what is copied in is kept.

use std::collections::BTreeMap;

use tokio::io::AsyncReadExt as _;

use super::Sim;
use crate::copy::{Archive, CopyOwner, CopyRoot, FileStat};
use crate::error::EngineError;
use crate::spec::ContainerId;

/// A bound on what a test copies in.
const ARCHIVE_BYTES_MAX: u64 = 16 << 20;

#[derive(Default)]
pub(super) struct Files {
    there: BTreeMap<(ContainerId, String), (FileStat, Vec<u8>)>,
    copied_in: Vec<CopiedIn>,
}

/// What [`crate::Engine::copy_in`] was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedIn {
    pub container: ContainerId,
    pub directory: String,
    pub archive: Vec<u8>,
    pub owner: CopyOwner,
}

impl Sim {
    /// The container has this file; copied out, it gives this archive.
    pub fn put_file(&self, container: &ContainerId, path: &str, stat: FileStat, archive: impl Into<Vec<u8>>) {
        let key = (container.clone(), path.to_owned());
        self.world.lock().files.there.insert(key, (stat, archive.into()));
    }

    /// What was copied into containers, oldest first.
    pub fn copied_in(&self) -> Vec<CopiedIn> {
        self.world.lock().files.copied_in.clone()
    }

    pub(super) fn file(&self, root: &CopyRoot, path: &str) -> Result<(FileStat, Vec<u8>), EngineError> {
        let container = self.container_of(root)?;
        let key = (container, path.to_owned());
        let file = self.world.lock().files.there.get(&key).cloned();
        file.ok_or_else(|| EngineError::NoPath {
            path: path.to_owned(),
            message: "no such file or directory".to_owned(),
        })
    }

    pub(super) async fn take_archive(
        &self,
        root: &CopyRoot,
        directory: &str,
        archive: Archive,
        owner: CopyOwner,
    ) -> Result<(), EngineError> {
        let container = self.container_of(root)?;
        let mut bytes = Vec::new();
        archive
            .take(ARCHIVE_BYTES_MAX)
            .read_to_end(&mut bytes)
            .await
            .map_err(|error| EngineError::Internal { message: error.to_string() })?;
        let copied = CopiedIn { container, directory: directory.to_owned(), archive: bytes, owner };
        self.world.lock().files.copied_in.push(copied);
        Ok(())
    }

    fn container_of(&self, root: &CopyRoot) -> Result<ContainerId, EngineError> {
        match root {
            CopyRoot::Running(container) => {
                self.operation(|world, _| world.status(container)).map(|status| status.id)
            }
            CopyRoot::Stopped { spec, .. } => Ok(spec.id.clone()),
        }
    }
}
