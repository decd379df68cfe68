//! Roles (API Reference: CreateRole, GetRole, ListRoles, UpdateRole, UpdateRoleDescription,
//! UpdateAssumeRolePolicy, DeleteRole).

use wharf_core::{ApiError, RequestContext};
use wharf_iam_api::{errors, types};
use wharf_state::Key as _;

use crate::describe::{self, Detail};
use crate::document::{self, Kind};
use crate::find;
use crate::pages::page;
use crate::records::{BY_ROLE, InstanceProfile, Policies, Role, UseRecord, folded};
use crate::{Iam, failures, ids, names, tags};

/// "Roles in an AWS account" of the IAM quotas.
pub const ROLES_MAX: usize = 1000;
/// "Role trust policy length", in characters without white space.
pub const TRUST_POLICY_CHARS_MAX: usize = 2048;
/// One hour, where the caller says nothing.
const SESSION_SECONDS: u32 = 3600;
/// The path of service-linked roles, where nobody else's may lie.
pub const SERVICE_LINKED_PATH: &str = "/aws-service-role/";

impl Iam {
    pub(super) async fn create_role(
        &self,
        context: &RequestContext,
        input: types::CreateRoleRequest,
    ) -> Result<types::CreateRoleResponse, ApiError> {
        let account = context.account();
        let tags = tags::of_new(input.tags)?;
        let path = input.path.unwrap_or_else(|| names::ROOT_PATH.to_owned());
        if path.starts_with(SERVICE_LINKED_PATH) {
            return Err(failures::validation("Role path cannot begin with /aws-service-role/."));
        }
        let trust_policy = trust_policy(&input.assume_role_policy_document)?;
        let id = ids::unique(ids::ROLE, &*self.rng);
        let role = self
            .change(|transaction| {
                if find::named::<Role>(transaction, account, &input.role_name).is_some() {
                    return Err(exists(&input.role_name));
                }
                if find::all::<Role, _>(transaction, account).count() >= ROLES_MAX {
                    return Err(failures::quota("RolesPerAccount", ROLES_MAX));
                }
                document::check_principals(transaction, context, &trust_policy)?;
                let boundary = find::boundary(transaction, context, input.permissions_boundary.as_deref())?;
                let role = Role {
                    account,
                    id,
                    name: input.role_name,
                    path,
                    created_at: context.now,
                    description: input.description,
                    max_session_seconds: session_seconds(input.max_session_duration),
                    trust_policy,
                    policies: Policies { boundary, ..Policies::default() },
                    tags,
                    linked_service: None,
                };
                transaction.put(role.clone());
                Ok(role)
            })
            .await?;
        Ok(types::CreateRoleResponse { role: describe::role(context.partition(), &role, Detail::Full, None) })
    }

    pub(super) async fn get_role(
        &self,
        context: &RequestContext,
        input: types::GetRoleRequest,
    ) -> Result<types::GetRoleResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let role = find::role(&snapshot, context.account(), &input.role_name)?;
        let used = describe::last_used(self.uses_of(&snapshot, role.account, &role.id).as_ref());
        Ok(types::GetRoleResponse {
            role: describe::role(context.partition(), &role, Detail::Full, Some(used)),
        })
    }

    pub(super) async fn list_roles(
        &self,
        context: &RequestContext,
        input: types::ListRolesRequest,
    ) -> Result<types::ListRolesResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let roles = find::all::<Role, _>(&snapshot, context.account())
            .filter(|role| names::under(&role.path, input.path_prefix.as_deref()));
        let page = page(roles, |role| folded(&role.name), input.marker.as_deref(), input.max_items)?
            .map(|role| describe::role(context.partition(), &role, Detail::Listed, None));
        Ok(types::ListRolesResponse {
            roles: page.items,
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    /// A session duration that is not given becomes one hour again ("If you do not specify a value for
    /// this setting, the default value of one hour is applied").
    pub(super) async fn update_role(
        &self,
        context: &RequestContext,
        input: types::UpdateRoleRequest,
    ) -> Result<types::UpdateRoleResponse, ApiError> {
        self.change_role(context, &input.role_name, |role| {
            if input.description.is_some() {
                role.description = input.description;
            }
            role.max_session_seconds = session_seconds(input.max_session_duration);
        })
        .await?;
        Ok(types::UpdateRoleResponse::default())
    }

    pub(super) async fn update_role_description(
        &self,
        context: &RequestContext,
        input: types::UpdateRoleDescriptionRequest,
    ) -> Result<types::UpdateRoleDescriptionResponse, ApiError> {
        let role = self
            .change_role(context, &input.role_name, |role| role.description = Some(input.description))
            .await?;
        Ok(types::UpdateRoleDescriptionResponse {
            role: Some(describe::role(context.partition(), &role, Detail::Full, None)),
        })
    }

    async fn change_role(
        &self,
        context: &RequestContext,
        name: &str,
        change: impl FnOnce(&mut Role) + Send,
    ) -> Result<Role, ApiError> {
        self.change(|transaction| {
            let mut role = Role::clone(&*find::own_role(transaction, context.account(), name)?);
            change(&mut role);
            transaction.put(role.clone());
            Ok(role)
        })
        .await
    }

    pub(super) async fn update_assume_role_policy(
        &self,
        context: &RequestContext,
        input: types::UpdateAssumeRolePolicyRequest,
    ) -> Result<(), ApiError> {
        let trust_policy = trust_policy(&input.policy_document)?;
        self.change(|transaction| {
            let mut role = Role::clone(&*find::own_role(transaction, context.account(), &input.role_name)?);
            document::check_principals(transaction, context, &trust_policy)?;
            role.trust_policy = trust_policy;
            transaction.put(role);
            Ok(())
        })
        .await
    }

    pub(super) async fn delete_role(
        &self,
        context: &RequestContext,
        input: types::DeleteRoleRequest,
    ) -> Result<(), ApiError> {
        let account = context.account();
        self.change(|transaction| {
            let role = find::own_role(transaction, account, &input.role_name)?;
            let profiles = (account, role.id.clone()).to_bytes();
            let in_the_way = if transaction.index::<InstanceProfile>(BY_ROLE, &profiles).next().is_some() {
                Some("remove roles from instance profile")
            } else if !role.policies.attached.is_empty() {
                Some("detach all policies")
            } else if !role.policies.inline.is_empty() {
                Some("delete policies")
            } else {
                None
            };
            if let Some(what) = in_the_way {
                return Err(failures::in_the_way(what));
            }
            transaction.delete::<Role>(&(account, role.id.clone()));
            transaction.delete::<UseRecord>(&(account, role.id.clone()));
            Ok(())
        })
        .await
    }
}

fn session_seconds(wanted: Option<i32>) -> u32 {
    // The model has checked the range.
    wanted.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(SESSION_SECONDS)
}

fn trust_policy(text: &str) -> Result<std::sync::Arc<str>, ApiError> {
    if document::size(text) > TRUST_POLICY_CHARS_MAX {
        return Err(failures::quota("ACLSizePerRole", TRUST_POLICY_CHARS_MAX));
    }
    document::checked(Kind::Trust, text)
}

fn exists(name: &str) -> ApiError {
    errors::entity_already_exists_exception(format!("Role with name {name} already exists."))
}
