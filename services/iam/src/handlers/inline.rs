//! Inline policies of users, groups and roles (API Reference: Put…Policy, Get…Policy, Delete…Policy,
//! List…Policies).

use std::sync::Arc;

use wharf_core::{ApiError, RequestContext};
use wharf_iam_api::{errors, types};

use crate::Iam;
use crate::document::{self, Kind};
use crate::holder::Holder;
use crate::pages::{Page, page};
use crate::records::{Group, Role, User};

impl Iam {
    pub(super) async fn put_user_policy(
        &self,
        context: &RequestContext,
        input: types::PutUserPolicyRequest,
    ) -> Result<(), ApiError> {
        self.put_inline::<User>(context, &input.user_name, input.policy_name, &input.policy_document).await
    }

    pub(super) async fn put_group_policy(
        &self,
        context: &RequestContext,
        input: types::PutGroupPolicyRequest,
    ) -> Result<(), ApiError> {
        self.put_inline::<Group>(context, &input.group_name, input.policy_name, &input.policy_document).await
    }

    pub(super) async fn put_role_policy(
        &self,
        context: &RequestContext,
        input: types::PutRolePolicyRequest,
    ) -> Result<(), ApiError> {
        self.put_inline::<Role>(context, &input.role_name, input.policy_name, &input.policy_document).await
    }

    pub(super) async fn get_user_policy(
        &self,
        context: &RequestContext,
        input: types::GetUserPolicyRequest,
    ) -> Result<types::GetUserPolicyResponse, ApiError> {
        let (user, document) = self.inline::<User>(context, &input.user_name, &input.policy_name)?;
        Ok(types::GetUserPolicyResponse {
            user_name: user.name.clone(),
            policy_name: input.policy_name,
            policy_document: document,
        })
    }

    pub(super) async fn get_group_policy(
        &self,
        context: &RequestContext,
        input: types::GetGroupPolicyRequest,
    ) -> Result<types::GetGroupPolicyResponse, ApiError> {
        let (group, document) = self.inline::<Group>(context, &input.group_name, &input.policy_name)?;
        Ok(types::GetGroupPolicyResponse {
            group_name: group.name.clone(),
            policy_name: input.policy_name,
            policy_document: document,
        })
    }

    pub(super) async fn get_role_policy(
        &self,
        context: &RequestContext,
        input: types::GetRolePolicyRequest,
    ) -> Result<types::GetRolePolicyResponse, ApiError> {
        let (role, document) = self.inline::<Role>(context, &input.role_name, &input.policy_name)?;
        Ok(types::GetRolePolicyResponse {
            role_name: role.name.clone(),
            policy_name: input.policy_name,
            policy_document: document,
        })
    }

    pub(super) async fn delete_user_policy(
        &self,
        context: &RequestContext,
        input: types::DeleteUserPolicyRequest,
    ) -> Result<(), ApiError> {
        self.delete_inline::<User>(context, &input.user_name, &input.policy_name).await
    }

    pub(super) async fn delete_group_policy(
        &self,
        context: &RequestContext,
        input: types::DeleteGroupPolicyRequest,
    ) -> Result<(), ApiError> {
        self.delete_inline::<Group>(context, &input.group_name, &input.policy_name).await
    }

    pub(super) async fn delete_role_policy(
        &self,
        context: &RequestContext,
        input: types::DeleteRolePolicyRequest,
    ) -> Result<(), ApiError> {
        self.delete_inline::<Role>(context, &input.role_name, &input.policy_name).await
    }

    pub(super) async fn list_user_policies(
        &self,
        context: &RequestContext,
        input: types::ListUserPoliciesRequest,
    ) -> Result<types::ListUserPoliciesResponse, ApiError> {
        let page =
            self.inline_names::<User>(context, &input.user_name, input.marker.as_deref(), input.max_items)?;
        Ok(types::ListUserPoliciesResponse {
            policy_names: page.items,
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    pub(super) async fn list_group_policies(
        &self,
        context: &RequestContext,
        input: types::ListGroupPoliciesRequest,
    ) -> Result<types::ListGroupPoliciesResponse, ApiError> {
        let page =
            self.inline_names::<Group>(context, &input.group_name, input.marker.as_deref(), input.max_items)?;
        Ok(types::ListGroupPoliciesResponse {
            policy_names: page.items,
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    pub(super) async fn list_role_policies(
        &self,
        context: &RequestContext,
        input: types::ListRolePoliciesRequest,
    ) -> Result<types::ListRolePoliciesResponse, ApiError> {
        let page =
            self.inline_names::<Role>(context, &input.role_name, input.marker.as_deref(), input.max_items)?;
        Ok(types::ListRolePoliciesResponse {
            policy_names: page.items,
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    async fn put_inline<H: Holder>(
        &self,
        context: &RequestContext,
        name: &str,
        policy: String,
        text: &str,
    ) -> Result<(), ApiError> {
        let text = document::checked(Kind::Identity, text)?;
        self.change(|transaction| {
            let mut holder = H::clone(&*H::find_own(transaction, context.account(), name)?);
            let inline = &mut holder.policies_mut().inline;
            inline.insert(policy, text);
            if inline.values().map(|text| document::size(text)).sum::<usize>() > H::INLINE_CHARS_MAX {
                return Err(errors::limit_exceeded_exception(format!(
                    "Maximum policy size of {} bytes exceeded for {} {}",
                    H::INLINE_CHARS_MAX,
                    H::NOUN,
                    holder.name()
                )));
            }
            transaction.put(holder);
            Ok(())
        })
        .await
    }

    fn inline<H: Holder>(
        &self,
        context: &RequestContext,
        name: &str,
        policy: &str,
    ) -> Result<(Arc<H>, String), ApiError> {
        let holder = H::find(&self.store.snapshot(), context.account(), name)?;
        let text = holder.policies().inline.get(policy).ok_or_else(|| no_inline::<H>(policy))?;
        let text = document::encoded(text);
        Ok((holder, text))
    }

    async fn delete_inline<H: Holder>(
        &self,
        context: &RequestContext,
        name: &str,
        policy: &str,
    ) -> Result<(), ApiError> {
        self.change(|transaction| {
            let mut holder = H::clone(&*H::find_own(transaction, context.account(), name)?);
            if holder.policies_mut().inline.remove(policy).is_none() {
                return Err(no_inline::<H>(policy));
            }
            transaction.put(holder);
            Ok(())
        })
        .await
    }

    fn inline_names<H: Holder>(
        &self,
        context: &RequestContext,
        name: &str,
        marker: Option<&str>,
        max_items: Option<i32>,
    ) -> Result<Page<String>, ApiError> {
        let holder = H::find(&self.store.snapshot(), context.account(), name)?;
        let names: Vec<String> = holder.policies().inline.keys().cloned().collect();
        page(names, Clone::clone, marker, max_items)
    }
}

fn no_inline<H: Holder>(policy: &str) -> ApiError {
    errors::no_such_entity_exception(format!("The {} policy with name {policy} cannot be found.", H::NOUN))
}
