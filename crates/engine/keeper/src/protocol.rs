//! What a control plane and a keeper say to each other over the keeper's socket.
//!
//! Each side opens with eight bytes, `WHKP` and its version. After equal versions come frames: a
//! length (u32, little-endian) and a postcard message. A newer program that finds an older keeper
//! says the version [`HAND_OVER`] and its keeper's command line ([`encode_arguments`]); the keeper
//! then ends, and what supervises it becomes that program. This much never changes.
//!
//! Any change of a message here, or of a type in `wharf-engine` that travels in one, is a new
//! [`PROTOCOL_VERSION`].

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wharf_engine::copy::CopyRoot;
use wharf_engine::session::{ExecSpec, SessionEnd, SessionStdin};
use wharf_engine::{
    ContainerId, ContainerSpec, ContainerStatus, EngineError, Event, HealthReport, SandboxId, SandboxSpec,
    SandboxStatus, Signal, VolumeName, VolumeSpec, VolumeStatus,
};
use wharf_engine_embedded::cgroup::Freezer;
use wharf_engine_embedded::copy::CopyJob;

pub const PROTOCOL_VERSION: u32 = 2;
/// In the place of a version: asks the keeper to end for a newer one.
pub const HAND_OVER: u32 = u32::MAX;
/// Keepers before this version know no [`HAND_OVER`], and have no supervisor.
pub const HAND_OVER_SINCE: u32 = 2;
const ARGUMENTS_BYTES_MAX: usize = 32 * 1024;
pub const HELLO_BYTES: usize = 8;
const MAGIC: &[u8; 4] = b"WHKP";
/// The largest message either side takes: a list of tens of thousands of containers.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
const LENGTH_BYTES: usize = 4;

pub type RequestNumber = u64;

/// From the control plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Chosen by the client, unique among its calls in flight; comes back in [`Told::Reply`].
    pub number: RequestNumber,
    pub request: Request,
}

#[allow(
    clippy::large_enum_variant,
    reason = "there is one at a time, and it is encoded or carried out at once"
)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    CreateSandbox(SandboxSpec),
    RemoveSandbox(SandboxId),
    StartContainer {
        sandbox: SandboxId,
        spec: ContainerSpec,
    },
    Stop {
        container: ContainerId,
        signal: Signal,
        grace: Duration,
    },
    Kill {
        container: ContainerId,
        signal: Signal,
    },
    List,
    Status(ContainerId),
    Freeze {
        container: ContainerId,
        to: Freezer,
    },
    Health(ContainerId),
    CreateVolume(VolumeSpec),
    RemoveVolume(VolumeName),
    ListVolumes,
    /// The connection becomes the session's: it lives as long as that.
    Exec {
        container: ContainerId,
        spec: ExecSpec,
    },
    /// As [`Request::Exec`]: to be told of the container's log and end.
    Attach {
        container: ContainerId,
        stdin: SessionStdin,
    },
    /// As [`Request::Exec`]. The answer is a [`Answer::Copying`].
    Copy {
        root: CopyRoot,
        job: CopyJob,
    },
    Processes(ContainerId),
    RemoveContainer(ContainerId),
    /// Remove every sandbox, then end, leaving nothing but an empty directory.
    Shutdown,
}

/// From the keeper.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Told {
    Reply {
        number: RequestNumber,
        result: Result<Answer, EngineError>,
    },
    Event(Event),
    /// Events were dropped because the client did not read: it must list again.
    Lagged,
    /// The log of the container that the client is attached to has grown.
    LogGrew,
    SessionEnded {
        number: RequestNumber,
        end: SessionEnd,
    },
    /// The keeper has shut down, at some client's request, and ends now.
    ShutDown,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    Done,
    Container(ContainerStatus),
    Sandboxes(Vec<SandboxStatus>),
    Health(Option<HealthReport>),
    Volume(VolumeStatus),
    Volumes(Vec<VolumeStatus>),
    /// The program runs. With descriptors: its pidfd, then the ends.
    Session {
        pid: u32,
        ends: SessionEnds,
    },
    /// With descriptors: the end that leads to the container's input, where `input` says so.
    Attached {
        log_length: u64,
        terminal: bool,
        input: bool,
    },
    Processes(Vec<u32>),
    /// With descriptors: the pidfd of the process that copies, its report, and the archive's pipe
    /// where there is one.
    Copying,
}

/// The client's ends of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionEnds {
    /// A master.
    Terminal,
    /// Stdout and stderr.
    Pipes,
    /// Stdin, stdout and stderr.
    PipesWithStdin,
}

