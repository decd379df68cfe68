//! The text forms of scalars that more than one protocol uses.

use wharf_core::Timestamp;
use wharf_shape::TimestampFormat;

/// 9999-12-31T23:59:59Z, the last second that ISO 8601 can say in four digits.
const SECONDS_MAX: i64 = 253_402_300_799;
/// 0001-01-01T00:00:00Z.
const SECONDS_MIN: i64 = -62_135_596_800;

/// Seconds since 1970 with a fraction, to the millisecond.
pub(super) fn timestamp_from_seconds(seconds: f64) -> Option<Timestamp> {
    let in_range = seconds >= SECONDS_MIN as f64 && seconds < (SECONDS_MAX + 1) as f64;
    in_range.then(|| Timestamp::from_millis((seconds * 1000.0).round() as i64))
}

/// `2026-11-20T14:27:46Z`, with a fraction or an offset where there is one (RFC 3339), or
/// `2026-11-20`, or seconds since 1970: the forms that AWS's XML services take.
pub(super) fn timestamp_from_text(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    if bytes.len() >= 10 && bytes[4] == b'-' && bytes[7] == b'-' {
        return iso8601(text);
    }
    if text.ends_with(" GMT") {
        return rfc822(text);
    }
    if text.is_empty()
        || !bytes.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E'))
    {
        return None;
    }
    text.parse().ok().and_then(timestamp_from_seconds)
}

fn iso8601(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_at_checked(10)?;
    let days = days_from_civil(digits(&date[..4])?, digits(date.get(5..7)?)?, digits(date.get(8..10)?)?)?;
    if time.is_empty() {
        return checked(days * 86_400, 0);
    }
    let bytes = time.as_bytes();
    if bytes.len() < 9 || !matches!(bytes[0], b'T' | b't' | b' ') || bytes[3] != b':' || bytes[6] != b':' {
        return None;
    }
    let (hour, minute, second) =
        (digits(time.get(1..3)?)?, digits(time.get(4..6)?)?, digits(time.get(7..9)?)?);
    // A leap second is the second after it, as in POSIX time.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = &time[9..];
    let mut millis = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if length == 0 || length > 9 {
            return None;
        }
        let padded = format!("{:0<3}", &fraction[..length]);
        millis = digits(&padded[..3])?;
        rest = &fraction[length..];
    }
    let offset = match rest.as_bytes() {
        [] | [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), offset @ ..] => {
            let offset = std::str::from_utf8(offset).ok()?;
            let (hours, minutes) = match offset.len() {
                4 => (offset.get(..2)?, offset.get(2..)?),
                5 if offset.as_bytes()[2] == b':' => (offset.get(..2)?, offset.get(3..)?),
                _ => return None,
            };
            let (hours, minutes) = (digits(hours)?, digits(minutes)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 3600 + minutes * 60) * if *sign == b'+' { 1 } else { -1 }
        }
        _ => return None,
    };
    checked(days * 86_400 + hour * 3600 + minute * 60 + second - offset, millis)
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// `Fri, 20 Nov 2026 14:27:46 GMT`.
fn rfc822(text: &str) -> Option<Timestamp> {
    let (_, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ');
    let day = digits(words.next()?)?;
    let month = words.next()?;
    let month = i64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()? + 1;
    let year = digits(words.next()?)?;
    let time = words.next()?;
    if time.len() != 8 || words.next() != Some("GMT") || words.next().is_some() {
        return None;
    }
    let mut parts = time.split(':');
    let (hour, minute, second) = (digits(parts.next()?)?, digits(parts.next()?)?, digits(parts.next()?)?);
    if hour > 23 || minute > 59 || second > 60 || parts.next().is_some() {
        return None;
    }
    checked(days_from_civil(year, month, day)? * 86_400 + hour * 3600 + minute * 60 + second, 0)
}

fn checked(seconds: i64, millis: i64) -> Option<Timestamp> {
    (SECONDS_MIN..=SECONDS_MAX).contains(&seconds).then(|| Timestamp::from_millis(seconds * 1000 + millis))
}

fn digits(text: &str) -> Option<i64> {
    let all_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if all_digits && text.len() <= 9 { text.parse().ok() } else { None }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar (Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) || !(1..=9999).contains(&year) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468)
}

/// The text of a timestamp in a format other than Unix seconds.
pub(super) fn timestamp_to_text(timestamp: Timestamp, format: TimestampFormat) -> String {
    match format {
        TimestampFormat::Iso8601 => timestamp.to_iso8601(),
        TimestampFormat::UnixTimestamp => seconds(timestamp),
        TimestampFormat::Rfc822 => {
            // The calendar comes from the ISO form: `2026-11-20T14:27:46.000Z`.
            let iso = timestamp.to_iso8601();
            let weekday = WEEKDAYS[(timestamp.as_millis().div_euclid(86_400_000) + 4).rem_euclid(7) as usize];
            let month = iso.get(5..7).and_then(|month| month.parse::<usize>().ok()).unwrap_or(1);
            let month = MONTHS.get(month - 1).copied().unwrap_or(MONTHS[0]);
            let part = |range| iso.get(range).unwrap_or_default();
            format!("{weekday}, {} {month} {} {} GMT", part(8..10), part(0..4), part(11..19))
        }
    }
}

