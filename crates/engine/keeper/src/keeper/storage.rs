//! Limits on what sandboxes have on disk, where the file system has no quota of its own to set: each
//! is measured from time to time, and the containers of one that has too much are killed.
//!
//! A process beside the spawners measures, one sandbox after another, so that nothing waits for it.
//! How soon a sandbox is measured again depends on how much it could have written meanwhile, and on
//! how long its last measurement took:
//!
//! - at the earliest when it could be full at [`WRITE_RATE`], but after [`INTERVAL_MAX_MS`] in any case;
//! - never before [`INTERVAL_MIN_MS`], nor before [`COST`] times the last measurement's length.
//!
//! So a sandbox exceeds its limit by what it writes in a second, or in 20 times what it takes to count
//! its files; and measuring takes at most a twentieth of one CPU for each sandbox that is nearly full.

use std::collections::{BTreeSet, VecDeque};
use std::io;

use rustix::event::epoll::EventFlags;
use rustix::process::Pid;
use wharf_engine::{Asked, SandboxId};

use super::embedded::Host;
use super::embedded::spawner::{self, Client, Reply, Request};
use super::output::Now;
use super::{Keeper, Phase, Set, Source, daemon, process};

const INTERVAL_MIN_MS: u64 = 1_000;
const INTERVAL_MAX_MS: u64 = 30_000;
/// What a fast disk takes, in bytes a millisecond: 1 GiB a second.
const WRITE_RATE: u64 = (1 << 30) / 1000;
const COST: u64 = 20;

#[derive(Default)]
pub(super) struct Storage {
    due: BTreeSet<(u64, SandboxId)>,
    queue: VecDeque<SandboxId>,
    /// Forked when it is first needed.
    helper: Option<Helper>,
}

struct Helper {
    client: Client,
    pid: Option<Pid>,
    busy: Option<(SandboxId, u64)>,
}

impl Helper {
    fn fork(host: &Host) -> io::Result<Self> {
        let client = spawner::fork(host)?;
        let pid = client.pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        Ok(Self { client, pid, busy: None })
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            daemon::kill(pid);
            process::reap_killed(pid);
        }
    }
}

/// In how many milliseconds a sandbox is to be measured again.
fn interval_ms(limit: u64, used: u64, took_ms: u64) -> u64 {
    let headroom = limit.saturating_sub(used);
    let soonest = INTERVAL_MIN_MS.max(took_ms.saturating_mul(COST));
    (headroom / WRITE_RATE).min(INTERVAL_MAX_MS).max(soonest)
}

impl Storage {
    pub fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Ends the helper.
    pub fn end(&mut self) {
        self.helper = None;
    }
}

impl Keeper {
    /// From now on. Of a sandbox without a limit nothing is measured.
    pub(super) fn begin_measuring(&mut self, sandbox: &SandboxId, now: Now) {
        let Some(limit) = self.sandboxes.get(sandbox).and_then(|held| held.spec.ephemeral_storage_bytes)
        else {
            return;
        };
        let due = now.monotonic_ms + interval_ms(limit, 0, 0);
        self.storage.due.insert((due, sandbox.clone()));
    }

    /// What is due is measured, one at a time.
    pub(super) fn measure_due(&mut self, now: Now) {
        while let Some((due, _)) = self.storage.due.first()
            && *due <= now.monotonic_ms
        {
            if let Some((_, sandbox)) = self.storage.due.pop_first() {
                self.storage.queue.push_back(sandbox);
            }
        }
        if self.storage.queue.is_empty() {
            return;
        }
        if self.storage.helper.is_none() {
            let forked = self.spawners.with_own_limit(|| Helper::fork(&self.host));
            let watched = forked.and_then(|helper| {
                self.watch(&helper.client, Source::Storage, EventFlags::IN)?;
                Ok(helper)
            });
            match watched {
                Ok(helper) => self.storage.helper = Some(helper),
                Err(error) => {
                    daemon::note(&format!("storage cannot be measured: {error}"));
                    self.measure_queue_later(now);
                    return;
                }
            }
        }
        let Some(helper) = self.storage.helper.as_mut().filter(|helper| helper.busy.is_none()) else {
            return;
        };
        while let Some(sandbox) = self.storage.queue.pop_front() {
            if !self.sandboxes.contains_key(&sandbox) {
                continue;
            }
            match helper.client.send(&Request::MeasureStorage(sandbox.clone()), None) {
                Ok(()) => helper.busy = Some((sandbox, now.monotonic_ms)),
                // Its socket tells of its death in a moment.
                Err(_) => self.storage.queue.push_front(sandbox),
            }
            return;
        }
    }

    fn measure_queue_later(&mut self, now: Now) {
        let later = now.monotonic_ms + INTERVAL_MIN_MS;
        let queue = std::mem::take(&mut self.storage.queue);
        self.storage.due.extend(queue.into_iter().map(|sandbox| (later, sandbox)));
    }

    /// The helper has something to say, or is gone.
    pub(super) fn storage_measured(&mut self, now: Now) {
        let Some(helper) = &mut self.storage.helper else { return };
        let answer = match helper.client.try_receive() {
            Ok(None) => return,
            Ok(Some(answer)) => answer,
            Err(error) => {
                daemon::note(&format!("the process that measures storage is gone: {error}"));
                let busy = helper.busy.take().map(|(sandbox, _)| sandbox);
                self.storage.helper = None;
                self.storage.queue.extend(busy);
                return self.measure_queue_later(now);
            }
        };
        let Some((sandbox, since_ms)) = helper.busy.take() else { return };
        let Some(held) = self.sandboxes.get(&sandbox) else { return };
        let Some(limit) = held.spec.ephemeral_storage_bytes else { return };
        let took_ms = now.monotonic_ms.saturating_sub(since_ms);
        let used = match answer.reply {
            Reply::Measured { bytes } => bytes,
            other => {
                daemon::note(&format!("measuring the storage of sandbox {sandbox}: {other:?}"));
                0
            }
        };
        if used > limit {
            self.storage_exceeded(&sandbox, used, limit);
        }
        self.storage.due.insert((now.monotonic_ms + interval_ms(limit, used, took_ms), sandbox));
    }

    fn storage_exceeded(&mut self, sandbox: &SandboxId, used: u64, limit: u64) {
        daemon::note(&format!("sandbox {sandbox} has {used} bytes on disk, more than {limit}: it is killed"));
        let mut paused = Vec::new();
        for (number, container) in &mut self.containers {
            if container.sandbox != *sandbox {
                continue;
            }
            if container.is_paused() {
                paused.push(*number);
            }
            if let Phase::Running(running) = &mut container.phase {
                running.storage_exceeded = Set::Yes;
                // It would only be killed again.
                running.asked = Asked::Yes;
                super::lifecycle::kill(&container.id, &running.pidfd);
            }
        }
        for number in paused {
            self.thaw_for_signal(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_measured_as_often_as_it_could_matter() {
        let gib = 1 << 30;
        assert_eq!(interval_ms(20 * gib, 0, 0), 20_000);
        assert_eq!(interval_ms(200 * gib, 0, 0), INTERVAL_MAX_MS);
        assert_eq!(interval_ms(20 * gib, 20 * gib, 0), INTERVAL_MIN_MS);
        assert_eq!(interval_ms(20 * gib, u64::MAX, 0), INTERVAL_MIN_MS);
        assert_eq!(interval_ms(20 * gib, 20 * gib, 700), 14_000, "a long count has a long pause");
    }
}
