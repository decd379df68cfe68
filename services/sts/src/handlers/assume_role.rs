//! `AssumeRole`. The authorizer has asked the caller's policies and the role's trust policy already,
//! as `authorization.rs` says; this makes the session.

use wharf_core::{ApiError, Principal, RequestContext, SessionOrigin};
use wharf_sts_api::types;

use super::{
    access_denied, issue, new_session, not_authorized, refuse_federated, requested_tags, tag_error,
    validation,
};
use crate::plan::duration::{self, Chaining};
use crate::plan::tags;
use crate::role::{RoleArn, session_of};
use crate::{Sts, policies};

pub(crate) fn assume_role(
    sts: &Sts,
    context: &RequestContext,
    input: types::AssumeRoleRequest,
) -> Result<types::AssumeRoleResponse, ApiError> {
    if input.provided_contexts.is_some() {
        return Err(ApiError::not_implemented("the field \"ProvidedContexts\" of sts:AssumeRole"));
    }
    if context.principal.is_root() {
        return Err(access_denied("Roles may not be assumed by root accounts."));
    }
    refuse_federated(context, "AssumeRole")?;
    let arn = RoleArn::parse(&input.role_arn)?;
    let role = sts.role(&arn).ok_or_else(|| not_authorized(context, "sts:AssumeRole", &input.role_arn))?;

    let chaining = match context.principal {
        Principal::AssumedRole { .. } => Chaining::Chained,
        _ => Chaining::First,
    };
    let lifetime = duration::of_role(input.duration_seconds, role.max_session_duration, chaining)
        .map_err(|error| validation(error.to_string()))?;
    let mut tags = requested_tags(input.tags, input.transitive_tag_keys)?;
    let mut source_identity = input.source_identity;
    if let Some(calling) = &context.session {
        tags = tags::inherited(tags, &calling.tags, &calling.transitive_tag_keys).map_err(tag_error)?;
        if let Some(set) = &calling.source_identity {
            if source_identity.as_ref().is_some_and(|wanted| wanted != set) {
                return Err(access_denied("The source identity is already set for this assume role session"));
            }
            source_identity = Some(set.clone());
        }
    }
    let policies = policies::of_session(sts, role.account, input.policy, input.policy_arns)?;
    let packed = policies::packed_percent(&policies, &tags.tags)?;

    let principal = session_of(&role, &input.role_session_name);
    let mut session = new_session(
        context.now,
        lifetime,
        SessionOrigin::AssumeRole,
        principal.principal_arn(arn.partition).unwrap_or_default(),
        role.id,
    );
    session.policies = policies.inline;
    session.policy_arns = policies.arns;
    session.tags = tags.tags;
    session.transitive_tag_keys = tags.transitive;
    session.source_identity = source_identity.clone();
    let handed = issue(sts, &principal, &session, input.minimum_session_token_size)?;
    Ok(types::AssumeRoleResponse {
        assumed_role_user: Some(types::AssumedRoleUser {
            arn: principal.arn(arn.partition),
            assumed_role_id: principal.user_id(),
        }),
        credentials: Some(handed.credentials),
        packed_policy_size: packed,
        session_token_size: Some(handed.token_size),
        session_token_utilization: Some(handed.utilization),
        source_identity,
    })
}
