//! The life of a container's first process from `clone3` to `execve`.
//!
//! It runs in the copy of a single-threaded spawner, so it may allocate; it may not return. Every
//! failure becomes an [`EngineError`] that travels to the spawner through a pipe which `execve`
//! closes.
#![allow(unsafe_code, reason = "fork, for an init")]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::process::{Pid, setsid, umask};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use wharf_engine::session::TerminalSize;
use wharf_engine::{EngineError, Init};

use crate::credentials::{drop_privileges, give_stream};
use crate::host::io_error;
use crate::in_root::Root;
use crate::plan::Plan;
use crate::rootfs::{self, Context, Step};
use crate::terminal::{self, Terminal};
use crate::user::{self, Identity};
use crate::{shared, sys, sysctl, user::FILE_BYTES_MAX};

/// Told to the spawner before `execve`. No serialized error starts with it.
pub const ABOUT_TO_EXECUTE: u8 = b'!';

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
pub(crate) const EXIT_NOT_FOUND: i32 = 127;
pub(crate) const EXIT_NOT_EXECUTABLE: i32 = 126;
/// As Docker says for what failed before the program was looked at.
pub(crate) const EXIT_NOT_STARTED: i32 = 128;

/// Everything up to and with `execve`. `join` are the `cgroup.procs` files of v1.
///
/// A terminal's master goes out over `master`.
pub fn run(
    plan: &Plan<'_>,
    join: &[OwnedFd],
    report: &OwnedFd,
    master: Option<&OwnedFd>,
) -> Result<Infallible, EngineError> {
    let internal = |(what, error): (String, io::Error)| io_error(&what, &error);

    sys::hide_from_others().step("hide from others").map_err(internal)?;
    enter_namespaces(plan, join).map_err(internal)?;
    umask(Mode::empty());
    plan.credentials.make_files_as_root(plan.host.permitted).map_err(internal)?;
    let root = rootfs::enter(plan).map_err(internal)?;
    let identity = find_identity(plan, &root)?;
    enter_working_dir(plan, &root)?;
    rootfs::seal(plan, &root).map_err(internal)?;
    let terminal = match (plan.spec.terminal, master) {
        (Some(size), Some(master)) => {
            Some(open_terminal(plan, &root, &identity, size, master).map_err(internal)?)
        }
        _ => {
            take_stdio(plan, &root, &identity).map_err(internal)?;
            None
        }
    };
    drop(root);

    umask(Mode::from(0o022));
    setsid().step("make a session").map_err(internal)?;
    if let Some(terminal) = terminal {
        terminal.take().map_err(internal)?;
    }
    sys::reset_signals();
    for &limit in &plan.limits {
        sys::set_limit(limit).step("set a resource limit").map_err(internal)?;
    }
    let environment = environment(&plan.spec.process.env, &plan.sandbox.hostname, &identity);
    let init = match plan.spec.init {
        Init::Program => None,
        Init::Reaper => Some(plan.host.init.get().step("make the init").map_err(internal)?),
    };
    let program = Program::new(&plan.spec.process.args[0], &environment)?;
    let arguments = c_strings(&plan.spec.process.args)?;
    let environment = c_strings(&environment)?;
    plan.credentials.enter_own_users().map_err(internal)?;
    drop_privileges(&plan.credentials, &identity).map_err(internal)?;
    if let Some(init) = init {
        become_init(init)?;
    }
    // From here on a silent end is the program's own.
    rustix::io::write(report, &[ABOUT_TO_EXECUTE]).step("report").map_err(internal)?;
    Err(program.execute(&arguments, &environment))
}

/// Returns in a child that is to become the program; the process itself becomes its init.
fn become_init(init: BorrowedFd<'_>) -> Result<(), EngineError> {
    let failed = |what: &str, error: io::Error| io_error(what, &error);
    // Nothing that is sent meanwhile is lost: init takes what is pending.
    sys::block_signals();
    // SAFETY: this process has one thread; the child goes on to its own `execve`.
    let child = unsafe { sys::fork() }.map_err(|error| failed("make a process", error))?;
    let group = |pid: Option<Pid>| {
        // What a terminal's keys signal is the program's group alone: init would pass it on once more.
        let _ = rustix::process::setpgid(pid, pid);
        let pid = pid.or_else(|| Some(rustix::process::getpid()));
        if let Some(pid) = pid {
            let _ = rustix::termios::tcsetpgrp(sys::stdin(), pid);
        }
    };
    let Some(pid) = child else {
        group(None);
        sys::reset_signals();
        return Ok(());
    };
    group(Some(pid));
    let number = pid.as_raw_nonzero().to_string();
    let arguments = [c"wharf-init".to_owned(), CString::new(number).unwrap_or_default()];
    let error = sys::execute_descriptor(init, &arguments, &[]);
    Err(failed("execute the init", error))
}

