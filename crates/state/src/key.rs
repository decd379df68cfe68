//! Keys whose encodings sort as the keys do.
//!
//! Every encoding tells its own end, so that a tuple is its parts one after the other and the
//! encoding of a leading part is a prefix of every key that begins with it. Numbers are big-endian
//! (the sign bit flipped where there is one). Texts and byte strings end with `00 00`, and a zero
//! byte within them is written `00 ff`, which sorts behind the end and before every other byte.

use std::fmt::Debug;

use wharf_core::{AccountId, Region, Scope, Timestamp};

/// The key of a record.
///
/// Law: `a.cmp(&b)` equals the order of the encodings' bytes, `decode(encode(k)) == k`, and an
/// encoding is never a proper prefix of another key's. Decoding any bytes returns, it never panics.
pub trait Key: Ord + Clone + Debug + Send + Sync + 'static {
    /// Appends the encoding to `out`.
    fn encode(&self, out: &mut Vec<u8>);

    /// Takes one key from the front of `input`; `None` when there is none.
    fn decode_from(input: &mut &[u8]) -> Option<Self>;

    /// The key that these bytes, all of them, encode.
    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let key = Self::decode_from(&mut bytes)?;
        bytes.is_empty().then_some(key)
    }

    /// The encoding: a key, or the prefix of every longer tuple that begins with this value.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48);
        self.encode(&mut out);
        out
    }
}

/// Appends `bytes` in the escaped form, with its end.
pub(crate) fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    escape_open(bytes, out);
    out.extend_from_slice(&[0, 0]);
}

/// Appends `bytes` in the escaped form without its end: a prefix of all that begins with `bytes`.
pub(crate) fn escape_open(bytes: &[u8], out: &mut Vec<u8>) {
    for (index, run) in bytes.split(|&byte| byte == 0).enumerate() {
        if index > 0 {
            out.extend_from_slice(&[0, 0xff]);
        }
        out.extend_from_slice(run);
    }
}

fn unescape(input: &mut &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        if byte != 0 {
            out.push(byte);
            continue;
        }
        let (&mark, rest) = input.split_first()?;
        *input = rest;
        match mark {
            0 => return Some(out),
            0xff => out.push(0),
            _ => return None,
        }
    }
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = input.split_first_chunk::<N>()?;
    *input = rest;
    Some(*head)
}

macro_rules! unsigned_key {
    ($($type:ty),*) => {$(
        impl Key for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn decode_from(input: &mut &[u8]) -> Option<Self> {
                take(input).map(Self::from_be_bytes)
            }
        }
    )*};
}

unsigned_key!(u8, u16, u32, u64, u128);

impl Key for i64 {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.cast_unsigned() ^ (1 << 63)).encode(out);
    }

    fn decode_from(input: &mut &[u8]) -> Option<Self> {
        u64::decode_from(input).map(|bits| (bits ^ (1 << 63)).cast_signed())
    }
}

impl Key for Timestamp {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_millis().encode(out);
    }

    fn decode_from(input: &mut &[u8]) -> Option<Self> {
        i64::decode_from(input).map(Self::from_millis)
    }
}

impl Key for String {
    fn encode(&self, out: &mut Vec<u8>) {
        escape(self.as_bytes(), out);
    }

    fn decode_from(input: &mut &[u8]) -> Option<Self> {
        Self::from_utf8(unescape(input)?).ok()
    }
}

impl Key for Vec<u8> {
    fn encode(&self, out: &mut Vec<u8>) {
        escape(self, out);
    }

    fn decode_from(input: &mut &[u8]) -> Option<Self> {
        unescape(input)
    }
}

impl Key for AccountId {
    fn encode(&self, out: &mut Vec<u8>) {
        // Always twelve digits.
        out.extend_from_slice(self.to_string().as_bytes());
    }

    fn decode_from(input: &mut &[u8]) -> Option<Self> {
        let digits: [u8; 12] = take(input)?;
        std::str::from_utf8(&digits).ok()?.parse().ok()
    }
}

