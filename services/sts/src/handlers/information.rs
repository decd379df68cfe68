//! `GetCallerIdentity`, `GetAccessKeyInfo`, `DecodeAuthorizationMessage`: what STS tells.

use wharf_core::{ApiError, RequestContext, access_key};
use wharf_sts_api::{errors, types};

use super::{refuse_restricted, validation};
use crate::Sts;

pub(crate) fn get_caller_identity(context: &RequestContext) -> types::GetCallerIdentityResponse {
    types::GetCallerIdentityResponse {
        user_id: Some(context.principal.user_id()),
        account: Some(context.principal.account().to_string()),
        arn: Some(context.principal.arn(context.partition())),
    }
}

/// The account is in the id itself, so that ids that were deleted tell it too, as on AWS.
pub(crate) fn get_access_key_info(
    context: &RequestContext,
    input: &types::GetAccessKeyInfoRequest,
) -> Result<types::GetAccessKeyInfoResponse, ApiError> {
    refuse_restricted(context, "GetAccessKeyInfo")?;
    let account = access_key::account_of(&input.access_key_id)
        .ok_or_else(|| validation("The specified access key ID does not exist."))?;
    Ok(types::GetAccessKeyInfoResponse { account: Some(account.to_string()) })
}

pub(crate) fn decode_authorization_message(
    sts: &Sts,
    context: &RequestContext,
    input: &types::DecodeAuthorizationMessageRequest,
) -> Result<types::DecodeAuthorizationMessageResponse, ApiError> {
    refuse_restricted(context, "DecodeAuthorizationMessage")?;
    let decoded = sts.messages.decode(context.account(), &input.encoded_message).ok_or_else(|| {
        errors::invalid_authorization_message_exception("The encoded message is not valid.")
    })?;
    Ok(types::DecodeAuthorizationMessageResponse { decoded_message: Some(decoded) })
}
