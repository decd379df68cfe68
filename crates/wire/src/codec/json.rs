//! AWS JSON 1.0 and 1.1 (Smithy, "AWS JSON 1.1 protocol").
//!
//! Unknown members are ignored and null is absence, as AWS does. A value of the wrong type is a
//! `SerializationException`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use wharf_core::limits::REQUEST_BODY_BYTES_MAX;
use wharf_core::{ApiError, Timestamp};
use wharf_shape::{
    Document, ErrorShape, Map, MapShape, MemberSet, Operation, Path, Protocol, Shape, Slot, Step, Structure,
    TimestampFormat, View,
};

use super::json_text::{JsonError, Kind, Parser, write_string};
use super::{Request, Response, scalar};

/// Integers above this are not all doubles; a number in exponent form beyond it is refused.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

pub(super) fn decode(structure: &mut dyn Structure, request: &Request<'_>) -> Result<Vec<String>, ApiError> {
    if request.body.len() > REQUEST_BODY_BYTES_MAX {
        return Err(ApiError::sender("RequestEntityTooLargeException", "The request body is too large.")
            .with_status(413));
    }
    read(structure, request.body)
        .map_err(|error| ApiError::sender("SerializationException", error.to_string()))
}

fn read(structure: &mut dyn Structure, body: &[u8]) -> Result<Vec<String>, JsonError> {
    let mut decoder = Decoder { parser: Parser::new(body)?, path: Path::default(), missing: Vec::new() };
    if decoder.parser.is_at_end() {
        // No body is an empty structure.
        decoder.require(structure, MemberSet::default());
        return Ok(decoder.missing);
    }
    match decoder.parser.kind()? {
        Kind::Map => decoder.structure(structure)?,
        kind => return Err(decoder.unexpected(kind, "structure")),
    }
    decoder.parser.end()?;
    Ok(decoder.missing)
}

struct Decoder<'a> {
    parser: Parser<'a>,
    path: Path,
    missing: Vec<String>,
}

