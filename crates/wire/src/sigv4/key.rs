//! Signing keys: derived from a secret by four HMACs, good for one day, region and service, and
//! therefore kept.

use std::hash::{BuildHasher, RandomState};

use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha2::Sha256;

use super::claim::CredentialScope;

type HmacSha256 = Hmac<Sha256>;

/// How many keys are kept: `CACHE_SETS` × `CACHE_WAYS`. A deployment has a key for each (access
/// key, day, region, service) in use, so that a few hundred hold every busy one.
const CACHE_SETS: usize = 128;
const CACHE_WAYS: usize = 4;

/// A derived key, with the two inner hash states of its HMAC already computed.
#[derive(Clone)]
pub(crate) struct SigningKey(HmacSha256);

impl SigningKey {
    pub(crate) fn derive(secret: &str, scope: &CredentialScope<'_>) -> Self {
        let mut seed = Vec::with_capacity(4 + secret.len());
        seed.extend_from_slice(b"AWS4");
        seed.extend_from_slice(secret.as_bytes());
        let date = keyed(&seed).chain_update(scope.date).finalize().into_bytes();
        let region = keyed(&date).chain_update(scope.region).finalize().into_bytes();
        let service = keyed(&region).chain_update(scope.service).finalize().into_bytes();
        let signing = keyed(&service).chain_update(scope.terminator).finalize().into_bytes();
        Self(keyed(&signing))
    }

    pub(crate) fn sign(&self, text: &[u8]) -> [u8; 32] {
        self.0.clone().chain_update(text).finalize().into_bytes().into()
    }
}

fn keyed(key: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).expect("an HMAC key may have any length")
}

struct Entry {
    access_key_id: String,
    secret: String,
    date: String,
    region: String,
    service: String,
    key: SigningKey,
}

impl Entry {
    fn is_for(&self, access_key_id: &str, secret: &str, scope: &CredentialScope<'_>) -> bool {
        // The secret compared is the one that the credential source gave for this key id, never one
        // that a caller sent: a replaced secret must not meet the key of its predecessor.
        self.access_key_id == access_key_id
            && self.secret == secret
            && self.date == scope.date
            && self.region == scope.region
            && self.service == scope.service
    }
}

/// A bounded cache of signing keys: each set keeps its `CACHE_WAYS` most recently used.
pub(crate) struct KeyCache {
    hasher: RandomState,
    sets: Vec<Mutex<Vec<Entry>>>,
}

impl KeyCache {
    pub(crate) fn new() -> Self {
        Self { hasher: RandomState::new(), sets: (0..CACHE_SETS).map(|_| Mutex::new(Vec::new())).collect() }
    }

    pub(crate) fn get(&self, access_key_id: &str, secret: &str, scope: &CredentialScope<'_>) -> SigningKey {
        let hash = self.hasher.hash_one((access_key_id, scope.date, scope.region, scope.service));
        let set = &self.sets[(hash % CACHE_SETS as u64) as usize];
        {
            let mut entries = set.lock();
            if let Some(position) =
                entries.iter().position(|entry| entry.is_for(access_key_id, secret, scope))
            {
                entries[..=position].rotate_right(1);
                return entries[0].key.clone();
            }
        }
        let key = SigningKey::derive(secret, scope);
        let entry = Entry {
            access_key_id: access_key_id.to_owned(),
            secret: secret.to_owned(),
            date: scope.date.to_owned(),
            region: scope.region.to_owned(),
            service: scope.service.to_owned(),
            key: key.clone(),
        };
        let mut entries = set.lock();
        entries.truncate(CACHE_WAYS - 1);
        entries.insert(0, entry);
        key
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.sets.iter().map(|set| set.lock().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn scope(region: &str) -> CredentialScope<'_> {
        CredentialScope { date: "20150830", region, service: "iam", terminator: "aws4_request" }
    }

    #[test]
    fn the_documented_string_to_sign_gives_the_documented_signature() {
        // IAM User Guide, the `ListUsers` example.
        let key = SigningKey::derive(SECRET, &scope("us-east-1"));
        let text = "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n\
                    f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59";
        assert_eq!(
            hex::encode(key.sign(text.as_bytes())),
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    #[test]
    fn the_cache_is_bounded_and_a_new_secret_gets_a_new_key() {
        let cache = KeyCache::new();
        let first = cache.get("AKID", SECRET, &scope("us-east-1")).sign(b"x");
        assert_eq!(cache.get("AKID", SECRET, &scope("us-east-1")).sign(b"x"), first);
        assert_eq!(cache.len(), 1);
        assert_ne!(cache.get("AKID", "another", &scope("us-east-1")).sign(b"x"), first);
        for number in 0..5000 {
            cache.get("AKID", SECRET, &scope(&format!("region-{number}")));
        }
        assert!(cache.len() <= CACHE_SETS * CACHE_WAYS);
        assert_eq!(cache.get("AKID", SECRET, &scope("us-east-1")).sign(b"x"), first);
    }
}
