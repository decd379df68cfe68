//! A command that is a session's other end: what is typed goes in, what comes out is written, and its
//! exit code becomes the command's.

use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::exit_code;
use super::terminal::{self, DetachKeys, Raw, Typed};
use crate::admin::container_calls::read_frame;
use crate::admin::containers::{Ended, Frame, frame};
use crate::failure::{Context as _, Failure, Result};

const READ_BYTES: usize = 16 * 1024;
/// Signals that are passed on to the program.
const PASSED_ON: [i32; 6] = [
    libc_signal::HANGUP,
    libc_signal::INTERRUPT,
    libc_signal::QUIT,
    libc_signal::USER_1,
    libc_signal::USER_2,
    libc_signal::TERMINATE,
];

mod libc_signal {
    //! signal(7).
    pub const HANGUP: i32 = 1;
    pub const INTERRUPT: i32 = 2;
    pub const QUIT: i32 = 3;
    pub const USER_1: i32 = 10;
    pub const USER_2: i32 = 12;
    pub const TERMINATE: i32 = 15;
}

/// How the command takes part.
pub struct Manner {
    /// What is typed is passed on.
    pub stdin: bool,
    /// The other end is a terminal.
    pub terminal: bool,
    /// Signals that this command gets go to the program.
    pub proxy_signals: bool,
    pub detach_keys: DetachKeys,
}

/// How it ended.
pub enum Outcome {
    Ended(Option<i32>),
    Detached,
}

/// Until the session ends or is left.
pub async fn carry(session: TokioIo<Upgraded>, manner: Manner) -> Result<Outcome> {
    let Manner { stdin, terminal, proxy_signals, mut detach_keys } = manner;
    let is_terminal = stdin && terminal && terminal::stdin_is_terminal();
    let raw = if is_terminal { Some(Raw::enter()?) } else { None };
    let (mut from, mut to) = tokio::io::split(session);
    let broken = || "the server went away".to_owned();
    let (send, mut outgoing) = mpsc::channel::<Vec<u8>>(16);
    if terminal && let Some(size) = terminal::size() {
        let size = serde_json::to_vec(&size).unwrap_or_default();
        to.write_all(&frame(Frame::Resize, &size)).await.context(broken)?;
    }
    let mut typed = if stdin { Some(read_stdin()) } else { None };
    watch_signals(&send, proxy_signals, terminal)?;
    let (frames, mut incoming) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let next = read_frame(&mut from).await;
            let is_last = !matches!(next, Ok(Some(_)));
            if frames.send(next).await.is_err() || is_last {
                return;
            }
        }
    });
    drop(send);
    let outcome = loop {
        tokio::select! {
            next = incoming.recv() => match next {
                Some(Ok(Some((Frame::Stdout, bytes)))) => write(&mut std::io::stdout().lock(), &bytes),
                Some(Ok(Some((Frame::Stderr, bytes)))) => write(&mut std::io::stderr().lock(), &bytes),
                Some(Ok(Some((Frame::End, bytes)))) => {
                    let ended: Ended = serde_json::from_slice(&bytes).unwrap_or(Ended { code: None });
                    break Outcome::Ended(ended.code);
                }
                Some(Ok(Some(_))) => {}
                Some(Ok(None) | Err(_)) | None => {
                    drop(raw);
                    return Err(Failure::new(broken())
                        .hint("the container may run on: `wharf ps` tells")
                        .exit(125));
                }
            },
            Some(message) = outgoing.recv() => to.write_all(&message).await.context(broken)?,
            bytes = next_typed(&mut typed) => match bytes {
                Some(bytes) => match if is_terminal { detach_keys.typed(&bytes) } else { Typed::Bytes(bytes) } {
                    Typed::Bytes(bytes) if bytes.is_empty() => {}
                    Typed::Bytes(bytes) => {
                        // A program that has ended tells so in a moment.
                        let _ = to.write_all(&frame(Frame::Stdin, &bytes)).await;
                    }
                    Typed::Detach(bytes) => {
                        let _ = to.write_all(&frame(Frame::Stdin, &bytes)).await;
                        break Outcome::Detached;
                    }
                },
                None => {
                    typed = None;
                    let _ = to.write_all(&frame(Frame::CloseStdin, &[])).await;
                }
            },
        }
    };
    drop(raw);
    Ok(outcome)
}

impl Outcome {
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Ended(code) => exit_code(*code),
            Self::Detached => ExitCode::SUCCESS,
        }
    }
}

/// Whoever reads our output may have gone away; the program runs on.
fn write(to: &mut impl std::io::Write, bytes: &[u8]) {
    let _ = to.write_all(bytes).and_then(|()| to.flush());
}

fn read_stdin() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(4);
    // A thread, which may wait for ever: the process's end is its end.
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut bytes = vec![0; READ_BYTES];
        loop {
            match stdin.read(&mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    if sender.blocking_send(bytes[..length].to_vec()).is_err() {
                        return;
                    }
                }
            }
        }
    });
    receiver
}

/// Never, when nothing is read.
async fn next_typed(typed: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match typed {
        Some(typed) => typed.recv().await,
        None => std::future::pending().await,
    }
}

fn watch_signals(to: &mpsc::Sender<Vec<u8>>, proxy: bool, terminal: bool) -> Result<()> {
    let failed = || "cannot wait for signals".to_owned();
    if terminal {
        let mut changes = signal(SignalKind::window_change()).context(failed)?;
        let to = to.clone();
        tokio::spawn(async move {
            while changes.recv().await.is_some() {
                let Some(size) = terminal::size() else { continue };
                let size = serde_json::to_vec(&size).unwrap_or_default();
                if to.send(frame(Frame::Resize, &size)).await.is_err() {
                    return;
                }
            }
        });
    }
    if proxy {
        for number in PASSED_ON {
            let mut arrivals = signal(SignalKind::from_raw(number)).context(failed)?;
            let to = to.clone();
            tokio::spawn(async move {
                while arrivals.recv().await.is_some() {
                    let body = number.to_string().into_bytes();
                    if to.send(frame(Frame::Signal, &body)).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
    Ok(())
}

/// One line to the terminal, which may be in the midst of one.
pub fn say(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}
