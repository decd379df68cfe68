//! What a container sees of itself, of its image and of the host.

mod common;

use std::fs;
use std::os::unix::fs::symlink;

use common::{Engine, sandbox};
use wharf_engine::{EngineError, Mount, Rlimit, SandboxResources, Tmpfs};
use wharf_engine_embedded::spawner::Request;

fn start_failure(result: Result<common::Ended, EngineError>) -> (i32, String) {
    match result {
        Err(EngineError::Start { exit_code, message }) => (exit_code, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_program_runs_and_its_exit_code_and_output_come_back() {
    let Some(engine) = Engine::start() else { return };
    let ended = engine.run(&engine.shell("echo out; echo err >&2; exit 3")).unwrap();
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (3, "out\n", "err\n"));
    assert!(!ended.oom_killed);
    assert_eq!(engine.run(&engine.shell("kill -9 $$; echo pid 1 ignores it")).unwrap().code, 0);
    engine.finish();
}

#[test]
fn namespaces_are_the_containers_own() {
    let Some(engine) = Engine::start() else { return };
    let out = engine.output(
        "echo $$; hostname; for n in mnt pid ipc uts net cgroup; do readlink /proc/self/ns/$n; done; ip link | grep -c ^; ps | wc -l",
    );
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..2], ["1", "ip-10-0-0-9"]);
    for (line, name) in lines[2..8].iter().zip(["mnt", "pid", "ipc", "uts", "net", "cgroup"]) {
        let host = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(*line, host.to_str().unwrap(), "{name}");
    }
    // `lo` alone takes two lines; the header, the shell, ps and wc four.
    assert_eq!(lines[8..], ["2", "4"], "{out}");
    assert!(engine.output("ip addr show lo").contains("UP"), "loopback is up");
    engine.finish();
}

#[test]
fn the_mounts_are_those_of_docker() {
    let Some(engine) = Engine::start() else { return };
    let mounts = engine.output("cat /proc/self/mounts");
    for wanted in [
        "overlay / overlay rw,",
        "tmpfs /dev tmpfs rw,nosuid,",
        "devpts /dev/pts devpts rw,nosuid,noexec,",
        "tmpfs /dev/shm tmpfs rw,nosuid,nodev,noexec,",
        "mqueue /dev/mqueue mqueue rw,nosuid,nodev,noexec,",
        "proc /proc proc rw,nosuid,nodev,noexec,",
        "proc /proc/sys proc ro,",
        "proc /proc/bus proc ro,",
        "tmpfs /proc/interrupts tmpfs",
        "sysfs /sys sysfs ro,nosuid,nodev,noexec,",
        " /etc/hosts ",
        " /etc/hostname ",
        " /etc/resolv.conf ",
    ] {
        assert!(mounts.contains(wanted), "{wanted} is not in\n{mounts}");
    }
    let place = engine.directory.path().to_str().unwrap().to_owned();
    let options = mounts.lines().filter(|line| !line.starts_with("overlay ")).collect::<String>();
    assert!(!options.contains(&place), "a path of the host shows:\n{mounts}");
    assert_eq!(
        engine.output("ls -A /dev | sort | tr '\\n' ' '"),
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero "
    );
    assert_eq!(engine.output("cat /etc/hostname /etc/resolv.conf"), "ip-10-0-0-9\nnameserver 10.0.0.2\n");
    assert!(engine.output("cat /etc/hosts").starts_with("127.0.0.1\tlocalhost\n"));
    engine.finish();
}

#[test]
fn masked_paths_are_empty_and_read_only_ones_refuse() {
    let Some(engine) = Engine::start() else { return };
    assert_eq!(engine.output("cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c"), "0\n");
    assert_eq!(
        engine.output("ls -A /sys/firmware /proc/acpi /proc/scsi 2>/dev/null | grep -v : | wc -w"),
        "0\n"
    );
    let ended = engine.run(&engine.shell("echo 1 > /proc/sys/kernel/panic")).unwrap();
    assert!(ended.code != 0 && ended.stderr.contains("Read-only"), "{ended:?}");
    let ended =
        engine.run(&engine.shell("mkdir /sys/fs/cgroup/memory/mine || mkdir /sys/fs/cgroup/mine")).unwrap();
    assert!(ended.code != 0 && ended.stderr.contains("Read-only"), "{ended:?}");
    engine.finish();
}

