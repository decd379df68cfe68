//! ReplicateSecretToRegions, RemoveRegionsFromReplication, StopReplicationToReplica.

use std::collections::BTreeSet;

use wharf_core::{ApiError, Region, RequestContext, Scope, Timestamp};
use wharf_secretsmanager_api::{errors, types};
use wharf_state::Transaction;

use crate::change::Change;
use crate::records::{Replica, Role, Secret};
use crate::replicate::{self, Existing};
use crate::{SecretsManager, find_to_change, parse_id, sealing, usable};

impl SecretsManager {
    pub(super) async fn replicate_secret_to_regions(
        &self,
        context: &RequestContext,
        input: types::ReplicateSecretToRegionsRequest,
    ) -> Result<types::ReplicateSecretToRegionsResponse, ApiError> {
        let id = parse_id(&input.secret_id)?;
        let added = from_api(&context.scope, input.add_replica_regions)?;
        let existing = if input.force_overwrite_replica_secret == Some(true) {
            Existing::Overwrite
        } else {
            Existing::Keep
        };
        let secret = self
            .store
            .transact(|transaction| {
                let mut change = Change::begin(transaction, context, &self.vault, &id)?;
                let mut replicas = change.secret.replicas().to_vec();
                let regions: BTreeSet<Region> = added.iter().map(|replica| replica.region.clone()).collect();
                // One that failed may be tried again; one that is there is there.
                if replicas.iter().any(|old| old.failure.is_none() && regions.contains(&old.region)) {
                    return Err(errors::invalid_parameter_exception(
                        "The secret is already replicated to this region.",
                    ));
                }
                replicas.retain(|old| !regions.contains(&old.region));
                let mut added = added;
                claim_all(change.transaction, &change.secret, &mut added, existing, context.now);
                replicas.extend(added);
                change.secret.role = Role::Primary { replicas };
                change.finish()
            })
            .await
            .map_err(ApiError::from)?;
        Ok(types::ReplicateSecretToRegionsResponse {
            arn: Some(secret.arn()),
            replication_status: Some(self.replication_status(&secret)),
        })
    }

    pub(super) async fn remove_regions_from_replication(
        &self,
        context: &RequestContext,
        input: types::RemoveRegionsFromReplicationRequest,
    ) -> Result<types::RemoveRegionsFromReplicationResponse, ApiError> {
        let id = parse_id(&input.secret_id)?;
        let secret = self
            .store
            .transact(|transaction| {
                let mut change = Change::begin(transaction, context, &self.vault, &id)?;
                let wanted = |replica: &Replica| {
                    input.remove_replica_regions.iter().any(|region| region == replica.region.as_str())
                };
                let (gone, left): (Vec<_>, Vec<_>) =
                    change.secret.replicas().iter().cloned().partition(wanted);
                if gone.len() < input.remove_replica_regions.iter().collect::<BTreeSet<_>>().len() {
                    return Err(errors::invalid_parameter_exception(
                        "The secret is not replicated to all of the regions.",
                    ));
                }
                for replica in gone {
                    replicate::withdraw(change.transaction, &change.secret, &replica);
                }
                change.secret.role = Role::Primary { replicas: left };
                change.finish()
            })
            .await
            .map_err(ApiError::from)?;
        Ok(types::RemoveRegionsFromReplicationResponse {
            arn: Some(secret.arn()),
            replication_status: Some(self.replication_status(&secret)),
        })
    }

    pub(super) async fn stop_replication_to_replica(
        &self,
        context: &RequestContext,
        input: types::StopReplicationToReplicaRequest,
    ) -> Result<types::StopReplicationToReplicaResponse, ApiError> {
        let id = parse_id(&input.secret_id)?;
        let secret = self
            .store
            .transact(|transaction| {
                let mut secret = find_to_change(transaction, context, &id)?;
                usable(&secret)?;
                let Role::Replica { primary } = &secret.role else {
                    return Err(errors::invalid_request_exception("The secret is not a replica secret."));
                };
                let primary =
                    (Scope { account: secret.scope.account, region: primary.clone() }, secret.name.clone());
                if let Some(primary) = transaction.get::<Secret>(&primary) {
                    let mut primary = Secret::clone(&primary);
                    if let Role::Primary { replicas } = &mut primary.role {
                        replicas.retain(|replica| replica.region != secret.scope.region);
                    }
                    transaction.put(primary);
                }
                secret.role = Role::Primary { replicas: Vec::new() };
                secret.changed_at = context.now;
                transaction.put(secret.clone());
                Ok(secret)
            })
            .await
            .map_err(ApiError::from)?;
        Ok(types::StopReplicationToReplicaResponse { arn: Some(secret.arn()) })
    }

    /// What a primary says of its copies.
    pub(super) fn replication_status(&self, secret: &Secret) -> Vec<types::ReplicationStatusType> {
        let snapshot = self.store.snapshot();
        let replicas = secret.replicas().iter();
        replicas
            .map(|replica| {
                let scope = Scope { account: secret.scope.account, region: replica.region.clone() };
                let copy = snapshot
                    .get::<Secret>(&(scope, secret.name.clone()))
                    .filter(|_| replica.failure.is_none());
                types::ReplicationStatusType {
                    kms_key_id: Some(
                        replica
                            .key
                            .as_ref()
                            .map_or_else(|| "alias/aws/secretsmanager".to_owned(), |key| key.given.clone()),
                    ),
                    last_accessed_date: copy.and_then(|copy| copy.accessed_on),
                    region: Some(replica.region.to_string()),
                    status: Some(match replica.failure {
                        None => types::StatusType::InSync,
                        Some(_) => types::StatusType::Failed,
                    }),
                    status_message: replica.failure.clone(),
                }
            })
            .collect()
    }
}

/// # Errors
/// For a region that is the secret's own, twice, or of another partition.
pub fn from_api(scope: &Scope, given: Vec<types::ReplicaRegionType>) -> Result<Vec<Replica>, ApiError> {
    let invalid = || errors::invalid_parameter_exception("Invalid replica region.");
    let mut replicas: Vec<Replica> = Vec::new();
    for replica in given {
        let region: Region = replica.region.unwrap_or_default().parse().map_err(|_| invalid())?;
        let elsewhere = region != scope.region
            && wharf_core::Partition::of_region(&region) == wharf_core::Partition::of_region(&scope.region)
            && replicas.iter().all(|other| other.region != region);
        if !elsewhere {
            return Err(invalid());
        }
        let there = Scope { account: scope.account, region: region.clone() };
        let key = sealing::key_name(replica.kms_key_id.as_deref(), &there)?;
        replicas.push(Replica { region, key, failure: None });
    }
    Ok(replicas)
}

pub fn claim_all(
    transaction: &mut Transaction<'_>,
    primary: &Secret,
    replicas: &mut [Replica],
    existing: Existing,
    now: Timestamp,
) {
    for replica in replicas {
        replicate::claim(transaction, primary, replica, existing, now);
    }
}
