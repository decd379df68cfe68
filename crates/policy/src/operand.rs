//! The values that condition operators compare: numbers, times, networks, truth, bytes.

use std::net::IpAddr;

use base64::Engine as _;

/// A number, or seconds since 1970.
pub(crate) fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let plain =
        text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E'));
    text.parse().ok().filter(|number: &f64| plain && number.is_finite())
}

pub(crate) fn boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

pub(crate) fn bytes(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()
}

/// Milliseconds since 1970, of a time in one of the W3C's forms of ISO 8601 or in seconds since 1970. Digits
/// alone are seconds, never a year.
pub(crate) fn date(text: &str) -> Option<i64> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<i64>().ok()?.checked_mul(1000);
    }
    let (date, time) = match text.split_once(['T', 't']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let year = digits(parts.next()?, 4, 4, 0..=9999)?;
    let month = parts.next().map_or(Some(1), |part| digits(part, 1, 2, 1..=12))?;
    let day = parts.next().map_or(Some(1), |part| digits(part, 1, 2, 1..=31))?;
    if parts.next().is_some() {
        return None;
    }
    let days = days_from_civil(year, month, day);
    let millis = time.map_or(Some(0), time_of_day)?;
    Some(days * 86_400_000 + millis)
}

/// Milliseconds since midnight in UTC.
fn time_of_day(text: &str) -> Option<i64> {
    let (clock, offset_minutes) = match text.find(['Z', 'z', '+', '-']) {
        None => (text, 0),
        Some(at) => {
            let (clock, zone) = text.split_at(at);
            let sign = match zone.as_bytes()[0] {
                b'+' => 1,
                b'-' => -1,
                _ if zone.len() == 1 => 0,
                _ => return None,
            };
            (clock, if sign == 0 { 0 } else { sign * offset(&zone[1..])? })
        }
    };
    let mut parts = clock.split(':');
    let hours = digits(parts.next()?, 1, 2, 0..=23)?;
    let minutes = parts.next().map_or(Some(0), |part| digits(part, 1, 2, 0..=59))?;
    let millis = match parts.next() {
        None => 0,
        Some(part) => {
            let (seconds, fraction) = part.split_once('.').unwrap_or((part, "0"));
            let seconds = digits(seconds, 1, 2, 0..=59)?;
            let fraction = (!fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| format!("{fraction:0<3}"))?;
            seconds * 1000 + digits(&fraction[..3], 3, 3, 0..=999)?
        }
    };
    if parts.next().is_some() {
        return None;
    }
    Some((hours * 60 + minutes - offset_minutes) * 60_000 + millis)
}

/// `02:00`, `0200` or `02`.
fn offset(text: &str) -> Option<i64> {
    let plain = text.replacen(':', "", 1);
    let hours = digits(plain.get(..2)?, 2, 2, 0..=23)?;
    let minutes = match &plain[2..] {
        "" => 0,
        minutes => digits(minutes, 2, 2, 0..=59)?,
    };
    Some(hours * 60 + minutes)
}

fn digits(text: &str, shortest: usize, longest: usize, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
    let well_formed =
        (shortest..=longest).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|value| well_formed && range.contains(value))
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar, counted from March so that leap days
/// come last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Addresses with a common prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    /// IPv4 as `::ffff:a.b.c.d`.
    base: u128,
    mask: u128,
}

impl Network {
    /// `203.0.113.0/24`, `2001:db8::/32`, or one address.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let (widest, shift) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
        let length = match length {
            None => widest,
            Some(length) => u32::try_from(digits(length, 1, 3, 0..=i64::from(widest))?).ok()?,
        };
        let mask = u128::MAX.checked_shl(128 - length - shift).unwrap_or(0);
        Some(Self { base: mapped(address) & mask, mask })
    }

    pub fn contains(self, address: IpAddr) -> bool {
        mapped(address) & self.mask == self.base
    }
}

fn mapped(address: IpAddr) -> u128 {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    u128::from(address)
}

pub(crate) fn address(text: &str) -> Option<IpAddr> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_the_forms_of_the_user_guide() {
        let expected = Some(1_356_998_400_000); // 2013-01-01T00:00:00Z
        for text in [
            "2013-01",
            "2013-01-01",
            "2013-01-01T00:00Z",
            "2013-01-01T00:00:00Z",
            "1356998400",
            "2013-01-01T02:00:00+02:00",
            "2012-12-31T22:00:00-0200",
            "2013-01-01T00:00:00.000Z",
        ] {
            assert_eq!(date(text), expected, "{text}");
        }
        assert_eq!(date("1970-01-01T00:00:00.5Z"), Some(500));
        assert_eq!(date("2024-02-29T12:30:45Z"), Some(1_709_209_845_000));
        for text in [
            "",
            "yesterday",
            "2013-13-01",
            "2013-01-01T24:00Z",
            "2013-01-01T00:00:00Zx",
            "2013-1-1-1",
            "2013-01-01T",
            "99999999999999999999",
            "2013-01-01T00:00:00.Z",
            "2013-01-01T00:00+x",
            "é",
        ] {
            assert_eq!(date(text), None, "{text}");
        }
    }

    #[test]
    fn networks_hold_their_addresses() {
        let holds = |network: &str, of: &str| Network::parse(network).unwrap().contains(of.parse().unwrap());
        assert!(holds("203.0.113.0/24", "203.0.113.7"));
        assert!(holds("203.0.113.9/24", "203.0.113.7"));
        assert!(!holds("203.0.113.0/24", "203.0.114.7"));
        assert!(holds("0.0.0.0/0", "8.8.8.8"));
        assert!(!holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("::/0", "2001:db8::1"));
        assert!(holds("2001:db8:1234:5678::/64", "2001:db8:1234:5678::1"));
        assert!(holds("127.0.0.1", "::ffff:127.0.0.1"));
        for text in ["", "x", "1.2.3.4/33", "1.2.3/8", "::/129", "1.2.3.4/", "1.2.3.4/-1"] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_plain() {
        assert_eq!(number("10"), Some(10.0));
        assert_eq!(number("-1.5e3"), Some(-1500.0));
        for text in ["", "inf", "NaN", "0x10", "1_000", "ten"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
