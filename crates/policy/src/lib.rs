//! IAM policies: the grammar, what a set of policies decides about a request, and why.
//!
//! A document is checked and compiled once ([`Policy::parse`]); a decision ([`decide`]) is a pure
//! function of compiled policies, the [`Caller`], the action, the resource and the condition keys,
//! which are asked for only when a policy looks at them ([`Context`]).
//!
//! Sources: IAM User Guide, "Grammar of the IAM JSON policy language", "IAM JSON policy elements",
//! "Policy evaluation logic", "Permissions boundaries", "Troubleshoot access denied error messages".
//!
//! Not here: where policies are kept, who the principals are, which action an operation is. No clock,
//! no I/O: the time of a request is the condition key `aws:CurrentTime`.

#![forbid(unsafe_code)]

mod condition;
mod context;
mod decide;
mod document;
mod error;
mod explain;
mod json;
mod operand;
mod pattern;
mod policy;
mod principal;
mod resource;
mod simulate;

pub use context::{Context, Keys, Values};
pub use decide::{
    Decision, Layer, Matched, PolicyId, PolicySet, ResourceAccess, ResourceGrant, Verdict, decide,
};
pub use document::{DOCUMENT_BYTES_MAX, Kind, STATEMENTS_MAX, character_count};
pub use error::PolicyError;
pub use explain::{Question, details, sentence};
pub use json::{Position, Span};
pub use pattern::Pattern;
pub use policy::{Effect, Policy, Statement};
pub use principal::{Caller, PrincipalName};
pub use simulate::{Simulation, fuzz, simulate};
