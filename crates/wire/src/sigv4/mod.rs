//! AWS Signature Version 4: reading, verifying and making signatures, in the header form and in
//! the query (presigned) form.
//!
//! Source: IAM User Guide, "AWS Signature Version 4 for API requests".
//!
//! What must not happen here: a decision that depends on a secret in a time that tells about it;
//! a secret in a log line or an error; a signature accepted because a part of the request was
//! ignored. Which service a request is for is read from the signature but judged by the pipeline.

mod canonical;
mod claim;
mod date;
mod error;
mod key;
mod sign;
mod verify;

#[cfg(test)]
mod tests;

pub use claim::{Claim, ClaimForm, CredentialScope};
pub use error::SignatureError;
pub use sign::{SignError, SigningCredentials, presign, sign};
pub use verify::{PathForm, Policy, PresignedExpiry, UnsignedPayload, Verified, Verifier};

use http::HeaderMap;

/// The only algorithm that is accepted. SigV4a (`AWS4-ECDSA-P256-SHA256`) is refused by name.
pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// What a request that leaves its body unsigned says in place of the body's hash.
pub(crate) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// A request as it stood on the wire: nothing decoded, nothing normalized.
#[derive(Clone, Copy, Debug)]
pub struct SignedParts<'a> {
    pub method: &'a str,
    /// The path with its percent escapes; `/` when there is none.
    pub path: &'a str,
    /// What stands behind the `?`, with its percent escapes.
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}
