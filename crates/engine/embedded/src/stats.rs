//! What containers use, read beside the engine: by whoever wants to know, without a word to the keeper.

use std::collections::HashMap;
use std::fs;
use std::io;

use wharf_engine::{ContainerId, EngineError, NetworkStats, SandboxId, Stats};

use crate::cgroup::{self, CgroupError, CgroupMounts, Driver, Kept, Open, Reading};
use crate::host::cgroup_error;

/// An interface's line of `/proc/net/dev` has so many numbers.
const NUMBERS: usize = 16;

/// Reads the control groups of one instance. Makes nothing. Keeps the files of containers open from
/// one reading to the next, for as many as half of this process's descriptors allow.
#[derive(Debug)]
pub struct StatsReader {
    driver: Box<dyn Driver>,
    kept: HashMap<ContainerId, Kept>,
    descriptors: usize,
}

impl StatsReader {
    /// # Errors
    /// When there is no such instance on this host, or its groups cannot be read from here.
    pub fn open(instance: &str) -> Result<Self, EngineError> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").map_err(|error| {
            EngineError::Internal { message: format!("cannot look at the host's mounts: {error}") }
        })?;
        let mounts = CgroupMounts::parse(&mountinfo);
        let driver =
            cgroup::detect(&mounts, instance, Open::Existing).map_err(|error| cgroup_error(&error))?;
        Ok(Self { driver, kept: HashMap::new(), descriptors: 0 })
    }

    /// Lets go of the files of all containers but these.
    pub fn keep_only(&mut self, lives: impl Fn(&ContainerId) -> bool) {
        self.kept.retain(|container, _| lives(container));
        self.descriptors = self.kept.values().map(Kept::len).sum();
    }

    /// Everything but the network: see [`network`].
    ///
    /// # Errors
    /// `NoContainer` for one that does not run.
    pub fn read(&mut self, sandbox: &SandboxId, container: &ContainerId) -> Result<Stats, EngineError> {
        let read = match self.kept.get_mut(container) {
            Some(kept) => self.driver.stats(sandbox, container, Reading::again(kept)),
            None if self.descriptors < descriptors_max() => {
                let mut kept = Kept::default();
                let read = self.driver.stats(sandbox, container, Reading::again(&mut kept));
                if read.is_ok() {
                    self.descriptors += kept.len();
                    self.kept.insert(container.clone(), kept);
                }
                read
            }
            None => self.driver.stats(sandbox, container, Reading::Once),
        };
        let read = match read {
            Err(error) if self.forget(container) && is_gone(&error) => {
                // Or started again, in groups of the same name.
                self.driver.stats(sandbox, container, Reading::Once)
            }
            read => read,
        };
        read.map_err(|error| {
            if is_gone(&error) { EngineError::NoContainer(container.clone()) } else { cgroup_error(&error) }
        })
    }

    /// Lets go of a container's files. Whether there were any.
    fn forget(&mut self, container: &ContainerId) -> bool {
        let kept = self.kept.remove(container);
        self.descriptors -= kept.as_ref().map_or(0, Kept::len);
        kept.is_some()
    }
}

fn is_gone(error: &CgroupError) -> bool {
    use rustix::io::Errno;
    matches!(error.errno(), Some(Errno::NOENT | Errno::NODEV))
}

fn descriptors_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit / 2).unwrap_or(usize::MAX))
}

/// The interfaces of a process's network namespace together, without loopback.
pub fn network(pid: u32) -> io::Result<NetworkStats> {
    Ok(parse(&fs::read_to_string(format!("/proc/{pid}/net/dev"))?))
}

/// Two lines of headings, then `name: rx bytes packets errs drop fifo frame compressed multicast tx bytes
/// packets errs drop …` (proc_pid_net(5)).
fn parse(text: &str) -> NetworkStats {
    let mut sum = NetworkStats::default();
    for line in text.lines().skip(2) {
        let Some((name, numbers)) = line.split_once(':') else { continue };
        if name.trim() == "lo" {
            continue;
        }
        let mut of = [0; NUMBERS];
        for (slot, number) in of.iter_mut().zip(numbers.split_ascii_whitespace()) {
            *slot = number.parse::<u64>().unwrap_or(0);
        }
        sum.received_bytes += of[0];
        sum.received_packets += of[1];
        sum.received_errors += of[2];
        sum.received_dropped += of[3];
        sum.sent_bytes += of[8];
        sum.sent_packets += of[9];
        sum.sent_errors += of[10];
        sum.sent_dropped += of[11];
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn interfaces_are_summed_and_loopback_is_none() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
                    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0\n  \
                    eth0:1000      10    1    2    0     0          0         0     2000      20    3    4    0     0       0          0\n  \
                    eth1:       1       1    1    1    1     1          1         1        1       1    1    1    1     1       1          1\n";
        let expected = NetworkStats {
            received_bytes: 1001,
            received_packets: 11,
            received_errors: 2,
            received_dropped: 3,
            sent_bytes: 2001,
            sent_packets: 21,
            sent_errors: 4,
            sent_dropped: 5,
        };
        assert_eq!(parse(text), expected);
        assert!(network(std::process::id()).is_ok());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "[a-z0-9: \n]{0,200}") {
            parse(&text);
        }
    }
}
