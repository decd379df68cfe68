//! The model by itself: examples of the user guide, and what holds for every policy.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::model::{Connection, DeniedBy, Member, Model, Packet, Payload, Verdict};
use super::{AclAction, AclEntry, NetworkAcl, Peer, Permission, Policy, SecurityGroup, TCP, Traffic, UDP};
use crate::cidr::Ipv4Cidr;

fn cidr(text: &str) -> Ipv4Cidr {
    text.parse().unwrap()
}

fn tcp(port: u16) -> Traffic {
    Traffic::Ports { protocol: TCP, ports: port..=port }
}

fn to_everywhere() -> Vec<Permission> {
    vec![Permission { traffic: Traffic::All, peer: Peer::Cidr(Ipv4Cidr::EVERYWHERE) }]
}

const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
const APP: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 10);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);

/// A web server open to all on 80, an application open to the web servers on 8080.
fn example() -> Model {
    let group = |ingress| SecurityGroup { ingress, egress: to_everywhere() };
    let permission = |port, peer| Permission { traffic: tcp(port), peer };
    let member = |subnet: &str, group: &str| Member { subnet: subnet.into(), groups: vec![group.into()] };
    Model {
        policy: Policy {
            groups: [
                ("sg-web".into(), group(vec![permission(80, Peer::Cidr(Ipv4Cidr::EVERYWHERE))])),
                ("sg-app".into(), group(vec![permission(8080, Peer::Group("sg-web".into()))])),
                ("sg-none".into(), SecurityGroup::default()),
            ]
            .into(),
            ..Policy::default()
        },
        members: [
            (WEB, member("subnet-1", "sg-web")),
            (APP, member("subnet-2", "sg-app")),
            (OTHER, member("subnet-1", "sg-none")),
        ]
        .into(),
    }
}

fn packet(source: Ipv4Addr, destination: Ipv4Addr, port: u16) -> Packet {
    Packet { source, destination, payload: Payload::Tcp { source: 40_000, destination: port } }
}

#[test]
fn a_group_allows_by_block_and_by_group_and_remembers() {
    let model = example();
    let new = |source, destination, port| model.verdict(packet(source, destination, port), Connection::New);
    assert_eq!(new(OUTSIDE, WEB, 80), Verdict::Allow);
    assert_eq!(new(OUTSIDE, WEB, 22), Verdict::Deny(DeniedBy::GroupIngress));
    assert_eq!(new(WEB, APP, 8080), Verdict::Allow);
    assert_eq!(new(OUTSIDE, APP, 8080), Verdict::Deny(DeniedBy::GroupIngress));
    assert_eq!(new(OTHER, WEB, 80), Verdict::Deny(DeniedBy::GroupEgress));
    let answer = packet(APP, WEB, 40_000);
    assert_eq!(model.verdict(answer, Connection::New), Verdict::Deny(DeniedBy::GroupIngress));
    assert_eq!(model.verdict(answer, Connection::Established), Verdict::Allow);
}

#[test]
fn an_acl_sees_every_packet_between_subnets_in_the_order_of_its_numbers() {
    let mut model = example();
    let entry = |action, traffic, block: &str| AclEntry { action, traffic, cidr: cidr(block) };
    let acl = NetworkAcl {
        ingress: [
            (100, entry(AclAction::Deny, tcp(80), "203.0.113.0/24")),
            (200, entry(AclAction::Allow, Traffic::All, "0.0.0.0/0")),
        ]
        .into(),
        egress: [(100, entry(AclAction::Allow, Traffic::Protocol(UDP), "0.0.0.0/0"))].into(),
    };
    model.policy.acls.insert("acl-1".into(), acl);
    model.policy.subnet_acls.insert("subnet-1".into(), "acl-1".into());
    let verdict =
        |source, destination, connection| model.verdict(packet(source, destination, 80), connection);
    assert_eq!(verdict(OUTSIDE, WEB, Connection::New), Verdict::Deny(DeniedBy::AclIngress));
    assert_eq!(verdict(Ipv4Addr::new(198, 51, 100, 1), WEB, Connection::New), Verdict::Allow);
    // Stateless: the answer is stopped on its way out.
    assert_eq!(verdict(WEB, OUTSIDE, Connection::Established), Verdict::Deny(DeniedBy::AclEgress));
    // What stays in the subnet never meets its ACL.
    model.members.insert(OTHER, Member { subnet: "subnet-1".into(), groups: vec!["sg-web".into()] });
    assert_eq!(model.verdict(packet(OTHER, WEB, 80), Connection::New), Verdict::Allow);
}

fn traffic() -> impl Strategy<Value = Traffic> {
    prop_oneof![
        Just(Traffic::All),
        prop::sample::select(vec![1u8, 6, 17, 47]).prop_map(Traffic::Protocol),
        (prop::sample::select(vec![6u8, 17]), 0u16..4, 0u16..4)
            .prop_map(|(protocol, low, more)| Traffic::Ports { protocol, ports: low..=low + more }),
        (prop::option::of(0u8..3), prop::option::of(0u8..2))
            .prop_map(|(kind, code)| Traffic::Icmp { kind, code }),
    ]
}

