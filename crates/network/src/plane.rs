//! The trait that a data plane implements, and what it is asked for.

use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::cidr::Ipv4Cidr;
use crate::policy::Policy;

/// The link-local address of the container agent's endpoints, in every VPC.
pub const TASK_ENDPOINT: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// The address of the interface that has this IPv4 address in this VPC. It follows from the
    /// IPv4 address, so that a neighbour's cache stays true when an address names another task.
    pub fn of(vpc_id: &str, address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        // 0x0a: unicast, locally administered, as AWS's own.
        Self([0x0a, hash(vpc_id) as u8, a, b, c, d])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// FNV-1a, 64 bits: names that must be the same after a restart.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VpcSpec {
    /// `vpc-` and hexadecimal digits.
    pub id: String,
    pub cidr: Ipv4Cidr,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SubnetSpec {
    /// `subnet-` and hexadecimal digits.
    pub id: String,
    /// Within the VPC's; the router has its second address.
    pub cidr: Ipv4Cidr,
}

/// Where an interface may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Egress {
    /// Everywhere: a default route, and address translation on the way out.
    Internet,
    /// Its VPC and the link-local endpoints; nothing else has a route.
    VpcOnly,
}

/// An interface that should exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniSpec {
    /// `eni-` and hexadecimal digits.
    pub id: String,
    pub vpc: VpcSpec,
    pub subnet: SubnetSpec,
    pub address: Ipv4Addr,
    pub mac: MacAddress,
    pub egress: Egress,
    /// The ids of its security groups, `sg-…`.
    pub groups: Vec<String>,
}

/// An interface that exists: address, routes and loopback are up in its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The network namespace, to be opened and entered with `setns`.
    pub netns: PathBuf,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum NetworkError {
    /// Another VPC, or another Wharf on this machine, has the address: take another one.
    #[error("the address {address} is in use on this machine")]
    AddressInUse { address: Ipv4Addr },
    #[error("{text:?} is not the id of a network resource")]
    Id { text: String },
    #[error("{vpc} still holds network interfaces")]
    VpcInUse { vpc: String },
    #[error("the machine has no room for the link-local link of {vpc}")]
    TransitExhausted { vpc: String },
    #[error("the kernel has no nftables, or this process may not use them: address translation needs both")]
    NoNftables,
    #[error("{operation} needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN)")]
    Privilege { operation: &'static str },
    #[error("cannot {operation}: {message}")]
    Kernel { operation: String, message: String },
    #[error("the data plane has been closed")]
    Closed,
}

/// What a new life of the control plane found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Interfaces that live on as they were.
    pub adopted: Vec<String>,
    /// Interfaces that should exist and do not, after a reboot for instance. Attach them again, or
    /// forget them.
    pub lost: Vec<String>,
    /// How many left-overs were removed: interfaces that nobody wants and namespaces made ahead.
    pub removed: usize,
}

/// For `wharf status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaneStatus {
    pub vpcs: usize,
    pub interfaces: usize,
    /// Namespaces made ahead and not yet used.
    pub pooled: usize,
    /// What the user should know of this machine, in sentences.
    pub notes: Vec<String>,
}

/// Makes and removes what packets go through.
///
/// Every operation may be repeated: attaching what is attached gives the same answer, detaching
/// what is gone succeeds. What was attached lives on when the process dies.
#[async_trait]
pub trait DataPlane: Send + Sync {
    /// To be called once, before anything else: adopts the interfaces of an earlier life, and
    /// removes what belongs to this instance and is not in the lists. Nothing that lives is cut.
    async fn recover(&self, vpcs: Vec<VpcSpec>, expected: Vec<EniSpec>) -> Result<Recovery, NetworkError>;

    /// Makes the VPC and namespaces ahead, so that the first [`DataPlane::attach`] is fast.
    async fn warm(&self, vpc: VpcSpec) -> Result<(), NetworkError>;

    /// Makes a policy hold in a VPC, in place of the one before; without one, everything is let
    /// through. Connections that were let through go on, as on AWS, unless an ACL stops them.
    async fn set_policy(&self, vpc: VpcSpec, policy: Policy) -> Result<(), NetworkError>;

    /// Puts an interface into other security groups; one that is not attached is no error.
    async fn set_groups(&self, eni_id: &str, groups: Vec<String>) -> Result<(), NetworkError>;

    /// Makes the interface, its VPC and its subnet's bridge, as far as they are missing.
    ///
    /// # Errors
    /// [`NetworkError::AddressInUse`]: nothing was made, another address may do.
    async fn attach(&self, eni: EniSpec) -> Result<Attached, NetworkError>;

    /// Removes an interface. Its processes must be gone: the namespace may be used again within
    /// the VPC. The address is free when this returns.
    async fn detach(&self, eni_id: &str) -> Result<(), NetworkError>;

    /// Removes a VPC that holds no interface; removing what is gone succeeds. A listener inside it
    /// keeps the rest of it alive until it is closed.
    ///
    /// # Errors
    /// [`NetworkError::VpcInUse`] when it holds one.
    async fn remove_vpc(&self, vpc_id: &str) -> Result<(), NetworkError>;

    /// A listening socket inside the VPC, on an address of the VPC's router: [`TASK_ENDPOINT`]
    /// or another link-local one. Port 0 takes any. The listener is in non-blocking mode.
    async fn listen(&self, vpc: VpcSpec, address: Ipv4Addr, port: u16) -> Result<TcpListener, NetworkError>;

    fn status(&self) -> PlaneStatus;

    /// Removes every trace of this instance from the machine.
    async fn teardown(&self) -> Result<(), NetworkError>;
}

/// Ids name files and links: `kind-` and 8 to 32 hexadecimal digits.
pub(crate) fn check_id(text: &str, kind: &str) -> Result<(), NetworkError> {
    let digits = text.strip_prefix(kind).and_then(|rest| rest.strip_prefix('-'));
    match digits {
        Some(digits)
            if (8..=32).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            Ok(())
        }
        _ => Err(NetworkError::Id { text: text.chars().take(64).collect() }),
    }
}

/// Refuses a spec that does not hold together, before it reaches the kernel.
pub(crate) fn check_eni(eni: &EniSpec) -> Result<(), NetworkError> {
    check_id(&eni.id, "eni")?;
    check_id(&eni.vpc.id, "vpc")?;
    check_id(&eni.subnet.id, "subnet")?;
    if eni.vpc.cidr.covers(eni.subnet.cidr) && eni.subnet.cidr.contains(eni.address) {
        Ok(())
    } else {
        Err(NetworkError::Kernel {
            operation: format!("attach {}", eni.id),
            message: format!("{} is not in {} of {}", eni.address, eni.subnet.cidr, eni.vpc.cidr),
        })
    }
}