#[test]
fn privileges_are_dockers_defaults() {
    let Some(engine) = Engine::start() else { return };
    let status = engine.run(&engine.spec(&["cat", "/proc/self/status"])).unwrap().stdout;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    for (set, value) in [
        ("CapEff", "00000000a80425fb"),
        ("CapPrm", "00000000a80425fb"),
        ("CapBnd", "00000000a80425fb"),
        ("CapInh", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("Seccomp", "2"),
        ("NoNewPrivs", "0"),
        ("SigIgn", "0000000000000000"),
        ("SigBlk", "0000000000000000"),
    ] {
        assert_eq!(field(&format!("{set}:")), value, "{set}");
    }
    assert_eq!(field("Umask:"), "0022");

    let mut spec = engine.shell("grep -E 'CapEff|CapBnd|NoNew' /proc/self/status; id");
    spec.process.user = "app".into();
    spec.process.no_new_privileges = true;
    spec.process.capabilities_drop = vec!["ALL".into()];
    spec.process.capabilities_add = vec!["NET_BIND_SERVICE".into()];
    let ended = engine.run(&spec).unwrap();
    assert!(
        ended.stdout.contains("CapEff:\t0000000000000000\nCapBnd:\t0000000000000400\nNoNewPrivs:\t1\n"),
        "{ended:?}"
    );
    assert!(ended.stdout.contains("uid=1000(app) gid=1001(app) groups=44(video)"), "{ended:?}");
    engine.finish();
}

#[test]
fn calls_that_the_filter_refuses_fail() {
    let Some(engine) = Engine::start() else { return };
    for script in ["mount -t tmpfs x /tmp", "unshare -n true", "dmesg"] {
        let ended = engine.run(&engine.shell(script)).unwrap();
        let refused = ["not permitted", "permission denied"].iter().any(|text| ended.stderr.contains(text));
        assert!(ended.code != 0 && refused, "{script}: {ended:?}");
    }
    // A device that the group does not list: the node can be made, and not opened.
    let ended = engine.run(&engine.shell("mknod /tmp/d b 254 0; head -c1 /tmp/d")).unwrap();
    assert!(ended.code != 0 && ended.stderr.contains("not permitted"), "{ended:?}");
    engine.finish();
}

#[test]
fn no_descriptor_of_the_host_is_left_open() {
    let Some(engine) = Engine::start() else { return };
    assert_eq!(engine.output("ls /proc/1/fd; true"), "0\n1\n2\n");
    assert_eq!(engine.output("readlink /proc/1/exe"), "/bin/busybox\n");
    assert_eq!(engine.output("readlink /proc/self/fd/0"), "/dev/null\n");
    engine.finish();
}

#[test]
fn the_environment_has_defaults_and_the_last_of_two_wins() {
    let Some(engine) = Engine::start() else { return };
    let mut spec = engine.spec(&["env"]);
    spec.process.env = vec!["A=1".into(), "B=2".into(), "A=3".into()];
    let out = engine.run(&spec).unwrap().stdout;
    assert_eq!(
        out,
        "A=3\nB=2\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nHOSTNAME=ip-10-0-0-9\nHOME=/root\n"
    );
    engine.finish();
}

#[test]
fn a_user_and_a_working_directory_are_the_images() {
    let Some(engine) = Engine::start() else { return };
    let mut spec = engine.shell("pwd; id -u; echo $HOME; stat -c %u:%a .; echo x > /dev/stdout");
    spec.process.user = "app".into();
    spec.process.working_dir = "/srv/made/deep".into();
    let ended = engine.run(&spec).unwrap();
    assert_eq!(ended.stdout, "/srv/made/deep\n1000\n/home/app\n0:755\nx\n", "{ended:?}");
    spec.process.user = "ghost".into();
    let (code, message) = start_failure(engine.run(&spec));
    assert_eq!(
        (code, message.as_str()),
        (126, "unable to find user ghost: no matching entries in passwd file")
    );
    spec.process.user = String::new();
    spec.process.working_dir = "/bin/sh".into();
    assert_eq!(
        start_failure(engine.run(&spec)),
        (128, "chdir to cwd (\"/bin/sh\") failed: not a directory".into())
    );
    engine.finish();
}

#[test]
fn a_program_that_cannot_run_says_why() {
    let Some(engine) = Engine::start() else { return };
    fs::write(engine.root().join("bin/data"), "text").unwrap();
    fs::write(engine.root().join("bin/script"), "#!/no/such/interpreter\n").unwrap();
    fs::write(engine.root().join("bin/garbage"), "\u{7f}ELF nonsense").unwrap();
    for name in ["script", "garbage"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(engine.root().join("bin").join(name), mode).unwrap();
    }
    for (program, code, message) in [
        ("nothing", 127, "exec: \"nothing\": executable file not found in $PATH"),
        ("/nothing", 127, "exec: \"/nothing\": stat /nothing: no such file or directory"),
        ("data", 126, "exec: \"data\": permission denied"),
        ("/bin", 126, "exec: \"/bin\": is a directory"),
        ("/bin/script", 127, "exec /bin/script: no such file or directory"),
        ("/bin/garbage", 126, "exec /bin/garbage: exec format error"),
    ] {
        assert_eq!(start_failure(engine.run(&engine.spec(&[program]))), (code, message.to_owned()));
    }
    engine.finish();
}

/// What it is about is longer than the pipe that the failure is told through.
#[test]
fn a_failure_with_a_long_name_is_told_in_short() {
    let Some(engine) = Engine::start() else { return };
    for name in ["x".repeat(100_000), format!("/{}", "x".repeat(100_000))] {
        let (exit_code, message) = start_failure(engine.run(&engine.spec(&[&name])));
        assert_eq!(exit_code, 126);
        assert!(message.starts_with("exec ") && message.contains("xxx"), "{message}");
        assert!(message.len() < 10_000, "{} bytes", message.len());
    }
    assert_eq!(engine.run(&engine.shell("exit 3")).unwrap().code, 3, "the spawner goes on");
    engine.finish();
}

#[test]
fn limits_on_resources_hold_or_are_refused() {
    let Some(engine) = Engine::start() else { return };
    let limit = |name: &str, soft, hard| vec![Rlimit { name: name.into(), soft, hard }];
    let mut spec = engine.shell("ulimit -Sn; ulimit -Hn");
    spec.process.rlimits = limit("nofile", 100, 200);
    assert_eq!(engine.run(&spec).unwrap().stdout, "100\n200\n");
    spec.process.rlimits = limit("nofile", 200, 100);
    assert!(matches!(engine.run(&spec), Err(EngineError::Unsupported { .. })));
    engine.finish();
}

#[test]
fn a_read_only_root_refuses_writes_and_a_tmpfs_takes_them() {
    let Some(engine) = Engine::start() else { return };
    let mut spec = engine.shell("echo x > /scratch/f && cat /scratch/f && stat -c %a /scratch; echo y > /f");
    spec.readonly_root = true;
    spec.tmpfs =
        vec![Tmpfs { target: "/scratch".into(), size_bytes: 1 << 20, options: vec!["mode=1777".into()] }];
    let ended = engine.run(&spec).unwrap();
    assert_eq!(ended.stdout, "x\n1777\n");
    assert!(ended.stderr.contains("Read-only"), "{ended:?}");
    engine.finish();
}

#[test]
fn a_volume_is_mounted_where_it_says() {
    let Some(engine) = Engine::start() else { return };
    let volume = engine.layer("volume");
    fs::write(volume.join("in"), "hello\n").unwrap();
    let mut spec = engine.shell("cat /data/in; echo w > /data/out; echo w > /fixed/out");
    spec.mounts =
        vec![Mount::host(volume.clone(), "/data"), Mount::host(volume.clone(), "/fixed").read_only()];
    let ended = engine.run(&spec).unwrap();
    assert_eq!(ended.stdout, "hello\n");
    assert!(ended.stderr.contains("Read-only"), "{ended:?}");
    assert_eq!(fs::read_to_string(volume.join("out")).unwrap(), "w\n");
    spec.mounts[0].target = "/proc/1".into();
    assert!(matches!(engine.run(&spec), Err(EngineError::Unsupported { .. })));
    engine.finish();
}

#[test]
fn links_in_the_image_lead_nowhere_outside() {
    let Some(engine) = Engine::start() else { return };
    let outside = engine.layer("outside");
    fs::write(outside.join("hosts"), "host's own\n").unwrap();
    let trap = engine.layer("trap");
    fs::create_dir(trap.join("etc")).unwrap();
    symlink(outside.join("hosts"), trap.join("etc/hosts")).unwrap();
    symlink("/proc/self/fd/3", trap.join("etc/hostname")).unwrap();
    symlink(&outside, trap.join("work")).unwrap();
    let mut spec = engine.shell("true");
    spec.layers = vec![trap.clone(), engine.root()];
    let failed = engine.run(&spec);
    assert!(failed.is_err(), "a mount point behind a dangling link: {failed:?}");
    fs::remove_file(trap.join("etc/hostname")).unwrap();
    fs::remove_file(trap.join("etc/hosts")).unwrap();
    symlink("../../../../../../etc/elsewhere", trap.join("etc/hosts")).unwrap();
    fs::write(trap.join("etc/elsewhere"), "").unwrap();
    spec.process.args[2] = "cat /etc/elsewhere".into();
    assert!(engine.run(&spec).unwrap().stdout.starts_with("127.0.0.1"), "followed inside the image");
    spec.process.working_dir = "/work/made".into();
    let _ = engine.run(&spec);
    assert!(!outside.join("made").exists());
    assert_eq!(fs::read_to_string(outside.join("hosts")).unwrap(), "host's own\n");
    engine.finish();
}

#[test]
fn upper_layers_hide_lower_ones_and_nothing_is_written_to_them() {
    let Some(engine) = Engine::start() else { return };
    let (top, middle) = (engine.layer("top"), engine.layer("middle"));
    fs::write(top.join("who"), "top\n").unwrap();
    fs::write(middle.join("who"), "middle\n").unwrap();
    fs::write(middle.join("gone"), "x").unwrap();
    let whiteout = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, top.join("gone"), whiteout, rustix::fs::Mode::empty(), 0).unwrap();
    let mut spec = engine.shell("cat /who; ls /gone; echo new > /who; echo new > /other");
    spec.layers = vec![top.clone(), middle, engine.root()];
    let ended = engine.run(&spec).unwrap();
    assert_eq!(ended.stdout, "top\n");
    assert!(ended.stderr.contains("No such file"), "{ended:?}");
    assert_eq!(fs::read_to_string(top.join("who")).unwrap(), "top\n");
    assert!(!top.join("other").exists());
    // The next container of the same image starts from the image.
    assert_eq!(engine.run(&spec).unwrap().stdout, "top\n");

    let many: Vec<_> =
        (0..150).map(|n| engine.layer(&format!("layer-with-a-rather-long-name-{n}"))).collect();
    spec.layers = many.into_iter().chain([engine.root()]).collect();
    spec.process.args = vec!["true".into()];
    assert_eq!(engine.run(&spec).unwrap().code, 0);
    engine.finish();
}

#[test]
fn containers_of_a_sandbox_share_its_network() {
    let Some(engine) = Engine::start() else { return };
    let sandbox = sandbox(SandboxResources::default());
    engine.ask(&Request::CreateSandbox(sandbox.clone())).unwrap();
    engine.ask(&Request::CreateSandbox(sandbox.clone())).unwrap();
    let namespace = || {
        let spec = engine.shell("readlink /proc/self/ns/net");
        let running = engine.begin(&sandbox, &spec).unwrap();
        engine.end(&running).stdout
    };
    assert_eq!(namespace(), namespace());
    engine.ask(&Request::RemoveSandbox(sandbox.id.clone())).unwrap();
    engine.ask(&Request::RemoveSandbox(sandbox.id.clone())).unwrap();
    let gone = engine.begin(&sandbox, &engine.shell("true"));
    assert!(matches!(gone, Err(EngineError::NoSandbox(_))));
    engine.finish();
}
