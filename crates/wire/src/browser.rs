//! Keeps web pages away from the port.
//!
//! A page in a browser on the same machine can send requests to a loopback port: some across
//! origins without asking first, any of them after rebinding its own name to 127.0.0.1. Routes
//! without authentication, and signatures made with the well-known key of a fresh installation,
//! must not be within its reach. No program that is not a browser sends the headers looked at here.

use std::net::IpAddr;

use http::HeaderMap;
use http::uri::Authority;

/// Why a request looks like a web page's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BrowserRefusal {
    #[error("requests from web pages of another origin are refused")]
    ForeignOrigin,
    #[error("the Host header must be localhost or an IP address")]
    ForeignHost,
}

/// Refuses a request that a page of another origin sent.
pub(crate) fn check_origin(headers: &HeaderMap) -> Result<(), BrowserRefusal> {
    for origin in headers.get_all(http::header::ORIGIN) {
        let host = origin
            .to_str()
            .ok()
            .and_then(|text| text.split_once("://"))
            .and_then(|(_, authority)| authority.parse::<Authority>().ok());
        if !host.is_some_and(|authority| is_local(authority.host())) {
            return Err(BrowserRefusal::ForeignOrigin);
        }
    }
    let site = headers.get("sec-fetch-site").map(http::HeaderValue::as_bytes);
    if site.is_some_and(|site| site == b"cross-site") {
        return Err(BrowserRefusal::ForeignOrigin);
    }
    Ok(())
}

/// Refuses a request whose host is a name that somebody else may have bound to our address.
pub(crate) fn check_host(headers: &HeaderMap) -> Result<(), BrowserRefusal> {
    let mut hosts = headers.get_all(http::header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(BrowserRefusal::ForeignHost) };
    let authority = host.to_str().ok().and_then(|text| text.parse::<Authority>().ok());
    if authority.is_some_and(|authority| is_local(authority.host())) {
        Ok(())
    } else {
        Err(BrowserRefusal::ForeignHost)
    }
}

/// An IP address, `localhost`, or a name under it: nobody can bind those to a page of their own.
fn is_local(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let lower = bare.to_ascii_lowercase();
    bare.parse::<IpAddr>().is_ok() || lower == "localhost" || lower.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn hosts_that_nobody_can_rebind_are_local() {
        for host in
            ["localhost", "localhost:4566", "ecs.localhost:1", "127.0.0.1:4566", "[::1]:4566", "10.1.2.3"]
        {
            assert_eq!(check_host(&headers(&[("host", host)])), Ok(()), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:4566", "notlocalhost", ""]
        {
            assert_eq!(check_host(&headers(&[("host", host)])), Err(BrowserRefusal::ForeignHost), "{host}");
        }
        assert_eq!(check_host(&headers(&[])), Err(BrowserRefusal::ForeignHost));
    }

    #[test]
    fn pages_of_another_origin_are_refused() {
        for pair in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", "http://localhost.evil.example"),
            ("sec-fetch-site", "cross-site"),
        ] {
            assert_eq!(check_origin(&headers(&[pair])), Err(BrowserRefusal::ForeignOrigin), "{pair:?}");
        }
        for pair in [
            ("origin", "http://localhost:4566"),
            ("origin", "http://127.0.0.1:3000"),
            ("sec-fetch-site", "none"),
            ("accept", "*/*"),
        ] {
            assert_eq!(check_origin(&headers(&[pair])), Ok(()), "{pair:?}");
        }
    }
}
