//! The policies of AWS: the same in every account, changed by nobody here.

mod list;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use wharf_core::Timestamp;

use crate::records::PolicyName;

/// When AWS gave its first managed policies. What a policy here was made or changed is not told apart.
const CREATED_AT: Timestamp = Timestamp::from_millis(1_423_248_057_000);

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

struct Catalogue {
    all: Vec<ManagedPolicy>,
    /// Places in `all`, by path and name together.
    by_name: HashMap<String, usize>,
}

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    let all: Vec<ManagedPolicy> = list::ROWS
        .iter()
        .map(|(id, path, name, description, document)| ManagedPolicy {
            id: (*id).to_owned(),
            path: (*path).to_owned(),
            name: (*name).to_owned(),
            description: (*description).to_owned(),
            created_at: CREATED_AT,
            updated_at: CREATED_AT,
            version: 1,
            document: Arc::from(*document),
        })
        .collect();
    let by_name = all
        .iter()
        .enumerate()
        .map(|(place, policy)| (format!("{}{}", policy.path, policy.name), place))
        .collect();
    Catalogue { all, by_name }
});

/// All of them, in the order of their names in lower case.
pub fn all() -> &'static [ManagedPolicy] {
    &CATALOGUE.all
}

/// By path and name: `/service-role/AmazonECSTaskExecutionRolePolicy`.
pub fn find(path_and_name: &str) -> Option<&'static ManagedPolicy> {
    CATALOGUE.by_name.get(path_and_name).map(|place| &CATALOGUE.all[*place])
}

#[cfg(test)]
mod tests;
