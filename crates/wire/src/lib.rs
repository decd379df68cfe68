//! The AWS protocols on HTTP: codecs, SigV4, the request pipeline and the server that they run in.
//!
//! What must not happen here: a decision that belongs to one service. A request is read, proved,
//! decoded and handed to a `wharf_shape::Service`; its answer is written. Nothing of this crate
//! knows a generated API crate.
#![forbid(unsafe_code)]

mod browser;
pub mod client;
pub mod codec;
mod echo;
pub mod observe;
pub mod pipeline;
mod route;
pub mod server;
pub mod sigv4;

pub use client::{Client, ClientError, ClientResponse};
pub use observe::{CallObserver, CallRecord, Metrics};
pub use pipeline::{Body, Pipeline, PipelineParts, Registration};
pub use server::{Exposure, InternalHandler, Server, ServerBuilder, ServerLimits};
