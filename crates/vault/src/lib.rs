//! Secrets sealed at rest: everything that Wharf must be able to give back in clear (parameters,
//! secrets, secret access keys) and must not have on its disk in clear, and tokens that it hands out
//! and wants to recognise.
//!
//! # How
//!
//! One master key of 256 bits stands in a file of the data directory ([`KeyFile`]). It never seals
//! anything itself: HKDF-SHA256 (RFC 5869) makes of it one data key for each pair of purpose and key
//! id, and the data key seals with XChaCha20-Poly1305 (RFC 8439; 192-bit random nonces, which may be
//! drawn without a counter). So two KMS keys of one account, two accounts, and two services never
//! share a data key, and what was sealed for one cannot be opened for another.
//!
//! Additional data (`aad`) binds a sealed value to its place: a name, a version. A value that is
//! copied to another record does not open there.
//!
//! # What it protects from
//!
//! A copied journal, a backup, a log or a core dump of the store that does not hold the key file. It
//! does not protect from somebody who can read the key file: that is the data directory's owner.
//!
//! This crate knows no AWS word, stores nothing but its key file, and must never put a secret into an
//! error, a log or a `Debug`.

#![forbid(unsafe_code)]

mod key_file;
mod sealed;
mod secret;

use std::fmt;
use std::sync::Arc;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use wharf_core::Rng;
use zeroize::Zeroizing;

pub use key_file::{KeyFile, KeyFileError};
pub use sealed::Sealed;
pub use secret::Secret;

/// The form of a sealed value: version, fingerprint of the master key, nonce, ciphertext, tag.
const FORMAT: u8 = 1;
const FINGERPRINT_BYTES: usize = 8;
const NONCE_BYTES: usize = 24;
const HEADER_BYTES: usize = 1 + FINGERPRINT_BYTES + NONCE_BYTES;
const TAG_BYTES: usize = 16;
pub(crate) const MASTER_BYTES: usize = 32;

/// What a sealed value has more than the plaintext.
pub const SEALED_OVERHEAD_BYTES: usize = HEADER_BYTES + TAG_BYTES;

/// Names a master key without telling anything of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; FINGERPRINT_BYTES]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Fingerprint({self})")
    }
}

/// Why a sealed value does not open. Says nothing of what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    #[error("the bytes are not a sealed value")]
    Malformed,
    #[error("the value was sealed with another master key, {found}")]
    OtherKey { found: Fingerprint },
    /// Another purpose, key id or place, or damage: these cannot be told apart.
    #[error("the value was changed, or sealed for another use or place")]
    Refused,
}

/// Seals and unseals with the keys that follow from one master key. A clone is another handle.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

struct Inner {
    master: Zeroizing<[u8; MASTER_BYTES]>,
    fingerprint: Fingerprint,
    rng: Arc<dyn Rng>,
}

impl Vault {
    /// With the key of a file. `rng` must be cryptographic: it draws the nonces.
    pub fn new(key: &KeyFile, rng: Arc<dyn Rng>) -> Self {
        Self::with_master(key.master(), rng)
    }

    /// With a key that nobody keeps: for tests and the simulator.
    pub fn ephemeral(rng: Arc<dyn Rng>) -> Self {
        let mut master = Zeroizing::new([0; MASTER_BYTES]);
        fill(&*rng, &mut *master);
        Self::with_master(&master, rng)
    }

    fn with_master(master: &[u8; MASTER_BYTES], rng: Arc<dyn Rng>) -> Self {
        let fingerprint = fingerprint(master);
        Self(Arc::new(Inner { master: Zeroizing::new(*master), fingerprint, rng }))
    }

    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    /// The data key of a purpose (`iam.access-key`) and a key id (a KMS key's ARN; empty where there
    /// is none). Deriving it costs a few hashes: keep it where seals are frequent.
    pub fn data_key(&self, purpose: &str, key_id: &str) -> DataKey {
        let mut key = Zeroizing::new([0; 32]);
        expand(&self.0.master, &[b"data key", purpose.as_bytes(), key_id.as_bytes()], &mut *key);
        DataKey {
            cipher: XChaCha20Poly1305::new(&Key::from(*key)),
            fingerprint: self.0.fingerprint,
            rng: Arc::clone(&self.0.rng),
        }
    }

