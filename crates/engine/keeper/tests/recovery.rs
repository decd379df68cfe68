//! Deaths: of the control plane, of the keeper, of a spawner; and what is there afterwards.

mod support;

use std::time::Duration;

use support::{World, children_of, eventually, is_alive, kill_hard, lines, parent_of, world};
use wharf_engine::log::Stream;
use wharf_engine::{
    ContainerId, ContainerSpec, ContainerState, Engine, EngineError, EventKind, SandboxId, Signal,
};
use wharf_engine_keeper::testing::Footprint;
use wharf_engine_keeper::{Connected, KeeperEngine};

async fn started(world: &World, sandbox: &SandboxId, spec: ContainerSpec) -> (ContainerId, u32) {
    let id = spec.id.clone();
    match world.engine.start_container(sandbox, spec).await.unwrap().state {
        ContainerState::Running { pid, .. } => (id, pid),
        state => panic!("{state:?}"),
    }
}

async fn pid_of(world: &World, id: &ContainerId) -> Option<u32> {
    match world.engine.status(id).await.unwrap().state {
        ContainerState::Running { pid, .. } => Some(pid),
        _ => None,
    }
}

/// Tells the container to go on, by a file in its root.
fn go(pid: u32) {
    std::fs::write(format!("/proc/{pid}/root/go"), "").unwrap();
}

