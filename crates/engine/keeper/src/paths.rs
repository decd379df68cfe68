//! What lies where in the keeper's directory. The keeper itself sits in that directory and uses
//! these paths as they are; a client joins them to it.

use std::path::PathBuf;

use wharf_engine::ContainerId;
use wharf_engine::log::Stream;
use wharf_engine::session::Stdin;

pub const SOCKET: &str = "keeper.sock";
/// Bound under this name, then renamed, so that no client ever meets a socket that nobody serves.
pub const SOCKET_NEW: &str = "keeper.sock.new";
pub const STATE: &str = "keeper.state";
pub const STATE_NEW: &str = "keeper.state.new";
/// Locked by the keeper as long as it lives.
pub const LOCK: &str = "keeper.lock";
/// Locked by the supervisor as long as it lives.
pub const SUPERVISOR_LOCK: &str = "supervisor.lock";
/// The batch of output that is being moved from a pipe into a log.
pub const BATCH: &str = "keeper.batch";
/// What the keeper itself has to say.
pub const OWN_LOG: &str = "keeper.log";
pub const LOGS: &str = "logs";
pub const PIPES: &str = "pipes";
/// Belongs to `wharf-engine-embedded`.
pub const SANDBOXES: &str = "sandboxes";
/// Named volumes, where `wharf-engine-embedded` looks for them: beside the sandboxes.
pub const VOLUMES: &str = "volumes";

pub fn log(container: &ContainerId) -> PathBuf {
    PathBuf::from(format!("{LOGS}/{container}.log"))
}

/// The named pipe that a container reads from; its name tells the mode. `None`: it reads from none.
pub fn input(container: &ContainerId, mode: Stdin) -> Option<PathBuf> {
    let end = match mode {
        Stdin::Null => return None,
        Stdin::Once => "in",
        Stdin::Open => "open",
    };
    Some(PathBuf::from(format!("{PIPES}/{container}.{end}")))
}

pub fn pipe(container: &ContainerId, stream: Stream) -> PathBuf {
    let end = match stream {
        Stream::Stdout => "out",
        Stream::Stderr => "err",
    };
    PathBuf::from(format!("{PIPES}/{container}.{end}"))
}
