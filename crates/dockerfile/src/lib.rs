//! The Dockerfile language: from text to instructions, with nothing carried out.
//!
//! The reference is BuildKit's ("Dockerfile reference", docs.docker.com). The way of a file:
//!
//! 1. [`directive`]: `# syntax=`, `# escape=`, `# check=` at the very top.
//! 2. [`lines`]: physical lines become logical ones: comments go, continuations join, here-documents
//!    are taken along. Every logical line knows the physical lines that it came from.
//! 3. [`instruction`] and [`flags`]: a logical line becomes an [`Instruction`], its words still
//!    unexpanded, because what a variable holds is known only while a stage is built.
//! 4. [`expand`]: the builder asks for words to be expanded in the environment of the moment.
//! 5. [`stages`]: which stages a target needs, and in which order they can be built.
//!
//! [`ignore`] is `.dockerignore`, [`glob`] the wildcards of `COPY` and of it.
//!
//! Invariants: no I/O, no panic on any text, time linear in the text (patterns: in the product of
//! pattern and name), and an error always names its line.

#![forbid(unsafe_code)]

pub mod directive;
mod error;
pub mod expand;
mod flags;
pub mod glob;
pub mod ignore;
pub mod instruction;
mod lines;
mod parse;
pub mod stages;
#[cfg(test)]
mod tests;

pub use directive::Directives;
pub use error::{Error, Problem};
pub use expand::{ExpandError, Expander};
pub use instruction::{
    Add, Arg, Command, Copy, Health, HealthCheck, HereDocument, Instruction, Mount, MountKind, Network, Pair,
    Run, Sharing, Source,
};
pub use parse::{Dockerfile, Located, Stage, parse, parse_trigger};

/// A Dockerfile's text, at most (1 MiB).
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Stages of one Dockerfile, at most.
pub const STAGES_MAX: usize = 1_000;
/// Instructions of one Dockerfile, at most.
pub const INSTRUCTIONS_MAX: usize = 20_000;
