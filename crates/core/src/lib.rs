//! What every other crate may use: identifiers, ARNs, time, randomness, limits,
//! the context of a request and the error that an AWS caller sees.
//!
//! Invariant: nothing here does I/O or knows tokio, and nothing here is specific to one AWS
//! service. The wall clock and the source of randomness are traits, so that the simulator can own
//! both; [`clock::SystemClock`] and [`rng::SystemRng`] are the only places that ask the machine.

#![forbid(unsafe_code)]

pub mod access_key;
pub mod arn;
pub mod clock;
pub mod context;
pub mod error;
pub mod id;
pub mod limits;
pub mod rng;

pub use arn::{Arn, Partition};
pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use context::{Principal, RequestContext, Scope, Session, SessionOrigin};
pub use error::{ApiError, Fault};
pub use id::{AccountId, Region, RequestId};
pub use rng::{Rng, SeededRng, SystemRng};
