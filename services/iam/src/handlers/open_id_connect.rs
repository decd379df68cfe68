//! OpenID Connect identity providers (API Reference: CreateOpenIDConnectProvider and its kin).
//!
//! A provider that runs on this machine's loopback may have an `http` URL and a port, which AWS has
//! no use for.

use std::net::IpAddr;
use std::sync::Arc;

use wharf_contracts::OidcProviders;
use wharf_core::{AccountId, ApiError, Partition, RequestContext};
use wharf_iam_api::{errors, types};
use wharf_state::{Key as _, Transaction};

use super::tag::{Change, paged};
use crate::find::Read;
use crate::records::OidcProvider;
use crate::{Iam, failures, tags};

/// "OpenId Connect identity providers in an AWS account" of the IAM quotas.
const PROVIDERS_MAX: usize = 100;
const CLIENT_IDS_MAX: usize = 100;
const THUMBPRINTS_MAX: usize = 5;
/// SHA-1 in hexadecimal.
const THUMBPRINT_CHARS: usize = 40;

/// The ARN of a provider.
pub(crate) fn arn(partition: Partition, provider: &OidcProvider) -> String {
    format!("arn:{partition}:iam::{}:oidc-provider/{}", provider.account, provider.name)
}

/// The name in an ARN of this account.
pub(crate) fn name_of<'a>(context: &RequestContext, arn: &'a str) -> Option<&'a str> {
    let prefix = format!("arn:{}:iam::{}:oidc-provider/", context.partition(), context.account());
    arn.strip_prefix(&*prefix).filter(|name| !name.is_empty())
}

fn find(read: &impl Read, context: &RequestContext, arn: &str) -> Result<Arc<OidcProvider>, ApiError> {
    name_of(context, arn)
        .and_then(|name| read.record::<OidcProvider>(&(context.account(), name.to_owned())))
        .ok_or_else(|| {
            errors::no_such_entity_exception(format!("OpenIDConnect Provider not found for arn {arn}"))
        })
}

/// The name of a provider's URL.
fn checked_url(url: &str) -> Result<String, ApiError> {
    let invalid = || errors::invalid_input_exception("Invalid Open ID Connect Provider URL");
    let (scheme, name) = url.split_once("://").ok_or_else(invalid)?;
    let (authority, path) = name.split_at(name.find('/').unwrap_or(name.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let is_host = !host.is_empty()
        && (is_loopback || host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)));
    let port_is_good = port.is_none_or(|port| is_loopback && port.parse::<u16>().is_ok_and(|port| port > 0));
    let scheme_is_good = scheme == "https" || (scheme == "http" && is_loopback);
    let path_is_good = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#%\"<>\\".contains(&byte));
    if !(is_host && port_is_good && scheme_is_good && path_is_good) {
        return Err(invalid());
    }
    Ok(name.to_owned())
}

