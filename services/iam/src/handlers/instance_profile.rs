//! Instance profiles (API Reference: CreateInstanceProfile, GetInstanceProfile,
//! ListInstanceProfiles, ListInstanceProfilesForRole, DeleteInstanceProfile,
//! AddRoleToInstanceProfile, RemoveRoleFromInstanceProfile).

use wharf_core::{ApiError, RequestContext};
use wharf_iam_api::{errors, types};
use wharf_state::Key as _;

use crate::describe::{self, Detail};
use crate::pages::page;
use crate::records::{BY_ROLE, InstanceProfile, folded};
use crate::{Iam, failures, find, ids, names, tags};

/// "Instance profiles in an AWS account" of the IAM quotas.
pub const INSTANCE_PROFILES_MAX: usize = 1000;

impl Iam {
    pub(super) async fn create_instance_profile(
        &self,
        context: &RequestContext,
        input: types::CreateInstanceProfileRequest,
    ) -> Result<types::CreateInstanceProfileResponse, ApiError> {
        let account = context.account();
        let tags = tags::of_new(input.tags)?;
        let id = ids::unique(ids::INSTANCE_PROFILE, &*self.rng);
        let described = self
            .change(|transaction| {
                if find::named::<InstanceProfile>(transaction, account, &input.instance_profile_name)
                    .is_some()
                {
                    return Err(errors::entity_already_exists_exception(format!(
                        "Instance Profile {} already exists.",
                        input.instance_profile_name
                    )));
                }
                if find::all::<InstanceProfile, _>(transaction, account).count() >= INSTANCE_PROFILES_MAX {
                    return Err(failures::quota("InstanceProfilesPerAccount", INSTANCE_PROFILES_MAX));
                }
                let profile = InstanceProfile {
                    account,
                    id,
                    name: input.instance_profile_name,
                    path: input.path.unwrap_or_else(|| names::ROOT_PATH.to_owned()),
                    created_at: context.now,
                    role: None,
                    tags,
                };
                let described =
                    describe::instance_profile(transaction, context.partition(), &profile, Detail::Full);
                transaction.put(profile);
                Ok(described)
            })
            .await?;
        Ok(types::CreateInstanceProfileResponse { instance_profile: described })
    }

    pub(super) async fn get_instance_profile(
        &self,
        context: &RequestContext,
        input: types::GetInstanceProfileRequest,
    ) -> Result<types::GetInstanceProfileResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let profile = find::instance_profile(&snapshot, context.account(), &input.instance_profile_name)?;
        let described = describe::instance_profile(&snapshot, context.partition(), &profile, Detail::Full);
        Ok(types::GetInstanceProfileResponse { instance_profile: described })
    }

    pub(super) async fn list_instance_profiles(
        &self,
        context: &RequestContext,
        input: types::ListInstanceProfilesRequest,
    ) -> Result<types::ListInstanceProfilesResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let profiles = find::all::<InstanceProfile, _>(&snapshot, context.account())
            .filter(|profile| names::under(&profile.path, input.path_prefix.as_deref()));
        let page = page(profiles, |profile| folded(&profile.name), input.marker.as_deref(), input.max_items)?
            .map(|profile| {
                describe::instance_profile(&snapshot, context.partition(), &profile, Detail::Listed)
            });
        Ok(types::ListInstanceProfilesResponse {
            instance_profiles: page.items,
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    pub(super) async fn list_instance_profiles_for_role(
        &self,
        context: &RequestContext,
        input: types::ListInstanceProfilesForRoleRequest,
    ) -> Result<types::ListInstanceProfilesForRoleResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let role = find::role(&snapshot, context.account(), &input.role_name)?;
        let key = (role.account, role.id.clone()).to_bytes();
        let mut profiles: Vec<_> = snapshot.index::<InstanceProfile>(BY_ROLE, &key).collect();
        profiles.sort_by_cached_key(|profile| folded(&profile.name));
        let page = page(profiles, |profile| folded(&profile.name), input.marker.as_deref(), input.max_items)?
            .map(|profile| {
                describe::instance_profile(&snapshot, context.partition(), &profile, Detail::Listed)
            });
        Ok(types::ListInstanceProfilesForRoleResponse {
            instance_profiles: page.items,
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    pub(super) async fn add_role_to_instance_profile(
        &self,
        context: &RequestContext,
        input: types::AddRoleToInstanceProfileRequest,
    ) -> Result<(), ApiError> {
        self.change_instance_profile(context, &input.instance_profile_name, |transaction, profile| {
            let role = find::own_role(transaction, context.account(), &input.role_name)?;
            if profile.role.is_some() {
                return Err(failures::quota("InstanceSessionsPerInstanceProfile", 1));
            }
            profile.role = Some(role.id.clone());
            Ok(())
        })
        .await
    }

    pub(super) async fn remove_role_from_instance_profile(
        &self,
        context: &RequestContext,
        input: types::RemoveRoleFromInstanceProfileRequest,
    ) -> Result<(), ApiError> {
        self.change_instance_profile(context, &input.instance_profile_name, |transaction, profile| {
            let role = find::own_role(transaction, context.account(), &input.role_name)?;
            if profile.role.as_ref() != Some(&role.id) {
                return Err(failures::no_role(&input.role_name));
            }
            profile.role = None;
            Ok(())
        })
        .await
    }

    pub(super) async fn change_instance_profile(
        &self,
        context: &RequestContext,
        name: &str,
        change: impl FnOnce(&wharf_state::Transaction<'_>, &mut InstanceProfile) -> Result<(), ApiError> + Send,
    ) -> Result<(), ApiError> {
        self.change(|transaction| {
            let profile = find::instance_profile(transaction, context.account(), name)?;
            let mut profile = InstanceProfile::clone(&*profile);
            change(transaction, &mut profile)?;
            transaction.put(profile);
            Ok(())
        })
        .await
    }

    pub(super) async fn delete_instance_profile(
        &self,
        context: &RequestContext,
        input: types::DeleteInstanceProfileRequest,
    ) -> Result<(), ApiError> {
        let account = context.account();
        self.change(|transaction| {
            let profile = find::instance_profile(transaction, account, &input.instance_profile_name)?;
            if profile.role.is_some() {
                return Err(failures::in_the_way("remove roles from instance profile"));
            }
            transaction.delete::<InstanceProfile>(&(account, profile.id.clone()));
            Ok(())
        })
        .await
    }
}
