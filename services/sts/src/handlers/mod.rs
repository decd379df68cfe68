//! The operations.

pub(crate) mod assume_role;
pub(crate) mod federation_token;
pub(crate) mod information;
pub(crate) mod session_token;
pub(crate) mod web_identity;

use wharf_core::{ApiError, Principal, RequestContext, Session, SessionOrigin, Timestamp};
use wharf_sts_api::types;

use crate::Sts;
use crate::plan::tags::{self, SessionTags, TagError};
use crate::token::{IssueError, Issued, TOKEN_BYTES_MAX};

pub(crate) fn access_denied(message: impl Into<String>) -> ApiError {
    ApiError::sender("AccessDenied", message).with_status(403)
}

pub(crate) fn validation(message: impl Into<String>) -> ApiError {
    ApiError::sender("ValidationError", message)
}

/// AWS's sentence for a caller who may not do something to a resource and is told no reason.
pub(crate) fn not_authorized(context: &RequestContext, action: &str, resource: &str) -> ApiError {
    access_denied(format!(
        "User: {} is not authorized to perform: {action} on resource: {resource}",
        context.principal.arn(context.partition())
    ))
}

/// What is wrong with tags, in the error that AWS gives for it.
pub(crate) fn tag_error(error: TagError) -> ApiError {
    match error {
        TagError::Conflict | TagError::TransitiveWithoutTag | TagError::Duplicate | TagError::Reserved => {
            ApiError::sender("InvalidParameterValue", error.to_string())
        }
        TagError::Size | TagError::TooMany => validation(error.to_string()),
    }
}

pub(crate) fn requested_tags(
    tags: Option<Vec<types::Tag>>,
    transitive: Option<Vec<String>>,
) -> Result<SessionTags, ApiError> {
    let tags = tags.unwrap_or_default().into_iter().map(|tag| (tag.key, tag.value));
    tags::requested(tags, transitive.unwrap_or_default()).map_err(tag_error)
}

/// A second factor cannot be right: IAM here keeps none.
pub(crate) fn refuse_second_factor(serial: Option<&str>, code: Option<&str>) -> Result<(), ApiError> {
    if serial.is_none() && code.is_none() {
        return Ok(());
    }
    Err(access_denied(
        "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number \
         is valid and associated with this user.",
    ))
}

/// Long-term credentials alone may make a session of this kind.
pub(crate) fn refuse_session(context: &RequestContext, operation: &str) -> Result<(), ApiError> {
    if context.session.is_some() {
        return Err(access_denied(format!("Cannot call {operation} with session credentials")));
    }
    Ok(())
}

/// A federated user may ask STS who it is, and nothing else.
pub(crate) fn refuse_federated(context: &RequestContext, operation: &str) -> Result<(), ApiError> {
    refuse_origin(context, &[SessionOrigin::GetFederationToken], operation)
}

/// Sessions of users may assume roles at most.
pub(crate) fn refuse_restricted(context: &RequestContext, operation: &str) -> Result<(), ApiError> {
    refuse_origin(context, &[SessionOrigin::GetFederationToken, SessionOrigin::GetSessionToken], operation)
}

fn refuse_origin(
    context: &RequestContext,
    origins: &[SessionOrigin],
    operation: &str,
) -> Result<(), ApiError> {
    if context.session.as_ref().is_some_and(|session| origins.contains(&session.origin)) {
        return Err(access_denied(format!("Cannot call {operation} with session credentials")));
    }
    Ok(())
}

/// A session without policies, tags or a past, from `now`.
pub(crate) fn new_session(
    now: Timestamp,
    lifetime: std::time::Duration,
    origin: SessionOrigin,
    issuer: String,
    issuer_id: String,
) -> Session {
    // AWS tells whole seconds.
    let now = Timestamp::from_millis(now.as_millis().div_euclid(1000) * 1000);
    Session {
        issued_at: now,
        expires_at: now.plus(lifetime),
        origin,
        issuer,
        issuer_id,
        policies: Vec::new(),
        policy_arns: Vec::new(),
        tags: Default::default(),
        transitive_tag_keys: Default::default(),
        source_identity: None,
        federated_provider: None,
        federated_keys: Default::default(),
        mfa_at: None,
        token_digest: [0; 32],
    }
}

/// The three members of each answer that hands out credentials.
pub(crate) struct Handed {
    pub credentials: types::Credentials,
    pub token_size: i32,
    /// Per cent of the longest token.
    pub utilization: i32,
}

pub(crate) fn issue(
    sts: &Sts,
    principal: &Principal,
    session: &Session,
    size_min: Option<i32>,
) -> Result<Handed, ApiError> {
    let size_min = size_min.and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
    let Issued { access_key_id, secret_access_key, session_token, expires_at } =
        sts.tokens.issue(principal, session, size_min).map_err(|error| match error {
            IssueError::TooLarge => wharf_sts_api::errors::packed_policy_too_large_exception(
                "Session token size exceeds the allotted space, please use smaller policies and tags.",
            ),
            IssueError::Anonymous => ApiError::internal(error),
        })?;
    let size = session_token.len();
    Ok(Handed {
        // At most `TOKEN_BYTES_MAX`: both fit.
        token_size: size as i32,
        utilization: (size * 100).div_ceil(TOKEN_BYTES_MAX) as i32,
        credentials: types::Credentials {
            access_key_id,
            secret_access_key,
            session_token,
            expiration: expires_at,
        },
    })
}
