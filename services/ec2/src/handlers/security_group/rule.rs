//! A rule as the API writes it, in permissions and alone, and as it is stored.

use std::net::Ipv6Addr;

use wharf_core::ApiError;
use wharf_ec2_api::types;
use wharf_network::Ipv4Cidr;

use crate::records::{Direction, Peer, SecurityGroup, SecurityGroupRule, Traffic};
use crate::select::shortened;
use crate::view::View;

/// All protocols, and so all ports.
const ALL_PROTOCOLS: &str = "-1";
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const DESCRIPTION_CHARS_MAX: usize = 255;

/// A rule that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub traffic: Traffic,
    pub peer: Peer,
    pub description: Option<String>,
}

impl Wanted {
    pub fn is(&self, rule: &SecurityGroupRule) -> bool {
        rule.traffic == self.traffic && rule.peer == self.peer
    }

    /// As EC2 names a rule in an error: `peer: 0.0.0.0/0, TCP, from port: 22, to port: 22, ALLOW`.
    pub fn described(&self) -> String {
        let peer = match &self.peer {
            Peer::Cidr(cidr) => cidr.to_string(),
            Peer::Ipv6Cidr(cidr) => cidr.clone(),
            Peer::Group(id) => id.clone(),
        };
        let traffic = match self.traffic {
            Traffic::All => "ALL".to_owned(),
            Traffic::Protocol(protocol) => format!("protocol {protocol}"),
            Traffic::Ports { protocol, from, to } => {
                format!("{}, from port: {from}, to port: {to}", if protocol == TCP { "TCP" } else { "UDP" })
            }
            Traffic::Icmp { protocol, kind, code } => {
                let name = if protocol == ICMP { "ICMP" } else { "ICMPv6" };
                let number = |value: Option<u8>| value.map_or(-1, i32::from);
                format!("{name}, type: {}, code: {}", number(kind), number(code))
            }
        };
        format!("peer: {peer}, {traffic}, ALLOW")
    }
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::sender("InvalidParameterValue", message.into())
}

/// What protocol and ports mean together.
///
/// # Errors
/// `InvalidParameterValue` for what is no protocol, port, type or code.
pub fn traffic(protocol: &str, from: Option<i32>, to: Option<i32>) -> Result<Traffic, ApiError> {
    let number = match protocol.to_ascii_lowercase().as_str() {
        ALL_PROTOCOLS | "all" => return Ok(Traffic::All),
        "tcp" => TCP,
        "udp" => UDP,
        "icmp" => ICMP,
        "icmpv6" => ICMPV6,
        other => other.parse().map_err(|_| {
            let shown = shortened(protocol);
            invalid(format!("Invalid value '{shown}' for IP protocol. Unknown protocol."))
        })?,
    };
    match number {
        TCP | UDP => {
            let (Some(from), Some(to)) = (from, to) else {
                let message =
                    "Invalid value for portRange. Must specify both from and to ports with TCP/UDP.";
                return Err(invalid(message));
            };
            let port = |value: i32| u16::try_from(value).ok();
            match (port(from), port(to)) {
                (Some(low), Some(high)) if low <= high => {
                    Ok(Traffic::Ports { protocol: number, from: low, to: high })
                }
                // Some tools write "all ports" so.
                _ if (from, to) == (-1, -1) => Ok(Traffic::Ports { protocol: number, from: 0, to: u16::MAX }),
                _ => Err(invalid(format!("Invalid TCP/UDP port range ({from}:{to})"))),
            }
        }
        ICMP | ICMPV6 => {
            let (kind, code) = (from.unwrap_or(-1), to.unwrap_or(-1));
            let part = |value: i32, what: &str| match value {
                -1 => Ok(None),
                value => u8::try_from(value)
                    .map(Some)
                    .map_err(|_| invalid(format!("ICMP {what} ({value}) out of range"))),
            };
            let (kind, code) = (part(kind, "type")?, part(code, "code")?);
            if kind.is_none() && code.is_some() {
                return Err(invalid("ICMP code cannot be specified without a type"));
            }
            Ok(Traffic::Icmp { protocol: number, kind, code })
        }
        // Ports of other protocols mean nothing: EC2 allows all of them.
        other => Ok(Traffic::Protocol(other)),
    }
}

