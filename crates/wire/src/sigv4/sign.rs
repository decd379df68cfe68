//! Making signatures, for the command line and for tools that call the API themselves.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use wharf_core::Timestamp;

use super::canonical::{QuerySkip, canonical_request, escape, hex_sha256, string_to_sign};
use super::claim::CredentialScope;
use super::date::SignatureDate;
use super::key::SigningKey;
use super::verify::Policy;
use super::{ALGORITHM, SignedParts};

/// The key pair that signs.
#[derive(Clone)]
pub struct SigningCredentials {
    pub access_key_id: String,
    /// Never logged, never sent.
    pub secret_access_key: String,
    pub session_token: Option<String>,
}

impl std::fmt::Debug for SigningCredentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SigningCredentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// A text that cannot stand in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the credentials have characters that a header cannot carry")]
pub struct SignError;

/// Signs a request in the header form: adds `x-amz-date`, `x-amz-security-token` and
/// `authorization` to `headers`, which must hold `host` already. Every header that is there is
/// signed, except those that a proxy may change.
///
/// # Errors
/// When a credential cannot be written into a header.
#[expect(clippy::too_many_arguments, reason = "the parts of a request, each once")]
pub fn sign(
    credentials: &SigningCredentials,
    service: &str,
    region: &str,
    method: &str,
    path: &str,
    query: &str,
    headers: &mut HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<(), SignError> {
    let date = SignatureDate::from_timestamp(now).to_iso8601();
    let scope = CredentialScope { date: &date[..8], region, service, terminator: "aws4_request" };
    headers.insert("x-amz-date", HeaderValue::from_str(&date).map_err(|_| SignError)?);
    if let Some(token) = &credentials.session_token {
        headers.insert("x-amz-security-token", HeaderValue::from_str(token).map_err(|_| SignError)?);
    }
    let mut names: Vec<&str> = headers
        .keys()
        .map(http::HeaderName::as_str)
        .filter(|name| !UNSIGNED_HEADERS.contains(name))
        .collect();
    names.sort_unstable();
    let signed_headers = names.join(";");
    let parts = SignedParts { method, path, query, headers, body };
    let hash = hex_sha256(body);
    let canonical = canonical_request(
        &parts,
        Policy::of(service).path,
        QuerySkip::Nothing,
        names.iter().copied(),
        &signed_headers,
        &String::from_utf8_lossy(&hash),
    );
    let scope_text = scope_text(&scope);
    let signature = SigningKey::derive(&credentials.secret_access_key, &scope).sign(&string_to_sign(
        &date,
        &scope_text,
        &canonical,
    ));
    let authorization = format!(
        "{ALGORITHM} Credential={}/{scope_text}, SignedHeaders={signed_headers}, Signature={}",
        credentials.access_key_id,
        hex::encode(signature)
    );
    headers.insert(AUTHORIZATION, HeaderValue::from_str(&authorization).map_err(|_| SignError)?);
    Ok(())
}

/// What a proxy or the HTTP library may change on the way.
const UNSIGNED_HEADERS: [&str; 6] =
    ["authorization", "connection", "expect", "transfer-encoding", "user-agent", "x-amzn-trace-id"];

/// Signs a request in the query form. Returns the query string with the signature in it; `host` is
/// the only header that the request needs.
#[expect(clippy::too_many_arguments, reason = "the parts of a request, each once")]
pub fn presign(
    credentials: &SigningCredentials,
    service: &str,
    region: &str,
    method: &str,
    host: &HeaderValue,
    path: &str,
    query: &str,
    expires_seconds: u64,
    now: Timestamp,
) -> String {
    let date = SignatureDate::from_timestamp(now).to_iso8601();
    let scope = CredentialScope { date: &date[..8], region, service, terminator: "aws4_request" };
    let scope_text = scope_text(&scope);
    let mut full = query.to_owned();
    let mut add = |name: &str, value: &str| {
        if !full.is_empty() {
            full.push('&');
        }
        let mut escaped = Vec::new();
        escape(&mut escaped, value.as_bytes(), b"");
        full.push_str(name);
        full.push('=');
        full.push_str(&String::from_utf8_lossy(&escaped));
    };
    add("X-Amz-Algorithm", ALGORITHM);
    add("X-Amz-Credential", &format!("{}/{scope_text}", credentials.access_key_id));
    add("X-Amz-Date", &date);
    add("X-Amz-Expires", &expires_seconds.to_string());
    add("X-Amz-SignedHeaders", "host");
    if let Some(token) = &credentials.session_token {
        add("X-Amz-Security-Token", token);
    }
    let mut headers = HeaderMap::new();
    headers.insert(http::header::HOST, host.clone());
    let parts = SignedParts { method, path, query: &full, headers: &headers, body: b"" };
    let policy = Policy::of(service);
    let hash = hex_sha256(b"");
    let payload = match policy.unsigned_payload {
        super::verify::UnsignedPayload::Accepted => super::UNSIGNED_PAYLOAD.into(),
        super::verify::UnsignedPayload::Refused => String::from_utf8_lossy(&hash),
    };
    let canonical =
        canonical_request(&parts, policy.path, QuerySkip::Nothing, std::iter::once("host"), "host", &payload);
    let signature = SigningKey::derive(&credentials.secret_access_key, &scope).sign(&string_to_sign(
        &date,
        &scope_text,
        &canonical,
    ));
    format!("{full}&X-Amz-Signature={}", hex::encode(signature))
}

fn scope_text(scope: &CredentialScope<'_>) -> String {
    format!("{}/{}/{}/{}", scope.date, scope.region, scope.service, scope.terminator)
}
