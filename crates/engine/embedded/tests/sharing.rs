//! What the containers of a sandbox share when it says so: processes, ipc, memory; and their init.

mod common;

use std::fs;

use common::{Engine, read_until, sandbox};
use wharf_engine::{
    ContainerSpec, Device, DeviceAccess, EngineError, Init, IpcMode, PidMode, Privileges, SandboxResources,
    SandboxSpec, Sysctl, Users,
};
use wharf_engine_embedded::spawner::Request;

/// Makes an orphan that ends at once, waits until it is reaped (not for ever), and says 1 if it is
/// still there.
const ORPHAN: &str = "o=$(sh -c 'cat /dev/null >/dev/null & echo $!'); i=0; \
    while [ $i -lt 3000 ] && [ -e /proc/$o ]; do i=$((i+1)); done; [ ! -e /proc/$o ]; echo $?";

/// Waits until process 1 has become the init that it executes.
const NAMED: &str = "i=0; while [ $i -lt 3000 ] && ! grep -q wharf-init /proc/1/comm; do i=$((i+1)); done";

fn sharing(pid: PidMode, ipc: IpcMode, users: Users) -> SandboxSpec {
    SandboxSpec { pid, ipc, users, ..sandbox(SandboxResources::default()) }
}

fn sysctl(name: &str, value: &str) -> Vec<Sysctl> {
    vec![Sysctl { name: name.into(), value: value.into() }]
}

#[test]
fn containers_see_each_other_and_orphans_are_reaped() {
    let Some(engine) = Engine::start() else { return };
    for users in [Users::Host, Users::Private] {
        let sandbox = sharing(PidMode::Sandbox, IpcMode::Container, users);
        engine.ask(&Request::CreateSandbox(sandbox.clone())).unwrap();
        // Repeatable.
        engine.ask(&Request::CreateSandbox(sandbox.clone())).unwrap();
        let first = engine.begin(&sandbox, &engine.shell("echo $$; echo; exec sleep 1000")).unwrap();
        let pid = read_until(&first.stdout, "\n\n").trim().to_owned();
        assert_ne!(pid, "1");
        let script = format!(
            "{NAMED}; cat /proc/1/comm /proc/{pid}/comm; ls /proc/1/root/ 2>&1 | head -3; \
             {ORPHAN}; kill -9 {pid}"
        );
        let second = engine.begin(&sandbox, &engine.shell(&script)).unwrap();
        let ended = engine.end(&second);
        let lines: Vec<&str> = ended.stdout.lines().collect();
        assert_eq!(lines[..2], ["wharf-init", "sleep"], "{ended:?}");
        assert!(!ended.stdout.contains("usr") && !ended.stdout.contains("bin"), "the host shows: {ended:?}");
        assert_eq!(lines.last(), Some(&"0"), "a zombie is left: {ended:?}");
        assert_eq!(engine.end(&first).code, 137, "{users:?}");
        engine.ask(&Request::RemoveSandbox(sandbox.id.clone())).unwrap();
    }
    engine.finish();
}

#[test]
fn the_end_of_a_container_leaves_no_process_of_it_among_the_others() {
    let Some(engine) = Engine::start() else { return };
    let sandbox = sharing(PidMode::Sandbox, IpcMode::Container, Users::Private);
    engine.ask(&Request::CreateSandbox(sandbox.clone())).unwrap();
    let script = "(trap '' HUP TERM; exec sleep 2345 >/dev/null 2>&1) & echo started";
    let first = engine.begin(&sandbox, &engine.shell(script)).unwrap();
    assert_eq!(engine.end(&first).stdout, "started\n");
    let second = engine.begin(&sandbox, &engine.shell("ps | grep -c '[s]leep 2345'; true")).unwrap();
    assert_eq!(engine.end(&second).stdout, "0\n");
    engine.ask(&Request::RemoveSandbox(sandbox.id.clone())).unwrap();
    engine.finish();
}

