//! Groups and who is in them (API Reference: CreateGroup, GetGroup, UpdateGroup, DeleteGroup,
//! ListGroups, ListGroupsForUser, AddUserToGroup, RemoveUserFromGroup).

use std::sync::Arc;

use wharf_core::{ApiError, RequestContext};
use wharf_iam_api::{errors, types};
use wharf_state::Key as _;

use crate::describe::{self, Detail};
use crate::find::{self, Read};
use crate::pages::page;
use crate::records::{BY_GROUP, Group, Policies, User, folded};
use crate::{Iam, failures, ids, names};

/// "Groups in an AWS account" of the IAM quotas.
pub const GROUPS_MAX: usize = 300;
/// "IAM groups an IAM user can be a member of".
pub const GROUPS_PER_USER_MAX: usize = 10;

/// The users of a group, in the order of their names.
pub fn members(read: &impl Read, group: &Group) -> Vec<Arc<User>> {
    let key = (group.account, group.id.clone()).to_bytes();
    let mut users: Vec<_> = read.indexed::<User>(BY_GROUP, &key).collect();
    users.sort_by_cached_key(|user| folded(&user.name));
    users
}

/// The groups of a user, in the order of their names.
pub fn groups_of(read: &impl Read, user: &User) -> Vec<Arc<Group>> {
    let mut groups: Vec<_> =
        user.groups.iter().filter_map(|id| read.record::<Group>(&(user.account, id.clone()))).collect();
    groups.sort_by_cached_key(|group| folded(&group.name));
    groups
}

impl Iam {
    pub(super) async fn create_group(
        &self,
        context: &RequestContext,
        input: types::CreateGroupRequest,
    ) -> Result<types::CreateGroupResponse, ApiError> {
        let account = context.account();
        let id = ids::unique(ids::GROUP, &*self.rng);
        let group = self
            .change(|transaction| {
                if find::named::<Group>(transaction, account, &input.group_name).is_some() {
                    return Err(exists(&input.group_name));
                }
                if find::all::<Group, _>(transaction, account).count() >= GROUPS_MAX {
                    return Err(failures::quota("GroupsPerAccount", GROUPS_MAX));
                }
                let group = Group {
                    account,
                    id,
                    name: input.group_name,
                    path: input.path.unwrap_or_else(|| names::ROOT_PATH.to_owned()),
                    created_at: context.now,
                    policies: Policies::default(),
                };
                transaction.put(group.clone());
                Ok(group)
            })
            .await?;
        Ok(types::CreateGroupResponse { group: describe::group(context.partition(), &group) })
    }

    pub(super) async fn get_group(
        &self,
        context: &RequestContext,
        input: types::GetGroupRequest,
    ) -> Result<types::GetGroupResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let group = find::group(&snapshot, context.account(), &input.group_name)?;
        let users = members(&snapshot, &group);
        let page = page(users, |user| folded(&user.name), input.marker.as_deref(), input.max_items)?
            .map(|user| describe::user(context.partition(), &user, Detail::Listed));
        Ok(types::GetGroupResponse {
            group: describe::group(context.partition(), &group),
            users: page.items,
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    pub(super) async fn list_groups(
        &self,
        context: &RequestContext,
        input: types::ListGroupsRequest,
    ) -> Result<types::ListGroupsResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let groups = find::all::<Group, _>(&snapshot, context.account())
            .filter(|group| names::under(&group.path, input.path_prefix.as_deref()));
        let page = page(groups, |group| folded(&group.name), input.marker.as_deref(), input.max_items)?
            .map(|group| describe::group(context.partition(), &group));
        Ok(types::ListGroupsResponse {
            groups: page.items,
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    pub(super) async fn list_groups_for_user(
        &self,
        context: &RequestContext,
        input: types::ListGroupsForUserRequest,
    ) -> Result<types::ListGroupsForUserResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let user = find::user(&snapshot, context.account(), &input.user_name)?;
        let groups = groups_of(&snapshot, &user);
        let page = page(groups, |group| folded(&group.name), input.marker.as_deref(), input.max_items)?
            .map(|group| describe::group(context.partition(), &group));
        Ok(types::ListGroupsForUserResponse {
            groups: page.items,
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    pub(super) async fn update_group(
        &self,
        context: &RequestContext,
        input: types::UpdateGroupRequest,
    ) -> Result<(), ApiError> {
        let account = context.account();
        self.change(|transaction| {
            let mut group = Group::clone(&*find::group(transaction, account, &input.group_name)?);
            if let Some(name) = input.new_group_name {
                let taken = find::named::<Group>(transaction, account, &name);
                if taken.is_some_and(|other| other.id != group.id) {
                    return Err(exists(&name));
                }
                group.name = name;
            }
            if let Some(path) = input.new_path {
                group.path = path;
            }
            transaction.put(group);
            Ok(())
        })
        .await
    }

    pub(super) async fn delete_group(
        &self,
        context: &RequestContext,
        input: types::DeleteGroupRequest,
    ) -> Result<(), ApiError> {
        let account = context.account();
        self.change(|transaction| {
            let group = find::group(transaction, account, &input.group_name)?;
            let in_the_way = if !group.policies.attached.is_empty() {
                Some("detach all policies")
            } else if !group.policies.inline.is_empty() {
                Some("delete policies")
            } else if !members(transaction, &group).is_empty() {
                Some("remove users from group")
            } else {
                None
            };
            if let Some(what) = in_the_way {
                return Err(failures::in_the_way(what));
            }
            transaction.delete::<Group>(&(account, group.id.clone()));
            Ok(())
        })
        .await
    }

    /// Adding a user that is in the group already succeeds.
    pub(super) async fn add_user_to_group(
        &self,
        context: &RequestContext,
        input: types::AddUserToGroupRequest,
    ) -> Result<(), ApiError> {
        let account = context.account();
        self.change(|transaction| {
            let group = find::group(transaction, account, &input.group_name)?;
            let mut user = User::clone(&*find::user(transaction, account, &input.user_name)?);
            if user.groups.insert(group.id.clone()) {
                if user.groups.len() > GROUPS_PER_USER_MAX {
                    return Err(failures::quota("GroupsPerUser", GROUPS_PER_USER_MAX));
                }
                transaction.put(user);
            }
            Ok(())
        })
        .await
    }

    /// Removing a user that is not in the group succeeds.
    pub(super) async fn remove_user_from_group(
        &self,
        context: &RequestContext,
        input: types::RemoveUserFromGroupRequest,
    ) -> Result<(), ApiError> {
        let account = context.account();
        self.change(|transaction| {
            let group = find::group(transaction, account, &input.group_name)?;
            let mut user = User::clone(&*find::user(transaction, account, &input.user_name)?);
            if user.groups.remove(&group.id) {
                transaction.put(user);
            }
            Ok(())
        })
        .await
    }
}

fn exists(name: &str) -> ApiError {
    errors::entity_already_exists_exception(format!("Group with name {name} already exists."))
}
