//! AWS Secrets Manager.
//!
//! # What is where
//!
//! A secret and each of its versions are records ([`records`]); values are sealed with the vault
//! under a key of the account, the region and the KMS key that was named, bound to the version. They
//! are opened for the one answer that shows them, never stored, logged or put into an error in clear.
//! Labels, ids, passwords, filters and policies are decided in `plan`.
//!
//! A secret that is marked for deletion is deleted at its time by the sweeper ([`SecretsManager::sweep_forever`]);
//! no reader sees it after that time, swept or not.
//!
//! A replica is a secret of its own in another region, written in the transaction that changes its
//! primary: what is `InSync` is in sync (`replicate`).
//!
//! Not here: rotation (it runs a Lambda function, and there are none), replicas in other accounts,
//! secrets that other services own. Their operations answer `NotImplemented`.
#![forbid(unsafe_code)]

mod authorization;
mod change;
mod handlers;
mod plan;
pub mod records;
mod replicate;
mod sealing;
mod source;
mod sweep;

use std::sync::Arc;

use tokio::sync::Notify;
use wharf_contracts::Authorizer;
use wharf_core::{ApiError, Clock, RequestContext, Rng, Scope, Timestamp};
use wharf_secretsmanager_api::errors;
use wharf_state::{Builder, Snapshot, Store, Transaction};
use wharf_vault::Vault;

use plan::id::{Candidate, Partial, SecretId};
use records::{Secret, Version};

pub use authorization::authorization;

/// Adds the tables of this service to a store.
pub fn tables(builder: Builder) -> Builder {
    builder.table::<Secret>().table::<Version>()
}

/// What the service stands on.
pub struct Dependencies {
    pub store: Store,
    pub vault: Vault,
    pub clock: Arc<dyn Clock>,
    /// Cryptographic: it draws passwords.
    pub rng: Arc<dyn Rng>,
    /// Asked for each secret of a batch, and when another service reads a secret for somebody.
    pub authorizer: Arc<dyn Authorizer>,
}

/// The service.
pub struct SecretsManager {
    store: Store,
    vault: Vault,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    authorizer: Arc<dyn Authorizer>,
    /// Wakes the sweeper when a secret is marked for deletion.
    deleted: Notify,
}

impl SecretsManager {
    pub fn new(dependencies: Dependencies) -> Arc<Self> {
        let Dependencies { store, vault, clock, rng, authorizer } = dependencies;
        Arc::new(Self { store, vault, clock, rng, authorizer, deleted: Notify::new() })
    }
}

fn no_secret() -> ApiError {
    errors::resource_not_found_exception("Secrets Manager can't find the specified secret.")
}

fn validation(message: impl Into<String>) -> ApiError {
    ApiError::sender("ValidationException", message)
}

/// What a request's `SecretId` points at.
///
/// # Errors
/// `ValidationException` for a text that points at nothing.
fn parse_id(text: &str) -> Result<SecretId, ApiError> {
    SecretId::parse(text).map_err(|_| {
        validation(
            "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!",
        )
    })
}

/// Where a secret is looked for, and under which (name, suffix) pairs. The region is the caller's:
/// an ARN of another region is not found in this one.
fn places<'a>(context: &RequestContext, id: &'a SecretId) -> Option<(Scope, Vec<Candidate<'a>>)> {
    let own = context.scope.clone();
    match id {
        SecretId::Name(_) => Some((own, id.candidates(Partial::Allowed))),
        SecretId::Arn { region, .. } if *region != own.region => None,
        SecretId::Arn { account, .. } if *account == own.account => {
            Some((own, id.candidates(Partial::Allowed)))
        }
        // A secret of another account is found by its whole ARN alone.
        SecretId::Arn { account, .. } => {
            let scope = Scope { account: *account, region: own.region };
            Some((scope, id.candidates(Partial::Refused)))
        }
    }
}

fn is_it(secret: &Secret, suffix: Option<&str>, now: Timestamp) -> bool {
    suffix.is_none_or(|suffix| secret.suffix == suffix) && secret.deleted_at.is_none_or(|at| at > now)
}

/// The secret that an id points at, marked for deletion or not.
fn find(snapshot: &Snapshot, context: &RequestContext, id: &SecretId) -> Option<Arc<Secret>> {
    let (scope, candidates) = places(context, id)?;
    candidates.into_iter().find_map(|(name, suffix)| {
        let secret = snapshot.get::<Secret>(&(scope.clone(), name.to_owned()))?;
        is_it(&secret, suffix, context.now).then_some(secret)
    })
}

/// As [`find`], on the newest state.
fn find_to_change(
    transaction: &Transaction<'_>,
    context: &RequestContext,
    id: &SecretId,
) -> Result<Secret, ApiError> {
    let found = places(context, id).and_then(|(scope, candidates)| {
        candidates.into_iter().find_map(|(name, suffix)| {
            let secret = transaction.get::<Secret>(&(scope.clone(), name.to_owned()))?;
            is_it(&secret, suffix, context.now).then_some(secret)
        })
    });
    found.map(|secret| Secret::clone(&secret)).ok_or_else(no_secret)
}

/// # Errors
/// `InvalidRequestException` for a secret that is marked for deletion.
fn usable<S: std::ops::Deref<Target = Secret>>(secret: S) -> Result<S, ApiError> {
    if secret.deleted_at.is_some() {
        return Err(errors::invalid_request_exception(
            "You can't perform this operation on the secret because it was marked for deletion.",
        ));
    }
    Ok(secret)
}

/// Takes a secret and its versions away.
fn remove(transaction: &mut Transaction<'_>, scope: &Scope, name: &str) {
    use wharf_state::Record as _;
    transaction.delete::<Secret>(&(scope.clone(), name.to_owned()));
    let prefix = Secret::versions_prefix(scope, name);
    let versions: Vec<_> = transaction.prefix::<Version>(&prefix).map(|version| version.key()).collect();
    for version in versions {
        transaction.delete::<Version>(&version);
    }
}