fn checked_thumbprints(list: Vec<String>) -> Result<Vec<String>, ApiError> {
    if list.len() > THUMBPRINTS_MAX {
        return Err(errors::invalid_input_exception("Thumbprint list must contain fewer than 5 entries."));
    }
    let good = |thumbprint: &String| {
        thumbprint.len() == THUMBPRINT_CHARS && thumbprint.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    if !list.iter().all(good) {
        return Err(errors::invalid_input_exception("Thumbprint must be 40 hexadecimal characters."));
    }
    Ok(list.into_iter().map(|thumbprint| thumbprint.to_ascii_lowercase()).collect())
}

/// Adds client ids that are not there yet.
fn add_client_ids(all: &mut Vec<String>, new: Vec<String>) -> Result<(), ApiError> {
    for id in new {
        if !all.contains(&id) {
            all.push(id);
        }
    }
    if all.len() > CLIENT_IDS_MAX {
        return Err(failures::quota("ClientIdsPerOpenIdConnectProvider", CLIENT_IDS_MAX));
    }
    Ok(())
}

impl Iam {
    pub(super) async fn create_open_id_connect_provider(
        &self,
        context: &RequestContext,
        input: types::CreateOpenIDConnectProviderRequest,
    ) -> Result<types::CreateOpenIDConnectProviderResponse, ApiError> {
        let account = context.account();
        let tags = tags::of_new(input.tags)?;
        let mut client_ids = Vec::new();
        add_client_ids(&mut client_ids, input.client_id_list.unwrap_or_default())?;
        let provider = OidcProvider {
            account,
            name: checked_url(&input.url)?,
            url: input.url,
            created_at: context.now,
            client_ids,
            // Without thumbprints the system's certificate authorities alone are believed.
            thumbprints: checked_thumbprints(input.thumbprint_list.unwrap_or_default())?,
            tags,
        };
        let arn = arn(context.partition(), &provider);
        let described = tags::described(&provider.tags);
        self.change(|transaction| {
            if transaction.record::<OidcProvider>(&(account, provider.name.clone())).is_some() {
                return Err(errors::entity_already_exists_exception(format!(
                    "Provider with url {} already exists.",
                    provider.url
                )));
            }
            if of_account(transaction, account).len() >= PROVIDERS_MAX {
                return Err(failures::quota("OpenIdConnectProvidersPerAccount", PROVIDERS_MAX));
            }
            transaction.put(provider);
            Ok(())
        })
        .await?;
        Ok(types::CreateOpenIDConnectProviderResponse {
            open_id_connect_provider_arn: Some(arn),
            tags: described,
        })
    }

    pub(super) async fn get_open_id_connect_provider(
        &self,
        context: &RequestContext,
        input: types::GetOpenIDConnectProviderRequest,
    ) -> Result<types::GetOpenIDConnectProviderResponse, ApiError> {
        let provider = find(&self.store.snapshot(), context, &input.open_id_connect_provider_arn)?;
        Ok(types::GetOpenIDConnectProviderResponse {
            client_id_list: Some(provider.client_ids.clone()),
            create_date: Some(provider.created_at),
            tags: Some(tags::listed(&provider.tags)),
            thumbprint_list: Some(provider.thumbprints.clone()),
            // As AWS: without the scheme.
            url: Some(provider.name.clone()),
        })
    }

    pub(super) async fn list_open_id_connect_providers(
        &self,
        context: &RequestContext,
        _input: types::ListOpenIDConnectProvidersRequest,
    ) -> Result<types::ListOpenIDConnectProvidersResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let list = snapshot
            .prefix::<OidcProvider>(&context.account().to_bytes())
            .map(|provider| types::OpenIDConnectProviderListEntry {
                arn: Some(arn(context.partition(), &provider)),
            })
            .collect();
        Ok(types::ListOpenIDConnectProvidersResponse { open_id_connect_provider_list: Some(list) })
    }

    /// Deleting what is not there is no error.
    pub(super) async fn delete_open_id_connect_provider(
        &self,
        context: &RequestContext,
        input: types::DeleteOpenIDConnectProviderRequest,
    ) -> Result<(), ApiError> {
        let Some(name) = name_of(context, &input.open_id_connect_provider_arn) else { return Ok(()) };
        let key = (context.account(), name.to_owned());
        self.change(|transaction| {
            transaction.delete::<OidcProvider>(&key);
            Ok(())
        })
        .await
    }

    pub(super) async fn add_client_id_to_open_id_connect_provider(
        &self,
        context: &RequestContext,
        input: types::AddClientIDToOpenIDConnectProviderRequest,
    ) -> Result<(), ApiError> {
        self.change_oidc_provider(context, &input.open_id_connect_provider_arn, |provider| {
            add_client_ids(&mut provider.client_ids, vec![input.client_id])
        })
        .await
    }

    pub(super) async fn remove_client_id_from_open_id_connect_provider(
        &self,
        context: &RequestContext,
        input: types::RemoveClientIDFromOpenIDConnectProviderRequest,
    ) -> Result<(), ApiError> {
        self.change_oidc_provider(context, &input.open_id_connect_provider_arn, |provider| {
            provider.client_ids.retain(|id| *id != input.client_id);
            Ok(())
        })
        .await
    }

    pub(super) async fn update_open_id_connect_provider_thumbprint(
        &self,
        context: &RequestContext,
        input: types::UpdateOpenIDConnectProviderThumbprintRequest,
    ) -> Result<(), ApiError> {
        let thumbprints = checked_thumbprints(input.thumbprint_list)?;
        self.change_oidc_provider(context, &input.open_id_connect_provider_arn, |provider| {
            provider.thumbprints = thumbprints;
            Ok(())
        })
        .await
    }

    pub(super) async fn tag_open_id_connect_provider(
        &self,
        context: &RequestContext,
        input: types::TagOpenIDConnectProviderRequest,
    ) -> Result<(), ApiError> {
        let change = Change::Add(input.tags);
        self.change_oidc_provider(context, &input.open_id_connect_provider_arn, |provider| {
            change.apply(&mut provider.tags)
        })
        .await
    }

    pub(super) async fn untag_open_id_connect_provider(
        &self,
        context: &RequestContext,
        input: types::UntagOpenIDConnectProviderRequest,
    ) -> Result<(), ApiError> {
        let change = Change::Remove(input.tag_keys);
        self.change_oidc_provider(context, &input.open_id_connect_provider_arn, |provider| {
            change.apply(&mut provider.tags)
        })
        .await
    }

    pub(super) async fn list_open_id_connect_provider_tags(
        &self,
        context: &RequestContext,
        input: types::ListOpenIDConnectProviderTagsRequest,
    ) -> Result<types::ListOpenIDConnectProviderTagsResponse, ApiError> {
        let provider = find(&self.store.snapshot(), context, &input.open_id_connect_provider_arn)?;
        let page = paged(&provider.tags, input.marker.as_deref(), input.max_items)?;
        Ok(types::ListOpenIDConnectProviderTagsResponse {
            tags: page.items,
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    async fn change_oidc_provider(
        &self,
        context: &RequestContext,
        arn: &str,
        change: impl FnOnce(&mut OidcProvider) -> Result<(), ApiError> + Send,
    ) -> Result<(), ApiError> {
        self.change(|transaction| {
            let mut provider = OidcProvider::clone(&*find(transaction, context, arn)?);
            change(&mut provider)?;
            transaction.put(provider);
            Ok(())
        })
        .await
    }
}

fn of_account(transaction: &Transaction<'_>, account: AccountId) -> Vec<Arc<OidcProvider>> {
    transaction.prefix::<OidcProvider>(&account.to_bytes()).collect()
}

impl OidcProviders for Iam {
    fn oidc_provider(&self, account: AccountId, name: &str) -> Option<wharf_contracts::OidcProvider> {
        let provider = self.store.snapshot().get::<OidcProvider>(&(account, name.to_owned()))?;
        Some(wharf_contracts::OidcProvider {
            arn: arn(Partition::Aws, &provider),
            url: provider.url.clone(),
            client_ids: provider.client_ids.clone(),
            thumbprints: provider.thumbprints.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_reached_over_tls_or_on_loopback() {
        for (url, name) in [
            ("https://token.example.com", "token.example.com"),
            ("https://oidc.example.com/id/ABC", "oidc.example.com/id/ABC"),
            ("http://127.0.0.1:8080/realm", "127.0.0.1:8080/realm"),
            ("http://localhost:1", "localhost:1"),
            ("https://[::1]:8443", "[::1]:8443"),
        ] {
            assert_eq!(checked_url(url).unwrap(), name);
        }
        for url in [
            "token.example.com",
            "http://token.example.com",
            "https://token.example.com:8443",
            "https://",
            "https://a b",
            "https://user@host",
            "https://host/?query",
            "https://host/#fragment",
            "http://127.0.0.1:0",
            "http://127.0.0.1.example.com",
            "file:///etc/passwd",
        ] {
            assert_eq!(checked_url(url).unwrap_err().code, "InvalidInput", "{url}");
        }
    }

    #[test]
    fn thumbprints_are_sha_1() {
        let good = "990F4193972F2BECF12DDEDA5237F9C952F20D9E".to_owned();
        assert_eq!(checked_thumbprints(vec![good.clone()]).unwrap(), [good.to_ascii_lowercase()]);
        assert!(checked_thumbprints(vec!["g".repeat(40)]).is_err());
        assert!(checked_thumbprints(vec!["a".repeat(39)]).is_err());
        assert!(checked_thumbprints(vec![good; 6]).is_err());
    }
}
