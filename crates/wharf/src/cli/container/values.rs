//! Values of options, in the forms that Docker users write.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use wharf_containers::config::{
    DeviceConfig, MountConfig, MountFrom, PortConfig, Protocol, Restart, TmpfsConfig, Ulimit,
};
use wharf_core::Timestamp;

/// Ports of one `-p` at most.
const PORTS_MAX: u16 = 1024;

/// `512m`, `1g`, `1024`, `1.5GiB`: binary units, as Docker reads them.
pub fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size, such as 512m or 1g");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return Err(wrong()),
    };
    let bytes = number * factor as f64;
    if bytes.is_finite() && (0.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err(wrong()) }
}

/// `1.5` CPUs, as thousandths.
pub fn cpus(text: &str) -> Result<u32, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is no number of CPUs"))?;
    if (0.01..=4096.0).contains(&number) {
        Ok((number * 1000.0).round() as u32)
    } else {
        Err(format!("{text:?} is not between 0.01 and 4096 CPUs"))
    }
}

/// `[ip:][hostPort:]containerPort[/protocol]`, with ranges of equal length.
pub fn ports(text: &str) -> Result<Vec<PortConfig>, String> {
    let wrong = || format!("{text:?} is no port: it is [IP:][HOST:]CONTAINER[/udp]");
    let (ports, protocol) = match text.rsplit_once('/') {
        None => (text, Protocol::Tcp),
        Some((ports, "tcp")) => (ports, Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some(_) => return Err(wrong()),
    };
    let (address, ports) = match ports.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
        Some((address, ports)) => (Some(address), ports),
        None => match ports.matches(':').count() {
            2 => ports.split_once(':').map(|(address, ports)| (Some(address), ports)).ok_or_else(wrong)?,
            0 | 1 => (None, ports),
            _ => return Err(wrong()),
        },
    };
    let address = match address {
        None | Some("") => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Some(address) => address.parse().map_err(|_| wrong())?,
    };
    let (host, container) = match ports.split_once(':') {
        Some((host, container)) => (Some(host).filter(|host| !host.is_empty()), container),
        None => (None, ports),
    };
    let range = |text: &str| -> Result<(u16, u16), String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let parse = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
        let (first, last) = (parse(first)?, parse(last)?);
        if first <= last && last - first < PORTS_MAX { Ok((first, last)) } else { Err(wrong()) }
    };
    let container = range(container)?;
    let host = host.map(range).transpose()?;
    if host.is_some_and(|host| host.1 - host.0 != container.1 - container.0) {
        return Err(format!("{text:?}: the ranges are of different lengths"));
    }
    Ok((container.0..=container.1)
        .enumerate()
        .map(|(index, container_port)| PortConfig {
            address,
            host_port: host.map_or(0, |host| host.0 + u16::try_from(index).unwrap_or(0)),
            container_port,
            protocol,
        })
        .collect())
}

/// `-v [SOURCE:]TARGET[:ro|rw]`.
pub fn volume(text: &str) -> Result<MountConfig, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] if target.starts_with('/') => (Some(*source), *target, ""),
        [target, options] => (None, *target, *options),
        [source, target, options] => (Some(*source), *target, *options),
        _ => return Err(format!("{text:?} is no volume: it is [SOURCE:]TARGET[:ro]")),
    };
    if !target.starts_with('/') {
        return Err(format!("{text:?}: the target is not an absolute path"));
    }
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            // Nothing is labelled, so there is nothing to relabel.
            "rw" | "z" | "Z" => {}
            other => return Err(format!("{text:?}: the option {other:?} is not known here")),
        }
    }
    Ok(MountConfig { source: mount_source(source)?, target: target.to_owned(), read_only })
}

fn mount_source(source: Option<&str>) -> Result<MountFrom, String> {
    match source {
        None => Ok(MountFrom::Anonymous),
        Some(path) if path.starts_with(['/', '.', '~']) => {
            let path = std::path::absolute(path).map_err(|error| format!("{path}: {error}"))?;
            Ok(MountFrom::Host { path, make: true })
        }
        Some("") => Err("a volume's name is empty".to_owned()),
        Some(name) => Ok(MountFrom::Volume { name: name.to_owned() }),
    }
}

