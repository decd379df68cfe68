//! Copies of a secret in other regions of its account (Secrets Manager User Guide, "Replicate AWS
//! Secrets Manager secrets across Regions").
//!
//! A copy has the primary's name, suffix, description, tags, policy, versions and labels; its values
//! are sealed for its own place and key.

use std::sync::Arc;

use wharf_core::{ApiError, Scope, Timestamp};
use wharf_state::{Record as _, Transaction};
use wharf_vault::Vault;

use crate::records::{Replica, Role, Secret, Version};
use crate::sealing;

/// What to do with another secret of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    Keep,
    Overwrite,
}

fn scope_in(secret: &Secret, replica: &Replica) -> Scope {
    Scope { account: secret.scope.account, region: replica.region.clone() }
}

/// Whether this is the copy of `primary` and not a stranger of the same name.
fn is_copy(found: &Secret, primary: &Secret) -> bool {
    found.suffix == primary.suffix
        && matches!(&found.role, Role::Replica { primary: region } if *region == primary.scope.region)
}

/// Tells of each replica whether it can be where it is to be, and makes room for it.
pub fn claim(
    transaction: &mut Transaction<'_>,
    primary: &Secret,
    replica: &mut Replica,
    existing: Existing,
    now: Timestamp,
) {
    let scope = scope_in(primary, replica);
    let mut found = transaction.get::<Secret>(&(scope.clone(), primary.name.clone()));
    // Deleted for everybody, and not yet swept away.
    if found.as_ref().is_some_and(|found| found.deleted_at.is_some_and(|at| at <= now)) {
        crate::remove(transaction, &scope, &primary.name);
        found = None;
    }
    match found {
        Some(found) if is_copy(&found, primary) => replica.failure = None,
        Some(found) => {
            // A primary of others cannot go; its replicas would follow nobody.
            let may_go = found.replicas().is_empty() && matches!(found.role, Role::Primary { .. });
            if existing == Existing::Overwrite && may_go {
                crate::remove(transaction, &scope, &primary.name);
                replica.failure = None;
            } else {
                replica.failure = Some(format!(
                    "Replication failed: Secret name {} already exists in region {}.",
                    primary.name, replica.region
                ));
            }
        }
        None => replica.failure = None,
    }
}

/// Makes every copy what its primary is.
///
/// # Errors
/// When a value cannot be opened to be sealed again.
pub fn sync(transaction: &mut Transaction<'_>, vault: &Vault, primary: &Secret) -> Result<(), ApiError> {
    for replica in primary.replicas().iter().filter(|replica| replica.failure.is_none()) {
        sync_one(transaction, vault, primary, replica)?;
    }
    Ok(())
}

fn sync_one(
    transaction: &mut Transaction<'_>,
    vault: &Vault,
    primary: &Secret,
    replica: &Replica,
) -> Result<(), ApiError> {
    let scope = scope_in(primary, replica);
    let before = transaction.get::<Secret>(&(scope.clone(), primary.name.clone()));
    transaction.put(Secret {
        scope: scope.clone(),
        key: replica.key.clone(),
        accessed_on: before.and_then(|before| before.accessed_on),
        role: Role::Replica { primary: primary.scope.region.clone() },
        ..primary.clone()
    });
    let prefix = Secret::versions_prefix(&primary.scope, &primary.name);
    let wanted: Vec<Arc<Version>> = transaction.prefix::<Version>(&prefix).collect();
    let prefix = Secret::versions_prefix(&scope, &primary.name);
    let present: Vec<Arc<Version>> = transaction.prefix::<Version>(&prefix).collect();
    for gone in present.iter().filter(|version| wanted.iter().all(|wanted| wanted.id != version.id)) {
        transaction.delete::<Version>(&gone.key());
    }
    for version in wanted {
        let copy = present.iter().find(|copy| copy.id == version.id && copy.key == replica.key);
        match copy {
            Some(copy) if copy.stages == version.stages => {}
            Some(copy) => transaction.put(Version { stages: version.stages.clone(), ..Version::clone(copy) }),
            None => {
                let value = sealing::unseal(vault, &version)?;
                let mut copy = Version {
                    scope: scope.clone(),
                    key: replica.key.clone(),
                    accessed_on: None,
                    ..Version::clone(&version)
                };
                copy.value = sealing::seal(vault, &copy, &value);
                transaction.put(copy);
            }
        }
    }
    Ok(())
}

/// Takes the copy away that `primary` has in a region.
pub fn withdraw(transaction: &mut Transaction<'_>, primary: &Secret, replica: &Replica) {
    let scope = scope_in(primary, replica);
    let found = transaction.get::<Secret>(&(scope.clone(), primary.name.clone()));
    if found.is_some_and(|found| is_copy(&found, primary)) {
        crate::remove(transaction, &scope, &primary.name);
    }
}
