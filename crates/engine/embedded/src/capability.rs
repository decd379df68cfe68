//! Capability sets: the names, the default set, and what a container gets.
//!
//! A container has what Docker gives by default, plus `add`, minus `drop`: the same set as bounding,
//! permitted and effective; nothing inheritable, nothing ambient. A process that is not root loses
//! all but the bounding set at `execve`, by the kernel's own rules (capabilities(7)).

use wharf_engine::EngineError;

/// Names in the order of their numbers, `linux/capability.h`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CapabilitySet(u64);

/// One capability, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability(u8);

impl Capability {
    pub const DAC_READ_SEARCH: Self = Self(2);
    pub const SYS_MODULE: Self = Self(16);
    pub const SYS_RAWIO: Self = Self(17);
    pub const SYS_CHROOT: Self = Self(18);
    pub const SYS_PTRACE: Self = Self(19);
    pub const SYS_PACCT: Self = Self(20);
    pub const SYS_ADMIN: Self = Self(21);
    pub const SYS_BOOT: Self = Self(22);
    pub const SYS_NICE: Self = Self(23);
    pub const SYS_RESOURCE: Self = Self(24);
    pub const SYS_TIME: Self = Self(25);
    pub const SYS_TTY_CONFIG: Self = Self(26);
    pub const MKNOD: Self = Self(27);
    pub const SYSLOG: Self = Self(34);
    pub const PERFMON: Self = Self(38);
    pub const BPF: Self = Self(39);

    /// Every capability that this code knows, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..NAMES.len()).filter_map(|number| u8::try_from(number).ok()).map(Self)
    }

    /// With `CAP_` or without, in any case of letters.
    pub fn parse(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        Self::all().find(|capability| NAMES[usize::from(capability.0)] == bare)
    }

    pub fn number(self) -> u8 {
        self.0
    }
}

impl CapabilitySet {
    pub const EMPTY: Self = Self(0);

    /// Docker's default set of 14.
    pub fn docker_default() -> Self {
        const DEFAULT: [&str; 14] = [
            "CHOWN",
            "DAC_OVERRIDE",
            "FSETID",
            "FOWNER",
            "MKNOD",
            "NET_RAW",
            "SETGID",
            "SETUID",
            "SETFCAP",
            "SETPCAP",
            "NET_BIND_SERVICE",
            "SYS_CHROOT",
            "KILL",
            "AUDIT_WRITE",
        ];
        DEFAULT.iter().filter_map(|name| Capability::parse(name)).fold(Self::EMPTY, Self::with)
    }

    /// Every capability known here.
    pub fn all() -> Self {
        Capability::all().fold(Self::EMPTY, Self::with)
    }

    /// Docker's default set, plus `add`, minus `drop`; `ALL` stands for all. What is in both is
    /// dropped by name and kept against a `drop` of `ALL`, as Docker does.
    ///
    /// # Errors
    /// A name that is no capability.
    pub fn resolve(add: &[String], drop: &[String]) -> Result<Self, EngineError> {
        let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
        let parse = |name: &String| {
            Capability::parse(name).ok_or_else(|| EngineError::Unsupported {
                what: format!("the capability {name:?}"),
                reason: "no capability has this name".into(),
            })
        };
        let mut set = if drop.iter().any(is_all) { Self::EMPTY } else { Self::docker_default() };
        if add.iter().any(is_all) {
            set = Self::all();
        }
        for name in add.iter().filter(|name| !is_all(name)) {
            set = set.with(parse(name)?);
        }
        for name in drop.iter().filter(|name| !is_all(name)) {
            set = set.without(parse(name)?);
        }
        Ok(set)
    }

    pub fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability.0) != 0
    }

    #[must_use]
    pub fn with(self, capability: Capability) -> Self {
        Self(self.0 | (1 << capability.0))
    }

    #[must_use]
    pub fn without(self, capability: Capability) -> Self {
        Self(self.0 & !(1 << capability.0))
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub fn bits(self) -> u64 {
        self.0
    }

    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_default_set_is_dockers() {
        // As `docker run busybox grep Cap /proc/self/status` prints.
        assert_eq!(CapabilitySet::docker_default().bits(), 0xa804_25fb);
    }

    #[test]
    fn add_and_drop_change_the_default_set() {
        let set = CapabilitySet::resolve(&names(&["sys_ptrace"]), &names(&["CAP_NET_RAW"])).unwrap();
        assert!(set.has(Capability::SYS_PTRACE));
        assert!(!set.has(Capability::parse("NET_RAW").unwrap()));
        assert_eq!(CapabilitySet::resolve(&[], &names(&["ALL"])).unwrap(), CapabilitySet::EMPTY);
        assert_eq!(CapabilitySet::resolve(&names(&["KILL"]), &names(&["all"])).unwrap().bits(), 1 << 5);
        assert_eq!(CapabilitySet::resolve(&names(&["ALL"]), &[]).unwrap().bits(), (1 << NAMES.len()) - 1);
        assert!(CapabilitySet::resolve(&names(&["FLY"]), &[]).is_err());
    }

    #[test]
    fn numbers_are_the_kernels() {
        for (name, number) in [
            ("DAC_READ_SEARCH", Capability::DAC_READ_SEARCH),
            ("SYS_ADMIN", Capability::SYS_ADMIN),
            ("MKNOD", Capability::MKNOD),
            ("SYSLOG", Capability::SYSLOG),
            ("BPF", Capability::BPF),
        ] {
            assert_eq!(Capability::parse(name), Some(number));
        }
        assert_eq!(Capability::parse("CHECKPOINT_RESTORE").unwrap().number(), 40);
    }
}