/// An IPv4 block, whose host bits EC2 cuts off.
///
/// # Errors
/// `InvalidParameterValue`.
pub fn ipv4(text: &str) -> Result<Peer, ApiError> {
    let bad = || invalid(format!("CIDR block {} is malformed", shortened(text)));
    let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
    let digits = (1..=2).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix: u8 = prefix.parse().ok().filter(|prefix| digits && *prefix <= 32).ok_or_else(bad)?;
    Ok(Peer::Cidr(Ipv4Cidr::around(address.parse().map_err(|_| bad())?, prefix)))
}

/// An IPv6 block in its canonical form.
///
/// # Errors
/// `InvalidParameterValue`.
pub fn ipv6(text: &str) -> Result<Peer, ApiError> {
    let bad = || invalid(format!("CIDR block {} is malformed", shortened(text)));
    let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
    let digits = (1..=3).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix: u32 = prefix.parse().ok().filter(|prefix| digits && *prefix <= 128).ok_or_else(bad)?;
    let address: Ipv6Addr = address.parse().map_err(|_| bad())?;
    let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
    Ok(Peer::Ipv6Cidr(format!("{}/{prefix}", Ipv6Addr::from(u128::from(address) & mask))))
}

/// # Errors
/// `InvalidParameterValue` for one that is too long or has other characters than EC2 allows.
pub fn description(text: Option<&String>) -> Result<Option<String>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.chars().count() > DESCRIPTION_CHARS_MAX || !text.chars().all(is_description_character) {
        return Err(invalid(
            "Invalid rule description. Valid descriptions are strings less than 256 characters from the \
             following set:  a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*",
        ));
    }
    Ok(Some(text.clone()))
}

pub fn is_description_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || ". _-:/()#,@[]+=&;{}!$*".contains(character)
}

/// The rules that permissions ask for, groups found by `group`.
///
/// # Errors
/// What is wrong with the first that is.
pub fn wanted(
    given: &[types::IpPermission],
    group: &dyn Fn(&types::UserIdGroupPair) -> Result<String, ApiError>,
) -> Result<Vec<Wanted>, ApiError> {
    let mut all: Vec<Wanted> = Vec::new();
    for permission in given {
        let protocol = permission.ip_protocol.as_deref().ok_or_else(|| {
            ApiError::sender("MissingParameter", "The request must contain the parameter ipProtocol")
        })?;
        let traffic = traffic(protocol, permission.from_port, permission.to_port)?;
        if let Some(list) = permission.prefix_list_ids.iter().flatten().next() {
            let id = shortened(list.prefix_list_id.as_deref().unwrap_or_default());
            return Err(ApiError::sender(
                "InvalidPrefixListID.NotFound",
                format!("The prefix list ID '{id}' does not exist"),
            ));
        }
        let mut add = |peer, text: Option<&String>| -> Result<(), ApiError> {
            let wanted = Wanted { traffic, peer, description: description(text)? };
            if all.iter().any(|other| other.traffic == wanted.traffic && other.peer == wanted.peer) {
                return Err(invalid("The same permission must not appear multiple times"));
            }
            all.push(wanted);
            Ok(())
        };
        for range in permission.ip_ranges.iter().flatten() {
            add(ipv4(range.cidr_ip.as_deref().unwrap_or_default())?, range.description.as_ref())?;
        }
        for range in permission.ipv6_ranges.iter().flatten() {
            add(ipv6(range.cidr_ipv6.as_deref().unwrap_or_default())?, range.description.as_ref())?;
        }
        for pair in permission.user_id_group_pairs.iter().flatten() {
            add(Peer::Group(group(pair)?), pair.description.as_ref())?;
        }
    }
    Ok(all)
}

