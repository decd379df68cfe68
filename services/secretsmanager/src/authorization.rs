//! What IAM is asked for each operation: the action, the resources, the condition keys.
//!
//! Service Authorization Reference, "Actions, resources, and condition keys for AWS Secrets
//! Manager". A secret that does not exist has six question marks in the place of its random
//! characters, as policies that name it do.
#![allow(clippy::unnecessary_wraps, reason = "the entries of a table have one form")]

use std::sync::Arc;

use wharf_contracts::{
    AuthorizationTable, Check, Entry, OperationRequest, Required, Resource, ResourcePolicyKind,
    ServiceAuthorization,
};
use wharf_core::{ApiError, RequestContext, Scope};
use wharf_secretsmanager_api::types;

use crate::handlers::Wanted;
use crate::plan::id::SecretId;
use crate::records::{self, Secret};
use crate::sealing::{self};
use crate::{SecretsManager, find};

const ENTRIES: &[Entry<SecretsManager>] = &[
    Entry::new("BatchGetSecretValue", batch_get_secret_value),
    Entry::new("CreateSecret", create_secret),
    Entry::new("DeleteResourcePolicy", on_secret).across_accounts(),
    Entry::new("DeleteSecret", delete_secret).across_accounts(),
    Entry::new("DescribeSecret", on_secret).across_accounts(),
    Entry::new("GetRandomPassword", |_, request| Ok(request.on_any().into())),
    Entry::new("GetResourcePolicy", on_secret).across_accounts(),
    Entry::new("GetSecretValue", get_secret_value).across_accounts(),
    Entry::new("ListResourcePolicies", on_secret).across_accounts(),
    Entry::new("ListSecretVersionIds", on_secret).across_accounts(),
    Entry::new("ListSecrets", |_, request| Ok(request.on_any().into())),
    Entry::new("PutResourcePolicy", put_resource_policy).across_accounts(),
    Entry::new("PutSecretValue", on_secret).across_accounts(),
    Entry::new("RemoveRegionsFromReplication", on_secret).across_accounts(),
    Entry::new("ReplicateSecretToRegions", replicate_secret_to_regions).across_accounts(),
    Entry::new("RestoreSecret", on_secret).across_accounts(),
    Entry::new("StopReplicationToReplica", on_secret).across_accounts(),
    Entry::new("TagResource", tag_resource).across_accounts(),
    Entry::new("UntagResource", untag_resource).across_accounts(),
    Entry::new("UpdateSecret", update_secret).across_accounts(),
    Entry::new("UpdateSecretVersionStage", update_secret_version_stage).across_accounts(),
    Entry::new("ValidateResourcePolicy", validate_resource_policy).across_accounts(),
];

/// The table, for the pipeline.
pub fn authorization(secrets: &Arc<SecretsManager>) -> Arc<dyn ServiceAuthorization> {
    AuthorizationTable::new(&wharf_secretsmanager_api::MODEL, Arc::clone(secrets), ENTRIES)
}

type Request<'a> = OperationRequest<'a>;
type Answer = Result<Required, ApiError>;

fn found(secret: &Secret) -> Resource {
    let resource = Resource::new(secret.arn(), secret.scope.account).with_tags(&secret.tags);
    let resource = match secret.primary_region() {
        Some(region) => resource.with("secretsmanager:SecretPrimaryRegion", region.as_str()),
        None => resource,
    };
    match &secret.policy {
        Some(document) => resource.with_policy(Arc::clone(document), ResourcePolicyKind::Grants),
        None => resource,
    }
}

/// Whether a caller could still do this to a secret that has been changed.
pub fn check_after(secret: &Secret, action: &'static str, id: &str) -> Check {
    Check { action: action.into(), resources: vec![found(secret)], keys: Vec::new() }
        .with("secretsmanager:SecretId", id)
}

/// The secret that a text points at, with its tags and its policy.
fn secret_resource(secrets: &SecretsManager, context: &RequestContext, text: &str) -> Resource {
    let Ok(id) = SecretId::parse(text) else {
        return Resource::new(unknown(&context.scope, text), context.account());
    };
    if let Some(secret) = find(&secrets.store.snapshot(), context, &id) {
        return found(&secret);
    }
    match &id {
        SecretId::Name(name) => Resource::new(unknown(&context.scope, name), context.account()),
        SecretId::Arn { account, .. } => Resource::new(text, *account),
    }
}

/// The ARN of a secret whose random characters nobody knows.
fn unknown(scope: &Scope, name: &str) -> String {
    records::arn(scope, name, "??????")
}

fn secret(secrets: &SecretsManager, request: &Request<'_>) -> (Resource, Check) {
    let id = request.text("SecretId").unwrap_or_default();
    let resource = secret_resource(secrets, request.context, id);
    let check = request.on([resource.clone()]).with("secretsmanager:SecretId", id);
    (resource, check)
}

fn on_secret(secrets: &SecretsManager, request: &Request<'_>) -> Answer {
    Ok(secret(secrets, request).1.into())
}

/// `secretsmanager:GetSecretValue` on one secret.
pub fn value_check(
    secrets: &SecretsManager,
    context: &RequestContext,
    id: &str,
    wanted: Wanted<'_>,
) -> Check {
    let check = Check {
        action: "secretsmanager:GetSecretValue".into(),
        resources: vec![secret_resource(secrets, context, id)],
        keys: Vec::new(),
    };
    // Who names neither gets the current version, and policies may ask for just that.
    let stage = wanted.version_stage.or(wanted.version_id.is_none().then_some("AWSCURRENT"));
    check
        .with("secretsmanager:SecretId", id)
        .with_some("secretsmanager:VersionId", wanted.version_id)
        .with_some("secretsmanager:VersionStage", stage)
}

