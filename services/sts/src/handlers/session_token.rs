//! `GetSessionToken`: the caller itself, for a while.

use wharf_core::{ApiError, RequestContext, SessionOrigin};
use wharf_sts_api::types;

use super::{access_denied, issue, new_session, refuse_second_factor, refuse_session};
use crate::Sts;
use crate::plan::duration::{self, Owner};

pub(crate) fn get_session_token(
    sts: &Sts,
    context: &RequestContext,
    input: &types::GetSessionTokenRequest,
) -> Result<types::GetSessionTokenResponse, ApiError> {
    refuse_session(context, "GetSessionToken")?;
    refuse_second_factor(input.serial_number.as_deref(), input.token_code.as_deref())?;
    let partition = context.partition();
    let issuer = context
        .principal
        .principal_arn(partition)
        .ok_or_else(|| access_denied("Only users have sessions of their own"))?;
    let owner = if context.principal.is_root() { Owner::Root } else { Owner::User };
    let session = new_session(
        context.now,
        duration::of_user(input.duration_seconds, owner),
        SessionOrigin::GetSessionToken,
        issuer,
        context.principal.user_id(),
    );
    let handed = issue(sts, &context.principal, &session, input.minimum_session_token_size)?;
    Ok(types::GetSessionTokenResponse {
        credentials: Some(handed.credentials),
        session_token_size: Some(handed.token_size),
        session_token_utilization: Some(handed.utilization),
    })
}
