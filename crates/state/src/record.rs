//! What a table holds: versioned records, and the form in which they are written.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::key::Key;

/// A record of a table. Stored as a version and a named MessagePack map, so that a field may be
/// added with `#[serde(default)]` without a new version; anything else takes a new `VERSION` and an
/// [`upgrade`](Record::upgrade) from every older one.
pub trait Record: Clone + Send + Sync + Serialize + DeserializeOwned + 'static {
    /// The table's name on disk, unique within a store. Never changes.
    const TABLE: &'static str;
    /// The version that is written. Begins with 1.
    const VERSION: u32;
    type Key: Key;

    /// The key, which follows from the record alone.
    fn key(&self) -> Self::Key;

    /// The secondary indexes.
    fn indexes() -> &'static [Index<Self>] {
        &[]
    }

    /// Reads a record of an older version. The upgraded record keeps its key; it is written in the
    /// new form when it is next put.
    ///
    /// # Errors
    /// When the bytes are not a record of that version.
    fn upgrade(version: u32, bytes: &[u8]) -> Result<Self, UpgradeError> {
        let _ = bytes;
        Err(UpgradeError::NoPath { from: version })
    }
}

/// A secondary index: under which keys, besides its own, a record is found.
///
/// Keys come from [`Key::to_bytes`], so that a lookup by a leading part of a tuple is a lookup by
/// prefix. A record may have none, one or several keys; records that share a key are kept apart.
pub struct Index<R> {
    pub name: &'static str,
    pub keys: fn(&R) -> Vec<Vec<u8>>,
}

/// Why a record of an older version could not be read.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    #[error("there is no upgrade from version {from}")]
    NoPath { from: u32 },
    #[error("the bytes are not a record of version {from}")]
    Malformed {
        from: u32,
        #[source]
        source: rmp_serde::decode::Error,
    },
}

impl UpgradeError {
    /// Decodes the struct that an older version was, for use in [`Record::upgrade`].
    ///
    /// # Errors
    /// When the bytes are not such a struct.
    pub fn decode<T: DeserializeOwned>(version: u32, bytes: &[u8]) -> Result<T, Self> {
        rmp_serde::from_slice(bytes).map_err(|source| Self::Malformed { from: version, source })
    }
}

/// Why stored bytes are not a record that this build can read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("the value ends before its version")]
    Truncated,
    #[error("the record has version {found}, this build knows {known} at most")]
    Newer { found: u32, known: u32 },
    #[error("the record is malformed")]
    Malformed(#[source] rmp_serde::decode::Error),
    #[error("the record could not be upgraded")]
    Upgrade(#[source] UpgradeError),
    #[error("the record does not belong to the key it is stored under")]
    Key,
}

/// Version (4 bytes, big-endian), then the record as a named map.
pub(crate) fn encode<R: Record>(record: &R) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(&R::VERSION.to_be_bytes());
    record.serialize(&mut rmp_serde::Serializer::new(&mut out).with_struct_map())?;
    Ok(out)
}

pub(crate) fn decode<R: Record>(key: &[u8], value: &[u8]) -> Result<R, DecodeError> {
    let (version, bytes) = value.split_first_chunk::<4>().ok_or(DecodeError::Truncated)?;
    let version = u32::from_be_bytes(*version);
    let record: R = if version == R::VERSION {
        rmp_serde::from_slice(bytes).map_err(DecodeError::Malformed)?
    } else if version > R::VERSION {
        return Err(DecodeError::Newer { found: version, known: R::VERSION });
    } else {
        R::upgrade(version, bytes).map_err(DecodeError::Upgrade)?
    };
    if record.key().to_bytes() == key { Ok(record) } else { Err(DecodeError::Key) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        id: u64,
        text: Option<String>,
        nested: Vec<(String, bool)>,
    }

    impl Record for Sample {
        const TABLE: &'static str = "sample";
        const VERSION: u32 = 3;
        type Key = u64;

        fn key(&self) -> u64 {
            self.id
        }

        fn upgrade(version: u32, bytes: &[u8]) -> Result<Self, UpgradeError> {
            UpgradeError::decode(version, bytes)
        }
    }

    fn sample() -> Sample {
        Sample { id: 7, text: Some("x".into()), nested: vec![("y".into(), true)] }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(
            version in 0..5u32,
            noise in prop::collection::vec(any::<u8>(), 0..64),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut value = encode(&sample()).unwrap();
            value[..4].copy_from_slice(&version.to_be_bytes());
            for (index, byte) in damage {
                *index.get_mut(&mut value) = byte;
            }
            let _ = decode::<Sample>(&7u64.to_bytes(), &value);
            let _ = decode::<Sample>(&noise, &noise);
            let _ = decode::<Sample>(&7u64.to_bytes(), &[&value[..4], &noise].concat());
        }
    }

    #[test]
    fn a_record_under_a_key_that_is_not_its_own_is_refused() {
        let value = encode(&sample()).unwrap();
        assert_eq!(decode::<Sample>(&7u64.to_bytes(), &value).unwrap(), sample());
        assert!(matches!(decode::<Sample>(&8u64.to_bytes(), &value), Err(DecodeError::Key)));
        assert!(matches!(decode::<Sample>(&7u64.to_bytes(), &value[..3]), Err(DecodeError::Truncated)));
    }
}
