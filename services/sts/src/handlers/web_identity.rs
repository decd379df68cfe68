//! `AssumeRoleWithWebIdentity`: a role for who shows a token of an identity provider that the role's
//! account trusts. Nothing is signed; the token is all there is.

use wharf_contracts::{OidcProvider, RoleFacts};
use wharf_core::{ApiError, RequestContext, SessionOrigin};
use wharf_sts_api::{errors, types};

use super::{access_denied, issue, new_session, tag_error, validation};
use crate::oidc::fetch::FetchError;
use crate::oidc::provider::ProviderError;
use crate::oidc::token::{Claims, Token, TokenError};
use crate::plan::duration::{self, Chaining};
use crate::plan::tags::{self, SessionTags};
use crate::role::{RoleArn, session_of};
use crate::trust::{Asked, Stranger};
use crate::{Sts, policies, trust};

const ACTION: &str = "sts:AssumeRoleWithWebIdentity";

pub(crate) async fn assume_role_with_web_identity(
    sts: &Sts,
    context: &RequestContext,
    input: types::AssumeRoleWithWebIdentityRequest,
) -> Result<types::AssumeRoleWithWebIdentityResponse, ApiError> {
    if input.provider_id.is_some() {
        // It chooses an OAuth 2.0 provider, whose access tokens only that provider can read.
        return Err(ApiError::not_implemented(
            "the field \"ProviderId\" (OAuth 2.0 access tokens) of sts:AssumeRoleWithWebIdentity",
        ));
    }
    let arn = RoleArn::parse(&input.role_arn)?;
    let token = Token::parse(&input.web_identity_token).map_err(|error| token_error(&error))?;
    let issuer = token.issuer().map_err(|error| token_error(&error))?;
    let provider =
        sts.oidc_providers.oidc_provider(arn.account, OidcProvider::name_of(issuer)).ok_or_else(|| {
            let issuer: String = issuer.chars().take(255).collect();
            errors::invalid_identity_token_exception(format!(
                "No OpenIDConnect provider found in your account for {issuer}"
            ))
        })?;
    // IAM has one set of providers for all partitions; the ARN is of the role's.
    let partition = format!("arn:{}:", arn.partition);
    let provider = OidcProvider { arn: provider.arn.replacen("arn:aws:", &partition, 1), ..provider };
    let keys = sts
        .providers
        .keys(&provider, token.key_id.as_deref(), context.now)
        .await
        .map_err(|error| provider_error(&error, &provider))?;
    let claims = token.verify(&provider, &keys, context.now).map_err(|error| token_error(&error))?;

    let role = sts.role(&arn).ok_or_else(not_authorized)?;
    let tags = tags::requested(claims.tags.clone(), claims.transitive_tag_keys.iter().cloned())
        .map_err(tag_error)?;
    ask_trust(&role, &input, &provider, &claims, &tags)?;

    let lifetime = duration::of_role(input.duration_seconds, role.max_session_duration, Chaining::First)
        .map_err(|error| validation(error.to_string()))?;
    let policies = policies::of_session(sts, role.account, input.policy, input.policy_arns)?;
    let packed = policies::packed_percent(&policies, &tags.tags)?;
    let principal = session_of(&role, &input.role_session_name);
    let mut session = new_session(
        context.now,
        lifetime,
        SessionOrigin::AssumeRoleWithWebIdentity,
        principal.principal_arn(arn.partition).unwrap_or_default(),
        role.id,
    );
    session.policies = policies.inline;
    session.policy_arns = policies.arns;
    session.tags = tags.tags;
    session.transitive_tag_keys = tags.transitive;
    session.source_identity.clone_from(&claims.source_identity);
    session.federated_provider = Some(provider.arn.clone());
    session.federated_keys = claims.keys;
    let handed = issue(sts, &principal, &session, input.minimum_session_token_size)?;
    Ok(types::AssumeRoleWithWebIdentityResponse {
        assumed_role_user: Some(types::AssumedRoleUser {
            arn: principal.arn(arn.partition),
            assumed_role_id: principal.user_id(),
        }),
        audience: Some(claims.audience),
        credentials: Some(handed.credentials),
        packed_policy_size: packed,
        provider: Some(provider.arn),
        session_token_size: Some(handed.token_size),
        session_token_utilization: Some(handed.utilization),
        source_identity: claims.source_identity,
        subject_from_web_identity_token: Some(claims.subject),
    })
}

