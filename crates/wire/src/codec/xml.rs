//! The writing of values as XML 1.0, for Query and EC2 Query.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use wharf_shape::{List, ListShape, Map, MapShape, Member, Shape, Structure, TimestampFormat, View};

use super::scalar;

pub(super) const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// Writes elements one after the other. Names come from the tables and are not escaped.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn open(&mut self, name: &str) {
        self.raw("<");
        self.raw(name);
        self.raw(">");
    }

    pub(super) fn open_with_namespace(&mut self, name: &str, namespace: &str) {
        self.raw("<");
        self.raw(name);
        self.raw(" xmlns=\"");
        self.text(namespace);
        self.raw("\">");
    }

    pub(super) fn close(&mut self, name: &str) {
        self.raw("</");
        self.raw(name);
        self.raw(">");
    }

    pub(super) fn text_element(&mut self, name: &str, text: &str) {
        self.open(name);
        self.text(text);
        self.close(name);
    }

    /// Text, escaped for an element or an attribute. What XML 1.0 cannot hold at all (section 2.2:
    /// most control characters) becomes U+FFFD, for no parser would take the document otherwise.
    /// Line ends and tabs are references, since a parser normalises them where they stand bare.
    fn text(&mut self, text: &str) {
        let mut written = 0;
        for (index, char) in text.char_indices() {
            let replacement = match char {
                '&' => "&amp;",
                '<' => "&lt;",
                '>' => "&gt;",
                '"' => "&quot;",
                '\t' => "&#x9;",
                '\n' => "&#xA;",
                '\r' => "&#xD;",
                '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => "\u{fffd}",
                // Legal, and read as line ends by some parsers.
                '\u{85}' => "&#x85;",
                '\u{2028}' => "&#x2028;",
                _ => continue,
            };
            self.raw(&text[written..index]);
            self.raw(replacement);
            written = index + char.len_utf8();
        }
        self.raw(&text[written..]);
    }

    /// The members of a structure that are set, each in its element.
    pub(super) fn members(&mut self, structure: &dyn Structure) {
        for (index, member) in structure.shape().members.iter().enumerate() {
            self.member(member, structure.member(index));
        }
    }

    fn member(&mut self, member: &Member, view: View<'_>) {
        match (view, &member.shape) {
            (View::Absent, _) => {}
            (View::List(list), Shape::List(shape)) if shape.flattened => {
                self.items(shape, list, shape.member_name.unwrap_or(member.wire_name));
            }
            (View::Map(map), Shape::Map(shape)) if shape.flattened => {
                self.entries(shape, map, member.wire_name);
            }
            (view, shape) => self.value(member.wire_name, shape, view),
        }
    }

    /// A value in an element.
    fn value(&mut self, name: &str, shape: &Shape, view: View<'_>) {
        self.open(name);
        match view {
            // The protocols have no documents; the generator's models put none here.
            View::Absent | View::Document(_) => {}
            View::Boolean(value) => self.raw(if value { "true" } else { "false" }),
            View::Integer(value) => self.raw(&value.to_string()),
            View::Long(value) => self.raw(&value.to_string()),
            View::Double(value) => self.raw(&scalar::double(value)),
            View::String(text) => self.text(text),
            View::Blob(bytes) => self.raw(&STANDARD.encode(bytes)),
            View::Timestamp(timestamp) => {
                let format = match shape {
                    Shape::Timestamp(Some(format)) => *format,
                    _ => TimestampFormat::Iso8601,
                };
                self.raw(&scalar::timestamp_to_text(timestamp, format));
            }
            View::Structure(structure) => self.members(structure),
            View::List(list) => {
                if let Shape::List(shape) = shape {
                    self.items(shape, list, shape.member_name.unwrap_or("member"));
                }
            }
            View::Map(map) => {
                if let Shape::Map(shape) = shape {
                    self.entries(shape, map, "entry");
                }
            }
        }
        self.close(name);
    }

    fn items(&mut self, shape: &ListShape, list: &dyn List, name: &str) {
        for index in 0..list.len() {
            self.value(name, &shape.member, list.item(index));
        }
    }

    fn entries(&mut self, shape: &MapShape, map: &dyn Map, name: &str) {
        for (key, value) in map.entries() {
            self.open(name);
            self.text_element(shape.key_name.unwrap_or("key"), key);
            self.value(shape.value_name.unwrap_or("value"), &shape.value, value);
            self.close(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_escaped() {
        let mut xml = Writer::default();
        xml.text_element("a", "<&>\"\r\n\t\u{1}é\u{85}");
        assert_eq!(
            String::from_utf8(xml.finish()).unwrap(),
            "<a>&lt;&amp;&gt;&quot;&#xD;&#xA;&#x9;\u{fffd}é&#x85;</a>"
        );
    }

    proptest! {
        #[test]
        fn text_comes_back_from_another_parser(text in "[^\u{0}-\u{8}\u{b}\u{c}\u{e}-\u{1f}\u{fffe}\u{ffff}]{0,40}") {
            let mut xml = Writer::default();
            xml.text_element("a", &text);
            let body = String::from_utf8(xml.finish()).unwrap();
            let inner = body.strip_prefix("<a>").and_then(|rest| rest.strip_suffix("</a>")).unwrap();
            prop_assert!(!inner.contains('<'));
            prop_assert_eq!(quick_xml::escape::unescape(inner).unwrap(), text);
        }
    }
}
