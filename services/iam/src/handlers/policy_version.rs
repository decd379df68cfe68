//! Versions of managed policies (API Reference: CreatePolicyVersion, GetPolicyVersion,
//! ListPolicyVersions, SetDefaultPolicyVersion, DeletePolicyVersion).

use wharf_core::{ApiError, RequestContext};
use wharf_iam_api::{errors, types};

use super::policy::managed_document;
use crate::describe::{self, WithDocuments};
use crate::pages::page;
use crate::records::{Policy, PolicyVersion};
use crate::{Iam, failures, find};

/// "Versions per managed policy" of the IAM quotas.
pub const VERSIONS_MAX: usize = 5;

impl Iam {
    pub(super) async fn create_policy_version(
        &self,
        context: &RequestContext,
        input: types::CreatePolicyVersionRequest,
    ) -> Result<types::CreatePolicyVersionResponse, ApiError> {
        let document = managed_document(&input.policy_document)?;
        let set_as_default = input.set_as_default == Some(true);
        let number = self
            .change_policy(context, "CreatePolicyVersion", &input.policy_arn, |policy| {
                if policy.versions.len() >= VERSIONS_MAX {
                    return Err(errors::limit_exceeded_exception(
                        "A managed policy can have up to 5 versions. Before you create a new version, you must \
                         delete an existing version.",
                    ));
                }
                let number = policy.next_version;
                policy.next_version += 1;
                policy.versions.push(PolicyVersion { number, created_at: context.now, document });
                policy.updated_at = context.now;
                if set_as_default {
                    policy.default_version = number;
                }
                Ok(number)
            })
            .await?;
        Ok(types::CreatePolicyVersionResponse {
            policy_version: Some(types::PolicyVersion {
                create_date: Some(context.now),
                document: None,
                is_default_version: Some(set_as_default),
                version_id: Some(describe::version_id(number)),
            }),
        })
    }

    pub(super) async fn get_policy_version(
        &self,
        context: &RequestContext,
        input: types::GetPolicyVersionRequest,
    ) -> Result<types::GetPolicyVersionResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let policy = find::policy_by_arn(&snapshot, context, &input.policy_arn, failures::no_policy)?;
        let version = describe::versions(&policy, WithDocuments::Yes)
            .into_iter()
            .find(|version| version.version_id.as_ref() == Some(&input.version_id))
            .ok_or_else(|| failures::no_policy_version(&input.policy_arn, &input.version_id))?;
        Ok(types::GetPolicyVersionResponse { policy_version: Some(version) })
    }

    pub(super) async fn list_policy_versions(
        &self,
        context: &RequestContext,
        input: types::ListPolicyVersionsRequest,
    ) -> Result<types::ListPolicyVersionsResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let policy = find::policy_by_arn(&snapshot, context, &input.policy_arn, failures::no_policy)?;
        let versions = describe::versions(&policy, WithDocuments::No);
        // The newest first: what comes behind has the smaller number.
        let place = |version: &types::PolicyVersion| {
            let number = version.version_id.as_deref().and_then(number_of).unwrap_or_default();
            format!("{:010}", u32::MAX - number)
        };
        let page = page(versions, place, input.marker.as_deref(), input.max_items)?;
        Ok(types::ListPolicyVersionsResponse {
            versions: Some(page.items),
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    pub(super) async fn set_default_policy_version(
        &self,
        context: &RequestContext,
        input: types::SetDefaultPolicyVersionRequest,
    ) -> Result<(), ApiError> {
        self.change_policy(context, "SetDefaultPolicyVersion", &input.policy_arn, |policy| {
            policy.default_version = existing(policy, &input.policy_arn, &input.version_id)?;
            policy.updated_at = context.now;
            Ok(())
        })
        .await
    }

    pub(super) async fn delete_policy_version(
        &self,
        context: &RequestContext,
        input: types::DeletePolicyVersionRequest,
    ) -> Result<(), ApiError> {
        self.change_policy(context, "DeletePolicyVersion", &input.policy_arn, |policy| {
            let number = existing(policy, &input.policy_arn, &input.version_id)?;
            if number == policy.default_version {
                return Err(errors::delete_conflict_exception(
                    "Cannot delete the default version of a policy.",
                ));
            }
            policy.versions.retain(|version| version.number != number);
            policy.updated_at = context.now;
            Ok(())
        })
        .await
    }

    pub(super) async fn change_policy<T>(
        &self,
        context: &RequestContext,
        action: &str,
        arn: &str,
        change: impl FnOnce(&mut Policy) -> Result<T, ApiError> + Send,
    ) -> Result<T, ApiError> {
        self.change(|transaction| {
            let policy = find::policy_by_arn(transaction, context, arn, failures::no_policy)?;
            let mut policy = Policy::clone(&*policy.customer(action, arn)?);
            let answer = change(&mut policy)?;
            transaction.put(policy);
            Ok(answer)
        })
        .await
    }
}

/// The number in `v12`.
fn number_of(version_id: &str) -> Option<u32> {
    version_id.strip_prefix('v')?.parse().ok()
}

fn existing(policy: &Policy, arn: &str, version_id: &str) -> Result<u32, ApiError> {
    number_of(version_id)
        .filter(|number| policy.version(*number).is_some())
        .ok_or_else(|| failures::no_policy_version(arn, version_id))
}
