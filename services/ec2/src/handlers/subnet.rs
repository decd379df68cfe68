//! `DescribeSubnets`.

use wharf_core::ApiError;
use wharf_ec2_api::types;
use wharf_network::allocator;

use crate::records;
use crate::select::{Kind, Selection, check_dry_run, select, texts};
use crate::view::View;

const KIND: Kind<types::Subnet> = Kind {
    id: |subnet| subnet.subnet_id.as_deref().unwrap_or_default(),
    not_found: "InvalidSubnetID.NotFound",
    noun: "subnet ID",
    parameter: "SubnetIds",
    filters: &[
        ("subnet-id", |subnet| texts(subnet.subnet_id.as_ref())),
        ("subnet-arn", |subnet| texts(subnet.subnet_arn.as_ref())),
        ("vpc-id", |subnet| texts(subnet.vpc_id.as_ref())),
        ("availability-zone", |subnet| texts(subnet.availability_zone.as_ref())),
        ("availabilityZone", |subnet| texts(subnet.availability_zone.as_ref())),
        ("availability-zone-id", |subnet| texts(subnet.availability_zone_id.as_ref())),
        ("availabilityZoneId", |subnet| texts(subnet.availability_zone_id.as_ref())),
        ("available-ip-address-count", |subnet| texts(subnet.available_ip_address_count)),
        ("cidr-block", |subnet| texts(subnet.cidr_block.as_ref())),
        ("cidr", |subnet| texts(subnet.cidr_block.as_ref())),
        ("cidrBlock", |subnet| texts(subnet.cidr_block.as_ref())),
        ("customer-owned-ipv4-pool", |_| Vec::new()),
        ("default-for-az", |subnet| texts(subnet.default_for_az)),
        ("defaultForAz", |subnet| texts(subnet.default_for_az)),
        ("enable-dns64", |subnet| texts(subnet.enable_dns64)),
        ("enable-lni-at-device-index", |_| Vec::new()),
        ("ipv6-cidr-block-association.ipv6-cidr-block", |_| Vec::new()),
        ("ipv6-cidr-block-association.association-id", |_| Vec::new()),
        ("ipv6-cidr-block-association.state", |_| Vec::new()),
        ("ipv6-native", |subnet| texts(subnet.ipv6_native)),
        ("map-customer-owned-ip-on-launch", |subnet| texts(subnet.map_customer_owned_ip_on_launch)),
        ("map-public-ip-on-launch", |subnet| texts(subnet.map_public_ip_on_launch)),
        ("outpost-arn", |_| Vec::new()),
        ("owner-id", |subnet| texts(subnet.owner_id.as_ref())),
        ("private-dns-name-options-on-launch.hostname-type", |subnet| {
            texts(launch_names(subnet).and_then(|names| names.hostname_type.as_ref()))
        }),
        ("private-dns-name-options-on-launch.enable-resource-name-dns-a-record", |subnet| {
            texts(launch_names(subnet).and_then(|names| names.enable_resource_name_dns_a_record))
        }),
        ("private-dns-name-options-on-launch.enable-resource-name-dns-aaaa-record", |subnet| {
            texts(launch_names(subnet).and_then(|names| names.enable_resource_name_dns_aaaa_record))
        }),
        ("state", |subnet| texts(subnet.state.as_ref())),
    ],
    tags: |one| one.tags.as_deref().unwrap_or_default(),
};

fn launch_names(subnet: &types::Subnet) -> Option<&types::PrivateDnsNameOptionsOnLaunch> {
    subnet.private_dns_name_options_on_launch.as_ref()
}

pub fn describe(
    view: &View,
    input: types::DescribeSubnetsRequest,
) -> Result<types::DescribeSubnetsResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let selection = Selection {
        ids: input.subnet_ids.unwrap_or_default(),
        filters: input.filters.unwrap_or_default(),
        max_results: input.max_results,
        next_token: input.next_token,
    };
    let all = view.all::<records::Subnet>().map(|subnet| shown(view, &subnet)).collect();
    let (subnets, next_token) = select(&KIND, all, &selection)?;
    Ok(types::DescribeSubnetsResult { subnets: Some(subnets), next_token })
}

fn shown(view: &View, subnet: &records::Subnet) -> types::Subnet {
    let available = allocator::usable(subnet.cidr).saturating_sub(view.interfaces_in(subnet).count() as u64);
    types::Subnet {
        subnet_id: Some(subnet.id.clone()),
        subnet_arn: Some(view.arn(format!("subnet/{}", subnet.id))),
        vpc_id: Some(subnet.vpc_id.clone()),
        owner_id: Some(view.owner_id()),
        availability_zone: Some(subnet.zone.clone()),
        availability_zone_id: Some(subnet.zone_id.clone()),
        available_ip_address_count: i32::try_from(available).ok(),
        cidr_block: Some(subnet.cidr.to_string()),
        default_for_az: Some(subnet.default_for_zone),
        map_public_ip_on_launch: Some(subnet.public_ip_on_launch),
        map_customer_owned_ip_on_launch: Some(false),
        assign_ipv6_address_on_creation: Some(false),
        ipv6_cidr_block_association_set: Some(Vec::new()),
        ipv6_native: Some(false),
        enable_dns64: Some(false),
        private_dns_name_options_on_launch: Some(types::PrivateDnsNameOptionsOnLaunch {
            hostname_type: Some(types::HostnameType::IpName),
            enable_resource_name_dns_a_record: Some(false),
            enable_resource_name_dns_aaaa_record: Some(false),
        }),
        state: Some(types::SubnetState::Available),
        tags: Some(view.tags(&subnet.id)),
        ..Default::default()
    }
}
