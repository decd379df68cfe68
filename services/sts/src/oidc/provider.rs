//! The keys of identity providers: found through the discovery document, kept for a while, asked for
//! anew when a token names a key that is not among them.
//!
//! OpenID Connect Discovery 1.0, section 4.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use wharf_contracts::OidcProvider;
use wharf_core::Timestamp;

use super::fetch::{self, FetchError};
use super::keys::{KeySet, KeySetError};

/// How long keys are believed without asking again.
const KEYS_FRESH_FOR: Duration = Duration::from_secs(10 * 60);
/// How soon a provider is asked again because of a key that it did not have, or because it failed.
const KEYS_ASKED_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Providers whose keys are kept.
const PROVIDERS_MAX: usize = 256;
/// Fetches at once; others wait.
const FETCHES_MAX: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The provider could not be reached.
    #[error("the identity provider cannot be reached")]
    Fetch(#[from] FetchError),
    /// It was reached, and what it says is of no use.
    #[error("the discovery document of the identity provider lacks {0}")]
    Discovery(&'static str),
    #[error("the discovery document is of another issuer")]
    Issuer,
    #[error("the keys of the identity provider cannot be read")]
    Keys(#[from] KeySetError),
}

/// The members that IAM requires of a discovery document.
#[derive(Deserialize)]
struct Discovery {
    issuer: Option<String>,
    jwks_uri: Option<String>,
    response_types_supported: Option<serde_json::Value>,
    subject_types_supported: Option<serde_json::Value>,
    id_token_signing_alg_values_supported: Option<serde_json::Value>,
}

struct Kept {
    at: Timestamp,
    answer: Answer,
}

/// A failure is kept as well, for a moment: who shows tokens in a row must not make us wait for a
/// dead provider each time.
type Answer = Result<Arc<KeySet>, Arc<ProviderError>>;

/// Keys by the provider's URL and thumbprints: a provider that trusts other certificates is another.
pub struct Providers {
    kept: Mutex<HashMap<(String, Vec<String>), Kept>>,
    fetches: Semaphore,
}

impl Default for Providers {
    fn default() -> Self {
        Self { kept: Mutex::new(HashMap::new()), fetches: Semaphore::new(FETCHES_MAX) }
    }
}

impl Providers {
    /// The provider's keys; fetched when none are kept, when they are old, or when `key_id` is not
    /// among them.
    ///
    /// # Errors
    /// As [`ProviderError`] says.
    pub async fn keys(&self, provider: &OidcProvider, key_id: Option<&str>, now: Timestamp) -> Answer {
        let place = (provider.url.clone(), provider.thumbprints.clone());
        if let Some(answer) = self.kept(&place, key_id, now) {
            return answer;
        }
        // The semaphore is never closed.
        let _permit = self.fetches.acquire().await;
        if let Some(answer) = self.kept(&place, key_id, now) {
            return answer;
        }
        let began = Instant::now();
        let answer = fetch_keys(provider).await.map(Arc::new).map_err(Arc::new);
        // What took its time to fail is no older than its answer.
        let at = now.plus(began.elapsed());
        let mut kept = self.kept.lock();
        if kept.len() >= PROVIDERS_MAX && !kept.contains_key(&place) {
            let oldest = kept.iter().min_by_key(|(_, kept)| kept.at).map(|(place, _)| place.clone());
            oldest.map(|oldest| kept.remove(&oldest));
        }
        kept.insert(place, Kept { at, answer: answer.clone() });
        answer
    }

    fn kept(&self, place: &(String, Vec<String>), key_id: Option<&str>, now: Timestamp) -> Option<Answer> {
        let kept = self.kept.lock();
        let found = kept.get(place)?;
        let is_good = found.answer.as_ref().is_ok_and(|keys| key_id.is_none_or(|id| keys.has(id)));
        let fresh_for = if is_good { KEYS_FRESH_FOR } else { KEYS_ASKED_AGAIN_AFTER };
        (now.since(found.at) < fresh_for).then(|| found.answer.clone())
    }
}

async fn fetch_keys(provider: &OidcProvider) -> Result<KeySet, ProviderError> {
    let url = format!("{}/.well-known/openid-configuration", provider.url.trim_end_matches('/'));
    let document = fetch::get(&url, &provider.thumbprints).await?;
    let discovery: Discovery = serde_json::from_slice(&document)
        .map_err(|_| ProviderError::Discovery("the form of a JSON object"))?;
    for (name, value) in [
        ("response_types_supported", &discovery.response_types_supported),
        ("subject_types_supported", &discovery.subject_types_supported),
        ("id_token_signing_alg_values_supported", &discovery.id_token_signing_alg_values_supported),
    ] {
        if value.is_none() {
            return Err(ProviderError::Discovery(name));
        }
    }
    let issuer = discovery.issuer.ok_or(ProviderError::Discovery("issuer"))?;
    if issuer.trim_end_matches('/') != provider.url.trim_end_matches('/') {
        return Err(ProviderError::Issuer);
    }
    let keys_url = discovery.jwks_uri.ok_or(ProviderError::Discovery("jwks_uri"))?;
    // Who is asked over TLS must not send us to a place without.
    if provider.url.starts_with("https://") && !keys_url.starts_with("https://") {
        return Err(ProviderError::Discovery("an https jwks_uri"));
    }
    Ok(KeySet::parse(&fetch::get(&keys_url, &provider.thumbprints).await?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_is_silent_is_not_waited_for_each_time() {
        // Connections are taken by the kernel, and answered by nobody.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let provider = OidcProvider {
            arn: String::new(),
            url: format!("http://{}", silent.local_addr().unwrap()),
            client_ids: Vec::new(),
            thumbprints: Vec::new(),
        };
        let providers = Providers::default();
        let (now, began) = (Timestamp::from_millis(0), Instant::now());
        let failure = async |now| providers.keys(&provider, None, now).await.unwrap_err();
        let first = failure(now).await;
        assert!(matches!(&*first, ProviderError::Fetch(FetchError::Timeout { .. })), "{first:?}");
        let waited = began.elapsed();
        assert!(Arc::ptr_eq(&first, &failure(now.plus(waited)).await));
        assert_eq!(began.elapsed(), waited);
        let later = failure(now.plus(waited + KEYS_ASKED_AGAIN_AFTER)).await;
        assert!(!Arc::ptr_eq(&first, &later));
    }
}