impl Decoder<'_> {
    fn structure(&mut self, structure: &mut dyn Structure) -> Result<(), JsonError> {
        let shape = structure.shape();
        self.parser.enter(Kind::Map)?;
        let mut seen = MemberSet::default();
        let (mut first, mut hint) = (true, 0);
        while let Some(key) = self.parser.next_key(first)? {
            first = false;
            let Some(index) = shape.member_by_wire_name(key.as_bytes(), hint) else {
                self.parser.skip()?;
                continue;
            };
            hint = index + 1;
            let member = &shape.members[index];
            if self.parser.kind()? == Kind::Null {
                self.parser.literal(Kind::Null)?;
                continue;
            }
            if !seen.insert(index) {
                return Err(JsonError::Twice(member.wire_name));
            }
            let Some(slot) = structure.member_mut(index) else {
                self.parser.skip()?;
                continue;
            };
            self.path.push(Step::Member(member.name));
            self.value(&member.shape, slot)?;
            self.path.pop();
        }
        self.require(structure, seen);
        Ok(())
    }

    fn require(&mut self, structure: &dyn Structure, seen: MemberSet) {
        for (index, member) in structure.shape().members.iter().enumerate() {
            if member.required && !seen.contains(index) {
                self.missing.push(self.path.with_member(member.name));
            }
        }
    }

    fn value(&mut self, shape: &Shape, slot: Slot<'_>) -> Result<(), JsonError> {
        let kind = self.parser.kind()?;
        match (slot, kind) {
            (Slot::Structure(structure), Kind::Map) => self.structure(structure)?,
            (Slot::List(list), Kind::List) => {
                let Shape::List(shape) = shape else { return self.parser.skip() };
                self.parser.enter(Kind::List)?;
                let mut first = true;
                while self.parser.next_item(first)? {
                    first = false;
                    self.parser.count_item()?;
                    let index = list.len();
                    let slot = list.push();
                    self.path.push(Step::Item(index));
                    if self.parser.kind()? == Kind::Null {
                        self.parser.literal(Kind::Null)?;
                        self.missing.push(self.path.to_string());
                    } else {
                        self.value(&shape.member, slot)?;
                    }
                    self.path.pop();
                }
            }
            (Slot::Map(map), Kind::Map) => {
                let Shape::Map(shape) = shape else { return self.parser.skip() };
                self.map(shape, map)?;
            }
            (Slot::String(text), Kind::String) => text.set(self.parser.string()?.into_owned()),
            (Slot::Boolean(value), Kind::True | Kind::False) => {
                self.parser.literal(kind)?;
                *value = kind == Kind::True;
            }
            (Slot::Integer(value), Kind::Number) => {
                *value = i32::try_from(self.integer("Integer")?).map_err(|_| out_of_range("Integer"))?;
            }
            (Slot::Long(value), Kind::Number) => *value = self.integer("Long")?,
            (Slot::Double(value), Kind::Number) => {
                let text = self.parser.number()?;
                *value = scalar::double_from_text(text).ok_or_else(|| out_of_range("Double"))?;
            }
            (Slot::Double(value), Kind::String) => {
                let text = self.parser.string()?;
                *value = match &*text {
                    "NaN" | "Infinity" | "-Infinity" => scalar::double_from_text(&text).unwrap_or(f64::NAN),
                    _ => return Err(self.unexpected(Kind::String, "Double")),
                };
            }
            (Slot::Timestamp(value), Kind::Number | Kind::String) => *value = self.timestamp(shape, kind)?,
            (Slot::Blob(bytes), Kind::String) => {
                let text = self.parser.string()?;
                *bytes = STANDARD
                    .decode(text.as_bytes())
                    .map_err(|_| JsonError::Type("A blob is not valid base64.".to_owned()))?;
            }
            (Slot::Document(document), _) => *document = self.document()?,
            (slot, kind) => return Err(self.unexpected(kind, wanted(&slot))),
        }
        Ok(())
    }

    fn map(&mut self, shape: &MapShape, map: &mut dyn Map) -> Result<(), JsonError> {
        self.parser.enter(Kind::Map)?;
        let mut first = true;
        while let Some(key) = self.parser.next_key(first)? {
            first = false;
            self.parser.count_item()?;
            if self.parser.kind()? == Kind::Null {
                self.parser.literal(Kind::Null)?;
                continue;
            }
            let key = key.into_owned();
            self.path.push(Step::Entry(key.clone()));
            let slot = map.insert(key);
            self.value(&shape.value, slot)?;
            self.path.pop();
        }
        Ok(())
    }

    fn integer(&mut self, wanted: &'static str) -> Result<i64, JsonError> {
        let text = self.parser.number()?;
        if let Ok(value) = text.parse() {
            return Ok(value);
        }
        // `1.0` and `1e3` are integers too.
        let value: f64 = text.parse().map_err(|_| out_of_range(wanted))?;
        if value.fract() == 0.0 && value.abs() <= EXACT_MAX && text.contains(['.', 'e', 'E']) {
            Ok(value as i64)
        } else {
            Err(out_of_range(wanted))
        }
    }

    fn timestamp(&mut self, shape: &Shape, kind: Kind) -> Result<Timestamp, JsonError> {
        let format = match shape {
            Shape::Timestamp(Some(format)) => *format,
            _ => TimestampFormat::UnixTimestamp,
        };
        let timestamp = match (format, kind) {
            (TimestampFormat::UnixTimestamp, Kind::Number) => {
                scalar::double_from_text(self.parser.number()?).and_then(scalar::timestamp_from_seconds)
            }
            (TimestampFormat::Iso8601 | TimestampFormat::Rfc822, Kind::String) => {
                scalar::timestamp_from_text(&self.parser.string()?)
            }
            (_, kind) => return Err(self.unexpected(kind, "Timestamp")),
        };
        timestamp.ok_or_else(|| out_of_range("Timestamp"))
    }

    fn document(&mut self) -> Result<Document, JsonError> {
        self.parser.count_item()?;
        Ok(match self.parser.kind()? {
            Kind::String => Document::String(self.parser.string()?.into_owned()),
            Kind::Number => {
                let text = self.parser.number()?;
                match text.parse() {
                    Ok(integer) => Document::Integer(integer),
                    Err(_) => Document::Double(
                        scalar::double_from_text(text).ok_or_else(|| out_of_range("Number"))?,
                    ),
                }
            }
            Kind::List => {
                self.parser.enter(Kind::List)?;
                let mut items = Vec::new();
                while self.parser.next_item(items.is_empty())? {
                    items.push(self.document()?);
                }
                Document::List(items)
            }
            Kind::Map => {
                self.parser.enter(Kind::Map)?;
                let mut entries = std::collections::BTreeMap::new();
                let mut first = true;
                while let Some(key) = self.parser.next_key(first)? {
                    first = false;
                    entries.insert(key.into_owned(), self.document()?);
                }
                Document::Map(entries)
            }
            Kind::Null => {
                self.parser.literal(Kind::Null)?;
                Document::Null
            }
            kind => {
                self.parser.literal(kind)?;
                Document::Boolean(kind == Kind::True)
            }
        })
    }

    fn unexpected(&self, found: Kind, wanted: &str) -> JsonError {
        JsonError::Type(match (found, wanted) {
            (Kind::List, _) => "Start of list found where not expected".to_owned(),
            (Kind::Map, _) => "Start of structure or map found where not expected".to_owned(),
            (_, "list") => "Expected list or null".to_owned(),
            (_, "structure") => "Expected structure or null".to_owned(),
            (_, "map") => "Expected map or null".to_owned(),
            (found, wanted) => {
                let found = match found {
                    Kind::True => "TRUE_VALUE",
                    Kind::False => "FALSE_VALUE",
                    Kind::Number => "NUMBER_VALUE",
                    _ => "STRING_VALUE",
                };
                format!("{found} cannot be converted to {wanted}")
            }
        })
    }
}