    /// Seals under the data key of `purpose` without a key id; see [`DataKey::seal`].
    pub fn seal(&self, purpose: &str, aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        self.data_key(purpose, "").seal(aad, plaintext)
    }

    /// Opens what [`Vault::seal`] made with the same purpose and `aad`.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn unseal(
        &self,
        purpose: &str,
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        self.data_key(purpose, "").unseal(aad, sealed)
    }
}

/// A key for one purpose and one key id.
#[derive(Clone)]
pub struct DataKey {
    cipher: XChaCha20Poly1305,
    fingerprint: Fingerprint,
    rng: Arc<dyn Rng>,
}

impl DataKey {
    /// Seals `plaintext` to this key and to `aad`, which is not kept in the result. Two seals of one
    /// text differ.
    ///
    /// # Panics
    /// Above 256 GiB, which XChaCha20 cannot seal at once and no caller's limit allows.
    pub fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        fill(&*self.rng, &mut nonce);
        let mut out = Vec::with_capacity(SEALED_OVERHEAD_BYTES + plaintext.len());
        out.push(FORMAT);
        out.extend_from_slice(&self.fingerprint.0);
        out.extend_from_slice(&nonce);
        let bound = bind(&out, aad);
        let payload = Payload { msg: plaintext, aad: &bound };
        let ciphertext = self
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .expect("the text is far below the cipher's bound");
        out.extend_from_slice(&ciphertext);
        out
    }

    /// Opens what [`DataKey::seal`] made with the same key and `aad`.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn unseal(&self, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        if sealed.len() < SEALED_OVERHEAD_BYTES || sealed[0] != FORMAT {
            return Err(UnsealError::Malformed);
        }
        let (header, ciphertext) = sealed.split_at(HEADER_BYTES);
        let (fingerprint, nonce) = header[1..].split_at(FINGERPRINT_BYTES);
        if fingerprint != self.fingerprint.0 {
            let mut found = [0; FINGERPRINT_BYTES];
            found.copy_from_slice(fingerprint);
            return Err(UnsealError::OtherKey { found: Fingerprint(found) });
        }
        let mut drawn = [0; NONCE_BYTES];
        drawn.copy_from_slice(nonce);
        let bound = bind(header, aad);
        let payload = Payload { msg: ciphertext, aad: &bound };
        self.cipher
            .decrypt(&XNonce::from(drawn), payload)
            .map(Zeroizing::new)
            .map_err(|_| UnsealError::Refused)
    }
}

/// What is authenticated beside the text: the header, whose length is fixed, and the caller's data.
fn bind(header: &[u8], aad: &[u8]) -> Vec<u8> {
    [header, aad].concat()
}

fn fingerprint(master: &[u8; MASTER_BYTES]) -> Fingerprint {
    let mut bytes = [0; FINGERPRINT_BYTES];
    expand(master, &[b"fingerprint"], &mut bytes);
    Fingerprint(bytes)
}

/// HKDF's second step; the master key is uniform, as its first step would have it. Each part is
/// preceded by its length, so that no two lists of parts are the same bytes.
fn expand(master: &[u8; MASTER_BYTES], parts: &[&[u8]], out: &mut [u8]) {
    let mut info = Vec::with_capacity(128);
    for part in parts {
        info.extend_from_slice(&(part.len() as u64).to_be_bytes());
        info.extend_from_slice(part);
    }
    Hkdf::<Sha256>::from_prk(master)
        .expect("the master key is as long as the hash")
        .expand(&info, out)
        .expect("32 bytes are far below HKDF's bound");
}