/// Unix seconds, with three digits of fraction where there is one.
fn seconds(timestamp: Timestamp) -> String {
    let mut text = Vec::with_capacity(16);
    write_seconds(&mut text, timestamp);
    text.into_iter().map(char::from).collect()
}

/// As [`seconds`]: a listing of tasks has hundreds of them, which `format!` would dominate.
pub(super) fn write_seconds(out: &mut Vec<u8>, timestamp: Timestamp) {
    let millis = timestamp.as_millis();
    if millis < 0 {
        out.push(b'-');
    }
    let (whole, fraction) = (millis.unsigned_abs() / 1000, millis.unsigned_abs() % 1000);
    write_unsigned(out, whole);
    if fraction > 0 {
        let digit = |of: u64| b'0' + (of % 10) as u8;
        out.extend_from_slice(&[b'.', digit(fraction / 100), digit(fraction / 10), digit(fraction)]);
    }
}

pub(super) fn write_integer(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    write_unsigned(out, value.unsigned_abs());
}

fn write_unsigned(out: &mut Vec<u8>, mut value: u64) {
    // The digits of `u64::MAX`.
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A double as text; what JSON and XML cannot say as a number has AWS's names.
pub(super) fn double(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        format!("{value:?}")
    }
}

/// A double from text, in the forms that [`double`] writes and no other of Rust's.
pub(super) fn double_from_text(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => {
            let plain = !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E'));
            text.parse().ok().filter(|value: &f64| plain && value.is_finite())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn timestamps_are_read_in_all_forms() {
        let expected = Some(Timestamp::from_millis(1_700_000_000_000));
        for text in [
            "2023-11-14T22:13:20Z",
            "2023-11-14T22:13:20",
            "2023-11-14T22:13:20.000Z",
            "2023-11-14T23:13:20+01:00",
            "2023-11-14T17:13:20-0500",
            "Tue, 14 Nov 2023 22:13:20 GMT",
            "1700000000",
            "1.7E9",
        ] {
            assert_eq!(timestamp_from_text(text), expected, "{text}");
        }
        for text in [
            "",
            "now",
            "2023-13-01",
            "2023-02-29",
            "2023-11-14T25:00:00Z",
            "2023-11-14Tü2:13:20Z",
            "1e99",
            "NaN",
            "inf",
        ] {
            assert_eq!(timestamp_from_text(text), None, "{text}");
        }
    }

    #[test]
    fn timestamps_are_written_in_all_forms() {
        let timestamp = Timestamp::from_millis(1_700_000_000_123);
        assert_eq!(timestamp_to_text(timestamp, TimestampFormat::Iso8601), "2023-11-14T22:13:20.123Z");
        assert_eq!(timestamp_to_text(timestamp, TimestampFormat::Rfc822), "Tue, 14 Nov 2023 22:13:20 GMT");
        assert_eq!(timestamp_to_text(timestamp, TimestampFormat::UnixTimestamp), "1700000000.123");
        assert_eq!(seconds(Timestamp::from_millis(-1500)), "-1.500");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = timestamp_from_text(&text);
            let _ = double_from_text(&text);
        }

        #[test]
        fn iso_8601_reads_what_it_writes(millis in SECONDS_MIN * 1000..SECONDS_MAX * 1000) {
            let timestamp = Timestamp::from_millis(millis);
            prop_assert_eq!(timestamp_from_text(&timestamp.to_iso8601()), Some(timestamp));
        }

        #[test]
        fn rfc_822_reads_what_it_writes(seconds in 0..SECONDS_MAX) {
            let timestamp = Timestamp::from_millis(seconds * 1000);
            prop_assert_eq!(timestamp_from_text(&timestamp_to_text(timestamp, TimestampFormat::Rfc822)), Some(timestamp));
        }

        #[test]
        fn integers_are_written_as_they_print(value in any::<i64>(), small in -1000_i64..1000) {
            for value in [value, small, i64::MIN, i64::MAX] {
                let mut out = Vec::new();
                write_integer(&mut out, value);
                prop_assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
            }
        }

        #[test]
        fn unix_seconds_read_what_they_write(millis in SECONDS_MIN * 1000..SECONDS_MAX * 1000) {
            let timestamp = Timestamp::from_millis(millis);
            let text = seconds(timestamp);
            let exact = millis % 1000 != 0 || !text.contains('.');
            prop_assert!(exact, "{}", text);
            prop_assert_eq!(text.parse().ok().and_then(timestamp_from_seconds), Some(timestamp));
        }

        #[test]
        fn doubles_read_what_they_write(value in any::<f64>()) {
            let read = double_from_text(&double(value)).unwrap();
            prop_assert!(read == value || (read.is_nan() && value.is_nan()));
        }
    }
}
