//! One VPC: its namespace, its link to the machine, its bridges.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use parking_lot::Mutex;
use rustix::io::Errno;

use super::firewall::Firewall;
use super::message::Batch;
use super::names::Names;
use super::nftables::{self, Chain, Expression, Family, Hook, Table, Verdict};
use super::pool::Pool;
use super::route::{self, Existing, LOOPBACK_INDEX, Link, PrefixRoute, Route};
use super::socket::{NetlinkSocket, Refusal};
use super::{Failure, netns};
use crate::cidr::Ipv4Cidr;
use crate::plane::{MacAddress, NetworkError, SubnetSpec, TASK_ENDPOINT, VpcSpec, hash};

/// The VPC's end of the link to the machine.
const TRANSIT: &str = "transit";
/// Pairs of link-local addresses for these links: 169.254.172.0 to 169.254.251.255, which holds
/// none of the addresses that AWS has given a meaning (169.254.169.x, 169.254.170.x).
const TRANSIT_FIRST: u32 = u32::from_be_bytes([169, 254, 172, 0]);
const TRANSIT_PAIRS: u32 = 80 * 128;
/// How many pairs are tried before the machine is called full.
const TRANSIT_TRIES: u32 = 4096;

pub struct Vpc {
    pub spec: VpcSpec,
    /// A descriptor of the namespace.
    pub netns: OwnedFd,
    /// A socket inside the namespace.
    pub socket: Mutex<NetlinkSocket>,
    /// Another one, for the maker of namespaces: what it does takes long, and nobody shall wait.
    pub maker_socket: Mutex<NetlinkSocket>,
    pub transit: Transit,
    pub firewall: Firewall,
    bridges: Mutex<HashMap<String, u32>>,
    pub pool: Mutex<Pool>,
    /// Links that were there when the VPC was adopted, by index of the port: (bridge).
    pub ports: Mutex<BTreeMap<u32, Option<u32>>>,
}

/// The link between the machine and the VPC, seen from the machine.
#[derive(Clone, Copy, Debug)]
pub struct Transit {
    pub index: u32,
    pub machine: Ipv4Addr,
    pub router: Ipv4Addr,
}

/// What the thread inside the namespace brings back.
struct Inside {
    netns: OwnedFd,
    socket: NetlinkSocket,
    maker_socket: NetlinkSocket,
    netfilter: NetlinkSocket,
    links: Vec<Link>,
    /// It was there before.
    kept: bool,
}

impl Vpc {
    /// Adopts the VPC that is kept at `path`, or makes it.
    pub fn ensure(
        spec: &VpcSpec,
        path: &PathBuf,
        names: &Names,
        machine: &Mutex<NetlinkSocket>,
    ) -> Result<Self, NetworkError> {
        let failure = |error: io::Error| Failure::Io(error).of(format!("make the network of {}", spec.id));
        let inside = netns::on_own_thread(|| enter(path)).map_err(failure)?;
        let transit = {
            let machine = machine.lock();
            ensure_transit(spec, names, &machine, &inside)?
        };
        let bridges = inside
            .links
            .iter()
            .filter(|link| link.name.starts_with("br"))
            .map(|link| (link.name.clone(), link.index))
            .collect();
        let ports = inside
            .links
            .iter()
            .filter(|link| names.is_port(&link.name))
            .map(|link| (link.index, link.master))
            .collect();
        let firewall = Firewall::new(inside.netfilter);
        if !inside.kept {
            let failure = |refusal| Failure::Netlink(refusal).of(format!("guard {}", spec.id));
            firewall.restore(Vec::new()).map_err(failure)?;
        }
        Ok(Self {
            spec: spec.clone(),
            netns: inside.netns,
            socket: Mutex::new(inside.socket),
            maker_socket: Mutex::new(inside.maker_socket),
            transit,
            firewall,
            bridges: Mutex::new(bridges),
            pool: Mutex::new(Pool::default()),
            ports: Mutex::new(ports),
        })
    }

