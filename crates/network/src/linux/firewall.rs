//! A VPC's policy as nftables, in the VPC's own namespace.
//!
//! Bridge ports are isolated and the router answers for every neighbour, so that all packets of the
//! VPC's interfaces pass its router: in one place, with connection tracking, out of every task's
//! reach. What a packet meets there, table [`TABLE`]:
//!
//! ```text
//! acl      (hook, first):  same subnet → accept · acl-out[input bridge] · acl-in[output bridge]
//! egress   (hook, second): known connection → accept · egress-rules[members[source]]
//! ingress  (hook, third):  known connection → accept · ingress-rules[members[destination]]
//! e-N, i-N:  the groups' chains one after another, then drop       (one pair for each set of groups)
//! ge-GROUP, gi-GROUP: a rule each; a match is accepted
//! acl-ID-…:  the entries in their order: return or drop; then drop
//! members:   address → N
//! m-GROUP:   the addresses of the interfaces of a group that some rule names
//! ```
//!
//! An address that is no member's has no N, and no group's rules.
//!
//! Who comes and goes changes elements of maps and sets; only a changed policy rewrites the table,
//! in one transaction, and connection tracking lives on beside it. Table [`SPOOF_TABLE`] holds for
//! every port which link and network address may speak there.
//!
//! Invariants: what the kernel holds is what `State` says, or the last transaction failed and said
//! so; an interface speaks only after its elements are there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use parking_lot::Mutex;

use super::nftables::{
    self, Chain, Element, Expression, Family, Hook, Key, Rule, Set, Table, Transaction, Value, Values,
    Verdict,
};
use super::socket::{NetlinkSocket, Refusal};
use crate::plane::MacAddress;
use crate::policy::{AclAction, AclEntry, ICMP, Peer, Permission, Policy, Traffic};

const TABLE: &str = "policy";
const SPOOF_TABLE: &str = "spoof";
const MEMBERS: &str = "members";
const EGRESS_RULES: &str = "egress-rules";
const INGRESS_RULES: &str = "ingress-rules";
const ACL_OUT: &str = "acl-out";
const ACL_IN: &str = "acl-in";
const SAME: &str = "same-subnet";
const SPEAKERS: &str = "speakers";
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;

/// An interface as the firewall knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    pub address: Ipv4Addr,
    pub mac: MacAddress,
    /// The name of its port on the bridge.
    pub port: String,
    /// The ids of its security groups.
    pub groups: Vec<String>,
}

