//! What rules are made of.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use super::super::message::Message;
use super::NFTA_LIST_ELEM;
use crate::cidr::Ipv4Cidr;

const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;

const REGISTER_VERDICT: u32 = 0;
/// The first of sixteen registers of four bytes (`NFT_REG32_00`).
const REGISTER_FIRST: u32 = 8;
const CMP_EQUAL: u32 = 0;
const CMP_NOT_EQUAL: u32 = 1;
const RANGE_EQUAL: u32 = 0;

const META_PROTOCOL: u32 = 1;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_L4PROTO: u32 = 16;
const CT_STATE: u32 = 0;
const LINK_HEADER: u32 = 0;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const IFNAME_BYTES: usize = 16;

/// `1 << (IP_CT_NEW % IP_CT_IS_REPLY + 1)`: the first packet of a connection.
const CT_STATE_NEW: u32 = 8;
/// Established and related.
const CT_STATE_KNOWN: u32 = 2 | 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop,
    /// Back to where the last `Jump` came from.
    Return,
    Jump(String),
    /// As `Jump`, and never back here.
    Goto(String),
}

impl Verdict {
    pub(super) fn write(&self, data: &mut Message<'_>) {
        let (code, chain): (i32, Option<&str>) = match self {
            Self::Drop => (0, None),
            Self::Accept => (1, None),
            Self::Jump(chain) => (-3, Some(chain)),
            Self::Goto(chain) => (-4, Some(chain)),
            Self::Return => (-5, None),
        };
        data.nest(NFTA_DATA_VERDICT, &[], |verdict| {
            verdict.be32(NFTA_VERDICT_CODE, code.cast_unsigned());
            if let Some(chain) = chain {
                verdict.text(NFTA_VERDICT_CHAIN, chain);
            }
        });
    }
}

/// A property of a packet that sets and maps are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    InputName,
    OutputName,
    EtherSource,
    Source,
    Destination,
    /// The sender's protocol address in an ARP message.
    ArpSource,
    /// A number that another map gave.
    Number,
}

impl Key {
    /// Bytes in a set's key, padded to four.
    pub fn bytes(self) -> usize {
        match self {
            Self::InputName | Self::OutputName => IFNAME_BYTES,
            Self::EtherSource => 8,
            Self::Source | Self::Destination | Self::ArpSource | Self::Number => 4,
        }
    }

    /// `nft`'s own numbers (`ifname`, `ether_addr`, `ipv4_addr`), for those who list the ruleset.
    pub(super) fn nft_type(self) -> u32 {
        match self {
            Self::InputName | Self::OutputName => 41,
            Self::EtherSource => 9,
            Self::Source | Self::Destination | Self::ArpSource => 7,
            Self::Number => 19,
        }
    }

    pub fn of_name(name: &str) -> Vec<u8> {
        let mut key = name.as_bytes().to_vec();
        key.resize(IFNAME_BYTES, 0);
        key
    }

    pub fn of_mac(mac: [u8; 6]) -> Vec<u8> {
        let mut key = mac.to_vec();
        key.resize(8, 0);
        key
    }

    pub fn of_address(address: Ipv4Addr) -> Vec<u8> {
        address.octets().to_vec()
    }

