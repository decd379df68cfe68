//! What a container must see, looked at from inside.
//!
//! Each case says what is to run and what it must find. It is told to this engine, with the host's
//! users and with users of the sandbox's own, and to runc, by a bundle made from the same case: what
//! runc does not meet would be a mistake of the suite.
#![allow(clippy::disallowed_macros, clippy::print_stderr, reason = "a skipped comparison says so")]

mod common;
#[path = "common/oci.rs"]
mod oci;
#[path = "common/probes.rs"]
mod probes;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use common::{Ended, Engine, sandbox};
use oci::Process;
use serde_json::{Value, json};
use wharf_engine::{ContainerSpec, Init, Mount, Rlimit, SandboxResources, SandboxSpec, Tmpfs, Users};
use wharf_engine_embedded::capability::CapabilitySet;

const HOSTNAME: &str = "ip-10-0-0-9";
const TMPFS_BYTES: u64 = 1 << 20;

/// Something to run and what it must find.
struct Case {
    process: Process,
    expectations: Vec<Value>,
}

/// As `/proc/self/status` has them.
fn bits(names: &[String]) -> String {
    let all = ["ALL".to_owned()];
    format!("{:016x}", CapabilitySet::resolve(names, &all).unwrap().bits())
}

fn capabilities(process: &Process) -> Value {
    let (bounding, none) = (bits(&process.capabilities), "0".repeat(16));
    let own = if process.uid == 0 { &bounding } else { &none };
    json!({ "expect": "capabilities", "effective": own, "permitted": own, "bounding": bounding,
            "inheritable": none, "ambient": none })
}

fn mount(at: &str, kind: &str, options: &[&str]) -> Value {
    json!({ "expect": "mount", "at": at, "kind": kind, "options": options })
}

fn device(path: &str, major: u32, minor: u32) -> Value {
    json!({ "expect": "device", "path": path, "major": major, "minor": minor, "mode": "666" })
}

fn simple(kind: &str, path: &str) -> Value {
    json!({ "expect": kind, "path": path })
}

fn status(field: &str, value: &str) -> Value {
    json!({ "expect": "status", "field": field, "value": value })
}