#[test]
fn memory_is_shared_with_the_sandbox_and_with_no_other() {
    let Some(engine) = Engine::start() else { return };
    for users in [Users::Host, Users::Private] {
        let sandbox = sharing(PidMode::Container, IpcMode::Sandbox, users);
        engine.ask(&Request::CreateSandbox(sandbox.clone())).unwrap();
        let run = |script: &str, shm_bytes| {
            let spec = ContainerSpec { shm_bytes, ..engine.shell(script) };
            let running = engine.begin(&sandbox, &spec).unwrap();
            engine.end(&running)
        };
        let write = "echo hello > /dev/shm/word; stat -c %a /dev/shm; readlink /proc/self/ns/ipc";
        let wrote = run(write, None);
        let read =
            run("cat /dev/shm/word; readlink /proc/self/ns/ipc; df -k /dev/shm | tail -1", Some(128 << 20));
        assert!(wrote.stdout.starts_with("1777\n"), "{wrote:?}");
        let (word, rest) = read.stdout.split_once('\n').unwrap();
        assert_eq!(word, "hello", "{read:?}");
        assert_eq!(wrote.stdout.lines().nth(1), rest.lines().next());
        assert!(rest.contains(" 131072 "), "{read:?}");
        engine.ask(&Request::RemoveSandbox(sandbox.id.clone())).unwrap();

        let own = engine.run(&engine.shell("ls -A /dev/shm")).unwrap();
        assert_eq!(own.stdout, "");
    }
    let sandbox = sharing(PidMode::Container, IpcMode::None, Users::Private);
    let none = engine.run_in(&sandbox, &engine.shell("grep -c /dev/shm /proc/mounts; true")).unwrap();
    assert_eq!(none.stdout, "0\n");
    engine.finish();
}

#[test]
fn the_hosts_processes_are_seen_by_who_asks() {
    let Some(engine) = Engine::start() else { return };
    let sandbox = sharing(PidMode::Host, IpcMode::Host, Users::Host);
    let spec = engine.shell("readlink /proc/self/ns/pid; readlink /proc/self/ns/ipc; cat /proc/1/comm");
    let ended = engine.run_in(&sandbox, &spec).unwrap();
    let host = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string();
    let own = fs::read_to_string("/proc/1/comm").unwrap();
    assert_eq!(ended.stdout, format!("{}\n{}\n{own}", host("pid"), host("ipc")), "{ended:?}");
    let refused = SandboxSpec { users: Users::Private, ..sandbox };
    let made = engine.ask(&Request::CreateSandbox(refused));
    assert!(matches!(made, Err(EngineError::Unsupported { .. })), "{made:?}");
    engine.finish();
}

#[test]
fn an_init_reaps_forwards_signals_and_ends_as_the_program_does() {
    let Some(engine) = Engine::start() else { return };
    for users in [Users::Host, Users::Private] {
        let sandbox = sharing(PidMode::Container, IpcMode::Container, users);
        engine.ask(&Request::CreateSandbox(sandbox.clone())).unwrap();
        let with_init = |script: &str| ContainerSpec { init: Init::Reaper, ..engine.shell(script) };

        let script = format!("echo $$; {NAMED}; cat /proc/1/comm; {ORPHAN}; exit 7");
        let running = engine.begin(&sandbox, &with_init(&script)).unwrap();
        let ended = engine.end(&running);
        assert_eq!((ended.code, ended.stdout.as_str()), (7, "2\nwharf-init\n0\n"), "{ended:?}");

        let script = "trap 'echo term; exit 9' TERM; echo up; echo; while :; do sleep 0.01; done";
        let running = engine.begin(&sandbox, &with_init(script)).unwrap();
        read_until(&running.stdout, "\n\n");
        let pid = rustix::process::Pid::from_raw(running.pid as i32).unwrap();
        // It is no file of the host's, and cannot be written.
        let program = fs::read_link(format!("/proc/{}/exe", running.pid)).unwrap();
        assert_eq!(program.to_str(), Some("/memfd:wharf-init (deleted)"));
        assert!(fs::OpenOptions::new().write(true).open(format!("/proc/{}/exe", running.pid)).is_err());
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let ended = engine.end(&running);
        assert_eq!((ended.code, ended.stdout.as_str()), (9, "term\n"), "{ended:?}");

        let ended = engine.begin(&sandbox, &with_init("kill -SEGV $$")).map(|running| engine.end(&running));
        assert_eq!(ended.unwrap().code, 139);
        let nothing = ContainerSpec { init: Init::Reaper, ..engine.spec(&["/nothing"]) };
        assert!(matches!(engine.begin(&sandbox, &nothing), Err(EngineError::Start { exit_code: 127, .. })));
        engine.ask(&Request::RemoveSandbox(sandbox.id.clone())).unwrap();
    }
    engine.finish();
}

