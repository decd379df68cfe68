//! The logs service
