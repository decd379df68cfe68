//! What a task may learn of itself at 169.254.170.2.

use std::net::Ipv4Addr;

/// An HTTP answer of the metadata endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataResponse {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
}

pub trait TaskMetadata: Send + Sync {
    /// Answers `GET path` for the task that has this address in this VPC. The caller is known by
    /// its address alone: nothing that it sends can name another task.
    fn get(&self, vpc_id: &str, task_address: Ipv4Addr, path: &str) -> MetadataResponse;
}
