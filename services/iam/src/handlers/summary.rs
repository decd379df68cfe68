//! How much of everything an account has (API Reference: GetAccountSummary).

use std::collections::BTreeMap;

use wharf_core::{ApiError, RequestContext};
use wharf_iam_api::types;
use wharf_state::Key as _;

use super::access_key::KEYS_MAX;
use super::attachment::ATTACHED_MAX;
use super::group::{GROUPS_MAX, GROUPS_PER_USER_MAX};
use super::instance_profile::INSTANCE_PROFILES_MAX;
use super::policy::{POLICIES_MAX, POLICY_CHARS_MAX};
use super::policy_version::VERSIONS_MAX;
use super::role::{ROLES_MAX, TRUST_POLICY_CHARS_MAX};
use super::server_certificate::CERTIFICATES_MAX;
use super::user::USERS_MAX;
use crate::holder::Holder as _;
use crate::records::{
    AccessKey, BY_OWNER, Group, InstanceProfile, OidcProvider, Policy, Role, SamlProvider, ServerCertificate,
    Status, User,
};
use crate::{Iam, find};

/// "Versions of managed policies in an account" that AWS tells.
const POLICY_VERSIONS_MAX: usize = 10_000;

impl Iam {
    pub(super) async fn get_account_summary(
        &self,
        context: &RequestContext,
        _input: (),
    ) -> Result<types::GetAccountSummaryResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let account = context.account();
        let all = account.to_bytes();
        let root = AccessKey::owner_key(account, None);
        let root_keys = snapshot.index::<AccessKey>(BY_OWNER, &root).any(|key| key.status == Status::Active)
            || self.built_in_keys(&snapshot, account).iter().any(|key| key.status == Status::Active);
        let policy_versions: usize =
            find::all::<Policy, _>(&snapshot, account).map(|policy| policy.versions.len()).sum();
        let counts = [
            ("AccessKeysPerUserQuota", KEYS_MAX),
            ("AccountAccessKeysPresent", usize::from(root_keys)),
            // A root user has neither a second factor, nor a password, nor a certificate here.
            ("AccountMFAEnabled", 0),
            ("AccountPasswordPresent", 0),
            ("AccountSigningCertificatesPresent", 0),
            ("AssumeRolePolicySizeQuota", TRUST_POLICY_CHARS_MAX),
            ("AttachedPoliciesPerGroupQuota", ATTACHED_MAX),
            ("AttachedPoliciesPerRoleQuota", ATTACHED_MAX),
            ("AttachedPoliciesPerUserQuota", ATTACHED_MAX),
            // Session tokens are valid in all regions.
            ("GlobalEndpointTokenVersion", 2),
            ("GroupPolicySizeQuota", Group::INLINE_CHARS_MAX),
            ("Groups", snapshot.prefix::<Group>(&all).count()),
            ("GroupsPerUserQuota", GROUPS_PER_USER_MAX),
            ("GroupsQuota", GROUPS_MAX),
            ("InstanceProfiles", snapshot.prefix::<InstanceProfile>(&all).count()),
            ("InstanceProfilesQuota", INSTANCE_PROFILES_MAX),
            ("MFADevices", 0),
            ("MFADevicesInUse", 0),
            ("Policies", snapshot.prefix::<Policy>(&all).count()),
            ("PoliciesQuota", POLICIES_MAX),
            ("PolicySizeQuota", POLICY_CHARS_MAX),
            ("PolicyVersionsInUse", policy_versions),
            ("PolicyVersionsInUseQuota", POLICY_VERSIONS_MAX),
            (
                "Providers",
                snapshot.prefix::<OidcProvider>(&all).count() + snapshot.prefix::<SamlProvider>(&all).count(),
            ),
            ("RolePolicySizeQuota", Role::INLINE_CHARS_MAX),
            ("Roles", snapshot.prefix::<Role>(&all).count()),
            ("RolesQuota", ROLES_MAX),
            ("ServerCertificates", snapshot.prefix::<ServerCertificate>(&all).count()),
            ("ServerCertificatesQuota", CERTIFICATES_MAX),
            ("SigningCertificatesPerUserQuota", 0),
            ("UserPolicySizeQuota", User::INLINE_CHARS_MAX),
            ("Users", snapshot.prefix::<User>(&all).count()),
            ("UsersQuota", USERS_MAX),
            ("VersionsPerPolicyQuota", VERSIONS_MAX),
        ];
        let counts: BTreeMap<String, i32> = counts
            .into_iter()
            .map(|(name, count)| (name.to_owned(), i32::try_from(count).unwrap_or(i32::MAX)))
            .collect();
        Ok(types::GetAccountSummaryResponse { summary_map: Some(counts) })
    }
}
