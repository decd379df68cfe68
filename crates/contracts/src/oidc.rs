//! The OpenID Connect identity providers that accounts trust.

use wharf_core::AccountId;

/// What verifying a token needs to know of a provider (IAM's `CreateOpenIDConnectProvider`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcProvider {
    pub arn: String,
    /// With its scheme: `https://token.example.com/id/1`. A token's `iss` is exactly this.
    pub url: String,
    /// One of these must be the token's audience.
    pub client_ids: Vec<String>,
    /// SHA-1 of certificates that are trusted for this provider beside the system's authorities, in
    /// lower-case hexadecimal.
    pub thumbprints: Vec<String>,
}

impl OidcProvider {
    /// The part of the URL behind the scheme, which names the provider in ARNs and condition keys.
    pub fn name_of(url: &str) -> &str {
        url.split_once("://").map_or(url, |(_, name)| name)
    }
}

/// The providers of all accounts. Implemented by the IAM service.
pub trait OidcProviders: Send + Sync {
    /// By the part of the URL behind the scheme.
    fn oidc_provider(&self, account: AccountId, name: &str) -> Option<OidcProvider>;
}
