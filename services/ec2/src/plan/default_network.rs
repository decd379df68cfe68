//! The network that every account has in every region from the start (Amazon VPC User Guide,
//! "Default VPCs").

use std::net::Ipv4Addr;

use wharf_core::{Rng, Scope};
use wharf_network::Ipv4Cidr;

use crate::records::{
    Direction, InternetGateway, NetworkAcl, Peer, RouteTable, SecurityGroup, SecurityGroupRule, Subnet,
    Traffic, Vpc,
};
use crate::regions;

/// Everything that is written when an account first meets EC2 in a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultNetwork {
    pub vpc: Vpc,
    pub subnets: Vec<Subnet>,
    pub security_group: SecurityGroup,
    pub route_table: RouteTable,
    pub internet_gateway: InternetGateway,
    pub network_acl: NetworkAcl,
}

const SUBNET_PREFIX: u8 = 20;

pub fn id(kind: &str, rng: &dyn Rng) -> String {
    format!("{kind}-{}", rng.hex(17))
}

pub fn plan(scope: &Scope, rng: &dyn Rng) -> DefaultNetwork {
    let cidr = Ipv4Cidr::around(Ipv4Addr::new(172, 31, 0, 0), 16);
    let vpc_id = id("vpc", rng);
    let zones = regions::zones(&scope.region);
    let subnets = zones.into_iter().zip(0u8..).map(|(zone, number)| Subnet {
        scope: scope.clone(),
        id: id("subnet", rng),
        vpc_id: vpc_id.clone(),
        cidr: Ipv4Cidr::around(Ipv4Addr::new(172, 31, number * 16, 0), SUBNET_PREFIX),
        zone: zone.name,
        zone_id: zone.id,
        default_for_zone: true,
        public_ip_on_launch: true,
        acl_association_id: id("aclassoc", rng),
        acl_id: None,
    });
    let subnets = subnets.collect();
    let group_id = id("sg", rng);
    let rule = |direction, peer| SecurityGroupRule {
        id: id("sgr", rng),
        direction,
        peer,
        traffic: Traffic::All,
        description: None,
    };
    let internet_gateway =
        InternetGateway { scope: scope.clone(), id: id("igw", rng), vpc_id: vpc_id.clone() };
    DefaultNetwork {
        subnets,
        security_group: SecurityGroup {
            scope: scope.clone(),
            id: group_id.clone(),
            vpc_id: vpc_id.clone(),
            name: SecurityGroup::DEFAULT.to_owned(),
            description: "default VPC security group".to_owned(),
            rules: vec![
                rule(Direction::Ingress, Peer::Group(group_id)),
                rule(Direction::Egress, Peer::Cidr(Ipv4Cidr::EVERYWHERE)),
            ],
        },
        route_table: RouteTable {
            scope: scope.clone(),
            id: id("rtb", rng),
            vpc_id: vpc_id.clone(),
            main_association_id: id("rtbassoc", rng),
            local: cidr,
            internet_gateway_id: Some(internet_gateway.id.clone()),
        },
        network_acl: NetworkAcl {
            scope: scope.clone(),
            id: id("acl", rng),
            vpc_id: vpc_id.clone(),
            is_default: true,
            entries: NetworkAcl::open(),
            client_token: None,
        },
        internet_gateway,
        vpc: Vpc {
            scope: scope.clone(),
            id: vpc_id,
            cidr,
            cidr_association_id: id("vpc-cidr-assoc", rng),
            dhcp_options_id: id("dopt", rng),
            is_default: true,
        },
    }
}

#[cfg(test)]
mod tests {
    use wharf_core::{AccountId, Region, SeededRng};

    use super::*;

    #[test]
    fn subnets_lie_side_by_side_in_the_vpc_and_a_seed_replays_them() {
        let scope = Scope { account: AccountId::DEFAULT, region: Region::default() };
        let network = plan(&scope, &SeededRng::new(1));
        assert_eq!(network, plan(&scope, &SeededRng::new(1)));
        assert_eq!(network.subnets.len(), 6);
        for (index, subnet) in network.subnets.iter().enumerate() {
            assert!(network.vpc.cidr.covers(subnet.cidr));
            assert!(network.subnets[index + 1..].iter().all(|other| !other.cidr.overlaps(subnet.cidr)));
        }
        assert_eq!(network.subnets[1].cidr.to_string(), "172.31.16.0/20");
        assert_eq!(network.vpc.id.len(), 21);
        assert_eq!(network.security_group.rules[0].peer, Peer::Group(network.security_group.id.clone()));
    }
}