/// What every container must find, whatever it is.
fn always(process: &Process) -> Vec<Value> {
    let mut expectations = vec![
        mount("/", "overlay", &[]),
        mount("/proc", "proc", &["rw", "nosuid", "nodev", "noexec"]),
        mount("/dev", "tmpfs", &["rw", "nosuid", "mode=755"]),
        mount("/dev/pts", "devpts", &["rw", "nosuid", "noexec", "mode=620", "ptmxmode=666"]),
        mount("/dev/shm", "tmpfs", &["rw", "nosuid", "nodev", "noexec"]),
        mount("/dev/mqueue", "mqueue", &["rw", "nosuid", "nodev", "noexec"]),
        mount("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"]),
        device("/dev/null", 1, 3),
        device("/dev/zero", 1, 5),
        device("/dev/full", 1, 7),
        device("/dev/random", 1, 8),
        device("/dev/urandom", 1, 9),
        device("/dev/tty", 5, 0),
        json!({ "expect": "devices-work" }),
        json!({ "expect": "link", "path": "/dev/fd", "to": "/proc/self/fd" }),
        json!({ "expect": "link", "path": "/dev/stdin", "to": "/proc/self/fd/0" }),
        json!({ "expect": "link", "path": "/dev/stderr", "to": "/proc/self/fd/2" }),
        json!({ "expect": "link", "path": "/dev/ptmx", "to": "pts/ptmx" }),
        capabilities(process),
        json!({ "expect": "identity", "uid": process.uid, "gid": process.gid, "groups": process.groups }),
        json!({ "expect": "working-directory", "path": process.cwd }),
        json!({ "expect": "umask", "mask": "22" }),
        json!({ "expect": "host-name", "name": HOSTNAME }),
        json!({ "expect": "environment", "name": "PATH",
                "value": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" }),
        json!({ "expect": "no-environment", "name": "CARGO_MANIFEST_DIR" }),
        json!({ "expect": "arguments", "count": 3, "last": "last argument" }),
        json!({ "expect": "pid", "number": 1 }),
        json!({ "expect": "descriptors", "numbers": [0, 1, 2] }),
        json!({ "expect": "terminal", "present": false }),
        json!({ "expect": "pseudo-terminals" }),
        json!({ "expect": "cgroup-root" }),
        json!({ "expect": "loopback-up" }),
        json!({ "expect": "orphans-are-reaped" }),
        json!({ "expect": "signals-work" }),
        json!({ "expect": "shared-memory", "bytes": 64 << 20 }),
        status("Seccomp", "2"),
        status("NoNewPrivs", if process.no_new_privileges { "1" } else { "0" }),
        status("SigBlk", &"0".repeat(16)),
        json!({ "expect": "owner", "path": "/dev", "uid": 0, "gid": 0, "mode": "755" }),
        json!({ "expect": "owner", "path": "/dev/shm", "uid": 0, "gid": 0, "mode": "1777" }),
        json!({ "expect": "owner", "path": "/bin/busybox", "uid": 0, "gid": 0, "mode": null }),
        simple("writable", "/dev/shm"),
    ];
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts", "/proc/acpi"] {
        expectations.push(simple("empty", path));
    }
    for path in ["/sys/firmware", "/sys/devices/virtual/powercap"] {
        expectations.push(simple("empty", path));
    }
    let there = ["/proc/sys", "/proc/bus", "/proc/irq", "/proc/sysrq-trigger"];
    for path in there.into_iter().filter(|path| Path::new(path).exists()) {
        expectations.push(mount(path, "proc", &["ro", "nosuid", "nodev", "noexec"]));
    }
    for name in ["mnt", "pid", "ipc", "uts", "net", "cgroup"] {
        let of = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        expectations.push(json!({ "expect": "not-namespace", "name": name, "of": of }));
    }
    if process.uid == 0 {
        expectations.push(simple(if process.readonly_root { "read-only" } else { "writable" }, "/"));
    }
    expectations
}

fn cases(engine: &Engine) -> Vec<Case> {
    let case = |process: Process, more: Vec<Value>| {
        let expectations = [always(&process), more].concat();
        Case { process, expectations }
    };
    let base = || Process { hostname: HOSTNAME.to_owned(), ..Process::default() };
    let limit = |name: &str, soft: u64, hard: u64| json!({ "expect": "limit", "name": name, "soft": soft, "hard": hard });

    let root = base();
    let user = Process { uid: 1000, gid: 1001, groups: vec![44], cwd: "/home/app".to_owned(), ..base() };
    let confined = Process {
        capabilities: vec!["NET_BIND_SERVICE".to_owned(), "SYS_CHROOT".to_owned()],
        limits: vec![("nofile".to_owned(), 100, 200), ("core".to_owned(), 0, 0)],
        no_new_privileges: true,
        readonly_root: true,
        env: [base().env, vec!["WORD=two words".to_owned(), "EMPTY=".to_owned()]].concat(),
        tmpfs: vec![("/scratch".to_owned(), vec!["mode=1777".to_owned(), format!("size={TMPFS_BYTES}")])],
        ..base()
    };
    let stuck = Process { no_new_privileges: true, ..user.clone() };
    let with_volumes = Process {
        binds: vec![
            (engine.path("volume"), "/data".to_owned(), false),
            (engine.path("volume"), "/fixed".to_owned(), true),
        ],
        ..base()
    };
    vec![
        case(
            root,
            vec![
                json!({ "expect": "environment", "name": "HOME", "value": "/root" }),
                json!({ "expect": "set-user-id", "program": "/raised/conform", "uid": 0 }),
                simple("writable", "/tmp"),
            ],
        ),
        case(
            user,
            vec![
                json!({ "expect": "environment", "name": "HOME", "value": "/home/app" }),
                json!({ "expect": "set-user-id", "program": "/raised/conform", "uid": 0 }),
            ],
        ),
        case(
            confined,
            vec![
                json!({ "expect": "environment", "name": "WORD", "value": "two words" }),
                json!({ "expect": "environment", "name": "EMPTY", "value": "" }),
                limit("nofile", 100, 200),
                limit("core", 0, 0),
                mount("/scratch", "tmpfs", &["rw", "nosuid", "nodev", "noexec"]),
                json!({ "expect": "owner", "path": "/scratch", "uid": 0, "gid": 0, "mode": "1777" }),
                simple("writable", "/scratch"),
                simple("read-only", "/etc"),
            ],
        ),
        case(stuck, vec![json!({ "expect": "set-user-id", "program": "/raised/conform", "uid": 1000 })]),
        case(
            with_volumes,
            vec![
                json!({ "expect": "content", "path": "/data/in", "contains": "hello" }),
                json!({ "expect": "owner", "path": "/data/in", "uid": 7, "gid": 8, "mode": "640" }),
                simple("writable", "/data"),
                simple("read-only", "/fixed"),
            ],
        ),
    ]
}

