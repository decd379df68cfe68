//! Security groups: what is told of them here, what changes them in [`change`], and the two forms of
//! a rule in [`rule`].

pub mod change;
pub mod rule;

use wharf_core::ApiError;
use wharf_ec2_api::types;

use self::rule::{permissions, shown_rule};
use crate::records::{self, Direction};
use crate::select::{Kind, Selection, check_dry_run, select, shortened, texts};
use crate::view::View;

const KIND: Kind<types::SecurityGroup> = Kind {
    id: |group| group.group_id.as_deref().unwrap_or_default(),
    not_found: "InvalidGroup.NotFound",
    noun: "security group",
    parameter: "GroupIds",
    filters: &[
        ("group-id", |group| texts(group.group_id.as_ref())),
        ("group-name", |group| texts(group.group_name.as_ref())),
        ("description", |group| texts(group.description.as_ref())),
        ("owner-id", |group| texts(group.owner_id.as_ref())),
        ("vpc-id", |group| texts(group.vpc_id.as_ref())),
        ("ip-permission.cidr", |group| cidrs(group.ip_permissions.as_ref())),
        ("ip-permission.from-port", |group| ports(group.ip_permissions.as_ref(), |one| one.from_port)),
        ("ip-permission.to-port", |group| ports(group.ip_permissions.as_ref(), |one| one.to_port)),
        ("ip-permission.protocol", |group| protocols(group.ip_permissions.as_ref())),
        ("ip-permission.group-id", |group| {
            pairs(group.ip_permissions.as_ref(), |pair| pair.group_id.clone())
        }),
        ("ip-permission.group-name", |group| {
            pairs(group.ip_permissions.as_ref(), |pair| pair.group_name.clone())
        }),
        ("ip-permission.user-id", |group| pairs(group.ip_permissions.as_ref(), |pair| pair.user_id.clone())),
        ("ip-permission.ipv6-cidr", |group| ipv6_cidrs(group.ip_permissions.as_ref())),
        ("ip-permission.prefix-list-id", |_| Vec::new()),
        ("egress.ip-permission.cidr", |group| cidrs(group.ip_permissions_egress.as_ref())),
        ("egress.ip-permission.from-port", |group| {
            ports(group.ip_permissions_egress.as_ref(), |one| one.from_port)
        }),
        ("egress.ip-permission.to-port", |group| {
            ports(group.ip_permissions_egress.as_ref(), |one| one.to_port)
        }),
        ("egress.ip-permission.protocol", |group| protocols(group.ip_permissions_egress.as_ref())),
        ("egress.ip-permission.group-id", |group| {
            pairs(group.ip_permissions_egress.as_ref(), |pair| pair.group_id.clone())
        }),
        ("egress.ip-permission.group-name", |group| {
            pairs(group.ip_permissions_egress.as_ref(), |pair| pair.group_name.clone())
        }),
        ("egress.ip-permission.user-id", |group| {
            pairs(group.ip_permissions_egress.as_ref(), |pair| pair.user_id.clone())
        }),
        ("egress.ip-permission.ipv6-cidr", |group| ipv6_cidrs(group.ip_permissions_egress.as_ref())),
        ("egress.ip-permission.prefix-list-id", |_| Vec::new()),
    ],
    tags: |group| group.tags.as_deref().unwrap_or_default(),
};

fn cidrs(permissions: Option<&Vec<types::IpPermission>>) -> Vec<String> {
    let ranges = permissions.into_iter().flatten().flat_map(|one| one.ip_ranges.iter().flatten());
    ranges.filter_map(|range| range.cidr_ip.clone()).collect()
}

fn ipv6_cidrs(permissions: Option<&Vec<types::IpPermission>>) -> Vec<String> {
    let ranges = permissions.into_iter().flatten().flat_map(|one| one.ipv6_ranges.iter().flatten());
    ranges.filter_map(|range| range.cidr_ipv6.clone()).collect()
}

fn ports(
    permissions: Option<&Vec<types::IpPermission>>,
    port: fn(&types::IpPermission) -> Option<i32>,
) -> Vec<String> {
    permissions.into_iter().flatten().filter_map(port).map(|port| port.to_string()).collect()
}

fn protocols(permissions: Option<&Vec<types::IpPermission>>) -> Vec<String> {
    permissions.into_iter().flatten().filter_map(|one| one.ip_protocol.clone()).collect()
}

fn pairs(
    permissions: Option<&Vec<types::IpPermission>>,
    field: fn(&types::UserIdGroupPair) -> Option<String>,
) -> Vec<String> {
    let pairs = permissions.into_iter().flatten().flat_map(|one| one.user_id_group_pairs.iter().flatten());
    pairs.filter_map(field).collect()
}

pub fn describe(
    view: &View,
    input: types::DescribeSecurityGroupsRequest,
) -> Result<types::DescribeSecurityGroupsResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let mut ids = input.group_ids.unwrap_or_default();
    let names = input.group_names.unwrap_or_default();
    // Names stand for groups of the default VPC.
    for name in names {
        let vpc = view.default_vpc();
        let mut groups = view.all::<records::SecurityGroup>();
        let found =
            groups.find(|group| group.name == name && vpc.as_ref().is_some_and(|vpc| vpc.id == group.vpc_id));
        let Some(group) = found else {
            let vpc_id = vpc.as_ref().map_or("none", |vpc| vpc.id.as_str());
            let message =
                format!("The security group '{}' does not exist in default VPC '{vpc_id}'", shortened(&name));
            return Err(ApiError::sender("InvalidGroup.NotFound", message));
        };
        ids.push(group.id.clone());
    }
    let selection = Selection {
        ids,
        filters: input.filters.unwrap_or_default(),
        max_results: input.max_results,
        next_token: input.next_token,
    };
    let all = view.all::<records::SecurityGroup>().map(|group| shown(view, &group)).collect();
    let (groups, next_token) = select(&KIND, all, &selection)?;
    Ok(types::DescribeSecurityGroupsResult { security_groups: Some(groups), next_token })
}

