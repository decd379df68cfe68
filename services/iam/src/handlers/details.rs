//! Everything about everybody (API Reference: GetAccountAuthorizationDetails).

use wharf_core::{ApiError, Partition, RequestContext};
use wharf_iam_api::types;
use wharf_state::{Key as _, Snapshot};

use super::group::groups_of;
use crate::describe::{self, Detail, WithDocuments};
use crate::find::{self, AnyPolicy};
use crate::pages::page;
use crate::records::{BY_ROLE, Group, InstanceProfile, Policies, Policy, Role, User, folded};
use crate::{Iam, document, managed, names, tags};

/// One of what is listed, in the order of the listing.
enum Item {
    User(std::sync::Arc<User>),
    Group(std::sync::Arc<Group>),
    Role(std::sync::Arc<Role>),
    Policy(AnyPolicy),
}

impl Item {
    fn place(&self) -> String {
        match self {
            Self::User(user) => format!("0{}", folded(&user.name)),
            Self::Group(group) => format!("1{}", folded(&group.name)),
            Self::Role(role) => format!("2{}", folded(&role.name)),
            Self::Policy(AnyPolicy::Customer(policy)) => format!("3{}", folded(&policy.name)),
            Self::Policy(AnyPolicy::Aws(policy)) => format!("4{}", folded(&policy.name)),
        }
    }
}

impl Iam {
    /// Of AWS's policies, those that are attached or a boundary here.
    pub(super) async fn get_account_authorization_details(
        &self,
        context: &RequestContext,
        input: types::GetAccountAuthorizationDetailsRequest,
    ) -> Result<types::GetAccountAuthorizationDetailsResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let (account, partition) = (context.account(), context.partition());
        let filter = input.filter.unwrap_or_default();
        let wanted = |kind| filter.is_empty() || filter.contains(&kind);
        let mut items: Vec<Item> = Vec::new();
        if wanted(types::EntityType::User) {
            items.extend(find::all::<User, _>(&snapshot, account).map(Item::User));
        }
        if wanted(types::EntityType::Group) {
            items.extend(find::all::<Group, _>(&snapshot, account).map(Item::Group));
        }
        if wanted(types::EntityType::Role) {
            items.extend(find::all::<Role, _>(&snapshot, account).map(Item::Role));
        }
        if wanted(types::EntityType::LocalManagedPolicy) {
            let policies = find::all::<Policy, _>(&snapshot, account);
            items.extend(policies.map(|policy| Item::Policy(AnyPolicy::Customer(policy))));
        }
        if wanted(types::EntityType::AWSManagedPolicy) {
            let used = managed::all().iter().filter(|policy| {
                let name = policy.full_name();
                find::attachments(&snapshot, account, &name) + find::boundary_uses(&snapshot, account, &name)
                    > 0
            });
            items.extend(used.map(|policy| Item::Policy(AnyPolicy::Aws(policy))));
        }
        let page = page(items, Item::place, input.marker.as_deref(), input.max_items)?;
        let (mut users, mut groups, mut roles, mut policies) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for item in page.items {
            match item {
                Item::User(user) => users.push(user_detail(&snapshot, partition, &user)),
                Item::Group(group) => groups.push(group_detail(partition, &group)),
                Item::Role(role) => roles.push(self.role_detail(&snapshot, partition, &role)),
                Item::Policy(policy) => policies.push(policy_detail(&snapshot, context, &policy)),
            }
        }
        Ok(types::GetAccountAuthorizationDetailsResponse {
            user_detail_list: Some(users),
            group_detail_list: Some(groups),
            role_detail_list: Some(roles),
            policies: Some(policies),
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    fn role_detail(&self, snapshot: &Snapshot, partition: Partition, role: &Role) -> types::RoleDetail {
        let key = (role.account, role.id.clone()).to_bytes();
        let profiles = snapshot.index::<InstanceProfile>(BY_ROLE, &key);
        types::RoleDetail {
            arn: Some(describe::role_arn(partition, role)),
            assume_role_policy_document: Some(document::encoded(&role.trust_policy)),
            attached_managed_policies: Some(attached(partition, &role.policies)),
            create_date: Some(role.created_at),
            instance_profile_list: Some(
                profiles
                    .map(|profile| describe::instance_profile(snapshot, partition, &profile, Detail::Listed))
                    .collect(),
            ),
            path: Some(role.path.clone()),
            permissions_boundary: describe::boundary(partition, &role.policies),
            role_id: Some(role.id.clone()),
            role_last_used: Some(describe::last_used(
                self.uses_of(snapshot, role.account, &role.id).as_ref(),
            )),
            role_name: Some(role.name.clone()),
            role_policy_list: Some(describe::inline(&role.policies)),
            tags: Some(tags::listed(&role.tags)),
        }
    }
}

fn attached(partition: Partition, policies: &Policies) -> Vec<types::AttachedPolicy> {
    policies.attached.iter().map(|policy| describe::attached(partition, policy)).collect()
}

fn user_detail(snapshot: &Snapshot, partition: Partition, user: &User) -> types::UserDetail {
    types::UserDetail {
        arn: Some(find::user_arn(partition, user)),
        attached_managed_policies: Some(attached(partition, &user.policies)),
        create_date: Some(user.created_at),
        group_list: Some(groups_of(snapshot, user).iter().map(|group| group.name.clone()).collect()),
        path: Some(user.path.clone()),
        permissions_boundary: describe::boundary(partition, &user.policies),
        tags: Some(tags::listed(&user.tags)),
        user_id: Some(user.id.clone()),
        user_name: Some(user.name.clone()),
        user_policy_list: Some(describe::inline(&user.policies)),
    }
}

fn group_detail(partition: Partition, group: &Group) -> types::GroupDetail {
    types::GroupDetail {
        arn: Some(names::arn(partition, group.account, "group", &group.path, &group.name)),
        attached_managed_policies: Some(attached(partition, &group.policies)),
        create_date: Some(group.created_at),
        group_id: Some(group.id.clone()),
        group_name: Some(group.name.clone()),
        group_policy_list: Some(describe::inline(&group.policies)),
        path: Some(group.path.clone()),
    }
}

fn policy_detail(
    snapshot: &Snapshot,
    context: &RequestContext,
    policy: &AnyPolicy,
) -> types::ManagedPolicyDetail {
    let described = describe::policy(snapshot, context.partition(), context.account(), policy, Detail::Full);
    types::ManagedPolicyDetail {
        arn: described.arn,
        attachment_count: described.attachment_count,
        create_date: described.create_date,
        default_version_id: described.default_version_id,
        description: described.description,
        is_attachable: described.is_attachable,
        path: described.path,
        permissions_boundary_usage_count: described.permissions_boundary_usage_count,
        policy_id: described.policy_id,
        policy_name: described.policy_name,
        policy_version_list: Some(describe::versions(policy, WithDocuments::Yes)),
        update_date: described.update_date,
    }
}