fn wanted(slot: &Slot<'_>) -> &'static str {
    match slot {
        Slot::Boolean(_) => "Boolean",
        Slot::Integer(_) => "Integer",
        Slot::Long(_) => "Long",
        Slot::Double(_) => "Double",
        Slot::String(_) => "String",
        Slot::Blob(_) => "Blob",
        Slot::Timestamp(_) => "Timestamp",
        Slot::Document(_) => "Document",
        Slot::Structure(_) => "structure",
        Slot::List(_) => "list",
        Slot::Map(_) => "map",
    }
}

fn out_of_range(wanted: &str) -> JsonError {
    JsonError::Type(format!("NUMBER_VALUE cannot be converted to {wanted}"))
}

fn content_type(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::AwsJson1_0 => "application/x-amz-json-1.0",
        _ => "application/x-amz-json-1.1",
    }
}

pub(super) fn encode_output(protocol: Protocol, operation: &Operation, output: &dyn Structure) -> Response {
    let mut body = Vec::with_capacity(512);
    if operation.output.is_some() {
        write_structure(&mut body, output);
    }
    Response { status: 200, content_type: content_type(protocol), body }
}

pub(super) fn encode_error(protocol: Protocol, shape: Option<&ErrorShape>, error: &ApiError) -> Response {
    let members = shape.map_or(&[][..], |shape| shape.structure.members);
    let message = members.iter().find(|member| member.name.eq_ignore_ascii_case("message"));
    let mut body = Vec::with_capacity(128 + error.message.len());
    body.extend_from_slice(b"{\"__type\":");
    write_string(&mut body, &error.code);
    body.push(b',');
    write_string(&mut body, message.map_or("message", |member| member.wire_name));
    body.push(b':');
    write_string(&mut body, &error.message);
    for (index, (name, value)) in error.members.iter().enumerate() {
        if error.members[..index].iter().any(|(earlier, _)| earlier == name) {
            continue;
        }
        body.push(b',');
        write_string(&mut body, name);
        body.push(b':');
        let shape = members.iter().find(|member| member.wire_name == *name).map(|member| member.shape);
        match shape {
            // A list's items are given one by one under the same name.
            Some(Shape::List(_)) => {
                body.push(b'[');
                let items = error.members.iter().filter(|(other, _)| other == name);
                for (index, (_, item)) in items.enumerate() {
                    if index > 0 {
                        body.push(b',');
                    }
                    write_string(&mut body, item);
                }
                body.push(b']');
            }
            Some(Shape::Integer(_) | Shape::Long(_)) if value.parse::<i64>().is_ok() => {
                body.extend_from_slice(value.as_bytes());
            }
            Some(Shape::Boolean) if matches!(value.as_str(), "true" | "false") => {
                body.extend_from_slice(value.as_bytes());
            }
            _ => write_string(&mut body, value),
        }
    }
    body.push(b'}');
    Response { status: error.status, content_type: content_type(protocol), body }
}

