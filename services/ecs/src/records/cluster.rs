//! A cluster.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharf_core::{Scope, Timestamp};
use wharf_state::Record;

use super::ClusterKey;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterStatus {
    Active,
    /// Deleted, still described for a while.
    Inactive,
}

impl ClusterStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
        }
    }
}

/// A part of a capacity provider strategy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrategyItem {
    pub provider: String,
    /// 0 to 1,000.
    pub weight: u32,
    /// 0 to 100,000; at most one item of a strategy has one.
    pub base: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    pub scope: Scope,
    pub name: String,
    pub arn: String,
    pub status: ClusterStatus,
    pub capacity_providers: Vec<String>,
    pub default_strategy: Vec<StrategyItem>,
    pub tags: BTreeMap<String, String>,
    pub created_at: Timestamp,
    pub deleted_at: Option<Timestamp>,
}

impl Record for Cluster {
    const TABLE: &'static str = "ecs-clusters";
    const VERSION: u32 = 1;
    type Key = ClusterKey;

    fn key(&self) -> ClusterKey {
        (self.scope.clone(), self.name.clone())
    }
}
