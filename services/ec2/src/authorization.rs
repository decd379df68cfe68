//! What IAM is asked for each operation: the action, the resources, the condition keys.
//!
//! Service Authorization Reference, "Actions, resources, and condition keys for Amazon EC2". Nearly
//! everything that describes has no resource-level permissions: it is asked for on `*`.
#![allow(clippy::unnecessary_wraps, reason = "the entries of a table have one form")]

use std::sync::Arc;

use wharf_contracts::{AuthorizationTable, Entry, OperationRequest, Required, ServiceAuthorization};
use wharf_core::ApiError;

use crate::Ec2Service;
use crate::records::{NetworkAcl, SecurityGroup};
use crate::view::View;

const ENTRIES: &[Entry<Ec2Service>] = &[
    Entry::new("AuthorizeSecurityGroupEgress", on_group),
    Entry::new("AuthorizeSecurityGroupIngress", on_group),
    Entry::new("CreateNetworkAcl", |ec2, request| create_in_vpc(ec2, request, "network-acl/*")),
    Entry::new("CreateNetworkAclEntry", on_acl),
    Entry::new("CreateSecurityGroup", |ec2, request| create_in_vpc(ec2, request, "security-group/*")),
    Entry::new("CreateTags", on_tagged),
    Entry::new("DeleteNetworkAcl", on_acl),
    Entry::new("DeleteNetworkAclEntry", on_acl),
    Entry::new("DeleteSecurityGroup", on_group),
    Entry::new("DeleteTags", on_tagged),
    Entry::new("DescribeAccountAttributes", on_any),
    Entry::new("DescribeAvailabilityZones", on_any),
    Entry::new("DescribeInternetGateways", on_any),
    Entry::new("DescribeNetworkAcls", on_any),
    Entry::new("DescribeNetworkInterfaces", on_any),
    Entry::new("DescribeRegions", on_any),
    Entry::new("DescribeRouteTables", on_any),
    Entry::new("DescribeSecurityGroupReferences", on_any),
    Entry::new("DescribeSecurityGroupRules", on_any),
    Entry::new("DescribeSecurityGroups", on_any),
    Entry::new("DescribeSubnets", on_any),
    Entry::new("DescribeTags", on_any),
    Entry::new("DescribeVpcAttribute", describe_vpc_attribute),
    Entry::new("DescribeVpcs", on_any),
    Entry::new("GetSecurityGroupsForVpc", on_vpc),
    Entry::new("ModifySecurityGroupRules", on_group),
    Entry::new("ReplaceNetworkAclAssociation", on_acl),
    Entry::new("ReplaceNetworkAclEntry", on_acl),
    Entry::new("RevokeSecurityGroupEgress", on_group),
    Entry::new("RevokeSecurityGroupIngress", on_group),
    Entry::new("UpdateSecurityGroupRuleDescriptionsEgress", on_group),
    Entry::new("UpdateSecurityGroupRuleDescriptionsIngress", on_group),
];

/// The table, for the pipeline.
pub fn authorization(ec2: &Arc<Ec2Service>) -> Arc<dyn ServiceAuthorization> {
    AuthorizationTable::new(&wharf_ec2_api::MODEL, Arc::clone(ec2), ENTRIES)
}

type Request<'a> = OperationRequest<'a>;
type Answer = Result<Required, ApiError>;

fn on_any(_: &Ec2Service, request: &Request<'_>) -> Answer {
    Ok(request.on_any().with("ec2:Region", request.context.region().as_str()).into())
}

fn describe_vpc_attribute(_: &Ec2Service, request: &Request<'_>) -> Answer {
    let id = request.text("VpcId").unwrap_or_default();
    let vpc = request.regional("ec2", format!("vpc/{id}")).with("ec2:VpcID", id);
    Ok(request.on([vpc]).with("ec2:Region", request.context.region().as_str()).into())
}

/// A resource as it is named, with its tags and its VPC.
fn resource(
    ec2: &Ec2Service,
    request: &Request<'_>,
    kind: &str,
    id: &str,
    vpc_id: Option<String>,
) -> wharf_contracts::Resource {
    let view = View::new(ec2.store.snapshot(), &request.context.scope);
    let vpc = vpc_id.map(|vpc_id| view.arn(format!("vpc/{vpc_id}")));
    let resource = request.regional("ec2", format!("{kind}/{id}")).with_tags(&view.tags_of(id));
    match vpc {
        Some(arn) => resource.with("ec2:Vpc", arn),
        None => resource,
    }
}

fn on_group(ec2: &Ec2Service, request: &Request<'_>) -> Answer {
    let view = View::new(ec2.store.snapshot(), &request.context.scope);
    let id = match (request.text("GroupId"), request.text("GroupName")) {
        (Some(id), _) => id.to_owned(),
        (None, Some(name)) => {
            let named = view.all::<SecurityGroup>().find(|group| group.name == name);
            named.map_or_else(|| "*".to_owned(), |group| group.id.clone())
        }
        (None, None) => "*".to_owned(),
    };
    let vpc_id = view.get::<SecurityGroup>(&id).map(|group| group.vpc_id.clone());
    let group = resource(ec2, request, "security-group", &id, vpc_id);
    Ok(request.on([group]).with("ec2:Region", request.context.region().as_str()).into())
}

fn on_acl(ec2: &Ec2Service, request: &Request<'_>) -> Answer {
    let id = request.text("NetworkAclId").unwrap_or("*");
    let view = View::new(ec2.store.snapshot(), &request.context.scope);
    let vpc_id = view.get::<NetworkAcl>(id).map(|acl| acl.vpc_id.clone());
    let acl = resource(ec2, request, "network-acl", id, vpc_id);
    Ok(request.on([acl]).with("ec2:Region", request.context.region().as_str()).into())
}

fn on_vpc(ec2: &Ec2Service, request: &Request<'_>) -> Answer {
    let id = request.text("VpcId").unwrap_or("*");
    let vpc = resource(ec2, request, "vpc", id, None).with("ec2:VpcID", id);
    Ok(request.on([vpc]).with("ec2:Region", request.context.region().as_str()).into())
}

/// What is made, and the VPC that it is made in.
fn create_in_vpc(ec2: &Ec2Service, request: &Request<'_>, made: &str) -> Answer {
    let default = View::new(ec2.store.snapshot(), &request.context.scope).default_vpc();
    let default = default.as_ref().map_or("*", |vpc| vpc.id.as_str());
    let vpc = resource(ec2, request, "vpc", request.text("VpcId").unwrap_or(default), None);
    let new = request.regional("ec2", made);
    Ok(request.on([new, vpc]).with("ec2:Region", request.context.region().as_str()).into())
}

fn on_tagged(ec2: &Ec2Service, request: &Request<'_>) -> Answer {
    let resources: Vec<_> = request
        .texts("Resources")
        .into_iter()
        .map(|id| resource(ec2, request, crate::tags::kind_of(id).unwrap_or("*"), id, None))
        .collect();
    let tags = request.tags("Tags");
    Ok(request
        .on(resources)
        .with_request_tags(&tags)
        .with("ec2:Region", request.context.region().as_str())
        .into())
}