    fn load(self, list: &mut Message<'_>, register: u32) {
        match self {
            Self::InputName => load(list, "meta", META_IIFNAME, register),
            Self::OutputName => load(list, "meta", META_OIFNAME, register),
            Self::EtherSource => payload(list, LINK_HEADER, 6, 6, register),
            Self::Source => payload(list, NETWORK_HEADER, 12, 4, register),
            Self::Destination => payload(list, NETWORK_HEADER, 16, 4, register),
            Self::ArpSource => payload(list, NETWORK_HEADER, 14, 4, register),
            // It is where the lookup before has put it.
            Self::Number => {}
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// The packet came in through a link whose name begins so.
    InputPrefix(String),
    /// The packet leaves through a link whose name begins so.
    OutputPrefix(String),
    Source(Ipv4Cidr),
    Destination(Ipv4Cidr),
    /// What a frame carries: 0x0800 is IPv4, 0x0806 ARP.
    EtherType(u16),
    Protocol(u8),
    DestinationPorts(RangeInclusive<u16>),
    IcmpKind(u8),
    IcmpCode(u8),
    /// The packet begins a connection.
    NewConnection,
    /// The packet belongs to a connection that was let through, or is an error about one.
    KnownConnection,
    /// The keys together are in the set.
    InSet {
        keys: Vec<Key>,
        set: String,
    },
    /// The map's verdict for the key; none: the next rule.
    VerdictOf {
        key: Key,
        map: String,
    },
    /// The verdict of the second map for the number that the first has for the key.
    VerdictOfNumber {
        key: Key,
        numbers: String,
        verdicts: String,
    },
    Verdict(Verdict),
    /// Takes the address of the link that the packet leaves through.
    Masquerade,
}

impl Expression {
    pub(super) fn write(&self, list: &mut Message<'_>) {
        let register = REGISTER_FIRST;
        match self {
            Self::InputPrefix(prefix) => {
                Key::InputName.load(list, register);
                compare(list, CMP_EQUAL, prefix.as_bytes());
            }
            Self::OutputPrefix(prefix) => {
                Key::OutputName.load(list, register);
                compare(list, CMP_EQUAL, prefix.as_bytes());
            }
            Self::Source(block) => in_block(list, Key::Source, *block),
            Self::Destination(block) => in_block(list, Key::Destination, *block),
            Self::EtherType(kind) => {
                load(list, "meta", META_PROTOCOL, register);
                compare(list, CMP_EQUAL, &kind.to_be_bytes());
            }
            Self::Protocol(protocol) => {
                load(list, "meta", META_L4PROTO, register);
                compare(list, CMP_EQUAL, &[*protocol]);
            }
            Self::DestinationPorts(ports) => {
                payload(list, TRANSPORT_HEADER, 2, 2, register);
                if ports.start() == ports.end() {
                    compare(list, CMP_EQUAL, &ports.start().to_be_bytes());
                } else {
                    in_range(list, &ports.start().to_be_bytes(), &ports.end().to_be_bytes());
                }
            }
            Self::IcmpKind(kind) => {
                payload(list, TRANSPORT_HEADER, 0, 1, register);
                compare(list, CMP_EQUAL, &[*kind]);
            }
            Self::IcmpCode(code) => {
                payload(list, TRANSPORT_HEADER, 1, 1, register);
                compare(list, CMP_EQUAL, &[*code]);
            }
            Self::NewConnection => connection(list, CT_STATE_NEW),
            Self::KnownConnection => connection(list, CT_STATE_KNOWN),
            Self::InSet { keys, set } => {
                let mut next = register;
                for key in keys {
                    key.load(list, next);
                    next += (key.bytes() / 4) as u32;
                }
                element(list, "lookup", |data| {
                    data.text(1, set).be32(2, register);
                });
            }
            Self::VerdictOf { key, map } => {
                key.load(list, register);
                element(list, "lookup", |data| {
                    data.text(1, map).be32(2, register).be32(3, REGISTER_VERDICT);
                });
            }
            Self::VerdictOfNumber { key, numbers, verdicts } => {
                key.load(list, register);
                let number = register + 1;
                element(list, "lookup", |data| {
                    data.text(1, numbers).be32(2, register).be32(3, number);
                });
                element(list, "lookup", |data| {
                    data.text(1, verdicts).be32(2, number).be32(3, REGISTER_VERDICT);
                });
            }
            Self::Verdict(verdict) => element(list, "immediate", |data| {
                data.be32(1, REGISTER_VERDICT).nest(2, &[], |value| verdict.write(value));
            }),
            Self::Masquerade => element(list, "masq", |_| {}),
        }
    }
}

fn element(list: &mut Message<'_>, name: &str, fill: impl FnOnce(&mut Message<'_>)) {
    list.nest(NFTA_LIST_ELEM, &[], |element| {
        element.text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, &[], fill);
    });
}

/// Both `meta` and `ct` name their destination register 1 and their key 2.
fn load(list: &mut Message<'_>, expression: &str, key: u32, register: u32) {
    element(list, expression, |data| {
        data.be32(1, register).be32(2, key);
    });
}

fn payload(list: &mut Message<'_>, base: u32, offset: u32, length: u32, register: u32) {
    element(list, "payload", |data| {
        data.be32(1, register).be32(2, base).be32(3, offset).be32(4, length);
    });
}

fn in_block(list: &mut Message<'_>, key: Key, block: Ipv4Cidr) {
    if block.prefix() == 0 {
        return;
    }
    key.load(list, REGISTER_FIRST);
    if block.prefix() < 32 {
        let mask = u32::MAX.checked_shl(32 - u32::from(block.prefix())).unwrap_or(0);
        mask_register(list, &mask.to_be_bytes());
    }
    compare(list, CMP_EQUAL, &block.network().octets());
}

fn connection(list: &mut Message<'_>, states: u32) {
    load(list, "ct", CT_STATE, REGISTER_FIRST);
    mask_register(list, &states.to_ne_bytes());
    compare(list, CMP_NOT_EQUAL, &[0; 4]);
}

fn compare(list: &mut Message<'_>, operation: u32, value: &[u8]) {
    element(list, "cmp", |data| {
        data.be32(1, REGISTER_FIRST).be32(2, operation).nest(3, &[], |nest| {
            nest.attribute(NFTA_DATA_VALUE, value);
        });
    });
}

fn in_range(list: &mut Message<'_>, from: &[u8], to: &[u8]) {
    element(list, "range", |data| {
        data.be32(1, REGISTER_FIRST)
            .be32(2, RANGE_EQUAL)
            .nest(3, &[], |nest| {
                nest.attribute(NFTA_DATA_VALUE, from);
            })
            .nest(4, &[], |nest| {
                nest.attribute(NFTA_DATA_VALUE, to);
            });
    });
}

fn mask_register(list: &mut Message<'_>, mask: &[u8]) {
    element(list, "bitwise", |data| {
        data.be32(1, REGISTER_FIRST)
            .be32(2, REGISTER_FIRST)
            .be32(3, mask.len() as u32)
            .nest(4, &[], |nest| {
                nest.attribute(NFTA_DATA_VALUE, mask);
            })
            .nest(5, &[], |nest| {
                nest.attribute(NFTA_DATA_VALUE, &vec![0; mask.len()]);
            });
    });
}
