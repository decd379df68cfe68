//! The two forms of a signature's date: ISO 8601 basic (`20150830T123600Z`) and the `Date` header
//! of HTTP.

use time::format_description::well_known::Rfc2822;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};
use wharf_core::Timestamp;

/// The date of a signature, whole seconds in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SignatureDate(i64);

impl SignatureDate {
    pub(crate) fn from_timestamp(timestamp: Timestamp) -> Self {
        Self(timestamp.as_millis().div_euclid(1000))
    }

    pub(crate) fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// `20150830T123600Z`.
    pub(crate) fn parse_iso8601(text: &str) -> Option<Self> {
        let bytes: &[u8; 16] = text.as_bytes().try_into().ok()?;
        if bytes[8] != b'T' || bytes[15] != b'Z' {
            return None;
        }
        let number = |range: std::ops::Range<usize>| {
            bytes[range]
                .iter()
                .try_fold(0_u16, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u16::from(byte - b'0')))
        };
        let small = |range| number(range).and_then(|number| u8::try_from(number).ok());
        let month = Month::try_from(small(4..6)?).ok()?;
        let date = Date::from_calendar_date(i32::from(number(0..4)?), month, small(6..8)?).ok()?;
        let time = Time::from_hms(small(9..11)?, small(11..13)?, small(13..15)?).ok()?;
        Some(Self(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp()))
    }

    /// The `Date` header of HTTP: `Sun, 30 Aug 2015 12:36:00 GMT` (RFC 9110, section 5.6.7).
    pub(crate) fn parse_http(text: &str) -> Option<Self> {
        OffsetDateTime::parse(text, &Rfc2822).ok().map(|date| Self(date.unix_timestamp()))
    }

    /// `20150830T123600Z`. A date outside the years 0–9999 prints as the epoch; no such date is
    /// ever accepted.
    pub(crate) fn to_iso8601(self) -> String {
        let date = OffsetDateTime::from_unix_timestamp(self.0)
            .ok()
            .filter(|date| (0..=9999).contains(&date.year()))
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        format!(
            "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            date.hour(),
            date.minute(),
            date.second()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_name_the_same_second() {
        let iso = SignatureDate::parse_iso8601("20150830T123600Z").unwrap();
        assert_eq!(iso.0, 1_440_938_160);
        assert_eq!(SignatureDate::parse_http("Sun, 30 Aug 2015 12:36:00 GMT"), Some(iso));
        assert_eq!(iso.to_iso8601(), "20150830T123600Z");
    }

    #[test]
    fn what_is_not_a_date_is_refused() {
        for text in [
            "",
            "2015-08-30T12:36:00Z",
            "20150830T123600",
            "20151330T123600Z",
            "20150230T123600Z",
            "20150830T246000Z",
            "2015083éT12360Z",
        ] {
            assert_eq!(SignatureDate::parse_iso8601(text), None, "{text:?}");
        }
        assert_eq!(SignatureDate::parse_http("yesterday"), None);
    }
}
