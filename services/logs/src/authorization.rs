//! What IAM is asked for each operation: the action, the resources, the condition keys.
//!
//! Service Authorization Reference, "Actions, resources, and condition keys for Amazon CloudWatch
//! Logs". A group is asked for as `log-group:NAME:log-stream:`, which policies match by
//! `log-group:NAME:*`; only the operations that tag by ARN leave out what follows the name (CloudWatch
//! Logs User Guide, "CloudWatch Logs resources and operations").
#![allow(clippy::unnecessary_wraps, reason = "the entries of a table have one form")]

use std::sync::Arc;

use wharf_contracts::{
    AuthorizationTable, Entry, OperationRequest, Required, Resource, ServiceAuthorization,
};
use wharf_core::ApiError;

use crate::Logs;
use crate::records::{LogGroup, group_of_arn};

const ENTRIES: &[Entry<Logs>] = &[
    Entry::new("CreateLogGroup", create_log_group),
    Entry::new("CreateLogStream", on_stream),
    Entry::new("DeleteLogGroup", on_group),
    Entry::new("DeleteLogStream", on_stream),
    Entry::new("DeleteRetentionPolicy", on_group),
    Entry::new("DescribeLogGroups", describe_log_groups),
    Entry::new("DescribeLogStreams", on_group),
    Entry::new("FilterLogEvents", on_group),
    Entry::new("GetLogEvents", on_stream),
    Entry::new("ListTagsForResource", on_tagged),
    Entry::new("ListTagsLogGroup", on_group),
    Entry::new("PutLogEvents", on_stream),
    Entry::new("PutRetentionPolicy", on_group),
    Entry::new("TagLogGroup", tag_log_group),
    Entry::new("TagResource", tag_resource),
    Entry::new("UntagLogGroup", untag_log_group),
    Entry::new("UntagResource", untag_resource),
];

/// The table, for the pipeline.
pub fn authorization(logs: &Arc<Logs>) -> Arc<dyn ServiceAuthorization> {
    AuthorizationTable::new(&wharf_logs_api::MODEL, Arc::clone(logs), ENTRIES)
}

type Request<'a> = OperationRequest<'a>;
type Answer = Result<Required, ApiError>;

fn create_log_group(logs: &Logs, request: &Request<'_>) -> Answer {
    let tags = request.tags("tags");
    let new = group(logs, request);
    let mut checks = vec![request.on([new.clone()]).with_request_tags(&tags)];
    if !tags.is_empty() {
        // "To create a log group with tags, you must have logs:TagResource" (API Reference).
        checks.push(request.action("logs:TagResource", [new]).with_request_tags(&tags));
    }
    Ok(checks.into())
}

fn describe_log_groups(_: &Logs, request: &Request<'_>) -> Answer {
    Ok(request.on([request.regional("logs", "log-group::log-stream:")]).into())
}

fn on_group(logs: &Logs, request: &Request<'_>) -> Answer {
    Ok(request.on([group(logs, request)]).into())
}

fn on_stream(logs: &Logs, request: &Request<'_>) -> Answer {
    let mut resource = group(logs, request);
    resource.arn.push_str(request.text("logStreamName").unwrap_or_default());
    Ok(request.on([resource]).into())
}

fn tag_log_group(logs: &Logs, request: &Request<'_>) -> Answer {
    Ok(request.on([group(logs, request)]).with_request_tags(&request.tags("tags")).into())
}

fn untag_log_group(logs: &Logs, request: &Request<'_>) -> Answer {
    let keys = request.texts("tags").into_iter().map(str::to_owned);
    Ok(request.on([group(logs, request)]).with_tag_keys(keys).into())
}

fn on_tagged(logs: &Logs, request: &Request<'_>) -> Answer {
    Ok(request.on([tagged(logs, request)]).into())
}

fn tag_resource(logs: &Logs, request: &Request<'_>) -> Answer {
    Ok(request.on([tagged(logs, request)]).with_request_tags(&request.tags("tags")).into())
}

fn untag_resource(logs: &Logs, request: &Request<'_>) -> Answer {
    let keys = request.texts("tagKeys").into_iter().map(str::to_owned);
    Ok(request.on([tagged(logs, request)]).with_tag_keys(keys).into())
}

/// The group that the request names in one of two members.
fn group(logs: &Logs, request: &Request<'_>) -> Resource {
    let given = request.text("logGroupIdentifier").or_else(|| request.text("logGroupName"));
    let given = given.unwrap_or_default();
    if given.starts_with("arn:") {
        let group = given.strip_suffix(":*").unwrap_or(given);
        let mut resource = request.named(group);
        resource.arn.push_str(":log-stream:");
        return match group_of_arn(&request.context.scope, group) {
            Some(name) => with_tags(logs, request, resource, name),
            None => resource,
        };
    }
    let resource = request.regional("logs", format!("log-group:{given}:log-stream:"));
    with_tags(logs, request, resource, given.to_owned())
}

/// What `resourceArn` names.
fn tagged(logs: &Logs, request: &Request<'_>) -> Resource {
    let arn = request.text("resourceArn").unwrap_or_default();
    let resource = request.named(arn.strip_suffix(":*").unwrap_or(arn));
    match group_of_arn(&request.context.scope, arn) {
        Some(name) => with_tags(logs, request, resource, name),
        None => resource,
    }
}

fn with_tags(logs: &Logs, request: &Request<'_>, resource: Resource, name: String) -> Resource {
    let key = (request.context.scope.clone(), name);
    match logs.store.snapshot().get::<LogGroup>(&key) {
        Some(group) => resource.with_tags(&group.tags),
        None => resource,
    }
}