    /// The index of the subnet's bridge, made with the router's address when it is missing.
    pub fn bridge(&self, subnet: &SubnetSpec) -> Result<u32, NetworkError> {
        let name = format!("br{:012x}", hash(&subnet.id) & 0xffff_ffff_ffff);
        let failure = |refusal: Refusal| Failure::Netlink(refusal).of(format!("make {}", subnet.id));
        let mut bridges = self.bridges.lock();
        if let Some(&index) = bridges.get(&name) {
            self.firewall.add_subnet(&subnet.id, &name).map_err(failure)?;
            return Ok(index);
        }
        let socket = self.socket.lock();
        let mut batch = Batch::new();
        let gateway = subnet.cidr.gateway();
        route::add_bridge(&mut batch, &name, MacAddress::of(&self.spec.id, gateway));
        socket.execute(&batch).map_err(failure)?;
        let index = route::link_index(&socket, &name).map_err(failure)?;
        let mut batch = Batch::new();
        route::set_up(&mut batch, index);
        route::add_address(&mut batch, index, gateway, subnet.cidr.prefix(), PrefixRoute::Implied);
        socket.execute(&batch).map_err(failure)?;
        netns::on_own_thread(|| {
            netns::enter(&self.netns)?;
            route_within_subnet(&name)
        })
        .map_err(|error| Failure::Io(error).of(format!("make {}", subnet.id)))?;
        self.firewall.add_subnet(&subnet.id, &name).map_err(failure)?;
        bridges.insert(name, index);
        Ok(index)
    }

    /// The machine's route to one address of this VPC.
    pub fn host_route(&self, address: Ipv4Addr) -> Route {
        Route::Via {
            to: Ipv4Cidr::host(address),
            gateway: self.transit.router,
            index: self.transit.index,
            source: Some(self.transit.machine),
        }
    }
}

/// Runs on a thread of its own: enters or makes the namespace and sets what holds inside it.
fn enter(path: &PathBuf) -> io::Result<Inside> {
    let kept = netns::is_kept(path);
    if kept {
        netns::enter(std::fs::File::open(path)?)?;
    } else {
        netns::release(path)?;
        netns::create_and_enter(path)?;
    }
    let prepare = || {
        // No IPv6 in this network yet; strict reverse paths keep a subnet from speaking for another.
        for (name, value) in [
            ("ipv6/conf/all/disable_ipv6", "1"),
            ("ipv6/conf/default/disable_ipv6", "1"),
            ("ipv4/ip_forward", "1"),
            ("ipv4/conf/all/rp_filter", "1"),
            ("ipv4/conf/all/send_redirects", "0"),
            ("ipv4/conf/default/send_redirects", "0"),
        ] {
            netns::set_sysctl(name, value)?;
        }
        let socket = NetlinkSocket::route().map_err(io::Error::other)?;
        let mut batch = Batch::new();
        route::set_up(&mut batch, LOOPBACK_INDEX);
        route::add_address(&mut batch, LOOPBACK_INDEX, TASK_ENDPOINT, 32, PrefixRoute::Implied);
        socket.execute(&batch).map_err(io::Error::other)?;
        let netfilter = NetlinkSocket::netfilter().map_err(io::Error::other)?;
        nftables::replace(&netfilter, &rules()).map_err(io::Error::other)?;
        let links = route::links(&socket).map_err(io::Error::other)?;
        for bridge in links.iter().filter(|link| link.name.starts_with("br")) {
            route_within_subnet(&bridge.name)?;
        }
        let maker_socket = NetlinkSocket::route().map_err(io::Error::other)?;
        Ok(Inside { netns: netns::current()?, socket, maker_socket, netfilter, links, kept })
    };
    let inside = prepare();
    if inside.is_err() && !kept {
        let _ = netns::release(path);
    }
    inside
}

/// Has the router answer at once for every neighbour, the bridge's ports being isolated from each
/// other: what one task says to another passes the router, and its rules. Runs inside the namespace.
fn route_within_subnet(bridge: &str) -> io::Result<()> {
    netns::set_sysctl(&format!("ipv4/conf/{bridge}/proxy_arp_pvlan"), "1")?;
    netns::set_sysctl(&format!("ipv4/neigh/{bridge}/proxy_delay"), "0")
}

/// What leaves the VPC takes the transit link's address, so that VPCs with equal addresses stay
/// distinct outside; and no task begins a connection to the machine's link-local addresses.
fn rules() -> Table {
    let leaves = || Expression::OutputPrefix(format!("{TRANSIT}\0"));
    Table {
        family: Family::Ipv4,
        name: "wharf".to_owned(),
        sets: Vec::new(),
        chains: vec![
            Chain {
                name: "forward".to_owned(),
                hook: Some(Hook::Forward(0)),
                rules: vec![vec![
                    leaves(),
                    Expression::Destination(Ipv4Cidr::LINK_LOCAL),
                    Expression::NewConnection,
                    Expression::Verdict(Verdict::Drop),
                ]],
            },
            Chain {
                name: "postrouting".to_owned(),
                hook: Some(Hook::SourceNat),
                rules: vec![vec![leaves(), Expression::Masquerade]],
            },
        ],
    }
}

