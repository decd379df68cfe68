//! The operations of the API, one file a resource. Here they are only put behind the trait.

mod access_advisor;
mod access_key;
mod account;
mod attachment;
mod boundary;
mod credential_report;
mod details;
mod group;
mod inline;
mod instance_profile;
mod login_profile;
mod open_id_connect;
mod other_credential;
mod password_policy;
mod policy;
mod policy_version;
mod role;
mod saml;
mod server_certificate;
mod service_linked_role;
mod simulate;
mod summary;
mod tag;
mod user;

pub(crate) use access_key::BUILT_IN_KEY;
pub(crate) use open_id_connect::name_of as oidc_provider_name;
pub(crate) use saml::name_of as saml_provider_name;
pub(crate) use service_linked_role::role_name as service_linked_role_name;

use async_trait::async_trait;
use wharf_core::{ApiError, RequestContext};
use wharf_iam_api::{Iam as Api, types};

use crate::Iam;

/// Puts methods of [`Iam`] behind the generated trait.
macro_rules! operations {
    ($($name:ident($input:ty) -> $output:ty;)*) => {
        #[async_trait]
        impl Api for Iam {
            $(async fn $name(&self, context: &RequestContext, input: $input) -> Result<$output, ApiError> {
                Iam::$name(self, context, input).await
            })*
        }

        #[cfg(test)]
        const DONE: &[&str] = &[$(stringify!($name)),*];
    };
}

