//! Managed policies attached to users, groups and roles (API Reference: Attach…Policy,
//! Detach…Policy, ListAttached…Policies, ListEntitiesForPolicy).

use wharf_core::{ApiError, RequestContext};
use wharf_iam_api::{errors, types};
use wharf_state::Key as _;

use super::role::SERVICE_LINKED_PATH;
use crate::find::AnyPolicy;
use crate::holder::Holder;
use crate::pages::{Page, page};
use crate::records::{BY_ATTACHED, BY_BOUNDARY, Group, Role, User, folded};
use crate::{Iam, describe, failures, find, names};

/// "Managed policies attached to an IAM user", group, role: the default of each.
pub const ATTACHED_MAX: usize = 10;

impl Iam {
    pub(super) async fn attach_user_policy(
        &self,
        context: &RequestContext,
        input: types::AttachUserPolicyRequest,
    ) -> Result<(), ApiError> {
        self.attach::<User>(context, &input.user_name, &input.policy_arn).await
    }

    pub(super) async fn attach_group_policy(
        &self,
        context: &RequestContext,
        input: types::AttachGroupPolicyRequest,
    ) -> Result<(), ApiError> {
        self.attach::<Group>(context, &input.group_name, &input.policy_arn).await
    }

    pub(super) async fn attach_role_policy(
        &self,
        context: &RequestContext,
        input: types::AttachRolePolicyRequest,
    ) -> Result<(), ApiError> {
        self.attach::<Role>(context, &input.role_name, &input.policy_arn).await
    }

    pub(super) async fn detach_user_policy(
        &self,
        context: &RequestContext,
        input: types::DetachUserPolicyRequest,
    ) -> Result<(), ApiError> {
        self.detach::<User>(context, &input.user_name, &input.policy_arn).await
    }

    pub(super) async fn detach_group_policy(
        &self,
        context: &RequestContext,
        input: types::DetachGroupPolicyRequest,
    ) -> Result<(), ApiError> {
        self.detach::<Group>(context, &input.group_name, &input.policy_arn).await
    }

    pub(super) async fn detach_role_policy(
        &self,
        context: &RequestContext,
        input: types::DetachRolePolicyRequest,
    ) -> Result<(), ApiError> {
        self.detach::<Role>(context, &input.role_name, &input.policy_arn).await
    }