/// What this engine adds for itself: Docker's files in `/etc`, and its own view of control groups.
fn ours() -> Vec<Value> {
    vec![
        json!({ "expect": "content", "path": "/etc/hosts", "contains": "127.0.0.1\tlocalhost" }),
        json!({ "expect": "content", "path": "/etc/hostname", "contains": HOSTNAME }),
        json!({ "expect": "content", "path": "/etc/resolv.conf", "contains": "nameserver 10.0.0.2" }),
        json!({ "expect": "owner", "path": "/etc/hosts", "uid": 0, "gid": 0, "mode": "644" }),
        json!({ "expect": "environment", "name": "HOSTNAME", "value": HOSTNAME }),
        json!({ "expect": "link", "path": "/dev/core", "to": "/proc/kcore" }),
        // SIGPIPE alone, by the program's own library.
        status("SigIgn", "0000000000001000"),
    ]
}

fn to_spec(engine: &Engine, process: &Process) -> ContainerSpec {
    let mut spec = engine.spec(&[]);
    spec.process.args.clone_from(&process.args);
    spec.process.env.clone_from(&process.env);
    spec.process.working_dir.clone_from(&process.cwd);
    spec.process.user = format!("{}:{}", process.uid, process.gid);
    spec.process.groups = process.groups.iter().map(ToString::to_string).collect();
    spec.process.capabilities_drop = vec!["ALL".to_owned()];
    spec.process.capabilities_add.clone_from(&process.capabilities);
    spec.process.no_new_privileges = process.no_new_privileges;
    let rlimit =
        |(name, soft, hard): &(String, u64, u64)| Rlimit { name: name.clone(), soft: *soft, hard: *hard };
    spec.process.rlimits = process.limits.iter().map(rlimit).collect();
    spec.readonly_root = process.readonly_root;
    let tmpfs = |(target, options): &(String, Vec<String>)| {
        let options = options.iter().filter(|option| !option.starts_with("size=")).cloned().collect();
        Tmpfs { target: target.clone(), size_bytes: TMPFS_BYTES, options }
    };
    spec.tmpfs = process.tmpfs.iter().map(tmpfs).collect();
    spec.mounts = process
        .binds
        .iter()
        .map(|(source, target, readonly)| Mount { readonly: *readonly, ..Mount::host(source, target) })
        .collect();
    spec
}

/// What was not met, of as many as were asked.
fn unmet(ended: &Ended, asked: usize) -> Vec<String> {
    assert_eq!(ended.code, 0, "{ended:?}");
    let answers: Vec<Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(answers.len(), asked, "{ended:?}");
    let unmet = answers.iter().filter(|answer| answer["met"] != true);
    unmet.map(|answer| format!("{} but found {}", answer["expectation"], answer["found"])).collect()
}

fn told(process: &Process, expectations: &[Value]) -> Process {
    let expectations = Value::from(expectations.to_vec()).to_string();
    Process { args: vec!["/conform".to_owned(), expectations, "last argument".to_owned()], ..process.clone() }
}