/// `--mount type=bind,source=…,target=…[,readonly]`. A tmpfs comes back as the other.
pub fn mount(text: &str) -> Result<Result<MountConfig, TmpfsConfig>, String> {
    let (mut kind, mut source, mut target, mut read_only, mut size) = ("volume", None, None, false, None);
    for part in text.split(',') {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match key {
            "type" => kind = value,
            "source" | "src" => source = Some(value),
            "target" | "dst" | "destination" => target = Some(value),
            "readonly" | "ro" => read_only = !matches!(value, "false" | "0"),
            "tmpfs-size" => size = Some(bytes(value)?),
            other => return Err(format!("{text:?}: the key {other:?} is not known here")),
        }
    }
    let target = target.filter(|target| target.starts_with('/'));
    let target = target.ok_or_else(|| format!("{text:?}: the target is no absolute path"))?.to_owned();
    match kind {
        "tmpfs" => {
            let options = if read_only { vec!["ro".to_owned()] } else { Vec::new() };
            Ok(Err(TmpfsConfig { target, size_bytes: size, options }))
        }
        "bind" => {
            let source = source.ok_or_else(|| format!("{text:?}: the source is missing"))?;
            let path = std::path::absolute(source).map_err(|error| format!("{source}: {error}"))?;
            Ok(Ok(MountConfig { source: MountFrom::Host { path, make: false }, target, read_only }))
        }
        "volume" => {
            let source = match source {
                Some(name) => MountFrom::Volume { name: name.to_owned() },
                None => MountFrom::Anonymous,
            };
            Ok(Ok(MountConfig { source, target, read_only }))
        }
        other => Err(format!("{text:?}: the type {other:?} is not known here")),
    }
}

/// `--tmpfs TARGET[:OPTIONS]`.
pub fn tmpfs(text: &str) -> Result<TmpfsConfig, String> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    if !target.starts_with('/') {
        return Err(format!("{text:?}: the target is not an absolute path"));
    }
    let (mut size_bytes, mut rest) = (None, Vec::new());
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", size)) => size_bytes = Some(bytes(size)?),
            _ => rest.push(option.to_owned()),
        }
    }
    Ok(TmpfsConfig { target: target.to_owned(), size_bytes, options: rest })
}

/// `no`, `always`, `unless-stopped`, `on-failure[:N]`.
pub fn restart(text: &str) -> Result<Restart, String> {
    match text.split_once(':').unwrap_or((text, "")) {
        ("no" | "", "") => Ok(Restart::No),
        ("always", "") => Ok(Restart::Always),
        ("unless-stopped", "") => Ok(Restart::UnlessStopped),
        ("on-failure", "") => Ok(Restart::OnFailure { attempts_max: None }),
        ("on-failure", count) => {
            let count = count.parse().map_err(|_| format!("{count:?} is no number of restarts"))?;
            Ok(Restart::OnFailure { attempts_max: Some(count) })
        }
        _ => Err(format!("{text:?} is not no, always, unless-stopped or on-failure[:N]")),
    }
}

/// `nofile=1024:2048`.
pub fn ulimit(text: &str) -> Result<Ulimit, String> {
    let wrong = || format!("{text:?} is no limit, such as nofile=1024:2048");
    let (name, values) = text.split_once('=').ok_or_else(wrong)?;
    let parse = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        number => number.parse().map_err(|_| wrong()),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    Ok(Ulimit { name: name.to_owned(), soft: parse(soft)?, hard: parse(hard)? })
}

/// `SOURCE[:TARGET[:rwm]]`.
pub fn device(text: &str) -> Result<DeviceConfig, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let is_access = |text: &str| !text.is_empty() && text.chars().all(|letter| "rwm".contains(letter));
    let (source, target, access) = match parts.as_slice() {
        [source] => (*source, *source, "rwm"),
        [source, access] if is_access(access) => (*source, *source, *access),
        [source, target] => (*source, *target, "rwm"),
        [source, target, access] => (*source, *target, *access),
        _ => return Err(format!("{text:?} is no device: it is SOURCE[:TARGET[:rwm]]")),
    };
    Ok(DeviceConfig { source: PathBuf::from(source), target: target.to_owned(), access: access.to_owned() })
}

/// `NAME:ADDRESS`.
pub fn extra_host(text: &str) -> Result<(String, IpAddr), String> {
    let (name, address) = text
        .split_once(':')
        .or_else(|| text.split_once('='))
        .ok_or_else(|| format!("{text:?} is not NAME:ADDRESS"))?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    Ok((name.to_owned(), address.parse().map_err(|_| format!("{address:?} is no address"))?))
}

/// `KEY=VALUE`; without a value it is empty.
pub fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() { Err(format!("{text:?} has no name")) } else { Ok((key.to_owned(), value.to_owned())) }
}

/// `1m30s`, `500ms`, `2h`; a bare number is seconds. In milliseconds.
pub fn duration_ms(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no duration, such as 30s or 1m30s");
    if let Ok(seconds) = text.parse::<u64>() {
        return seconds.checked_mul(1000).ok_or_else(wrong);
    }
    let (mut total, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "ns" => 1e-6,
                "us" | "µs" => 1e-3,
                "ms" => 1.0,
                "s" => 1e3,
                "m" => 60e3,
                "h" => 3600e3,
                "d" => 86_400e3,
                _ => return Err(wrong()),
            };
        rest = &rest[unit..];
    }
    if text.is_empty() || !(0.0..1e15).contains(&total) { Err(wrong()) } else { Ok(total as u64) }
}

