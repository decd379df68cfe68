//! One file a resource. A handler reads a snapshot, converts records and selects; it writes nothing.

pub mod account;
pub mod internet_gateway;
pub mod network_acl;
pub mod network_interface;
pub mod route_table;
pub mod security_group;
pub mod subnet;
pub mod tag;
pub mod vpc;
pub mod zone;
