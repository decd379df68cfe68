//! Isolation, through the whole engine.

mod support;

use std::fs;
use std::path::Path;

use support::{World, lines, sandbox_spec, world};
use wharf_engine::log::Stream;
use wharf_engine::session::ExecSpec;
use wharf_engine::{ContainerId, ContainerState, Engine, SandboxId, SandboxSpec, Users};

async fn private(world: &World, name: &str) -> SandboxId {
    let spec = SandboxSpec { users: Users::Private, ..sandbox_spec(name) };
    let id = spec.id.clone();
    world.engine.create_sandbox(spec).await.unwrap();
    id
}

#[tokio::test]
async fn who_starts_containers_cannot_be_overwritten() {
    let Some(world) = world("who_starts_containers_cannot_be_overwritten").await else { return };
    let sandbox = world.sandbox("s").await;
    let status = world.engine.start_container(&sandbox, world.sh("c", "sleep 1000")).await.unwrap();
    let ContainerState::Running { pid, .. } = status.state else { panic!("{status:?}") };
    let stat = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = stat.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned();
    // Its own file is busy as long as it runs; what counts is that the way to it is read-only.
    let program = format!("/proc/{parent}/exe");
    let way = rustix::fs::statvfs(&program).unwrap();
    assert!(way.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY), "{program}");
    assert!(fs::OpenOptions::new().append(true).open(&program).is_err());

    // The kernel is made to execute it in the place of the container's program.
    let trap = world.image().join("bin/trap");
    fs::write(&trap, "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(&trap, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let caught = world.engine.start_container(&sandbox, world.spec("trap", &["/bin/trap"])).await;
    // It needs libraries that are not there, or runs and says that it is called wrongly: not a keeper.
    if caught.is_ok() {
        let exit = world.exit_of(&ContainerId::new("trap").unwrap()).await;
        assert_ne!(exit.code, Some(0));
    }
    world.engine.remove_sandbox(&sandbox).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_sandbox_with_users_of_its_own_logs_and_leaves_nothing() {
    let Some(world) = world("a_sandbox_with_users_of_its_own_logs_and_leaves_nothing").await else { return };
    let sandbox = private(&world, "s").await;
    let script = "cat /proc/self/uid_map; echo out > /dev/stdout; echo x > /made; exit 3";
    let (exit, log) = world.run(&sandbox, world.sh("c", script)).await;
    assert_eq!(exit.code, Some(3));
    let said = lines(&log, Stream::Stdout);
    let map: Vec<&str> = said[0].split_whitespace().collect();
    assert_eq!((map[0], map[2], said[1].as_str()), ("0", "65536", "out"));
    assert!(map[1].parse::<u32>().unwrap() >= 0x7000_0000, "{said:?}");
    // Every container of the sandbox has the same ids.
    let (_, again) = world.run(&sandbox, world.sh("d", "cat /proc/self/uid_map")).await;
    assert_eq!(lines(&again, Stream::Stdout)[0], said[0]);
    world.engine.remove_sandbox(&sandbox).await.unwrap();
    let taken = world.config.dir.join("sandboxes/.users");
    assert!(Path::new(&taken).is_dir() && fs::read_dir(&taken).unwrap().next().is_none());
    world.end().await;
}

/// What a program beside the container's own prints.
async fn said(world: &World, container: &ContainerId, user: Option<&str>, script: &str) -> String {
    let spec = ExecSpec {
        user: user.map(str::to_owned),
        ..ExecSpec::new(["/bin/sh", "-c", script].map(str::to_owned).to_vec())
    };
    let mut session = world.engine.exec(container, spec).await.expect("it runs");
    drop(session.input.take());
    let mut bytes = Vec::new();
    while let Some(chunk) = session.output.recv().await {
        bytes.extend(chunk.bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_program_beside_a_containers_own_has_its_users() {
    let Some(world) = world("a_program_beside_a_containers_own_has_its_users").await else { return };
    let sandbox = private(&world, "s").await;
    let mut spec = world.sh("c", "while :; do sleep 1; done");
    spec.process.user = "1000:1000".to_owned();
    world.engine.start_container(&sandbox, spec).await.unwrap();
    let id = ContainerId::new("c").unwrap();
    let as_itself = said(&world, &id, None, "echo x > /made").await;
    assert!(as_itself.contains("denied"), "{as_itself}");
    // The image's files are root's; and root has power over the container's other users: that takes the
    // very namespace that they have.
    let script = "echo x > /made && cat /made; echo y > /dev/stdout; kill -9 1 && echo sent; \
                  while read line; do case $line in Uid:*) echo $line;; esac; done < /proc/1/status; \
                  cat /proc/self/uid_map";
    let as_root = said(&world, &id, Some("0:0"), script).await;
    let lines: Vec<&str> = as_root.lines().collect();
    assert_eq!(lines[..3], ["x", "y", "sent"], "{as_root}");
    assert_eq!(lines[3].split_whitespace().nth(1), Some("1000"), "{as_root}");
    let map: Vec<&str> = lines[4].split_whitespace().collect();
    assert_eq!((map[0], map[2]), ("0", "65536"), "{as_root}");
    world.engine.remove_sandbox(&sandbox).await.unwrap();
    world.end().await;
}
