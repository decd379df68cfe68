//! What a request says about its own signature, before anything of it is believed.

use std::borrow::Cow;

use http::HeaderMap;
use percent_encoding::percent_decode_str;
use wharf_core::limits::REQUEST_HEADERS_MAX;

use super::date::SignatureDate;
use super::error::SignatureError;
use super::{ALGORITHM, SignedParts};
use crate::echo::bounded;

/// The longest text that an error repeats back to the caller.
const ECHO_BYTES_MAX: usize = 256;

/// The credential scope: for which day, region and service a signature is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialScope<'a> {
    /// `YYYYMMDD`.
    pub date: &'a str,
    pub region: &'a str,
    /// The signing name, such as `ecs`.
    pub service: &'a str,
    /// `aws4_request`.
    pub terminator: &'a str,
}

/// Where the signature stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimForm {
    Header,
    /// A presigned URL.
    Query {
        /// `X-Amz-Expires`, as it was sent.
        expires_seconds: u64,
    },
}

/// A parsed but unverified signature.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    pub form: ClaimForm,
    credential: Cow<'a, str>,
    signed_headers: Cow<'a, str>,
    pub(crate) signature: Cow<'a, str>,
    pub(crate) date: SignatureDate,
    pub(crate) session_token: Option<Cow<'a, str>>,
    /// Ends of key id, date, region and service within `credential`.
    ends: [usize; 4],
}

impl<'a> Claim<'a> {
    /// Reads the signature of a request: `Ok(None)` when it has none.
    ///
    /// # Errors
    /// [`SignatureError::Incomplete`] when there is one that cannot be read.
    pub fn read(parts: &SignedParts<'a>) -> Result<Option<Self>, SignatureError> {
        let mut authorizations = parts.headers.get_all(http::header::AUTHORIZATION).iter();
        if let Some(value) = authorizations.next() {
            if authorizations.next().is_some() {
                return Err(incomplete("Only one Authorization header is allowed."));
            }
            let text = value
                .to_str()
                .map_err(|_| incomplete("The Authorization header has characters outside ASCII."))?;
            return Self::from_header(text, parts.headers).map(Some);
        }
        if parts.query.contains("X-Amz-") { Self::from_query(parts.query) } else { Ok(None) }
    }

