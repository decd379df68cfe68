//! URL-encoded forms, the requests of Query and EC2 Query: `Filters.1.Values.2=x`.
//!
//! The pairs are sorted, so that everything below a prefix is one run of them. Memory follows the
//! pairs that came, never the numbers that stand in their names.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode;
use wharf_core::ApiError;
use wharf_core::limits::{REQUEST_BODY_BYTES_MAX, REQUEST_DEPTH_MAX};
use wharf_shape::{List, ListShape, Map, MapShape, Member, MemberSet, Path, Shape, Slot, Step, Structure};

use super::{ITEMS_MAX, Request, scalar};

/// How many pairs a form may have.
const PAIRS_MAX: usize = ITEMS_MAX;
/// How much of a value an error repeats, in characters.
const ECHO_CHARS_MAX: usize = 64;

/// In what the two protocols differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Lists are `Name.member.N`; what the model does not know is ignored.
    Query,
    /// All lists are flattened, names are capitalised, and an unknown parameter is refused.
    Ec2,
}

/// Fills a structure from a request's form: the query string and the body.
pub(super) fn decode(
    dialect: Dialect,
    structure: &mut dyn Structure,
    request: &Request<'_>,
) -> Result<Vec<String>, ApiError> {
    if request.body.len() > REQUEST_BODY_BYTES_MAX {
        return Err(
            ApiError::sender("RequestEntityTooLarge", "The request body is too large.").with_status(413)
        );
    }
    let pairs = pairs(request)?;
    let mut decoder = Decoder {
        dialect,
        used: vec![false; pairs.len()],
        pairs: &pairs,
        path: Path::default(),
        missing: Vec::new(),
        items: 0,
        depth: 0,
    };
    decoder.structure(structure, &mut String::new(), 0..pairs.len())?;
    if dialect == Dialect::Ec2 {
        decoder.refuse_unused()?;
    }
    Ok(decoder.missing)
}

type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

fn pairs<'a>(request: &Request<'a>) -> Result<Vec<Pair<'a>>, ApiError> {
    let mut pairs = Vec::new();
    for form in [request.query.as_bytes(), request.body] {
        for pair in form.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            if pairs.len() == PAIRS_MAX {
                return Err(malformed(format!("The request has more than {PAIRS_MAX} parameters.")));
            }
            let split = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = split.map_or((pair, &[][..]), |at| (&pair[..at], &pair[at + 1..]));
            pairs.push((unescape(name)?, unescape(value)?));
        }
    }
    pairs.sort_by(|one, other| one.0.cmp(&other.0));
    if let Some(twice) = pairs.windows(2).find(|pairs| pairs[0].0 == pairs[1].0) {
        return Err(malformed(format!("The parameter {} occurs twice.", echo(&twice[0].0))));
    }
    Ok(pairs)
}

fn unescape(text: &[u8]) -> Result<Cow<'_, str>, ApiError> {
    let syntax = || malformed("The query string contains a syntax error.".to_owned());
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        match rest.get(at + 1..at + 3) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => rest = &rest[at + 3..],
            _ => return Err(syntax()),
        }
    }
    if text.contains(&b'+') {
        let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        let text = percent_decode(&spaced).decode_utf8().map_err(|_| syntax())?;
        return Ok(Cow::Owned(text.into_owned()));
    }
    percent_decode(text).decode_utf8().map_err(|_| syntax())
}

fn malformed(message: String) -> ApiError {
    ApiError::sender("MalformedQueryString", message)
}

fn invalid(name: &str, value: &str, wanted: &str) -> ApiError {
    ApiError::sender(
        "InvalidParameterValue",
        format!("Value ({}) for parameter {} is invalid. {wanted}", echo(value), echo(name)),
    )
}

fn echo(text: &str) -> String {
    text.chars().take(ECHO_CHARS_MAX).collect()
}

struct Decoder<'f> {
    dialect: Dialect,
    pairs: &'f [Pair<'f>],
    /// Which pairs had a meaning.
    used: Vec<bool>,
    path: Path,
    missing: Vec<String>,
    items: usize,
    depth: usize,
}

/// What a form has under one name: the name itself, and the run of names below it.
struct Found {
    exact: Option<usize>,
    below: Range<usize>,
}

