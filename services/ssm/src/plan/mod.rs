//! Decisions about parameters: pure functions of values.

pub mod filter;
pub mod label;
pub mod name;
pub mod policy;
pub mod value;
