//! Whether a signature is good: the order of the checks is the order of this file.

use std::sync::Arc;

use http::HeaderMap;
use subtle::ConstantTimeEq;
use wharf_contracts::{CredentialSource, Secret};
use wharf_core::limits::{PRESIGNED_LIFETIME_MAX, SIGNATURE_SKEW_MAX};
use wharf_core::{Principal, Region, Session, SessionOrigin, Timestamp};

pub use super::canonical::PathForm;
use super::canonical::{QuerySkip, canonical_request, hex_sha256, string_to_sign};
use super::claim::{Claim, ClaimForm};
use super::date::SignatureDate;
use super::error::SignatureError;
use super::key::KeyCache;
use super::{SignedParts, UNSIGNED_PAYLOAD};
use crate::echo;

/// Where services differ in what they accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub path: PathForm,
    pub unsigned_payload: UnsignedPayload,
    pub expiry: PresignedExpiry,
}

/// May the body be left out of the signature (`UNSIGNED-PAYLOAD`)?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsignedPayload {
    Refused,
    Accepted,
}

/// When a presigned URL ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresignedExpiry {
    /// At `X-Amz-Expires`: S3.
    Exact,
    /// At `X-Amz-Expires`, but not before the 15 minutes that any signature is good for: STS
    /// takes a URL presigned for 60 seconds for 15 minutes, and EKS tokens count on it.
    NotBeforeSkew,
}

impl Policy {
    /// Every service but S3.
    pub const STANDARD: Self = Self {
        path: PathForm::NormalizedTwiceEncoded,
        unsigned_payload: UnsignedPayload::Refused,
        expiry: PresignedExpiry::NotBeforeSkew,
    };
    pub const S3: Self = Self {
        path: PathForm::OnceEncoded,
        unsigned_payload: UnsignedPayload::Accepted,
        expiry: PresignedExpiry::Exact,
    };

    /// The policy of a signing name.
    pub fn of(signing_name: &str) -> Self {
        if signing_name == "s3" { Self::S3 } else { Self::STANDARD }
    }
}

/// A caller who has proved who they are.
#[derive(Clone, Debug)]
pub struct Verified {
    pub principal: Principal,
    /// What the session token said, for temporary credentials.
    pub session: Option<Arc<Session>>,
    pub access_key_id: String,
    /// The region of the credential scope.
    pub region: Region,
}

impl Verified {
    /// A caller who has proved nothing and need not, in the region that has AWS's global endpoints.
    pub(crate) fn anonymous() -> Self {
        Self {
            principal: Principal::Anonymous,
            session: None,
            access_key_id: String::new(),
            region: Region::default(),
        }
    }
}

/// Verifies signatures against the secrets of a credential source.
pub struct Verifier {
    credentials: Arc<dyn CredentialSource>,
    keys: KeyCache,
}

impl Verifier {
    pub fn new(credentials: Arc<dyn CredentialSource>) -> Self {
        Self { credentials, keys: KeyCache::new() }
    }

    /// Verifies that `claim` was made with the secret of its key over exactly this request, for
    /// `service`, at about `now`.
    ///
    /// # Errors
    /// As [`SignatureError`] says. Nothing of the request is to be trusted then.
    pub fn verify(
        &self,
        claim: &Claim<'_>,
        parts: &SignedParts<'_>,
        service: &str,
        policy: Policy,
        now: Timestamp,
    ) -> Result<Verified, SignatureError> {
        let scope = claim.scope();
        let credentials =
            self.credentials.credentials(claim.access_key_id(), claim.session_token.as_deref(), now)?;
        let region: Region = scope
            .region
            .parse()
            .map_err(|_| scope_error("Credential should be scoped to a valid region. "))?;
        let verified = Verified {
            principal: credentials.principal,
            session: credentials.session,
            access_key_id: claim.access_key_id().to_owned(),
            region,
        };
        let secret = match &credentials.secret {
            Secret::Known(secret) => secret,
            // The source has said that this key is taken at its word.
            Secret::Unverified => return Ok(verified),
        };
        check_scope(claim, service)?;
        check_date(claim, policy, now)?;
        check_signed_headers(claim, parts.headers)?;

        let payload_hash = payload_hash(claim, parts, policy)?;
        let date = claim.date.to_iso8601();
        let key = self.keys.get(claim.access_key_id(), secret, &scope);
        let signature = |query_skip| {
            let canonical = canonical_request(
                parts,
                policy.path,
                query_skip,
                claim.signed_headers(),
                claim.signed_headers_text(),
                &payload_hash,
            );
            key.sign(&string_to_sign(&date, claim.scope_text(), &canonical))
        };
        let given = parse_signature(&claim.signature).ok_or(SignatureError::Mismatch)?;
        let good = match claim.form {
            ClaimForm::Header => bool::from(signature(QuerySkip::Nothing).ct_eq(&given)),
            // A client of some services adds the token behind the signature. The source has judged
            // the token by itself in either case.
            ClaimForm::Query { .. } => {
                bool::from(signature(QuerySkip::Signature).ct_eq(&given))
                    || (claim.session_token.is_some()
                        && bool::from(signature(QuerySkip::SignatureAndToken).ct_eq(&given)))
            }
        };
        if !good {
            return Err(SignatureError::Mismatch);
        }
        if service == "iam" && verified.session.as_deref().is_some_and(may_not_call_iam) {
            return Err(SignatureError::UnknownKey);
        }
        Ok(verified)
    }
}

