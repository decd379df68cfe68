//! The reconciler driver: signals, timers, backoff, status.
//!
//! A [`Reconciler`] makes desired state true for one key at a time. It is told nothing about what
//! changed, may be run at any time, and never retries inside: it returns an [`Outcome`], and the
//! [`Driver`] decides when it runs again.
//!
//! What the driver guarantees:
//! - a key never runs twice at once;
//! - a signal that arrives while its key runs makes it run once more afterwards, so that no change
//!   is missed, and a thousand signals make it run once;
//! - at most `concurrency` keys run at a time, and waiting keys run in the order of their signals;
//! - a failing key is retried with exponential backoff, capped and jittered, and holds up no other;
//! - a reconciler that panics is a failing key, not a dead driver.
//!
//! The driver knows nothing of stores or services, and keeps nothing: after a restart
//! [`Reconciler::all_keys`] says what there is to do.

#![forbid(unsafe_code)]

mod backoff;
mod driver;
mod status;

pub use backoff::Backoff;
pub use driver::{Driver, Options, Outcome, Reconciler};
pub use status::{FailingKey, ReconcilerStatus};