/// Protocol and ports as the API writes them.
fn written(traffic: Traffic) -> (String, Option<i32>, Option<i32>) {
    let number = |value: Option<u8>| Some(value.map_or(-1, i32::from));
    match traffic {
        Traffic::All => (ALL_PROTOCOLS.to_owned(), None, None),
        Traffic::Protocol(protocol) => (protocol.to_string(), None, None),
        Traffic::Ports { protocol, from, to } => {
            let name = if protocol == TCP { "tcp" } else { "udp" };
            (name.to_owned(), Some(from.into()), Some(to.into()))
        }
        Traffic::Icmp { protocol, kind, code } => {
            let name = if protocol == ICMP { "icmp" } else { "icmpv6" };
            (name.to_owned(), number(kind), number(code))
        }
    }
}

/// Rules for the same protocol and ports are one permission.
pub fn permissions(
    view: &View,
    rules: &[SecurityGroupRule],
    direction: Direction,
) -> Vec<types::IpPermission> {
    let mut found: Vec<(Traffic, types::IpPermission)> = Vec::new();
    for rule in rules.iter().filter(|rule| rule.direction == direction) {
        let index = found.iter().position(|(traffic, _)| *traffic == rule.traffic).unwrap_or_else(|| {
            let (protocol, from, to) = written(rule.traffic);
            let permission = types::IpPermission {
                ip_protocol: Some(protocol),
                from_port: from,
                to_port: to,
                ip_ranges: Some(Vec::new()),
                ipv6_ranges: Some(Vec::new()),
                prefix_list_ids: Some(Vec::new()),
                user_id_group_pairs: Some(Vec::new()),
            };
            found.push((rule.traffic, permission));
            found.len() - 1
        });
        let permission = &mut found[index].1;
        let description = rule.description.clone();
        match &rule.peer {
            Peer::Cidr(cidr) => permission
                .ip_ranges
                .get_or_insert_default()
                .push(types::IpRange { cidr_ip: Some(cidr.to_string()), description }),
            Peer::Ipv6Cidr(cidr) => permission
                .ipv6_ranges
                .get_or_insert_default()
                .push(types::Ipv6Range { cidr_ipv6: Some(cidr.clone()), description }),
            Peer::Group(id) => {
                permission.user_id_group_pairs.get_or_insert_default().push(types::UserIdGroupPair {
                    group_id: Some(id.clone()),
                    user_id: Some(view.owner_id()),
                    description,
                    ..Default::default()
                });
            }
        }
    }
    found.into_iter().map(|(_, permission)| permission).collect()
}

/// A rule alone, which always has ports.
pub fn shown_rule(view: &View, group: &SecurityGroup, rule: &SecurityGroupRule) -> types::SecurityGroupRule {
    let (protocol, from, to) = written(rule.traffic);
    let mut shown = types::SecurityGroupRule {
        security_group_rule_id: Some(rule.id.clone()),
        security_group_rule_arn: Some(view.arn(format!("security-group-rule/{}", rule.id))),
        group_id: Some(group.id.clone()),
        group_owner_id: Some(view.owner_id()),
        is_egress: Some(rule.direction == Direction::Egress),
        ip_protocol: Some(protocol),
        from_port: from.or(Some(-1)),
        to_port: to.or(Some(-1)),
        description: rule.description.clone(),
        tags: Some(view.tags(&rule.id)),
        ..Default::default()
    };
    match &rule.peer {
        Peer::Cidr(cidr) => shown.cidr_ipv4 = Some(cidr.to_string()),
        Peer::Ipv6Cidr(cidr) => shown.cidr_ipv6 = Some(cidr.clone()),
        Peer::Group(id) => {
            shown.referenced_group_info = Some(types::ReferencedSecurityGroup {
                group_id: Some(id.clone()),
                user_id: Some(view.owner_id()),
                ..Default::default()
            });
        }
    }
    shown
}

