//! A newer program finds an older keeper: it takes over, and nothing that runs notices.

mod support;

use std::time::Duration;

use support::{World, eventually, lines, parent_of, world};
use wharf_engine::log::Stream;
use wharf_engine::{ContainerId, ContainerSpec, ContainerState, Engine, SandboxId, Signal};
use wharf_engine_keeper::{Connected, KeeperConfig, KeeperEngine, PROTOCOL_VERSION};

async fn started(world: &World, sandbox: &SandboxId, spec: ContainerSpec) -> (ContainerId, u32) {
    let id = spec.id.clone();
    match world.engine.start_container(sandbox, spec).await.unwrap().state {
        ContainerState::Running { pid, .. } => (id, pid),
        state => panic!("{state:?}"),
    }
}

/// The same engine, as the next release's program would open it.
async fn upgrade(world: &mut World, protocol: u32) -> Connected {
    // An upgraded program has gone before the next comes.
    let config = KeeperConfig { protocol, ..world.config.clone() };
    world.config = config.clone();
    let (engine, connected) = KeeperEngine::connect_or_start(config).await.unwrap();
    world.engine = engine;
    connected
}

#[tokio::test]
async fn an_upgrade_keeps_pids_lines_stops_and_exit_codes() {
    let Some(mut world) = world("an_upgrade_keeps").await else { return };
    let sandbox = world.sandbox("s").await;
    let script = "i=0; while [ ! -e /go ]; do echo line $i; echo error $i >&2; i=$((i+1)); done; exit 9";
    let (printer, pid) = started(&world, &sandbox, world.sh("c", script)).await;
    let sleeper_spec = world.spec("d", &["/bin/sleep", "1000"]);
    let (sleeper, sleeping) = started(&world, &sandbox, sleeper_spec.clone()).await;
    let stubborn = world.sh("e", "trap '' TERM; echo ready; while :; do sleep 0.05; done");
    let (stubborn, _) = started(&world, &sandbox, stubborn).await;
    world.engine.stop_container(&stubborn, Signal::TERM, Duration::from_secs(2)).await.unwrap();

    let supervisor = parent_of(world.engine.keeper_pid().unwrap());
    for release in 1..=4 {
        eventually("it prints", async || {
            world.engine.read_log(&printer, 0, 4 << 20).await.unwrap().records.len() > release * 200
        })
        .await
        .unwrap();
        let keeper = world.engine.keeper_pid().unwrap();
        upgrade(&mut world, PROTOCOL_VERSION + u32::try_from(release).unwrap()).await;
        let successor = world.engine.keeper_pid().unwrap();
        assert_ne!(successor, keeper);
        assert_eq!(parent_of(successor), supervisor, "the containers' parent is the same process");
        for (id, pid) in [(&printer, pid), (&sleeper, sleeping)] {
            let state = world.engine.status(id).await.unwrap().state;
            assert!(matches!(state, ContainerState::Running { pid: is, .. } if is == pid), "{state:?}");
        }
    }
    // A control plane repeats what it did, perhaps with more than the last release knew.
    let mut repeated = sleeper_spec;
    repeated.labels.push(("new".to_owned(), "field".to_owned()));
    world.engine.start_container(&sandbox, repeated).await.unwrap();
    assert_eq!(world.exit_of(&stubborn).await.code, Some(137), "the stop is carried out");
    // What is started now is a child of the new keeper, beside the old one's.
    let (exit, _) = world.run(&sandbox, world.sh("f", "exit 3")).await;
    assert_eq!(exit.code, Some(3));

    std::fs::write(format!("/proc/{pid}/root/go"), "").unwrap();
    assert_eq!(world.exit_of(&printer).await.code, Some(9));
    let log = world.log(&printer).await;
    for (stream, word) in [(Stream::Stdout, "line"), (Stream::Stderr, "error")] {
        let lines = lines(&log, stream);
        assert_eq!(lines, (0..lines.len()).map(|i| format!("{word} {i}")).collect::<Vec<_>>());
    }
    world.engine.kill_container(&sleeper, Signal::KILL).await.unwrap();
    assert_eq!(world.exit_of(&sleeper).await.code, Some(137));
    world.end().await;
}

#[tokio::test]
async fn the_first_releases_keeper_is_ended_and_replaced() {
    let Some(mut world) = world("the_first_releases_keeper").await else { return };
    world.engine.shutdown().await.unwrap();
    let first = KeeperConfig { protocol: 1, ..world.config.clone() };
    let (engine, connected) = KeeperEngine::connect_or_start(first).await.unwrap();
    assert_eq!(connected, Connected::Started);
    let sandbox = SandboxId::new("s").unwrap();
    engine.create_sandbox(support::sandbox_spec("s")).await.unwrap();
    let spec = world.sh("c", "while [ ! -e /go ]; do sleep 0.02; done; exit 6");
    let id = spec.id.clone();
    let state = engine.start_container(&sandbox, spec).await.unwrap().state;
    let ContainerState::Running { pid, .. } = state else { panic!("{state:?}") };
    // Its program has gone, as it does before an upgrade; otherwise it would start its own again.
    drop(engine);
    upgrade(&mut world, PROTOCOL_VERSION).await;
    let state = world.engine.status(&id).await.unwrap().state;
    assert!(matches!(state, ContainerState::Running { pid: is, .. } if is == pid), "{state:?}");
    std::fs::write(format!("/proc/{pid}/root/go"), "").unwrap();
    assert_eq!(world.exit_of(&id).await.code, Some(6));
    world.end().await;
}

#[tokio::test]
async fn a_program_that_cannot_be_started_leaves_the_old_keeper_in_service() {
    let Some(world) = world("a_program_that_cannot_be_started").await else { return };
    let sandbox = world.sandbox("s").await;
    let (id, pid) = started(&world, &sandbox, world.spec("c", &["/bin/sleep", "1000"])).await;
    let broken = KeeperConfig {
        protocol: PROTOCOL_VERSION + 1,
        program: vec!["/nonexistent".into()],
        ..world.config.clone()
    };
    assert!(KeeperEngine::connect_or_start(broken).await.is_err());
    let state = world.engine.status(&id).await.unwrap().state;
    assert!(matches!(state, ContainerState::Running { pid: is, .. } if is == pid), "{state:?}");
    world.end().await;
}
