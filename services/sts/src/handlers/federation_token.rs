//! `GetFederationToken`: a part of what a user may do, under somebody else's name.

use wharf_core::{ApiError, Principal, RequestContext, SessionOrigin};
use wharf_sts_api::types;

use super::{access_denied, issue, new_session, refuse_session, requested_tags};
use crate::plan::duration::{self, Owner};
use crate::{Sts, policies};

pub(crate) fn get_federation_token(
    sts: &Sts,
    context: &RequestContext,
    input: types::GetFederationTokenRequest,
) -> Result<types::GetFederationTokenResponse, ApiError> {
    refuse_session(context, "GetFederationToken")?;
    let partition = context.partition();
    let account = context.principal.account();
    let owner = match &context.principal {
        Principal::User { .. } => Owner::User,
        Principal::Root { .. } => Owner::Root,
        _ => return Err(access_denied("Only users have federated users")),
    };
    let tags = requested_tags(input.tags, None)?;
    let policies = policies::of_session(sts, account, input.policy, input.policy_arns)?;
    let packed = policies::packed_percent(&policies, &tags.tags)?;
    let principal = Principal::FederatedUser { account, name: input.name.as_str().into() };
    let mut session = new_session(
        context.now,
        duration::of_user(input.duration_seconds, owner),
        SessionOrigin::GetFederationToken,
        context.principal.arn(partition),
        context.principal.user_id(),
    );
    session.policies = policies.inline;
    session.policy_arns = policies.arns;
    session.tags = tags.tags;
    let handed = issue(sts, &principal, &session, input.minimum_session_token_size)?;
    Ok(types::GetFederationTokenResponse {
        credentials: Some(handed.credentials),
        federated_user: Some(types::FederatedUser {
            arn: principal.arn(partition),
            federated_user_id: principal.user_id(),
        }),
        packed_policy_size: packed,
        session_token_size: Some(handed.token_size),
        session_token_utilization: Some(handed.utilization),
    })
}