fn enter_namespaces(plan: &Plan<'_>, join: &[OwnedFd]) -> Step<()> {
    for file in join {
        rustix::io::write(file, b"0").step("join a control group")?;
    }
    // Only now: the root of a cgroup namespace is where its maker is.
    sys::unshare(libc::CLONE_NEWCGROUP).step("make a cgroup namespace")?;
    move_into_link_name_space(plan.netns.as_fd(), Some(LinkNameSpaceType::Network))
        .step("enter the network namespace")?;
    rustix::system::sethostname(plan.sandbox.hostname.as_bytes()).step("set the host name")?;
    shared::enter_ipc(plan)?;
    if plan.namespaces() & libc::CLONE_NEWIPC != 0 {
        sysctl::apply_ipc(&plan.host.proc, &plan.sandbox.sysctls).step("set kernel parameters")?;
    }
    Ok(())
}

pub(crate) fn start_error(exit_code: i32, message: impl Into<String>) -> EngineError {
    EngineError::Start { exit_code, message: message.into() }
}

fn find_identity(plan: &Plan<'_>, root: &Root) -> Result<Identity, EngineError> {
    let passwd = root.read("/etc/passwd", FILE_BYTES_MAX);
    let group = root.read("/etc/group", FILE_BYTES_MAX);
    let identity = user::resolve(&plan.spec.process.user, &plan.spec.process.groups, &passwd, &group)
        .map_err(|error| start_error(EXIT_NOT_EXECUTABLE, error.to_string()))?;
    plan.credentials.check(&identity)?;
    Ok(identity)
}

fn enter_working_dir(plan: &Plan<'_>, root: &Root) -> Result<(), EngineError> {
    let path = plan.spec.process.working_dir.as_str();
    let path = if path.is_empty() { "/" } else { path };
    root.make_directory(path).and_then(|directory| rustix::process::fchdir(&directory)).map_err(|error| {
        let error = io::Error::from(error);
        if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) {
            return io_error(&format!("make the working directory {path:?}"), &error);
        }
        start_error(EXIT_NOT_STARTED, format!("chdir to cwd ({path:?}) failed: {}", reason(&error)))
    })
}

/// Makes the terminal, hands its master over, and marks all descriptors but 0, 1 and 2 to be closed.
fn open_terminal(
    plan: &Plan<'_>,
    root: &Root,
    identity: &Identity,
    size: TerminalSize,
    master: &OwnedFd,
) -> Step<Terminal> {
    let terminal = terminal::open(root, size, plan.credentials.outside(identity))?;
    terminal::send_master(master, &terminal.master).step("hand over the terminal")?;
    sys::close_from_at_exec(3).step("mark descriptors to be closed")?;
    Ok(terminal)
}

/// Puts the streams at 0, 1 and 2, and marks all else to be closed.
fn take_stdio(plan: &Plan<'_>, root: &Root, identity: &Identity) -> Step<()> {
    let null;
    let stdin = match plan.stdio.stdin {
        Some(stdin) => stdin,
        None => {
            null = root.open("/dev/null", OFlags::RDWR).step("open /dev/null")?;
            null.as_fd()
        }
    };
    let owner = plan.credentials.outside(identity);
    for (from, to) in [(stdin, 0), (plan.stdio.stdout, 1), (plan.stdio.stderr, 2)] {
        give_stream(from, owner)?;
        sys::place_descriptor(from, to).step("place a standard stream")?;
    }
    sys::close_from_at_exec(3).step("mark descriptors to be closed")
}