impl Decoder<'_> {
    /// Everything of `within` named `name` or below it. `name` comes back unchanged.
    fn find(&self, name: &mut String, within: &Range<usize>) -> Found {
        let pairs = &self.pairs[within.clone()];
        let exact =
            pairs.binary_search_by(|pair| (*pair.0).cmp(name.as_str())).ok().map(|at| within.start + at);
        name.push('.');
        let start = pairs.partition_point(|pair| *pair.0 < **name);
        let length = pairs[start..].partition_point(|pair| pair.0.starts_with(name.as_str()));
        name.pop();
        let start = within.start + start;
        Found { exact, below: start..start + length }
    }

    /// `prefix` ends with a dot, unless it is empty.
    fn structure(
        &mut self,
        structure: &mut dyn Structure,
        prefix: &mut String,
        within: Range<usize>,
    ) -> Result<(), ApiError> {
        self.depth += 1;
        if self.depth > REQUEST_DEPTH_MAX {
            return Err(malformed(format!("The request nests deeper than {REQUEST_DEPTH_MAX} levels.")));
        }
        let mut seen = MemberSet::default();
        let length = prefix.len();
        for (index, member) in structure.shape().members.iter().enumerate() {
            self.push_name(prefix, member);
            let found = self.find(prefix, &within);
            if (found.exact.is_some() || !found.below.is_empty())
                && let Some(slot) = structure.member_mut(index)
            {
                seen.insert(index);
                self.path.push(Step::Member(member.name));
                self.value(&member.shape, slot, prefix, &found)?;
                self.path.pop();
            }
            prefix.truncate(length);
        }
        for (index, member) in structure.shape().members.iter().enumerate() {
            if member.required && !seen.contains(index) {
                self.missing.push(self.path.with_member(member.name));
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn push_name(&self, out: &mut String, member: &Member) {
        match self.dialect {
            Dialect::Query => match member.shape {
                Shape::List(ListShape { flattened: true, member_name: Some(name), .. }) => out.push_str(name),
                _ => out.push_str(member.wire_name),
            },
            Dialect::Ec2 => match member.query_name {
                Some(name) => out.push_str(name),
                None => {
                    let mut chars = member.wire_name.chars();
                    out.extend(chars.next().into_iter().flat_map(char::to_uppercase));
                    out.push_str(chars.as_str());
                }
            },
        }
    }

    fn value(
        &mut self,
        shape: &Shape,
        slot: Slot<'_>,
        name: &mut String,
        found: &Found,
    ) -> Result<(), ApiError> {
        match (slot, shape) {
            (Slot::Structure(structure), _) => {
                self.take_empty(name, found, "It is a structure.")?;
                name.push('.');
                self.structure(structure, name, found.below.clone())?;
                name.pop();
            }
            (Slot::List(list), Shape::List(shape)) => {
                self.take_empty(name, found, "It is a list.")?;
                self.list(shape, list, name, found)?;
            }
            (Slot::Map(map), Shape::Map(shape)) => {
                self.take_empty(name, found, "It is a map.")?;
                self.map(shape, map, name, found)?;
            }
            (slot, _) => {
                let Some(exact) = found.exact else {
                    return Err(invalid(name, "", "It is neither a structure nor a list."));
                };
                self.used[exact] = true;
                scalar_value(name, &self.pairs[exact].1, slot)?;
            }
        }
        Ok(())
    }

    /// `Name=` stands for an empty list, map or structure.
    fn take_empty(&mut self, name: &str, found: &Found, wanted: &str) -> Result<(), ApiError> {
        let Some(exact) = found.exact else { return Ok(()) };
        self.used[exact] = true;
        let value = &self.pairs[exact].1;
        if value.is_empty() { Ok(()) } else { Err(invalid(name, value, wanted)) }
    }

    fn list(
        &mut self,
        shape: &ListShape,
        list: &mut dyn List,
        name: &mut String,
        found: &Found,
    ) -> Result<(), ApiError> {
        let length = name.len();
        let mut below = found.below.clone();
        if self.dialect == Dialect::Query && !shape.flattened {
            name.push('.');
            name.push_str(shape.member_name.unwrap_or("member"));
            below = self.find(name, &below).below;
        }
        for number in self.numbers(name, &below)? {
            let item = name.len();
            name.push_str(&format!(".{number}"));
            let found = self.find(name, &below);
            let index = list.len();
            self.path.push(Step::Item(index));
            self.value(&shape.member, list.push(), name, &found)?;
            self.path.pop();
            name.truncate(item);
        }
        name.truncate(length);
        Ok(())
    }

    fn map(
        &mut self,
        shape: &MapShape,
        map: &mut dyn Map,
        name: &mut String,
        found: &Found,
    ) -> Result<(), ApiError> {
        let length = name.len();
        let mut below = found.below.clone();
        if !shape.flattened {
            name.push_str(".entry");
            below = self.find(name, &below).below;
        }
        for number in self.numbers(name, &below)? {
            let item = name.len();
            name.push_str(&format!(".{number}."));
            let entry = name.len();
            name.push_str(shape.key_name.unwrap_or("key"));
            let Some(exact) = self.find(name, &below).exact else {
                return Err(malformed(format!("The request has no parameter {}.", echo(name))));
            };
            self.used[exact] = true;
            let key = self.pairs[exact].1.clone().into_owned();
            name.truncate(entry);
            name.push_str(shape.value_name.unwrap_or("value"));
            let found = self.find(name, &below);
            if found.exact.is_none() && found.below.is_empty() {
                return Err(malformed(format!("The request has no parameter {}.", echo(name))));
            }
            self.path.push(Step::Entry(key.clone()));
            self.value(&shape.value, map.insert(key), name, &found)?;
            self.path.pop();
            name.truncate(item);
        }
        name.truncate(length);
        Ok(())
    }

    /// The numbers that follow `name` and a dot, in their order.
    fn numbers(&mut self, name: &str, below: &Range<usize>) -> Result<Vec<u32>, ApiError> {
        let mut numbers = Vec::new();
        for (key, _) in &self.pairs[below.clone()] {
            let rest = &key[name.len() + 1..];
            let digits = rest.split('.').next().unwrap_or_default();
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit())
                && (digits == "0" || !digits.starts_with('0'));
            match digits.parse() {
                Ok(number) if plain => numbers.push(number),
                _ => {
                    return Err(malformed(format!("The parameter {} is not the item of a list.", echo(key))));
                }
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        self.items += numbers.len();
        if self.items > ITEMS_MAX {
            return Err(malformed(format!("The request has more than {ITEMS_MAX} items.")));
        }
        Ok(numbers)
    }

    fn refuse_unused(&self) -> Result<(), ApiError> {
        // What belongs to the request and not to the operation, the older signatures' among it.
        let of_request = |name: &str| {
            matches!(
                name,
                "Action"
                    | "Version"
                    | "AWSAccessKeyId"
                    | "Signature"
                    | "SignatureVersion"
                    | "SignatureMethod"
                    | "Timestamp"
                    | "Expires"
                    | "SecurityToken"
            ) || name.starts_with("X-Amz-")
        };
        let unknown =
            self.pairs.iter().zip(&self.used).find(|((name, _), used)| !**used && !of_request(name));
        match unknown {
            None => Ok(()),
            Some(((name, _), _)) => Err(ApiError::sender(
                "UnknownParameter",
                format!("The parameter {} is not recognized", echo(name)),
            )),
        }
    }
}

fn scalar_value(name: &str, text: &str, slot: Slot<'_>) -> Result<(), ApiError> {
    match slot {
        Slot::String(slot) => slot.set(text.to_owned()),
        Slot::Boolean(slot) => {
            *slot = match text {
                "true" | "True" => true,
                "false" | "False" => false,
                _ => return Err(invalid(name, text, "It must be true or false.")),
            }
        }
        Slot::Integer(slot) => {
            *slot = text.parse().map_err(|_| invalid(name, text, "It must be an integer."))?;
        }
        Slot::Long(slot) => {
            *slot = text.parse().map_err(|_| invalid(name, text, "It must be an integer."))?;
        }
        Slot::Double(slot) => {
            *slot =
                scalar::double_from_text(text).ok_or_else(|| invalid(name, text, "It must be a number."))?;
        }
        Slot::Timestamp(slot) => {
            *slot = scalar::timestamp_from_text(text)
                .ok_or_else(|| invalid(name, text, "It must be a timestamp."))?;
        }
        Slot::Blob(slot) => {
            *slot = STANDARD.decode(text).map_err(|_| invalid(name, text, "It must be base64."))?;
        }
        // The protocol has no documents, and the rest is no scalar.
        Slot::Document(_) | Slot::Structure(_) | Slot::List(_) | Slot::Map(_) => {
            return Err(invalid(name, text, "It is no scalar."));
        }
    }
    Ok(())
}
