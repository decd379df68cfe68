//! Who calls, from where, and for which account and region.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::arn::Partition;
use crate::clock::Timestamp;
use crate::id::{AccountId, Region, RequestId};

/// Where a resource lives: state is kept for each account and region.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope {
    pub account: AccountId,
    pub region: Region,
}

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// The root user of an account: may do all in it.
    Root { account: AccountId },
}

impl Principal {
    pub fn account(&self) -> AccountId {
        match self {
            Self::Root { account } => *account,
        }
    }

    /// The ARN that `sts:GetCallerIdentity` reports.
    pub fn arn(&self, partition: Partition) -> String {
        match self {
            Self::Root { account } => format!("arn:{partition}:iam::{account}:root"),
        }
    }

    /// The unique id that `sts:GetCallerIdentity` reports as `UserId`.
    pub fn user_id(&self) -> String {
        match self {
            Self::Root { account } => account.to_string(),
        }
    }
}

/// What the pipeline knows of a request by the time a handler sees it.
#[derive(Clone, Debug)]
pub struct RequestContext {
    pub request_id: RequestId,
    pub scope: Scope,
    pub principal: Principal,
    /// The access key that signed the request.
    pub access_key_id: String,
    pub source_ip: IpAddr,
    /// When the request arrived. A handler uses this instead of asking a clock.
    pub now: Timestamp,
}

impl RequestContext {
    pub fn account(&self) -> AccountId {
        self.scope.account
    }

    pub fn region(&self) -> &Region {
        &self.scope.region
    }

    pub fn partition(&self) -> Partition {
        Partition::of_region(&self.scope.region)
    }
}
