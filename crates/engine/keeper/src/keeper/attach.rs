//! A container's own streams: who is attached, where its input comes from, and its terminal.
//!
//! Output goes to the container's log, whatever it comes from; an attached client reads it there (see
//! [`super::sessions`]). Input goes the other way without the keeper: an attached client gets a
//! descriptor of its own, the write end of a named pipe or the terminal's master, and writes to it.
//! The keeper holds one too, so that the container's input does not end while nobody is attached.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use wharf_engine::log::Stream;
use wharf_engine::session::{SESSIONS_PER_CONTAINER_MAX, SessionEnd, SessionStdin, Stdin};
use wharf_engine::{ContainerId, EngineError};

use super::clients::Caller;
use super::output::{Moved, Now};
use super::{ContainerNumber, FULL_LOG_LOOK_MS, Keeper, Phase, Timer, daemon};
use crate::paths;
use crate::protocol::Answer;
use crate::state::Entry;

/// The keeper's end of a container's input.
pub enum Input {
    /// The container reads `/dev/null`.
    None,
    Pipe {
        write: OwnedFd,
        mode: Stdin,
    },
    /// The master; its output is read by the keeper.
    Terminal {
        master: OwnedFd,
    },
}

impl Input {
    /// Makes the named pipe of a container that reads from one, and opens both ends.
    pub fn create(container: &ContainerId, mode: Stdin) -> std::io::Result<(Self, Option<OwnedFd>)> {
        let Some(path) = paths::input(container, mode) else { return Ok((Self::None, None)) };
        match rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let input = Self::open(container, mode)?;
        // There is a writer, so it does not wait for one. What the container gets must block.
        let read = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let Self::Pipe { write, mode } = input else { return Ok((input, None)) };
        // Opened to read as well, this end would keep a container that is gone from breaking a write.
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let only_write = rustix::fs::open(&path, flags, Mode::empty())?;
        drop(write);
        Ok((Self::Pipe { write: only_write, mode }, Some(read)))
    }

    /// Opens the keeper's end of the pipe of a container that exists.
    pub fn open(container: &ContainerId, mode: Stdin) -> std::io::Result<Self> {
        let Some(path) = paths::input(container, mode) else { return Ok(Self::None) };
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(write) => Ok(Self::Pipe { write, mode }),
            Err(Errno::NOENT) => Ok(Self::None),
            Err(error) => Err(error.into()),
        }
    }

    pub fn master(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Terminal { master } => Some(master.as_fd()),
            Self::None | Self::Pipe { .. } => None,
        }
    }
}

impl Keeper {
    /// The start of a container with a terminal has brought its master.
    pub(super) fn take_terminal(&mut self, number: ContainerNumber, brought: Vec<OwnedFd>) {
        let Some(held) = self.containers.get_mut(&number) else { return };
        let (Phase::Starting(starting), Some(master)) = (&mut held.phase, brought.into_iter().next()) else {
            return;
        };
        match rustix::io::ioctl_fionbio(&master, true) {
            Ok(()) => starting.input = Input::Terminal { master },
            // Its output would be lost, and a read would hold up everybody.
            Err(error) => daemon::note(&format!("the terminal of {}: {error}", held.id)),
        }
    }

    /// Moves one piece of what was written to a terminal.
    pub(super) fn move_terminal(&mut self, number: ContainerNumber, now: Now) {
        let Some(held) = self.containers.get_mut(&number) else { return };
        let Phase::Running(running) = &mut held.phase else { return };
        let Input::Terminal { master } = &running.input else { return };
        if running.output.is_full() {
            let (due, now_ms) = (now.monotonic_ms + FULL_LOG_LOOK_MS, now.monotonic_ms);
            let later = running.output.look_later(Stream::Stdout, due, now_ms);
            self.timers.extend(later.map(|due| (due, number, Timer::FullLog(Stream::Stdout))));
            return;
        }
        match self.mover.step_terminal(&mut running.output, master.as_fd(), now) {
            Ok(Moved::Some) => {
                self.busy_terminals.push_back(number);
                self.log_grew(number, now);
            }
            Ok(Moved::Nothing) => {}
            Err(error) => daemon::note(&format!("the terminal of {}: {error}", held.id)),
        }
    }