    pub(super) async fn list_attached_user_policies(
        &self,
        context: &RequestContext,
        input: types::ListAttachedUserPoliciesRequest,
    ) -> Result<types::ListAttachedUserPoliciesResponse, ApiError> {
        let paging = (input.marker.as_deref(), input.max_items);
        let page = self.attached::<User>(context, &input.user_name, input.path_prefix.as_deref(), paging)?;
        Ok(types::ListAttachedUserPoliciesResponse {
            attached_policies: Some(page.items),
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    pub(super) async fn list_attached_group_policies(
        &self,
        context: &RequestContext,
        input: types::ListAttachedGroupPoliciesRequest,
    ) -> Result<types::ListAttachedGroupPoliciesResponse, ApiError> {
        let paging = (input.marker.as_deref(), input.max_items);
        let page =
            self.attached::<Group>(context, &input.group_name, input.path_prefix.as_deref(), paging)?;
        Ok(types::ListAttachedGroupPoliciesResponse {
            attached_policies: Some(page.items),
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    pub(super) async fn list_attached_role_policies(
        &self,
        context: &RequestContext,
        input: types::ListAttachedRolePoliciesRequest,
    ) -> Result<types::ListAttachedRolePoliciesResponse, ApiError> {
        let paging = (input.marker.as_deref(), input.max_items);
        let page = self.attached::<Role>(context, &input.role_name, input.path_prefix.as_deref(), paging)?;
        Ok(types::ListAttachedRolePoliciesResponse {
            attached_policies: Some(page.items),
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    /// Attaching what is attached already succeeds.
    async fn attach<H: Holder>(
        &self,
        context: &RequestContext,
        name: &str,
        arn: &str,
    ) -> Result<(), ApiError> {
        self.change(|transaction| {
            let mut holder = H::clone(&*H::find_own(transaction, context.account(), name)?);
            let policy = find::policy_by_arn(transaction, context, arn, failures::not_attachable)?;
            if matches!(policy, AnyPolicy::Aws(_)) && policy.path().starts_with(SERVICE_LINKED_PATH) {
                return Err(errors::policy_not_attachable_exception(
                    "Cannot attach a Service Role Policy to a Customer Role.",
                ));
            }
            let attached = &mut holder.policies_mut().attached;
            if attached.insert(policy.full_name()) {
                if attached.len() > ATTACHED_MAX {
                    return Err(failures::quota(H::ATTACHED_QUOTA, ATTACHED_MAX));
                }
                transaction.put(holder);
            }
            Ok(())
        })
        .await
    }

    async fn detach<H: Holder>(
        &self,
        context: &RequestContext,
        name: &str,
        arn: &str,
    ) -> Result<(), ApiError> {
        self.change(|transaction| {
            let mut holder = H::clone(&*H::find_own(transaction, context.account(), name)?);
            let policy = find::policy_by_arn(transaction, context, arn, failures::no_policy)?;
            if !holder.policies_mut().attached.remove(&policy.full_name()) {
                return Err(failures::no_policy(arn));
            }
            transaction.put(holder);
            Ok(())
        })
        .await
    }

    fn attached<H: Holder>(
        &self,
        context: &RequestContext,
        name: &str,
        prefix: Option<&str>,
        (marker, max_items): (Option<&str>, Option<i32>),
    ) -> Result<Page<types::AttachedPolicy>, ApiError> {
        let snapshot = self.store.snapshot();
        let holder = H::find(&snapshot, context.account(), name)?;
        let mut policies: Vec<AnyPolicy> = holder
            .policies()
            .attached
            .iter()
            .filter_map(|policy| find::policy(&snapshot, context.account(), policy))
            .filter(|policy| names::under(policy.path(), prefix))
            .collect();
        policies.sort_by_cached_key(policy_place);
        let page = page(policies, policy_place, marker, max_items)?;
        Ok(page.map(|policy| describe::attached(context.partition(), &policy.full_name())))
    }

    pub(super) async fn list_entities_for_policy(
        &self,
        context: &RequestContext,
        input: types::ListEntitiesForPolicyRequest,
    ) -> Result<types::ListEntitiesForPolicyResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let account = context.account();
        let policy = find::policy_by_arn(&snapshot, context, &input.policy_arn, failures::no_policy)?;
        let key = (account, policy.full_name().0).to_bytes();
        let indexes: &[&str] = match input.policy_usage_filter {
            Some(types::PolicyUsageType::PermissionsPolicy) => &[BY_ATTACHED],
            Some(types::PolicyUsageType::PermissionsBoundary) => &[BY_BOUNDARY],
            _ => &[BY_ATTACHED, BY_BOUNDARY],
        };
        let wanted = |kind| input.entity_filter.as_ref().is_none_or(|filter| *filter == kind);
        let under = |path: &str| names::under(path, input.path_prefix.as_deref());
        let mut entities = Vec::new();
        for index in indexes {
            // A group has no boundary.
            if wanted(types::EntityType::Group) && *index == BY_ATTACHED {
                let groups = snapshot.index::<Group>(index, &key).filter(|group| under(&group.path));
                entities.extend(groups.map(|group| Entity::Group(group.name.clone(), group.id.clone())));
            }
            if wanted(types::EntityType::User) {
                let users = snapshot.index::<User>(index, &key).filter(|user| under(&user.path));
                entities.extend(users.map(|user| Entity::User(user.name.clone(), user.id.clone())));
            }
            if wanted(types::EntityType::Role) {
                let roles = snapshot.index::<Role>(index, &key).filter(|role| under(&role.path));
                entities.extend(roles.map(|role| Entity::Role(role.name.clone(), role.id.clone())));
            }
        }
        entities.sort_by_cached_key(Entity::place);
        entities.dedup_by_key(|entity| entity.place());
        let page = page(entities, Entity::place, input.marker.as_deref(), input.max_items)?;
        let (mut groups, mut users, mut roles) = (Vec::new(), Vec::new(), Vec::new());
        for entity in page.items {
            match entity {
                Entity::Group(name, id) => {
                    groups.push(types::PolicyGroup { group_name: Some(name), group_id: Some(id) });
                }
                Entity::User(name, id) => {
                    users.push(types::PolicyUser { user_name: Some(name), user_id: Some(id) });
                }
                Entity::Role(name, id) => {
                    roles.push(types::PolicyRole { role_name: Some(name), role_id: Some(id) });
                }
            }
        }
        Ok(types::ListEntitiesForPolicyResponse {
            policy_groups: Some(groups),
            policy_users: Some(users),
            policy_roles: Some(roles),
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }
}

/// Something that a policy is attached to: its name and id.
enum Entity {
    Group(String, String),
    User(String, String),
    Role(String, String),
}

impl Entity {
    fn place(&self) -> String {
        match self {
            Self::Group(name, _) => format!("0{}", folded(name)),
            Self::User(name, _) => format!("1{}", folded(name)),
            Self::Role(name, _) => format!("2{}", folded(name)),
        }
    }
}

/// Where a managed policy stands in a listing: AWS may have one of the same name.
pub fn policy_place(policy: &AnyPolicy) -> String {
    match policy {
        AnyPolicy::Customer(of) => format!("{}\0customer", folded(&of.name)),
        AnyPolicy::Aws(of) => format!("{}\0aws", folded(&of.name)),
    }
}
