//! Pure decisions about containers run by hand.

pub mod names;
pub mod spec;
