//! What IAM is asked for each operation: the action, the resources, the condition keys.
//!
//! Service Authorization Reference, "Actions, resources, and condition keys for AWS Security Token
//! Service".
#![allow(clippy::unnecessary_wraps, reason = "the entries of a table have one form")]

use std::sync::Arc;

use wharf_contracts::{
    AuthorizationTable, Check, Entry, OperationRequest, Required, Resource, ResourcePolicyKind,
    ServiceAuthorization, Tags,
};
use wharf_core::ApiError;
use wharf_sts_api::types;

use crate::Sts;
use crate::handlers::refuse_second_factor;
use crate::role::RoleArn;

const ENTRIES: &[Entry<Sts>] = &[
    Entry::new("AssumeRole", assume_role).across_accounts(),
    // Nobody has a policy who has no identity yet: the handler asks the role's trust policy.
    Entry::new("AssumeRoleWithWebIdentity", nothing),
    Entry::new("DecodeAuthorizationMessage", on_any),
    Entry::new("GetAccessKeyInfo", on_any),
    Entry::new("GetCallerIdentity", nothing),
    Entry::new("GetFederationToken", get_federation_token),
    Entry::new("GetSessionToken", nothing),
];

/// The table, for the pipeline.
pub fn authorization(sts: &Arc<Sts>) -> Arc<dyn ServiceAuthorization> {
    AuthorizationTable::new(&wharf_sts_api::MODEL, Arc::clone(sts), ENTRIES)
}

type Request<'a> = OperationRequest<'a>;
type Answer = Result<Required, ApiError>;

fn nothing(_: &Sts, _: &Request<'_>) -> Answer {
    Ok(Required::Nothing)
}

fn on_any(_: &Sts, request: &Request<'_>) -> Answer {
    Ok(request.on_any().into())
}

fn assume_role(sts: &Sts, request: &Request<'_>) -> Answer {
    let input = request.input::<types::AssumeRoleRequest>()?;
    let arn = RoleArn::parse(&input.role_arn)?;
    refuse_second_factor(input.serial_number.as_deref(), input.token_code.as_deref())?;
    let mut role = Resource::new(input.role_arn.as_str(), arn.account);
    if let Some(facts) = sts.role(&arn) {
        role = role.with_tags(&facts.tags).with_policy(facts.trust_policy, ResourcePolicyKind::Trust);
    }
    let calling = request.context.session.as_deref();
    let source_identity = input
        .source_identity
        .as_deref()
        .or_else(|| calling.and_then(|session| session.source_identity.as_deref()));
    let tags = request.tags("Tags");
    let transitive = input.transitive_tag_keys.as_deref().unwrap_or_default();
    let about = |check: Check| {
        let check = check
            .with("sts:RoleSessionName", input.role_session_name.as_str())
            .with_some("sts:ExternalId", input.external_id.as_deref())
            .with_some("sts:SourceIdentity", source_identity)
            .with_some("sts:DurationSeconds", input.duration_seconds.map(|seconds| seconds.to_string()))
            .with_request_tags(&tags);
        if transitive.is_empty() {
            check
        } else {
            check.with_many("sts:TransitiveTagKeys", transitive.iter().cloned())
        }
    };
    let mut checks = vec![about(request.on([role.clone()]))];
    if !tags.is_empty() {
        checks.push(about(request.action("sts:TagSession", [role.clone()])));
    }
    // The identity that a session has goes on to the next, which must be willing to take it.
    if source_identity.is_some() {
        checks.push(about(request.action("sts:SetSourceIdentity", [role])));
    }
    Ok(checks.into())
}

fn get_federation_token(_: &Sts, request: &Request<'_>) -> Answer {
    let name = request.text("Name").unwrap_or("*");
    let user = request.global("sts", format!("federated-user/{name}"));
    let tags: Tags = request.tags("Tags");
    let mut checks = vec![request.on([user.clone()]).with_request_tags(&tags)];
    if !tags.is_empty() {
        checks.push(request.action("sts:TagSession", [user]).with_request_tags(&tags));
    }
    Ok(checks.into())
}
