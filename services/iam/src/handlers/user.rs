//! Users (API Reference: CreateUser, GetUser, UpdateUser, DeleteUser, ListUsers).

use std::collections::BTreeSet;

use wharf_core::{ApiError, RequestContext, Timestamp};
use wharf_iam_api::{errors, types};

use crate::describe::{self, Detail};
use crate::find::{self, Subject};
use crate::pages::page;
use crate::records::{AccessKey, BY_OWNER, Policies, User, folded};
use crate::{Iam, failures, ids, names, tags};

/// "Users in an AWS account" of the IAM quotas.
pub const USERS_MAX: usize = 5000;

impl Iam {
    pub(super) async fn create_user(
        &self,
        context: &RequestContext,
        input: types::CreateUserRequest,
    ) -> Result<types::CreateUserResponse, ApiError> {
        let account = context.account();
        let tags = tags::of_new(input.tags)?;
        let id = ids::unique(ids::USER, &*self.rng);
        let user = self
            .change(|transaction| {
                if find::named::<User>(transaction, account, &input.user_name).is_some() {
                    return Err(exists(&input.user_name));
                }
                if find::all::<User, _>(transaction, account).count() >= USERS_MAX {
                    return Err(failures::quota("UsersPerAccount", USERS_MAX));
                }
                let boundary = find::boundary(transaction, context, input.permissions_boundary.as_deref())?;
                let user = User {
                    account,
                    id,
                    name: input.user_name,
                    path: input.path.unwrap_or_else(|| names::ROOT_PATH.to_owned()),
                    created_at: context.now,
                    groups: BTreeSet::new(),
                    policies: Policies { boundary, ..Policies::default() },
                    tags,
                    login: None,
                };
                transaction.put(user.clone());
                Ok(user)
            })
            .await?;
        Ok(types::CreateUserResponse { user: Some(describe::user(context.partition(), &user, Detail::Full)) })
    }

    pub(super) async fn get_user(
        &self,
        context: &RequestContext,
        input: types::GetUserRequest,
    ) -> Result<types::GetUserResponse, ApiError> {
        let user = match find::subject(&self.store.snapshot(), context, input.user_name.as_deref())? {
            Subject::User(user) => describe::user(context.partition(), &user, Detail::Full),
            Subject::Root => types::User {
                arn: context.principal.arn(context.partition()),
                // An account is there from the beginning of time on.
                create_date: Timestamp::from_millis(0),
                path: names::ROOT_PATH.to_owned(),
                user_id: context.account().to_string(),
                user_name: "root".to_owned(),
                ..types::User::default()
            },
        };
        Ok(types::GetUserResponse { user })
    }

    pub(super) async fn list_users(
        &self,
        context: &RequestContext,
        input: types::ListUsersRequest,
    ) -> Result<types::ListUsersResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let users = find::all::<User, _>(&snapshot, context.account())
            .filter(|user| names::under(&user.path, input.path_prefix.as_deref()));
        let page = page(users, |user| folded(&user.name), input.marker.as_deref(), input.max_items)?
            .map(|user| describe::user(context.partition(), &user, Detail::Listed));
        Ok(types::ListUsersResponse {
            users: page.items,
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    pub(super) async fn update_user(
        &self,
        context: &RequestContext,
        input: types::UpdateUserRequest,
    ) -> Result<(), ApiError> {
        let account = context.account();
        self.change(|transaction| {
            let mut user = User::clone(&*find::user(transaction, account, &input.user_name)?);
            if let Some(name) = input.new_user_name {
                let taken = find::named::<User>(transaction, account, &name);
                if taken.is_some_and(|other| other.id != user.id) {
                    return Err(exists(&name));
                }
                user.name = name;
            }
            if let Some(path) = input.new_path {
                user.path = path;
            }
            transaction.put(user);
            Ok(())
        })
        .await
    }

    pub(super) async fn delete_user(
        &self,
        context: &RequestContext,
        input: types::DeleteUserRequest,
    ) -> Result<(), ApiError> {
        let account = context.account();
        self.change(|transaction| {
            let user = find::user(transaction, account, &input.user_name)?;
            let keys = AccessKey::owner_key(account, Some(&user.id));
            let in_the_way = if !user.policies.attached.is_empty() {
                Some("detach all policies")
            } else if !user.policies.inline.is_empty() {
                Some("delete policies")
            } else if !user.groups.is_empty() {
                Some("remove users from group")
            } else if transaction.index::<AccessKey>(BY_OWNER, &keys).next().is_some() {
                Some("delete access keys")
            } else if user.login.is_some() {
                Some("delete login profile")
            } else {
                None
            };
            if let Some(what) = in_the_way {
                return Err(failures::in_the_way(what));
            }
            transaction.delete::<User>(&(account, user.id.clone()));
            transaction.delete::<crate::records::UseRecord>(&(account, user.id.clone()));
            Ok(())
        })
        .await
    }
}

fn exists(name: &str) -> ApiError {
    errors::entity_already_exists_exception(format!("User with name {name} already exists."))
}
