//! The state file: what a keeper must know after a keeper's death, as a journal of small records.
//!
//! Each record is `u32 length, u32 crc32c`, and a map of MessagePack with its fields' names. Records
//! are appended, never changed; a torn or damaged tail is cut off. The file is rewritten with what is
//! alive when it has grown well beyond that. No fsync: it must survive the keeper's death, which the
//! page cache does; no container survives the host's.
//!
//! The next release reads what this one wrote: that is how a program is upgraded while containers
//! run. So in [`Entry`] and in every type in it (`SandboxSpec` and what it holds, `ExitStatus`)
//! - a field that is added has `#[serde(default)]`, and none is renamed, removed or skipped;
//! - a kind of entry may be added: a keeper passes over what it does not know, or cannot read.
//!
//! Pids are believed only together with the boot they come from and the process's start time.

mod care;
mod format1;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wharf_core::Timestamp;
use wharf_engine::{ContainerId, ExitStatus, SandboxId, SandboxSpec};

pub use self::care::{CareSpec, CareState};
use crate::fingerprint::Fingerprint;
use crate::paths;

/// Raised only with a change that an older keeper must not read over; it then refuses the file.
const FORMAT: u32 = 2;
const HEADER_BYTES: usize = 8;
const RECORD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A file smaller than this is never rewritten.
const COMPACT_BYTES_MIN: u64 = 256 * 1024;

/// Of the protocol that a keeper speaks: tells who wrote a record.
pub type Version = u32;

/// A process, told apart from a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    pub pid: u32,
    /// In clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub start_ticks: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    /// Opens the file.
    Opened {
        format: u32,
        boot_id: String,
    },
    SandboxMade {
        spec: SandboxSpec,
        created_at: Timestamp,
        by: Version,
    },
    /// Its containers are gone with it.
    SandboxGone {
        sandbox: SandboxId,
    },
    /// About to be started: whatever is found of it later, without [`Entry::Started`], is debris.
    Starting {
        container: ContainerId,
        sandbox: SandboxId,
        fingerprint: Fingerprint,
        labels: Vec<(String, String)>,
        by: Version,
    },
    /// After [`Entry::Starting`]: what a program beside its own takes over.
    ExecBase {
        container: ContainerId,
        base: Vec<u8>,
    },
    Started {
        container: ContainerId,
        process: ProcessRef,
        at: Timestamp,
    },
    /// To be killed at this time.
    Stopping {
        container: ContainerId,
        kill_at: Timestamp,
    },
    Exited {
        container: ContainerId,
        exit: ExitStatus,
    },
    /// The start failed for a reason that is not the container's own.
    NotStarted {
        container: ContainerId,
    },
    /// After [`Entry::Starting`], of a container that takes care.
    Care {
        container: ContainerId,
        spec: CareSpec,
    },
    CareNow {
        container: ContainerId,
        state: CareState,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct SandboxRecord {
    pub spec: SandboxSpec,
    pub created_at: Timestamp,
    pub by: Version,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ContainerRecord {
    pub sandbox: SandboxId,
    pub fingerprint: Fingerprint,
    pub labels: Vec<(String, String)>,
    pub by: Version,
    pub started: Option<(ProcessRef, Timestamp)>,
    pub kill_at: Option<Timestamp>,
    pub exit: Option<ExitStatus>,
    pub exec_base: Vec<u8>,
    pub care: CareSpec,
    pub care_now: CareState,
}

/// What the file says is alive.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub boot_id: String,
    pub sandboxes: BTreeMap<SandboxId, SandboxRecord>,
    pub containers: BTreeMap<ContainerId, ContainerRecord>,
}

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{path}: {action} failed")]
    Io {
        path: PathBuf,
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(
        "{path} is of format {found}, which a newer program wrote; this one reads formats up to {FORMAT}: use the newer one"
    )]
    Format { path: PathBuf, found: u32 },
    #[error("an entry for {path} cannot be encoded")]
    Encode {
        path: PathBuf,
        #[source]
        source: rmp_serde::encode::Error,
    },
}