#[test]
fn kernel_parameters_of_its_namespaces_are_set_and_the_hosts_are_refused() {
    let Some(engine) = Engine::start() else { return };
    for users in [Users::Host, Users::Private] {
        for (name, value) in [
            ("net.ipv4.ip_local_port_range", "2000\t3000"),
            ("kernel.shmmax", "123456"),
            ("fs.mqueue.msg_max", "20"),
        ] {
            let mut sandbox = sharing(PidMode::Container, IpcMode::Container, users);
            sandbox.sysctls = sysctl(name, value);
            let path = format!("/proc/sys/{}", name.replace('.', "/"));
            let before = fs::read_to_string(&path).unwrap();
            let ended = engine.run_in(&sandbox, &engine.spec(&["cat", &path])).unwrap();
            assert_eq!(ended.stdout.trim_end(), value, "{ended:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), before, "the host's own changed");
        }
    }
    for name in ["kernel.core_pattern", "vm.overcommit_memory", "kernel.../../../etc"] {
        let refused = SandboxSpec { sysctls: sysctl(name, "x"), ..sandbox(SandboxResources::default()) };
        let made = engine.ask(&Request::CreateSandbox(refused));
        assert!(matches!(made, Err(EngineError::Unsupported { .. })), "{name}: {made:?}");
    }
    engine.finish();
}

#[test]
fn a_device_is_given_with_the_access_that_is_asked_for() {
    let Some(engine) = Engine::start() else { return };
    for users in [Users::Host, Users::Private] {
        let sandbox = sharing(PidMode::Container, IpcMode::Container, users);
        let mut spec = engine.shell(
            "stat -c '%F %t:%T' /dev/tick; (: > /dev/tick) && echo wrote; head -c0 /dev/tick && echo read",
        );
        // A device that no container has by default, and whose opening does nothing.
        let (source, kind) = (engine.path("fuse"), rustix::fs::FileType::CharacterDevice);
        let number = rustix::fs::makedev(10, 229);
        let _ = rustix::fs::mknodat(rustix::fs::CWD, &source, kind, 0o600.into(), number);
        let access = DeviceAccess { read: true, write: false, make: false };
        spec.devices = vec![Device { source: source.clone(), target: "/dev/tick".into(), access }];
        let ended = engine.run_in(&sandbox, &spec).unwrap();
        assert_eq!(ended.stdout, "character special file a:e5\nread\n", "{users:?}: {ended:?}");
        let none = engine.run_in(&sandbox, &engine.shell("ls /dev/tick")).unwrap();
        assert_ne!(none.code, 0);
    }
    let mut spec = engine.shell("true");
    spec.devices =
        vec![Device { source: "/etc/passwd".into(), target: "/dev/x".into(), access: DeviceAccess::ALL }];
    assert!(matches!(engine.run(&spec), Err(EngineError::Unsupported { .. })));
    engine.finish();
}

#[test]
fn a_privileged_container_is_kept_back_by_its_namespaces_alone() {
    let Some(engine) = Engine::start() else { return };
    let mut spec = engine.shell(
        "grep -E 'CapEff|Seccomp:' /proc/self/status; mount -t tmpfs x /tmp && echo mounted; \
         ls /dev/kmsg; head -c0 /dev/kmsg && echo opened; echo 1 > /proc/sys/net/ipv4/ip_forward && echo written; \
         ls /sys/firmware | wc -l",
    );
    spec.privileges = Privileges::Privileged;
    let ended = engine.run(&spec).unwrap();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let effective = own.lines().find(|line| line.starts_with("CapEff")).unwrap();
    for wanted in [effective, "Seccomp:\t0", "mounted", "/dev/kmsg", "opened", "written"] {
        assert!(ended.stdout.contains(wanted), "{wanted}: {ended:?}");
    }
    engine.finish();
}