impl Key for Region {
    fn encode(&self, out: &mut Vec<u8>) {
        escape(self.as_str().as_bytes(), out);
    }

    fn decode_from(input: &mut &[u8]) -> Option<Self> {
        std::str::from_utf8(&unescape(input)?).ok()?.parse().ok()
    }
}

impl Key for Scope {
    fn encode(&self, out: &mut Vec<u8>) {
        self.account.encode(out);
        self.region.encode(out);
    }

    fn decode_from(input: &mut &[u8]) -> Option<Self> {
        Some(Self { account: Key::decode_from(input)?, region: Key::decode_from(input)? })
    }
}

impl<T: Key> Key for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(value) => {
                out.push(1);
                value.encode(out);
            }
        }
    }

    fn decode_from(input: &mut &[u8]) -> Option<Self> {
        match u8::decode_from(input)? {
            0 => Some(None),
            1 => T::decode_from(input).map(Some),
            _ => None,
        }
    }
}

macro_rules! tuple_key {
    ($($part:ident $index:tt),+) => {
        impl<$($part: Key),+> Key for ($($part,)+) {
            fn encode(&self, out: &mut Vec<u8>) {
                $(self.$index.encode(out);)+
            }

            fn decode_from(input: &mut &[u8]) -> Option<Self> {
                Some(($($part::decode_from(input)?,)+))
            }
        }
    };
}

tuple_key!(A 0);
tuple_key!(A 0, B 1);
tuple_key!(A 0, B 1, C 2);
tuple_key!(A 0, B 1, C 2, D 3);
tuple_key!(A 0, B 1, C 2, D 3, E 4);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Mixed = (Vec<u8>, i64, Option<String>, u32, Option<(Timestamp,)>);

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()], 0..4)
    }

    fn mixed() -> impl Strategy<Value = Mixed> {
        let number = prop_oneof![Just(i64::MIN), Just(-1), Just(0), Just(i64::MAX), any::<i64>()];
        let text = prop::option::of("[a\u{0}\u{ff}]{0,3}");
        let time = prop::option::of((-2i64..2).prop_map(|millis| (Timestamp::from_millis(millis),)));
        (bytes(), number, text, any::<u32>(), time)
    }

    proptest! {
        #[test]
        fn encodings_sort_as_keys_do_and_decode_to_them(a in mixed(), b in mixed()) {
            prop_assert_eq!(a.to_bytes().cmp(&b.to_bytes()), a.cmp(&b));
            prop_assert!(a == b || !b.to_bytes().starts_with(&a.to_bytes()));
            prop_assert_eq!(Mixed::decode(&a.to_bytes()), Some(a));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(input in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(key) = Mixed::decode(&input) {
                prop_assert_eq!(key.to_bytes(), input.clone());
            }
            if let Some(key) = <(Scope, String)>::decode(&input) {
                prop_assert_eq!(key.to_bytes(), input.clone());
            }
            if let Some(key) = <(u128, u64, u16, u8)>::decode(&input) {
                prop_assert_eq!(key.to_bytes(), input);
            }
        }
    }

    #[test]
    fn a_scope_is_a_prefix_of_what_is_in_it_and_of_nothing_else() {
        let scope = |account: &str, region: &str| Scope {
            account: account.parse().unwrap(),
            region: region.parse().unwrap(),
        };
        let east = scope("000000000001", "us-east-1");
        let key = (east.clone(), "web".to_owned());
        assert!(key.to_bytes().starts_with(&east.to_bytes()));
        assert_eq!(<(Scope, String)>::decode(&key.to_bytes()), Some(key));
        assert!(
            !(scope("000000000001", "us-east-12"), String::new()).to_bytes().starts_with(&east.to_bytes())
        );
        assert!(east < scope("000000000002", "af-south-1"));
        assert!(east.to_bytes() < scope("000000000002", "af-south-1").to_bytes());
    }
}
