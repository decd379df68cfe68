//! nftables as values, and as nfnetlink batches (`linux/netfilter/nf_tables.h`).
//!
//! A [`Transaction`] is taken whole by the kernel or not at all, so packets never meet half a
//! ruleset. Tables are either replaced as a whole or changed element by element.

mod expression;

use rustix::io::Errno;

pub use self::expression::{Expression, Key, Verdict};
use super::message::{Batch, Message, NLM_F_APPEND, NLM_F_CREATE};
use super::socket::{NetlinkSocket, Refusal};

const SUBSYSTEM: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_NEWSET: u16 = 9;
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFT_MSG_DELSETELEM: u16 = 14;

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
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;

const NFT_SET_MAP: u32 = 8;
/// The data type of a map of verdicts.
const NFT_DATA_VERDICT: u32 = 0xffff_ff00;
/// `nft`'s own number of the type of a mark: 32 bits in host order.
const NFT_TYPE_MARK: u32 = 19;
/// Elements in one message: a nested attribute holds 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 256;

/// What a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Inet,
    Ipv4,
    Bridge,
}

impl Family {
    fn code(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ipv4 => 2,
            Self::Bridge => 7,
        }
    }
}

/// Where a chain hooks in, with the priority that iptables' own table of that name has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// With its place among the chains of this hook: the least comes first.
    Forward(i32),
    SourceNat,
    /// Of a bridge: a frame that comes in through a port.
    BridgePrerouting,
}

pub type Rule = Vec<Expression>;

#[derive(Clone, Debug)]
pub struct Chain {
    pub name: String,
    /// `None`: other chains lead here.
    pub hook: Option<Hook>,
    pub rules: Vec<Rule>,
}

/// A set of keys, or a map from keys to something.
#[derive(Clone, Debug)]
pub struct Set {
    pub name: String,
    pub keys: Vec<Key>,
    pub values: Values,
    pub elements: Vec<Element>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    None,
    /// Whatever is added is checked by the kernel together with all chains that it leads to: for
    /// maps that change rarely.
    Verdicts,
    Numbers,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// The keys, each padded as [`Key::bytes`] says.
    pub key: Vec<u8>,
    pub value: Value,
}

/// What an element of a map holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    None,
    Verdict(Verdict),
    Number(u32),
}

#[derive(Clone, Debug)]
pub struct Table {
    pub family: Family,
    pub name: String,
    pub sets: Vec<Set>,
    pub chains: Vec<Chain>,
}

/// Puts the table in place of the one of this name, if there is one.
pub fn replace(socket: &NetlinkSocket, table: &Table) -> Result<(), Refusal> {
    let mut transaction = Transaction::new(table.family, &table.name);
    transaction.replace(table);
    transaction.commit(socket)
}

/// Removes a table; one that is not there is no error.
pub fn remove(socket: &NetlinkSocket, family: Family, name: &str) -> Result<(), Refusal> {
    let mut transaction = Transaction::new(family, name);
    transaction.message("remove an nftables table", NFT_MSG_DELTABLE, 0).text(NFTA_TABLE_NAME, name);
    match transaction.commit(socket) {
        Err(Refusal { errno: Errno::NOENT, .. }) => Ok(()),
        other => other,
    }
}

/// Changes to one table that are made together.
pub struct Transaction<'t> {
    batch: Batch,
    family: Family,
    table: &'t str,
    set_id: u32,
}

impl<'t> Transaction<'t> {
    pub fn new(family: Family, table: &'t str) -> Self {
        let mut batch = Batch::new();
        batch_end(&mut batch, NFNL_MSG_BATCH_BEGIN);
        Self { batch, family, table, set_id: 0 }
    }

