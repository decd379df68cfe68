//! Whether two specs are equal, without keeping either: 128-bit FNV-1a over their encoding. It must
//! stay the same from one release to the next, which the standard library's hasher does not promise.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(u128);

impl Fingerprint {
    pub fn of_bytes(bytes: &[u8]) -> Self {
        const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        Self(bytes.iter().fold(BASIS, |hash, &byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME)))
    }

    pub fn of(value: &impl Serialize) -> Self {
        Self::of_bytes(&postcard::to_allocvec(value).unwrap_or_default())
    }

    /// The low 32 bits, for a name.
    pub fn short(self) -> u32 {
        (self.0 & u128::from(u32::MAX)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(Fingerprint::of_bytes(b"a").0, 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }
}