/// A rule that has been taken away.
pub fn revoked_rule(group: &SecurityGroup, rule: &SecurityGroupRule) -> types::RevokedSecurityGroupRule {
    let (protocol, from, to) = written(rule.traffic);
    let mut shown = types::RevokedSecurityGroupRule {
        security_group_rule_id: Some(rule.id.clone()),
        group_id: Some(group.id.clone()),
        is_egress: Some(rule.direction == Direction::Egress),
        ip_protocol: Some(protocol),
        from_port: from.or(Some(-1)),
        to_port: to.or(Some(-1)),
        description: rule.description.clone(),
        ..Default::default()
    };
    match &rule.peer {
        Peer::Cidr(cidr) => shown.cidr_ipv4 = Some(cidr.to_string()),
        Peer::Ipv6Cidr(cidr) => shown.cidr_ipv6 = Some(cidr.clone()),
        Peer::Group(id) => shown.referenced_group_id = Some(id.clone()),
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn protocols_and_ports_mean_what_ec2_says() {
        let ports = |protocol, from, to| Traffic::Ports { protocol, from, to };
        assert_eq!(traffic("tcp", Some(22), Some(22)).unwrap(), ports(TCP, 22, 22));
        assert_eq!(traffic("17", Some(0), Some(65_535)).unwrap(), ports(UDP, 0, 65_535));
        assert_eq!(traffic("-1", Some(22), Some(22)).unwrap(), Traffic::All);
        assert_eq!(traffic("50", Some(1), None).unwrap(), Traffic::Protocol(50));
        let echo = Traffic::Icmp { protocol: ICMP, kind: Some(8), code: None };
        assert_eq!(traffic("icmp", Some(8), Some(-1)).unwrap(), echo);
        for (protocol, from, to) in [
            ("tcp", None, Some(1)),
            ("tcp", Some(2), Some(1)),
            ("udp", Some(0), Some(65_536)),
            ("tcp", Some(-2), Some(5)),
            ("icmp", Some(300), None),
            ("icmp", Some(-1), Some(3)),
            ("sctp?", None, None),
            ("256", None, None),
        ] {
            let error = traffic(protocol, from, to).unwrap_err();
            assert_eq!(error.code, "InvalidParameterValue", "{protocol} {from:?} {to:?}");
        }
    }

    #[test]
    fn blocks_are_cut_to_their_prefix() {
        assert_eq!(ipv4("10.1.2.3/8").unwrap(), Peer::Cidr("10.0.0.0/8".parse().unwrap()));
        assert_eq!(ipv6("2001:DB8::1/32").unwrap(), Peer::Ipv6Cidr("2001:db8::/32".into()));
        assert_eq!(ipv6("::/0").unwrap(), Peer::Ipv6Cidr("::/0".into()));
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/+8", "::/0"] {
            assert!(ipv4(bad).is_err(), "{bad}");
        }
        for bad in ["", "::", "::/129", "10.0.0.0/8", "::/-1"] {
            assert!(ipv6(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(from: u16, more: u16, kind in -1i32..256, code in -1i32..256, protocol: u8) {
            let to = from.saturating_add(more);
            let code = if kind == -1 { -1 } else { code };
            // ICMP by its number with a port for a type is refused.
            let read = [
                traffic("tcp", Some(from.into()), Some(to.into())),
                traffic("icmp", Some(kind), Some(code)),
                traffic("icmpv6", Some(kind), Some(code)),
                traffic(&protocol.to_string(), Some(from.into()), Some(to.into())),
            ];
            for one in read.into_iter().flatten() {
                let (name, from, to) = written(one);
                prop_assert_eq!(traffic(&name, from, to).unwrap(), one);
            }
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in ".{0,30}", from: Option<i32>, to: Option<i32>) {
            let _ = (ipv4(&text), ipv6(&text), traffic(&text, from, to));
        }
    }
}
