//! What IAM is asked for each operation: the action, the resources, the condition keys.
//!
//! Service Authorization Reference, "Actions, resources, and condition keys for AWS Systems
//! Manager". A parameter's ARN has its name without the slash in front.
#![allow(clippy::unnecessary_wraps, reason = "the entries of a table have one form")]

use std::sync::Arc;

use wharf_contracts::{
    AuthorizationTable, Entry, OperationRequest, Required, Resource, ServiceAuthorization,
};
use wharf_core::{ApiError, RequestContext};
use wharf_ssm_api::types;

use crate::handlers::public_arn;
use crate::plan::name::{PUBLIC_PREFIX, Reference};
use crate::{Ssm, find, records};

const ENTRIES: &[Entry<Ssm>] = &[
    Entry::new("AddTagsToResource", on_tagged),
    Entry::new("DeleteParameter", on_name),
    Entry::new("DeleteParameters", on_names),
    Entry::new("DescribeParameters", |_, request| Ok(request.on_any().into())),
    Entry::new("GetParameter", on_name),
    Entry::new("GetParameterHistory", on_name),
    Entry::new("GetParameters", on_names),
    Entry::new("GetParametersByPath", on_path),
    Entry::new("LabelParameterVersion", on_name),
    Entry::new("ListTagsForResource", on_tagged),
    Entry::new("PutParameter", put_parameter),
    Entry::new("RemoveTagsFromResource", on_tagged),
    Entry::new("UnlabelParameterVersion", on_name),
];

/// The table, for the pipeline.
pub fn authorization(ssm: &Arc<Ssm>) -> Arc<dyn ServiceAuthorization> {
    AuthorizationTable::new(&wharf_ssm_api::MODEL, Arc::clone(ssm), ENTRIES)
}

type Request<'a> = OperationRequest<'a>;
type Answer = Result<Required, ApiError>;

/// The parameter that a text points at, with its tags. A text that points at none is asked for as it
/// is: the handler refuses it.
pub fn parameter_resource(ssm: &Ssm, context: &RequestContext, text: &str) -> Resource {
    let Ok(reference) = Reference::parse(text) else {
        let arn = records::arn(&context.scope, text);
        return Resource::new(arn, context.account());
    };
    let scope = match &reference.place {
        None => context.scope.clone(),
        Some((account, region)) => wharf_core::Scope { account: *account, region: region.clone() },
    };
    let name = reference.names.first().map(String::as_str).unwrap_or_default();
    if name.starts_with(PUBLIC_PREFIX) {
        // They belong to nobody, so an identity policy alone decides.
        return Resource::new(public_arn(&scope, name), context.account());
    }
    let resource = Resource::new(records::arn(&scope, name), scope.account);
    if scope.account != context.account() {
        return resource;
    }
    let snapshot = ssm.store.snapshot();
    let found = reference.names.iter().find_map(|name| find(&snapshot, &scope, name, context.now));
    found.map_or(resource.clone(), |parameter| resource.with_tags(&parameter.tags))
}

fn on_name(ssm: &Ssm, request: &Request<'_>) -> Answer {
    let name = request.text("Name").unwrap_or_default();
    Ok(request.on([parameter_resource(ssm, request.context, name)]).into())
}

fn on_names(ssm: &Ssm, request: &Request<'_>) -> Answer {
    let names = request.texts("Names");
    Ok(request.on(names.into_iter().map(|name| parameter_resource(ssm, request.context, name))).into())
}

/// The path is asked for, and not what is found below it.
fn on_path(_: &Ssm, request: &Request<'_>) -> Answer {
    let input: &types::GetParametersByPathRequest = request.input()?;
    let path = input.path.trim_matches(' ').trim_end_matches('/');
    let resource = if path.starts_with(PUBLIC_PREFIX) {
        Resource::new(public_arn(&request.context.scope, path), request.context.account())
    } else {
        request.regional("ssm", format!("parameter/{}", path.trim_start_matches('/')))
    };
    let recursive = if input.recursive == Some(true) { "true" } else { "false" };
    Ok(request.on([resource]).with("ssm:Recursive", recursive).into())
}

fn put_parameter(ssm: &Ssm, request: &Request<'_>) -> Answer {
    let input: &types::PutParameterRequest = request.input()?;
    let text = |flag| if flag { "true" } else { "false" };
    let tags = request.tags("Tags");
    let RequestContext { scope, now, .. } = request.context;
    let name = input.name.trim_matches(' ');
    let parameter = Resource::new(records::arn(scope, name), request.context.account());
    // Who may not touch what has a tag may not overwrite it either.
    let parameter = match find(&ssm.store.snapshot(), scope, name, *now) {
        Some(found) => parameter.with_tags(&found.tags),
        None => parameter,
    };
    let put = request
        .on([parameter.clone()])
        .with("ssm:Overwrite", text(input.overwrite == Some(true)))
        .with("ssm:Policies", text(input.policies.is_some()))
        .with_request_tags(&tags);
    if tags.is_empty() {
        return Ok(put.into());
    }
    let tagging = request.action("ssm:AddTagsToResource", [parameter]).with_request_tags(&tags);
    Ok(vec![put, tagging].into())
}

fn on_tagged(ssm: &Ssm, request: &Request<'_>) -> Answer {
    let parameter = match (request.text("ResourceType"), request.text("ResourceId")) {
        (Some("Parameter"), Some(id)) => parameter_resource(ssm, request.context, id),
        _ => request.any(),
    };
    let keys = request.texts("TagKeys").into_iter().map(ToOwned::to_owned).collect::<Vec<_>>();
    let check = request.on([parameter]).with_request_tags(&request.tags("Tags"));
    Ok(if keys.is_empty() { check } else { check.with_tag_keys(keys) }.into())
}