async fn has_printed(world: &World, id: &ContainerId, records: usize) {
    eventually("it prints", async || {
        world.engine.read_log(id, 0, 4 << 20).await.unwrap().records.len() >= records
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_leak_check_sees_what_is_there() {
    let Some(world) = world("the_leak_check").await else { return };
    let sandbox = world.sandbox("s").await;
    started(&world, &sandbox, world.spec("c", &["/bin/sleep", "1000"])).await;
    let found = format!("{:?}", Footprint::of(&world.config.instance, &world.config.dir));
    for kind in ["mount ", "cgroup ", "process ", "file "] {
        assert!(found.contains(kind), "{kind}: {found}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_new_control_plane_finds_containers_logs_and_exits() {
    let Some(mut world) = world("a_new_control_plane").await else { return };
    let sandbox = world.sandbox("s").await;
    let script = "echo before; while [ ! -e /go ]; do sleep 0.02; done; echo after; exit 5";
    let (id, pid) = started(&world, &sandbox, world.sh("c", script)).await;
    let keeper = world.engine.keeper_pid();
    has_printed(&world, &id, 1).await;
    let read = world.engine.read_log(&id, 0, 1 << 20).await.unwrap().next;

    // The control plane goes, and the container ends while nobody looks.
    let (replacement, _) = KeeperEngine::connect_or_start(world.config.clone()).await.unwrap();
    drop(std::mem::replace(&mut world.engine, replacement));
    assert_eq!(pid_of(&world, &id).await, Some(pid));
    go(pid);
    eventually("it ends", async || !is_alive(pid)).await.unwrap();

    let (engine, connected) = KeeperEngine::connect_or_start(world.config.clone()).await.unwrap();
    assert_eq!(connected, Connected::Found);
    world.engine = engine;
    assert_eq!(world.engine.keeper_pid(), keeper);
    assert_eq!(world.exit_of(&id).await.code, Some(5));
    let rest = world.engine.read_log(&id, read, 1 << 20).await.unwrap();
    assert_eq!(rest.records.iter().map(|record| record.text.as_slice()).collect::<Vec<_>>(), [b"after"]);
    assert!(rest.ended);
    world.end().await;
}

#[tokio::test]
async fn a_killed_keeper_is_replaced_and_not_a_line_is_lost_or_doubled() {
    let Some(world) = world("a_killed_keeper").await else { return };
    let sandbox = world.sandbox("s").await;
    // Prints as fast as it can, on both streams, until it is told to end.
    let script =
        "i=0; while [ ! -e /go ]; do echo line $i; echo error $i >&2; i=$((i+1)); done; echo last $i; exit 9";
    let (id, pid) = started(&world, &sandbox, world.sh("c", script)).await;
    let (sleeper, sleeping) = started(&world, &sandbox, world.spec("d", &["/bin/sleep", "1000"])).await;
    let mut events = world.engine.events();
    for round in 1..=8 {
        has_printed(&world, &id, round * 200).await;
        let keeper = world.engine.keeper_pid().unwrap();
        kill_hard(keeper).await;
        assert_eq!(pid_of(&world, &id).await, Some(pid), "the same process");
        assert_eq!(pid_of(&world, &sleeper).await, Some(sleeping));
        assert_ne!(world.engine.keeper_pid(), Some(keeper));
    }
    go(pid);
    assert_eq!(
        world.exit_of(&id).await.code,
        Some(9),
        "the exit code of a process that is not the keeper's child"
    );
    let log = world.log(&id).await;
    let errors = lines(&log, Stream::Stderr);
    assert_eq!(errors, (0..errors.len()).map(|i| format!("error {i}")).collect::<Vec<_>>());
    let mut expected: Vec<String> = (0..errors.len()).map(|i| format!("line {i}")).collect();
    expected.push(format!("last {}", errors.len()));
    assert_eq!(lines(&log, Stream::Stdout), expected);

    world.engine.kill_container(&sleeper, Signal::KILL).await.unwrap();
    assert_eq!(world.exit_of(&sleeper).await.code, Some(137));
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let EventKind::Exited(exit) = event.kind {
            told.push((event.container, exit.code));
        }
    }
    assert_eq!(told, [(id, Some(9)), (sleeper, Some(137))]);
    world.end().await;
}

#[tokio::test]
async fn a_stop_is_carried_out_by_the_next_keeper() {
    let Some(world) = world("a_stop_is_carried_out").await else { return };
    let sandbox = world.sandbox("s").await;
    let script = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let (id, _) = started(&world, &sandbox, world.sh("c", script)).await;
    has_printed(&world, &id, 1).await;
    world.engine.stop_container(&id, Signal::TERM, Duration::from_millis(1500)).await.unwrap();
    kill_hard(world.engine.keeper_pid().unwrap()).await;
    assert_eq!(world.exit_of(&id).await.code, Some(137));
    world.end().await;
}

#[tokio::test]
async fn what_ends_while_no_keeper_lives_loses_neither_its_last_words_nor_its_exit_code() {
    let Some(world) = world("what_ends_while_no_keeper_lives").await else { return };
    let sandbox = world.sandbox("s").await;
    let script = "while [ ! -e /go ]; do sleep 0.02; done; seq 1 5000; echo end >&2; exit 7";
    let (id, pid) = started(&world, &sandbox, world.sh("c", script)).await;
    let (victim, killed) = started(&world, &sandbox, world.spec("d", &["/bin/sleep", "1000"])).await;
    let keeper = world.engine.keeper_pid().unwrap();
    // The supervisor shall not start another too soon.
    let supervisor = parent_of(keeper);
    signal(supervisor, rustix::process::Signal::STOP);
    kill_hard(keeper).await;
    go(pid);
    signal(killed, rustix::process::Signal::KILL);
    eventually("they end", async || !is_alive(pid) && !is_alive(killed)).await.unwrap();
    signal(supervisor, rustix::process::Signal::CONT);

    assert_eq!(world.exit_of(&id).await.code, Some(7));
    assert_eq!(world.exit_of(&victim).await.code, Some(137));
    let log = world.log(&id).await;
    assert_eq!(lines(&log, Stream::Stdout), (1..=5000).map(|i| i.to_string()).collect::<Vec<_>>());
    assert_eq!(lines(&log, Stream::Stderr), ["end"]);
    eventually("they are reaped", async || children_of(supervisor).len() == 1).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_killed_keeper_is_replaced_though_no_control_plane_lives() {
    let Some(mut world) = world("a_killed_keeper_without").await else { return };
    let sandbox = world.sandbox("s").await;
    let (id, pid) = started(&world, &sandbox, world.sh("c", "sleep 0.2; echo on; sleep 1000")).await;
    let keeper = world.engine.keeper_pid().unwrap();
    let supervisor = parent_of(keeper);
    let config = world.config.clone();
    drop(world.engine);
    kill_hard(keeper).await;
    eventually("another is there", async || {
        children_of(supervisor).iter().any(|pid| *pid != keeper && is_alive(*pid))
    })
    .await
    .unwrap();
    let (engine, connected) = KeeperEngine::connect_or_start(config).await.unwrap();
    assert_eq!(connected, Connected::Found);
    world.engine = engine;
    assert_eq!(pid_of(&world, &id).await, Some(pid));
    has_printed(&world, &id, 1).await;
    world.end().await;
}

#[tokio::test]
async fn a_killed_supervisor_is_replaced() {
    let Some(world) = world("a_killed_supervisor").await else { return };
    let sandbox = world.sandbox("s").await;
    let script = "i=0; while [ ! -e /go ]; do echo $i; i=$((i+1)); done; exit 9";
    let (id, pid) = started(&world, &sandbox, world.sh("c", script)).await;
    for round in 1..=4 {
        has_printed(&world, &id, round * 200).await;
        let keeper = world.engine.keeper_pid().unwrap();
        let supervisor = parent_of(keeper);
        kill_hard(supervisor).await;
        // The keeper takes its place.
        eventually("there is a supervisor", async || {
            world.engine.list().await.unwrap();
            world.engine.keeper_pid().is_some_and(|pid| parent_of(pid) == keeper)
        })
        .await
        .unwrap();
        assert_eq!(pid_of(&world, &id).await, Some(pid));
        if round % 2 == 0 {
            // And does its work.
            kill_hard(world.engine.keeper_pid().unwrap()).await;
            assert_eq!(pid_of(&world, &id).await, Some(pid));
        }
    }
    go(pid);
    assert_eq!(world.exit_of(&id).await.code, Some(9));
    let lines = lines(&world.log(&id).await, Stream::Stdout);
    assert_eq!(lines, (0..lines.len()).map(|i| i.to_string()).collect::<Vec<_>>());
    world.end().await;
}

#[tokio::test]
async fn all_killed_at_once_are_replaced() {
    let Some(world) = world("all_killed_at_once").await else { return };
    let sandbox = world.sandbox("s").await;
    let script = "i=0; while [ ! -e /go ]; do echo $i; i=$((i+1)); done; exit 9";
    let (id, pid) = started(&world, &sandbox, world.sh("c", script)).await;
    for round in 1..=3 {
        has_printed(&world, &id, round * 200).await;
        let keeper = world.engine.keeper_pid().unwrap();
        let supervisor = parent_of(keeper);
        for pid in [supervisor, keeper] {
            signal(pid, rustix::process::Signal::KILL);
        }
        eventually("both are dead", async || !is_alive(keeper) && !is_alive(supervisor)).await.unwrap();
        assert_eq!(pid_of(&world, &id).await, Some(pid));
    }
    go(pid);
    assert_eq!(world.exit_of(&id).await.code, Some(9));
    let lines = lines(&world.log(&id).await, Stream::Stdout);
    assert_eq!(lines, (0..lines.len()).map(|i| i.to_string()).collect::<Vec<_>>());
    world.end().await;
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let process = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(process, signal).unwrap();
}

#[tokio::test]
async fn calls_in_flight_survive_the_keeper() {
    let Some(world) = world("calls_in_flight").await else { return };
    let sandbox = world.sandbox("s").await;
    let mut starting = tokio::task::JoinSet::new();
    for index in 0..40 {
        let engine = world.engine.clone();
        let sandbox = sandbox.clone();
        let spec = world.spec(&format!("c{index}"), &["/bin/sleep", "1000"]);
        starting.spawn(async move { engine.start_container(&sandbox, spec).await });
    }
    starting.join_next().await.unwrap().unwrap().unwrap();
    kill_hard(world.engine.keeper_pid().unwrap()).await;
    while let Some(result) = starting.join_next().await {
        result.unwrap().unwrap();
    }
    let listed = world.engine.list().await.unwrap();
    let running =
        listed[0].containers.iter().filter(|status| matches!(status.state, ContainerState::Running { .. }));
    assert_eq!(running.count(), 40);
    world.end().await;
}

#[tokio::test]
async fn a_spawner_that_dies_is_replaced() {
    let Some(world) = world("a_spawner_that_dies").await else { return };
    let sandbox = world.sandbox("s").await;
    let keeper = world.engine.keeper_pid().unwrap();
    let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap();
    let spawners: Vec<u32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(spawners.len(), world.config.spawners);
    for spawner in spawners {
        kill_hard(spawner).await;
    }
    for index in 0..8 {
        // One that a dying spawner was given is refused, and may be asked for again.
        let spec = world.sh(&format!("c{index}"), "exit 4");
        let id = spec.id.clone();
        while let Err(error) = world.engine.start_container(&sandbox, spec.clone()).await {
            assert!(matches!(error, EngineError::Internal { .. }), "{error:?}");
        }
        assert_eq!(world.exit_of(&id).await.code, Some(4));
    }
    assert_eq!(world.engine.keeper_pid(), Some(keeper));
    world.end().await;
}

#[tokio::test]
async fn a_torn_state_file_does_not_keep_the_next_keeper_from_serving() {
    let Some(world) = world("a_torn_state_file").await else { return };
    let sandbox = world.sandbox("s").await;
    let (id, pid) = started(&world, &sandbox, world.spec("c", &["/bin/sleep", "1000"])).await;
    let state = world.config.dir.join("keeper.state");
    let mut bytes = std::fs::read(&state).unwrap();
    bytes.extend_from_slice(&[200, 0, 0, 0, 1, 2, 3]);
    std::fs::write(&state, bytes).unwrap();
    kill_hard(world.engine.keeper_pid().unwrap()).await;
    assert_eq!(pid_of(&world, &id).await, Some(pid));
    world.end().await;
}

#[tokio::test]
async fn two_keepers_never_share_a_directory_and_deep_directories_work() {
    let Some(mut world) = world("two_keepers").await else { return };
    // Far beyond the 108 bytes of a socket's address.
    let deep = world.image().parent().unwrap().join("d".repeat(120)).join("e".repeat(120));
    let config = wharf_engine_keeper::KeeperConfig { dir: deep, ..world.config.clone() };
    let config = wharf_engine_keeper::KeeperConfig { instance: format!("{}-b", config.instance), ..config };
    let (one, two) = tokio::join!(
        KeeperEngine::connect_or_start(config.clone()),
        KeeperEngine::connect_or_start(config.clone())
    );
    let (one, two) = (one.unwrap().0, two.unwrap().0);
    assert_eq!(one.keeper_pid(), two.keeper_pid());
    one.shutdown().await.unwrap();
    eventually("it is gone", async || Footprint::of(&config.instance, &config.dir) == Footprint::default())
        .await
        .unwrap();
    let (engine, _) = KeeperEngine::connect_or_start(world.config.clone()).await.unwrap();
    world.engine = engine;
    world.end().await;
}

#[tokio::test]
async fn a_keeper_of_another_version_is_named_and_left_alone() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let dir = tempfile::tempdir().unwrap();
    let listener = tokio::net::UnixListener::bind(dir.path().join("keeper.sock")).unwrap();
    let keeper = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        client.write_all(b"WHKP\x63\0\0\0").await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        rest.len()
    });
    let config = wharf_engine_keeper::KeeperConfig::new(dir.path(), vec!["/nonexistent".into()]);
    let error = KeeperEngine::connect_or_start(config).await.err().unwrap().to_string();
    assert!(error.contains("version 99"), "{error}");
    assert_eq!(keeper.await.unwrap(), 8, "nothing is asked of it");
}

#[tokio::test]
async fn a_keeper_that_cannot_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let start = async |program: &str| {
        let config = wharf_engine_keeper::KeeperConfig::new(dir.path(), vec![program.into()]);
        KeeperEngine::connect_or_start(config).await.err().unwrap().to_string()
    };
    assert!(start("/nonexistent").await.contains("/nonexistent"));
    assert!(start("/bin/true").await.contains("keeper.log"));
}

#[tokio::test]
async fn a_start_that_fails_leaves_nothing_in_memory() {
    // What lies where the keeper wants its own: before it has led `pipes` into memory, and after.
    for obstacle in ["pipes", "keeper.batch"] {
        let dir = tempfile::tempdir().unwrap();
        match obstacle {
            "pipes" => std::fs::write(dir.path().join(obstacle), "").unwrap(),
            _ => std::fs::create_dir(dir.path().join(obstacle)).unwrap(),
        }
        let program = env!("CARGO_BIN_EXE_wharf-keeper").into();
        let config = wharf_engine_keeper::KeeperConfig::new(dir.path(), vec![program]);
        let in_memory = format!("/dev/shm/wharf-{}", config.instance);
        let error = KeeperEngine::connect_or_start(config).await.err().unwrap().to_string();
        assert!(error.contains(obstacle), "{error}");
        assert!(!std::path::Path::new(&in_memory).exists(), "{obstacle}");
    }
}