/// The role's trust policy must let the provider in, with its tags and its source identity.
fn ask_trust(
    role: &RoleFacts,
    input: &types::AssumeRoleWithWebIdentityRequest,
    provider: &OidcProvider,
    claims: &Claims,
    tags: &SessionTags,
) -> Result<(), ApiError> {
    let mut keys = wharf_policy::Keys::new()
        .with("sts:RoleSessionName", input.role_session_name.as_str())
        .with("aws:FederatedProvider", provider.arn.as_str());
    for (key, values) in &claims.keys {
        keys = match values.as_slice() {
            [value] if !key.ends_with(":amr") => keys.with(key, value.as_str()),
            values => keys.with_many(key, values.iter().cloned()),
        };
    }
    if let Some(seconds) = input.duration_seconds {
        keys = keys.with("sts:DurationSeconds", seconds.to_string());
    }
    if let Some(identity) = &claims.source_identity {
        keys = keys.with("sts:SourceIdentity", identity.as_str());
    }
    for (key, value) in &tags.tags {
        keys = keys.with(&format!("aws:RequestTag/{key}"), value.as_str());
    }
    if !tags.tags.is_empty() {
        keys = keys.with_many("aws:TagKeys", tags.tags.keys().cloned());
    }
    if !tags.transitive.is_empty() {
        keys = keys.with_many("sts:TransitiveTagKeys", tags.transitive.iter().cloned());
    }
    let asked = Asked {
        role_arn: &input.role_arn,
        owner: role.account,
        trust_policy: &role.trust_policy,
        stranger: Stranger::Federated(&provider.arn),
        keys: &keys,
    };
    let mut actions = vec![ACTION];
    if !tags.tags.is_empty() {
        actions.push("sts:TagSession");
    }
    if claims.source_identity.is_some() {
        actions.push("sts:SetSourceIdentity");
    }
    trust::allows(&asked, &actions).map_err(|action| match action {
        ACTION => not_authorized(),
        action => access_denied(format!("Not authorized to perform {action}")),
    })
}

/// Says nothing of whether there is such a role.
fn not_authorized() -> ApiError {
    access_denied(format!("Not authorized to perform {ACTION}"))
}

fn token_error(error: &TokenError) -> ApiError {
    match error {
        TokenError::Expired { .. } => errors::expired_token_exception(error.to_string()),
        _ => errors::invalid_identity_token_exception(error.to_string()),
    }
}

/// What AWS says when a provider's keys cannot be had. The cause goes to the log: it is about the
/// provider, and the caller may be anybody.
fn provider_error(error: &ProviderError, provider: &OidcProvider) -> ApiError {
    let mut cause = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        cause.push_str(": ");
        cause.push_str(&source.to_string());
        next = source.source();
    }
    tracing::warn!(provider = %provider.arn, %cause, "an identity provider's keys cannot be had");
    match error {
        ProviderError::Fetch(
            FetchError::Connect { .. } | FetchError::Timeout { .. } | FetchError::Http { .. },
        ) => errors::idp_communication_error_exception("Error communicating with the identity provider"),
        ProviderError::Fetch(FetchError::Tls { .. }) => errors::invalid_identity_token_exception(
            "OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint",
        ),
        _ => errors::invalid_identity_token_exception(
            "Couldn't retrieve verification key from your identity provider,  please reference \
             AssumeRoleWithWebIdentity documentation for requirements",
        ),
    }
}
