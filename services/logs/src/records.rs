//! What is stored of groups and streams.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharf_core::{Arn, Scope, Timestamp};
use wharf_state::{Key as _, Record};

/// A log group. Its events are not expired while `retention_days` is `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogGroup {
    pub scope: Scope,
    pub name: String,
    pub created_at: Timestamp,
    pub retention_days: Option<u32>,
    pub tags: BTreeMap<String, String>,
}

impl LogGroup {
    /// `arn:aws:logs:REGION:ACCOUNT:log-group:NAME`, the form that IAM and tagging use.
    pub fn arn(&self) -> String {
        Arn::regional("logs", &self.scope.region, self.scope.account, format!("log-group:{}", self.name))
            .to_string()
    }

    /// The time before which events have expired.
    pub fn expired_before(&self, now: Timestamp) -> Option<i64> {
        self.retention_days.map(|days| now.as_millis() - i64::from(days) * 24 * 60 * 60 * 1000)
    }

    /// The encoded beginning of the keys of this group's streams.
    pub fn streams_prefix(&self) -> Vec<u8> {
        let mut prefix = self.scope.to_bytes();
        self.name.encode(&mut prefix);
        prefix
    }
}

impl Record for LogGroup {
    const TABLE: &'static str = "logs.group";
    const VERSION: u32 = 1;
    type Key = (Scope, String);

    fn key(&self) -> Self::Key {
        (self.scope.clone(), self.name.clone())
    }
}

/// A log stream, and what is known of its events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogStream {
    pub scope: Scope,
    pub group: String,
    pub name: String,
    /// Names its events in the history; never used again.
    pub id: u64,
    pub created_at: Timestamp,
    /// The smallest and the largest timestamp of its events.
    pub first_event: Option<i64>,
    pub last_event: Option<i64>,
    pub last_ingestion: Option<i64>,
    /// The sequence number of the next event.
    pub next_sequence: u64,
    /// How far the container that writes here has been stored; see `LogEvent::next_position`.
    pub source_position: u64,
    pub stored_bytes: u64,
}

impl LogStream {
    /// An empty stream. `id` must never have been used before.
    pub fn new(scope: Scope, group: String, name: String, id: u64, now: Timestamp) -> Self {
        Self {
            scope,
            group,
            name,
            id,
            created_at: now,
            first_event: None,
            last_event: None,
            last_ingestion: None,
            next_sequence: 0,
            source_position: 0,
            stored_bytes: 0,
        }
    }

    /// What AWS calls the sequence token: given, and no longer asked for.
    pub fn sequence_token(&self) -> String {
        format!("{:056}", self.next_sequence)
    }

    pub fn arn(&self) -> String {
        let resource = format!("log-group:{}:log-stream:{}", self.group, self.name);
        Arn::regional("logs", &self.scope.region, self.scope.account, resource).to_string()
    }
}

impl Record for LogStream {
    const TABLE: &'static str = "logs.stream";
    const VERSION: u32 = 1;
    type Key = (Scope, String, String);

    fn key(&self) -> Self::Key {
        (self.scope.clone(), self.group.clone(), self.name.clone())
    }
}

/// A stream that was deleted and whose events are still on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoomedStream {
    pub id: u64,
}

impl Record for DoomedStream {
    const TABLE: &'static str = "logs.doomed";
    const VERSION: u32 = 1;
    type Key = u64;

    fn key(&self) -> u64 {
        self.id
    }
}

/// The group that an ARN names, with or without a trailing `:*`, when it lies in `scope`.
pub fn group_of_arn(scope: &Scope, arn: &str) -> Option<String> {
    let arn: Arn = arn.parse().ok()?;
    let here = arn.service == "logs"
        && arn.region.as_ref() == Some(&scope.region)
        && arn.account == Some(scope.account);
    let name = arn.resource.strip_prefix("log-group:")?;
    let name = name.strip_suffix(":*").unwrap_or(name);
    (here && !name.is_empty() && !name.contains(':')).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_arn_in_its_own_scope_only() {
        let scope = Scope { account: "123456789012".parse().unwrap(), region: "eu-west-1".parse().unwrap() };
        let group = LogGroup {
            scope: scope.clone(),
            name: "/ecs/web".into(),
            created_at: Timestamp::from_millis(0),
            retention_days: None,
            tags: BTreeMap::new(),
        };
        assert_eq!(group_of_arn(&scope, &group.arn()).as_deref(), Some("/ecs/web"));
        assert_eq!(group_of_arn(&scope, &format!("{}:*", group.arn())).as_deref(), Some("/ecs/web"));
        let elsewhere = Scope { region: "us-east-1".parse().unwrap(), ..scope };
        assert_eq!(group_of_arn(&elsewhere, &group.arn()), None);
    }
}
