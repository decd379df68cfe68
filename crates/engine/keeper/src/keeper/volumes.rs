//! Named volumes: which there are, and who uses them.
//!
//! A volume is a directory: `volumes/<name>/data` with its files and `volumes/<name>/volume` with what
//! is known of it. It outlives the keeper's state file, and its directory's shutdown.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wharf_core::Timestamp;
use wharf_engine::{
    ContainerId, ContainerSpec, EngineError, MountSource, VolumeName, VolumeSpec, VolumeStatus,
};

use super::clients::Caller;
use super::embedded::volume;
use super::lifecycle::{failure_of, out_of, too_many_jobs};
use super::output::Now;
use super::spawners::{Job, Outcome};
use super::{Keeper, daemon};
use crate::paths;
use crate::protocol::Answer;

const RECORD: &str = "volume";
const RECORD_NEW: &str = "volume.new";
/// A record is labels: a longer file is none of ours.
const RECORD_BYTES_MAX: u64 = 1024 * 1024;

/// MessagePack with names, so that a later release reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    #[serde(default)]
    labels: Vec<(String, String)>,
    created_at: Timestamp,
}

#[derive(Default)]
pub(super) struct Volumes {
    held: BTreeMap<VolumeName, Held>,
}

enum Held {
    There(Record),
    /// A spawner removes its files.
    Removing(Record, Vec<Caller>),
}

impl Volumes {
    /// Finds those that there are. What is not whole is passed over, and said.
    pub fn open() -> Self {
        let mut volumes = Self::default();
        let Ok(entries) = fs::read_dir(paths::VOLUMES) else { return volumes };
        for entry in entries.flatten() {
            let Some(name) = entry.file_name().to_str().and_then(VolumeName::new) else { continue };
            match read(&entry.path()) {
                Ok(record) => {
                    volumes.held.insert(name, Held::There(record));
                }
                Err(error) => daemon::note(&format!("volume {name} is passed over: {error}")),
            }
        }
        volumes
    }

    fn has(&self, volume: &VolumeName) -> bool {
        matches!(self.held.get(volume), Some(Held::There(_)))
    }
}

fn read(directory: &Path) -> io::Result<Record> {
    let path = directory.join(RECORD);
    if fs::metadata(&path)?.len() > RECORD_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    rmp_serde::from_slice(&fs::read(path)?).map_err(io::Error::other)
}

/// The record last: a volume without one was not made.
fn make(name: &VolumeName, record: &Record) -> io::Result<()> {
    let directory = directory(name);
    DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    volume::make(&volume::named(Path::new(paths::VOLUMES), name))?;
    let bytes = rmp_serde::to_vec_named(record).map_err(io::Error::other)?;
    fs::write(directory.join(RECORD_NEW), bytes)?;
    fs::rename(directory.join(RECORD_NEW), directory.join(RECORD))
}

fn directory(name: &VolumeName) -> PathBuf {
    Path::new(paths::VOLUMES).join(name.as_str())
}

impl Keeper {
    /// # Errors
    /// `NoVolume` for a volume that is not there, or is about to go.
    pub(super) fn check_volumes(&self, spec: &ContainerSpec) -> Result<(), EngineError> {
        for mount in &spec.mounts {
            if let MountSource::Named(volume) = &mount.source
                && !self.volumes.has(volume)
            {
                return Err(EngineError::NoVolume(volume.clone()));
            }
        }
        Ok(())
    }

    pub(super) fn create_volume(&mut self, spec: VolumeSpec, now: Now) -> Result<Answer, EngineError> {
        let VolumeSpec { name, labels } = spec;
        match self.volumes.held.get(&name) {
            Some(Held::There(held)) if held.labels == labels => {}
            Some(Held::There(_)) => return Err(EngineError::Conflict { what: format!("volume {name}") }),
            Some(Held::Removing(..)) => {
                return Err(EngineError::Conflict { what: format!("volume {name} is being removed, and") });
            }
            None => {
                let record = Record { labels, created_at: now.timestamp() };
                make(&name, &record).map_err(|error| out_of(&error, "the volume's directory"))?;
                self.volumes.held.insert(name.clone(), Held::There(record));
            }
        }
        let status = self.volume_status(&name);
        status.map(Answer::Volume).ok_or(EngineError::NoVolume(name))
    }

    pub(super) fn remove_volume(&mut self, caller: Caller, name: VolumeName) {
        let user = self.users_of(&name).into_iter().next();
        let result = match (self.volumes.held.get_mut(&name), user) {
            (None, _) => Ok(Answer::Done),
            (Some(_), Some(by)) => {
                Err(EngineError::InUse { what: format!("volume {name}"), by: format!("container {by}") })
            }
            (Some(Held::Removing(_, callers)), None) => return callers.push(caller),
            (Some(Held::There(_)), None) if self.spawners.is_full() => Err(too_many_jobs()),
            (Some(held @ Held::There(_)), None) => {
                if let Held::There(record) = held {
                    *held = Held::Removing(record.clone(), vec![caller]);
                }
                return self.spawners.push(Job::RemoveVolume(name));
            }
        };
        self.clients.reply(caller, result);
    }

    pub(super) fn volume_removed(&mut self, name: &VolumeName, outcome: Outcome) {
        let Some(Held::Removing(record, callers)) = self.volumes.held.remove(name) else { return };
        let result = match failure_of(outcome) {
            None => Ok(Answer::Done),
            Some(error) => {
                // It stays, and may be asked to go again.
                self.volumes.held.insert(name.clone(), Held::There(record));
                Err(error)
            }
        };
        for caller in callers {
            self.clients.reply(caller, result.clone());
        }
    }

    pub(super) fn list_volumes(&self) -> Answer {
        Answer::Volumes(self.volumes.held.keys().filter_map(|name| self.volume_status(name)).collect())
    }

    /// Its path is relative to the keeper's directory: the client knows where that is.
    fn volume_status(&self, name: &VolumeName) -> Option<VolumeStatus> {
        let Some(Held::There(record)) = self.volumes.held.get(name) else { return None };
        Some(VolumeStatus {
            name: name.clone(),
            labels: record.labels.clone(),
            created_at: record.created_at,
            path: volume::named(Path::new(paths::VOLUMES), name),
            used_by: self.users_of(name),
        })
    }

    fn users_of(&self, name: &VolumeName) -> Vec<ContainerId> {
        let users = self.containers.values().filter(|container| container.mounts_volume(name));
        let mut users: Vec<ContainerId> = users.map(|container| container.id.clone()).collect();
        users.sort();
        users
    }
}
