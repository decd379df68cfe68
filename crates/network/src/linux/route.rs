//! The rtnetlink requests that the data plane makes (`linux/rtnetlink.h`, rtnetlink(7)).

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::message::{Batch, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, attributes};
use super::socket::{NetlinkSocket, Refusal};
use crate::cidr::Ipv4Cidr;
use crate::plane::MacAddress;

const AF_INET: u8 = 2;
const AF_BRIDGE: u8 = 7;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;

const IFF_UP: u32 = 1;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BR_FORWARD_DELAY: u16 = 1;
const IFLA_BR_STP_STATE: u16 = 5;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;

const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
const IFLA_BRPORT_ISOLATED: u16 = 33;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// The address brings no route of its own.
const IFA_F_NOPREFIXROUTE: u32 = 0x200;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
/// Any scope, in a removal.
const RT_SCOPE_NOWHERE: u8 = 255;
const RTN_UNICAST: u8 = 1;
const RTN_UNREACHABLE: u8 = 7;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;
const NTF_MASTER: u8 = 0x04;

/// The index of `lo` in every namespace.
pub const LOOPBACK_INDEX: u32 = 1;

fn ifinfo(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut fixed = [0; 16];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..16].copy_from_slice(&change.to_ne_bytes());
    fixed
}

/// A veth pair with one queue each way: more cost milliseconds of grace periods at creation. The
/// peer goes to `netns`.
pub fn add_veth(batch: &mut Batch, name: &str, peer: &str, netns: BorrowedFd<'_>) {
    batch
        .request("make a veth pair", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &ifinfo(0, 0, 0))
        .text(IFLA_IFNAME, name)
        .u32(IFLA_NUM_TX_QUEUES, 1)
        .u32(IFLA_NUM_RX_QUEUES, 1)
        .nest(IFLA_LINKINFO, &[], |info| {
            info.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, &[], |data| {
                data.nest(VETH_INFO_PEER, &ifinfo(0, 0, 0), |end| {
                    end.text(IFLA_IFNAME, peer)
                        .u32(IFLA_NUM_TX_QUEUES, 1)
                        .u32(IFLA_NUM_RX_QUEUES, 1)
                        .u32(IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
                });
            });
        });
}

/// A bridge that forwards at once: no spanning tree, no listening phase, no multicast snooping.
/// The fixed address keeps the tasks' neighbour caches true when ports come and go.
pub fn add_bridge(batch: &mut Batch, name: &str, mac: MacAddress) {
    batch
        .request("make a bridge", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &ifinfo(0, 0, 0))
        .text(IFLA_IFNAME, name)
        .attribute(IFLA_ADDRESS, &mac.0)
        .nest(IFLA_LINKINFO, &[], |info| {
            info.text(IFLA_INFO_KIND, "bridge").nest(IFLA_INFO_DATA, &[], |data| {
                data.u32(IFLA_BR_FORWARD_DELAY, 0).u32(IFLA_BR_STP_STATE, 0).u8(IFLA_BR_MCAST_SNOOPING, 0);
            });
        });
}

pub fn set_up(batch: &mut Batch, index: u32) {
    batch.request("bring a link up", RTM_SETLINK, 0, &ifinfo(index, IFF_UP, IFF_UP));
}

/// Makes a link that has just got its carrier usable now. The kernel does so up to a second later,
/// and drops packets until then, unless someone asks for the link (Linux 6.8, `rtnl_getlink`).
pub fn settle(batch: &mut Batch, index: u32) {
    batch.request("settle a link", RTM_GETLINK, 0, &ifinfo(index, 0, 0));
}

pub fn set_mac(batch: &mut Batch, index: u32, mac: MacAddress) {
    batch
        .request("set a link's address", RTM_SETLINK, 0, &ifinfo(index, 0, 0))
        .attribute(IFLA_ADDRESS, &mac.0);
}

pub fn set_alias(batch: &mut Batch, index: u32, alias: &str) {
    batch
        .request("name a link's owner", RTM_SETLINK, 0, &ifinfo(index, 0, 0))
        .attribute(IFLA_IFALIAS, alias.as_bytes());
}

pub fn set_master(batch: &mut Batch, index: u32, bridge: u32) {
    batch.request("put a link on its bridge", RTM_SETLINK, 0, &ifinfo(index, 0, 0)).u32(IFLA_MASTER, bridge);
}

/// Keeps a port from speaking to other ports: what it says goes to the router and nowhere else. The
/// bridge learns nothing from it and sends it only what is meant for it.
pub fn isolate(batch: &mut Batch, port: u32) {
    let mut fixed = ifinfo(port, 0, 0);
    fixed[0] = AF_BRIDGE;
    batch.request("isolate a port", RTM_SETLINK, 0, &fixed).nest(IFLA_PROTINFO, &[], |info| {
        info.u8(IFLA_BRPORT_LEARNING, 0).u8(IFLA_BRPORT_UNICAST_FLOOD, 0).u8(IFLA_BRPORT_ISOLATED, 1);
    });
}