impl Snapshot {
    /// Entries that make no sense (a container of no sandbox) are passed over.
    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Opened { boot_id, .. } => self.boot_id = boot_id,
            Entry::SandboxMade { spec, created_at, by } => {
                self.sandboxes.insert(spec.id.clone(), SandboxRecord { spec, created_at, by });
            }
            Entry::SandboxGone { sandbox } => {
                self.sandboxes.remove(&sandbox);
                self.containers.retain(|_, held| held.sandbox != sandbox);
            }
            Entry::Starting { container, sandbox, fingerprint, labels, by } => {
                if self.sandboxes.contains_key(&sandbox) {
                    let record = ContainerRecord {
                        sandbox,
                        fingerprint,
                        labels,
                        by,
                        started: None,
                        kill_at: None,
                        exit: None,
                        exec_base: Vec::new(),
                        care: CareSpec::default(),
                        care_now: CareState::default(),
                    };
                    self.containers.insert(container, record);
                }
            }
            Entry::Started { container, process, at } => {
                if let Some(held) = self.containers.get_mut(&container) {
                    held.started = Some((process, at));
                    held.care_now.restarting = None;
                }
            }
            Entry::Stopping { container, kill_at } => {
                if let Some(held) = self.containers.get_mut(&container) {
                    held.kill_at = Some(kill_at);
                }
            }
            Entry::Exited { container, exit } => {
                if let Some(held) = self.containers.get_mut(&container) {
                    held.exit = Some(exit);
                }
            }
            Entry::NotStarted { container } => {
                self.containers.remove(&container);
            }
            Entry::ExecBase { container, base } => {
                if let Some(held) = self.containers.get_mut(&container) {
                    held.exec_base = base;
                }
            }
            Entry::Care { container, spec } => {
                if let Some(held) = self.containers.get_mut(&container) {
                    held.care = spec;
                }
            }
            Entry::CareNow { container, state } => {
                if let Some(held) = self.containers.get_mut(&container) {
                    if state.restarting.is_some() {
                        held.started = None;
                    }
                    held.care_now = state;
                }
            }
        }
    }

    /// The shortest journal that says the same.
    fn entries(&self) -> Vec<Entry> {
        let mut entries = vec![Entry::Opened { format: FORMAT, boot_id: self.boot_id.clone() }];
        for held in self.sandboxes.values() {
            let (spec, created_at, by) = (held.spec.clone(), held.created_at, held.by);
            entries.push(Entry::SandboxMade { spec, created_at, by });
        }
        for (id, held) in &self.containers {
            let container = || id.clone();
            entries.push(Entry::Starting {
                container: container(),
                sandbox: held.sandbox.clone(),
                fingerprint: held.fingerprint,
                labels: held.labels.clone(),
                by: held.by,
            });
            if !held.exec_base.is_empty() {
                entries.push(Entry::ExecBase { container: container(), base: held.exec_base.clone() });
            }
            if !held.care.is_empty() {
                entries.push(Entry::Care { container: container(), spec: held.care.clone() });
            }
            if let Some((process, at)) = held.started {
                entries.push(Entry::Started { container: container(), process, at });
            }
            if held.care_now != CareState::default() {
                entries.push(Entry::CareNow { container: container(), state: held.care_now.clone() });
            }
            if let Some(kill_at) = held.kill_at {
                entries.push(Entry::Stopping { container: container(), kill_at });
            }
            if let Some(exit) = &held.exit {
                entries.push(Entry::Exited { container: container(), exit: exit.clone() });
            }
        }
        entries
    }
}

/// The open state file.
pub struct StateFile {
    file: File,
    path: PathBuf,
    length: u64,
    /// Its length after the last rewriting.
    compacted_length: u64,
    boot_id: String,
}

