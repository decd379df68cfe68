use wharf_engine::EngineError;
use wharf_engine::copy::{Archive, CopyOwner, CopyRoot, FileStat, FollowLink};

use super::KeeperEngine;

fn later<T>() -> Result<T, EngineError> {
    Err(EngineError::Unsupported {
        what: "copying".to_owned(),
        reason: "this engine does not do it".to_owned(),
    })
}

pub async fn stat_file(
    _: &KeeperEngine,
    _: &CopyRoot,
    _: &str,
    _: FollowLink,
) -> Result<FileStat, EngineError> {
    later()
}

pub async fn copy_out(
    _: &KeeperEngine,
    _: &CopyRoot,
    _: &str,
    _: FollowLink,
) -> Result<(FileStat, Archive), EngineError> {
    later()
}

pub async fn copy_in(
    _: &KeeperEngine,
    _: &CopyRoot,
    _: &str,
    _: Archive,
    _: CopyOwner,
) -> Result<(), EngineError> {
    later()
}