pub fn delete_link(batch: &mut Batch, index: u32) {
    batch.request("remove a link", RTM_DELLINK, 0, &ifinfo(index, 0, 0));
}

/// Whether an address brings the route to its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixRoute {
    Implied,
    Absent,
}

fn ifaddr(index: u32, prefix: u8) -> [u8; 8] {
    let mut fixed = [AF_INET, prefix, 0, RT_SCOPE_UNIVERSE, 0, 0, 0, 0];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed
}

pub fn add_address(batch: &mut Batch, index: u32, address: Ipv4Addr, prefix: u8, route: PrefixRoute) {
    let mut message =
        batch.request("add an address", RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &ifaddr(index, prefix));
    message.attribute(IFA_LOCAL, &address.octets()).attribute(IFA_ADDRESS, &address.octets());
    if route == PrefixRoute::Absent {
        message.u32(IFA_FLAGS, IFA_F_NOPREFIXROUTE);
    }
}

pub fn delete_address(batch: &mut Batch, index: u32, address: Ipv4Addr, prefix: u8) {
    batch
        .request("remove an address", RTM_DELADDR, 0, &ifaddr(index, prefix))
        .attribute(IFA_LOCAL, &address.octets());
}

/// A route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Neighbours on the link itself.
    Link {
        to: Ipv4Cidr,
        index: u32,
    },
    Via {
        to: Ipv4Cidr,
        gateway: Ipv4Addr,
        index: u32,
        source: Option<Ipv4Addr>,
    },
    /// Answered with "host unreachable", never sent on.
    Unreachable {
        to: Ipv4Cidr,
    },
}

/// Whether a route to the same block may be there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    Refuse,
    Replace,
}

pub fn add_route(batch: &mut Batch, route: Route, existing: Existing) {
    let flags = match existing {
        Existing::Refuse => NLM_F_EXCL,
        Existing::Replace => NLM_F_REPLACE,
    };
    write_route(batch, "add a route", RTM_NEWROUTE, NLM_F_CREATE | flags, route);
}

pub fn delete_route(batch: &mut Batch, route: Route) {
    write_route(batch, "remove a route", RTM_DELROUTE, 0, route);
}

/// Removes the route to `to` through this link, whatever else it says.
pub fn delete_route_through(batch: &mut Batch, to: Ipv4Cidr, index: u32) {
    let fixed = [AF_INET, to.prefix(), 0, 0, RT_TABLE_MAIN, 0, RT_SCOPE_NOWHERE, 0, 0, 0, 0, 0];
    batch
        .request("remove a route", RTM_DELROUTE, 0, &fixed)
        .attribute(RTA_DST, &to.network().octets())
        .u32(RTA_OIF, index);
}

fn write_route(batch: &mut Batch, purpose: &'static str, kind: u16, flags: u16, route: Route) {
    let (to, scope, route_type) = match route {
        Route::Link { to, .. } => (to, RT_SCOPE_LINK, RTN_UNICAST),
        Route::Via { to, .. } => (to, RT_SCOPE_UNIVERSE, RTN_UNICAST),
        Route::Unreachable { to } => (to, RT_SCOPE_UNIVERSE, RTN_UNREACHABLE),
    };
    let fixed = [AF_INET, to.prefix(), 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, route_type, 0, 0, 0, 0];
    let mut message = batch.request(purpose, kind, flags, &fixed);
    if to.prefix() > 0 {
        message.attribute(RTA_DST, &to.network().octets());
    }
    match route {
        Route::Link { index, .. } => {
            message.u32(RTA_OIF, index);
        }
        Route::Via { gateway, index, source, .. } => {
            message.u32(RTA_OIF, index).attribute(RTA_GATEWAY, &gateway.octets());
            if let Some(source) = source {
                message.attribute(RTA_PREFSRC, &source.octets());
            }
        }
        Route::Unreachable { .. } => {}
    }
}

fn ndmsg(family: u8, index: u32, state: u16, flags: u8) -> [u8; 12] {
    let mut fixed = [0; 12];
    fixed[0] = family;
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..10].copy_from_slice(&state.to_ne_bytes());
    fixed[10] = flags;
    fixed
}

/// The router knows who has this address, without asking.
pub fn add_neighbour(batch: &mut Batch, index: u32, address: Ipv4Addr, mac: MacAddress) {
    batch
        .request(
            "add a neighbour",
            RTM_NEWNEIGH,
            NLM_F_CREATE | NLM_F_REPLACE,
            &ndmsg(AF_INET, index, NUD_PERMANENT, 0),
        )
        .attribute(NDA_DST, &address.octets())
        .attribute(NDA_LLADDR, &mac.0);
}

