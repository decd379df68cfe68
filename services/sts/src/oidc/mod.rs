//! Tokens of OpenID Connect providers: read, verified, and turned into what a trust policy is asked.
//!
//! - [`token`] reads a JSON Web Token (RFC 7519) and checks its claims: pure.
//! - [`keys`] reads a provider's key set (RFC 7517) and verifies signatures (RFC 7518): pure.
//! - [`provider`] has a provider's keys, fetched from its discovery document and kept for a while.
//! - [`fetch`] gets a document over HTTPS, or over HTTP on loopback, within limits.

pub mod fetch;
pub mod keys;
pub mod provider;
pub mod token;