/// The rules of one VPC.
pub struct Firewall {
    socket: NetlinkSocket,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None`: nobody has set one, and everything is let through.
    policy: Option<Policy>,
    /// Subnet ids and the names of their bridges.
    bridges: BTreeMap<String, String>,
    interfaces: BTreeMap<Ipv4Addr, Guarded>,
    /// The sets of groups that have chains of their own, with their numbers.
    combinations: BTreeMap<Vec<String>, u32>,
    /// The groups of the policy that have member sets. Kept: every interface that comes or goes asks.
    referenced: BTreeSet<String>,
}

impl Firewall {
    /// `socket` is one of the VPC's namespace. Changes nothing yet: what an earlier life wrote holds
    /// until [`Firewall::restore`].
    pub fn new(socket: NetlinkSocket) -> Self {
        Self { socket, state: Mutex::new(State::default()) }
    }

    /// Writes the tables anew for the interfaces that were adopted.
    pub fn restore(&self, interfaces: Vec<Guarded>) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        state.interfaces = interfaces.into_iter().map(|guarded| (guarded.address, guarded)).collect();
        nftables::replace(&self.socket, &spoof_table(state.interfaces.values()))
    }

    /// Makes `policy` hold, for connections that begin from now on and, for ACLs, for every packet.
    pub fn set_policy(&self, policy: Policy) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        if state.policy.as_ref() == Some(&policy) {
            return Ok(());
        }
        let before = state.policy.replace(policy);
        let written = self.rewrite(&mut state);
        if written.is_err() {
            state.policy = before;
        }
        written
    }

    /// A subnet has got its bridge.
    pub fn add_subnet(&self, subnet: &str, bridge: &str) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        if state.bridges.get(subnet).is_some_and(|known| known == bridge) {
            return Ok(());
        }
        state.bridges.insert(subnet.to_owned(), bridge.to_owned());
        self.rewrite(&mut state)
    }

    /// Lets an interface speak, under the rules of its groups.
    pub fn add(&self, guarded: Guarded) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        let mut spoof = Transaction::new(Family::Bridge, SPOOF_TABLE);
        spoof.add_elements(SPEAKERS, &speaker(&guarded));
        spoof.commit(&self.socket)?;
        let added = self.add_rules(&mut state, &guarded);
        if added.is_ok() {
            state.interfaces.insert(guarded.address, guarded);
        } else {
            let mut spoof = Transaction::new(Family::Bridge, SPOOF_TABLE);
            spoof.remove_elements(SPEAKERS, &speaker(&guarded));
            // The first error is the one to tell.
            let _ = spoof.commit(&self.socket);
        }
        added
    }

    /// Takes an interface's word away; one that is not there is no error.
    pub fn remove(&self, address: Ipv4Addr) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        let Some(guarded) = state.interfaces.remove(&address) else { return Ok(()) };
        let mut spoof = Transaction::new(Family::Bridge, SPOOF_TABLE);
        spoof.remove_elements(SPEAKERS, &speaker(&guarded));
        let silenced = spoof.commit(&self.socket);
        let removed = match &state.policy {
            None => Ok(()),
            Some(_) => {
                let mut transaction = Transaction::new(Family::Ipv4, TABLE);
                transaction.remove_elements(MEMBERS, &[address_element(address)]);
                for set in memberships(&state.referenced, &guarded) {
                    transaction.remove_elements(&set, &[address_element(address)]);
                }
                transaction.commit(&self.socket)
            }
        };
        silenced.and(removed)
    }

    /// Changes the groups of an interface that is there.
    pub fn set_groups(&self, address: Ipv4Addr, groups: &[String]) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        let Some(guarded) = state.interfaces.get_mut(&address) else { return Ok(()) };
        if guarded.groups == groups {
            return Ok(());
        }
        let before = std::mem::replace(&mut guarded.groups, groups.to_vec());
        let written = self.rewrite(&mut state);
        if written.is_err()
            && let Some(guarded) = state.interfaces.get_mut(&address)
        {
            guarded.groups = before;
        }
        written
    }

    /// The whole table, in one transaction.
    fn rewrite(&self, state: &mut State) -> Result<(), Refusal> {
        let Some(policy) = &state.policy else { return Ok(()) };
        let mut combinations = BTreeMap::new();
        for guarded in state.interfaces.values() {
            let number = combinations.len() as u32;
            combinations.entry(combination(guarded)).or_insert(number);
        }
        nftables::replace(&self.socket, &policy_table(policy, state, &combinations))?;
        state.referenced = policy.referenced_groups().into_iter().map(str::to_owned).collect();
        state.combinations = combinations;
        Ok(())
    }

    fn add_rules(&self, state: &mut State, guarded: &Guarded) -> Result<(), Refusal> {
        let Some(policy) = &state.policy else { return Ok(()) };
        let groups = combination(guarded);
        let mut transaction = Transaction::new(Family::Ipv4, TABLE);
        let known = state.combinations.get(&groups).copied();
        let number = known.unwrap_or_else(|| state.combinations.values().max().map_or(0, |last| last + 1));
        if known.is_none() {
            for chain in combination_chains(policy, &groups, number) {
                transaction.add_chain(&chain);
                transaction.add_rules(&chain);
            }
            let [egress, ingress] = entrances(number);
            transaction.add_elements(EGRESS_RULES, &[egress]);
            transaction.add_elements(INGRESS_RULES, &[ingress]);
        }
        transaction.add_elements(MEMBERS, &[member(guarded.address, number)]);
        for set in memberships(&state.referenced, guarded) {
            transaction.add_elements(&set, &[address_element(guarded.address)]);
        }
        transaction.commit(&self.socket)?;
        state.combinations.insert(groups, number);
        Ok(())
    }
}

/// An interface's groups in the order that makes equal sets equal.
fn combination(guarded: &Guarded) -> Vec<String> {
    let mut groups = guarded.groups.clone();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// The member sets that an interface's address is in.
fn memberships(referenced: &BTreeSet<String>, guarded: &Guarded) -> Vec<String> {
    let groups = combination(guarded);
    groups.iter().filter(|group| referenced.contains(*group)).map(|group| members_of(group)).collect()
}

fn members_of(group: &str) -> String {
    format!("m-{group}")
}

fn address_element(address: Ipv4Addr) -> Element {
    Element { key: Key::of_address(address), value: Value::None }
}

fn member(address: Ipv4Addr, number: u32) -> Element {
    Element { key: Key::of_address(address), value: Value::Number(number) }
}

/// From a number to its two chains.
fn entrances(number: u32) -> [Element; 2] {
    let to = |side: &str| Element {
        key: number.to_ne_bytes().to_vec(),
        value: Value::Verdict(Verdict::Goto(format!("{side}-{number}"))),
    };
    [to("e"), to("i")]
}

fn verdict(verdict: Verdict) -> Rule {
    vec![Expression::Verdict(verdict)]
}

fn chain(name: impl Into<String>, rules: Vec<Rule>) -> Chain {
    Chain { name: name.into(), hook: None, rules }
}

fn combination_chains(policy: &Policy, groups: &[String], number: u32) -> [Chain; 2] {
    let side = |side: &str| {
        let mut rules: Vec<Rule> = groups
            .iter()
            .filter(|group| policy.groups.contains_key(*group))
            .map(|group| verdict(Verdict::Jump(format!("g{side}-{group}"))))
            .collect();
        rules.push(verdict(Verdict::Drop));
        chain(format!("{side}-{number}"), rules)
    };
    [side("e"), side("i")]
}

fn policy_table(policy: &Policy, state: &State, combinations: &BTreeMap<Vec<String>, u32>) -> Table {
    let mut sets = member_sets(policy, state);
    let mut chains = acl_chains(policy);
    let set =
        |name: &str, keys: Vec<Key>, values, elements| Set { name: name.into(), keys, values, elements };

    let members = state.interfaces.values().filter_map(|guarded| {
        combinations.get(&combination(guarded)).map(|&number| member(guarded.address, number))
    });
    sets.push(set(MEMBERS, vec![Key::Source], Values::Numbers, members.collect()));
    let (egress, ingress) =
        combinations.values().map(|&number| entrances(number)).map(|[e, i]| (e, i)).unzip();
    sets.push(set(EGRESS_RULES, vec![Key::Number], Values::Verdicts, egress));
    sets.push(set(INGRESS_RULES, vec![Key::Number], Values::Verdicts, ingress));

    let bridges = || state.bridges.iter();
    let same = bridges().map(|(_, bridge)| Element {
        key: [Key::of_name(bridge), Key::of_name(bridge)].concat(),
        value: Value::None,
    });
    sets.push(set(SAME, vec![Key::InputName, Key::OutputName], Values::None, same.collect()));
    for (name, key, side) in [(ACL_OUT, Key::InputName, "out"), (ACL_IN, Key::OutputName, "in")] {
        let elements = bridges().filter_map(|(subnet, bridge)| {
            let acl = policy.subnet_acls.get(subnet).filter(|acl| policy.acls.contains_key(*acl))?;
            let value = Value::Verdict(Verdict::Jump(format!("acl-{acl}-{side}")));
            Some(Element { key: Key::of_name(bridge), value })
        });
        sets.push(set(name, vec![key], Values::Verdicts, elements.collect()));
    }

    for (id, group) in &policy.groups {
        let rules = |permissions: &[Permission], peer| {
            permissions.iter().map(|permission| permission_rule(permission, peer)).collect()
        };
        chains.push(chain(format!("ge-{id}"), rules(&group.egress, Key::Destination)));
        chains.push(chain(format!("gi-{id}"), rules(&group.ingress, Key::Source)));
    }
    for (groups, &number) in combinations {
        chains.extend(combination_chains(policy, groups, number));
    }
    chains.extend(trunk());
    Table { family: Family::Ipv4, name: TABLE.into(), sets, chains }
}

/// The chains that every packet passes. A packet that one of them accepts goes on to the next.
fn trunk() -> [Chain; 3] {
    let hooked =
        |name: &str, place, rules| Chain { name: name.into(), hook: Some(Hook::Forward(place)), rules };
    let same = Expression::InSet { keys: vec![Key::InputName, Key::OutputName], set: SAME.into() };
    let of = |key, map: &str| vec![Expression::VerdictOf { key, map: map.into() }];
    let groups = |key, verdicts: &str| {
        vec![
            vec![Expression::KnownConnection, Expression::Verdict(Verdict::Accept)],
            vec![Expression::VerdictOfNumber { key, numbers: MEMBERS.into(), verdicts: verdicts.into() }],
        ]
    };
    [
        hooked(
            "acl",
            -10,
            vec![
                vec![same, Expression::Verdict(Verdict::Accept)],
                of(Key::InputName, ACL_OUT),
                of(Key::OutputName, ACL_IN),
            ],
        ),
        hooked("egress", 0, groups(Key::Source, EGRESS_RULES)),
        hooked("ingress", 10, groups(Key::Destination, INGRESS_RULES)),
    ]
}

fn member_sets(policy: &Policy, state: &State) -> Vec<Set> {
    policy
        .referenced_groups()
        .into_iter()
        .map(|group| Set {
            name: members_of(group),
            keys: vec![Key::Source],
            values: Values::None,
            elements: state
                .interfaces
                .values()
                .filter(|guarded| guarded.groups.iter().any(|of| of == group))
                .map(|guarded| address_element(guarded.address))
                .collect(),
        })
        .collect()
}

fn permission_rule(permission: &Permission, peer: Key) -> Rule {
    let mut rule = match &permission.peer {
        Peer::Cidr(block) if peer == Key::Source => vec![Expression::Source(*block)],
        Peer::Cidr(block) => vec![Expression::Destination(*block)],
        Peer::Group(group) => vec![Expression::InSet { keys: vec![peer], set: members_of(group) }],
    };
    rule.extend(traffic(&permission.traffic));
    rule.push(Expression::Verdict(Verdict::Accept));
    rule
}

fn traffic(traffic: &Traffic) -> Vec<Expression> {
    match traffic {
        Traffic::All => Vec::new(),
        Traffic::Protocol(protocol) => vec![Expression::Protocol(*protocol)],
        Traffic::Ports { protocol, ports } => {
            vec![Expression::Protocol(*protocol), Expression::DestinationPorts(ports.clone())]
        }
        Traffic::Icmp { kind, code } => {
            let mut rule = vec![Expression::Protocol(ICMP)];
            rule.extend(kind.map(Expression::IcmpKind));
            rule.extend(code.map(Expression::IcmpCode));
            rule
        }
    }
}

fn acl_chains(policy: &Policy) -> Vec<Chain> {
    let rules = |entries: &BTreeMap<u16, AclEntry>, block: fn(crate::Ipv4Cidr) -> Expression| {
        let mut rules: Vec<Rule> = entries
            .values()
            .map(|entry| {
                let mut rule = vec![block(entry.cidr)];
                rule.extend(traffic(&entry.traffic));
                rule.push(Expression::Verdict(match entry.action {
                    AclAction::Allow => Verdict::Return,
                    AclAction::Deny => Verdict::Drop,
                }));
                rule
            })
            .collect();
        rules.push(verdict(Verdict::Drop));
        rules
    };
    policy
        .acls
        .iter()
        .flat_map(|(id, acl)| {
            [
                chain(format!("acl-{id}-in"), rules(&acl.ingress, Expression::Source)),
                chain(format!("acl-{id}-out"), rules(&acl.egress, Expression::Destination)),
            ]
        })
        .collect()
}

/// What an interface may say who it is.
fn speaker(guarded: &Guarded) -> [Element; 1] {
    let parts = [Key::of_name(&guarded.port), Key::of_mac(guarded.mac.0), Key::of_address(guarded.address)];
    [Element { key: parts.concat(), value: Value::None }]
}

/// IPv4 and ARP of those whom the port belongs to, and nothing else.
fn spoof_table<'g>(interfaces: impl Iterator<Item = &'g Guarded>) -> Table {
    let allowed = |kind, address| {
        vec![
            Expression::EtherType(kind),
            Expression::InSet { keys: vec![Key::InputName, Key::EtherSource, address], set: SPEAKERS.into() },
            Expression::Verdict(Verdict::Accept),
        ]
    };
    Table {
        family: Family::Bridge,
        name: SPOOF_TABLE.into(),
        sets: vec![Set {
            name: SPEAKERS.into(),
            keys: vec![Key::InputName, Key::EtherSource, Key::Source],
            values: Values::None,
            elements: interfaces.flat_map(speaker).collect(),
        }],
        chains: vec![Chain {
            name: "prerouting".into(),
            hook: Some(Hook::BridgePrerouting),
            rules: vec![allowed(IPV4, Key::Source), allowed(ARP, Key::ArpSource), verdict(Verdict::Drop)],
        }],
    }
}
