//! `DescribeNetworkAcls`.

use wharf_core::ApiError;
use wharf_ec2_api::types;

use crate::records;
use crate::select::{Kind, Selection, check_dry_run, select, texts};
use crate::view::View;

/// The rule that stands behind all others and cannot be removed; EC2 shows it as `*`.
const LAST_RULE: i32 = 32_767;
const FIRST_RULE: i32 = 100;

const KIND: Kind<types::NetworkAcl> = Kind {
    id: |acl| acl.network_acl_id.as_deref().unwrap_or_default(),
    not_found: "InvalidNetworkAclID.NotFound",
    noun: "networkAcl ID",
    parameter: "NetworkAclIds",
    filters: &[
        ("network-acl-id", |acl| texts(acl.network_acl_id.as_ref())),
        ("vpc-id", |acl| texts(acl.vpc_id.as_ref())),
        ("owner-id", |acl| texts(acl.owner_id.as_ref())),
        ("default", |acl| texts(acl.is_default)),
        ("association.association-id", |acl| associations(acl, |one| one.network_acl_association_id.clone())),
        ("association.network-acl-id", |acl| associations(acl, |one| one.network_acl_id.clone())),
        ("association.subnet-id", |acl| associations(acl, |one| one.subnet_id.clone())),
        ("entry.cidr", |acl| entries(acl, |one| one.cidr_block.clone())),
        ("entry.egress", |acl| entries(acl, |one| one.egress.map(|egress| egress.to_string()))),
        ("entry.protocol", |acl| entries(acl, |one| one.protocol.clone())),
        ("entry.rule-action", |acl| entries(acl, |one| one.rule_action.as_ref().map(ToString::to_string))),
        ("entry.rule-number", |acl| entries(acl, |one| one.rule_number.map(|number| number.to_string()))),
        ("entry.icmp.code", |_| Vec::new()),
        ("entry.icmp.type", |_| Vec::new()),
        ("entry.ipv6-cidr", |_| Vec::new()),
        ("entry.port-range.from", |_| Vec::new()),
        ("entry.port-range.to", |_| Vec::new()),
    ],
};

fn associations(
    acl: &types::NetworkAcl,
    field: fn(&types::NetworkAclAssociation) -> Option<String>,
) -> Vec<String> {
    acl.associations.iter().flatten().filter_map(field).collect()
}

fn entries(acl: &types::NetworkAcl, field: fn(&types::NetworkAclEntry) -> Option<String>) -> Vec<String> {
    acl.entries.iter().flatten().filter_map(field).collect()
}

pub fn describe(
    view: &View,
    input: types::DescribeNetworkAclsRequest,
) -> Result<types::DescribeNetworkAclsResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let selection = Selection {
        ids: input.network_acl_ids.unwrap_or_default(),
        filters: input.filters.unwrap_or_default(),
        max_results: input.max_results,
        next_token: input.next_token,
    };
    let all = view.all::<records::NetworkAcl>().map(|acl| shown(view, &acl)).collect();
    let (acls, next_token) = select(&KIND, all, &selection)?;
    Ok(types::DescribeNetworkAclsResult { network_acls: Some(acls), next_token })
}

fn shown(view: &View, acl: &records::NetworkAcl) -> types::NetworkAcl {
    let entry = |egress, number, action| types::NetworkAclEntry {
        cidr_block: Some("0.0.0.0/0".to_owned()),
        egress: Some(egress),
        protocol: Some("-1".to_owned()),
        rule_action: Some(action),
        rule_number: Some(number),
        ..Default::default()
    };
    let both_ways = [true, false].into_iter();
    let subnets = view.all::<records::Subnet>().filter(|subnet| subnet.vpc_id == acl.vpc_id);
    types::NetworkAcl {
        network_acl_id: Some(acl.id.clone()),
        vpc_id: Some(acl.vpc_id.clone()),
        owner_id: Some(view.owner_id()),
        is_default: Some(true),
        associations: Some(
            subnets
                .map(|subnet| types::NetworkAclAssociation {
                    network_acl_association_id: Some(subnet.acl_association_id.clone()),
                    network_acl_id: Some(acl.id.clone()),
                    subnet_id: Some(subnet.id.clone()),
                })
                .collect(),
        ),
        entries: Some(
            both_ways
                .flat_map(|egress| {
                    [
                        entry(egress, FIRST_RULE, types::RuleAction::Allow),
                        entry(egress, LAST_RULE, types::RuleAction::Deny),
                    ]
                })
                .collect(),
        ),
        tags: Some(Vec::new()),
    }
}
