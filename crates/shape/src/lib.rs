//! The shapes of the AWS APIs, and the two views through which a codec reads and fills a value.
//!
//! The flow of one request, of which this crate is the vocabulary:
//!
//! 1. The pipeline picks a [`Service`] and one of its [`Operation`]s from `Service::model()`.
//! 2. A codec makes an empty input with `(operation.new_input)()` and fills it through
//!    [`Structure::member_mut`], guided by the constant table [`Structure::shape`]. The result is a
//!    [`Decoded`]: the typed input, erased, and the paths of required members that were absent.
//! 3. The pipeline calls [`validate()`], which walks the value through [`Structure::member`] beside
//!    its table and answers with AWS's own error.
//! 4. The pipeline authorizes `operation.action`, then calls [`Service::call`], which gives the
//!    typed input to the handler.
//! 5. A codec writes the output through [`Structure::member`].
//!
//! Generated crates hold plain structs, a table for each, and two accessors (`member`, `member_mut`)
//! that name members by their index in the table. A codec is written once against these; it never sees
//! a generated crate, and a generated crate never sees a codec.
//!
//! Invariant: no I/O, no serde, no protocol. What is written here is true of every AWS service.
#![forbid(unsafe_code)]

mod debug;
mod document;
mod path;
mod pattern;
mod service;
mod table;
mod validate;
mod value;

pub use debug::debug;
pub use document::Document;
pub use path::{Path, Step};
pub use pattern::{Pattern, PatternError};
pub use service::{
    CallFuture, Operation, Protocol, Service, ServiceModel, Validation, ValidationForm, empty, take,
};
pub use table::{
    BlobShape, ErrorShape, ListShape, Location, MEMBERS_MAX, MapShape, Member, MemberSet, NumberShape, Shape,
    StringShape, StructureShape, TimestampFormat, UNIT,
};
pub use validate::validate;
pub use value::{Decoded, List, Map, Slot, Structure, Text, Value, View};
