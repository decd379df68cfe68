//! The constant table: what a shape is called on the wire, where it stands and what it allows.
//!
//! The words are those of the Smithy 2.0 specification and of botocore's service models.

use crate::pattern::Pattern;

/// The shape of a value.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Boolean,
    /// 32 bits.
    Integer(&'static NumberShape),
    /// 64 bits.
    Long(&'static NumberShape),
    /// `float` and `double` alike.
    Double(&'static NumberShape),
    String(&'static StringShape),
    Blob(&'static BlobShape),
    /// The protocol's own form unless one is given here.
    Timestamp(Option<TimestampFormat>),
    /// JSON of any form.
    Document,
    Structure(&'static StructureShape),
    List(&'static ListShape),
    Map(&'static MapShape),
}

impl Shape {
    pub const INTEGER: Self = Self::Integer(&NumberShape::ANY);
    pub const LONG: Self = Self::Long(&NumberShape::ANY);
    pub const DOUBLE: Self = Self::Double(&NumberShape::ANY);
    pub const STRING: Self = Self::String(&StringShape::ANY);
    pub const BLOB: Self = Self::Blob(&BlobShape::ANY);
    pub const TIMESTAMP: Self = Self::Timestamp(None);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampFormat {
    /// `2026-11-20T14:27:46Z`.
    Iso8601,
    /// `Fri, 20 Nov 2026 14:27:46 GMT`.
    Rfc822,
    /// Seconds since 1970 with a fraction.
    UnixTimestamp,
}

/// A structure, or a union: a structure of which exactly one member is set.
#[derive(Debug)]
pub struct StructureShape {
    /// The name in AWS's model.
    pub name: &'static str,
    pub union: bool,
    /// In the order of the model; [`crate::Structure::member`] and `member_mut` use the same indexes.
    pub members: &'static [Member],
}

impl StructureShape {
    /// The index of the member with this wire name. `hint` is where the caller expects it: bodies
    /// mostly come in the order of the model.
    pub fn member_by_wire_name(&self, name: &[u8], hint: usize) -> Option<usize> {
        let matches = |member: &Member| member.wire_name.as_bytes() == name;
        if self.members.get(hint).is_some_and(matches) {
            return Some(hint);
        }
        self.members.iter().position(matches)
    }
}

/// The most members that a structure may have. The generator refuses a model with more.
pub const MEMBERS_MAX: usize = 256;

/// A set of members of one structure, by their indexes.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemberSet([u64; MEMBERS_MAX / 64]);

impl MemberSet {
    /// Adds a member and says whether it is new. An index beyond [`MEMBERS_MAX`] is never new.
    pub fn insert(&mut self, index: usize) -> bool {
        let Some(word) = self.0.get_mut(index / 64) else { return false };
        let bit = 1 << (index % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    pub fn contains(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }
}

/// The shape of operations that take or give nothing.
pub static UNIT: StructureShape = StructureShape { name: "Unit", union: false, members: &[] };

/// A member of a structure.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// The name in AWS's model.
    pub name: &'static str,
    /// The name in bodies: the model's `locationName`, or else the name.
    pub wire_name: &'static str,
    /// The name in an EC2 Query request where it is neither the wire name nor that capitalised.
    pub query_name: Option<&'static str>,
    pub shape: Shape,
    pub location: Location,
    pub required: bool,
    /// The SDK fills it with a random value when the caller gives none.
    pub idempotency_token: bool,
    /// XML alone: an attribute of the parent, not an element.
    pub xml_attribute: bool,
}

impl Member {
    pub const fn new(name: &'static str, shape: Shape) -> Self {
        Self {
            name,
            wire_name: name,
            query_name: None,
            shape,
            location: Location::Body,
            required: false,
            idempotency_token: false,
            xml_attribute: false,
        }
    }

    #[must_use]
    pub const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    #[must_use]
    pub const fn wire(self, wire_name: &'static str) -> Self {
        Self { wire_name, ..self }
    }

    #[must_use]
    pub const fn query(self, query_name: &'static str) -> Self {
        Self { query_name: Some(query_name), ..self }
    }

    #[must_use]
    pub const fn at(self, location: Location) -> Self {
        Self { location, ..self }
    }

    #[must_use]
    pub const fn idempotency_token(self) -> Self {
        Self { idempotency_token: true, ..self }
    }

    #[must_use]
    pub const fn xml_attribute(self) -> Self {
        Self { xml_attribute: true, ..self }
    }
}

/// Where a member stands in the HTTP message. Only the REST protocols use any but `Body`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    Body,
    /// A header of the member's wire name.
    Header,
    /// A map: all headers that begin with the wire name.
    Headers,
    /// A label of the path.
    Uri,
    QueryString,
    StatusCode,
    /// The member is the whole body.
    Payload,
}

#[derive(Debug)]
pub struct ListShape {
    pub member: Shape,
    /// The element's name in XML and Query: `member` unless given here.
    pub member_name: Option<&'static str>,
    /// XML and Query: no element of its own around the items.
    pub flattened: bool,
    pub min: Option<u64>,
    pub max: Option<u64>,
}

#[derive(Debug)]
pub struct MapShape {
    pub key: Shape,
    pub value: Shape,
    /// The key's name in XML and Query: `key` unless given here.
    pub key_name: Option<&'static str>,
    /// The value's name in XML and Query: `value` unless given here.
    pub value_name: Option<&'static str>,
    pub flattened: bool,
    pub min: Option<u64>,
    pub max: Option<u64>,
}

#[derive(Debug)]
pub struct StringShape {
    /// Bounds of the length, in characters.
    pub min: Option<u64>,
    pub max: Option<u64>,
    pub pattern: Option<&'static Pattern>,
    /// The known values of an open enum; empty when it is none.
    pub values: &'static [&'static str],
    /// Must not be logged.
    pub sensitive: bool,
}

impl StringShape {
    pub const ANY: Self = Self { min: None, max: None, pattern: None, values: &[], sensitive: false };
}

#[derive(Debug)]
pub struct BlobShape {
    /// Bounds of the length, in bytes.
    pub min: Option<u64>,
    pub max: Option<u64>,
    pub sensitive: bool,
}

impl BlobShape {
    pub const ANY: Self = Self { min: None, max: None, sensitive: false };
}

#[derive(Debug)]
pub struct NumberShape {
    pub min: Option<f64>,
    pub max: Option<f64>,
}

impl NumberShape {
    pub const ANY: Self = Self { min: None, max: None };
}

/// An error that a service's model names.
#[derive(Debug)]
pub struct ErrorShape {
    /// The code on the wire.
    pub code: &'static str,
    pub status: u16,
    /// Whether the service is at fault, not the sender.
    pub receiver: bool,
    /// The error's members, with the message among them.
    pub structure: &'static StructureShape,
}