fn shown(view: &View, group: &records::SecurityGroup) -> types::SecurityGroup {
    types::SecurityGroup {
        group_id: Some(group.id.clone()),
        group_name: Some(group.name.clone()),
        description: Some(group.description.clone()),
        owner_id: Some(view.owner_id()),
        vpc_id: Some(group.vpc_id.clone()),
        security_group_arn: Some(view.arn(format!("security-group/{}", group.id))),
        ip_permissions: Some(permissions(view, &group.rules, Direction::Ingress)),
        ip_permissions_egress: Some(permissions(view, &group.rules, Direction::Egress)),
        tags: Some(view.tags(&group.id)),
    }
}

const RULE_KIND: Kind<types::SecurityGroupRule> = Kind {
    id: |rule| rule.security_group_rule_id.as_deref().unwrap_or_default(),
    not_found: "InvalidSecurityGroupRuleId.NotFound",
    noun: "security group rule ID",
    parameter: "SecurityGroupRuleIds",
    filters: &[
        ("group-id", |rule| texts(rule.group_id.as_ref())),
        ("security-group-rule-id", |rule| texts(rule.security_group_rule_id.as_ref())),
    ],
    tags: |rule| rule.tags.as_deref().unwrap_or_default(),
};

pub fn describe_rules(
    view: &View,
    input: types::DescribeSecurityGroupRulesRequest,
) -> Result<types::DescribeSecurityGroupRulesResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let selection = Selection {
        ids: input.security_group_rule_ids.unwrap_or_default(),
        filters: input.filters.unwrap_or_default(),
        max_results: input.max_results,
        next_token: input.next_token,
    };
    let mut all = Vec::new();
    for group in view.all::<records::SecurityGroup>() {
        all.extend(group.rules.iter().map(|rule| shown_rule(view, &group, rule)));
    }
    let (rules, next_token) = select(&RULE_KIND, all, &selection)?;
    Ok(types::DescribeSecurityGroupRulesResult { security_group_rules: Some(rules), next_token })
}

/// Which VPCs' groups name these groups: only peered VPCs can beside their own, and there is no peering.
#[expect(clippy::needless_pass_by_value, reason = "every operation is called so")]
pub fn describe_references(
    view: &View,
    input: types::DescribeSecurityGroupReferencesRequest,
) -> Result<types::DescribeSecurityGroupReferencesResult, ApiError> {
    check_dry_run(input.dry_run)?;
    for id in &input.group_id {
        if view.get::<records::SecurityGroup>(id).is_none() {
            return Err(change::group_not_found(id));
        }
    }
    Ok(types::DescribeSecurityGroupReferencesResult { security_group_reference_set: Some(Vec::new()) })
}

const FOR_VPC_KIND: Kind<types::SecurityGroupForVpc> = Kind {
    id: |group| group.group_id.as_deref().unwrap_or_default(),
    not_found: "InvalidGroup.NotFound",
    noun: "security group",
    parameter: "GroupIds",
    filters: &[
        ("group-id", |group| texts(group.group_id.as_ref())),
        ("group-name", |group| texts(group.group_name.as_ref())),
        ("description", |group| texts(group.description.as_ref())),
        ("owner-id", |group| texts(group.owner_id.as_ref())),
        ("primary-vpc-id", |group| texts(group.primary_vpc_id.as_ref())),
    ],
    tags: |group| group.tags.as_deref().unwrap_or_default(),
};

pub fn for_vpc(
    view: &View,
    input: types::GetSecurityGroupsForVpcRequest,
) -> Result<types::GetSecurityGroupsForVpcResult, ApiError> {
    check_dry_run(input.dry_run)?;
    if view.get::<records::Vpc>(&input.vpc_id).is_none() {
        let message = format!("The vpc ID '{}' does not exist", shortened(&input.vpc_id));
        return Err(ApiError::sender("InvalidVpcID.NotFound", message));
    }
    let selection = Selection {
        ids: Vec::new(),
        filters: input.filters.unwrap_or_default(),
        max_results: input.max_results,
        next_token: input.next_token,
    };
    let groups = view.all::<records::SecurityGroup>().filter(|group| group.vpc_id == input.vpc_id);
    let all = groups
        .map(|group| types::SecurityGroupForVpc {
            group_id: Some(group.id.clone()),
            group_name: Some(group.name.clone()),
            description: Some(group.description.clone()),
            owner_id: Some(view.owner_id()),
            primary_vpc_id: Some(group.vpc_id.clone()),
            tags: Some(view.tags(&group.id)),
        })
        .collect();
    let (groups, next_token) = select(&FOR_VPC_KIND, all, &selection)?;
    Ok(types::GetSecurityGroupsForVpcResult { security_group_for_vpcs: Some(groups), next_token })
}
