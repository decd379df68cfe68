//! The escape suite: a program that tries every known way out of a container finds none.
//!
//! It runs under this engine with the host's users, with users of the sandbox's own, and with more
//! capabilities than usual; and under runc, for comparison, where that is installed.
#![allow(clippy::disallowed_macros, clippy::print_stderr, reason = "a comparison is printed")]

mod common;
#[path = "common/oci.rs"]
mod oci;
#[path = "common/probes.rs"]
mod probes;

use std::collections::BTreeMap;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use common::{Engine, sandbox};
use wharf_engine::{IpcMode, PidMode, SandboxResources, SandboxSpec, Users};

/// As many as are promised, at the least.
const PROBES_MIN: usize = 100;
/// What not every kernel has, or not every kind of cgroup.
const SKIPPED_MAX: usize = 12;
const SECRET: &str = "wharf-escape-8c1f2a";

/// What the host puts in the way, as arguments for the program.
struct World {
    arguments: Vec<String>,
    _socket: UnixListener,
}

impl World {
    fn new(engine: &Engine) -> Self {
        let path = engine.path("secret");
        fs::write(&path, SECRET).unwrap();
        let name = format!("wharf-escape-{}-{}", std::process::id(), path.display());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let arguments = vec![
            format!("path={}", path.display()),
            format!("secret={SECRET}"),
            format!("socket={name}"),
            format!("pid={}", std::process::id()),
        ];
        Self { arguments, _socket: UnixListener::bind_addr(&address).unwrap() }
    }
}

/// What each try came to: (held, escaped or skipped, and why).
fn outcomes(output: &str) -> BTreeMap<String, (String, String)> {
    output
        .lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).expect(line);
            let text = |key: &str| value[key].as_str().unwrap().to_owned();
            (text("probe"), (text("outcome"), text("detail")))
        })
        .collect()
}

/// Runs the program, and holds it to find nothing but what `open` names.
fn finds_nothing(engine: &Engine, sandbox: &SandboxSpec, capabilities: &[&str], open: &[&str]) {
    let world = World::new(engine);
    let mut spec = engine.spec(&["/escape"]);
    spec.process.args.extend(world.arguments);
    spec.process.capabilities_add = capabilities.iter().map(|&name| name.to_owned()).collect();
    let ended = engine.run_in(sandbox, &spec).unwrap();
    assert_eq!(ended.code, 0, "{ended:?}");
    let outcomes = outcomes(&ended.stdout);
    assert!(outcomes.len() >= PROBES_MIN, "{} probes", outcomes.len());
    let found: Vec<_> = outcomes
        .iter()
        .filter(|(name, (outcome, _))| outcome == "escaped" && !open.contains(&name.as_str()))
        .collect();
    assert!(found.is_empty(), "{:?} {capabilities:?}: {found:#?}", sandbox.users);
    for name in open {
        let outcome = outcomes.get(*name).map(|(outcome, _)| outcome.as_str());
        assert_eq!(outcome, Some("escaped"), "{name} is not open to {capabilities:?}");
    }
    let skipped: Vec<_> = outcomes.iter().filter(|(_, (outcome, _))| outcome == "skipped").collect();
    assert!(skipped.len() <= SKIPPED_MAX, "{skipped:#?}");
}

fn start() -> Option<Engine> {
    let probe = probes::find("escape")?;
    let engine = Engine::start()?;
    fs::copy(probe, engine.root().join("escape")).unwrap();
    Some(engine)
}

fn with(users: Users) -> SandboxSpec {
    SandboxSpec { users, ..sandbox(SandboxResources::default()) }
}

#[test]
fn nothing_gets_out_with_the_hosts_users() {
    let Some(engine) = start() else { return };
    finds_nothing(&engine, &with(Users::Host), &[], &[]);
    engine.finish();
}

#[test]
fn nothing_gets_out_with_users_of_the_sandboxs_own() {
    let Some(engine) = start() else { return };
    finds_nothing(&engine, &with(Users::Private), &[], &[]);
    engine.finish();
}

#[test]
fn nothing_gets_out_where_processes_and_memory_are_shared() {
    let Some(engine) = start() else { return };
    for users in [Users::Host, Users::Private] {
        let shared = SandboxSpec { pid: PidMode::Sandbox, ipc: IpcMode::Sandbox, ..with(users) };
        finds_nothing(&engine, &shared, &[], &[]);
    }
    engine.finish();
}

/// What a capability opens is open, and nothing besides.
#[test]
fn a_capability_opens_what_it_is_for() {
    let Some(engine) = start() else { return };
    let host = with(Users::Host);
    for (capabilities, open) in [
        (&["SYS_PTRACE"][..], &[][..]),
        (&["NET_ADMIN"], &["network-links", "network-filter"]),
        (&["SYS_NICE"], &["priority"]),
        (&["LINUX_IMMUTABLE"], &["immutable-flag"]),
        (&["SYS_CHROOT", "AUDIT_CONTROL", "MKNOD"], &[]),
        // With any runtime: a file of the host's disk is mounted at /etc/hosts, and its handle leads on.
        (&["DAC_READ_SEARCH"], &["open-by-handle-shocker"]),
    ] {
        finds_nothing(&engine, &host, capabilities, open);
    }
    engine.finish();
}

/// Every capability, in a user namespace: power over nothing but the sandbox's own processes.
#[test]
fn every_capability_of_its_own_users_reaches_nothing_of_the_host() {
    let Some(engine) = start() else { return };
    // It has every capability already; new namespaces below its own may be made, and it may do in them
    // as it likes.
    let open = [
        "raise-capabilities",
        "clone-user-namespace",
        "clone3-user-namespace",
        "unshare-user",
        "unshare-user-and-network",
        "unshare-mount",
        "unshare-pid",
        "unshare-network",
        "unshare-cgroup-cve-2022-0492",
    ];
    finds_nothing(&engine, &with(Users::Private), &["ALL"], &open);
    engine.finish();
}

/// runc with Docker's default capabilities, filter and paths: how the program judges it.
#[test]
fn runc_is_judged_by_the_same_program() {
    let Some(engine) = start() else { return };
    let Some(runc) = oci::Runtime::find() else {
        eprintln!("skipped: runc is not installed");
        return engine.finish();
    };
    let world = World::new(&engine);
    let mut args = vec!["/escape".to_owned()];
    args.extend(world.arguments);
    let ended = runc.run(&engine, &oci::Process { args, ..oci::Process::default() });
    let outcomes = outcomes(&ended.stdout);
    assert!(outcomes.len() >= PROBES_MIN, "{ended:?}");
    let found: Vec<_> = outcomes.iter().filter(|(_, (outcome, _))| outcome == "escaped").collect();
    eprintln!("runc: {} probes, {} found something: {found:#?}", outcomes.len(), found.len());
    engine.finish();
}
