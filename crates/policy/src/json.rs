//! JSON (RFC 8259), read strictly: no key twice in an object, no deep nesting, and with the place of
//! each value, which the policy simulator tells.

use std::borrow::Cow;
use std::collections::HashSet;

/// How deep values may nest. A condition's values are at depth 6.
const DEPTH_MAX: usize = 16;

/// A place in a document, from 1. Columns are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

/// From the first byte of something to just behind its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: Position,
    pub end: Position,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    /// As it is written.
    Number(&'a str),
    String(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node<'a> {
    pub value: Json<'a>,
    pub span: Span,
}

/// The text is no JSON, or more than we look at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invalid;

pub(crate) fn parse(text: &str) -> Result<Node<'_>, Invalid> {
    let mut parser = Parser { text, at: 0, line: 1, line_start: 0 };
    parser.skip_space();
    let node = parser.value(0)?;
    parser.skip_space();
    if parser.at == text.len() { Ok(node) } else { Err(Invalid) }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    line_start: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> Result<(), Invalid> {
        if self.peek() == Some(wanted) {
            self.at += 1;
            Ok(())
        } else {
            Err(Invalid)
        }
    }

    fn position(&self) -> Position {
        Position { line: self.line, column: u32::try_from(self.at - self.line_start + 1).unwrap_or(u32::MAX) }
    }

    fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'\n' => {
                    self.at += 1;
                    self.line += 1;
                    self.line_start = self.at;
                }
                _ => return,
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node<'a>, Invalid> {
        if depth > DEPTH_MAX {
            return Err(Invalid);
        }
        let start = self.position();
        let value = match self.peek().ok_or(Invalid)? {
            b'{' => self.object(depth)?,
            b'[' => self.array(depth)?,
            b'"' => Json::String(self.string()?),
            b't' => self.word("true", Json::Bool(true))?,
            b'f' => self.word("false", Json::Bool(false))?,
            b'n' => self.word("null", Json::Null)?,
            _ => Json::Number(self.number()?),
        };
        Ok(Node { value, span: Span { start, end: self.position() } })
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> Result<Json<'a>, Invalid> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Invalid);
        }
        self.at += word.len();
        Ok(value)
    }

    fn object(&mut self, depth: usize) -> Result<Json<'a>, Invalid> {
        self.take(b'{')?;
        let mut members = Vec::new();
        let mut seen = HashSet::new();
        self.skip_space();
        if self.take(b'}').is_ok() {
            return Ok(Json::Object(members));
        }
        loop {
            self.skip_space();
            let key = self.string()?;
            if !seen.insert(key.clone()) {
                return Err(Invalid);
            }
            self.skip_space();
            self.take(b':')?;
            self.skip_space();
            members.push((key, self.value(depth + 1)?));
            self.skip_space();
            if self.take(b'}').is_ok() {
                return Ok(Json::Object(members));
            }
            self.take(b',')?;
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json<'a>, Invalid> {
        self.take(b'[')?;
        let mut items = Vec::new();
        self.skip_space();
        if self.take(b']').is_ok() {
            return Ok(Json::Array(items));
        }
        loop {
            self.skip_space();
            items.push(self.value(depth + 1)?);
            self.skip_space();
            if self.take(b']').is_ok() {
                return Ok(Json::Array(items));
            }
            self.take(b',')?;
        }
    }

    fn number(&mut self) -> Result<&'a str, Invalid> {
        let start = self.at;
        let _ = self.take(b'-');
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(Invalid),
        }
        if self.take(b'.').is_ok() {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Result<(), Invalid> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(Invalid) }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Invalid> {
        self.take(b'"')?;
        let start = self.at;
        let mut owned: Option<String> = None;
        let mut copied = start;
        loop {
            match self.peek().ok_or(Invalid)? {
                b'"' => {
                    let rest = &self.text[copied..self.at];
                    self.at += 1;
                    return Ok(match owned {
                        None => Cow::Borrowed(rest),
                        Some(mut text) => {
                            text.push_str(rest);
                            Cow::Owned(text)
                        }
                    });
                }
                b'\\' => {
                    let text = owned.get_or_insert_default();
                    text.push_str(&self.text[copied..self.at]);
                    self.at += 1;
                    let character = self.escape()?;
                    text.push(character);
                    copied = self.at;
                }
                0..=0x1f => return Err(Invalid),
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<char, Invalid> {
        let kind = self.peek().ok_or(Invalid)?;
        self.at += 1;
        Ok(match kind {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex4()?;
                if !(0xd800..0xe000).contains(&first) {
                    return char::from_u32(first).ok_or(Invalid);
                }
                self.take(b'\\')?;
                self.take(b'u')?;
                let second = self.hex4()?;
                if !(0xd800..0xdc00).contains(&first) || !(0xdc00..0xe000).contains(&second) {
                    return Err(Invalid);
                }
                let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                char::from_u32(code).ok_or(Invalid)?
            }
            _ => return Err(Invalid),
        })
    }

    fn hex4(&mut self) -> Result<u32, Invalid> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).ok_or(Invalid)?;
        let code = digits.iter().try_fold(0, |code, digit| {
            char::from(*digit).to_digit(16).map(|digit| code * 16 + digit).ok_or(Invalid)
        })?;
        self.at += 4;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_with_their_places() {
        let node =
            parse("{\n  \"a\": [1, -2.5e3, true, null],\n  \"b\": \"x\\u00e9\\ud83d\\ude00\\n\"\n}").unwrap();
        let Json::Object(members) = &node.value else { panic!() };
        assert_eq!(members[0].1.span.start, Position { line: 2, column: 8 });
        assert_eq!(members[0].1.span.end, Position { line: 2, column: 31 });
        assert_eq!(members[1].1.value, Json::String("xé😀\n".into()));
        assert_eq!(node.span.end, Position { line: 4, column: 2 });
    }

    #[test]
    fn what_is_no_strict_json_is_refused() {
        let deep = format!("{}{}", "[".repeat(DEPTH_MAX + 2), "]".repeat(DEPTH_MAX + 2));
        for text in [
            "",
            "{",
            "{\"a\":1,}",
            "[1,]",
            "{\"a\":1 \"b\":2}",
            "{'a':1}",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "nul",
            "\"\t\"",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "{} {}",
            "{\"a\":1,\"a\":2}",
            "\"",
            "NaN",
            "{\"\\u0061\":1,\"a\":2}",
            &deep,
        ] {
            assert_eq!(parse(text), Err(Invalid), "{text}");
        }
    }
}
