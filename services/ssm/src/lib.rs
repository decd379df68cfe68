//! AWS Systems Manager: Parameter Store. Nothing else of Systems Manager is here.
//!
//! # What is where
//!
//! A parameter and each of its versions (at most 100) are records ([`records`]). What AWS's rules
//! say of names, tiers, labels, policies and filters is decided in `plan`, which knows neither the
//! store nor the API. Values are sealed with the vault under a key of the account, the region and
//! the KMS key that was named; they are opened for the one answer that shows them, never stored,
//! logged or put into an error in clear.
//!
//! Parameters whose `Expiration` has passed are gone for every reader at once; [`Ssm::sweep`] takes
//! their records away.
//!
//! AWS's own parameters (`/aws/service/…`) are those that are true here: see [`public`].
#![forbid(unsafe_code)]

mod authorization;
mod handlers;
mod plan;
pub mod public;
pub mod records;
mod sealing;
mod source;
mod sweep;

use std::sync::Arc;

use tokio::sync::Notify;
use wharf_contracts::Authorizer;
use wharf_core::{ApiError, Clock, Scope, Timestamp};
use wharf_ssm_api::errors;
use wharf_state::{Builder, Record as _, Snapshot, Store, Transaction};
use wharf_vault::Vault;

use public::PublicFacts;
use records::{Parameter, ParameterVersion};

pub use authorization::authorization;

/// Adds the tables of this service to a store.
pub fn tables(builder: Builder) -> Builder {
    builder.table::<Parameter>().table::<ParameterVersion>()
}

/// What the service stands on.
pub struct Dependencies {
    pub store: Store,
    pub vault: Vault,
    pub clock: Arc<dyn Clock>,
    /// Asked when another service reads a parameter for somebody.
    pub authorizer: Arc<dyn Authorizer>,
    pub public: PublicFacts,
}

/// The service.
pub struct Ssm {
    store: Store,
    vault: Vault,
    clock: Arc<dyn Clock>,
    authorizer: Arc<dyn Authorizer>,
    public: PublicFacts,
    /// Wakes the sweeper when there is a new expiration.
    expiring: Notify,
}

impl Ssm {
    pub fn new(dependencies: Dependencies) -> Arc<Self> {
        let Dependencies { store, vault, clock, authorizer, public } = dependencies;
        Arc::new(Self { store, vault, clock, authorizer, public, expiring: Notify::new() })
    }
}

fn not_found() -> ApiError {
    errors::parameter_not_found("")
}

/// The parameter, unless it has expired.
fn find(snapshot: &Snapshot, scope: &Scope, name: &str, now: Timestamp) -> Option<Arc<Parameter>> {
    snapshot
        .get::<Parameter>(&(scope.clone(), name.to_owned()))
        .filter(|parameter| !has_expired(parameter, now))
}

fn has_expired(parameter: &Parameter, now: Timestamp) -> bool {
    parameter.policies.iter().any(|policy| policy.expires_at <= now)
}

/// Takes a parameter and all of its versions away.
fn remove(transaction: &mut Transaction<'_>, scope: &Scope, name: &str) -> Option<Arc<Parameter>> {
    let parameter = transaction.delete::<Parameter>(&(scope.clone(), name.to_owned()))?;
    let prefix = Parameter::versions_prefix(scope, name);
    let versions: Vec<_> =
        transaction.prefix::<ParameterVersion>(&prefix).map(|version| version.key()).collect();
    for version in versions {
        transaction.delete::<ParameterVersion>(&version);
    }
    Some(parameter)
}
