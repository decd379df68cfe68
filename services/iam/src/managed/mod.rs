//! The policies of AWS: the same in every account, changed by nobody here.

use std::sync::{Arc, LazyLock};

use wharf_core::Timestamp;

use crate::records::PolicyName;

/// An AWS-managed policy. Its ARN is `arn:PARTITION:iam::aws:policy{path}{name}`.
pub struct ManagedPolicy {
    /// `ANPA…`.
    pub id: String,
    /// `/`, `/service-role/`, `/aws-service-role/`, `/job-function/`.
    pub path: String,
    pub name: String,
    pub description: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// The number of the default version, the only one that there is.
    pub version: u32,
    pub document: Arc<str>,
}

impl ManagedPolicy {
    pub fn full_name(&self) -> PolicyName {
        PolicyName(format!("aws:policy{}{}", self.path, self.name))
    }
}

static ALL: LazyLock<Vec<ManagedPolicy>> = LazyLock::new(Vec::new);

/// All of them, in the order of their names in lower case.
pub fn all() -> &'static [ManagedPolicy] {
    &ALL
}

/// By path and name: `/service-role/AmazonECSTaskExecutionRolePolicy`.
pub fn find(path_and_name: &str) -> Option<&'static ManagedPolicy> {
    all().iter().find(|policy| path_and_name.strip_prefix(&*policy.path) == Some(&*policy.name))
}
