//! The volumes of a task definition, and what of them its containers mount.
//!
//! Amazon ECS Developer Guide, "Use bind mounts with Amazon ECS".

use std::collections::BTreeMap;

use wharf_core::ApiError;
use wharf_ecs_api::types;

use super::register::invalid;
use crate::fields;
use crate::names;
use crate::records::{ContainerDefinition, HostVolume, MountPoint, Volume, VolumesFrom};

const OPERATION: &str = "RegisterTaskDefinition";
/// Of ephemeral storage, in GiB (API reference, `EphemeralStorage`).
const EPHEMERAL_STORAGE_GIB: std::ops::RangeInclusive<i32> = 21..=200;
/// What a task on Fargate has without asking (Developer Guide, "Fargate task ephemeral storage").
pub const EPHEMERAL_STORAGE_GIB_DEFAULT: u32 = 20;

/// What a container says of volumes, while their names are still names.
#[derive(Debug, Default)]
pub struct Mounts {
    mount_points: Vec<types::MountPoint>,
    volumes_from: Vec<types::VolumeFrom>,
}

impl Mounts {
    pub fn of(given: &types::ContainerDefinition) -> Self {
        Self {
            mount_points: given.mount_points.clone().unwrap_or_default(),
            volumes_from: given.volumes_from.clone().unwrap_or_default(),
        }
    }
}

/// # Errors
/// `ClientException` in AWS's words; `NotImplemented` for volumes that are no directories.
pub fn volumes(given: Option<Vec<types::Volume>>) -> Result<Vec<Volume>, ApiError> {
    let mut volumes: Vec<Volume> = Vec::new();
    for volume in given.unwrap_or_default() {
        fields::check(&volume, fields::VOLUME, OPERATION)?;
        let name = volume.name.unwrap_or_default();
        if !names::is_well_formed(&name) {
            return invalid("Volume.name contains invalid characters.");
        }
        if volumes.iter().any(|known| known.name == name) {
            return invalid(format!("Duplicate volume name: '{name}'."));
        }
        let host = volume.host.map(|host| HostVolume { source_path: host.source_path });
        let path = host.as_ref().and_then(|host| host.source_path.as_deref());
        if path.is_some_and(|path| path.is_empty() || path.contains('\0')) {
            return invalid("host.sourcePath should not be blank.");
        }
        volumes.push(Volume { name, host });
    }
    Ok(volumes)
}

/// # Errors
/// `ClientException` for a size that Fargate does not have.
pub fn ephemeral_storage(given: Option<&types::EphemeralStorage>) -> Result<Option<u32>, ApiError> {
    let Some(size) = given.map(|given| given.size_in_gi_b) else { return Ok(None) };
    match u32::try_from(size) {
        Ok(gib) if EPHEMERAL_STORAGE_GIB.contains(&size) => Ok(Some(gib)),
        _ => invalid(format!(
            "EphemeralStorage size must be between {} and {} GiB.",
            EPHEMERAL_STORAGE_GIB.start(),
            EPHEMERAL_STORAGE_GIB.end()
        )),
    }
}

/// What Fargate does not take of a volume.
pub fn check_fargate(volumes: &[Volume]) -> Result<(), ApiError> {
    if volumes.iter().filter_map(|volume| volume.host.as_ref()).any(|host| host.source_path.is_some()) {
        return invalid("Fargate compatible task definitions do not support sourcePath");
    }
    Ok(())
}

/// Replaces names by indexes.
///
/// # Errors
/// `ClientException` for an unknown volume or container, a path that is none or is used twice, and
/// containers that have their volumes from each other.
pub fn link(
    containers: &mut [ContainerDefinition],
    volumes: &[Volume],
    names: &BTreeMap<String, usize>,
    given: Vec<Mounts>,
) -> Result<(), ApiError> {
    for (container, mounts) in containers.iter_mut().zip(given) {
        for mount in mounts.mount_points {
            let name = mount.source_volume.unwrap_or_default();
            let Some(volume) = volumes.iter().position(|volume| volume.name == name) else {
                return invalid(format!("Unknown volume '{name}'."));
            };
            let path = mount.container_path.unwrap_or_default();
            if !path.starts_with('/') || path.contains('\0') || path.trim_matches('/').is_empty() {
                return invalid(format!(
                    "Invalid containerPath of volume '{name}': it must be an absolute path."
                ));
            }
            if container.mount_points.iter().any(|known| known.path == path) {
                return invalid(format!("Duplicate mount point: '{path}'."));
            }
            container.mount_points.push(MountPoint { volume, path, read_only: mount.read_only });
        }
        for from in mounts.volumes_from {
            let name = from.source_container.unwrap_or_default();
            let Some(&source) = names.get(&name) else {
                return invalid(format!("Unknown volumesFrom container '{name}'."));
            };
            container.volumes_from.push(VolumesFrom { container: source, read_only: from.read_only });
        }
    }
    let from = |of: &ContainerDefinition| {
        let on = |from: &VolumesFrom| wharf_engine::order::Dependency {
            on: from.container,
            condition: wharf_engine::order::Condition::Start,
        };
        of.volumes_from.iter().map(on).collect()
    };
    if wharf_engine::order::has_cycle(&containers.iter().map(from).collect::<Vec<_>>()) {
        return invalid("There is a cycle in the volumesFrom of the containers.");
    }
    Ok(())
}
