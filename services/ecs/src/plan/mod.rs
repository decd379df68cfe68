//! Decisions: synchronous functions of what is stored and what is seen. No tokio, no clock, no API
//! types, no store (law 3).

pub mod fargate;
pub mod log_lines;
pub mod strategy;
pub mod task;
