//! Decisions about new sessions: functions of values.

pub mod duration;
pub mod tags;
