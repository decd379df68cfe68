//! Resource limits by their names, checked against what this host can grant.

use wharf_engine::{EngineError, Rlimit};

/// A limit, ready for `setrlimit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub resource: libc::__rlimit_resource_t,
    pub soft: u64,
    pub hard: u64,
}

const NAMES: [(&str, libc::__rlimit_resource_t); 15] = [
    ("as", libc::RLIMIT_AS),
    ("core", libc::RLIMIT_CORE),
    ("cpu", libc::RLIMIT_CPU),
    ("data", libc::RLIMIT_DATA),
    ("fsize", libc::RLIMIT_FSIZE),
    ("locks", libc::RLIMIT_LOCKS),
    ("memlock", libc::RLIMIT_MEMLOCK),
    ("msgqueue", libc::RLIMIT_MSGQUEUE),
    ("nice", libc::RLIMIT_NICE),
    ("nofile", libc::RLIMIT_NOFILE),
    ("nproc", libc::RLIMIT_NPROC),
    ("rss", libc::RLIMIT_RSS),
    ("rtprio", libc::RLIMIT_RTPRIO),
    ("sigpending", libc::RLIMIT_SIGPENDING),
    ("stack", libc::RLIMIT_STACK),
];

/// Whether hard limits may be raised (`CAP_SYS_RESOURCE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raise {
    Allowed,
    Refused,
}

/// # Errors
/// `Unsupported` for an unknown name, a soft limit above the hard one, and a hard limit above the
/// host's where `raise` is refused. Nothing is clamped: a program would be told a lie.
pub fn resolve(
    limits: &[Rlimit],
    raise: Raise,
    host_hard: impl Fn(libc::__rlimit_resource_t) -> u64,
) -> Result<Vec<Limit>, EngineError> {
    let refuse = |limit: &Rlimit, reason: String| EngineError::Unsupported {
        what: format!("the limit {}={}:{}", limit.name, limit.soft, limit.hard),
        reason,
    };
    limits
        .iter()
        .map(|limit| {
            let name = limit.name.to_ascii_lowercase();
            let bare = name.strip_prefix("rlimit_").unwrap_or(&name);
            let Some(&(_, resource)) = NAMES.iter().find(|(known, _)| *known == bare) else {
                return Err(refuse(limit, "no resource has this name".into()));
            };
            if limit.soft > limit.hard {
                return Err(refuse(limit, "the soft limit is above the hard limit".into()));
            }
            let host = host_hard(resource);
            if raise == Raise::Refused && limit.hard > host {
                return Err(refuse(
                    limit,
                    format!("this host's hard limit is {host}, and raising it takes CAP_SYS_RESOURCE"),
                ));
            }
            Ok(Limit { resource, soft: limit.soft, hard: limit.hard })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(name: &str, soft: u64, hard: u64) -> Vec<Rlimit> {
        vec![Rlimit { name: name.into(), soft, hard }]
    }

    #[test]
    fn a_limit_is_found_by_name_and_bounded_by_the_host() {
        let host = |_| 20_000;
        assert_eq!(
            resolve(&limit("nofile", 1024, 20_000), Raise::Refused, host).unwrap(),
            [Limit { resource: libc::RLIMIT_NOFILE, soft: 1024, hard: 20_000 }]
        );
        let refused = resolve(&limit("nofile", 1024, 65_536), Raise::Refused, host).unwrap_err();
        assert!(refused.to_string().contains("hard limit is 20000"), "{refused}");
        assert!(resolve(&limit("nofile", 1024, 65_536), Raise::Allowed, host).is_ok());
        assert!(resolve(&limit("nofile", 2, 1), Raise::Allowed, host).is_err());
        assert!(resolve(&limit("wings", 1, 1), Raise::Allowed, host).is_err());
    }
}
