//! The regions of AWS and their availability zones ("AWS Regions and Availability Zones").

use wharf_core::{Partition, Region};

/// Whether an account has to ask for a region before it can use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptIn {
    NotRequired,
    Required,
}

pub struct RegionFacts {
    pub name: &'static str,
    /// How the ids of its zones begin.
    code: &'static str,
    pub opt_in: OptIn,
    /// Letter of the zone's name and number of the zone's id. Which letter stands for which number
    /// differs between accounts.
    zones: &'static [(char, u8)],
}

/// An availability zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Such as `us-east-1a`.
    pub name: String,
    /// Such as `use1-az1`.
    pub id: String,
}

const THREE: &[(char, u8)] = &[('a', 1), ('b', 2), ('c', 3)];
const FOUR: &[(char, u8)] = &[('a', 1), ('b', 2), ('c', 3), ('d', 4)];
const SIX: &[(char, u8)] = &[('a', 1), ('b', 2), ('c', 3), ('d', 4), ('e', 5), ('f', 6)];

const fn open(name: &'static str, code: &'static str, zones: &'static [(char, u8)]) -> RegionFacts {
    RegionFacts { name, code, opt_in: OptIn::NotRequired, zones }
}

const fn asked_for(name: &'static str, code: &'static str) -> RegionFacts {
    RegionFacts { name, code, opt_in: OptIn::Required, zones: THREE }
}

static REGIONS: &[RegionFacts] = &[
    asked_for("af-south-1", "afs1"),
    asked_for("ap-east-1", "ape1"),
    asked_for("ap-east-2", "ape2"),
    open("ap-northeast-1", "apne1", &[('a', 4), ('c', 1), ('d', 2)]),
    open("ap-northeast-2", "apne2", FOUR),
    open("ap-northeast-3", "apne3", THREE),
    open("ap-south-1", "aps1", &[('a', 1), ('b', 3), ('c', 2)]),
    asked_for("ap-south-2", "aps2"),
    open("ap-southeast-1", "apse1", THREE),
    open("ap-southeast-2", "apse2", THREE),
    asked_for("ap-southeast-3", "apse3"),
    asked_for("ap-southeast-4", "apse4"),
    asked_for("ap-southeast-5", "apse5"),
    asked_for("ap-southeast-6", "apse6"),
    asked_for("ap-southeast-7", "apse7"),
    open("ca-central-1", "cac1", &[('a', 1), ('b', 2), ('d', 4)]),
    asked_for("ca-west-1", "caw1"),
    open("cn-north-1", "cnn1", &[('a', 1), ('b', 2), ('d', 4)]),
    open("cn-northwest-1", "cnnw1", THREE),
    open("eu-central-1", "euc1", &[('a', 2), ('b', 3), ('c', 1)]),
    asked_for("eu-central-2", "euc2"),
    open("eu-north-1", "eun1", THREE),
    asked_for("eu-south-1", "eus1"),
    asked_for("eu-south-2", "eus2"),
    open("eu-west-1", "euw1", THREE),
    open("eu-west-2", "euw2", THREE),
    open("eu-west-3", "euw3", THREE),
    asked_for("il-central-1", "ilc1"),
    asked_for("me-central-1", "mec1"),
    asked_for("me-south-1", "mes1"),
    asked_for("mx-central-1", "mxc1"),
    open("sa-east-1", "sae1", THREE),
    open("us-east-1", "use1", SIX),
    open("us-east-2", "use2", THREE),
    open("us-gov-east-1", "usge1", THREE),
    open("us-gov-west-1", "usgw1", THREE),
    open("us-west-1", "usw1", &[('a', 1), ('c', 3)]),
    open("us-west-2", "usw2", FOUR),
];

fn partition(name: &str) -> Partition {
    name.parse::<Region>().map_or(Partition::Aws, |region| Partition::of_region(&region))
}

/// The names of the regions of all partitions.
pub fn region_names() -> impl Iterator<Item = &'static str> {
    REGIONS.iter().map(|region| region.name)
}

/// The regions of the partition that this region belongs to, by name.
pub fn of_partition(region: &Region) -> impl Iterator<Item = &'static RegionFacts> {
    let wanted = Partition::of_region(region);
    REGIONS.iter().filter(move |facts| partition(facts.name) == wanted)
}

/// The host name of EC2's endpoint in a region.
pub fn endpoint(name: &str) -> String {
    let suffix = if partition(name) == Partition::AwsCn { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("ec2.{name}.{suffix}")
}

/// The zones of a region. One that AWS does not have gets three.
pub fn zones(region: &Region) -> Vec<Zone> {
    let facts = REGIONS.iter().find(|facts| facts.name == region.as_str());
    let (code, zones) = facts.map_or((region.as_str(), THREE), |facts| (facts.code, facts.zones));
    zones
        .iter()
        .map(|(letter, number)| Zone { name: format!("{region}{letter}"), id: format!("{code}-az{number}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_sorted_and_stay_in_their_partition() {
        assert!(REGIONS.is_sorted_by_key(|facts| facts.name));
        let china: Vec<_> = of_partition(&"cn-north-1".parse().unwrap()).map(|facts| facts.name).collect();
        assert_eq!(china, ["cn-north-1", "cn-northwest-1"]);
        assert!(of_partition(&Region::default()).all(|facts| !facts.name.starts_with("us-gov")));
        assert_eq!(endpoint("cn-north-1"), "ec2.cn-north-1.amazonaws.com.cn");
    }

    #[test]
    fn every_region_has_zones() {
        assert_eq!(zones(&Region::default()).len(), 6);
        assert_eq!(zones(&Region::default())[5], Zone { name: "us-east-1f".into(), id: "use1-az6".into() });
        assert_eq!(zones(&"moon-north-1".parse().unwrap())[0].id, "moon-north-1-az1");
    }
}
