//! Credentials of other kinds: second factors, SSH keys, signing certificates, passwords of single
//! services. Nobody can have one here, since the operations that make them are not done; so they are
//! listed as what they are, none. Tools that delete a user ask for these lists first.

use wharf_core::{ApiError, RequestContext};
use wharf_iam_api::types;

use crate::{Iam, find};

impl Iam {
    /// Checks that the user is there whose credentials are asked for.
    fn check_subject(&self, context: &RequestContext, user_name: Option<&str>) -> Result<(), ApiError> {
        find::subject(&self.store.snapshot(), context, user_name).map(|_| ())
    }

    pub(super) async fn list_mfa_devices(
        &self,
        context: &RequestContext,
        input: types::ListMFADevicesRequest,
    ) -> Result<types::ListMFADevicesResponse, ApiError> {
        self.check_subject(context, input.user_name.as_deref())?;
        Ok(types::ListMFADevicesResponse { is_truncated: Some(false), ..Default::default() })
    }

    pub(super) async fn list_virtual_mfa_devices(
        &self,
        _context: &RequestContext,
        _input: types::ListVirtualMFADevicesRequest,
    ) -> Result<types::ListVirtualMFADevicesResponse, ApiError> {
        Ok(types::ListVirtualMFADevicesResponse { is_truncated: Some(false), ..Default::default() })
    }

    pub(super) async fn list_ssh_public_keys(
        &self,
        context: &RequestContext,
        input: types::ListSSHPublicKeysRequest,
    ) -> Result<types::ListSSHPublicKeysResponse, ApiError> {
        self.check_subject(context, input.user_name.as_deref())?;
        Ok(types::ListSSHPublicKeysResponse {
            is_truncated: Some(false),
            ssh_public_keys: Some(Vec::new()),
            ..Default::default()
        })
    }

    pub(super) async fn list_signing_certificates(
        &self,
        context: &RequestContext,
        input: types::ListSigningCertificatesRequest,
    ) -> Result<types::ListSigningCertificatesResponse, ApiError> {
        self.check_subject(context, input.user_name.as_deref())?;
        Ok(types::ListSigningCertificatesResponse { is_truncated: Some(false), ..Default::default() })
    }

    pub(super) async fn list_service_specific_credentials(
        &self,
        context: &RequestContext,
        input: types::ListServiceSpecificCredentialsRequest,
    ) -> Result<types::ListServiceSpecificCredentialsResponse, ApiError> {
        if input.all_users != Some(true) {
            self.check_subject(context, input.user_name.as_deref())?;
        }
        Ok(types::ListServiceSpecificCredentialsResponse {
            service_specific_credentials: Some(Vec::new()),
            ..Default::default()
        })
    }
}
