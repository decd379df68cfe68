//! The state file of release 0.1: format 1, postcard, which tells nothing of its own shape. What it
//! looked like then is written down here and never changes; it is read once, at the upgrade.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wharf_core::Timestamp;
use wharf_engine::{ContainerId, HostEntry, SandboxId, SandboxResources};

use super::{Entry, ProcessRef, Version};
use crate::fingerprint::Fingerprint;

/// The protocol that the keepers of this format spoke.
const PROTOCOL: Version = 1;

#[derive(Serialize, Deserialize)]
pub enum Entry1 {
    Opened {
        format: u32,
        boot_id: String,
    },
    SandboxMade {
        spec: SandboxSpec1,
        created_at: Timestamp,
    },
    SandboxGone(SandboxId),
    Starting {
        container: ContainerId,
        sandbox: SandboxId,
        fingerprint: Fingerprint,
        labels: Vec<(String, String)>,
    },
    Started {
        container: ContainerId,
        process: ProcessRef,
        at: Timestamp,
    },
    Stopping {
        container: ContainerId,
        kill_at: Timestamp,
    },
    Exited {
        container: ContainerId,
        exit: ExitStatus1,
    },
    NotStarted(ContainerId),
}

#[derive(Serialize, Deserialize)]
pub struct SandboxSpec1 {
    pub id: SandboxId,
    pub hostname: String,
    pub netns: Option<PathBuf>,
    pub resources: SandboxResources1,
    pub name_servers: Vec<IpAddr>,
    pub search_domains: Vec<String>,
    pub hosts: Vec<HostEntry1>,
    pub labels: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
pub struct SandboxResources1 {
    pub cpu_millis: Option<u32>,
    pub memory_bytes: Option<u64>,
    pub pids_max: Option<u32>,
}

#[derive(Serialize, Deserialize)]
pub struct HostEntry1 {
    pub address: IpAddr,
    pub names: Vec<String>,
}

#[derive(Serialize, Deserialize)]
pub struct ExitStatus1 {
    pub at: Timestamp,
    pub code: Option<i32>,
    pub oom_killed: bool,
    pub start_error: Option<String>,
}

/// Whether a record is of this format. Its first one was `Opened`, postcard's variant 0; a later
/// format's record is a map of MessagePack, which starts above 0x80.
pub fn is_mine(first_record: &[u8]) -> bool {
    first_record.first() == Some(&0)
}

/// `None` when it cannot be read.
pub fn decode(body: &[u8]) -> Option<Entry> {
    Some(match postcard::from_bytes(body).ok()? {
        Entry1::Opened { boot_id, .. } => Entry::Opened { format: super::FORMAT, boot_id },
        Entry1::SandboxMade { spec, created_at } => Entry::SandboxMade {
            spec: wharf_engine::SandboxSpec {
                hostname: spec.hostname,
                netns: spec.netns,
                resources: SandboxResources {
                    cpu_millis: spec.resources.cpu_millis,
                    memory_bytes: spec.resources.memory_bytes,
                    pids_max: spec.resources.pids_max,
                },
                name_servers: spec.name_servers,
                search_domains: spec.search_domains,
                hosts: spec
                    .hosts
                    .into_iter()
                    .map(|host| HostEntry { address: host.address, names: host.names })
                    .collect(),
                labels: spec.labels,
                ..wharf_engine::SandboxSpec::new(spec.id)
            },
            created_at,
            by: PROTOCOL,
        },
        Entry1::SandboxGone(sandbox) => Entry::SandboxGone { sandbox },
        Entry1::Starting { container, sandbox, fingerprint, labels } => {
            Entry::Starting { container, sandbox, fingerprint, labels, by: PROTOCOL }
        }
        Entry1::Started { container, process, at } => Entry::Started { container, process, at },
        Entry1::Stopping { container, kill_at } => Entry::Stopping { container, kill_at },
        Entry1::Exited { container, exit } => Entry::Exited {
            container,
            exit: wharf_engine::ExitStatus {
                at: exit.at,
                code: exit.code,
                oom_killed: exit.oom_killed,
                start_error: exit.start_error,
                storage_exceeded: false,
            },
        },
        Entry1::NotStarted(container) => Entry::NotStarted { container },
    })
}