fn ensure_transit(
    spec: &VpcSpec,
    names: &Names,
    machine: &NetlinkSocket,
    inside: &Inside,
) -> Result<Transit, NetworkError> {
    let failure = |refusal: Refusal| Failure::Netlink(refusal).of(format!("link {} to the machine", spec.id));
    let links = route::links(machine).map_err(failure)?;
    let inner = inside.links.iter().find(|link| link.name == TRANSIT);
    // Its own link from an earlier life, complete: the alias is given last.
    if let Some(link) =
        links.iter().find(|link| names.is_transit(&link.name) && link.alias.as_deref() == Some(&spec.id))
        && inner.is_some_and(|inner| inner.peer == Some(link.index))
    {
        let addresses = route::addresses(machine).map_err(failure)?;
        if let Some(&(index, address)) = addresses.iter().find(|(index, _)| *index == link.index) {
            let router = Ipv4Addr::from(u32::from(address) + 1);
            return Ok(Transit { index, machine: address, router });
        }
    }
    if let Some(inner) = inner {
        let mut batch = Batch::new();
        route::delete_link(&mut batch, inner.index);
        inside.socket.execute(&batch).map_err(failure)?;
    }
    let name = names.transit(&spec.id, |name| links.iter().any(|link| link.name == name));
    let mut batch = Batch::new();
    route::add_veth(&mut batch, &name, TRANSIT, inside.netns.as_fd());
    machine.execute(&batch).map_err(failure)?;
    let index = route::link_index(machine, &name).map_err(failure)?;
    let inner_index = route::link_index(&inside.socket, TRANSIT).map_err(failure)?;
    let made = connect(spec, machine, index, &inside.socket, inner_index);
    if made.is_err() {
        let mut batch = Batch::new();
        route::delete_link(&mut batch, index);
        let _ = machine.execute(&batch);
    }
    made
}

/// Gives both ends their addresses and routes.
fn connect(
    spec: &VpcSpec,
    machine: &NetlinkSocket,
    index: u32,
    inside: &NetlinkSocket,
    inner_index: u32,
) -> Result<Transit, NetworkError> {
    let failure = |refusal: Refusal| Failure::Netlink(refusal).of(format!("link {} to the machine", spec.id));
    let mut batch = Batch::new();
    route::set_up(&mut batch, index);
    machine.execute(&batch).map_err(failure)?;
    let mut batch = Batch::new();
    route::set_up(&mut batch, inner_index);
    route::settle(&mut batch, inner_index);
    inside.execute(&batch).map_err(failure)?;
    let mut batch = Batch::new();
    route::settle(&mut batch, index);
    machine.execute(&batch).map_err(failure)?;

    let start = hash(&spec.id) as u32;
    for attempt in 0..TRANSIT_TRIES {
        let pair = TRANSIT_FIRST + start.wrapping_add(attempt) % TRANSIT_PAIRS * 2;
        let (near, far) = (Ipv4Addr::from(pair), Ipv4Addr::from(pair + 1));
        let block = Ipv4Cidr::around(near, 31);
        // The exclusive route is the claim: whoever else uses the pair has it already.
        let mut batch = Batch::new();
        route::add_route(&mut batch, Route::Link { to: block, index }, Existing::Refuse);
        match machine.execute(&batch) {
            Err(Refusal { errno: Errno::EXIST, .. }) => continue,
            other => other.map_err(failure)?,
        }
        let mut batch = Batch::new();
        route::add_address(&mut batch, index, near, 31, PrefixRoute::Absent);
        machine.execute(&batch).map_err(failure)?;

        let mut batch = Batch::new();
        route::add_address(&mut batch, inner_index, far, 31, PrefixRoute::Implied);
        route::add_route(
            &mut batch,
            Route::Via { to: Ipv4Cidr::EVERYWHERE, gateway: near, index: inner_index, source: None },
            Existing::Replace,
        );
        // What belongs to the VPC and to no subnet goes nowhere, and never out.
        route::add_route(&mut batch, Route::Unreachable { to: spec.cidr }, Existing::Replace);
        inside.execute(&batch).map_err(failure)?;

        let mut batch = Batch::new();
        route::set_alias(&mut batch, index, &spec.id);
        machine.execute(&batch).map_err(failure)?;
        return Ok(Transit { index, machine: near, router: far });
    }
    Err(NetworkError::TransitExhausted { vpc: spec.id.clone() })
}
