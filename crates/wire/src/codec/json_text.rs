//! JSON as text (RFC 8259): a pull parser over bytes, and the writing of strings.
//!
//! No value tree is built: the decoder asks for what the table expects, and skips the rest.

use std::borrow::Cow;

use wharf_core::limits::REQUEST_DEPTH_MAX;

use super::ITEMS_MAX;

/// What a value begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    True,
    False,
    Number,
    String,
    List,
    Map,
}

/// Why a text is not what was asked for. The messages are those of AWS's own parser where it is
/// known to have one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum JsonError {
    #[error("The request body is not valid UTF-8.")]
    Utf8,
    #[error("The request body is not valid JSON, at byte {0}.")]
    Syntax(usize),
    #[error("The request body nests deeper than {REQUEST_DEPTH_MAX} levels.")]
    Depth,
    #[error("The request body has more than {ITEMS_MAX} items.")]
    Items,
    #[error("{0}")]
    Type(String),
    #[error("The field {0:?} occurs twice.")]
    Twice(&'static str),
}

pub(super) struct Parser<'a> {
    text: &'a str,
    position: usize,
    depth: usize,
    items: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(body: &'a [u8]) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(body).map_err(|_| JsonError::Utf8)?;
        Ok(Self { text, position: 0, depth: 0, items: 0 })
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    fn syntax(&self) -> JsonError {
        JsonError::Syntax(self.position)
    }

    /// The next byte that is no white space, not taken.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.bytes();
        while let Some(byte) = bytes.get(self.position) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(*byte);
            }
            self.position += 1;
        }
        None
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.peek() == Some(byte) {
            self.position += 1;
            Ok(())
        } else {
            Err(self.syntax())
        }
    }

    /// Whether there is nothing but white space.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    pub(super) fn end(&mut self) -> Result<(), JsonError> {
        if self.is_at_end() { Ok(()) } else { Err(self.syntax()) }
    }

    /// What the next value is, not taken.
    pub(super) fn kind(&mut self) -> Result<Kind, JsonError> {
        match self.peek() {
            Some(b'n') => Ok(Kind::Null),
            Some(b't') => Ok(Kind::True),
            Some(b'f') => Ok(Kind::False),
            Some(b'"') => Ok(Kind::String),
            Some(b'[') => Ok(Kind::List),
            Some(b'{') => Ok(Kind::Map),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            _ => Err(self.syntax()),
        }
    }

    /// Takes `null`, `true` or `false`, of which the kind was seen.
    pub(super) fn literal(&mut self, kind: Kind) -> Result<(), JsonError> {
        let word: &[u8] = match kind {
            Kind::Null => b"null",
            Kind::True => b"true",
            _ => b"false",
        };
        if self.bytes()[self.position..].starts_with(word) {
            self.position += word.len();
            Ok(())
        } else {
            Err(self.syntax())
        }
    }

    /// Takes a number and gives its text.
    pub(super) fn number(&mut self) -> Result<&'a str, JsonError> {
        let (bytes, start) = (self.bytes(), self.position);
        let mut at = start;
        let digits = |at: &mut usize| {
            let from = *at;
            while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
            *at > from
        };
        if bytes.get(at) == Some(&b'-') {
            at += 1;
        }
        let mut well_formed = if bytes.get(at) == Some(&b'0') {
            at += 1;
            true
        } else {
            digits(&mut at)
        };
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            well_formed &= digits(&mut at);
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            at += 1;
            if matches!(bytes.get(at), Some(b'+' | b'-')) {
                at += 1;
            }
            well_formed &= digits(&mut at);
        }
        // `01` and `1x` are no numbers.
        well_formed &= !bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'.');
        self.position = at;
        if well_formed { Ok(&self.text[start..at]) } else { Err(self.syntax()) }
    }

    /// Takes a string.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.expect(b'"')?;
        let start = self.position;
        self.plain_run();
        if self.bytes().get(self.position) == Some(&b'"') {
            let text = &self.text[start..self.position];
            self.position += 1;
            return Ok(Cow::Borrowed(text));
        }
        let mut out = self.text[start..self.position].to_owned();
        loop {
            match self.bytes().get(self.position) {
                Some(b'"') => {
                    self.position += 1;
                    return Ok(Cow::Owned(out));
                }
                Some(b'\\') => {
                    self.position += 1;
                    out.push(self.escape()?);
                }
                // The end, or a control character, which a string must escape.
                _ => return Err(self.syntax()),
            }
            let start = self.position;
            self.plain_run();
            out.push_str(&self.text[start..self.position]);
        }
    }

    /// Goes on to the next quote, backslash or control character, each of which is ASCII.
    fn plain_run(&mut self) {
        self.position += plain_length(&self.bytes()[self.position..]);
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let byte = *self.bytes().get(self.position).ok_or_else(|| self.syntax())?;
        self.position += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex4()?;
                let code = if (0xd800..0xdc00).contains(&high) {
                    if !self.bytes()[self.position..].starts_with(b"\\u") {
                        return Err(self.syntax());
                    }
                    self.position += 2;
                    let low = self.hex4()?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(self.syntax());
                    }
                    0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
                } else {
                    high
                };
                // What is left out is a low surrogate without its high one.
                char::from_u32(code).ok_or_else(|| self.syntax())?
            }
            _ => return Err(self.syntax()),
        })
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let digits = self.bytes().get(self.position..self.position + 4).ok_or_else(|| self.syntax())?;
        let mut code = 0;
        for digit in digits {
            code = code * 16 + char::from(*digit).to_digit(16).ok_or_else(|| self.syntax())?;
        }
        self.position += 4;
        Ok(code)
    }

    /// Enters a list or a map, which `next_item` or `next_key` leaves.
    pub(super) fn enter(&mut self, kind: Kind) -> Result<(), JsonError> {
        self.expect(if kind == Kind::List { b'[' } else { b'{' })?;
        self.depth += 1;
        if self.depth > REQUEST_DEPTH_MAX { Err(JsonError::Depth) } else { Ok(()) }
    }

    /// Whether the list that was entered has one more item; leaves the list when it has none.
    pub(super) fn next_item(&mut self, first: bool) -> Result<bool, JsonError> {
        self.next(first, b']')
    }

    /// The key of the next entry of the map that was entered; leaves the map when there is none.
    pub(super) fn next_key(&mut self, first: bool) -> Result<Option<Cow<'a, str>>, JsonError> {
        if !self.next(first, b'}')? {
            return Ok(None);
        }
        self.peek();
        let key = self.string()?;
        self.expect(b':')?;
        Ok(Some(key))
    }

    fn next(&mut self, first: bool, end: u8) -> Result<bool, JsonError> {
        let byte = self.peek();
        if byte == Some(end) {
            self.position += 1;
            self.depth -= 1;
            return Ok(false);
        }
        if !first {
            self.expect(b',')?;
        }
        Ok(true)
    }

    /// Counts an item that will take memory.
    pub(super) fn count_item(&mut self) -> Result<(), JsonError> {
        self.items += 1;
        if self.items > ITEMS_MAX { Err(JsonError::Items) } else { Ok(()) }
    }

    /// Takes a value of any kind and forgets it.
    pub(super) fn skip(&mut self) -> Result<(), JsonError> {
        match self.kind()? {
            Kind::String => self.string().map(drop),
            Kind::Number => self.number().map(drop),
            Kind::List => {
                self.enter(Kind::List)?;
                let mut first = true;
                while self.next_item(first)? {
                    first = false;
                    self.skip()?;
                }
                Ok(())
            }
            Kind::Map => {
                self.enter(Kind::Map)?;
                let mut first = true;
                while self.next_key(first)?.is_some() {
                    first = false;
                    self.skip()?;
                }
                Ok(())
            }
            literal => self.literal(literal),
        }
    }
}

