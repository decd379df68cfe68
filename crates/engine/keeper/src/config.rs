//! Where a keeper lives, and how it is started.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::fingerprint::Fingerprint;
use crate::protocol::PROTOCOL_VERSION;

/// Spawners of a keeper. Measured on two CPUs, sustained starts with 1, 2 and 4: 247, 252, 229 a
/// second; the second is there so that a slow removal does not hold up a start.
pub const SPAWNERS_DEFAULT: usize = 2;
const SPAWNERS_MAX: usize = 64;
/// Behind it stands the descriptor of the lock that a supervisor of an earlier release leaves to the
/// program that it becomes. Every release must understand this argument, and `--dir`.
pub(crate) const LOCK_ARGUMENT: &str = "--lock-fd";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeeperConfig {
    /// Holds the socket, the state file, logs and sandboxes. Made when missing, mode 0700.
    pub dir: PathBuf,
    /// Names this engine's cgroups on the host, `wharf-<instance>`: 1 to 32 of `a-z`, `0-9`, `-`.
    pub instance: String,
    pub spawners: usize,
    /// The program that serves [`crate::main_from_args`], and the arguments that bring it there:
    /// `/usr/bin/wharf __keeper`. Used by the control plane alone.
    pub program: Vec<OsString>,
    /// What to speak. Another than [`PROTOCOL_VERSION`] stands for another release, in tests.
    pub protocol: u32,
    /// Given by a supervisor to the program that it becomes.
    pub lock: Option<i32>,
}

impl KeeperConfig {
    /// With an instance name made from the directory's.
    pub fn new(dir: impl Into<PathBuf>, program: Vec<OsString>) -> Self {
        let dir = dir.into();
        let hash = Fingerprint::of_bytes(dir.as_os_str().as_encoded_bytes()).short();
        Self {
            dir,
            instance: format!("{hash:08x}"),
            spawners: SPAWNERS_DEFAULT,
            program,
            protocol: PROTOCOL_VERSION,
            lock: None,
        }
    }

    /// The arguments behind the program's, for [`KeeperConfig::from_args`].
    pub(crate) fn to_args(&self) -> Vec<OsString> {
        let mut arguments = vec![
            "--dir".into(),
            self.dir.clone().into(),
            "--instance".into(),
            self.instance.clone().into(),
            "--spawners".into(),
            self.spawners.to_string().into(),
        ];
        if self.protocol != PROTOCOL_VERSION {
            arguments.extend(["--protocol".into(), self.protocol.to_string().into()]);
        }
        arguments
    }

    /// # Errors
    /// A text for the operator when an argument is unknown, missing or out of range.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut args = args.into_iter();
        let (mut dir, mut instance, mut spawners) = (None, None, SPAWNERS_DEFAULT);
        let (mut protocol, mut lock) = (PROTOCOL_VERSION, None);
        let number = |name: &str, value: &OsString| {
            let number = value.to_string_lossy().parse::<i32>();
            number.map_err(|_| format!("{name} is a number"))
        };
        while let Some(name) = args.next() {
            let name = name.to_string_lossy().into_owned();
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--dir" => dir = Some(PathBuf::from(value)),
                "--instance" => instance = Some(value.to_string_lossy().into_owned()),
                "--spawners" => {
                    spawners = value
                        .to_string_lossy()
                        .parse()
                        .ok()
                        .filter(|count| (1..=SPAWNERS_MAX).contains(count))
                        .ok_or_else(|| format!("--spawners is a number from 1 to {SPAWNERS_MAX}"))?;
                }
                "--protocol" => protocol = number(&name, &value)?.cast_unsigned(),
                LOCK_ARGUMENT => lock = Some(number(&name, &value)?),
                _ => return Err(format!("{name} is not an argument of the keeper")),
            }
        }
        let dir = dir.ok_or_else(|| "--dir is missing".to_owned())?;
        let default = Self::new(dir, Vec::new());
        Ok(Self {
            instance: instance.unwrap_or(default.instance),
            spawners,
            protocol,
            lock,
            ..Self::new(default.dir, Vec::new())
        })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_back() {
        let config =
            KeeperConfig { spawners: 7, protocol: 9, ..KeeperConfig::new("/var/lib/wharf", Vec::new()) };
        assert_eq!(KeeperConfig::from_args(config.to_args()), Ok(config));
    }

    #[test]
    fn wrong_arguments_are_named() {
        let parse = |args: &[&str]| KeeperConfig::from_args(args.iter().map(|&arg| OsString::from(arg)));
        assert!(parse(&[]).unwrap_err().contains("--dir"));
        assert!(parse(&["--dir", "/x", "--spawners", "0"]).unwrap_err().contains("--spawners"));
        assert!(parse(&["--nope", "x"]).unwrap_err().contains("--nope"));
    }
}
