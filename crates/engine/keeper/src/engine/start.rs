//! Starting a keeper, and finding one.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream as StdStream;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::KeeperError;
use crate::config::KeeperConfig;
use crate::paths;
use crate::protocol;

/// How long a keeper may take until it serves; it sweeps up after its predecessor first.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// An older keeper finishes what its spawners are at before it ends.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(20);
/// What the keeper says is a line.
const WORD_BYTES_MAX: usize = 4096;

/// Connects to the keeper that serves `config.dir`.
pub async fn connect(config: &KeeperConfig) -> io::Result<UnixStream> {
    // An address has at most 108 bytes; through the descriptor the directory may be anywhere.
    let dir = File::open(&config.dir)?;
    let address = format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), paths::SOCKET);
    let stream = StdStream::connect(address)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Whether a failure to connect says that no keeper serves.
pub fn says_nobody_is_there(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Makes the keeper's directory.
pub fn make_dir(config: &KeeperConfig) -> Result<(), KeeperError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.dir)
        .map_err(|source| KeeperError::Directory { path: config.dir.clone(), source })
}

/// Who serves the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// The keeper that was started: it serves.
    Ours,
    /// Another has the directory, and serves it now or soon.
    Another,
}

/// Starts a keeper and returns once it serves, or once it finds that another has the directory.
pub async fn start(config: &KeeperConfig) -> Result<Started, KeeperError> {
    let failed = |message: String| KeeperError::Start { message };
    let (program, args) =
        config.program.split_first().ok_or_else(|| failed("no program is given".to_owned()))?;
    let own_log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(config.dir.join(paths::OWN_LOG))
        .map_err(|source| KeeperError::Directory { path: config.dir.join(paths::OWN_LOG), source })?;
    let mut child = tokio::process::Command::new(program)
        .args(args)
        .args(config.to_args())
        // It lives long, and has no use for the control plane's secrets.
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(own_log)
        .spawn()
        .map_err(|error| failed(format!("{}: {error}", program.to_string_lossy())))?;
    let mut word = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        let reading = async {
            let mut bytes = [0; 256];
            while !word.contains(&b'\n') && word.len() < WORD_BYTES_MAX {
                match stdout.read(&mut bytes).await {
                    Ok(0) | Err(_) => break,
                    Ok(length) => word.extend_from_slice(&bytes[..length]),
                }
            }
        };
        if tokio::time::timeout(START_TIMEOUT, reading).await.is_err() {
            return Err(failed(format!("it does not serve after {} s", START_TIMEOUT.as_secs())));
        }
    }
    // The process that we started exits as soon as it has forked the keeper.
    let _ = child.wait().await;
    match String::from_utf8_lossy(&word).as_ref() {
        crate::keeper::READY => Ok(Started::Ours),
        crate::keeper::TAKEN => Ok(Started::Another),
        "" => Err(failed(format!("it ended at once; see {}", config.dir.join(paths::OWN_LOG).display()))),
        message => Err(failed(message.trim().to_owned())),
    }
}

/// Has an older keeper end, so that its supervisor becomes this release's program. Returns once its
/// connection is closed. What runs is not touched.
pub async fn hand_over(config: &KeeperConfig, version: u32) -> Result<(), KeeperError> {
    let mut stream = connect(config).await.map_err(KeeperError::Connect)?;
    let peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let mut arguments = config.program.clone();
    arguments.extend(config.to_args());
    let asking = async {
        stream.write_all(&protocol::hello(protocol::HAND_OVER)).await?;
        stream.write_all(&protocol::encode_arguments(&arguments)).await?;
        // Its own greeting, then nothing until it ends.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    let asked = tokio::time::timeout(HAND_OVER_TIMEOUT, asking).await;
    if version < protocol::HAND_OVER_SINCE {
        // It knows no such thing, and has dismissed us. Its death does no harm.
        let pid = peer.and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        return Ok(());
    }
    match asked {
        Ok(_) => Ok(()),
        Err(_) => Err(KeeperError::Connect(io::ErrorKind::TimedOut.into())),
    }
}
