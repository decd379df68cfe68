//! What EC2 stores: the network of an account in a region. Never sent; the handlers convert.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use wharf_core::{Scope, Timestamp};
use wharf_network::{Ipv4Cidr, MacAddress};
use wharf_state::{Index, Key, Record};

macro_rules! regional_record {
    ($name:ident, $table:literal) => {
        impl Record for $name {
            const TABLE: &'static str = $table;
            const VERSION: u32 = 1;
            type Key = (Scope, String);

            fn key(&self) -> Self::Key {
                (self.scope.clone(), self.id.clone())
            }
        }
    };
}

/// A VPC. All of it is written when it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vpc {
    pub scope: Scope,
    /// `vpc-` and 17 hexadecimal digits.
    pub id: String,
    pub cidr: Ipv4Cidr,
    pub cidr_association_id: String,
    pub dhcp_options_id: String,
    pub is_default: bool,
}

regional_record!(Vpc, "ec2-vpc");

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    pub scope: Scope,
    /// `subnet-` and 17 hexadecimal digits.
    pub id: String,
    pub vpc_id: String,
    pub cidr: Ipv4Cidr,
    /// Such as `us-east-1a`.
    pub zone: String,
    /// Such as `use1-az1`.
    pub zone_id: String,
    pub default_for_zone: bool,
    pub public_ip_on_launch: bool,
    /// With its network ACL; another ACL makes another association.
    pub acl_association_id: String,
    /// `None`: the VPC's default one.
    #[serde(default)]
    pub acl_id: Option<String>,
}

regional_record!(Subnet, "ec2-subnet");

/// Which way a rule looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    Ingress,
    Egress,
}

/// Whom a rule lets through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Peer {
    Cidr(Ipv4Cidr),
    Group(String),
    /// In its canonical form. No address of a VPC here is one of IPv6, so it lets nobody through.
    Ipv6Cidr(String),
}

/// The packets that a rule speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Traffic {
    #[default]
    All,
    /// All packets of an IP protocol.
    Protocol(u8),
    /// TCP (6) or UDP (17), by destination port.
    Ports { protocol: u8, from: u16, to: u16 },
    /// ICMP (1) or ICMPv6 (58); `None` is all types, all codes.
    Icmp { protocol: u8, kind: Option<u8>, code: Option<u8> },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroupRule {
    /// `sgr-` and 17 hexadecimal digits.
    pub id: String,
    pub direction: Direction,
    pub peer: Peer,
    #[serde(default)]
    pub traffic: Traffic,
    #[serde(default)]
    pub description: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    pub scope: Scope,
    /// `sg-` and 17 hexadecimal digits.
    pub id: String,
    pub vpc_id: String,
    pub name: String,
    pub description: String,
    pub rules: Vec<SecurityGroupRule>,
}

impl SecurityGroup {
    /// The name of the group that every VPC has, and that nobody can remove.
    pub const DEFAULT: &'static str = "default";
}

regional_record!(SecurityGroup, "ec2-security-group");

/// A main route table: to the VPC itself, and to the internet gateway when there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    pub scope: Scope,
    /// `rtb-` and 17 hexadecimal digits.
    pub id: String,
    pub vpc_id: String,
    pub main_association_id: String,
    pub local: Ipv4Cidr,
    pub internet_gateway_id: Option<String>,
}

regional_record!(RouteTable, "ec2-route-table");

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InternetGateway {
    pub scope: Scope,
    /// `igw-` and 17 hexadecimal digits.
    pub id: String,
    pub vpc_id: String,
}

regional_record!(InternetGateway, "ec2-internet-gateway");

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AclAction {
    Allow,
    Deny,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclEntry {
    pub direction: Direction,
    /// 1 to 32,766: the least decides first.
    pub number: u16,
    pub action: AclAction,
    pub traffic: Traffic,
    /// IPv4 or IPv6.
    pub cidr: Peer,
}

/// A network ACL. Behind all its entries stands one that denies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAcl {
    pub scope: Scope,
    /// `acl-` and 17 hexadecimal digits.
    pub id: String,
    pub vpc_id: String,
    /// Each subnet of the VPC has it that has no other.
    #[serde(default = "yes")]
    pub is_default: bool,
    #[serde(default = "NetworkAcl::open")]
    pub entries: Vec<AclEntry>,
    /// Of the request that made it: the same token asks for the same ACL.
    #[serde(default)]
    pub client_token: Option<String>,
}

/// ACLs were all default ones before there were others.
fn yes() -> bool {
    true
}

impl NetworkAcl {
    /// What a default ACL begins with: all is let through.
    pub fn open() -> Vec<AclEntry> {
        [Direction::Egress, Direction::Ingress]
            .map(|direction| AclEntry {
                direction,
                number: 100,
                action: AclAction::Allow,
                traffic: Traffic::All,
                cidr: Peer::Cidr(Ipv4Cidr::EVERYWHERE),
            })
            .to_vec()
    }
}

regional_record!(NetworkAcl, "ec2-network-acl");

/// Where an interface's packets may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Egress {
    Internet,
    VpcOnly,
}

/// An interface that a service has asked for. Written while it is made, so that a crash leaves
/// either nothing or something that its owner finds again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInterface {
    pub scope: Scope,
    /// `eni-` and 17 hexadecimal digits.
    pub id: String,
    /// Unique in the scope.
    pub owner: String,
    pub description: String,
    pub vpc_id: String,
    pub subnet_id: String,
    /// At least one.
    pub security_group_ids: Vec<String>,
    pub address: Ipv4Addr,
    pub mac: MacAddress,
    pub egress: Egress,
    /// `eni-attach-` and 17 hexadecimal digits.
    pub attachment_id: String,
    pub attached_at: Timestamp,
}

impl NetworkInterface {
    pub const BY_OWNER: &'static str = "by-owner";
    pub const BY_SUBNET: &'static str = "by-subnet";
}

impl Record for NetworkInterface {
    const TABLE: &'static str = "ec2-network-interface";
    const VERSION: u32 = 1;
    type Key = (Scope, String);

    fn key(&self) -> Self::Key {
        (self.scope.clone(), self.id.clone())
    }

    fn indexes() -> &'static [Index<Self>] {
        const INDEXES: &[Index<NetworkInterface>] = &[
            Index {
                name: NetworkInterface::BY_OWNER,
                keys: |interface| vec![(interface.scope.clone(), interface.owner.clone()).to_bytes()],
            },
            Index {
                name: NetworkInterface::BY_SUBNET,
                keys: |interface| vec![(interface.scope.clone(), interface.subnet_id.clone()).to_bytes()],
            },
        ];
        INDEXES
    }
}

/// The tags of one resource; there is no record when there are none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceTags {
    pub scope: Scope,
    /// The id of what is tagged, such as `sg-…`.
    pub id: String,
    pub tags: BTreeMap<String, String>,
}

regional_record!(ResourceTags, "ec2-tags");
