//! The data plane: VPCs, subnets and network interfaces as namespaces, bridges and veths.
//!
//! - [`DataPlane`] is what services ask for; [`sim::SimPlane`] answers from memory,
//!   [`linux::NetlinkPlane`] from the kernel.
//! - [`cidr`] and [`allocator`] are pure: blocks, and which address comes next.
//!
//! Invariants:
//! - Nothing here knows a store, an API type or a clock. Which interfaces should exist is the
//!   caller's knowledge; what exists is the kernel's.
//! - Every VPC is a namespace of its own, so that two VPCs with the same addresses never meet.
//! - Nothing of the machine's own network is changed beyond what carries the name of this
//!   instance, and `ip_forward`.
//! - No program is ever spawned: everything is netlink.

pub mod allocator;
pub mod cidr;
#[cfg(target_os = "linux")]
pub mod linux;
mod plane;
pub mod policy;
pub mod sim;

pub use cidr::Ipv4Cidr;
pub use plane::{
    Attached, DataPlane, Egress, EniSpec, MacAddress, NetworkError, PlaneStatus, Recovery, SubnetSpec,
    TASK_ENDPOINT, VpcSpec,
};
