//! Tries to get out of the container that it runs in, by every way that is known to have worked
//! somewhere, and prints one line of JSON a try.
//!
//! `escape KEY=VALUE...`, with what the host has put in its way:
//! - `path`: a file of the host that holds `secret`, not in the container;
//! - `secret`: what must not be read;
//! - `socket`: an abstract socket that somebody on the host listens at;
//! - `pid`: a process of the host, by the host's number.
//!
//! A try that succeeds is undone at once where it can be; nothing here harms a host that it reaches.
//! Runs in any container runtime; needs nothing but itself (static).

#[path = "escape/call.rs"]
mod call;
#[path = "escape/devices.rs"]
mod devices;
#[path = "escape/files.rs"]
mod files;
#[path = "escape/kernel.rs"]
mod kernel;
#[path = "escape/mounts.rs"]
mod mounts;
#[path = "escape/processes.rs"]
mod processes;

use std::io::Write;

/// What the host has put in the way.
pub struct World {
    pub path: String,
    pub secret: String,
    pub socket: String,
    pub pid: i32,
}

/// How a try ended.
pub enum Outcome {
    /// Refused, with the reason.
    Held(String),
    /// It worked.
    Escaped(String),
    /// There is nothing to try here.
    Skipped(String),
}

/// A try, by its name.
pub type Probe = (&'static str, fn(&World) -> Outcome);

/// Of something that must fail.
pub fn refused<T>(result: std::io::Result<T>) -> Outcome {
    match result {
        Ok(_) => Outcome::Escaped("it was allowed".to_owned()),
        Err(error) => Outcome::Held(error.to_string()),
    }
}

/// Of several of which all must fail.
pub fn all_refused<T>(tries: impl IntoIterator<Item = (String, std::io::Result<T>)>) -> Outcome {
    let mut last = None;
    for (what, result) in tries {
        match result {
            Ok(_) => return Outcome::Escaped(what),
            Err(error) => last = Some(format!("{what}: {error}")),
        }
    }
    last.map_or_else(|| Outcome::Skipped("there is nothing to try".to_owned()), Outcome::Held)
}

fn main() {
    let mut world = World { path: String::new(), secret: String::new(), socket: String::new(), pid: 0 };
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("path", value)) => world.path = value.to_owned(),
            Some(("secret", value)) => world.secret = value.to_owned(),
            Some(("socket", value)) => world.socket = value.to_owned(),
            Some(("pid", value)) => world.pid = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    let mut out = std::io::stdout().lock();
    let suites = [files::PROBES, devices::PROBES, mounts::PROBES, processes::PROBES, kernel::PROBES];
    for (name, probe) in suites.into_iter().flatten() {
        let (outcome, detail) = match probe(&world) {
            Outcome::Held(detail) => ("held", detail),
            Outcome::Escaped(detail) => ("escaped", detail),
            Outcome::Skipped(detail) => ("skipped", detail),
        };
        let line = serde_json::json!({ "probe": name, "outcome": outcome, "detail": detail });
        let _ = writeln!(out, "{line}");
        let _ = out.flush();
    }
}