/// IAM takes no session of a federated user, and of a user only one with a second factor (STS API
/// Reference, `GetFederationToken` and `GetSessionToken`). AWS says no more than that the token is
/// invalid.
fn may_not_call_iam(session: &Session) -> bool {
    match session.origin {
        SessionOrigin::GetFederationToken => true,
        SessionOrigin::GetSessionToken => session.mfa_at.is_none(),
        SessionOrigin::AssumeRole | SessionOrigin::AssumeRoleWithWebIdentity | SessionOrigin::Service => {
            false
        }
    }
}

fn check_scope(claim: &Claim<'_>, service: &str) -> Result<(), SignatureError> {
    let scope = claim.scope();
    if scope.terminator != "aws4_request" {
        return Err(scope_error(format!(
            "Credential should be scoped with a valid terminator: 'aws4_request', not '{}'.",
            bounded(scope.terminator)
        )));
    }
    if scope.service != service {
        return Err(scope_error(format!("Credential should be scoped to correct service: '{service}'. ")));
    }
    let date = claim.date.to_iso8601();
    if scope.date != &date[..8] {
        return Err(scope_error(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
             '{}' != '{}', from '{date}'.",
            bounded(scope.date),
            &date[..8]
        )));
    }
    Ok(())
}

fn check_date(claim: &Claim<'_>, policy: Policy, now: Timestamp) -> Result<(), SignatureError> {
    let skew = SIGNATURE_SKEW_MAX.as_secs() as i64;
    let minutes = skew / 60;
    let signed = claim.date;
    let now = SignatureDate::from_timestamp(now);
    if signed > now.plus_seconds(skew) {
        return Err(SignatureError::Expired {
            message: format!(
                "Signature not yet current: {} is still later than {} ({} + {minutes} min.)",
                signed.to_iso8601(),
                now.plus_seconds(skew).to_iso8601(),
                now.to_iso8601()
            ),
        });
    }
    let lifetime = match claim.form {
        ClaimForm::Header => skew,
        ClaimForm::Query { expires_seconds } => {
            if expires_seconds == 0 || expires_seconds > PRESIGNED_LIFETIME_MAX.as_secs() {
                return Err(SignatureError::Incomplete {
                    message: format!(
                        "X-Amz-Expires must be between 1 and {} seconds",
                        PRESIGNED_LIFETIME_MAX.as_secs()
                    ),
                });
            }
            // At most seven days: it fits.
            let expires = expires_seconds as i64;
            match policy.expiry {
                PresignedExpiry::Exact => expires,
                PresignedExpiry::NotBeforeSkew => expires.max(skew),
            }
        }
    };
    if signed.plus_seconds(lifetime) < now {
        let earliest = now.plus_seconds(-lifetime);
        return Err(SignatureError::Expired {
            message: format!(
                "Signature expired: {} is now earlier than {} ({} - {} min.)",
                signed.to_iso8601(),
                earliest.to_iso8601(),
                now.to_iso8601(),
                lifetime / 60
            ),
        });
    }
    Ok(())
}

/// The headers that decide what a request means must be under the signature: `host` and every
/// `x-amz-*`. A session token may be added behind the signature; it is compared by itself. The
/// date is a part of the string to sign.
fn check_signed_headers(claim: &Claim<'_>, headers: &HeaderMap) -> Result<(), SignatureError> {
    if !claim.signs_header("host") {
        return Err(scope_error("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."));
    }
    for name in headers.keys().map(http::HeaderName::as_str) {
        let must = name.starts_with("x-amz-") && name != "x-amz-security-token" && name != "x-amz-date";
        if must && !claim.signs_header(name) {
            return Err(scope_error(format!(
                "'{}' must be a 'SignedHeader' in the AWS Authorization.",
                bounded(name)
            )));
        }
    }
    Ok(())
}

/// The hash that stands in the canonical request: always of the body that came, unless the
/// service accepts an unsigned one.
fn payload_hash(
    claim: &Claim<'_>,
    parts: &SignedParts<'_>,
    policy: Policy,
) -> Result<String, SignatureError> {
    let header = parts.headers.get("x-amz-content-sha256").map(http::HeaderValue::as_bytes);
    let unsigned_is_accepted = policy.unsigned_payload == UnsignedPayload::Accepted;
    match header {
        Some(form) if form.starts_with(b"STREAMING-") => {
            let form = String::from_utf8_lossy(form);
            return Err(SignatureError::PayloadForm { form: bounded(&form).to_owned() });
        }
        Some(form) if form == UNSIGNED_PAYLOAD.as_bytes() && unsigned_is_accepted => {
            return Ok(UNSIGNED_PAYLOAD.to_owned());
        }
        None if matches!(claim.form, ClaimForm::Query { .. }) && unsigned_is_accepted => {
            return Ok(UNSIGNED_PAYLOAD.to_owned());
        }
        _ => {}
    }
    let hash = hex_sha256(parts.body);
    // A hash in the header must be the body's own. It is not secret.
    if header.is_some_and(|header| header != hash) {
        return Err(SignatureError::Mismatch);
    }
    Ok(String::from_utf8_lossy(&hash).into_owned())
}

/// 64 lower-case hexadecimal digits.
fn parse_signature(text: &str) -> Option<[u8; 32]> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut signature = [0; 32];
    hex::decode_to_slice(text, &mut signature).ok()?;
    Some(signature)
}

fn scope_error(message: impl Into<String>) -> SignatureError {
    SignatureError::Scope { message: message.into() }
}

fn bounded(text: &str) -> &str {
    echo::bounded(text, 64)
}
