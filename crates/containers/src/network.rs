//! The network of a container, as this crate needs it: somebody who gives addresses.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use async_trait::async_trait;

/// A network namespace with an address, reached from the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    pub address: Ipv4Addr,
    pub gateway: Ipv4Addr,
    pub mac_address: String,
    pub netns: PathBuf,
    pub name_servers: Vec<IpAddr>,
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct NetworkError(pub String);

#[async_trait]
pub trait ContainerNetwork: Send + Sync {
    /// Gives the owner a namespace with an address that reaches the outside, or the one that it has.
    async fn attach(&self, owner: &str) -> Result<Attached, NetworkError>;

    /// Takes it back; what is gone is fine.
    async fn detach(&self, owner: &str) -> Result<(), NetworkError>;
}
