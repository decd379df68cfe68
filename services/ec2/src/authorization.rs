//! What IAM is asked for each operation: the action, the resources, the condition keys.
//!
//! Service Authorization Reference, "Actions, resources, and condition keys for Amazon EC2". Nearly
//! everything that describes has no resource-level permissions: it is asked for on `*`.
#![allow(clippy::unnecessary_wraps, reason = "the entries of a table have one form")]

use std::sync::Arc;

use wharf_contracts::{AuthorizationTable, Entry, OperationRequest, Required, ServiceAuthorization};
use wharf_core::ApiError;

use crate::Ec2Service;

const ENTRIES: &[Entry<Ec2Service>] = &[
    Entry::new("DescribeAccountAttributes", on_any),
    Entry::new("DescribeAvailabilityZones", on_any),
    Entry::new("DescribeInternetGateways", on_any),
    Entry::new("DescribeNetworkAcls", on_any),
    Entry::new("DescribeNetworkInterfaces", on_any),
    Entry::new("DescribeRegions", on_any),
    Entry::new("DescribeRouteTables", on_any),
    Entry::new("DescribeSecurityGroupRules", on_any),
    Entry::new("DescribeSecurityGroups", on_any),
    Entry::new("DescribeSubnets", on_any),
    Entry::new("DescribeVpcAttribute", describe_vpc_attribute),
    Entry::new("DescribeVpcs", on_any),
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
