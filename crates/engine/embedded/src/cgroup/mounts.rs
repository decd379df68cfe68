//! Which cgroup hierarchies are mounted where, from `/proc/self/mountinfo` (proc(5)).

use std::path::PathBuf;

use super::Kind;

/// One v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMount {
    pub path: PathBuf,
    /// `cpu,cpuacct` and the like, in the order of the mount's options; empty for a named hierarchy.
    pub controllers: Vec<String>,
}

/// All hierarchies of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupMounts {
    pub v1: Vec<CgroupMount>,
    pub v2: Option<PathBuf>,
}

impl CgroupMounts {
    /// The controllers that Wharf knows; other mount options are not controllers.
    const CONTROLLERS: [&str; 13] = [
        "blkio",
        "cpu",
        "cpuacct",
        "cpuset",
        "devices",
        "freezer",
        "hugetlb",
        "memory",
        "net_cls",
        "net_prio",
        "perf_event",
        "pids",
        "rdma",
    ];

    pub fn parse(mountinfo: &str) -> Self {
        let mut mounts = Self::default();
        for line in mountinfo.lines() {
            let Some((mount, source)) = line.split_once(" - ") else { continue };
            let Some(path) = mount.split(' ').nth(4) else { continue };
            let mut source = source.split(' ');
            let (filesystem, options) = (source.next(), source.nth(1).unwrap_or_default());
            let path = PathBuf::from(unescape(path));
            match filesystem {
                Some("cgroup2") if mounts.v2.is_none() => mounts.v2 = Some(path),
                Some("cgroup") => {
                    let controllers: Vec<String> = options
                        .split(',')
                        .filter(|option| Self::CONTROLLERS.contains(option))
                        .map(str::to_owned)
                        .collect();
                    let known = mounts.v1.iter().any(|known| known.controllers == controllers);
                    if !controllers.is_empty() && !known {
                        mounts.v1.push(CgroupMount { path, controllers });
                    }
                }
                _ => {}
            }
        }
        mounts
    }

    pub fn kind(&self) -> Kind {
        match (self.of("memory").is_some(), &self.v2) {
            (false, Some(_)) => Kind::V2,
            (_, Some(_)) => Kind::Hybrid,
            (_, None) => Kind::V1,
        }
    }

    /// The v1 hierarchy of a controller.
    pub fn of(&self, controller: &str) -> Option<&CgroupMount> {
        self.v1.iter().find(|mount| mount.controllers.iter().any(|name| name == controller))
    }
}

/// mountinfo writes blanks and backslashes as `\040`.
pub(crate) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|octal| u8::from_str_radix(octal, 8).ok());
        match code {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::*;

    #[test]
    fn each_kind_of_host_is_told_apart() {
        let v1 = "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                  35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory\n\
                  40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n";
        let unified = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n";
        let mounts = CgroupMounts::parse(v1);
        assert_eq!(mounts.kind(), Kind::V1);
        assert_eq!(mounts.v1.len(), 2);
        assert_eq!(mounts.of("cpuacct").unwrap().path, PathBuf::from("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(CgroupMounts::parse(&format!("{v1}{unified}")).kind(), Kind::Hybrid);
        assert_eq!(CgroupMounts::parse(unified).kind(), Kind::V2);
    }

    #[test]
    fn blanks_in_a_path_are_unescaped() {
        assert_eq!(unescape("/a\\040b\\134c\\"), "/a b\\c\\");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "(.|\\\\|\n| - ){0,200}") {
            let _ = CgroupMounts::parse(&text);
        }
    }
}
