//! How the `wharf` commands speak to the server of a data directory: HTTP over a unix socket that
//! only the directory's owner can open. Nothing of this is reachable over the network.

pub mod client;
pub mod container_calls;
pub mod containers;
pub mod messages;
pub mod server;
