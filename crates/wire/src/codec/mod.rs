//! The protocols: bytes of a request to a typed input, a typed output or an error to bytes.
//!
//! Each codec is written once, against the tables of `wharf_shape`, and never sees a generated
//! crate. A decoder takes hostile bytes: it is bounded in depth and in items, never panics, and
//! what it refuses is the sender's error, in the protocol's own words. Encoders write what they are
//! given and cannot fail.
//!
//! Whether values keep the constraints of the model is not asked here but by
//! [`wharf_shape::validate`], with the [`Decoded`] that comes from here.

mod ec2_query;
mod form;
mod json;
mod json_text;
mod query;
mod scalar;
mod xml;

use http::HeaderMap;
use wharf_core::{ApiError, RequestId};
use wharf_shape::{Decoded, Operation, Protocol, ServiceModel, Structure};

/// How many items of lists and entries of maps one request may have in all. A list's item may
/// be a thousand times larger in memory than on the wire (`{}`), and the largest list that a
/// service takes is the 10,000 events of `logs:PutLogEvents`.
const ITEMS_MAX: usize = 20_000;

/// What a codec reads of a request.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub headers: &'a HeaderMap,
    /// The query string as it came, without the question mark.
    pub query: &'a str,
    pub body: &'a [u8],
}

/// What a codec makes of an output or an error. The request id's header is the pipeline's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

/// Decodes the input of an operation.
///
/// # Errors
/// The protocol's own error (status 400) for a body that is malformed, or holds a value of the
/// wrong type.
pub fn decode(
    model: &ServiceModel,
    operation: &Operation,
    request: &Request<'_>,
) -> Result<Decoded, ApiError> {
    let mut input = (operation.new_input)();
    let missing = decode_structure(model.protocol, &mut *input, request)?;
    Ok(Decoded { input, missing })
}

/// Fills an empty structure from a request, and gives the paths of the required members that were
/// absent.
///
/// # Errors
/// As [`decode`].
pub fn decode_structure(
    protocol: Protocol,
    structure: &mut dyn Structure,
    request: &Request<'_>,
) -> Result<Vec<String>, ApiError> {
    match protocol {
        Protocol::AwsJson1_0 | Protocol::AwsJson1_1 => json::decode(structure, request),
        Protocol::Query => query::decode(structure, request),
        Protocol::Ec2Query => ec2_query::decode(structure, request),
    }
}

/// Encodes the output of an operation, with status 200.
pub fn encode_output(
    model: &ServiceModel,
    operation: &Operation,
    request_id: RequestId,
    output: &dyn Structure,
) -> Response {
    match model.protocol {
        Protocol::AwsJson1_0 | Protocol::AwsJson1_1 => json::encode_output(model.protocol, operation, output),
        Protocol::Query => query::encode_output(model, operation, request_id, output),
        Protocol::Ec2Query => ec2_query::encode_output(model, operation, request_id, output),
    }
}

/// Encodes an error with its status. `model` and `operation` are `None` when the request did not
/// tell them; the error's members then go without the shapes that the model gives them.
pub fn encode_error(
    protocol: Protocol,
    model: Option<&ServiceModel>,
    operation: Option<&Operation>,
    request_id: RequestId,
    error: &ApiError,
) -> Response {
    let shape = model.and_then(|model| model.error(operation, &error.code));
    match protocol {
        Protocol::AwsJson1_0 | Protocol::AwsJson1_1 => json::encode_error(protocol, shape, error),
        Protocol::Query => query::encode_error(model, request_id, error),
        Protocol::Ec2Query => ec2_query::encode_error(request_id, error),
    }
}