fn block() -> impl Strategy<Value = Ipv4Cidr> {
    (any::<[u8; 2]>(), 0u8..=32)
        .prop_map(|([a, b], prefix)| Ipv4Cidr::around(Ipv4Addr::new(10, 0, a % 4, b % 4), prefix))
}

fn permission() -> impl Strategy<Value = Permission> {
    let peer = prop_oneof![
        block().prop_map(Peer::Cidr),
        prop::sample::select(vec!["sg-0", "sg-1", "sg-2"]).prop_map(|id| Peer::Group(id.into())),
    ];
    (traffic(), peer).prop_map(|(traffic, peer)| Permission { traffic, peer })
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        (0u16..8).prop_map(|destination| Payload::Tcp { source: 9, destination }),
        (0u16..8).prop_map(|destination| Payload::Udp { source: 9, destination }),
        (0u8..4, 0u8..3).prop_map(|(kind, code)| Payload::Icmp { kind, code }),
        prop::sample::select(vec![47u8, 50]).prop_map(|protocol| Payload::Other { protocol }),
    ]
}

fn address() -> impl Strategy<Value = Ipv4Addr> {
    (0u8..4, 0u8..4).prop_map(|(a, b)| Ipv4Addr::new(10, 0, a, b))
}

prop_compose! {
    fn model()(
        groups in prop::collection::vec(
            (prop::collection::vec(permission(), 0..4), prop::collection::vec(permission(), 0..4)), 3),
        entries in prop::collection::vec((1u16..9, any::<bool>(), any::<bool>(), traffic(), block()), 0..8),
        members in prop::collection::btree_map(
            address(), (0u8..2, prop::collection::vec(0u8..3, 1..3)), 0..6),
    ) -> Model {
        let mut acl = NetworkAcl::default();
        for (number, enters, allow, traffic, cidr) in entries {
            let action = if allow { AclAction::Allow } else { AclAction::Deny };
            let side = if enters { &mut acl.ingress } else { &mut acl.egress };
            side.insert(number, AclEntry { action, traffic, cidr });
        }
        Model {
            policy: Policy {
                groups: groups
                    .into_iter()
                    .enumerate()
                    .map(|(index, (ingress, egress))| (format!("sg-{index}"), SecurityGroup { ingress, egress }))
                    .collect(),
                acls: [("acl-0".to_owned(), acl)].into(),
                subnet_acls: [("subnet-0".to_owned(), "acl-0".to_owned())].into(),
            },
            members: members
                .into_iter()
                .map(|(address, (subnet, groups))| {
                    let groups = groups.into_iter().map(|group| format!("sg-{group}")).collect();
                    (address, Member { subnet: format!("subnet-{subnet}"), groups })
                })
                .collect(),
        }
    }
}

proptest! {
    #[test]
    fn one_more_permission_never_denies(
        model in model(), source in address(), destination in address(), payload in payload(),
        more in permission(), group in 0u8..3,
    ) {
        let packet = Packet { source, destination, payload };
        let before = model.verdict(packet, Connection::New);
        let mut wider = model.clone();
        let group = wider.policy.groups.get_mut(&format!("sg-{group}")).unwrap();
        group.ingress.push(more.clone());
        group.egress.push(more);
        if before == Verdict::Allow {
            prop_assert_eq!(wider.verdict(packet, Connection::New), Verdict::Allow);
        }
    }

    #[test]
    fn the_order_of_permissions_and_of_groups_is_nothing(
        model in model(), source in address(), destination in address(), payload in payload(),
    ) {
        let packet = Packet { source, destination, payload };
        let mut turned = model.clone();
        for group in turned.policy.groups.values_mut() {
            group.ingress.reverse();
            group.egress.reverse();
        }
        for member in turned.members.values_mut() {
            member.groups.reverse();
        }
        prop_assert_eq!(model.verdict(packet, Connection::New), turned.verdict(packet, Connection::New));
    }

    #[test]
    fn what_belongs_to_a_connection_is_stopped_by_acls_alone(
        model in model(), source in address(), destination in address(), payload in payload(),
    ) {
        let packet = Packet { source, destination, payload };
        let verdict = model.verdict(packet, Connection::Established);
        prop_assert!(!matches!(verdict, Verdict::Deny(DeniedBy::GroupEgress | DeniedBy::GroupIngress)));
        let mut open = model.clone();
        open.policy.subnet_acls.clear();
        prop_assert_eq!(open.verdict(packet, Connection::Established), Verdict::Allow);
    }

    #[test]
    fn an_interface_without_a_rule_hears_and_says_nothing_new(
        mut model in model(), peer in address(), payload in payload(),
    ) {
        let lonely = Ipv4Addr::new(10, 9, 9, 9);
        model.policy.groups.insert("sg-none".into(), SecurityGroup::default());
        model.members.insert(lonely, Member { subnet: "subnet-9".into(), groups: vec!["sg-none".into()] });
        let out = Packet { source: lonely, destination: peer, payload };
        let back = Packet { source: peer, destination: lonely, payload };
        prop_assert_ne!(model.verdict(out, Connection::New), Verdict::Allow);
        prop_assert_ne!(model.verdict(back, Connection::New), Verdict::Allow);
    }
}
