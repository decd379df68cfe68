//! The nftables rules of the data plane, as nfnetlink batches (`linux/netfilter/nf_tables.h`).
//!
//! Each table is replaced whole in one transaction: the kernel takes all of it or nothing.

use rustix::io::Errno;

use super::message::{Batch, Message, NLM_F_APPEND, NLM_F_CREATE};
use super::socket::{NetlinkSocket, Refusal};
use crate::cidr::Ipv4Cidr;

const SUBSYSTEM: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;

const REGISTER_VERDICT: u32 = 0;
const REGISTER_1: u32 = 1;
const CMP_EQUAL: u32 = 0;
const CMP_NOT_EQUAL: u32 = 1;
const NF_DROP: u32 = 0;
/// `1 << (IP_CT_NEW % IP_CT_IS_REPLY + 1)`: the first packet of a connection.
const CT_STATE_NEW: u32 = 8;

/// What a table sees.
#[derive(Clone, Copy, Debug)]
pub enum Family {
    Inet,
    Ipv4,
}

impl Family {
    fn code(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ipv4 => 2,
        }
    }
}

/// Where a chain hooks in, with the priority that iptables' own table of that name has.
#[derive(Clone, Copy, Debug)]
pub enum Hook {
    Forward,
    SourceNat,
}

#[derive(Clone, Debug)]
pub enum Expression {
    /// The packet came in through a link whose name begins so.
    InputPrefix(String),
    /// The packet leaves through a link whose name begins so.
    OutputPrefix(String),
    /// The packet goes to this block.
    Destination(Ipv4Cidr),
    /// The packet begins a connection.
    NewConnection,
    Drop,
    /// Takes the address of the link that the packet leaves through.
    Masquerade,
}

pub struct Chain {
    pub name: &'static str,
    pub hook: Hook,
    pub rules: Vec<Vec<Expression>>,
}

pub struct Table {
    pub family: Family,
    pub name: String,
    pub chains: Vec<Chain>,
}

/// Puts the table in place of the one of this name, if there is one.
pub fn replace(socket: &NetlinkSocket, table: &Table) -> Result<(), Refusal> {
    let mut batch = Batch::new();
    let family = table.family.code();
    batch_end(&mut batch, NFNL_MSG_BATCH_BEGIN);
    // Made, removed, made: the removal finds something even when nothing was there.
    for kind in [NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE, NFT_MSG_NEWTABLE] {
        let flags = if kind == NFT_MSG_NEWTABLE { NLM_F_CREATE } else { 0 };
        request(&mut batch, "write an nftables table", kind, flags, family)
            .text(NFTA_TABLE_NAME, &table.name);
    }
    for chain in &table.chains {
        let (hook, priority, chain_type) = match chain.hook {
            Hook::Forward => (2, 0, "filter"),
            Hook::SourceNat => (4, 100, "nat"),
        };
        request(&mut batch, "write an nftables chain", NFT_MSG_NEWCHAIN, NLM_F_CREATE, family)
            .text(NFTA_CHAIN_TABLE, &table.name)
            .text(NFTA_CHAIN_NAME, chain.name)
            .nest(NFTA_CHAIN_HOOK, &[], |nest| {
                nest.be32(NFTA_HOOK_HOOKNUM, hook).be32(NFTA_HOOK_PRIORITY, priority);
            })
            .text(NFTA_CHAIN_TYPE, chain_type);
        for rule in &chain.rules {
            request(
                &mut batch,
                "write an nftables rule",
                NFT_MSG_NEWRULE,
                NLM_F_CREATE | NLM_F_APPEND,
                family,
            )
            .text(NFTA_RULE_TABLE, &table.name)
            .text(NFTA_RULE_CHAIN, chain.name)
            .nest(NFTA_RULE_EXPRESSIONS, &[], |list| {
                for expression in rule {
                    write_expression(list, expression);
                }
            });
        }
    }
    batch_end(&mut batch, NFNL_MSG_BATCH_END);
    socket.execute(&batch)
}