#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    #[error("the peer does not speak the keeper's protocol")]
    Foreign,
    #[error("the keeper speaks version {keeper} of its protocol, this program version {client}")]
    Version { keeper: u32, client: u32 },
    #[error("a message of {bytes} bytes is above the limit of {FRAME_BYTES_MAX}")]
    TooLarge { bytes: usize },
    #[error("a message cannot be decoded")]
    Malformed(#[source] postcard::Error),
}

pub fn hello(version: u32) -> [u8; HELLO_BYTES] {
    let mut bytes = [0; HELLO_BYTES];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..].copy_from_slice(&version.to_le_bytes());
    bytes
}

/// The version that a peer's opening bytes name.
pub fn read_hello(bytes: [u8; HELLO_BYTES]) -> Result<u32, ProtocolError> {
    let [a, b, c, d, version @ ..] = bytes;
    if [a, b, c, d] == *MAGIC { Ok(u32::from_le_bytes(version)) } else { Err(ProtocolError::Foreign) }
}

/// A command line behind a [`HAND_OVER`]: its length in bytes (u32, little-endian), then each
/// argument with a zero byte at its end.
pub fn encode_arguments(arguments: &[OsString]) -> Vec<u8> {
    let mut bytes = vec![0; LENGTH_BYTES];
    for argument in arguments {
        bytes.extend_from_slice(argument.as_bytes());
        bytes.push(0);
    }
    let length = u32::try_from(bytes.len() - LENGTH_BYTES).unwrap_or(u32::MAX);
    bytes[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// `None` while it is incomplete.
pub fn decode_arguments(bytes: &[u8]) -> Result<Option<Vec<OsString>>, ProtocolError> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > ARGUMENTS_BYTES_MAX {
        return Err(ProtocolError::TooLarge { bytes: length });
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let Some(body) = body.strip_suffix(&[0]) else { return Err(ProtocolError::Foreign) };
    Ok(Some(body.split(|byte| *byte == 0).map(|text| OsString::from_vec(text.to_vec())).collect()))
}

/// Appends a frame to `out`.
pub fn encode(message: &impl Serialize, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    let taken = std::mem::take(out);
    *out = postcard::to_extend(message, taken).map_err(ProtocolError::Malformed)?;
    let bytes = out.len() - start - LENGTH_BYTES;
    if bytes > FRAME_BYTES_MAX {
        out.truncate(start);
        return Err(ProtocolError::TooLarge { bytes });
    }
    let length = u32::try_from(bytes).map_err(|_| ProtocolError::TooLarge { bytes })?;
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// The first frame of `bytes` and its length with its header; `None` while it is incomplete.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<Option<(T, usize)>, ProtocolError> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(ProtocolError::TooLarge { bytes: length });
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let message = postcard::from_bytes(body).map_err(ProtocolError::Malformed)?;
    Ok(Some((message, LENGTH_BYTES + length)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_come_back_one_after_another_and_not_before_they_are_whole() {
        let first = Call { number: 1, request: Request::List };
        let id = ContainerId::new("c").unwrap();
        let second = Call { number: 2, request: Request::Kill { container: id, signal: Signal::TERM } };
        let mut bytes = Vec::new();
        encode(&first, &mut bytes).unwrap();
        let end = bytes.len();
        encode(&second, &mut bytes).unwrap();
        for cut in 0..end {
            assert!(decode::<Call>(&bytes[..cut]).unwrap().is_none(), "{cut}");
        }
        assert_eq!(decode::<Call>(&bytes).unwrap(), Some((first, end)));
        assert_eq!(decode::<Call>(&bytes[end..]).unwrap(), Some((second, bytes.len() - end)));
    }

    #[test]
    fn another_version_is_told_apart_from_another_program() {
        assert_eq!(read_hello(hello(PROTOCOL_VERSION)).unwrap(), PROTOCOL_VERSION);
        assert_eq!(read_hello(*b"WHKP\x09\0\0\0").unwrap(), 9);
        assert!(matches!(read_hello(*b"GET / HT"), Err(ProtocolError::Foreign)));
    }

    #[test]
    fn a_command_line_comes_back_once_it_is_whole() {
        let arguments: Vec<OsString> = ["/usr/bin/wharf", "__keeper", "", "--dir"].map(Into::into).to_vec();
        let bytes = encode_arguments(&arguments);
        for cut in 0..bytes.len() {
            assert_eq!(decode_arguments(&bytes[..cut]).unwrap(), None);
        }
        assert_eq!(decode_arguments(&bytes).unwrap(), Some(arguments));
        assert!(decode_arguments(&[255; 8]).is_err());
        assert!(decode_arguments(&[1, 0, 0, 0, b'x']).is_err());
    }

    proptest! {
        #[test]
        fn damage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            // Any answer will do.
            let _ = decode::<Call>(&bytes);
        }
    }
}