pub(crate) fn fill(rng: &dyn Rng, out: &mut [u8]) {
    for chunk in out.chunks_mut(8) {
        let bytes = rng.next_u64().to_le_bytes();
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wharf_core::SeededRng;

    use super::*;

    fn vault(seed: u64) -> Vault {
        Vault::ephemeral(Arc::new(SeededRng::new(seed)))
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_at_its_place_alone(
            text in prop::collection::vec(any::<u8>(), 0..200),
            aad in prop::collection::vec(any::<u8>(), 0..20),
            other in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let vault = vault(1);
            let sealed = vault.seal("purpose", &aad, &text);
            prop_assert_eq!(sealed.len(), text.len() + SEALED_OVERHEAD_BYTES);
            prop_assert_eq!(&*vault.unseal("purpose", &aad, &sealed).unwrap(), &text);
            prop_assert_eq!(vault.unseal("purpose", &other, &sealed).is_ok(), aad == other);
            prop_assert_eq!(vault.unseal("other", &aad, &sealed), Err(UnsealError::Refused));
            prop_assert_eq!(vault.data_key("purpose", "k").unseal(&aad, &sealed), Err(UnsealError::Refused));
        }

        #[test]
        fn no_changed_byte_and_no_noise_opens(
            index in any::<prop::sample::Index>(),
            change in 1..=255u8,
            cut in any::<prop::sample::Index>(),
            noise in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let vault = vault(1);
            let sealed = vault.seal("purpose", b"place", b"the text");
            let mut changed = sealed.clone();
            *index.get_mut(&mut changed) ^= change;
            prop_assert!(vault.unseal("purpose", b"place", &changed).is_err());
            prop_assert!(vault.unseal("purpose", b"place", &sealed[..cut.index(sealed.len())]).is_err());
            prop_assert!(vault.unseal("purpose", b"place", &noise).is_err());
        }
    }

    #[test]
    fn purposes_and_key_ids_have_keys_of_their_own_however_they_are_split() {
        let vault = vault(1);
        let sealed = vault.data_key("ab", "c").seal(b"", b"text");
        assert_eq!(vault.data_key("a", "bc").unseal(b"", &sealed), Err(UnsealError::Refused));
        assert_eq!(&**vault.data_key("ab", "c").unseal(b"", &sealed).unwrap(), b"text");
    }

    #[test]
    fn another_master_key_is_told_by_name() {
        let (first, second) = (vault(1), vault(2));
        let sealed = first.seal("purpose", b"", b"text");
        let found = first.fingerprint();
        assert_eq!(second.unseal("purpose", b"", &sealed), Err(UnsealError::OtherKey { found }));
    }

    #[test]
    fn two_seals_of_one_text_share_nothing() {
        let vault = vault(1);
        let (first, second) = (vault.seal("p", b"", b"text"), vault.seal("p", b"", b"text"));
        assert_ne!(first[HEADER_BYTES..], second[HEADER_BYTES..]);
    }

    /// What a release has sealed must open for ever after.
    #[test]
    fn the_sealed_form_does_not_change() {
        let key = KeyFile::parse(&format!("wharf-vault 1 {}\n", "07".repeat(32))).unwrap();
        let vault = Vault::new(&key, Arc::new(SeededRng::new(1)));
        let sealed = hex::decode(SEALED_BY_THE_FIRST_RELEASE).unwrap();
        let data_key = vault.data_key("purpose", "key");
        let now = hex::encode(data_key.seal(b"place", b"kept"));
        let opened = data_key.unseal(b"place", &sealed);
        assert!(opened.is_ok_and(|text| **text == *b"kept"), "now it is {now}");
    }

    const SEALED_BY_THE_FIRST_RELEASE: &str = "017a837c9c899143f2611830d3641a68f94a690dcc25d1f4b0dac948325ac18f6da00e3c7d7aafa3f4f61d1ad7068752a226468a20";
}