    pub(super) fn attach(&mut self, caller: Caller, container: &ContainerId, stdin: SessionStdin) {
        match self.begin_attach(caller, container, stdin) {
            Ok((answer, descriptors)) => self.clients.reply_with(caller, Ok(answer), descriptors),
            Err(error) => return self.clients.reply(caller, Err(error)),
        }
        let held = self.numbers.get(container).and_then(|number| self.containers.get(number));
        if let Some(Phase::Exited { exit, .. }) = held.map(|held| &held.phase) {
            let end = SessionEnd { code: exit.code };
            self.clients.session_ended(caller, end);
        }
        // What waits in the pipes for the end of its line.
        if let Some(number) = self.numbers.get(container).copied() {
            for stream in [Stream::Stdout, Stream::Stderr] {
                self.move_output(number, stream, Now::read());
            }
        }
    }

    fn begin_attach(
        &mut self,
        caller: Caller,
        container: &ContainerId,
        stdin: SessionStdin,
    ) -> Result<(Answer, Vec<OwnedFd>), EngineError> {
        let missing = || EngineError::NoContainer(container.clone());
        let number = *self.numbers.get(container).ok_or_else(missing)?;
        let held = self.containers.get_mut(&number).ok_or_else(missing)?;
        if held.attached.len() >= SESSIONS_PER_CONTAINER_MAX {
            let message = format!("{SESSIONS_PER_CONTAINER_MAX} are open already");
            return Err(EngineError::Exhausted { resource: "sessions".to_owned(), message });
        }
        let mut descriptors = Vec::new();
        let (mut terminal, mut log_length) = (false, 0);
        match &mut held.phase {
            Phase::Running(running) => {
                log_length = running.output.length();
                let duplicate = |fd: &OwnedFd| {
                    rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(|error| EngineError::Exhausted {
                        resource: "descriptors".to_owned(),
                        message: std::io::Error::from(error).to_string(),
                    })
                };
                match &running.input {
                    // Its size is for every client to set.
                    Input::Terminal { master } => {
                        terminal = true;
                        descriptors.push(duplicate(master)?);
                    }
                    Input::Pipe { write, mode } if stdin == SessionStdin::Open => {
                        descriptors.push(duplicate(write)?);
                        if *mode == Stdin::Once {
                            // What the client does with its end is what the container sees.
                            running.input = Input::None;
                            let _ = std::fs::remove_file(
                                paths::input(container, Stdin::Once).unwrap_or_default(),
                            );
                        }
                    }
                    Input::Pipe { .. } => {}
                    Input::None if stdin == SessionStdin::Open => {
                        return Err(EngineError::Unsupported {
                            what: format!("input for container {container}"),
                            reason: "it was started without, or its input has ended".to_owned(),
                        });
                    }
                    Input::None => {}
                }
                held.attached.push(caller);
            }
            Phase::Starting(_) | Phase::Restarting(_) => {
                held.attached.push(caller);
            }
            Phase::Exited { .. } => log_length = u64::MAX,
        }
        self.clients.becomes_session(caller.client);
        let input = !descriptors.is_empty();
        Ok((Answer::Attached { log_length, terminal, input }, descriptors))
    }

    pub(super) fn processes(&self, container: &ContainerId) -> Result<Answer, EngineError> {
        let held = self.numbers.get(container).and_then(|number| self.containers.get(number));
        let held = held.ok_or_else(|| EngineError::NoContainer(container.clone()))?;
        if !matches!(held.phase, Phase::Running(_)) {
            return Err(EngineError::NotRunning(container.clone()));
        }
        self.host.processes(&held.sandbox, container).map(Answer::Processes)
    }

    /// Forgets one that has exited.
    pub(super) fn remove_container(
        &mut self,
        container: &ContainerId,
        now: Now,
    ) -> Result<Answer, EngineError> {
        let Some(number) = self.numbers.get(container).copied() else { return Ok(Answer::Done) };
        let is_over = |phase: &Phase| matches!(phase, Phase::Exited { .. });
        if !self.containers.get(&number).is_some_and(|held| is_over(&held.phase)) {
            return Err(EngineError::Conflict { what: format!("container {container} runs, and") });
        }
        self.forget(number, container);
        self.persist(&Entry::NotStarted { container: container.clone() }, now);
        Ok(Answer::Done)
    }

    fn forget(&mut self, number: ContainerNumber, container: &ContainerId) {
        self.end_attached(number, None);
        self.containers.remove(&number);
        self.numbers.remove(container);
        self.remove_files(container, super::lifecycle::Keep::Nothing);
    }
}
