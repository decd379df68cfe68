//! What is due, and output on its way from pipes to logs: one piece a turn, so that none starves
//! another.

use rustix::time::Timespec;
use wharf_engine::log::Stream;

use super::lines::Tail;
use super::output::{Moved, Now};
use super::{
    ContainerNumber, FULL_LOG_LOOK_MS, Keeper, LOGGED_INTERVAL_MS, Logged, Phase, STATE_RETRY_MS, Set, Timer,
    daemon,
};

impl Keeper {
    pub(super) fn timeout(&self) -> Option<Timespec> {
        if !self.busy_streams.is_empty() || !self.busy_terminals.is_empty() {
            return Some(Timespec { tv_sec: 0, tv_nsec: 0 });
        }
        let retry = self.state_behind_ms.map(|since| since + STATE_RETRY_MS);
        let due =
            [self.timers.first().map(|(due, ..)| *due), retry, self.handing_over, self.storage.next_due()];
        let due = due.into_iter().flatten().min()?;
        let wait = due.saturating_sub(Now::read().monotonic_ms);
        Some(Timespec { tv_sec: (wait / 1000) as i64, tv_nsec: ((wait % 1000) * 1_000_000) as i64 })
    }

    /// Moves one piece of one stream.
    pub(super) fn move_output(&mut self, number: ContainerNumber, stream: Stream, now: Now) {
        self.move_output_with(number, stream, Tail::Keep, now);
    }

    pub(super) fn move_output_with(&mut self, number: ContainerNumber, stream: Stream, tail: Tail, now: Now) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        // Whoever is attached waits for a prompt, not for the end of its line.
        let tail = if container.attached.is_empty() { tail } else { Tail::Write };
        let output = match &mut container.phase {
            Phase::Running(running) => &mut running.output,
            // Its output waits in the pipe until its start is known.
            Phase::Starting(_) | Phase::Restarting(_) | Phase::Exited { .. } => return,
        };
        if output.is_full() {
            // Its release is done on the file alone, so there is nothing to wait for but time.
            let later = output.look_later(stream, now.monotonic_ms + FULL_LOG_LOOK_MS, now.monotonic_ms);
            self.timers.extend(later.map(|due| (due, number, Timer::FullLog(stream))));
            return;
        }
        let length = output.length();
        match self.mover.step(&container.id, output, stream, tail, now) {
            Ok(Moved::Some) => self.busy_streams.push_back((number, stream)),
            Ok(Moved::Nothing) => {}
            Err(error) => daemon::note(&format!("output of {}: {error}", container.id)),
        }
        let Phase::Running(running) = &mut container.phase else { return };
        if let (Some(due), Set::No) = (running.output.open_line_due_ms(), running.open_line_timer) {
            running.open_line_timer = Set::Yes;
            self.timers.insert((due, number, Timer::OpenLine));
        }
        if running.output.length() == length {
            return;
        }
        self.log_grew(number, now);
    }

    /// Tells of it: to whoever is attached at once, to all others at a bounded rate.
    pub(super) fn log_grew(&mut self, number: ContainerNumber, now: Now) {
        self.tell_attached(number);
        let Some(running) = self.running_mut(number) else { return };
        match running.logged {
            Logged::Told { at_ms } if at_ms + LOGGED_INTERVAL_MS <= now.monotonic_ms => {
                self.tell_logged(number, now);
            }
            Logged::Told { at_ms } => {
                running.logged = Logged::Later;
                self.timers.insert((at_ms + LOGGED_INTERVAL_MS, number, Timer::Logged));
            }
            Logged::Later => {}
        }
    }

    pub(super) fn run_timers(&mut self, now: Now) {
        while let Some(&(due, number, timer)) = self.timers.first() {
            if due > now.monotonic_ms {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::Kill => self.kill_overdue(number),
                Timer::Logged => self.tell_logged(number, now),
                Timer::FullLog(stream) => {
                    self.move_output(number, stream, now);
                    self.move_terminal(number, now);
                }
                Timer::Probe => self.probe(number, now),
                Timer::ProbeOverdue => self.probe_overdue(number, now),
                Timer::Restart => self.restart_if_due(number, now),
                Timer::SessionStart => self.session_overdue(number),
                Timer::OpenLine => {
                    let Some(running) = self.running_mut(number) else { continue };
                    running.open_line_timer = Set::No;
                    for stream in running.output.overdue(now.monotonic_ms) {
                        self.move_output_with(number, stream, Tail::Write, now);
                    }
                    // A younger one may wait on the other stream.
                    let Some(running) = self.running_mut(number) else { continue };
                    if let (Some(due), Set::No) = (running.output.open_line_due_ms(), running.open_line_timer)
                    {
                        running.open_line_timer = Set::Yes;
                        self.timers.insert((due, number, Timer::OpenLine));
                    }
                }
            }
        }
    }
}
