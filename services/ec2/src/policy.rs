//! From records to the policy that a VPC's data plane holds.
//!
//! A change of a group or an ACL is stored first and then set, one VPC at a time, from a snapshot
//! taken inside the turn: whoever comes later sets what holds the earlier changes too.

use std::collections::BTreeMap;

use wharf_core::{ApiError, Scope};
use wharf_network::policy::{self, Policy};

use crate::Ec2Service;
use crate::interfaces::vpc_spec;
use crate::records::{AclAction, AclEntry, Direction, NetworkAcl, Peer, SecurityGroup, Subnet, Traffic, Vpc};
use crate::view::View;

const ICMP: u8 = 1;

/// All rules of one VPC.
pub fn of_vpc(view: &View, vpc_id: &str) -> Policy {
    let groups = view.all::<SecurityGroup>().filter(|group| group.vpc_id == vpc_id);
    let acls: Vec<_> = view.all::<NetworkAcl>().filter(|acl| acl.vpc_id == vpc_id).collect();
    let default = acls.iter().find(|acl| acl.is_default).map(|acl| acl.id.clone());
    let subnets = view.all::<Subnet>().filter(|subnet| subnet.vpc_id == vpc_id);
    Policy {
        groups: groups.map(|group| (group.id.clone(), security_group(&group))).collect(),
        subnet_acls: subnets
            .filter_map(|subnet| {
                Some((subnet.id.clone(), subnet.acl_id.clone().or_else(|| default.clone())?))
            })
            .collect(),
        acls: acls.iter().map(|acl| (acl.id.clone(), network_acl(acl))).collect(),
    }
}

fn security_group(group: &SecurityGroup) -> policy::SecurityGroup {
    let side = |direction| {
        group
            .rules
            .iter()
            .filter(|rule| rule.direction == direction)
            .filter_map(|rule| {
                let peer = match &rule.peer {
                    Peer::Cidr(cidr) => policy::Peer::Cidr(*cidr),
                    Peer::Group(id) => policy::Peer::Group(id.clone()),
                    Peer::Ipv6Cidr(_) => return None,
                };
                Some(policy::Permission { traffic: traffic(rule.traffic)?, peer })
            })
            .collect()
    };
    policy::SecurityGroup { ingress: side(Direction::Ingress), egress: side(Direction::Egress) }
}

fn network_acl(acl: &NetworkAcl) -> policy::NetworkAcl {
    let side = |direction| {
        let entries = acl.entries.iter().filter(|entry| entry.direction == direction);
        entries.filter_map(|entry| Some((entry.number, acl_entry(entry)?))).collect::<BTreeMap<_, _>>()
    };
    policy::NetworkAcl { ingress: side(Direction::Ingress), egress: side(Direction::Egress) }
}

fn acl_entry(entry: &AclEntry) -> Option<policy::AclEntry> {
    let Peer::Cidr(cidr) = entry.cidr else { return None };
    Some(policy::AclEntry {
        action: match entry.action {
            AclAction::Allow => policy::AclAction::Allow,
            AclAction::Deny => policy::AclAction::Deny,
        },
        traffic: traffic(entry.traffic)?,
        cidr,
    })
}

/// `None`: of IPv6 alone, which no packet here is.
fn traffic(traffic: Traffic) -> Option<policy::Traffic> {
    Some(match traffic {
        Traffic::All => policy::Traffic::All,
        Traffic::Protocol(protocol) => policy::Traffic::Protocol(protocol),
        Traffic::Ports { protocol, from, to } => policy::Traffic::Ports { protocol, ports: from..=to },
        Traffic::Icmp { protocol: ICMP, kind, code } => policy::Traffic::Icmp { kind, code },
        Traffic::Icmp { .. } => return None,
    })
}

impl Ec2Service {
    /// Has the data plane hold what the records say now. Returns when packets meet it.
    ///
    /// # Errors
    /// When the data plane cannot; the records stand, and the next change or life tries again.
    pub(crate) async fn apply_policy(&self, scope: &Scope, vpc_id: &str) -> Result<(), ApiError> {
        let ready = self.ready.lock().await;
        // One that is not made yet gets its policy when it is.
        if !ready.contains(vpc_id) {
            return Ok(());
        }
        let view = View::new(self.store.snapshot(), scope);
        let Some(vpc) = view.get::<Vpc>(vpc_id) else { return Ok(()) };
        let set = self.plane.set_policy(vpc_spec(&vpc), of_vpc(&view, vpc_id)).await;
        drop(ready);
        set.map_err(ApiError::internal)
    }
}
