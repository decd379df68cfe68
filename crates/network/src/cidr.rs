//! IPv4 blocks (RFC 4632) and what a subnet keeps for itself. Pure.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An IPv4 block whose host bits are zero: `172.31.16.0/20`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ipv4Cidr {
    network: u32,
    prefix: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    #[error("a block has the form a.b.c.d/prefix with a prefix of 0 to 32")]
    Form,
    #[error("the address of a block has no bits set behind its prefix")]
    HostBits,
}

impl Ipv4Cidr {
    pub const EVERYWHERE: Self = Self { network: 0, prefix: 0 };
    /// RFC 3927.
    pub const LINK_LOCAL: Self = Self { network: 0xa9fe_0000, prefix: 16 };

    /// The block of one address.
    pub fn host(address: Ipv4Addr) -> Self {
        Self { network: u32::from(address), prefix: 32 }
    }

    /// The block with this prefix, at most 32, that the address lies in.
    pub fn around(address: Ipv4Addr, prefix: u8) -> Self {
        let cidr = Self { network: u32::from(address), prefix: prefix.min(32) };
        Self { network: cidr.network & cidr.mask(), ..cidr }
    }

    /// # Errors
    /// When `prefix` is above 32, or `network` has bits set behind it.
    pub fn new(network: Ipv4Addr, prefix: u8) -> Result<Self, CidrError> {
        if prefix > 32 {
            return Err(CidrError::Form);
        }
        let cidr = Self { network: u32::from(network), prefix };
        if cidr.network & !cidr.mask() == 0 { Ok(cidr) } else { Err(CidrError::HostBits) }
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }

    pub fn network(self) -> Ipv4Addr {
        Ipv4Addr::from(self.network)
    }

    /// The number of leading bits, 0 to 32.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// How many addresses the block has: 1 to 2^32.
    pub fn size(self) -> u64 {
        1 << (32 - u32::from(self.prefix))
    }

    pub fn last(self) -> Ipv4Addr {
        Ipv4Addr::from(self.network | !self.mask())
    }

    /// The address `offset` behind the first, when it is in the block.
    pub fn nth(self, offset: u64) -> Option<Ipv4Addr> {
        let offset = u32::try_from(offset).ok().filter(|_| offset < self.size())?;
        Some(Ipv4Addr::from(self.network | offset))
    }

    /// How far behind the first address this one is.
    pub fn offset_of(self, address: Ipv4Addr) -> Option<u64> {
        self.contains(address).then(|| u64::from(u32::from(address) - self.network))
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask() == self.network
    }

    pub fn covers(self, other: Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.network())
    }

    pub fn overlaps(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// The router of a subnet: the address behind the network's own (Amazon VPC User Guide,
    /// "Subnet CIDR blocks").
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.network.wrapping_add(1))
    }
}

impl fmt::Display for Ipv4Cidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.network(), self.prefix)
    }
}

impl FromStr for Ipv4Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (network, prefix) = text.split_once('/').ok_or(CidrError::Form)?;
        let digits = (1..=2).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_digit());
        if !digits {
            return Err(CidrError::Form);
        }
        Self::new(network.parse().map_err(|_| CidrError::Form)?, prefix.parse().map_err(|_| CidrError::Form)?)
    }
}

impl Serialize for Ipv4Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ipv4Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_block_survives_display_and_parse(address: u32, prefix in 0u8..=32) {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            let cidr = Ipv4Cidr::new(Ipv4Addr::from(address & mask), prefix).unwrap();
            prop_assert_eq!(cidr.to_string().parse::<Ipv4Cidr>().unwrap(), cidr);
            prop_assert!(cidr.contains(cidr.network()) && cidr.contains(cidr.last()));
            prop_assert_eq!(cidr.offset_of(cidr.last()), Some(cidr.size() - 1));
            prop_assert_eq!(cidr.nth(cidr.size()), None);
            prop_assert_eq!(Ipv4Cidr::new(Ipv4Addr::from(address), prefix).is_ok(), address & mask == address);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,24}") {
            let _ = text.parse::<Ipv4Cidr>();
        }
    }

    #[test]
    fn blocks_overlap_when_one_covers_the_other() {
        let vpc: Ipv4Cidr = "172.31.0.0/16".parse().unwrap();
        let subnet: Ipv4Cidr = "172.31.16.0/20".parse().unwrap();
        let other: Ipv4Cidr = "10.0.0.0/8".parse().unwrap();
        assert!(vpc.covers(subnet) && !subnet.covers(vpc) && subnet.overlaps(vpc));
        assert!(!other.overlaps(vpc));
        assert_eq!(subnet.gateway(), Ipv4Addr::new(172, 31, 16, 1));
        assert_eq!("1.2.3.4/24".parse::<Ipv4Cidr>(), Err(CidrError::HostBits));
        assert_eq!("1.2.3.0/+4".parse::<Ipv4Cidr>(), Err(CidrError::Form));
    }
}