/// Removes a table; one that is not there is no error.
pub fn remove(socket: &NetlinkSocket, family: Family, name: &str) -> Result<(), Refusal> {
    let mut batch = Batch::new();
    batch_end(&mut batch, NFNL_MSG_BATCH_BEGIN);
    request(&mut batch, "remove an nftables table", NFT_MSG_DELTABLE, 0, family.code())
        .text(NFTA_TABLE_NAME, name);
    batch_end(&mut batch, NFNL_MSG_BATCH_END);
    match socket.execute(&batch) {
        Err(Refusal { errno: Errno::NOENT, .. }) => Ok(()),
        other => other,
    }
}

fn batch_end(batch: &mut Batch, kind: u16) {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    batch.unacknowledged("write nftables", kind, 0, &[0, 0, high, low]);
}

fn request<'a>(
    batch: &'a mut Batch,
    purpose: &'static str,
    kind: u16,
    flags: u16,
    family: u8,
) -> Message<'a> {
    batch.request(purpose, SUBSYSTEM << 8 | kind, flags, &[family, 0, 0, 0])
}

fn write_expression(list: &mut Message<'_>, expression: &Expression) {
    const META_IIFNAME: u32 = 6;
    const META_OIFNAME: u32 = 7;
    const NETWORK_HEADER: u32 = 1;
    const IPV4_DESTINATION_OFFSET: u32 = 16;
    const CT_STATE: u32 = 0;
    match expression {
        Expression::InputPrefix(prefix) => {
            load(list, "meta", META_IIFNAME);
            compare(list, CMP_EQUAL, prefix.as_bytes());
        }
        Expression::OutputPrefix(prefix) => {
            load(list, "meta", META_OIFNAME);
            compare(list, CMP_EQUAL, prefix.as_bytes());
        }
        Expression::Destination(block) => {
            element(list, "payload", |data| {
                data.be32(1, REGISTER_1).be32(2, NETWORK_HEADER).be32(3, IPV4_DESTINATION_OFFSET).be32(4, 4);
            });
            let mask = u32::MAX.checked_shl(32 - u32::from(block.prefix())).unwrap_or(0);
            mask_register(list, &mask.to_be_bytes());
            compare(list, CMP_EQUAL, &block.network().octets());
        }
        Expression::NewConnection => {
            load(list, "ct", CT_STATE);
            mask_register(list, &CT_STATE_NEW.to_ne_bytes());
            compare(list, CMP_NOT_EQUAL, &[0; 4]);
        }
        Expression::Drop => element(list, "immediate", |data| {
            data.be32(1, REGISTER_VERDICT).nest(2, &[], |value| {
                value.nest(NFTA_DATA_VERDICT, &[], |verdict| {
                    verdict.be32(NFTA_VERDICT_CODE, NF_DROP);
                });
            });
        }),
        Expression::Masquerade => element(list, "masq", |_| {}),
    }
}

fn element(list: &mut Message<'_>, name: &str, fill: impl FnOnce(&mut Message<'_>)) {
    list.nest(NFTA_LIST_ELEM, &[], |element| {
        element.text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, &[], fill);
    });
}

/// Both `meta` and `ct` name their destination register 1 and their key 2.
fn load(list: &mut Message<'_>, expression: &str, key: u32) {
    element(list, expression, |data| {
        data.be32(1, REGISTER_1).be32(2, key);
    });
}

fn compare(list: &mut Message<'_>, operation: u32, value: &[u8]) {
    element(list, "cmp", |data| {
        data.be32(1, REGISTER_1).be32(2, operation).nest(3, &[], |nest| {
            nest.attribute(NFTA_DATA_VALUE, value);
        });
    });
}

fn mask_register(list: &mut Message<'_>, mask: &[u8]) {
    element(list, "bitwise", |data| {
        data.be32(1, REGISTER_1)
            .be32(2, REGISTER_1)
            .be32(3, mask.len() as u32)
            .nest(4, &[], |nest| {
                nest.attribute(NFTA_DATA_VALUE, mask);
            })
            .nest(5, &[], |nest| {
                nest.attribute(NFTA_DATA_VALUE, &vec![0; mask.len()]);
            });
    });
}
