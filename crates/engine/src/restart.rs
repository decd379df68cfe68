//! Whether a container whose program has ended is started again, and when. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What Docker waits before a first restart; it doubles from one to the next.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Docker's longest wait.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// A run of this length starts the waiting anew.
const BACKOFF_RESET: Duration = Duration::from_secs(10);

/// When to start a container again. It keeps its id, its writable layer and its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// `on-failure[:attempts]` of Docker: after an exit code other than 0.
    OnFailure { attempts_max: Option<u32> },
    /// `always` and `unless-stopped` of Docker: after any end but one that was asked for. The two
    /// differ at the start of Docker's daemon alone, which has no counterpart here: a container does
    /// not end with the engine's process, nor live on after the host's end.
    Always,
    /// After a run of at least `period`, with an exit code that is not among `ignored_exit_codes`.
    /// An earlier end is final.
    OncePerPeriod { period: Duration, ignored_exit_codes: Vec<i32> },
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// `None`: nobody knows it.
    pub exit_code: Option<i32>,
    pub ran_for: Duration,
    /// Restarts since the container was made.
    pub restarts: u32,
    /// What was waited for before this run; zero before the first.
    pub waited: Duration,
    pub asked: Asked,
}

/// Whether somebody wanted the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It was told to stop, or killed through the engine.
    Yes,
    No,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Stays,
    StartsAgain { after: Duration },
}

impl RestartPolicy {
    pub fn decide(&self, ended: Ended) -> Verdict {
        if ended.asked == Asked::Yes {
            return Verdict::Stays;
        }
        let again = match self {
            Self::OnFailure { attempts_max } => {
                ended.exit_code != Some(0) && attempts_max.is_none_or(|max| ended.restarts < max)
            }
            Self::Always => true,
            Self::OncePerPeriod { period, ignored_exit_codes } => {
                let ignored = ended.exit_code.is_some_and(|code| ignored_exit_codes.contains(&code));
                if ended.ran_for >= *period && !ignored {
                    // The period has been waited for already.
                    return Verdict::StartsAgain { after: Duration::ZERO };
                }
                false
            }
        };
        if again { Verdict::StartsAgain { after: backoff(ended) } } else { Verdict::Stays }
    }
}

fn backoff(ended: Ended) -> Duration {
    if ended.ran_for >= BACKOFF_RESET {
        return BACKOFF_MIN;
    }
    (ended.waited * 2).clamp(BACKOFF_MIN, BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ended(exit_code: i32, ran_for: Duration) -> Ended {
        Ended { exit_code: Some(exit_code), ran_for, restarts: 0, waited: Duration::ZERO, asked: Asked::No }
    }

    #[test]
    fn what_was_asked_to_end_stays_ended() {
        for policy in [
            RestartPolicy::Always,
            RestartPolicy::OnFailure { attempts_max: None },
            RestartPolicy::OncePerPeriod { period: SECOND, ignored_exit_codes: Vec::new() },
        ] {
            let told = Ended { asked: Asked::Yes, ..ended(137, SECOND * 100) };
            assert_eq!(policy.decide(told), Verdict::Stays);
            assert_ne!(policy.decide(ended(137, SECOND * 100)), Verdict::Stays);
        }
    }

    #[test]
    fn on_failure_takes_a_failure_and_counts() {
        let policy = RestartPolicy::OnFailure { attempts_max: Some(2) };
        assert_eq!(policy.decide(ended(0, SECOND)), Verdict::Stays);
        assert_ne!(policy.decide(Ended { restarts: 1, ..ended(1, SECOND) }), Verdict::Stays);
        assert_eq!(policy.decide(Ended { restarts: 2, ..ended(1, SECOND) }), Verdict::Stays);
        assert_ne!(policy.decide(Ended { exit_code: None, ..ended(0, SECOND) }), Verdict::Stays);
    }

    #[test]
    fn waiting_doubles_to_a_minute_and_starts_anew_after_a_long_run() {
        let (mut waited, mut waits) = (Duration::ZERO, Vec::new());
        for _ in 0..12 {
            let verdict = RestartPolicy::Always.decide(Ended { waited, ..ended(1, SECOND) });
            let Verdict::StartsAgain { after } = verdict else { panic!("{verdict:?}") };
            waits.push(after.as_millis());
            waited = after;
        }
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[10..], [60_000, 60_000]);
        let long = Ended { waited, ..ended(1, BACKOFF_RESET) };
        assert_eq!(RestartPolicy::Always.decide(long), Verdict::StartsAgain { after: BACKOFF_MIN });
    }

    #[test]
    fn once_per_period_ends_with_an_early_exit_or_an_ignored_code() {
        let policy = RestartPolicy::OncePerPeriod { period: SECOND * 60, ignored_exit_codes: vec![0, 3] };
        assert_eq!(policy.decide(ended(1, SECOND * 59)), Verdict::Stays);
        assert_eq!(policy.decide(ended(3, SECOND * 61)), Verdict::Stays);
        let again = Verdict::StartsAgain { after: Duration::ZERO };
        assert_eq!(policy.decide(ended(1, SECOND * 60)), again);
        let lost = Ended { exit_code: None, ..ended(0, SECOND * 60) };
        assert_eq!(policy.decide(lost), again);
    }
}
