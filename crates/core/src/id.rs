//! Identifiers that belong to no single service. Each kind is its own type.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::REGION_BYTES_MAX;
use crate::rng::Rng;

/// A 12-digit AWS account id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(u64);

impl AccountId {
    /// The account that the built-in `test` key belongs to.
    pub const DEFAULT: Self = Self(0);
    /// Of callers without an account. It has 13 digits, so that no text parses to it and no resource
    /// belongs to it.
    pub const ANONYMOUS: Self = Self(1_000_000_000_000);

    /// The number that the digits make.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:012}", self.0)
    }
}

/// A text that is not an identifier of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {kind}")]
pub struct IdError {
    pub text: String,
    pub kind: &'static str,
}

impl FromStr for AccountId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            // Twelve digits always fit.
            Ok(Self(text.bytes().fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0'))))
        } else {
            Err(IdError { text: text.chars().take(64).collect(), kind: "an account id of 12 digits" })
        }
    }
}

/// A region name, such as `us-east-1`. Any well-formed name is a region.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region(Arc<str>);

impl Region {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Region {
    fn default() -> Self {
        Self("us-east-1".into())
    }
}

impl fmt::Display for Region {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Region {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let well_formed = !text.is_empty()
            && text.len() <= REGION_BYTES_MAX
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        if well_formed {
            Ok(Self(text.into()))
        } else {
            Err(IdError { text: text.chars().take(64).collect(), kind: "a region name" })
        }
    }
}

macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

serde_as_text!(AccountId);
serde_as_text!(Region);

/// The id of one request, in the form of a UUID version 4, as AWS sends in `x-amzn-RequestId`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(u128);

impl RequestId {
    pub fn random(rng: &dyn Rng) -> Self {
        let bits = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
        // RFC 9562, section 5.4: version 4 in bits 48–51, variant 0b10 in bits 64–65.
        let version = bits & !(0xf << 76) | (0x4 << 76);
        Self(version & !(0b11 << 62) | (0b10 << 62))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        write!(formatter, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SeededRng;

    #[test]
    fn account_ids_keep_their_leading_zeros() {
        let account: AccountId = "000000000042".parse().unwrap();
        assert_eq!(account.to_string(), "000000000042");
        assert!("42".parse::<AccountId>().is_err());
        assert!("00000000004x".parse::<AccountId>().is_err());
    }

    #[test]
    fn request_ids_are_version_4_uuids() {
        let id = RequestId::random(&SeededRng::new(1)).to_string();
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "4");
        assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"));
    }
}
