//! Managed policies (API Reference: CreatePolicy, GetPolicy, ListPolicies, DeletePolicy). Their
//! versions are in `policy_version`.

use std::sync::Arc;

use wharf_core::{ApiError, RequestContext};
use wharf_iam_api::{errors, types};

use super::attachment::policy_place;
use crate::describe::{self, Detail};
use crate::document::{self, Kind};
use crate::find::{self, AnyPolicy};
use crate::pages::page;
use crate::records::{Policy, PolicyVersion};
use crate::{Iam, failures, ids, managed, names, tags};

/// "Customer managed policies in an AWS account" of the IAM quotas.
pub const POLICIES_MAX: usize = 1500;
/// The size of a managed policy in characters without white space.
pub const POLICY_CHARS_MAX: usize = 6144;

/// A document that may be a version of a managed policy.
///
/// # Errors
/// `MalformedPolicyDocument`; `LimitExceeded` when it is too long.
pub fn managed_document(text: &str) -> Result<Arc<str>, ApiError> {
    if document::size(text) > POLICY_CHARS_MAX {
        return Err(failures::quota("PolicySize", POLICY_CHARS_MAX));
    }
    document::checked(Kind::Identity, text)
}

impl Iam {
    pub(super) async fn create_policy(
        &self,
        context: &RequestContext,
        input: types::CreatePolicyRequest,
    ) -> Result<types::CreatePolicyResponse, ApiError> {
        let account = context.account();
        let tags = tags::of_new(input.tags)?;
        let document = managed_document(&input.policy_document)?;
        let id = ids::unique(ids::POLICY, &*self.rng);
        let described = self
            .change(|transaction| {
                if find::named::<Policy>(transaction, account, &input.policy_name).is_some() {
                    return Err(errors::entity_already_exists_exception(format!(
                        "A policy called {} already exists. Duplicate names are not allowed.",
                        input.policy_name
                    )));
                }
                if find::all::<Policy, _>(transaction, account).count() >= POLICIES_MAX {
                    return Err(failures::quota("PoliciesPerAccount", POLICIES_MAX));
                }
                let policy = Policy {
                    account,
                    id,
                    name: input.policy_name,
                    path: input.path.unwrap_or_else(|| names::ROOT_PATH.to_owned()),
                    description: input.description,
                    created_at: context.now,
                    updated_at: context.now,
                    default_version: 1,
                    next_version: 2,
                    versions: vec![PolicyVersion { number: 1, created_at: context.now, document }],
                    tags,
                };
                transaction.put(policy.clone());
                let policy = AnyPolicy::Customer(Arc::new(policy));
                Ok(describe::policy(transaction, context.partition(), account, &policy, Detail::Full))
            })
            .await?;
        Ok(types::CreatePolicyResponse { policy: Some(described) })
    }

    pub(super) async fn get_policy(
        &self,
        context: &RequestContext,
        input: types::GetPolicyRequest,
    ) -> Result<types::GetPolicyResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let policy = find::policy_by_arn(&snapshot, context, &input.policy_arn, failures::no_policy)?;
        let described =
            describe::policy(&snapshot, context.partition(), context.account(), &policy, Detail::Full);
        Ok(types::GetPolicyResponse { policy: Some(described) })
    }

    pub(super) async fn list_policies(
        &self,
        context: &RequestContext,
        input: types::ListPoliciesRequest,
    ) -> Result<types::ListPoliciesResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let account = context.account();
        let (customer, aws) = match input.scope {
            Some(types::PolicyScopeType::Local) => (true, false),
            Some(types::PolicyScopeType::Aws) => (false, true),
            _ => (true, true),
        };
        let mut policies = Vec::new();
        if customer {
            policies.extend(find::all::<Policy, _>(&snapshot, account).map(AnyPolicy::Customer));
        }
        if aws {
            policies.extend(managed::all().iter().map(AnyPolicy::Aws));
        }
        let used = |policy: &AnyPolicy| {
            let name = policy.full_name();
            let attached = || find::attachments(&snapshot, account, &name) > 0;
            let boundary = || find::boundary_uses(&snapshot, account, &name) > 0;
            match input.policy_usage_filter {
                Some(types::PolicyUsageType::PermissionsPolicy) => attached(),
                Some(types::PolicyUsageType::PermissionsBoundary) => boundary(),
                _ => input.only_attached != Some(true) || attached(),
            }
        };
        policies.retain(|policy| names::under(policy.path(), input.path_prefix.as_deref()) && used(policy));
        policies.sort_by_cached_key(policy_place);
        let page = page(policies, policy_place, input.marker.as_deref(), input.max_items)?
            .map(|policy| describe::policy(&snapshot, context.partition(), account, &policy, Detail::Listed));
        Ok(types::ListPoliciesResponse {
            policies: Some(page.items),
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    pub(super) async fn delete_policy(
        &self,
        context: &RequestContext,
        input: types::DeletePolicyRequest,
    ) -> Result<(), ApiError> {
        let account = context.account();
        self.change(|transaction| {
            let policy = find::policy_by_arn(transaction, context, &input.policy_arn, failures::no_policy)?
                .customer("DeletePolicy", &input.policy_arn)?;
            let name = policy.full_name();
            let used = find::attachments(transaction, account, &name)
                + find::boundary_uses(transaction, account, &name);
            if used > 0 {
                return Err(errors::delete_conflict_exception(
                    "Cannot delete a policy attached to entities.",
                ));
            }
            if policy.versions.len() > 1 {
                return Err(errors::delete_conflict_exception(
                    "This policy has more than one version. Before you delete a policy, you must delete the \
                     policy's versions. The default version is deleted with the policy.",
                ));
            }
            transaction.delete::<Policy>(&(account, policy.id.clone()));
            Ok(())
        })
        .await
    }
}
