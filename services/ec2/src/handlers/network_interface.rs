//! `DescribeNetworkInterfaces`.

use std::net::Ipv4Addr;

use wharf_core::{ApiError, Region};
use wharf_ec2_api::types;

use crate::records;
use crate::select::{Kind, Selection, check_dry_run, select, texts};
use crate::view::View;

const KIND: Kind<types::NetworkInterface> = Kind {
    id: |interface| interface.network_interface_id.as_deref().unwrap_or_default(),
    not_found: "InvalidNetworkInterfaceID.NotFound",
    noun: "networkInterface ID",
    parameter: "NetworkInterfaceIds",
    filters: &[
        ("network-interface-id", |interface| texts(interface.network_interface_id.as_ref())),
        ("vpc-id", |interface| texts(interface.vpc_id.as_ref())),
        ("subnet-id", |interface| texts(interface.subnet_id.as_ref())),
        ("availability-zone", |interface| texts(interface.availability_zone.as_ref())),
        ("availability-zone-id", |interface| texts(interface.availability_zone_id.as_ref())),
        ("description", |interface| texts(interface.description.as_ref())),
        ("group-id", |interface| groups(interface, |group| group.group_id.clone())),
        ("group-name", |interface| groups(interface, |group| group.group_name.clone())),
        ("interface-type", |interface| texts(interface.interface_type.as_ref())),
        ("mac-address", |interface| texts(interface.mac_address.as_ref())),
        ("owner-id", |interface| texts(interface.owner_id.as_ref())),
        ("private-ip-address", |interface| texts(interface.private_ip_address.as_ref())),
        ("private-dns-name", |interface| texts(interface.private_dns_name.as_ref())),
        ("addresses.private-ip-address", |interface| texts(interface.private_ip_address.as_ref())),
        ("addresses.primary", |_| vec!["true".to_owned()]),
        ("requester-id", |interface| texts(interface.requester_id.as_ref())),
        ("requester-managed", |interface| texts(interface.requester_managed)),
        ("source-dest-check", |interface| texts(interface.source_dest_check)),
        ("status", |interface| texts(interface.status.as_ref())),
        ("attachment.attachment-id", |interface| {
            texts(attachment(interface).and_then(|one| one.attachment_id.as_ref()))
        }),
        ("attachment.attach-time", |interface| texts(attachment(interface).and_then(|one| one.attach_time))),
        ("attachment.delete-on-termination", |interface| {
            texts(attachment(interface).and_then(|one| one.delete_on_termination))
        }),
        ("attachment.device-index", |interface| {
            texts(attachment(interface).and_then(|one| one.device_index))
        }),
        ("attachment.instance-owner-id", |interface| {
            texts(attachment(interface).and_then(|one| one.instance_owner_id.as_ref()))
        }),
        ("attachment.status", |interface| texts(attachment(interface).and_then(|one| one.status.as_ref()))),
        ("attachment.instance-id", |_| Vec::new()),
        ("attachment.nat-gateway-id", |_| Vec::new()),
        ("addresses.association.owner-id", |_| Vec::new()),
        ("addresses.association.public-ip", |_| Vec::new()),
        ("association.association-id", |_| Vec::new()),
        ("association.allocation-id", |_| Vec::new()),
        ("association.ip-owner-id", |_| Vec::new()),
        ("association.public-ip", |_| Vec::new()),
        ("association.public-dns-name", |_| Vec::new()),
        ("ipv6-addresses.ipv6-address", |_| Vec::new()),
    ],
    tags: |one| one.tag_set.as_deref().unwrap_or_default(),
};

fn groups(
    interface: &types::NetworkInterface,
    field: fn(&types::GroupIdentifier) -> Option<String>,
) -> Vec<String> {
    interface.groups.iter().flatten().filter_map(field).collect()
}

fn attachment(interface: &types::NetworkInterface) -> Option<&types::NetworkInterfaceAttachment> {
    interface.attachment.as_ref()
}

/// The name that EC2 makes from an address: `ip-172-31-5-7.ec2.internal` in us-east-1, with the
/// region in every other.
pub fn private_dns_name(region: &Region, address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    match region.as_str() {
        "us-east-1" => format!("ip-{a}-{b}-{c}-{d}.ec2.internal"),
        region => format!("ip-{a}-{b}-{c}-{d}.{region}.compute.internal"),
    }
}

pub fn describe(
    view: &View,
    input: types::DescribeNetworkInterfacesRequest,
) -> Result<types::DescribeNetworkInterfacesResult, ApiError> {
    // `IncludeManagedResources` adds what an operator hides; nothing of ours is hidden.
    check_dry_run(input.dry_run)?;
    let selection = Selection {
        ids: input.network_interface_ids.unwrap_or_default(),
        filters: input.filters.unwrap_or_default(),
        max_results: input.max_results,
        next_token: input.next_token,
    };
    let all = view.all::<records::NetworkInterface>().map(|interface| shown(view, &interface)).collect();
    let (interfaces, next_token) = select(&KIND, all, &selection)?;
    Ok(types::DescribeNetworkInterfacesResult { network_interfaces: Some(interfaces), next_token })
}

fn shown(view: &View, interface: &records::NetworkInterface) -> types::NetworkInterface {
    let subnet = view.get::<records::Subnet>(&interface.subnet_id);
    let name = private_dns_name(&view.scope.region, interface.address);
    let groups = interface.security_group_ids.iter().map(|id| types::GroupIdentifier {
        group_id: Some(id.clone()),
        group_name: view.get::<records::SecurityGroup>(id).map(|group| group.name.clone()),
    });
    types::NetworkInterface {
        network_interface_id: Some(interface.id.clone()),
        description: Some(interface.description.clone()),
        vpc_id: Some(interface.vpc_id.clone()),
        subnet_id: Some(interface.subnet_id.clone()),
        availability_zone: subnet.as_ref().map(|subnet| subnet.zone.clone()),
        availability_zone_id: subnet.as_ref().map(|subnet| subnet.zone_id.clone()),
        owner_id: Some(view.owner_id()),
        requester_id: Some(view.owner_id()),
        requester_managed: Some(true),
        interface_type: Some(types::NetworkInterfaceType::Interface),
        status: Some(types::NetworkInterfaceStatus::InUse),
        source_dest_check: Some(true),
        mac_address: Some(interface.mac.to_string()),
        private_ip_address: Some(interface.address.to_string()),
        private_dns_name: Some(name.clone()),
        private_ip_addresses: Some(vec![types::NetworkInterfacePrivateIpAddress {
            primary: Some(true),
            private_dns_name: Some(name),
            private_ip_address: Some(interface.address.to_string()),
            ..Default::default()
        }]),
        ipv6_addresses: Some(Vec::new()),
        groups: Some(groups.collect()),
        attachment: Some(types::NetworkInterfaceAttachment {
            attachment_id: Some(interface.attachment_id.clone()),
            attach_time: Some(interface.attached_at),
            delete_on_termination: Some(false),
            device_index: Some(1),
            instance_owner_id: Some(view.owner_id()),
            status: Some(types::AttachmentStatus::Attached),
            ..Default::default()
        }),
        tag_set: Some(view.tags(&interface.id)),
        ..Default::default()
    }
}