/// A time, or how long ago: `2026-01-02T03:04:05Z`, a Unix time, `10m`.
pub fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(seconds) = text.parse::<f64>()
        && seconds > 1e8
    {
        return Ok(Timestamp::from_millis((seconds * 1000.0) as i64));
    }
    if let Ok(ago) = duration_ms(text) {
        return Ok(Timestamp::from_millis(now.as_millis() - i64::try_from(ago).unwrap_or(0)));
    }
    iso8601(text).ok_or_else(|| format!("{text:?} is no time, such as 2026-01-02T03:04:05Z or 10m"))
}

/// `YYYY-MM-DD[THH:MM:SS[.fff]][Z]`, in UTC.
fn iso8601(text: &str) -> Option<Timestamp> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':').map(|part| part.parse::<f64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next().flatten().unwrap_or(0.0));
    let in_range = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0.0..24.0).contains(&hour)
        && (0.0..60.0).contains(&minute)
        && (0.0..61.0).contains(&second);
    // Days from the civil date, as Howard Hinnant's days_from_civil.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted / 400;
    let of_era = shifted - era * 400;
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let millis = (hour * 3600.0 + minute * 60.0 + second) * 1000.0;
    in_range.then(|| Timestamp::from_millis(days * 86_400_000 + millis as i64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_and_times_are_read_as_docker_reads_them() {
        assert_eq!(bytes("512m"), Ok(512 << 20));
        assert_eq!(bytes("1.5GiB"), Ok(3 << 29));
        assert_eq!(bytes("10"), Ok(10));
        assert!(bytes("x").is_err() && bytes("1q").is_err() && bytes("").is_err());
        assert_eq!(duration_ms("1m30s"), Ok(90_000));
        assert_eq!(duration_ms("5"), Ok(5000));
        assert!(duration_ms("").is_err() && duration_ms("3x").is_err());
        let now = Timestamp::from_millis(10_000_000);
        assert_eq!(moment("10s", now), Ok(Timestamp::from_millis(9_990_000)));
        assert_eq!(moment("1970-01-02T00:00:01Z", now), Ok(Timestamp::from_millis(86_401_000)));
        assert_eq!(moment("2024-03-01", now), Ok(Timestamp::from_millis(1_709_251_200_000)));
        assert_eq!(cpus("0.5"), Ok(500));
        assert!(cpus("0").is_err());
    }

    #[test]
    fn ports_are_read_with_addresses_ranges_and_protocols() {
        let port = |text: &str| {
            ports(text).map(|ports| {
                (ports[0].address.to_string(), ports[0].host_port, ports[0].container_port, ports.len())
            })
        };
        assert_eq!(port("80"), Ok(("0.0.0.0".to_owned(), 0, 80, 1)));
        assert_eq!(port("8080:80"), Ok(("0.0.0.0".to_owned(), 8080, 80, 1)));
        assert_eq!(port("127.0.0.1:8080:80"), Ok(("127.0.0.1".to_owned(), 8080, 80, 1)));
        assert_eq!(port("127.0.0.1::80"), Ok(("127.0.0.1".to_owned(), 0, 80, 1)));
        assert_eq!(port("[::1]:53:53/udp"), Ok(("::1".to_owned(), 53, 53, 1)));
        assert_eq!(port("8000-8002:9000-9002"), Ok(("0.0.0.0".to_owned(), 8000, 9000, 3)));
        for bad in ["", "0", "x", "1:2:3:4", "80/sctp", "1-3:1-2", "99999"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn volumes_are_paths_names_or_nothing() {
        assert_eq!(volume("/data").unwrap().source, MountFrom::Anonymous);
        assert_eq!(
            volume("db:/data:ro").unwrap(),
            MountConfig {
                source: MountFrom::Volume { name: "db".to_owned() },
                target: "/data".to_owned(),
                read_only: true,
            }
        );
        assert!(matches!(volume("/a:/b").unwrap().source, MountFrom::Host { make: true, .. }));
        assert!(volume("/a:b").is_err() && volume("/a:/b:huge").is_err());
        assert!(mount("type=tmpfs,target=/t,tmpfs-size=1m").unwrap().is_err());
        assert!(mount("type=bind,target=/t").is_err());
    }

    #[test]
    fn policies_limits_and_devices() {
        assert_eq!(restart("on-failure:3"), Ok(Restart::OnFailure { attempts_max: Some(3) }));
        assert!(restart("sometimes").is_err());
        assert_eq!(ulimit("nofile=1:2").unwrap().hard, 2);
        assert_eq!(device("/dev/fuse").unwrap().access, "rwm");
        assert_eq!(device("/dev/a:/dev/b:r").unwrap().target, "/dev/b");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = (bytes(&text), ports(&text), volume(&text), mount(&text), tmpfs(&text), duration_ms(&text));
            let _ = (restart(&text), ulimit(&text), device(&text), extra_host(&text), cpus(&text));
            let _ = moment(&text, Timestamp::from_millis(0));
        }
    }
}
