//! The service against the fake engine: what a caller sees, and what outlives the control plane.

mod clusters;
mod definitions;
mod described;
mod features;
mod lifecycle;
mod listing;
mod survival;
