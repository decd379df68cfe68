//! Tags of users, roles, policies and instance profiles (API Reference: Tag…, Untag…, List…Tags).

use wharf_core::{ApiError, RequestContext};
use wharf_iam_api::types;

use crate::pages::{Page, page};
use crate::records::{Role, Tags, User};
use crate::{Iam, failures, find, tags};

/// What is done to tags.
pub enum Change {
    Add(Vec<types::Tag>),
    Remove(Vec<String>),
}

impl Change {
    pub fn apply(self, all: &mut Tags) -> Result<(), ApiError> {
        match self {
            Self::Add(new) => tags::add(all, new),
            Self::Remove(keys) => {
                tags::remove(all, &keys);
                Ok(())
            }
        }
    }
}

pub fn paged(all: &Tags, marker: Option<&str>, max_items: Option<i32>) -> Result<Page<types::Tag>, ApiError> {
    page(tags::listed(all), |tag| tag.key.clone(), marker, max_items)
}

impl Iam {
    pub(super) async fn tag_user(
        &self,
        context: &RequestContext,
        input: types::TagUserRequest,
    ) -> Result<(), ApiError> {
        self.change_user_tags(context, &input.user_name, Change::Add(input.tags)).await
    }

    pub(super) async fn untag_user(
        &self,
        context: &RequestContext,
        input: types::UntagUserRequest,
    ) -> Result<(), ApiError> {
        self.change_user_tags(context, &input.user_name, Change::Remove(input.tag_keys)).await
    }

    async fn change_user_tags(
        &self,
        context: &RequestContext,
        name: &str,
        change: Change,
    ) -> Result<(), ApiError> {
        self.change(|transaction| {
            let mut user = User::clone(&*find::user(transaction, context.account(), name)?);
            change.apply(&mut user.tags)?;
            transaction.put(user);
            Ok(())
        })
        .await
    }

    pub(super) async fn list_user_tags(
        &self,
        context: &RequestContext,
        input: types::ListUserTagsRequest,
    ) -> Result<types::ListUserTagsResponse, ApiError> {
        let user = find::user(&self.store.snapshot(), context.account(), &input.user_name)?;
        let page = paged(&user.tags, input.marker.as_deref(), input.max_items)?;
        Ok(types::ListUserTagsResponse {
            tags: page.items,
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    pub(super) async fn tag_role(
        &self,
        context: &RequestContext,
        input: types::TagRoleRequest,
    ) -> Result<(), ApiError> {
        self.change_role_tags(context, &input.role_name, Change::Add(input.tags)).await
    }

    pub(super) async fn untag_role(
        &self,
        context: &RequestContext,
        input: types::UntagRoleRequest,
    ) -> Result<(), ApiError> {
        self.change_role_tags(context, &input.role_name, Change::Remove(input.tag_keys)).await
    }

    /// Service-linked roles may be tagged, too.
    async fn change_role_tags(
        &self,
        context: &RequestContext,
        name: &str,
        change: Change,
    ) -> Result<(), ApiError> {
        self.change(|transaction| {
            let mut role = Role::clone(&*find::role(transaction, context.account(), name)?);
            change.apply(&mut role.tags)?;
            transaction.put(role);
            Ok(())
        })
        .await
    }

    pub(super) async fn list_role_tags(
        &self,
        context: &RequestContext,
        input: types::ListRoleTagsRequest,
    ) -> Result<types::ListRoleTagsResponse, ApiError> {
        let role = find::role(&self.store.snapshot(), context.account(), &input.role_name)?;
        let page = paged(&role.tags, input.marker.as_deref(), input.max_items)?;
        Ok(types::ListRoleTagsResponse {
            tags: page.items,
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    pub(super) async fn tag_policy(
        &self,
        context: &RequestContext,
        input: types::TagPolicyRequest,
    ) -> Result<(), ApiError> {
        let change = Change::Add(input.tags);
        self.change_policy(context, "TagPolicy", &input.policy_arn, |policy| change.apply(&mut policy.tags))
            .await
    }

    pub(super) async fn untag_policy(
        &self,
        context: &RequestContext,
        input: types::UntagPolicyRequest,
    ) -> Result<(), ApiError> {
        let change = Change::Remove(input.tag_keys);
        self.change_policy(context, "UntagPolicy", &input.policy_arn, |policy| change.apply(&mut policy.tags))
            .await
    }

    pub(super) async fn list_policy_tags(
        &self,
        context: &RequestContext,
        input: types::ListPolicyTagsRequest,
    ) -> Result<types::ListPolicyTagsResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let policy = find::policy_by_arn(&snapshot, context, &input.policy_arn, failures::no_policy)?;
        let tags = match &policy {
            find::AnyPolicy::Customer(policy) => policy.tags.clone(),
            find::AnyPolicy::Aws(_) => Tags::new(),
        };
        let page = paged(&tags, input.marker.as_deref(), input.max_items)?;
        Ok(types::ListPolicyTagsResponse {
            tags: page.items,
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    pub(super) async fn tag_instance_profile(
        &self,
        context: &RequestContext,
        input: types::TagInstanceProfileRequest,
    ) -> Result<(), ApiError> {
        let change = Change::Add(input.tags);
        self.change_instance_profile(context, &input.instance_profile_name, |_, profile| {
            change.apply(&mut profile.tags)
        })
        .await
    }

    pub(super) async fn untag_instance_profile(
        &self,
        context: &RequestContext,
        input: types::UntagInstanceProfileRequest,
    ) -> Result<(), ApiError> {
        let change = Change::Remove(input.tag_keys);
        self.change_instance_profile(context, &input.instance_profile_name, |_, profile| {
            change.apply(&mut profile.tags)
        })
        .await
    }

    pub(super) async fn list_instance_profile_tags(
        &self,
        context: &RequestContext,
        input: types::ListInstanceProfileTagsRequest,
    ) -> Result<types::ListInstanceProfileTagsResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let profile = find::instance_profile(&snapshot, context.account(), &input.instance_profile_name)?;
        let page = paged(&profile.tags, input.marker.as_deref(), input.max_items)?;
        Ok(types::ListInstanceProfileTagsResponse {
            tags: page.items,
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }
}
