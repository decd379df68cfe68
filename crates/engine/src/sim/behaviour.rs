//! What a container of the fake does by itself.

use std::time::Duration;

use crate::error::EngineError;
use crate::log::Stream;

/// From start to end. Build it from one of the constructors:
/// `Behaviour::exits(1).after(Duration::from_secs(5)).printing(Stream::Stdout, "hello")`.
#[derive(Clone, Debug)]
pub struct Behaviour {
    pub(super) start_after: Duration,
    pub(super) start_error: Option<EngineError>,
    pub(super) output: Vec<(Stream, String)>,
    pub(super) end: Option<End>,
    pub(super) on_signal: OnSignal,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub after: Duration,
    pub code: Option<i32>,
    pub oom_killed: bool,
}

/// What the program does with a signal other than `SIGKILL`, which always ends it with 137.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSignal {
    /// 128 + the signal's number.
    Dies,
    Ignores,
    Exits(i32),
}

impl Behaviour {
    /// Runs until it is told to stop.
    pub fn runs() -> Self {
        Self {
            start_after: Duration::ZERO,
            start_error: None,
            output: Vec::new(),
            end: None,
            on_signal: OnSignal::Dies,
        }
    }

    /// Exits by itself, at once unless [`Behaviour::after`] says when. Given to every start of a
    /// spec that is started again and again, it is a crash loop.
    pub fn exits(code: i32) -> Self {
        Self { end: Some(End { after: Duration::ZERO, code: Some(code), oom_killed: false }), ..Self::runs() }
    }

    /// The kernel kills it for want of memory.
    pub fn out_of_memory() -> Self {
        Self { end: Some(End { after: Duration::ZERO, code: Some(137), oom_killed: true }), ..Self::runs() }
    }

    /// It ends, and its exit code is lost.
    pub fn loses_exit() -> Self {
        Self { end: Some(End { after: Duration::ZERO, code: None, oom_killed: false }), ..Self::runs() }
    }

    /// Its program cannot be run: not found (127), not executable (126), …
    pub fn cannot_start(exit_code: i32, message: &str) -> Self {
        let error = EngineError::Start { exit_code, message: message.to_owned() };
        Self { start_error: Some(error), ..Self::runs() }
    }

    /// When it ends by itself, counted from its start.
    #[must_use]
    pub fn after(mut self, after: Duration) -> Self {
        if let Some(end) = &mut self.end {
            end.after = after;
        }
        self
    }

    /// How long `start_container` takes.
    #[must_use]
    pub fn starting_for(mut self, duration: Duration) -> Self {
        self.start_after = duration;
        self
    }

    /// A line that it prints as it starts.
    #[must_use]
    pub fn printing(mut self, stream: Stream, line: &str) -> Self {
        self.output.push((stream, line.to_owned()));
        self
    }

    #[must_use]
    pub fn on_signal(mut self, on_signal: OnSignal) -> Self {
        self.on_signal = on_signal;
        self
    }
}
