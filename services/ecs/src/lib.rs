//! Amazon ECS: clusters, task definitions and tasks, which run as containers in the engine.
//!
//! `handlers` answer the API and write desired state; `plan` decides, purely; `reconcile` makes it
//! true. A handler never waits for a container, and a reconciler never sees an API type.
//!
//! What is not done is refused by name: see [`fields`] for members, and the generated trait's
//! defaults for operations.

#![forbid(unsafe_code)]

mod authorization;
mod convert;
mod described;
pub mod fields;
mod handlers;
mod metadata;
mod names;
mod pages;
pub mod plan;
mod reconcile;
pub mod records;
mod service;
mod tags;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use authorization::authorization;
pub use described::service;
pub use reconcile::adopt::AdoptError;
pub use service::{Dependencies, Ecs, TaskSummary, tables};
