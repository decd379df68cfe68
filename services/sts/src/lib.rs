//! STS: who calls, and temporary credentials.
//!
//! # What is where
//!
//! - [`token`]: session tokens. They carry everything about a session, sealed by the vault, so that no
//!   table of sessions exists. [`Sts::tokens`] is the source of `ASIA…` credentials for the pipeline.
//! - [`plan`]: how long a session lasts and which tags it has: functions of values.
//! - [`oidc`]: tokens of identity providers.
//! - [`trust`]: what a role's trust policy says to somebody who has no AWS identity yet.
//! - [`handlers`]: one file an operation.
//! - `vendor`: credentials of roles for what Wharf runs (`contracts::CredentialVendor`).
//! - [`messages`]: encoded authorization failure messages.
//!
//! Whether a user or role may assume a role is decided by the authorizer from what
//! `authorization.rs` asks; a federated caller has no identity that it could ask about, so that
//! `AssumeRoleWithWebIdentity` asks [`trust`] itself.
//!
//! Not here: `AssumeRoleWithSAML`, `AssumeRoot`, `GetDelegatedAccessToken` and `GetWebIdentityToken`,
//! which answer `NotImplemented`; second factors, of which IAM keeps none here.
#![forbid(unsafe_code)]

mod authorization;
mod handlers;
pub mod messages;
pub mod oidc;
mod plan;
mod policies;
mod role;
pub mod token;
mod trust;
mod vendor;

use std::sync::Arc;

use async_trait::async_trait;
pub use authorization::authorization;
use wharf_contracts::{IdentityPolicies, OidcProviders, Roles};
use wharf_core::{ApiError, RequestContext, Rng};
use wharf_sts_api::{Sts as Api, types};
use wharf_vault::Vault;

use messages::AuthorizationMessages;
use oidc::provider::Providers;
use token::SessionTokens;

/// What STS stands on.
pub struct Dependencies {
    pub vault: Vault,
    pub rng: Arc<dyn Rng>,
    pub roles: Arc<dyn Roles>,
    pub identities: Arc<dyn IdentityPolicies>,
    pub oidc_providers: Arc<dyn OidcProviders>,
}

pub struct Sts {
    tokens: Arc<SessionTokens>,
    messages: Arc<AuthorizationMessages>,
    roles: Arc<dyn Roles>,
    identities: Arc<dyn IdentityPolicies>,
    oidc_providers: Arc<dyn OidcProviders>,
    /// The keys of identity providers.
    providers: Providers,
}

impl Sts {
    pub fn new(dependencies: Dependencies) -> Arc<Self> {
        let Dependencies { vault, rng, roles, identities, oidc_providers } = dependencies;
        Arc::new(Self {
            tokens: Arc::new(SessionTokens::new(&vault, rng, Arc::clone(&identities))),
            messages: Arc::new(AuthorizationMessages::new(&vault)),
            roles,
            identities,
            oidc_providers,
            providers: Providers::default(),
        })
    }

    /// The source of temporary credentials.
    pub fn tokens(&self) -> Arc<SessionTokens> {
        Arc::clone(&self.tokens)
    }

    /// What makes the messages that `DecodeAuthorizationMessage` reads.
    pub fn messages(&self) -> Arc<AuthorizationMessages> {
        Arc::clone(&self.messages)
    }
}

#[async_trait]
impl Api for Sts {
    async fn assume_role(
        &self,
        context: &RequestContext,
        input: types::AssumeRoleRequest,
    ) -> Result<types::AssumeRoleResponse, ApiError> {
        handlers::assume_role::assume_role(self, context, input)
    }

    async fn assume_role_with_web_identity(
        &self,
        context: &RequestContext,
        input: types::AssumeRoleWithWebIdentityRequest,
    ) -> Result<types::AssumeRoleWithWebIdentityResponse, ApiError> {
        handlers::web_identity::assume_role_with_web_identity(self, context, input).await
    }

    async fn decode_authorization_message(
        &self,
        context: &RequestContext,
        input: types::DecodeAuthorizationMessageRequest,
    ) -> Result<types::DecodeAuthorizationMessageResponse, ApiError> {
        handlers::information::decode_authorization_message(self, context, &input)
    }

    async fn get_access_key_info(
        &self,
        context: &RequestContext,
        input: types::GetAccessKeyInfoRequest,
    ) -> Result<types::GetAccessKeyInfoResponse, ApiError> {
        handlers::information::get_access_key_info(context, &input)
    }

    async fn get_caller_identity(
        &self,
        context: &RequestContext,
        _input: types::GetCallerIdentityRequest,
    ) -> Result<types::GetCallerIdentityResponse, ApiError> {
        Ok(handlers::information::get_caller_identity(context))
    }

    async fn get_federation_token(
        &self,
        context: &RequestContext,
        input: types::GetFederationTokenRequest,
    ) -> Result<types::GetFederationTokenResponse, ApiError> {
        handlers::federation_token::get_federation_token(self, context, input)
    }

    async fn get_session_token(
        &self,
        context: &RequestContext,
        input: types::GetSessionTokenRequest,
    ) -> Result<types::GetSessionTokenResponse, ApiError> {
        handlers::session_token::get_session_token(self, context, &input)
    }
}