impl StateFile {
    /// Reads the file in `dir`, cuts off what is torn, and rewrites it for this boot.
    pub fn open(dir: &Path, boot_id: &str) -> Result<(Self, Snapshot), StateError> {
        let path = dir.join(paths::STATE);
        let failed = |action| {
            let path = path.clone();
            move |source| StateError::Io { path, action, source }
        };
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(mut file) => {
                file.read_to_end(&mut bytes).map_err(failed("reading"))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("opening")(error)),
        }
        let mut snapshot = Snapshot::default();
        let mut rest = bytes.as_slice();
        let is_format1 = next(rest).is_some_and(|(body, _)| format1::is_mine(body));
        while let Some((body, used)) = next(rest) {
            rest = &rest[used..];
            let entry = if is_format1 { format1::decode(body) } else { rmp_serde::from_slice(body).ok() };
            // What a newer release added tells this one nothing.
            let Some(entry) = entry else { continue };
            if let Entry::Opened { format, .. } = &entry
                && *format > FORMAT
            {
                return Err(StateError::Format { path, found: *format });
            }
            snapshot.apply(entry);
        }
        let before = snapshot.clone();
        snapshot.boot_id = boot_id.to_owned();
        let (file, length) = rewrite(dir, &snapshot)?;
        let state = Self { file, path, length, compacted_length: length, boot_id: boot_id.to_owned() };
        Ok((state, before))
    }

    /// Appends one entry.
    pub fn append(&mut self, entry: &Entry) -> Result<(), StateError> {
        let mut bytes = Vec::with_capacity(512);
        encode(entry, &mut bytes).map_err(|source| StateError::Encode { path: self.path.clone(), source })?;
        let written = self.file.write_all(&bytes);
        if let Err(source) = written {
            // A torn record would hide every later one.
            let _ = self.file.set_len(self.length);
            let _ = self.file.seek(SeekFrom::Start(self.length));
            return Err(StateError::Io { path: self.path.clone(), action: "appending", source });
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Whether [`StateFile::compact`] is due.
    pub fn is_bloated(&self) -> bool {
        self.length > COMPACT_BYTES_MIN && self.length > self.compacted_length.saturating_mul(4)
    }

    /// Rewrites the file with `snapshot` alone.
    pub fn compact(&mut self, mut snapshot: Snapshot) -> Result<(), StateError> {
        snapshot.boot_id.clone_from(&self.boot_id);
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let (file, length) = rewrite(dir, &snapshot)?;
        (self.file, self.length, self.compacted_length) = (file, length, length);
        Ok(())
    }
}

fn rewrite(dir: &Path, snapshot: &Snapshot) -> Result<(File, u64), StateError> {
    let path = dir.join(paths::STATE);
    let mut bytes = Vec::new();
    for entry in snapshot.entries() {
        encode(&entry, &mut bytes).map_err(|source| StateError::Encode { path: path.clone(), source })?;
    }
    let new = dir.join(paths::STATE_NEW);
    let write = || {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        std::fs::rename(&new, &path)?;
        Ok(file)
    };
    match write() {
        Ok(file) => Ok((file, bytes.len() as u64)),
        Err(source) => Err(StateError::Io { path, action: "rewriting", source }),
    }
}

fn encode(entry: &Entry, out: &mut Vec<u8>) -> Result<(), rmp_serde::encode::Error> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    if let Err(error) = rmp_serde::encode::write_named(out, entry) {
        out.truncate(start);
        return Err(error);
    }
    let body = &out[start + HEADER_BYTES..];
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    let checksum = crc32c::crc32c(body).to_le_bytes();
    out[start..start + 4].copy_from_slice(&length);
    out[start + 4..start + HEADER_BYTES].copy_from_slice(&checksum);
    Ok(())
}

