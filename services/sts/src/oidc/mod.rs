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

/// Fuzz target: reads the bytes as a token and as a key set, and verifies the one with the other. No
/// signature can be right, since nobody has signed.
///
/// # Panics
/// When something that nobody has signed is taken.
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (token, document) = text.split_once('\n').unwrap_or((&text, ""));
    let keys = keys::KeySet::parse(document.as_bytes()).unwrap_or_default();
    let Ok(token) = token::Token::parse(token) else { return };
    let provider = wharf_contracts::OidcProvider {
        arn: String::new(),
        url: token.issuer().unwrap_or_default().to_owned(),
        client_ids: vec![String::new()],
        thumbprints: Vec::new(),
    };
    let verified = token.verify(&provider, &keys, wharf_core::Timestamp::from_millis(0));
    assert!(verified.is_err(), "a token that nobody has signed");
}