fn get_secret_value(secrets: &SecretsManager, request: &Request<'_>) -> Answer {
    let input: &types::GetSecretValueRequest = request.input()?;
    let wanted =
        Wanted { version_id: input.version_id.as_deref(), version_stage: input.version_stage.as_deref() };
    Ok(value_check(secrets, request.context, &input.secret_id, wanted).into())
}

/// Each secret of the batch is asked for by itself, and tells its own error.
fn batch_get_secret_value(_: &SecretsManager, request: &Request<'_>) -> Answer {
    let input: &types::BatchGetSecretValueRequest = request.input()?;
    let mut checks = vec![request.on_any()];
    if input.filters.is_some() {
        checks.push(request.action("secretsmanager:ListSecrets", [request.any()]));
    }
    Ok(checks.into())
}

/// `secretsmanager:KmsKeyId` as it was given and `secretsmanager:KmsKeyArn` in full.
fn with_key(check: Check, given: Option<&str>, scope: &Scope) -> Check {
    let key = sealing::key_name(given, scope).ok().flatten();
    check
        .with_some("secretsmanager:KmsKeyId", given)
        .with_some("secretsmanager:KmsKeyArn", key.map(|key| key.arn))
}

fn text(flag: bool) -> &'static str {
    if flag { "true" } else { "false" }
}

fn with_replicas(check: Check, given: Option<&[types::ReplicaRegionType]>, force: Option<bool>) -> Check {
    let regions: Vec<String> =
        given.unwrap_or_default().iter().filter_map(|replica| replica.region.clone()).collect();
    let check =
        if regions.is_empty() { check } else { check.with_many("secretsmanager:AddReplicaRegions", regions) };
    check.with_some("secretsmanager:ForceOverwriteReplicaSecret", force.map(text))
}

fn create_secret(_: &SecretsManager, request: &Request<'_>) -> Answer {
    let input: &types::CreateSecretRequest = request.input()?;
    let scope = &request.context.scope;
    let new = Resource::new(unknown(scope, &input.name), request.context.account());
    let tags = request.tags("Tags");
    let check = request
        .on([new.clone()])
        .with("secretsmanager:Name", input.name.as_str())
        .with_some("secretsmanager:Description", input.description.as_deref())
        .with_request_tags(&tags);
    let check = with_key(check, input.kms_key_id.as_deref(), scope);
    let replicas = input.add_replica_regions.as_deref();
    let mut checks = vec![with_replicas(check, replicas, input.force_overwrite_replica_secret)];
    if !tags.is_empty() {
        checks.push(request.action("secretsmanager:TagResource", [new.clone()]).with_request_tags(&tags));
    }
    if replicas.is_some() {
        let check = request.action("secretsmanager:ReplicateSecretToRegions", [new]);
        checks.push(with_replicas(check, replicas, input.force_overwrite_replica_secret));
    }
    Ok(checks.into())
}

fn delete_secret(secrets: &SecretsManager, request: &Request<'_>) -> Answer {
    let input: &types::DeleteSecretRequest = request.input()?;
    let (_, check) = secret(secrets, request);
    let days = input.recovery_window_in_days.map(|days| days.to_string());
    let force = input.force_delete_without_recovery.map(text);
    Ok(check
        .with_some("secretsmanager:RecoveryWindowInDays", days)
        .with_some("secretsmanager:ForceDeleteWithoutRecovery", force)
        .into())
}

fn put_resource_policy(secrets: &SecretsManager, request: &Request<'_>) -> Answer {
    let input: &types::PutResourcePolicyRequest = request.input()?;
    let (_, check) = secret(secrets, request);
    Ok(check.with_some("secretsmanager:BlockPublicPolicy", input.block_public_policy.map(text)).into())
}

fn validate_resource_policy(secrets: &SecretsManager, request: &Request<'_>) -> Answer {
    if request.text("SecretId").is_none() {
        return Ok(vec![
            request.on_any(),
            request.action("secretsmanager:PutResourcePolicy", [request.any()]),
        ]
        .into());
    }
    let (resource, check) = secret(secrets, request);
    Ok(vec![check, request.action("secretsmanager:PutResourcePolicy", [resource])].into())
}

fn replicate_secret_to_regions(secrets: &SecretsManager, request: &Request<'_>) -> Answer {
    let input: &types::ReplicateSecretToRegionsRequest = request.input()?;
    let (_, check) = secret(secrets, request);
    let regions = Some(input.add_replica_regions.as_slice());
    Ok(with_replicas(check, regions, input.force_overwrite_replica_secret).into())
}

fn tag_resource(secrets: &SecretsManager, request: &Request<'_>) -> Answer {
    Ok(secret(secrets, request).1.with_request_tags(&request.tags("Tags")).into())
}

fn untag_resource(secrets: &SecretsManager, request: &Request<'_>) -> Answer {
    let keys: Vec<String> = request.texts("TagKeys").into_iter().map(ToOwned::to_owned).collect();
    Ok(secret(secrets, request).1.with_tag_keys(keys).into())
}

fn update_secret(secrets: &SecretsManager, request: &Request<'_>) -> Answer {
    let input: &types::UpdateSecretRequest = request.input()?;
    let (_, check) = secret(secrets, request);
    let check = check.with_some("secretsmanager:Description", input.description.as_deref());
    Ok(with_key(check, input.kms_key_id.as_deref(), &request.context.scope).into())
}

fn update_secret_version_stage(secrets: &SecretsManager, request: &Request<'_>) -> Answer {
    let input: &types::UpdateSecretVersionStageRequest = request.input()?;
    let (_, check) = secret(secrets, request);
    Ok(check.with("secretsmanager:VersionStage", input.version_stage.as_str()).into())
}
