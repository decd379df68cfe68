//! A provider's public keys, and whether a signature is of one of them.
//!
//! A key verifies only the algorithms of its own kind, so that no token can choose to be checked in a
//! way that its key was not made for; `none` and the symmetric algorithms do not exist here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;

/// The most keys of a set that are looked at: IAM's bound is 100 RSA and 100 elliptic keys.
const KEYS_MAX: usize = 200;
/// The longest modulus, in bytes: 8192 bits.
const MODULUS_BYTES_MAX: usize = 1024;

/// The signature algorithms that STS takes (RFC 7518, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
}

impl Algorithm {
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            _ => return None,
        })
    }

    fn method(self) -> Method {
        match self {
            Self::Rs256 => Method::Rsa(&RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Method::Rsa(&RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Method::Rsa(&RSA_PKCS1_2048_8192_SHA512),
            Self::Es256 => Method::Elliptic(Curve::P256, &ECDSA_P256_SHA256_FIXED),
            Self::Es384 => Method::Elliptic(Curve::P384, &ECDSA_P384_SHA384_FIXED),
        }
    }
}

enum Method {
    Rsa(&'static RsaParameters),
    Elliptic(Curve, &'static EcdsaVerificationAlgorithm),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    /// Modulus and exponent, big endian, without leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// An uncompressed point.
    Elliptic { curve: Curve, point: Vec<u8> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    id: Option<String>,
    /// The only algorithm that it is for, if it says so.
    algorithm: Option<String>,
    material: Material,
}

/// The keys of a provider that can verify something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet(Vec<Key>);

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<serde_json::Value>,
}

/// RFC 7517, 4.
#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    #[error("the document is not a JSON Web Key Set")]
    Form,
    #[error("the key set has more than {KEYS_MAX} keys")]
    TooMany,
}

impl KeySet {
    /// Reads a key set. Keys of kinds that are not known here are passed over (RFC 7517, 5).
    ///
    /// # Errors
    /// When the document is no key set.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        let set: RawSet = serde_json::from_slice(document).map_err(|_| KeySetError::Form)?;
        if set.keys.len() > KEYS_MAX {
            return Err(KeySetError::TooMany);
        }
        Ok(Self(set.keys.into_iter().filter_map(read_key).collect()))
    }

    pub fn has(&self, key_id: &str) -> bool {
        self.0.iter().any(|key| key.id.as_deref() == Some(key_id))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key of the set made this signature. A token that names no key is checked with every
    /// key that names none, or with the only one.
    pub fn verify(
        &self,
        algorithm: Algorithm,
        key_id: Option<&str>,
        signed: &[u8],
        signature: &[u8],
    ) -> bool {
        let only = self.0.len() == 1;
        self.0
            .iter()
            .filter(|key| match key_id {
                Some(id) => key.id.as_deref() == Some(id),
                None => only || key.id.is_none(),
            })
            .any(|key| key.verify(algorithm, signed, signature))
    }
}

impl Key {
    fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        let is_for = self.algorithm.as_deref().is_none_or(|name| Algorithm::named(name) == Some(algorithm));
        is_for
            && match (algorithm.method(), &self.material) {
                (Method::Rsa(parameters), Material::Rsa { n, e }) => {
                    RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok()
                }
                (Method::Elliptic(wanted, method), Material::Elliptic { curve, point })
                    if wanted == *curve =>
                {
                    UnparsedPublicKey::new(method, point).verify(signed, signature).is_ok()
                }
                _ => false,
            }
    }
}

fn read_key(value: serde_json::Value) -> Option<Key> {
    let raw: RawKey = serde_json::from_value(value).ok()?;
    if raw.purpose.is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let decode = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?.trim_end_matches('=')).ok();
    let material = match (raw.kty.as_str(), raw.crv.as_deref()) {
        ("RSA", _) => {
            let (n, e) = (unsigned(decode(raw.n)?), unsigned(decode(raw.e)?));
            if n.len() > MODULUS_BYTES_MAX {
                return None;
            }
            Material::Rsa { n, e }
        }
        ("EC", Some("P-256")) => elliptic(Curve::P256, 32, &decode(raw.x)?, &decode(raw.y)?)?,
        ("EC", Some("P-384")) => elliptic(Curve::P384, 48, &decode(raw.x)?, &decode(raw.y)?)?,
        _ => return None,
    };
    Some(Key { id: raw.kid, algorithm: raw.alg, material })
}

fn elliptic(curve: Curve, bytes: usize, x: &[u8], y: &[u8]) -> Option<Material> {
    if x.len() != bytes || y.len() != bytes {
        return None;
    }
    // SEC 1, 2.3.3: 4 begins an uncompressed point.
    Some(Material::Elliptic { curve, point: [&[4], x, y].concat() })
}

fn unsigned(mut bytes: Vec<u8>) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.drain(..zeros);
    bytes
}
