//! What a policy means for one packet: the reference that data planes are compared with.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::{AclAction, AclEntry, ICMP, NetworkAcl, Peer, Permission, Policy, TCP, Traffic, UDP};

/// An interface as a policy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub subnet: String,
    pub groups: Vec<String>,
}

/// A packet on its way through a VPC's router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub payload: Payload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    Tcp { source: u16, destination: u16 },
    Udp { source: u16, destination: u16 },
    Icmp { kind: u8, code: u8 },
    Other { protocol: u8 },
}

/// Whether the packet begins something, or belongs to what has been let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    New,
    Established,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    Deny(DeniedBy),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeniedBy {
    /// The ACL of the source's subnet.
    AclEgress,
    /// The ACL of the destination's subnet.
    AclIngress,
    GroupEgress,
    GroupIngress,
}

/// A VPC's interfaces under a policy.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub policy: Policy,
    /// By address.
    pub members: BTreeMap<Ipv4Addr, Member>,
}

impl Payload {
    pub fn protocol(self) -> u8 {
        match self {
            Self::Tcp { .. } => TCP,
            Self::Udp { .. } => UDP,
            Self::Icmp { .. } => ICMP,
            Self::Other { protocol } => protocol,
        }
    }

    fn destination_port(self) -> Option<u16> {
        match self {
            Self::Tcp { destination, .. } | Self::Udp { destination, .. } => Some(destination),
            Self::Icmp { .. } | Self::Other { .. } => None,
        }
    }
}

impl Traffic {
    pub fn covers(&self, payload: Payload) -> bool {
        match self {
            Self::All => true,
            Self::Protocol(protocol) => payload.protocol() == *protocol,
            Self::Ports { protocol, ports } => {
                payload.protocol() == *protocol
                    && payload.destination_port().is_some_and(|port| ports.contains(&port))
            }
            Self::Icmp { kind, code } => match payload {
                Payload::Icmp { kind: here, code: code_here } => {
                    kind.is_none_or(|kind| kind == here) && code.is_none_or(|code| code == code_here)
                }
                _ => false,
            },
        }
    }
}

impl Model {
    /// What becomes of a packet. An address that no member has is outside: the machine, the
    /// internet, another network.
    pub fn verdict(&self, packet: Packet, connection: Connection) -> Verdict {
        let (from, to) = (self.members.get(&packet.source), self.members.get(&packet.destination));
        let within_a_subnet = matches!((from, to), (Some(from), Some(to)) if from.subnet == to.subnet);
        if !within_a_subnet {
            let acl = |member: Option<&Member>| member.and_then(|member| self.acl(&member.subnet));
            if !acl(from).is_none_or(|acl| decide(&acl.egress, packet.destination, packet.payload)) {
                return Verdict::Deny(DeniedBy::AclEgress);
            }
            if !acl(to).is_none_or(|acl| decide(&acl.ingress, packet.source, packet.payload)) {
                return Verdict::Deny(DeniedBy::AclIngress);
            }
        }
        if connection == Connection::Established {
            return Verdict::Allow;
        }
        let rules = |member: &Member, pick: fn(&super::SecurityGroup) -> &Vec<Permission>| {
            member
                .groups
                .iter()
                .filter_map(|id| self.policy.groups.get(id))
                .flat_map(pick)
                .cloned()
                .collect::<Vec<_>>()
        };
        if let Some(from) = from
            && !self.allows(&rules(from, |group| &group.egress), packet.destination, packet.payload)
        {
            return Verdict::Deny(DeniedBy::GroupEgress);
        }
        if let Some(to) = to
            && !self.allows(&rules(to, |group| &group.ingress), packet.source, packet.payload)
        {
            return Verdict::Deny(DeniedBy::GroupIngress);
        }
        Verdict::Allow
    }

    fn acl(&self, subnet: &str) -> Option<&NetworkAcl> {
        self.policy.subnet_acls.get(subnet).and_then(|id| self.policy.acls.get(id))
    }

    fn allows(&self, permissions: &[Permission], peer: Ipv4Addr, payload: Payload) -> bool {
        permissions.iter().any(|permission| {
            permission.traffic.covers(payload)
                && match &permission.peer {
                    Peer::Cidr(cidr) => cidr.contains(peer),
                    Peer::Group(group) => {
                        self.members.get(&peer).is_some_and(|member| member.groups.contains(group))
                    }
                }
        })
    }
}

/// The first entry that matches.
fn decide(entries: &BTreeMap<u16, AclEntry>, peer: Ipv4Addr, payload: Payload) -> bool {
    entries
        .values()
        .find(|entry| entry.cidr.contains(peer) && entry.traffic.covers(payload))
        .is_some_and(|entry| entry.action == AclAction::Allow)
}
