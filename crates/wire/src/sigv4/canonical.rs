//! The canonical request: the one spelling of a request that both sides hash.
//!
//! Source: IAM User Guide, "Create a signed AWS API request", steps 1 to 3.

use http::HeaderMap;
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};

use super::{ALGORITHM, SignedParts};

/// How a service wants the path spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathForm {
    /// Dot segments and repeated slashes removed, then each segment of the path on the wire
    /// escaped once more: every service but S3.
    NormalizedTwiceEncoded,
    /// The path as it is, escaped once: S3, whose keys may hold `//` and `..`.
    OnceEncoded,
}

/// Which query parameters stay out of the canonical query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuerySkip {
    Nothing,
    Signature,
    SignatureAndToken,
}

impl QuerySkip {
    fn skips(self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Signature => name == "X-Amz-Signature",
            Self::SignatureAndToken => name == "X-Amz-Signature" || name == "X-Amz-Security-Token",
        }
    }
}

/// The canonical request, whose SHA-256 goes into the string to sign.
pub(crate) fn canonical_request<'h>(
    parts: &SignedParts<'_>,
    path_form: PathForm,
    query_skip: QuerySkip,
    signed_headers: impl Iterator<Item = &'h str>,
    signed_headers_text: &str,
    payload_hash: &str,
) -> Vec<u8> {
    let mut text = Vec::with_capacity(1024);
    text.extend_from_slice(parts.method.as_bytes());
    text.push(b'\n');
    path(&mut text, parts.path, path_form);
    text.push(b'\n');
    query(&mut text, parts.query, query_skip);
    text.push(b'\n');
    for name in signed_headers {
        header(&mut text, parts.headers, name);
    }
    text.push(b'\n');
    text.extend_from_slice(signed_headers_text.as_bytes());
    text.push(b'\n');
    text.extend_from_slice(payload_hash.as_bytes());
    text
}

/// `AWS4-HMAC-SHA256`, the date, the scope and the hash of the canonical request.
pub(crate) fn string_to_sign(date: &str, scope: &str, canonical_request: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(160);
    for part in [ALGORITHM, date, scope] {
        text.extend_from_slice(part.as_bytes());
        text.push(b'\n');
    }
    text.extend_from_slice(&hex_sha256(canonical_request));
    text
}

/// The lower-case hexadecimal SHA-256 of some bytes.
pub(crate) fn hex_sha256(bytes: &[u8]) -> [u8; 64] {
    let mut text = [0; 64];
    // The buffer has twice the digest's length, which is all that can go wrong.
    let _ = hex::encode_to_slice(Sha256::digest(bytes), &mut text);
    text
}

fn path(out: &mut Vec<u8>, path: &str, form: PathForm) {
    match form {
        PathForm::OnceEncoded => {
            let start = out.len();
            let decoded: Vec<u8> = percent_decode_str(path).collect();
            escape(out, &decoded, b"/");
            if out.len() == start {
                out.push(b'/');
            }
        }
        PathForm::NormalizedTwiceEncoded => {
            // What almost every AWS call sends.
            if path == "/" || path.is_empty() {
                out.push(b'/');
                return;
            }
            let mut segments: Vec<&str> = Vec::new();
            for segment in path.split('/') {
                match segment {
                    "" | "." => {}
                    ".." => {
                        segments.pop();
                    }
                    segment => segments.push(segment),
                }
            }
            for segment in &segments {
                out.push(b'/');
                escape(out, segment.as_bytes(), b"");
            }
            // A path that ends in a slash, or in dots that stand for a folder, keeps its slash.
            if segments.is_empty() || path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..") {
                out.push(b'/');
            }
        }
    }
}

fn query(out: &mut Vec<u8>, query: &str, skip: QuerySkip) {
    if query.is_empty() {
        return;
    }
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (recode(name), recode(value)))
        .filter(|(name, _)| !skip.skips(std::str::from_utf8(name).unwrap_or_default()))
        .collect();
    pairs.sort();
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(name);
        out.push(b'=');
        out.extend_from_slice(value);
    }
}

/// Decoded and escaped again, so that every spelling of the same parameter is signed alike. A
/// plus sign is a space, as it is for who reads the parameter.
fn recode(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 8);
    let mut decoded: Vec<u8> = Vec::with_capacity(text.len());
    for (index, part) in text.split('+').enumerate() {
        if index > 0 {
            decoded.push(b' ');
        }
        decoded.extend(percent_decode_str(part));
    }
    escape(&mut out, &decoded, b"");
    out
}

/// `name:value`, with the values of a repeated header joined by commas and runs of white space
/// made one space. A header that is signed and not there counts as empty.
fn header(out: &mut Vec<u8>, headers: &HeaderMap, name: &str) {
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    for (index, value) in headers.get_all(name).iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let words = value.as_bytes().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        for (index, word) in words.enumerate() {
            if index > 0 {
                out.push(b' ');
            }
            out.extend_from_slice(word);
        }
    }
    out.push(b'\n');
}

/// RFC 3986 escapes: everything but letters, digits, `-._~` and what `keep` names.
pub(crate) fn escape(out: &mut Vec<u8>, bytes: &[u8], keep: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.contains(&byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_of(text: &str, form: PathForm) -> String {
        let mut out = Vec::new();
        path(&mut out, text, form);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn paths_are_normalized_and_escaped_twice() {
        for (wire, canonical) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/example/..", "/"),
            ("/example1/example2/../..", "/"),
            ("/./example", "/example"),
            ("//example//", "/example/"),
            ("/example%20space/", "/example%2520space/"),
            ("/%E1%88%B4", "/%25E1%2588%25B4"),
            ("/-._~0123abcXYZ", "/-._~0123abcXYZ"),
            ("/../../etc", "/etc"),
        ] {
            assert_eq!(path_of(wire, PathForm::NormalizedTwiceEncoded), canonical, "{wire:?}");
        }
    }

    #[test]
    fn paths_of_s3_are_escaped_once_and_left_alone() {
        for (wire, canonical) in
            [("/", "/"), ("//a/../b", "//a/../b"), ("/a%20b", "/a%20b"), ("/a+b", "/a%2Bb")]
        {
            assert_eq!(path_of(wire, PathForm::OnceEncoded), canonical, "{wire:?}");
        }
    }

    #[test]
    fn queries_are_sorted_by_escaped_name_then_value() {
        for (wire, canonical) in [
            ("Param2=value2&Param1=value1", "Param1=value1&Param2=value2"),
            ("Param1=b&Param1=a", "Param1=a&Param1=b"),
            ("a=%7e&b", "a=~&b="),
            ("x=a+b", "x=a%20b"),
            ("x=a%2Bb", "x=a%2Bb"),
            ("x=a=b", "x=a%3Db"),
            ("&&a=1&", "a=1"),
            ("a=%zz", "a=%25zz"),
        ] {
            let mut out = Vec::new();
            query(&mut out, wire, QuerySkip::Nothing);
            assert_eq!(String::from_utf8(out).unwrap(), canonical, "{wire:?}");
        }
    }

    #[test]
    fn header_values_are_trimmed_collapsed_and_joined() {
        let mut headers = HeaderMap::new();
        headers.append("my-header", "  a   b  ".parse().unwrap());
        headers.append("my-header", "c".parse().unwrap());
        let mut out = Vec::new();
        header(&mut out, &headers, "my-header");
        header(&mut out, &headers, "absent");
        assert_eq!(String::from_utf8(out).unwrap(), "my-header:a b,c\nabsent:\n");
    }
}
