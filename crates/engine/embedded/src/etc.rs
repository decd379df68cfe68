//! The files in `/etc` that an engine writes for its containers: hosts, hostname, resolv.conf.

use std::fmt::Write as _;

use wharf_engine::{EngineError, SandboxSpec};

/// The kernel's bound on a host name, uname(2).
const HOSTNAME_BYTES_MAX: usize = 64;

/// What the files hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcFiles {
    pub hosts: String,
    pub hostname: String,
    pub resolv_conf: String,
}

/// # Errors
/// `Unsupported` for a name that would break the line it stands in.
pub fn render(spec: &SandboxSpec) -> Result<EtcFiles, EngineError> {
    check_name("the host name", &spec.hostname)?;
    if spec.hostname.len() > HOSTNAME_BYTES_MAX {
        return Err(EngineError::Unsupported {
            what: format!("the host name {:?}", spec.hostname),
            reason: format!("it is longer than {HOSTNAME_BYTES_MAX} bytes"),
        });
    }

    let mut hosts = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for entry in &spec.hosts {
        entry.names.iter().try_for_each(|name| check_name("a name for /etc/hosts", name))?;
        let _ = writeln!(hosts, "{}\t{}", entry.address, entry.names.join(" "));
    }

    let mut resolv_conf = String::new();
    for server in &spec.name_servers {
        let _ = writeln!(resolv_conf, "nameserver {server}");
    }
    if !spec.search_domains.is_empty() {
        spec.search_domains.iter().try_for_each(|domain| check_name("a search domain", domain))?;
        let _ = writeln!(resolv_conf, "search {}", spec.search_domains.join(" "));
    }

    Ok(EtcFiles { hosts, hostname: format!("{}\n", spec.hostname), resolv_conf })
}

fn check_name(what: &str, name: &str) -> Result<(), EngineError> {
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Ok(());
    }
    Err(EngineError::Unsupported {
        what: format!("{what} {name:?}"),
        reason: "it is empty or has blanks or control characters".into(),
    })
}

#[cfg(test)]
mod tests {
    use wharf_engine::{HostEntry, SandboxId};

    use super::*;

    fn spec() -> SandboxSpec {
        SandboxSpec {
            hostname: "ip-172-31-0-4".into(),
            name_servers: vec!["172.31.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            search_domains: vec!["vpc.internal".into(), "example.com".into()],
            hosts: vec![HostEntry {
                address: "172.31.0.4".parse().unwrap(),
                names: vec!["ip-172-31-0-4".into(), "me".into()],
            }],
            ..SandboxSpec::new(SandboxId::new("s").unwrap())
        }
    }

    #[test]
    fn the_files_have_one_line_an_entry() {
        let files = render(&spec()).unwrap();
        assert_eq!(files.hostname, "ip-172-31-0-4\n");
        assert!(files.hosts.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(files.hosts.ends_with("172.31.0.4\tip-172-31-0-4 me\n"));
        assert_eq!(
            files.resolv_conf,
            "nameserver 172.31.0.2\nnameserver fd00::2\nsearch vpc.internal example.com\n"
        );
    }

    #[test]
    fn a_name_cannot_add_a_line() {
        for bad in ["", "a b", "a\n6.6.6.6 bank.example", "#x"] {
            let mut with_bad_host = spec();
            with_bad_host.hosts[0].names = vec![bad.into()];
            assert!(render(&with_bad_host).is_err(), "{bad:?}");
            let mut with_bad_name = spec();
            with_bad_name.hostname = bad.into();
            assert!(render(&with_bad_name).is_err(), "{bad:?}");
        }
        let mut long = spec();
        long.hostname = "x".repeat(65);
        assert!(render(&long).is_err());
    }
}
