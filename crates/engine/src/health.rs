//! Health checks: what a container is asked, and what its answers mean. Pure; whoever runs the
//! probes brings the time.
//!
//! The rules are Docker's (Dockerfile reference, `HEALTHCHECK`), which compose and others follow.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wharf_core::Timestamp;

/// Probes that are kept for [`HealthReport`].
pub const PROBES_KEPT_MAX: usize = 5;
/// Of a probe's output, stdout and stderr together, so much is kept.
pub const PROBE_OUTPUT_BYTES_MAX: usize = 4096;

/// How a container is asked for its health. The program runs inside it as its user, with its
/// environment and directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Program and arguments; never empty. Exit code 0 is healthy, any other is not.
    pub args: Vec<String>,
    /// From the container's start to the first probe, and from a probe's end to the next one. At
    /// least a millisecond.
    pub interval: Duration,
    /// A probe that runs longer has failed, and is killed with all that it started.
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy; 0 counts as 1.
    pub retries: u32,
    /// After the container's start, while failures do not count unless it was healthy before.
    pub start_period: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthStatus {
    /// Neither healthy nor unhealthy yet.
    Starting,
    Healthy,
    Unhealthy,
}

/// One probe that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    /// `None`: it did not end in time, or could not be run.
    pub exit_code: Option<i32>,
    /// At most [`PROBE_OUTPUT_BYTES_MAX`] bytes; or why there is no exit code.
    pub output: String,
}

/// For an inspection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    pub status: HealthStatus,
    /// Failures that counted since the last success.
    pub failing_streak: u32,
    /// The last [`PROBES_KEPT_MAX`], oldest first.
    pub probes: Vec<Probe>,
}

/// What a container's probes have said since its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    status: HealthStatus,
    failing_streak: u32,
    probes: VecDeque<Probe>,
}

impl Default for Health {
    fn default() -> Self {
        Self::from_status(HealthStatus::Starting)
    }
}

impl Health {
    /// As an earlier keeper left it; its probes are forgotten.
    pub fn from_status(status: HealthStatus) -> Self {
        Self { status, failing_streak: 0, probes: VecDeque::new() }
    }

    pub fn status(&self) -> HealthStatus {
        self.status
    }

    pub fn report(&self) -> HealthReport {
        HealthReport {
            status: self.status,
            failing_streak: self.failing_streak,
            probes: self.probes.iter().cloned().collect(),
        }
    }

    /// Folds a probe in. Returns the status if it is a new one.
    pub fn probed(
        &mut self,
        check: &HealthCheck,
        container_started_at: Timestamp,
        probe: Probe,
    ) -> Option<HealthStatus> {
        let before = self.status;
        let in_start_period = self.status == HealthStatus::Starting
            && probe.started_at.since(container_started_at) < check.start_period;
        if probe.exit_code == Some(0) {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else if !in_start_period {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= check.retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        if self.probes.len() == PROBES_KEPT_MAX {
            self.probes.pop_front();
        }
        self.probes.push_back(probe);
        (self.status != before).then_some(self.status)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(retries: u32, start_period_secs: u64) -> HealthCheck {
        HealthCheck {
            args: vec!["true".to_owned()],
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
            retries,
            start_period: Duration::from_secs(start_period_secs),
        }
    }

    fn probe(at_secs: i64, exit_code: Option<i32>) -> Probe {
        let started_at = Timestamp::from_millis(at_secs * 1000);
        Probe { started_at, ended_at: started_at, exit_code, output: String::new() }
    }

    /// The status after each probe, ten seconds apart.
    fn story(check: &HealthCheck, codes: &[Option<i32>]) -> Vec<HealthStatus> {
        let mut health = Health::default();
        let started_at = Timestamp::from_millis(0);
        (1..)
            .zip(codes)
            .map(|(number, &code)| {
                health.probed(check, started_at, probe(number * 10, code));
                health.status()
            })
            .collect()
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
        use HealthStatus::{Healthy, Starting, Unhealthy};
        let bad = Some(1);
        let codes = [bad, bad, Some(0), bad, bad, None, bad, Some(0)];
        let told = [Starting, Starting, Healthy, Healthy, Healthy, Unhealthy, Unhealthy, Healthy];
        assert_eq!(story(&check(3, 0), &codes), told);
    }

    #[test]
    fn failures_in_the_start_period_do_not_count_until_it_was_healthy_once() {
        use HealthStatus::{Healthy, Starting, Unhealthy};
        assert_eq!(story(&check(1, 25), &[Some(1), Some(1), Some(1)]), [Starting, Starting, Unhealthy]);
        assert_eq!(story(&check(1, 1000), &[Some(1), Some(0), Some(1)]), [Starting, Healthy, Unhealthy]);
    }

    #[test]
    fn a_change_is_told_once_and_the_last_probes_are_kept() {
        let (mut health, check) = (Health::default(), check(1, 0));
        let at = Timestamp::from_millis(0);
        assert_eq!(health.probed(&check, at, probe(1, Some(0))), Some(HealthStatus::Healthy));
        for second in 2..20 {
            assert_eq!(health.probed(&check, at, probe(second, Some(0))), None);
        }
        assert_eq!(health.probed(&check, at, probe(20, None)), Some(HealthStatus::Unhealthy));
        let report = health.report();
        assert_eq!((report.probes.len(), report.failing_streak), (PROBES_KEPT_MAX, 1));
        assert_eq!(report.probes.last(), Some(&probe(20, None)));
    }

    proptest! {
        /// Unhealthy takes `retries` failures in a row, healthy a success as the last but failures.
        #[test]
        fn a_status_has_its_reason(retries in 0u32..5, codes in prop::collection::vec(0i32..2, 1..40)) {
            let told = story(&check(retries, 0), &codes.iter().map(|&code| Some(code)).collect::<Vec<_>>());
            for (index, status) in told.iter().enumerate() {
                let streak = codes[..=index].iter().rev().take_while(|&&code| code != 0).count();
                let healthy_once = codes[..=index].contains(&0);
                let expected = if streak >= retries.max(1) as usize {
                    HealthStatus::Unhealthy
                } else if healthy_once && (streak == 0 || told[index - 1] != HealthStatus::Unhealthy) {
                    HealthStatus::Healthy
                } else {
                    HealthStatus::Starting
                };
                prop_assert_eq!(*status, expected, "{:?} after {}", codes, index);
            }
        }
    }
}
