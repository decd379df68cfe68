//! Decisions, pure.

pub mod access;
