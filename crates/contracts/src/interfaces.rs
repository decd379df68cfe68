//! Elastic network interfaces, for services that place something in a VPC.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use async_trait::async_trait;
use wharf_core::{ApiError, Scope};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AssignPublicIp {
    Enabled,
    Disabled,
}

/// An interface that is wanted.
#[derive(Clone, Debug)]
pub struct InterfaceRequest {
    pub scope: Scope,
    pub subnet_id: String,
    /// Empty: the default group of the subnet's VPC.
    pub security_group_ids: Vec<String>,
    pub assign_public_ip: AssignPublicIp,
    /// What it is for: the id of the owner's attachment. Creating again for the same owner gives
    /// the same interface, so that a caller may repeat after a crash.
    pub owner: String,
    /// As EC2 shows it, such as `arn:aws:ecs:…:attachment/…`.
    pub description: String,
}

/// An interface that exists: its namespace is up, with address, routes and loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// `eni-` and 17 hexadecimal digits.
    pub id: String,
    pub mac_address: String,
    pub private_ipv4: Ipv4Addr,
    /// Such as `ip-172-31-5-7.ec2.internal`.
    pub private_dns_name: String,
    pub subnet_id: String,
    pub subnet_cidr: String,
    pub gateway: Ipv4Addr,
    pub vpc_id: String,
    pub availability_zone: String,
    /// A bind mount of the network namespace, to be entered with `setns`.
    pub netns: PathBuf,
    /// Name servers for `resolv.conf`.
    pub name_servers: Vec<std::net::IpAddr>,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum InterfaceError {
    /// The subnet or group does not exist, or no address is left: in EC2's own code and words.
    #[error(transparent)]
    Refused(ApiError),
    #[error("cannot make a network interface: {message}")]
    Unavailable { message: String },
}

#[async_trait]
pub trait Interfaces: Send + Sync {
    /// Checks subnets and groups without making anything: they exist in the scope, and all lie in
    /// one VPC. Returns the availability zone of each subnet.
    ///
    /// # Errors
    /// [`InterfaceError::Refused`] with EC2's code, such as `InvalidSubnetID.NotFound`.
    async fn check(
        &self,
        scope: &Scope,
        subnet_ids: &[String],
        security_group_ids: &[String],
    ) -> Result<Vec<String>, InterfaceError>;

    /// Makes the interface, or returns the one that its owner already has.
    async fn create(&self, request: InterfaceRequest) -> Result<Interface, InterfaceError>;

    /// Removes the owner's interface and its namespace. Removing what is gone is no error.
    async fn delete(&self, scope: &Scope, owner: &str) -> Result<(), InterfaceError>;
}