pub fn delete_neighbour(batch: &mut Batch, index: u32, address: Ipv4Addr) {
    batch
        .request("remove a neighbour", RTM_DELNEIGH, 0, &ndmsg(AF_INET, index, 0, 0))
        .attribute(NDA_DST, &address.octets());
}

/// The bridge knows behind which port this address is. A static entry: no other port can claim it.
pub fn add_forwarding(batch: &mut Batch, port: u32, mac: MacAddress) {
    batch
        .request(
            "add a forwarding entry",
            RTM_NEWNEIGH,
            NLM_F_CREATE | NLM_F_REPLACE,
            &ndmsg(AF_BRIDGE, port, NUD_NOARP, NTF_MASTER),
        )
        .attribute(NDA_LLADDR, &mac.0);
}

pub fn delete_forwarding(batch: &mut Batch, port: u32, mac: MacAddress) {
    batch
        .request("remove a forwarding entry", RTM_DELNEIGH, 0, &ndmsg(AF_BRIDGE, port, 0, NTF_MASTER))
        .attribute(NDA_LLADDR, &mac.0);
}

/// A link as a dump shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub alias: Option<String>,
    /// The index of a veth's other end, in its own namespace.
    pub peer: Option<u32>,
    pub master: Option<u32>,
}

pub fn links(socket: &NetlinkSocket) -> Result<Vec<Link>, Refusal> {
    let mut batch = Batch::new();
    batch.unacknowledged("list links", RTM_GETLINK, NLM_F_DUMP, &ifinfo(0, 0, 0));
    let mut found = Vec::new();
    socket.dump(&batch, |answer| {
        let Some(index) = number(answer.payload.get(4..8)) else { return };
        let mut link = Link { index, name: String::new(), alias: None, peer: None, master: None };
        for (kind, value) in attributes(answer.payload.get(16..).unwrap_or_default()) {
            match kind {
                IFLA_IFNAME => link.name = text(value),
                IFLA_IFALIAS => link.alias = Some(text(value)),
                IFLA_LINK => link.peer = number(Some(value)),
                IFLA_MASTER => link.master = number(Some(value)),
                _ => {}
            }
        }
        found.push(link);
    })?;
    Ok(found)
}

/// The index of the link of this name.
pub fn link_index(socket: &NetlinkSocket, name: &str) -> Result<u32, Refusal> {
    // Asked for by name, the answer is one message, yet read as a dump is: the acknowledgement ends it.
    let mut batch = Batch::new();
    batch.request("find a link", RTM_GETLINK, 0, &ifinfo(0, 0, 0)).text(IFLA_IFNAME, name);
    let mut index = None;
    socket.dump(&batch, |answer| index = number(answer.payload.get(4..8)))?;
    index.ok_or(Refusal { purpose: "find a link", errno: Errno::NODEV })
}

/// The IPv4 addresses of a namespace: (link index, address).
pub fn addresses(socket: &NetlinkSocket) -> Result<Vec<(u32, Ipv4Addr)>, Refusal> {
    let mut batch = Batch::new();
    batch.unacknowledged("list addresses", RTM_GETADDR, NLM_F_DUMP, &ifaddr(0, 0));
    let mut found = Vec::new();
    socket.dump(&batch, |answer| {
        let Some(index) = number(answer.payload.get(4..8)) else { return };
        for (kind, value) in attributes(answer.payload.get(8..).unwrap_or_default()) {
            if let (IFA_LOCAL, Some(address)) = (kind, address(value)) {
                found.push((index, address));
            }
        }
    })?;
    Ok(found)
}

/// The IPv4 routes of the main table that lead to a link: (block, link index).
pub fn routes(socket: &NetlinkSocket) -> Result<Vec<(Ipv4Cidr, u32)>, Refusal> {
    let mut batch = Batch::new();
    let fixed = [AF_INET, 0, 0, 0, RT_TABLE_MAIN, 0, 0, 0, 0, 0, 0, 0];
    batch.unacknowledged("list routes", RTM_GETROUTE, NLM_F_DUMP, &fixed);
    let mut found = Vec::new();
    socket.dump(&batch, |answer| {
        if answer.payload.get(4) != Some(&RT_TABLE_MAIN) {
            return;
        }
        let prefix = answer.payload.get(1).copied().unwrap_or(0);
        let (mut to, mut index) = (Ipv4Addr::UNSPECIFIED, None);
        for (kind, value) in attributes(answer.payload.get(12..).unwrap_or_default()) {
            match kind {
                RTA_DST => to = address(value).unwrap_or(to),
                RTA_OIF => index = number(Some(value)),
                _ => {}
            }
        }
        if let (Some(index), Ok(cidr)) = (index, Ipv4Cidr::new(to, prefix)) {
            found.push((cidr, index));
        }
    })?;
    Ok(found)
}

fn number(bytes: Option<&[u8]>) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes?.get(..4)?.try_into().ok()?))
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned()
}
