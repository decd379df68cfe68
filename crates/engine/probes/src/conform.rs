//! Says of each expectation whether the container that it runs in meets it.
//!
//! `conform EXPECTATIONS`, a JSON list of [`Expectation`]s; prints one line of JSON for each. Runs in
//! any container runtime; needs nothing but itself (static). `conform --effective-user` prints its
//! effective user id, for [`Expectation::SetUserId`].

#[path = "conform/look.rs"]
mod look;

use std::io::Write;

use serde::{Deserialize, Serialize};

/// Something that a container must see.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "expect", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Expectation {
    /// What is mounted at a path, the topmost: its file system, options that it has and has not.
    Mount {
        at: String,
        kind: String,
        #[serde(default)]
        options: Vec<String>,
        #[serde(default)]
        without: Vec<String>,
    },
    NoMount {
        at: String,
    },
    /// A device node; `mode` in octal digits.
    Device {
        path: String,
        major: u32,
        minor: u32,
        mode: String,
    },
    /// How the usual devices behave: null, zero, full, urandom.
    DevicesWork,
    Link {
        path: String,
        to: String,
    },
    /// As `/proc/self/status` has them, in hexadecimal digits.
    Capabilities {
        effective: String,
        permitted: String,
        inheritable: String,
        bounding: String,
        ambient: String,
    },
    Limit {
        name: String,
        soft: u64,
        hard: u64,
    },
    Environment {
        name: String,
        value: String,
    },
    NoEnvironment {
        name: String,
    },
    HostName {
        name: String,
    },
    /// A file that holds this text.
    Content {
        path: String,
        contains: String,
    },
    /// `mode` in octal digits.
    Owner {
        path: String,
        uid: u32,
        gid: u32,
        mode: Option<String>,
    },
    Identity {
        uid: u32,
        gid: u32,
        groups: Vec<u32>,
    },
    WorkingDirectory {
        path: String,
    },
    Arguments {
        count: usize,
        last: String,
    },
    Umask {
        /// In octal digits.
        mask: String,
    },
    /// A field of `/proc/self/status`.
    Status {
        field: String,
        value: String,
    },
    /// Writing below it fails because the file system is read-only.
    ReadOnly {
        path: String,
    },
    Writable {
        path: String,
    },
    /// A file or directory with nothing in it, or that is not there.
    Empty {
        path: String,
    },
    Pid {
        number: u32,
    },
    /// Every descriptor that is open.
    Descriptors {
        numbers: Vec<i32>,
    },
    Terminal {
        present: bool,
    },
    /// Every line of `/proc/self/cgroup` ends with `:/`.
    CgroupRoot,
    LoopbackUp,
    /// A process whose parent is gone is reaped, by us as process 1 or by an init.
    OrphansAreReaped,
    /// A copy of this program with the set-user-id bit, run as who we are, is this user.
    SetUserId {
        program: String,
        uid: u32,
    },
    /// The namespace is not this one.
    NotNamespace {
        name: String,
        of: String,
    },
    /// A signal handler runs, and its default kills a child.
    SignalsWork,
    /// `/dev/shm` and System V memory can be used.
    SharedMemory {
        bytes: u64,
    },
    /// A pseudo terminal can be opened.
    PseudoTerminals,
}

fn main() {
    let mut out = std::io::stdout().lock();
    let argument = std::env::args().nth(1).unwrap_or_default();
    if argument == "--effective-user" {
        let _ = writeln!(out, "{}", look::effective_user());
        return;
    }
    let expectations: Vec<Expectation> = match serde_json::from_str(&argument) {
        Ok(expectations) => expectations,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "conform: {error}");
            std::process::exit(2);
        }
    };
    for expectation in &expectations {
        let (met, found) = match look::check(expectation) {
            Ok(()) => (true, String::new()),
            Err(found) => (false, found),
        };
        let line = serde_json::json!({ "expectation": expectation, "met": met, "found": found });
        let _ = writeln!(out, "{line}");
    }
}