/// The variables that `env` gives, and those that every program has.
pub(crate) fn environment(env: &[String], hostname: &str, identity: &Identity) -> Vec<String> {
    fn name(variable: &str) -> &str {
        variable.split_once('=').map_or(variable, |(name, _)| name)
    }
    let defaults = [("PATH", DEFAULT_PATH), ("HOSTNAME", hostname), ("HOME", &identity.home)];
    let mut variables: Vec<&str> = Vec::with_capacity(env.len());
    let mut places: HashMap<&str, usize> = HashMap::with_capacity(env.len());
    for variable in env {
        // The last of two wins, in the place of the first.
        match places.entry(name(variable)) {
            Entry::Occupied(place) => variables[*place.get()] = variable,
            Entry::Vacant(place) => {
                place.insert(variables.len());
                variables.push(variable);
            }
        }
    }
    let missing = defaults.into_iter().filter(|(key, _)| !places.contains_key(key));
    let missing: Vec<String> = missing.map(|(key, value)| format!("{key}={value}")).collect();
    variables.into_iter().map(str::to_owned).chain(missing).collect()
}

pub(crate) fn c_strings(texts: &[String]) -> Result<Vec<CString>, EngineError> {
    texts
        .iter()
        .map(|text| CString::new(text.as_str()))
        .collect::<Result<_, _>>()
        .map_err(|error| start_error(EXIT_NOT_STARTED, error.to_string()))
}

/// What to execute, and how to speak of it.
pub(crate) struct Program {
    name: String,
    /// In the order in which they are tried.
    candidates: Vec<CString>,
}

impl Program {
    pub fn new(name: &str, environment: &[String]) -> Result<Self, EngineError> {
        let name = name.to_owned();
        let candidates = if name.contains('/') {
            vec![name.clone()]
        } else {
            let path =
                environment.iter().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or_default();
            path.split(':')
                .map(|directory| if directory.is_empty() { "." } else { directory })
                .map(|directory| format!("{directory}/{name}"))
                .collect()
        };
        Ok(Self { candidates: c_strings(&candidates)?, name })
    }

    /// As execvp(3), but what is no program is not given to a shell. Returns only an error.
    pub fn execute(&self, arguments: &[CString], environment: &[CString]) -> EngineError {
        let mut denied = None;
        for candidate in &self.candidates {
            let error = sys::execute(candidate, arguments, environment);
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => {
                    if let Some(broken) = self.without_interpreter(candidate) {
                        return broken;
                    }
                }
                Some(libc::EACCES) => denied = Some(candidate),
                _ => {
                    let path = candidate.to_string_lossy();
                    return start_error(EXIT_NOT_EXECUTABLE, format!("exec {path}: {}", reason(&error)));
                }
            }
        }
        let name = &self.name;
        match denied {
            Some(path) if is_directory(path) => {
                start_error(EXIT_NOT_EXECUTABLE, format!("exec: {name:?}: is a directory"))
            }
            Some(_) => start_error(EXIT_NOT_EXECUTABLE, format!("exec: {name:?}: permission denied")),
            None if name.contains('/') => {
                start_error(EXIT_NOT_FOUND, format!("exec: {name:?}: stat {name}: no such file or directory"))
            }
            None => {
                start_error(EXIT_NOT_FOUND, format!("exec: {name:?}: executable file not found in $PATH"))
            }
        }
    }

    /// A file that is there and cannot be found lacks its interpreter or its loader.
    fn without_interpreter(&self, candidate: &CString) -> Option<EngineError> {
        rustix::fs::stat(candidate.as_c_str()).ok()?;
        let path = candidate.to_string_lossy();
        Some(start_error(EXIT_NOT_FOUND, format!("exec {path}: no such file or directory")))
    }
}

fn is_directory(path: &CString) -> bool {
    rustix::fs::stat(path.as_c_str()).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir())
}

/// The kernel's words in lower case, as Docker prints them.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { uid: 0, gid: 0, groups: Vec::new(), home: "/root".to_owned() }
    }

    #[test]
    fn the_last_of_two_wins_and_what_is_given_is_no_default() {
        let env = ["A=1", "HOME=/own", "A=2=3", "B", "AB=4", "B="].map(str::to_owned);
        assert_eq!(
            environment(&env, "host", &identity()),
            ["A=2=3", "HOME=/own", "B=", "AB=4", &format!("PATH={DEFAULT_PATH}"), "HOSTNAME=host"]
        );
    }

    /// As many as a request holds: compared each with each they would take the better part of an hour.
    #[test]
    fn a_long_environment_takes_no_time() {
        let env: Vec<String> = (0..150_000).map(|number| format!("{number:x}=")).collect();
        assert_eq!(environment(&env, "host", &identity())[..env.len()], env);
    }
}