/// The body of the first record, and the record's length; `None` at the end or when it is torn.
fn next(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    let body = rest.get(..length).filter(|_| length <= RECORD_BYTES_MAX)?;
    (crc32c::crc32c(body) == u32::from_le_bytes(*checksum)).then_some((body, HEADER_BYTES + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox() -> SandboxSpec {
        SandboxSpec {
            hostname: "host".to_owned(),
            labels: vec![("a".to_owned(), "b".to_owned())],
            ..SandboxSpec::new(SandboxId::new("s").unwrap())
        }
    }

    fn id(name: &str) -> ContainerId {
        ContainerId::new(name).unwrap()
    }

    fn entries(container: &str) -> Vec<Entry> {
        let exit = ExitStatus { oom_killed: true, ..ExitStatus::new(Timestamp::from_millis(9), Some(3)) };
        vec![
            Entry::Starting {
                container: id(container),
                sandbox: sandbox().id,
                fingerprint: Fingerprint::of_bytes(b"spec"),
                labels: Vec::new(),
                by: 7,
            },
            Entry::Started {
                container: id(container),
                process: ProcessRef { pid: 77, start_ticks: 1234 },
                at: Timestamp::from_millis(5),
            },
            Entry::Stopping { container: id(container), kill_at: Timestamp::from_millis(8) },
            Entry::Exited { container: id(container), exit },
        ]
    }

    fn write(dir: &Path) -> Snapshot {
        let (mut state, _) = StateFile::open(dir, "boot").unwrap();
        state
            .append(&Entry::SandboxMade { spec: sandbox(), created_at: Timestamp::from_millis(1), by: 7 })
            .unwrap();
        for container in ["one", "two"] {
            for entry in entries(container) {
                state.append(&entry).unwrap();
            }
        }
        StateFile::open(dir, "boot").unwrap().1
    }

    #[test]
    fn what_was_written_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let snapshot = write(dir.path());
        assert_eq!(snapshot.containers.len(), 2);
        let record = &snapshot.containers[&id("two")];
        assert_eq!(record.started.map(|(process, _)| process.pid), Some(77));
        assert_eq!(record.exit.as_ref().and_then(|exit| exit.code), Some(3));
        assert_eq!(StateFile::open(dir.path(), "boot").unwrap().1, snapshot);
    }

    #[test]
    fn every_torn_tail_loses_the_torn_record_alone() {
        let dir = tempfile::tempdir().unwrap();
        let whole = write(dir.path());
        let bytes = std::fs::read(dir.path().join(paths::STATE)).unwrap();
        let mut lengths = std::collections::BTreeSet::new();
        for cut in 0..bytes.len() {
            std::fs::write(dir.path().join(paths::STATE), &bytes[..cut]).unwrap();
            let (_, snapshot) = StateFile::open(dir.path(), "boot").unwrap();
            assert!(snapshot.containers.len() <= whole.containers.len());
            lengths.insert(snapshot.containers.len());
            // What is found goes on to be written to.
            assert_eq!(
                StateFile::open(dir.path(), "boot").unwrap().1,
                Snapshot { boot_id: "boot".into(), ..snapshot }
            );
        }
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn a_damaged_record_ends_the_file() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path());
        let path = dir.path().join(paths::STATE);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
        std::fs::write(&path, &bytes).unwrap();
        assert!(StateFile::open(dir.path(), "boot").unwrap().1.containers.len() < 2);
    }

    #[test]
    fn a_later_format_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        encode(&Entry::Opened { format: FORMAT + 1, boot_id: "boot".to_owned() }, &mut bytes).unwrap();
        std::fs::write(dir.path().join(paths::STATE), &bytes).unwrap();
        assert!(matches!(StateFile::open(dir.path(), "boot"), Err(StateError::Format { found: 3, .. })));
        assert_eq!(std::fs::read(dir.path().join(paths::STATE)).unwrap(), bytes);
    }

    /// Wraps a body as a record.
    fn record(body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend(crc32c::crc32c(body).to_le_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn another_releases_fields_and_entries_do_no_harm() {
        #[derive(Serialize)]
        enum Later {
            Painted { colour: u8 },
            Started { container: ContainerId, process: ProcessRef, at: Timestamp, mood: String },
        }
        let dir = tempfile::tempdir().unwrap();
        write(dir.path());
        let path = dir.path().join(paths::STATE);
        let mut bytes = std::fs::read(&path).unwrap();
        let process = ProcessRef { pid: 99, start_ticks: 5 };
        let started =
            Later::Started { container: id("two"), process, at: Timestamp::from_millis(6), mood: "x".into() };
        for later in [Later::Painted { colour: 3 }, started] {
            bytes.extend(record(&rmp_serde::to_vec_named(&later).unwrap()));
        }
        std::fs::write(&path, bytes).unwrap();
        let snapshot = StateFile::open(dir.path(), "boot").unwrap().1;
        assert_eq!(snapshot.containers[&id("two")].started, Some((process, Timestamp::from_millis(6))));
    }

    #[test]
    fn a_sandbox_of_a_release_with_fewer_fields_is_read() {
        /// What a sandbox's spec had at first, and may never lose.
        #[derive(Serialize)]
        struct Earlier {
            id: &'static str,
            hostname: &'static str,
            netns: Option<PathBuf>,
            resources: BTreeMap<&'static str, u64>,
            name_servers: [u8; 0],
            search_domains: [u8; 0],
            hosts: [u8; 0],
            labels: [(&'static str, &'static str); 1],
        }
        #[derive(Serialize)]
        enum EarlierEntry {
            SandboxMade { spec: Earlier, created_at: Timestamp, by: Version },
        }
        let spec = Earlier {
            id: "s",
            hostname: "",
            netns: None,
            resources: [("pids_max", 5)].into(),
            name_servers: [],
            search_domains: [],
            hosts: [],
            labels: [("a", "b")],
        };
        let entry = EarlierEntry::SandboxMade { spec, created_at: Timestamp::from_millis(4), by: 2 };
        let dir = tempfile::tempdir().unwrap();
        let bytes = record(&rmp_serde::to_vec_named(&entry).unwrap());
        std::fs::write(dir.path().join(paths::STATE), bytes).unwrap();
        let found = &StateFile::open(dir.path(), "boot").unwrap().1.sandboxes[&sandbox().id];
        assert_eq!(found.spec.resources.pids_max, Some(5));
        assert_eq!((found.spec.labels.len(), found.by), (1, 2));
    }

    #[test]
    fn the_first_releases_file_is_read() {
        use super::format1::{Entry1, ExitStatus1, HostEntry1, SandboxResources1, SandboxSpec1};
        let spec = SandboxSpec1 {
            id: SandboxId::new("s").unwrap(),
            hostname: "h".to_owned(),
            netns: Some("/n".into()),
            resources: SandboxResources1 { cpu_millis: Some(5), memory_bytes: None, pids_max: Some(9) },
            name_servers: vec!["10.0.0.2".parse().unwrap()],
            search_domains: vec!["d".to_owned()],
            hosts: vec![HostEntry1 { address: "10.0.0.3".parse().unwrap(), names: vec!["n".to_owned()] }],
            labels: vec![("a".to_owned(), "b".to_owned())],
        };
        let exit =
            ExitStatus1 { at: Timestamp::from_millis(9), code: Some(3), oom_killed: true, start_error: None };
        let entries = [
            Entry1::Opened { format: 1, boot_id: "boot".to_owned() },
            Entry1::SandboxMade { spec, created_at: Timestamp::from_millis(1) },
            Entry1::Starting {
                container: id("c"),
                sandbox: sandbox().id,
                fingerprint: Fingerprint::of_bytes(b"spec"),
                labels: Vec::new(),
            },
            Entry1::Started {
                container: id("c"),
                process: ProcessRef { pid: 77, start_ticks: 1234 },
                at: Timestamp::from_millis(5),
            },
            Entry1::Stopping { container: id("c"), kill_at: Timestamp::from_millis(8) },
            Entry1::Exited { container: id("c"), exit },
            Entry1::NotStarted(id("d")),
            Entry1::SandboxGone(SandboxId::new("gone").unwrap()),
        ];
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> =
            entries.iter().flat_map(|entry| record(&postcard::to_allocvec(entry).unwrap())).collect();
        std::fs::write(dir.path().join(paths::STATE), bytes).unwrap();
        let snapshot = StateFile::open(dir.path(), "boot").unwrap().1;
        assert_eq!(snapshot.boot_id, "boot");
        let held = &snapshot.sandboxes[&sandbox().id];
        assert_eq!((held.spec.resources.pids_max, held.spec.hosts.len(), held.by), (Some(9), 1, 1));
        let container = &snapshot.containers[&id("c")];
        assert_eq!(container.exit.as_ref().and_then(|exit| exit.code), Some(3));
        assert_eq!(container.kill_at, Some(Timestamp::from_millis(8)));
        // And is of this format from then on.
        assert_eq!(StateFile::open(dir.path(), "boot").unwrap().1, snapshot);
    }

    #[test]
    fn compaction_keeps_what_lives_and_bounds_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (mut state, mut snapshot) = StateFile::open(dir.path(), "boot").unwrap();
        let mut compactions = 0;
        for round in 0..20_000 {
            let entry =
                Entry::SandboxMade { spec: sandbox(), created_at: Timestamp::from_millis(round), by: 7 };
            state.append(&entry).unwrap();
            snapshot.apply(entry);
            if state.is_bloated() {
                state.compact(snapshot.clone()).unwrap();
                compactions += 1;
            }
        }
        assert!(compactions > 1);
        assert!(std::fs::metadata(dir.path().join(paths::STATE)).unwrap().len() <= 2 * COMPACT_BYTES_MIN);
        let found = StateFile::open(dir.path(), "boot").unwrap().1;
        assert_eq!(found.sandboxes, snapshot.sandboxes);
    }
}
