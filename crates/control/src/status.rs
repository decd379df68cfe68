//! What a driver tells of itself, for `wharf status`, metrics and the console.

use serde::Serialize;

/// A driver at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReconcilerStatus {
    pub name: &'static str,
    /// Keys that wait for a free place.
    pub queued: usize,
    /// Keys that run now.
    pub running: usize,
    /// Keys that wait for a time: a timer that they asked for, or a backoff.
    pub delayed: usize,
    /// Runs since the start, and how many of them failed.
    pub runs: u64,
    pub failures: u64,
    /// Keys whose last run failed; at most [`crate::driver::FAILING_KEYS_SHOWN_MAX`] of them.
    pub failing: Vec<FailingKey>,
}

/// A key whose last run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailingKey {
    pub key: String,
    pub error: String,
    /// Failures in a row.
    pub attempts: u32,
}
