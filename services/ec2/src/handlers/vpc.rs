//! `DescribeVpcs`, `DescribeVpcAttribute`.

use wharf_core::ApiError;
use wharf_ec2_api::types;

use crate::records;
use crate::select::{Kind, Selection, check_dry_run, select, shortened, texts};
use crate::view::View;

const KIND: Kind<types::Vpc> = Kind {
    id: |vpc| vpc.vpc_id.as_deref().unwrap_or_default(),
    not_found: "InvalidVpcID.NotFound",
    noun: "vpc ID",
    parameter: "VpcIds",
    filters: &[
        ("vpc-id", |vpc| texts(vpc.vpc_id.as_ref())),
        ("cidr", |vpc| texts(vpc.cidr_block.as_ref())),
        ("cidr-block-association.association-id", |vpc| associations(vpc, |one| one.association_id.clone())),
        ("cidr-block-association.cidr-block", |vpc| associations(vpc, |one| one.cidr_block.clone())),
        ("cidr-block-association.state", |vpc| {
            associations(vpc, |one| Some(one.cidr_block_state.as_ref()?.state.as_ref()?.to_string()))
        }),
        ("dhcp-options-id", |vpc| texts(vpc.dhcp_options_id.as_ref())),
        ("is-default", |vpc| texts(vpc.is_default)),
        ("isDefault", |vpc| texts(vpc.is_default)),
        ("owner-id", |vpc| texts(vpc.owner_id.as_ref())),
        ("state", |vpc| texts(vpc.state.as_ref())),
        ("ipv6-cidr-block-association.association-id", |_| Vec::new()),
        ("ipv6-cidr-block-association.ipv6-cidr-block", |_| Vec::new()),
        ("ipv6-cidr-block-association.ipv6-pool", |_| Vec::new()),
        ("ipv6-cidr-block-association.state", |_| Vec::new()),
    ],
    tags: |one| one.tags.as_deref().unwrap_or_default(),
};

fn associations(
    vpc: &types::Vpc,
    field: fn(&types::VpcCidrBlockAssociation) -> Option<String>,
) -> Vec<String> {
    vpc.cidr_block_association_set.iter().flatten().filter_map(field).collect()
}

pub fn describe(
    view: &View,
    input: types::DescribeVpcsRequest,
) -> Result<types::DescribeVpcsResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let selection = Selection {
        ids: input.vpc_ids.unwrap_or_default(),
        filters: input.filters.unwrap_or_default(),
        max_results: input.max_results,
        next_token: input.next_token,
    };
    let all = view.all::<records::Vpc>().map(|vpc| shown(view, &vpc)).collect();
    let (vpcs, next_token) = select(&KIND, all, &selection)?;
    Ok(types::DescribeVpcsResult { vpcs: Some(vpcs), next_token })
}

fn shown(view: &View, vpc: &records::Vpc) -> types::Vpc {
    types::Vpc {
        vpc_id: Some(vpc.id.clone()),
        owner_id: Some(view.owner_id()),
        cidr_block: Some(vpc.cidr.to_string()),
        cidr_block_association_set: Some(vec![types::VpcCidrBlockAssociation {
            association_id: Some(vpc.cidr_association_id.clone()),
            cidr_block: Some(vpc.cidr.to_string()),
            cidr_block_state: Some(types::VpcCidrBlockState {
                state: Some(types::VpcCidrBlockStateCode::Associated),
                ..Default::default()
            }),
        }]),
        dhcp_options_id: Some(vpc.dhcp_options_id.clone()),
        instance_tenancy: Some(types::Tenancy::Default),
        is_default: Some(vpc.is_default),
        state: Some(types::VpcState::Available),
        tags: Some(view.tags(&vpc.id)),
        ..Default::default()
    }
}

/// A default VPC has both DNS attributes set, and no usage metrics.
pub fn attribute(
    view: &View,
    input: types::DescribeVpcAttributeRequest,
) -> Result<types::DescribeVpcAttributeResult, ApiError> {
    check_dry_run(input.dry_run)?;
    if view.get::<records::Vpc>(&input.vpc_id).is_none() {
        let message = format!("The vpc ID '{}' does not exist", shortened(&input.vpc_id));
        return Err(ApiError::sender("InvalidVpcID.NotFound", message));
    }
    let mut result = types::DescribeVpcAttributeResult { vpc_id: Some(input.vpc_id), ..Default::default() };
    let set = |value| Some(types::AttributeBooleanValue { value: Some(value) });
    match input.attribute {
        types::VpcAttributeName::EnableDnsSupport => result.enable_dns_support = set(true),
        types::VpcAttributeName::EnableDnsHostnames => result.enable_dns_hostnames = set(true),
        types::VpcAttributeName::EnableNetworkAddressUsageMetrics => {
            result.enable_network_address_usage_metrics = set(false);
        }
        types::VpcAttributeName::Unknown(name) => {
            let message = format!("Value ({}) for parameter attribute is invalid.", shortened(&name));
            return Err(ApiError::sender("InvalidParameterValue", message));
        }
    }
    Ok(result)
}