    fn from_header(text: &'a str, headers: &'a HeaderMap) -> Result<Self, SignatureError> {
        let text = text.trim();
        let (algorithm, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        if algorithm != ALGORITHM {
            return Err(if algorithm.starts_with("AWS") {
                incomplete(format!("Unsupported AWS 'algorithm': '{}'.", echo(algorithm)))
            } else {
                incomplete("Authorization header requires the algorithm 'AWS4-HMAC-SHA256'.")
            });
        }
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for pair in rest.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(incomplete(format!(
                    "'{}' not a valid key=value pair (missing equal-sign) in Authorization header: '{}'.",
                    echo(pair),
                    echo(text)
                )));
            };
            let slot = match name.trim_end() {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                // AWS ignores what it does not know here, and so do we: it is not acted on.
                _ => continue,
            };
            if slot.replace(value.trim_start()).is_some() {
                return Err(incomplete(format!("Authorization header has more than one '{}'.", echo(name))));
            }
        }
        let date_text = single_header(headers, "x-amz-date")?;
        let http_date = single_header(headers, "date")?;
        let mut missing = String::new();
        for (name, value) in
            [("Credential", credential), ("Signature", signature), ("SignedHeaders", signed_headers)]
        {
            if value.is_none_or(str::is_empty) {
                missing.push_str(&format!("Authorization header requires '{name}' parameter. "));
            }
        }
        if date_text.is_none() && http_date.is_none() {
            missing.push_str(
                "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ",
            );
        }
        let (Some(credential), Some(signed_headers), Some(signature), true) =
            (credential, signed_headers, signature, missing.is_empty())
        else {
            missing.push_str(&format!("Authorization={}", echo(algorithm)));
            return Err(incomplete(missing));
        };
        let date = match (date_text, http_date) {
            (Some(text), _) => SignatureDate::parse_iso8601(text).or_else(|| SignatureDate::parse_http(text)),
            (None, Some(text)) => {
                SignatureDate::parse_http(text).or_else(|| SignatureDate::parse_iso8601(text))
            }
            (None, None) => None,
        }
        .ok_or_else(|| {
            incomplete(format!(
                "Date must be in ISO-8601 'basic format'. Got '{}'. See http://en.wikipedia.org/wiki/ISO_8601",
                echo(date_text.or(http_date).unwrap_or_default())
            ))
        })?;
        let session_token = single_header(headers, "x-amz-security-token")?.map(Cow::Borrowed);
        Self::new(
            ClaimForm::Header,
            Cow::Borrowed(credential),
            Cow::Borrowed(signed_headers),
            Cow::Borrowed(signature),
            date,
            session_token,
        )
    }

    fn from_query(query: &'a str) -> Result<Option<Self>, SignatureError> {
        let mut values: [Option<Cow<'a, str>>; 7] = Default::default();
        const NAMES: [&str; 7] = [
            "X-Amz-Algorithm",
            "X-Amz-Credential",
            "X-Amz-Date",
            "X-Amz-Expires",
            "X-Amz-SignedHeaders",
            "X-Amz-Signature",
            "X-Amz-Security-Token",
        ];
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // The name may be escaped as well; a name that is must not slip past this loop and
            // still be read as the same parameter by somebody else.
            let name = percent_decode_str(name).decode_utf8_lossy();
            if let Some(index) = NAMES.iter().position(|known| *known == name) {
                let value = percent_decode_str(value)
                    .decode_utf8()
                    .map_err(|_| incomplete(format!("'{}' is not valid UTF-8.", NAMES[index])))?;
                if values[index].replace(value).is_some() {
                    return Err(incomplete(format!("Query-string has more than one '{}'.", NAMES[index])));
                }
            }
        }
        let [algorithm, credential, date, expires, signed_headers, signature, session_token] = values;
        if algorithm.is_none() && credential.is_none() && signature.is_none() {
            return Ok(None);
        }
        let required = |name: &str, value: Option<Cow<'a, str>>| {
            value
                .filter(|value| !value.is_empty())
                .ok_or_else(|| incomplete(format!("AWS query-string parameters must include '{name}'.")))
        };
        let algorithm = required("X-Amz-Algorithm", algorithm)?;
        if algorithm != ALGORITHM {
            return Err(incomplete(format!("Unsupported AWS 'algorithm': '{}'.", echo(&algorithm))));
        }
        let date = required("X-Amz-Date", date)?;
        let date = SignatureDate::parse_iso8601(&date).ok_or_else(|| {
            incomplete(format!(
                "Date must be in ISO-8601 'basic format'. Got '{}'. See http://en.wikipedia.org/wiki/ISO_8601",
                echo(&date)
            ))
        })?;
        let expires = required("X-Amz-Expires", expires)?;
        let expires_seconds = Some(&expires)
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| incomplete("X-Amz-Expires should be a number"))?;
        Self::new(
            ClaimForm::Query { expires_seconds },
            required("X-Amz-Credential", credential)?,
            required("X-Amz-SignedHeaders", signed_headers)?,
            required("X-Amz-Signature", signature)?,
            date,
            session_token,
        )
        .map(Some)
    }

    fn new(
        form: ClaimForm,
        credential: Cow<'a, str>,
        signed_headers: Cow<'a, str>,
        signature: Cow<'a, str>,
        date: SignatureDate,
        session_token: Option<Cow<'a, str>>,
    ) -> Result<Self, SignatureError> {
        let mut ends = [0; 4];
        let mut slashes = credential.match_indices('/').map(|(index, _)| index);
        let filled = ends.iter_mut().all(|end| slashes.next().map(|index| *end = index).is_some());
        let fields_are_there = credential.split('/').all(|field| !field.is_empty());
        if !filled || slashes.next().is_some() || !fields_are_there {
            return Err(incomplete(format!(
                "Credential must have exactly 5 slash-delimited elements, e.g. \
                 keyid/date/region/service/term, got '{}'.",
                echo(&credential)
            )));
        }
        if signed_headers.split(';').count() > REQUEST_HEADERS_MAX {
            return Err(incomplete(format!("SignedHeaders names more than {REQUEST_HEADERS_MAX} headers.")));
        }
        Ok(Self { form, credential, signed_headers, signature, date, session_token, ends })
    }

    pub fn access_key_id(&self) -> &str {
        &self.credential[..self.ends[0]]
    }

    pub fn scope(&self) -> CredentialScope<'_> {
        let [key, date, region, service] = self.ends;
        CredentialScope {
            date: &self.credential[key + 1..date],
            region: &self.credential[date + 1..region],
            service: &self.credential[region + 1..service],
            terminator: &self.credential[service + 1..],
        }
    }

    /// The scope as it stands in the string to sign: `20150830/us-east-1/iam/aws4_request`.
    pub(crate) fn scope_text(&self) -> &str {
        &self.credential[self.ends[0] + 1..]
    }

    pub(crate) fn signed_headers_text(&self) -> &str {
        &self.signed_headers
    }

    pub(crate) fn signed_headers(&self) -> impl Iterator<Item = &str> {
        self.signed_headers.split(';')
    }

    pub(crate) fn signs_header(&self, name: &str) -> bool {
        self.signed_headers().any(|signed| signed.eq_ignore_ascii_case(name))
    }
}

/// The value of a header that may stand once.
fn single_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, SignatureError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(incomplete(format!("Only one '{name}' header is allowed.")));
    }
    match value.to_str() {
        Ok(text) => Ok(Some(text.trim())),
        Err(_) => Err(incomplete(format!("The '{name}' header has characters outside ASCII."))),
    }
}

fn incomplete(message: impl Into<String>) -> SignatureError {
    SignatureError::Incomplete { message: message.into() }
}

/// At most `ECHO_BYTES_MAX` bytes of what the caller sent.
fn echo(text: &str) -> &str {
    bounded(text, ECHO_BYTES_MAX)
}
