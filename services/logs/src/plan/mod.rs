//! Pure decisions: which events of a batch are taken, and which messages a filter pattern matches.

pub mod batch;
pub mod pattern;
