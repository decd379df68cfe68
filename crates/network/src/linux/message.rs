//! Netlink messages, written by hand: one small builder serves rtnetlink and nfnetlink alike.
//!
//! Layout as in `linux/netlink.h`: a 16-byte header, a fixed part that depends on the type, then
//! attributes of length, type and value, each padded to four bytes. Integers are in host order
//! unless the attribute says otherwise.

pub const NLM_F_REQUEST: u16 = 0x1;
pub const NLM_F_ACK: u16 = 0x4;
pub const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_REPLACE: u16 = 0x100;
pub const NLM_F_EXCL: u16 = 0x200;
pub const NLM_F_CREATE: u16 = 0x400;
pub const NLM_F_APPEND: u16 = 0x800;

const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;
const HEADER_BYTES: usize = 16;

/// Requests that go to the kernel in one datagram. Each is acknowledged on its own, in order,
/// except those marked otherwise.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// What each request is for, for the error message.
    purposes: Vec<&'static str>,
    /// Where the last request begins.
    last: usize,
}

impl Batch {
    pub fn new() -> Self {
        Self { bytes: Vec::with_capacity(1024), purposes: Vec::with_capacity(8), last: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn purposes(&self) -> &[&'static str] {
        &self.purposes
    }

    /// Adds a request that is acknowledged.
    pub fn request(&mut self, purpose: &'static str, kind: u16, flags: u16, fixed: &[u8]) -> Message<'_> {
        self.push(purpose, kind, flags | NLM_F_REQUEST | NLM_F_ACK, fixed)
    }

    /// Adds a request without an acknowledgement: a dump, or the ends of an nftables batch.
    pub fn unacknowledged(
        &mut self,
        purpose: &'static str,
        kind: u16,
        flags: u16,
        fixed: &[u8],
    ) -> Message<'_> {
        self.push(purpose, kind, flags | NLM_F_REQUEST, fixed)
    }

    /// Has the last request acknowledged, and says its sequence number: `None` without a request.
    pub fn acknowledge_last(&mut self) -> Option<u32> {
        let flags = self.bytes.get_mut(self.last + 6..self.last + 8)?;
        let with_ack = u16::from_ne_bytes([flags[0], flags[1]]) | NLM_F_ACK;
        flags.copy_from_slice(&with_ack.to_ne_bytes());
        Some(self.purposes.len() as u32 - 1)
    }

    fn push(&mut self, purpose: &'static str, kind: u16, flags: u16, fixed: &[u8]) -> Message<'_> {
        let start = self.bytes.len();
        self.last = start;
        // The sequence number is the request's place in the batch.
        let sequence = self.purposes.len() as u32;
        self.purposes.push(purpose);
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        let mut message = Message { bytes: &mut self.bytes, start };
        message.fixed(fixed);
        message
    }
}

/// The message being written; its length is put in place as it grows.
pub struct Message<'a> {
    bytes: &'a mut Vec<u8>,
    start: usize,
}

impl Message<'_> {
    fn fixed(&mut self, fixed: &[u8]) {
        self.bytes.extend_from_slice(fixed);
        self.close();
    }

    fn close(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
        let length = (self.bytes.len() - self.start) as u32;
        self.bytes[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.close();
        self
    }

    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.attribute(kind, &[value])
    }

    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Network byte order, as nftables wants it.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// A text with its terminating zero.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// Attributes inside an attribute, behind `prefix` (empty for all but a veth's peer).
    pub fn nest(&mut self, kind: u16, prefix: &[u8], fill: impl FnOnce(&mut Message<'_>)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        self.bytes.extend_from_slice(prefix);
        fill(&mut Message { bytes: self.bytes, start: self.start });
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.close();
        self
    }
}

/// One message that the kernel sent.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub kind: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
}

/// Splits a datagram; stops at the first message that does not fit.
pub fn answers(mut bytes: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let message = bytes.get(..length).filter(|_| length >= HEADER_BYTES)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Answer {
            kind: u16::from_ne_bytes([message[4], message[5]]),
            sequence: u32::from_ne_bytes([message[8], message[9], message[10], message[11]]),
            payload: &message[HEADER_BYTES..],
        })
    })
}

/// Splits what stands behind the fixed part of a message into (type, value).
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & NLA_TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nested_attributes_are_padded_and_their_lengths_are_true() {
        let mut batch = Batch::new();
        batch
            .request("test", 16, NLM_F_CREATE, &[7; 4])
            .text(3, "eth0")
            .nest(18, &[], |info| {
                info.text(1, "veth").u8(2, 9);
            })
            .u32(31, 1);
        let [answer] = answers(batch.bytes()).collect::<Vec<_>>()[..] else { panic!("one message") };
        assert_eq!(answer.kind, 16);
        let found: Vec<_> = attributes(&answer.payload[4..]).collect();
        assert_eq!(found[0], (3, &b"eth0\0"[..]));
        let inner: Vec<_> = attributes(found[1].1).collect();
        assert_eq!((found[1].0, inner), (18, vec![(1, &b"veth\0"[..]), (2, &[9][..])]));
        assert_eq!(found[2], (31, &1u32.to_ne_bytes()[..]));
        assert_eq!(batch.bytes().len() % 4, 0);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic_or_hang(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(answers(&bytes).count() <= bytes.len());
            prop_assert!(attributes(&bytes).take(1000).count() <= bytes.len());
        }
    }
}