    fn message(&mut self, purpose: &'static str, kind: u16, flags: u16) -> Message<'_> {
        let fixed = [self.family.code(), 0, 0, 0];
        self.batch.unacknowledged(purpose, SUBSYSTEM << 8 | kind, flags, &fixed)
    }

    fn replace(&mut self, table: &Table) {
        // Made, removed, made: the removal finds something even when nothing was there.
        for kind in [NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE, NFT_MSG_NEWTABLE] {
            let flags = if kind == NFT_MSG_NEWTABLE { NLM_F_CREATE } else { 0 };
            let name = self.table;
            self.message("write an nftables table", kind, flags).text(NFTA_TABLE_NAME, name);
        }
        // Sets before the rules that look into them, chains before whatever leads to them.
        for set in &table.sets {
            self.add_set(set);
        }
        for chain in &table.chains {
            self.add_chain(chain);
        }
        for set in &table.sets {
            self.add_elements(&set.name, &set.elements);
        }
        for chain in &table.chains {
            self.add_rules(chain);
        }
    }

    pub fn add_set(&mut self, set: &Set) {
        self.set_id += 1;
        let (table, id) = (self.table, self.set_id);
        let length = set.keys.iter().map(|key| key.bytes() as u32).sum();
        // For those who list the ruleset: one byte, six bits each, of what the key is made of.
        let kind = set.keys.iter().fold(0, |sum, key| sum << 6 | key.nft_type());
        let mut message = self.message("write an nftables set", NFT_MSG_NEWSET, NLM_F_CREATE);
        message
            .text(NFTA_SET_TABLE, table)
            .text(NFTA_SET_NAME, &set.name)
            .be32(NFTA_SET_KEY_TYPE, kind)
            .be32(NFTA_SET_KEY_LEN, length)
            .be32(NFTA_SET_ID, id);
        match set.values {
            Values::None => {}
            Values::Verdicts => {
                message.be32(NFTA_SET_FLAGS, NFT_SET_MAP).be32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
            }
            Values::Numbers => {
                message
                    .be32(NFTA_SET_FLAGS, NFT_SET_MAP)
                    .be32(NFTA_SET_DATA_TYPE, NFT_TYPE_MARK)
                    .be32(NFTA_SET_DATA_LEN, 4);
            }
        }
    }

    /// A chain without its rules.
    pub fn add_chain(&mut self, chain: &Chain) {
        let table = self.table;
        let mut message = self.message("write an nftables chain", NFT_MSG_NEWCHAIN, NLM_F_CREATE);
        message.text(NFTA_CHAIN_TABLE, table).text(NFTA_CHAIN_NAME, &chain.name);
        let Some(hook) = chain.hook else { return };
        let (number, priority, chain_type) = match hook {
            Hook::Forward(priority) => (2, priority, "filter"),
            Hook::SourceNat => (4, 100, "nat"),
            Hook::BridgePrerouting => (0, 0, "filter"),
        };
        message
            .nest(NFTA_CHAIN_HOOK, &[], |nest| {
                nest.be32(NFTA_HOOK_HOOKNUM, number).be32(NFTA_HOOK_PRIORITY, priority.cast_unsigned());
            })
            .text(NFTA_CHAIN_TYPE, chain_type);
    }

    pub fn add_rules(&mut self, chain: &Chain) {
        for rule in &chain.rules {
            let table = self.table;
            self.message("write an nftables rule", NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND)
                .text(NFTA_RULE_TABLE, table)
                .text(NFTA_RULE_CHAIN, &chain.name)
                .nest(NFTA_RULE_EXPRESSIONS, &[], |list| {
                    for expression in rule {
                        expression.write(list);
                    }
                });
        }
    }

    pub fn add_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements("add to an nftables set", NFT_MSG_NEWSETELEM, NLM_F_CREATE, set, elements);
    }

    /// Every element has to be there.
    pub fn remove_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements("remove from an nftables set", NFT_MSG_DELSETELEM, 0, set, elements);
    }

    fn elements(&mut self, purpose: &'static str, kind: u16, flags: u16, set: &str, elements: &[Element]) {
        for some in elements.chunks(ELEMENTS_PER_MESSAGE) {
            let table = self.table;
            self.message(purpose, kind, flags)
                .text(NFTA_SET_ELEM_LIST_TABLE, table)
                .text(NFTA_SET_ELEM_LIST_SET, set)
                .nest(NFTA_SET_ELEM_LIST_ELEMENTS, &[], |list| {
                    for element in some {
                        list.nest(NFTA_LIST_ELEM, &[], |nest| {
                            nest.nest(NFTA_SET_ELEM_KEY, &[], |key| {
                                key.attribute(NFTA_DATA_VALUE, &element.key);
                            });
                            match &element.value {
                                Value::None => {}
                                Value::Verdict(verdict) => {
                                    nest.nest(NFTA_SET_ELEM_DATA, &[], |data| verdict.write(data));
                                }
                                Value::Number(number) => {
                                    nest.nest(NFTA_SET_ELEM_DATA, &[], |data| {
                                        data.attribute(NFTA_DATA_VALUE, &number.to_ne_bytes());
                                    });
                                }
                            }
                        });
                    }
                });
        }
    }

    /// # Errors
    /// The first refusal; nothing has been changed then.
    pub fn commit(mut self, socket: &NetlinkSocket) -> Result<(), Refusal> {
        // Success is not acknowledged message by message: that would overflow the socket. Errors come
        // unasked, and before what is behind them.
        let Some(last) = self.batch.acknowledge_last().filter(|last| *last > 0) else { return Ok(()) };
        batch_end(&mut self.batch, NFNL_MSG_BATCH_END);
        socket.execute_transaction(&self.batch, last)
    }
}

fn batch_end(batch: &mut Batch, kind: u16) {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    batch.unacknowledged("write nftables", kind, 0, &[0, 0, high, low]);
}