/// Writes a string with its quotes.
pub(super) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let plain = plain_length(rest);
        out.extend_from_slice(&rest[..plain]);
        let Some(&byte) = rest.get(plain) else { break };
        write_escaped(out, byte);
        rest = &rest[plain + 1..];
    }
    out.push(b'"');
}

/// How many bytes go before the first that a string must escape. Most strings have none, so that
/// whole chunks are asked at once: the compiler makes vector instructions of it.
fn plain_length(bytes: &[u8]) -> usize {
    const CHUNK: usize = 16;
    let special = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
    let (chunks, _) = bytes.as_chunks::<CHUNK>();
    let plain = chunks
        .iter()
        .position(|chunk| chunk.iter().fold(false, |any, &byte| any | special(byte)))
        .unwrap_or(chunks.len())
        * CHUNK;
    bytes[plain..].iter().position(|&byte| special(byte)).map_or(bytes.len(), |length| plain + length)
}

fn write_escaped(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn skips(text: &str) -> Result<(), JsonError> {
        let mut parser = Parser::new(text.as_bytes())?;
        parser.skip()?;
        parser.end()
    }

    #[test]
    fn json_is_taken_and_what_is_none_is_not() {
        for text in [
            "{}",
            "[]",
            " [1, -0.5e+3 , \"a\\u00e9\\ud83d\\ude00\", null,true , false]\n",
            "{\"a\" : {\"b\":[{}]}}",
            "\"\"",
            "0",
        ] {
            assert_eq!(skips(text), Ok(()), "{text}");
        }
        for text in [
            "",
            " ",
            "{",
            "[",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\"}",
            "01",
            "1.",
            "-",
            "1x",
            ".5",
            "+1",
            "nul",
            "truex",
            "\"\n\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\udc00\"",
            "[1 2]",
            "{} {}",
            "'a'",
            "NaN",
            "[1}",
        ] {
            assert!(skips(text).is_err(), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        assert_eq!(skips(&"[".repeat(100_000)), Err(JsonError::Depth));
        assert_eq!(skips(&"{\"a\":".repeat(100_000)), Err(JsonError::Depth));
    }

    #[test]
    fn escapes_are_read() {
        let mut parser = Parser::new(br#""a\u00e9\ud83d\ude00\n\/\b""#).unwrap();
        assert_eq!(parser.string().unwrap(), "aé😀\n/\u{8}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(mut parser) = Parser::new(&bytes) {
                let _ = parser.skip();
            }
        }

        #[test]
        fn json_like_text_agrees_with_serde_json(text in "[\\[\\]{}:,\"\\\\ntrue0-9.eE \u{1}é+-]{0,24}") {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            let ours = skips(&text);
            // serde_json has a range of numbers; this parser leaves that to who reads the number.
            if !theirs.as_ref().is_err_and(|error| error.to_string().contains("out of range")) {
                prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} {:?}", ours, theirs);
            }
        }

        #[test]
        fn strings_read_what_they_write(text in any::<String>()) {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            prop_assert_eq!(&serde_json::from_slice::<String>(&out).unwrap(), &text);
            prop_assert_eq!(Parser::new(&out).unwrap().string().unwrap(), text);
        }
    }
}