operations! {
    add_client_id_to_open_id_connect_provider(types::AddClientIDToOpenIDConnectProviderRequest) -> ();
    add_role_to_instance_profile(types::AddRoleToInstanceProfileRequest) -> ();
    add_user_to_group(types::AddUserToGroupRequest) -> ();
    attach_group_policy(types::AttachGroupPolicyRequest) -> ();
    attach_role_policy(types::AttachRolePolicyRequest) -> ();
    attach_user_policy(types::AttachUserPolicyRequest) -> ();
    change_password(types::ChangePasswordRequest) -> ();
    create_access_key(types::CreateAccessKeyRequest) -> types::CreateAccessKeyResponse;
    create_account_alias(types::CreateAccountAliasRequest) -> ();
    create_group(types::CreateGroupRequest) -> types::CreateGroupResponse;
    create_instance_profile(types::CreateInstanceProfileRequest) -> types::CreateInstanceProfileResponse;
    create_login_profile(types::CreateLoginProfileRequest) -> types::CreateLoginProfileResponse;
    create_open_id_connect_provider(types::CreateOpenIDConnectProviderRequest) -> types::CreateOpenIDConnectProviderResponse;
    create_policy(types::CreatePolicyRequest) -> types::CreatePolicyResponse;
    create_policy_version(types::CreatePolicyVersionRequest) -> types::CreatePolicyVersionResponse;
    create_role(types::CreateRoleRequest) -> types::CreateRoleResponse;
    create_saml_provider(types::CreateSAMLProviderRequest) -> types::CreateSAMLProviderResponse;
    create_service_linked_role(types::CreateServiceLinkedRoleRequest) -> types::CreateServiceLinkedRoleResponse;
    create_user(types::CreateUserRequest) -> types::CreateUserResponse;
    delete_access_key(types::DeleteAccessKeyRequest) -> ();
    delete_account_alias(types::DeleteAccountAliasRequest) -> ();
    delete_account_password_policy(()) -> ();
    delete_group(types::DeleteGroupRequest) -> ();
    delete_group_policy(types::DeleteGroupPolicyRequest) -> ();
    delete_instance_profile(types::DeleteInstanceProfileRequest) -> ();
    delete_login_profile(types::DeleteLoginProfileRequest) -> ();
    delete_open_id_connect_provider(types::DeleteOpenIDConnectProviderRequest) -> ();
    delete_policy(types::DeletePolicyRequest) -> ();
    delete_policy_version(types::DeletePolicyVersionRequest) -> ();
    delete_role(types::DeleteRoleRequest) -> ();
    delete_role_permissions_boundary(types::DeleteRolePermissionsBoundaryRequest) -> ();
    delete_role_policy(types::DeleteRolePolicyRequest) -> ();
    delete_saml_provider(types::DeleteSAMLProviderRequest) -> ();
    delete_server_certificate(types::DeleteServerCertificateRequest) -> ();
    delete_service_linked_role(types::DeleteServiceLinkedRoleRequest) -> types::DeleteServiceLinkedRoleResponse;
    delete_user(types::DeleteUserRequest) -> ();
    delete_user_permissions_boundary(types::DeleteUserPermissionsBoundaryRequest) -> ();
    delete_user_policy(types::DeleteUserPolicyRequest) -> ();
    detach_group_policy(types::DetachGroupPolicyRequest) -> ();
    detach_role_policy(types::DetachRolePolicyRequest) -> ();
    detach_user_policy(types::DetachUserPolicyRequest) -> ();
    generate_credential_report(()) -> types::GenerateCredentialReportResponse;
    generate_service_last_accessed_details(types::GenerateServiceLastAccessedDetailsRequest) -> types::GenerateServiceLastAccessedDetailsResponse;
    get_access_key_last_used(types::GetAccessKeyLastUsedRequest) -> types::GetAccessKeyLastUsedResponse;
    get_account_authorization_details(types::GetAccountAuthorizationDetailsRequest) -> types::GetAccountAuthorizationDetailsResponse;
    get_account_password_policy(()) -> types::GetAccountPasswordPolicyResponse;
    get_account_summary(()) -> types::GetAccountSummaryResponse;
    get_context_keys_for_custom_policy(types::GetContextKeysForCustomPolicyRequest) -> types::GetContextKeysForPolicyResponse;
    get_context_keys_for_principal_policy(types::GetContextKeysForPrincipalPolicyRequest) -> types::GetContextKeysForPolicyResponse;
    get_credential_report(()) -> types::GetCredentialReportResponse;
    get_group(types::GetGroupRequest) -> types::GetGroupResponse;
    get_group_policy(types::GetGroupPolicyRequest) -> types::GetGroupPolicyResponse;
    get_instance_profile(types::GetInstanceProfileRequest) -> types::GetInstanceProfileResponse;
    get_login_profile(types::GetLoginProfileRequest) -> types::GetLoginProfileResponse;
    get_open_id_connect_provider(types::GetOpenIDConnectProviderRequest) -> types::GetOpenIDConnectProviderResponse;
    get_policy(types::GetPolicyRequest) -> types::GetPolicyResponse;
    get_policy_version(types::GetPolicyVersionRequest) -> types::GetPolicyVersionResponse;
    get_role(types::GetRoleRequest) -> types::GetRoleResponse;
    get_role_policy(types::GetRolePolicyRequest) -> types::GetRolePolicyResponse;
    get_saml_provider(types::GetSAMLProviderRequest) -> types::GetSAMLProviderResponse;
    get_server_certificate(types::GetServerCertificateRequest) -> types::GetServerCertificateResponse;
    get_service_last_accessed_details(types::GetServiceLastAccessedDetailsRequest) -> types::GetServiceLastAccessedDetailsResponse;
    get_service_last_accessed_details_with_entities(types::GetServiceLastAccessedDetailsWithEntitiesRequest) -> types::GetServiceLastAccessedDetailsWithEntitiesResponse;
    get_service_linked_role_deletion_status(types::GetServiceLinkedRoleDeletionStatusRequest) -> types::GetServiceLinkedRoleDeletionStatusResponse;
    get_user(types::GetUserRequest) -> types::GetUserResponse;
    get_user_policy(types::GetUserPolicyRequest) -> types::GetUserPolicyResponse;
    list_access_keys(types::ListAccessKeysRequest) -> types::ListAccessKeysResponse;
    list_account_aliases(types::ListAccountAliasesRequest) -> types::ListAccountAliasesResponse;
    list_attached_group_policies(types::ListAttachedGroupPoliciesRequest) -> types::ListAttachedGroupPoliciesResponse;
    list_attached_role_policies(types::ListAttachedRolePoliciesRequest) -> types::ListAttachedRolePoliciesResponse;
    list_attached_user_policies(types::ListAttachedUserPoliciesRequest) -> types::ListAttachedUserPoliciesResponse;
    list_entities_for_policy(types::ListEntitiesForPolicyRequest) -> types::ListEntitiesForPolicyResponse;
    list_group_policies(types::ListGroupPoliciesRequest) -> types::ListGroupPoliciesResponse;
    list_groups(types::ListGroupsRequest) -> types::ListGroupsResponse;
    list_groups_for_user(types::ListGroupsForUserRequest) -> types::ListGroupsForUserResponse;
    list_instance_profile_tags(types::ListInstanceProfileTagsRequest) -> types::ListInstanceProfileTagsResponse;
    list_instance_profiles(types::ListInstanceProfilesRequest) -> types::ListInstanceProfilesResponse;
    list_instance_profiles_for_role(types::ListInstanceProfilesForRoleRequest) -> types::ListInstanceProfilesForRoleResponse;
    list_mfa_devices(types::ListMFADevicesRequest) -> types::ListMFADevicesResponse;
    list_open_id_connect_provider_tags(types::ListOpenIDConnectProviderTagsRequest) -> types::ListOpenIDConnectProviderTagsResponse;
    list_open_id_connect_providers(types::ListOpenIDConnectProvidersRequest) -> types::ListOpenIDConnectProvidersResponse;
    list_policies(types::ListPoliciesRequest) -> types::ListPoliciesResponse;
    list_policies_granting_service_access(types::ListPoliciesGrantingServiceAccessRequest) -> types::ListPoliciesGrantingServiceAccessResponse;
    list_policy_tags(types::ListPolicyTagsRequest) -> types::ListPolicyTagsResponse;
    list_policy_versions(types::ListPolicyVersionsRequest) -> types::ListPolicyVersionsResponse;
    list_role_policies(types::ListRolePoliciesRequest) -> types::ListRolePoliciesResponse;
    list_role_tags(types::ListRoleTagsRequest) -> types::ListRoleTagsResponse;
    list_roles(types::ListRolesRequest) -> types::ListRolesResponse;
    list_saml_provider_tags(types::ListSAMLProviderTagsRequest) -> types::ListSAMLProviderTagsResponse;
    list_saml_providers(types::ListSAMLProvidersRequest) -> types::ListSAMLProvidersResponse;
    list_server_certificate_tags(types::ListServerCertificateTagsRequest) -> types::ListServerCertificateTagsResponse;
    list_server_certificates(types::ListServerCertificatesRequest) -> types::ListServerCertificatesResponse;
    list_service_specific_credentials(types::ListServiceSpecificCredentialsRequest) -> types::ListServiceSpecificCredentialsResponse;
    list_signing_certificates(types::ListSigningCertificatesRequest) -> types::ListSigningCertificatesResponse;
    list_ssh_public_keys(types::ListSSHPublicKeysRequest) -> types::ListSSHPublicKeysResponse;
    list_user_policies(types::ListUserPoliciesRequest) -> types::ListUserPoliciesResponse;
    list_user_tags(types::ListUserTagsRequest) -> types::ListUserTagsResponse;
    list_users(types::ListUsersRequest) -> types::ListUsersResponse;
    list_virtual_mfa_devices(types::ListVirtualMFADevicesRequest) -> types::ListVirtualMFADevicesResponse;
    put_group_policy(types::PutGroupPolicyRequest) -> ();
    put_role_permissions_boundary(types::PutRolePermissionsBoundaryRequest) -> ();
    put_role_policy(types::PutRolePolicyRequest) -> ();
    put_user_permissions_boundary(types::PutUserPermissionsBoundaryRequest) -> ();
    put_user_policy(types::PutUserPolicyRequest) -> ();
    remove_client_id_from_open_id_connect_provider(types::RemoveClientIDFromOpenIDConnectProviderRequest) -> ();
    remove_role_from_instance_profile(types::RemoveRoleFromInstanceProfileRequest) -> ();
    remove_user_from_group(types::RemoveUserFromGroupRequest) -> ();
    set_default_policy_version(types::SetDefaultPolicyVersionRequest) -> ();
    simulate_custom_policy(types::SimulateCustomPolicyRequest) -> types::SimulatePolicyResponse;
    simulate_principal_policy(types::SimulatePrincipalPolicyRequest) -> types::SimulatePolicyResponse;
    tag_instance_profile(types::TagInstanceProfileRequest) -> ();
    tag_open_id_connect_provider(types::TagOpenIDConnectProviderRequest) -> ();
    tag_policy(types::TagPolicyRequest) -> ();
    tag_role(types::TagRoleRequest) -> ();
    tag_saml_provider(types::TagSAMLProviderRequest) -> ();
    tag_server_certificate(types::TagServerCertificateRequest) -> ();
    tag_user(types::TagUserRequest) -> ();
    untag_instance_profile(types::UntagInstanceProfileRequest) -> ();
    untag_open_id_connect_provider(types::UntagOpenIDConnectProviderRequest) -> ();
    untag_policy(types::UntagPolicyRequest) -> ();
    untag_role(types::UntagRoleRequest) -> ();
    untag_saml_provider(types::UntagSAMLProviderRequest) -> ();
    untag_server_certificate(types::UntagServerCertificateRequest) -> ();
    untag_user(types::UntagUserRequest) -> ();
    update_access_key(types::UpdateAccessKeyRequest) -> ();
    update_account_password_policy(types::UpdateAccountPasswordPolicyRequest) -> ();
    update_assume_role_policy(types::UpdateAssumeRolePolicyRequest) -> ();
    update_group(types::UpdateGroupRequest) -> ();
    update_login_profile(types::UpdateLoginProfileRequest) -> ();
    update_open_id_connect_provider_thumbprint(types::UpdateOpenIDConnectProviderThumbprintRequest) -> ();
    update_role(types::UpdateRoleRequest) -> types::UpdateRoleResponse;
    update_role_description(types::UpdateRoleDescriptionRequest) -> types::UpdateRoleDescriptionResponse;
    update_saml_provider(types::UpdateSAMLProviderRequest) -> types::UpdateSAMLProviderResponse;
    update_server_certificate(types::UpdateServerCertificateRequest) -> ();
    update_user(types::UpdateUserRequest) -> ();
    upload_server_certificate(types::UploadServerCertificateRequest) -> types::UploadServerCertificateResponse;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::DONE;

    #[test]
    fn iam_is_asked_about_every_operation_that_is_done_and_about_no_other() {
        let done: BTreeSet<String> = DONE.iter().map(|name| name.replace('_', "")).collect();
        let asked: BTreeSet<String> =
            crate::authorization::operations().map(str::to_ascii_lowercase).collect();
        assert_eq!(done, asked);
    }
}
