//! Decisions about secrets: pure functions of values.

pub mod filter;
pub mod id;
pub mod password;
pub mod policy;
pub mod stages;
