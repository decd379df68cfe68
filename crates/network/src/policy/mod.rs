//! Who may speak to whom in a VPC: security groups and network ACLs, as values.
//!
//! [`Policy`] is what a VPC's owner has written down; [`model`] says what it means for a packet, and
//! a data plane has to agree with it. Nothing here knows a kernel.
//!
//! The semantics are those of the Amazon VPC User Guide:
//! - A security group belongs to interfaces and is stateful: what answers an allowed packet is
//!   allowed. Rules only allow. An interface with several groups has the rules of all of them.
//! - A network ACL belongs to subnets and is stateless: its rules, in the order of their numbers,
//!   see every packet that enters or leaves the subnet, and no packet that stays within it.
//! - A rule that names a group means the addresses of the group's interfaces, as they come and go.
//! - The link-local services of a VPC are beyond both.

pub mod model;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::cidr::Ipv4Cidr;

/// Everything that decides about packets in one VPC, beside which interface is in which group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// By id, `sg-…`.
    pub groups: BTreeMap<String, SecurityGroup>,
    /// By id, `acl-…`.
    pub acls: BTreeMap<String, NetworkAcl>,
    /// The ACL of each subnet, by the subnet's id. A subnet that is not named has none: it lets all
    /// through.
    pub subnet_acls: BTreeMap<String, String>,
}

/// The rules of one group. What none of them allows is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecurityGroup {
    pub ingress: Vec<Permission>,
    pub egress: Vec<Permission>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    pub traffic: Traffic,
    pub peer: Peer,
}

/// The other end of what a group's rule allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    Cidr(Ipv4Cidr),
    /// The interfaces of this group, `sg-…`.
    Group(String),
}

/// What kind of packets a rule speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Traffic {
    All,
    /// An IP protocol by its number, all of it.
    Protocol(u8),
    /// Destination ports of TCP (6) or UDP (17).
    Ports {
        protocol: u8,
        ports: RangeInclusive<u16>,
    },
    /// ICMP; `None` is every type, every code.
    Icmp {
        kind: Option<u8>,
        code: Option<u8>,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkAcl {
    /// By number. The first that matches decides; what none matches is denied.
    pub ingress: BTreeMap<u16, AclEntry>,
    pub egress: BTreeMap<u16, AclEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclEntry {
    pub action: AclAction,
    pub traffic: Traffic,
    /// Of the source for what enters the subnet, of the destination for what leaves it.
    pub cidr: Ipv4Cidr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclAction {
    Allow,
    Deny,
}

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

impl Policy {
    /// The groups whose members a rule of any group asks for.
    pub fn referenced_groups(&self) -> BTreeSet<&str> {
        self.groups
            .values()
            .flat_map(|group| group.ingress.iter().chain(&group.egress))
            .filter_map(|permission| match &permission.peer {
                Peer::Group(id) => Some(id.as_str()),
                Peer::Cidr(_) => None,
            })
            .collect()
    }
}
