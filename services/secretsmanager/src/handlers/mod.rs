//! The operations of the API, one file a subject. Here they are only put behind the trait.

mod create;
mod delete;
mod list;
mod page;
mod password;
mod policy;
mod replica;
mod stage;
mod tag;
mod update;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use wharf_core::{ApiError, RequestContext};
use wharf_secretsmanager_api::{SecretsManager as Api, errors, types};
use wharf_state::Snapshot;

use crate::SecretsManager;
use crate::records::{Secret, Version};

pub use value::Wanted;

/// Puts methods of [`SecretsManager`] behind the generated trait.
macro_rules! operations {
    ($($name:ident($input:ty) -> $output:ty;)*) => {
        #[async_trait]
        impl Api for SecretsManager {
            $(async fn $name(&self, context: &RequestContext, input: $input) -> Result<$output, ApiError> {
                SecretsManager::$name(self, context, input).await
            })*
        }
    };
}

operations! {
    create_secret(types::CreateSecretRequest) -> types::CreateSecretResponse;
    put_secret_value(types::PutSecretValueRequest) -> types::PutSecretValueResponse;
    get_secret_value(types::GetSecretValueRequest) -> types::GetSecretValueResponse;
    batch_get_secret_value(types::BatchGetSecretValueRequest) -> types::BatchGetSecretValueResponse;
    update_secret(types::UpdateSecretRequest) -> types::UpdateSecretResponse;
    update_secret_version_stage(types::UpdateSecretVersionStageRequest) -> types::UpdateSecretVersionStageResponse;
    describe_secret(types::DescribeSecretRequest) -> types::DescribeSecretResponse;
    list_secrets(types::ListSecretsRequest) -> types::ListSecretsResponse;
    list_secret_version_ids(types::ListSecretVersionIdsRequest) -> types::ListSecretVersionIdsResponse;
    delete_secret(types::DeleteSecretRequest) -> types::DeleteSecretResponse;
    restore_secret(types::RestoreSecretRequest) -> types::RestoreSecretResponse;
    get_random_password(types::GetRandomPasswordRequest) -> types::GetRandomPasswordResponse;
    tag_resource(types::TagResourceRequest) -> ();
    untag_resource(types::UntagResourceRequest) -> ();
    put_resource_policy(types::PutResourcePolicyRequest) -> types::PutResourcePolicyResponse;
    get_resource_policy(types::GetResourcePolicyRequest) -> types::GetResourcePolicyResponse;
    delete_resource_policy(types::DeleteResourcePolicyRequest) -> types::DeleteResourcePolicyResponse;
    list_resource_policies(types::ListResourcePoliciesRequest) -> types::ListResourcePoliciesResponse;
    validate_resource_policy(types::ValidateResourcePolicyRequest) -> types::ValidateResourcePolicyResponse;
    replicate_secret_to_regions(types::ReplicateSecretToRegionsRequest) -> types::ReplicateSecretToRegionsResponse;
    remove_regions_from_replication(types::RemoveRegionsFromReplicationRequest)
        -> types::RemoveRegionsFromReplicationResponse;
    stop_replication_to_replica(types::StopReplicationToReplicaRequest) -> types::StopReplicationToReplicaResponse;
}

/// The error for a field that is understood and not done.
fn refused(operation: &str, field: &str) -> ApiError {
    ApiError::not_implemented(format_args!("the field \"{field}\" of secretsmanager:{operation}"))
}

/// The token of a request that makes a version, which becomes the version's id. SDKs make one up.
fn token(given: Option<String>) -> Result<String, ApiError> {
    given.filter(|token| !token.is_empty()).ok_or_else(|| {
        errors::invalid_request_exception(
            "You must provide a ClientRequestToken value. We recommend a UUID-type value.",
        )
    })
}

fn versions(snapshot: &Snapshot, secret: &Secret) -> Vec<Arc<Version>> {
    let prefix = Secret::versions_prefix(&secret.scope, &secret.name);
    snapshot.prefix::<Version>(&prefix).collect()
}

/// The versions that have labels; `None` when there are none.
fn labelled(versions: &[Arc<Version>]) -> Option<BTreeMap<String, Vec<String>>> {
    let labelled = versions.iter().filter(|version| !version.stages.is_empty());
    let map: BTreeMap<_, _> =
        labelled.map(|version| (version.id.clone(), version.stages.iter().cloned().collect())).collect();
    (!map.is_empty()).then_some(map)
}