fn start() -> Option<Engine> {
    let probe = probes::find("conform")?;
    let engine = Engine::start()?;
    fs::copy(&probe, engine.root().join("conform")).unwrap();
    fs::create_dir(engine.root().join("raised")).unwrap();
    let raised = engine.root().join("raised/conform");
    fs::copy(&probe, &raised).unwrap();
    fs::set_permissions(&raised, fs::Permissions::from_mode(0o4755)).unwrap();
    let volume = engine.layer("volume");
    fs::write(volume.join("in"), "hello\n").unwrap();
    fs::set_permissions(volume.join("in"), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(volume.join("in"), Some(7), Some(8)).unwrap();
    Some(engine)
}

fn meets(users: Users) {
    let Some(engine) = start() else { return };
    for (number, case) in cases(&engine).into_iter().enumerate() {
        let expectations = [case.expectations, ours()].concat();
        let spec = to_spec(&engine, &told(&case.process, &expectations));
        let sandbox =
            SandboxSpec { users, hostname: HOSTNAME.into(), ..sandbox(SandboxResources::default()) };
        let ended = engine.run_in(&sandbox, &spec).unwrap();
        let unmet = unmet(&ended, expectations.len());
        assert!(unmet.is_empty(), "{users:?}, case {number}: {unmet:#?}");
    }
    engine.finish();
}

#[test]
fn a_container_sees_what_it_must_with_the_hosts_users() {
    meets(Users::Host);
}

#[test]
fn a_container_sees_what_it_must_with_users_of_its_own() {
    meets(Users::Private);
}

#[test]
fn under_an_init_a_program_sees_the_same_and_is_process_2() {
    let Some(engine) = start() else { return };
    let case = cases(&engine).remove(0);
    let is_first = |expectation: &Value| expectation["expect"] == "pid";
    let mut expectations: Vec<Value> = case.expectations.into_iter().filter(|of| !is_first(of)).collect();
    expectations.push(json!({ "expect": "pid", "number": 2 }));
    let mut spec = to_spec(&engine, &told(&case.process, &expectations));
    spec.init = Init::Reaper;
    let ended =
        engine.run_in(&SandboxSpec { users: Users::Private, ..sandbox(SandboxResources::default()) }, &spec);
    let unmet = unmet(&ended.unwrap(), expectations.len());
    assert!(unmet.is_empty(), "{unmet:#?}");
    engine.finish();
}

#[test]
fn runc_meets_what_the_suite_asks_of_every_runtime() {
    let Some(engine) = start() else { return };
    let Some(runc) = oci::Runtime::find() else {
        eprintln!("skipped: runc is not installed");
        return engine.finish();
    };
    for (number, case) in cases(&engine).into_iter().enumerate() {
        // Its root is the bundle's directory, on whatever file system that is.
        let is_root = |expectation: &Value| expectation["expect"] == "mount" && expectation["at"] == "/";
        let expectations: Vec<Value> = case.expectations.into_iter().filter(|of| !is_root(of)).collect();
        let ended = runc.run(&engine, &told(&case.process, &expectations));
        let unmet = unmet(&ended, expectations.len());
        assert!(unmet.is_empty(), "runc, case {number}: {unmet:#?}");
    }
    engine.finish();
}

/// A suite that cannot fail proves nothing.
#[test]
fn what_is_not_met_is_said() {
    let Some(engine) = start() else { return };
    let wrong = [
        mount("/proc", "proc", &["ro"]),
        device("/dev/null", 1, 5),
        json!({ "expect": "pid", "number": 7 }),
        json!({ "expect": "identity", "uid": 1, "gid": 0, "groups": [] }),
        simple("read-only", "/"),
        simple("empty", "/bin"),
        json!({ "expect": "terminal", "present": true }),
        json!({ "expect": "no-mount", "at": "/proc" }),
        json!({ "expect": "content", "path": "/etc/hostname", "contains": "elsewhere" }),
        json!({ "expect": "descriptors", "numbers": [0, 1] }),
    ];
    let process = Process { hostname: HOSTNAME.to_owned(), ..Process::default() };
    let ended = engine.run(&to_spec(&engine, &told(&process, &wrong))).unwrap();
    assert_eq!(unmet(&ended, wrong.len()).len(), wrong.len(), "{ended:?}");
    engine.finish();
}
