//! Decisions, pure: values in, records out.

pub mod default_network;
