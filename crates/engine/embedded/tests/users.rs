//! A sandbox with users of its own: what its containers see, and what the host sees of them.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

use common::{Engine, sandbox};
use wharf_engine::{EngineError, Mount, Privileges, SandboxResources, SandboxSpec, Tmpfs, Users};
use wharf_engine_embedded::spawner::Request;

fn private() -> SandboxSpec {
    SandboxSpec { users: Users::Private, ..sandbox(SandboxResources::default()) }
}

#[test]
fn root_inside_is_nobody_outside() {
    let Some(engine) = Engine::start() else { return };
    let sandbox = private();
    engine.ask(&Request::CreateSandbox(sandbox.clone())).unwrap();
    let running =
        engine.begin(&sandbox, &engine.shell("id; cat /proc/self/uid_map; echo; sleep 60")).unwrap();
    let said = common::read_until(&running.stdout, "\n\n");
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid)).unwrap();
    let uid = |name: &str| -> u32 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    assert!(uid("Uid:") >= 0x7000_0000 && uid("Uid:") == uid("Gid:"), "{status}");
    assert_ne!(
        fs::read_link(format!("/proc/{}/ns/user", running.pid)).unwrap(),
        fs::read_link("/proc/self/ns/user").unwrap()
    );
    let base = uid("Uid:");
    engine.ask(&Request::RemoveSandbox(sandbox.id.clone())).unwrap();
    engine.end(&running);
    assert!(said.starts_with("uid=0(root) gid=0(root)"), "{said}");
    assert_eq!(
        said.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>(),
        ["0", &base.to_string(), "65536"]
    );
    engine.finish();
}

#[test]
fn files_of_the_image_keep_their_owners_inside_and_on_disk() {
    let Some(engine) = Engine::start() else { return };
    let (top, volume) = (engine.layer("top"), engine.layer("volume"));
    for (name, owner) in [("zero", 0), ("app", 1000), ("high", 65_535)] {
        fs::write(top.join(name), name).unwrap();
        chown(top.join(name), Some(owner), Some(owner)).unwrap();
    }
    fs::set_permissions(top.join("app"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(volume.join("old"), "v").unwrap();
    chown(volume.join("old"), Some(1000), Some(1001)).unwrap();
    let mut spec = engine.shell(
        "stat -c '%n %u %g' /zero /app /high / /etc/hosts /dev /dev/null /dev/shm /tmp /scratch /data/old; \
         touch /new /data/new; chown 1000:1001 /data/new; cat /app; echo >> /app; echo more >> /etc/hosts",
    );
    spec.layers.insert(0, top.clone());
    spec.mounts = vec![Mount::host(volume.clone(), "/data")];
    spec.tmpfs =
        vec![Tmpfs { target: "/scratch".into(), size_bytes: 1 << 20, options: vec!["uid=1000".into()] }];
    let ended = engine.run_in(&private(), &spec).unwrap();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(
        ended.stdout,
        "/zero 0 0\n/app 1000 1000\n/high 65535 65535\n/ 0 0\n/etc/hosts 0 0\n/dev 0 0\n/dev/null 0 0\n\
         /dev/shm 0 0\n/tmp 0 0\n/scratch 1000 0\n/data/old 1000 1001\napp"
    );
    // What it wrote has the owners that it knows, not those of its range.
    let made = fs::metadata(volume.join("new")).unwrap();
    assert_eq!((made.uid(), made.gid()), (1000, 1001));
    assert_eq!(fs::read_to_string(top.join("app")).unwrap(), "app");
    engine.finish();
}

#[test]
fn a_user_of_the_image_is_one_of_the_sandboxs() {
    let Some(engine) = Engine::start() else { return };
    let mut spec = engine.shell("id; echo x > /dev/stdout; pwd; ls -ld . | cut -c1-10; touch here");
    spec.process.user = "app".into();
    spec.process.working_dir = "/home/made".into();
    let ended = engine.run_in(&private(), &spec).unwrap();
    assert_eq!(
        ended.stdout, "uid=1000(app) gid=1001(app) groups=44(video)\nx\n/home/made\ndrwxr-xr-x\n",
        "{ended:?}"
    );
    assert!(ended.stderr.contains("denied"), "{ended:?}");
    spec.process.user = "70000".into();
    match engine.run_in(&private(), &spec) {
        Err(EngineError::Start { exit_code: 126, message }) => {
            assert!(message.contains("70000"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    engine.finish();
}

#[test]
fn two_sandboxes_have_no_id_in_common_and_give_theirs_back() {
    let Some(engine) = Engine::start() else { return };
    let sandboxes = [private(), private()];
    let map = |sandbox: &SandboxSpec| {
        let running = engine.begin(sandbox, &engine.spec(&["cat", "/proc/self/uid_map"])).unwrap();
        engine.end(&running).stdout
    };
    for sandbox in &sandboxes {
        engine.ask(&Request::CreateSandbox(sandbox.clone())).unwrap();
    }
    assert_ne!(map(&sandboxes[0]), map(&sandboxes[1]));
    assert_eq!(map(&sandboxes[0]), map(&sandboxes[0]));
    let taken = || fs::read_dir(engine.path("sandboxes/.users")).unwrap().count();
    assert_eq!(taken(), 2);
    for sandbox in &sandboxes {
        engine.ask(&Request::RemoveSandbox(sandbox.id.clone())).unwrap();
    }
    assert_eq!(taken(), 0);
    engine.finish();
}

#[test]
fn a_privileged_container_has_the_hosts_users() {
    let Some(engine) = Engine::start() else { return };
    let mut spec = engine.shell("true");
    spec.privileges = Privileges::Privileged;
    assert!(matches!(engine.run_in(&private(), &spec), Err(EngineError::Unsupported { .. })));
    engine.finish();
}