fn write_structure(out: &mut Vec<u8>, structure: &dyn Structure) {
    out.push(b'{');
    let mut first = true;
    for (index, member) in structure.shape().members.iter().enumerate() {
        let view = structure.member(index);
        if matches!(view, View::Absent) {
            continue;
        }
        write_key(out, member.wire_name.as_bytes(), first);
        first = false;
        write_value(out, &member.shape, view);
    }
    out.push(b'}');
}

/// `,"name":`. A wire name is letters and digits.
fn write_key(out: &mut Vec<u8>, name: &[u8], first: bool) {
    // Put together beside the output and copied with a constant length: a third of the time of four
    // appends, for what is half of many answers.
    const ROOM: usize = 48;
    let end = name.len() + 2;
    if end + 2 > ROOM {
        out.extend_from_slice(if first { b"\"" } else { b",\"" });
        out.extend_from_slice(name);
        out.extend_from_slice(b"\":");
        return;
    }
    let mut key = [0; ROOM];
    key[..2].copy_from_slice(b",\"");
    key[2..end].copy_from_slice(name);
    key[end..end + 2].copy_from_slice(b"\":");
    if first {
        out.extend_from_slice(&key[1..end + 2]);
    } else {
        let whole = out.len() + end + 2;
        out.extend_from_slice(&key);
        out.truncate(whole);
    }
}

fn write_value(out: &mut Vec<u8>, shape: &Shape, view: View<'_>) {
    match view {
        View::Absent => out.extend_from_slice(b"null"),
        View::Boolean(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        View::Integer(value) => scalar::write_integer(out, i64::from(value)),
        View::Long(value) => scalar::write_integer(out, value),
        View::Double(value) if value.is_finite() => out.extend_from_slice(scalar::double(value).as_bytes()),
        View::Double(value) => write_string(out, &scalar::double(value)),
        View::String(text) => write_string(out, text),
        View::Blob(bytes) => {
            out.push(b'"');
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            out.push(b'"');
        }
        View::Timestamp(timestamp) => match shape {
            Shape::Timestamp(Some(format @ (TimestampFormat::Iso8601 | TimestampFormat::Rfc822))) => {
                write_string(out, &scalar::timestamp_to_text(timestamp, *format));
            }
            _ => scalar::write_seconds(out, timestamp),
        },
        View::Document(document) => write_document(out, document),
        View::Structure(structure) => write_structure(out, structure),
        View::List(list) => {
            let Shape::List(shape) = shape else { return out.extend_from_slice(b"null") };
            out.push(b'[');
            for index in 0..list.len() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(out, &shape.member, list.item(index));
            }
            out.push(b']');
        }
        View::Map(map) => {
            let Shape::Map(shape) = shape else { return out.extend_from_slice(b"null") };
            out.push(b'{');
            for (index, (key, value)) in map.entries().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(out, key);
                out.push(b':');
                write_value(out, &shape.value, value);
            }
            out.push(b'}');
        }
    }
}

fn write_document(out: &mut Vec<u8>, document: &Document) {
    match document {
        Document::Null => out.extend_from_slice(b"null"),
        Document::Boolean(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Document::Integer(value) => scalar::write_integer(out, *value),
        Document::Double(value) if value.is_finite() => {
            out.extend_from_slice(scalar::double(*value).as_bytes());
        }
        Document::Double(value) => write_string(out, &scalar::double(*value)),
        Document::String(text) => write_string(out, text),
        Document::List(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_document(out, item);
            }
            out.push(b']');
        }
        Document::Map(entries) => {
            out.push(b'{');
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(out, key);
                out.push(b':');
                write_document(out, value);
            }
            out.push(b'}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::write_key;

    #[test]
    fn keys_of_any_length_are_written_whole() {
        for length in 1..80 {
            let name = "n".repeat(length);
            let mut out = b"{".to_vec();
            write_key(&mut out, name.as_bytes(), true);
            out.push(b'1');
            write_key(&mut out, name.as_bytes(), false);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{{\"{name}\":1,\"{name}\":"));
        }
    }
}
