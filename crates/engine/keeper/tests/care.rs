//! Health, restarts, pauses and statistics of real containers, through the keeper and past its death.
#![allow(clippy::disallowed_methods, reason = "that a stop does not wait shows in time")]

mod support;

use std::time::{Duration, Instant};

use support::{World, eventually, kill_hard, world};
use wharf_engine::log::Stream;
use wharf_engine::{
    ContainerId, ContainerSpec, ContainerState, Engine, EngineError, EventKind, EventStream, HealthCheck,
    HealthStatus, RestartPolicy, SandboxId, SandboxResources, SandboxSpec, Signal,
};

const SECOND: Duration = Duration::from_secs(1);

fn check(script: &str) -> HealthCheck {
    HealthCheck {
        args: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        interval: Duration::from_millis(30),
        timeout: 20 * SECOND,
        retries: 2,
        start_period: Duration::ZERO,
    }
}

async fn start(world: &World, sandbox: &SandboxId, spec: ContainerSpec) -> ContainerId {
    let id = spec.id.clone();
    world.engine.start_container(sandbox, spec).await.unwrap();
    id
}

/// The next event of this kind.
async fn next(events: &mut EventStream, what: &str, wanted: impl Fn(&EventKind) -> bool) -> EventKind {
    let wait = async {
        loop {
            let event = events.recv().await.unwrap();
            if wanted(&event.kind) {
                return event.kind;
            }
        }
    };
    tokio::time::timeout(60 * SECOND, wait).await.unwrap_or_else(|_| panic!("no event: {what}"))
}

async fn next_health(events: &mut EventStream) -> HealthStatus {
    match next(events, "health", |kind| matches!(kind, EventKind::Health(_))).await {
        EventKind::Health(status) => status,
        _ => unreachable!(),
    }
}

async fn stop(world: &World, container: &ContainerId) {
    world.engine.stop_container(container, Signal::KILL, SECOND).await.unwrap();
    world.engine.wait_container(container).await.unwrap();
}

#[tokio::test]
async fn health_is_what_the_probe_inside_the_container_says() {
    let Some(world) = world("health").await else { return };
    let sandbox = world.sandbox("s").await;
    let mut events = world.engine.events();
    let script = "echo seen by $(cat /tmp/who); test -e /tmp/ok";
    let spec = ContainerSpec {
        health: Some(check(script)),
        ..world.sh(
            "c",
            "trap 'rm /tmp/ok' USR1; echo me > /tmp/who; touch /tmp/ok; while true; do usleep 1000; done",
        )
    };
    let id = start(&world, &sandbox, spec).await;
    assert_eq!(next_health(&mut events).await, HealthStatus::Healthy);
    let status = world.engine.status(&id).await.unwrap();
    assert_eq!(status.health, Some(HealthStatus::Healthy));
    let report = world.engine.health(&id).await.unwrap().unwrap();
    assert_eq!(report.probes.last().unwrap().output, "seen by me\n");
    assert_eq!(report.probes.last().unwrap().exit_code, Some(0));

    // It is told by its first process to say no.
    world.engine.kill_container(&id, Signal(10)).await.unwrap();
    assert_eq!(next_health(&mut events).await, HealthStatus::Unhealthy);
    let report = world.engine.health(&id).await.unwrap().unwrap();
    assert!(report.failing_streak >= 2, "{report:?}");
    assert!(report.probes.iter().any(|probe| probe.exit_code == Some(1)), "{report:?}");
    stop(&world, &id).await;
    world.end().await;
}

#[tokio::test]
async fn a_probe_that_hangs_is_killed_with_all_that_it_started() {
    let Some(world) = world("hanging probe").await else { return };
    let sandbox = world.sandbox("s").await;
    let mut events = world.engine.events();
    let hangs = HealthCheck {
        timeout: Duration::from_millis(300),
        retries: 1,
        ..check("(sleep 777 & sleep 777 &); echo hanging; sleep 777")
    };
    // Whatever is killed is an orphan in its container, and reaped by its first process.
    let init = wharf_engine::Init::Reaper;
    let spec = ContainerSpec { health: Some(hangs), init, ..world.sh("c", "sleep 1000") };
    let id = start(&world, &sandbox, spec).await;
    assert_eq!(next_health(&mut events).await, HealthStatus::Unhealthy);
    let report = world.engine.health(&id).await.unwrap().unwrap();
    let probe = report.probes.last().unwrap();
    assert_eq!(probe.exit_code, None);
    assert!(probe.output.contains("exceeded timeout"), "{probe:?}");
    // One probe at most is alive at a time: its shells and three sleeps, beside the container's own two.
    for _ in 0..20 {
        let most = std::sync::atomic::AtomicU64::new(0);
        eventually("a probe comes and goes", async || {
            let pids = world.engine.stats(&id).await.unwrap().pids;
            most.fetch_max(pids, std::sync::atomic::Ordering::Relaxed).max(pids) > 2 && pids <= 2
        })
        .await
        .unwrap();
        assert!(most.into_inner() <= 8, "processes are left");
    }
    stop(&world, &id).await;
    world.end().await;
}

#[tokio::test]
async fn a_probe_that_cannot_be_run_fails_and_its_output_is_bounded() {
    let Some(world) = world("probes that fail").await else { return };
    let sandbox = world.sandbox("s").await;
    let mut events = world.engine.events();
    let missing = HealthCheck { args: vec!["/no/such".into()], retries: 1, ..check("") };
    let spec = ContainerSpec { health: Some(missing), ..world.sh("missing", "sleep 1000") };
    let id = start(&world, &sandbox, spec).await;
    assert_eq!(next_health(&mut events).await, HealthStatus::Unhealthy);
    let report = world.engine.health(&id).await.unwrap().unwrap();
    assert_eq!(report.probes[0].exit_code, Some(127));
    stop(&world, &id).await;

    // More than its pipe holds: it goes on, and the beginning is kept.
    let loud = check("seq 1 100000; exit 0");
    let spec = ContainerSpec { health: Some(loud), ..world.sh("loud", "sleep 1000") };
    let id = start(&world, &sandbox, spec).await;
    assert_eq!(next_health(&mut events).await, HealthStatus::Healthy);
    let report = world.engine.health(&id).await.unwrap().unwrap();
    assert_eq!(report.probes[0].output.len(), wharf_engine::PROBE_OUTPUT_BYTES_MAX);
    assert!(report.probes[0].output.starts_with("1\n2\n3\n"));
    stop(&world, &id).await;
    world.end().await;
}

#[tokio::test]
async fn health_is_asked_for_while_no_client_lives_and_after_the_keepers_death() {
    let Some(world) = world("health survives").await else { return };
    let sandbox = world.sandbox("s").await;
    let spec = ContainerSpec {
        health: Some(HealthCheck { retries: 1, ..check("echo x >> /tmp/asked; test -e /tmp/ok") }),
        ..world.sh("c", "touch /tmp/ok; while [ $(cat /tmp/asked 2>/dev/null | wc -l) -lt 20 ]; do usleep 1000; done; rm /tmp/ok; sleep 1000")
    };
    let mut events = world.engine.events();
    let id = start(&world, &sandbox, spec).await;
    assert_eq!(next_health(&mut events).await, HealthStatus::Healthy);
    // A new keeper knows what the old one said, and goes on asking.
    kill_hard(world.engine.keeper_pid().unwrap()).await;
    eventually("the status is told again", async || {
        world.engine.status(&id).await.is_ok_and(|status| status.health.is_some())
    })
    .await
    .unwrap();
    eventually("it is asked on", async || {
        world.engine.status(&id).await.is_ok_and(|status| status.health == Some(HealthStatus::Unhealthy))
    })
    .await
    .unwrap();
    stop(&world, &id).await;
    world.end().await;
}

#[tokio::test]
async fn the_probes_of_one_that_is_started_again_keep_their_interval() {
    let Some(world) = world("probes after restarts").await else { return };
    let sandbox = world.sandbox("s").await;
    let interval = Duration::from_millis(600);
    let spec = ContainerSpec {
        health: Some(HealthCheck { interval, ..check("true") }),
        restart: Some(RestartPolicy::Always),
        ..world
            .sh("c", "echo run >> /tmp/runs; [ $(cat /tmp/runs | wc -l) -lt 3 ] && exit 1; exec sleep 1000")
    };
    let id = start(&world, &sandbox, spec).await;
    eventually("it is asked three times", async || {
        world.engine.health(&id).await.unwrap().unwrap().probes.len() >= 3
    })
    .await
    .unwrap();
    let status = world.engine.status(&id).await.unwrap();
    assert_eq!(status.restarts, 2);
    let ContainerState::Running { started_at, .. } = status.state else { panic!("{status:?}") };
    let probes = world.engine.health(&id).await.unwrap().unwrap().probes;
    let before = std::iter::once(started_at).chain(probes.iter().map(|probe| probe.ended_at));
    for (end, probe) in before.zip(&probes) {
        // Two clocks, both in whole milliseconds.
        let waited = probe.started_at.since(end) + Duration::from_millis(10);
        assert!(waited >= interval, "{waited:?}: {probes:?}");
    }
    stop(&world, &id).await;
    world.end().await;
}

#[tokio::test]
async fn a_container_is_started_again_with_its_files_and_its_log() {
    let Some(world) = world("restart").await else { return };
    let sandbox = world.sandbox("s").await;
    let mut events = world.engine.events();
    let spec = ContainerSpec {
        restart: Some(RestartPolicy::OnFailure { attempts_max: Some(3) }),
        ..world.sh("c", "echo run >> /tmp/runs; cat /tmp/runs | wc -l; exit 9")
    };
    let id = start(&world, &sandbox, spec.clone()).await;
    let mut restarts = 0;
    let exit = loop {
        let kind = next(&mut events, "an end", |kind| {
            matches!(kind, EventKind::Restarting { .. } | EventKind::Exited(_))
        })
        .await;
        match kind {
            EventKind::Restarting { exit, .. } => {
                assert_eq!(exit.code, Some(9));
                restarts += 1;
            }
            EventKind::Exited(exit) => break exit,
            _ => unreachable!(),
        }
    };
    assert_eq!((exit.code, restarts), (Some(9), 3));
    let status = world.engine.status(&id).await.unwrap();
    assert_eq!(status.restarts, 3);
    let said = support::lines(&world.log(&id).await, Stream::Stdout);
    assert_eq!(said.iter().map(|line| line.trim()).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
    // Starting it once more is no start.
    let again = world.engine.start_container(&sandbox, spec).await.unwrap();
    assert!(matches!(again.state, ContainerState::Exited { .. }));
    world.end().await;
}

#[tokio::test]
async fn a_restart_is_waited_for_past_the_keepers_death_and_called_off_by_a_stop() {
    let Some(world) = world("restart survives").await else { return };
    let sandbox = world.sandbox("s").await;
    let spec = ContainerSpec {
        restart: Some(RestartPolicy::Always),
        ..world.sh("c", "echo run >> /tmp/runs; cat /tmp/runs | wc -l; exit 0")
    };
    let id = start(&world, &sandbox, spec).await;
    // The waits grow: there is time to kill the keeper in one.
    eventually("it waits to be started again", async || {
        let status = world.engine.status(&id).await.unwrap();
        status.restarts >= 2 && matches!(status.state, ContainerState::Restarting { .. })
    })
    .await
    .unwrap();
    kill_hard(world.engine.keeper_pid().unwrap()).await;
    eventually("it is started again by the next keeper", async || {
        world.engine.status(&id).await.is_ok_and(|status| status.restarts >= 4)
    })
    .await
    .unwrap();
    world.engine.stop_container(&id, Signal::TERM, SECOND).await.unwrap();
    world.engine.wait_container(&id).await.unwrap();
    let runs = support::lines(&world.log(&id).await, Stream::Stdout).len();
    let status = world.engine.status(&id).await.unwrap();
    // A start that the keeper died over may have run without being counted.
    let counted = status.restarts + 1;
    assert!([counted, counted + 1].contains(&(runs as u32)), "{runs} runs, {counted} counted");
    assert!(matches!(status.state, ContainerState::Exited { .. }), "{status:?}");
    world.end().await;
}

#[tokio::test]
async fn a_paused_container_stands_still_until_it_is_resumed_or_stopped() {
    let Some(world) = world("pause").await else { return };
    let sandbox = world.sandbox("s").await;
    let mut events = world.engine.events();
    let id = start(
        &world,
        &sandbox,
        world.sh("c", "trap 'exit 43' TERM; while true; do echo tick; usleep 1000; done"),
    )
    .await;
    let length = || std::fs::metadata(world.config.dir.join("logs/c.log")).unwrap().len();
    eventually("it ticks", async || length() > 100).await.unwrap();
    world.engine.pause_container(&id).await.unwrap();
    world.engine.pause_container(&id).await.unwrap();
    next(&mut events, "paused", |kind| *kind == EventKind::Paused).await;
    assert!(matches!(world.engine.status(&id).await.unwrap().state, ContainerState::Paused { .. }));
    let cpu = || async { world.engine.stats(&id).await.unwrap().cpu.total_nanos };
    let before = cpu().await;
    // Another container does something meanwhile.
    world.run(&sandbox, world.sh("other", "usleep 50000")).await;
    assert_eq!(cpu().await, before, "a frozen process takes no time");

    // A new keeper knows it, and resumes it.
    kill_hard(world.engine.keeper_pid().unwrap()).await;
    eventually("paused still", async || {
        matches!(world.engine.status(&id).await.unwrap().state, ContainerState::Paused { .. })
    })
    .await
    .unwrap();
    world.engine.resume_container(&id).await.unwrap();
    let before = length();
    eventually("it ticks again", async || length() > before).await.unwrap();
    world.engine.pause_container(&id).await.unwrap();
    world.engine.stop_container(&id, Signal::TERM, 30 * SECOND).await.unwrap();
    let begun = Instant::now();
    assert_eq!(world.engine.wait_container(&id).await.unwrap().code, Some(43));
    assert!(begun.elapsed() < 20 * SECOND, "it was resumed to die");
    assert!(matches!(world.engine.pause_container(&id).await, Err(EngineError::NotRunning(_))));
    world.end().await;
}

#[tokio::test]
async fn a_sandbox_with_a_paused_and_a_restarting_container_can_be_removed() {
    let Some(world) = world("removal").await else { return };
    let sandbox = world.sandbox("s").await;
    let paused = start(&world, &sandbox, world.sh("paused", "sleep 1000")).await;
    world.engine.pause_container(&paused).await.unwrap();
    let loops = ContainerSpec { restart: Some(RestartPolicy::Always), ..world.sh("loops", "exit 1") };
    let loops = start(&world, &sandbox, loops).await;
    eventually("it waits", async || {
        matches!(world.engine.status(&loops).await.unwrap().state, ContainerState::Restarting { .. })
    })
    .await
    .unwrap();
    world.engine.remove_sandbox(&sandbox).await.unwrap();
    assert!(world.engine.list().await.unwrap().is_empty());
    world.end().await;
}

#[tokio::test]
async fn all_statistics_come_in_one_call_and_are_true() {
    let Some(world) = world("statistics").await else { return };
    let spec = SandboxSpec {
        resources: SandboxResources { memory_bytes: Some(256 << 20), ..SandboxResources::default() },
        ..support::sandbox_spec("s")
    };
    let sandbox = spec.id.clone();
    world.engine.create_sandbox(spec).await.unwrap();
    let mut busy = world.sh("busy", "dd if=/dev/zero of=/tmp/f bs=1M count=8 2>/dev/null; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; sleep 1000");
    busy.resources.cpu_millis = Some(100);
    busy.resources.pids_max = Some(50);
    let busy = start(&world, &sandbox, busy).await;
    let idle = start(&world, &sandbox, world.sh("idle", "sleep 1000")).await;
    let ended = start(&world, &sandbox, world.sh("ended", "exit 0")).await;
    world.engine.wait_container(&ended).await.unwrap();
    eventually("it is done", async || {
        let chunk = world.engine.read_log(&busy, 0, 1000).await.unwrap();
        !chunk.records.is_empty()
    })
    .await
    .unwrap();
    let mut all = world.engine.stats_of_all().await.unwrap();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let ids: Vec<_> = all.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(ids, [busy.clone(), idle.clone()]);
    let (of_busy, of_idle) = (all[0].1, all[1].1);
    assert!(of_busy.cpu.total_nanos > of_idle.cpu.total_nanos, "{of_busy:?}");
    assert!(of_busy.cpu.user_nanos + of_busy.cpu.system_nanos > 0, "{of_busy:?}");
    assert!(of_busy.cpu.throttled_periods > 0 && of_busy.cpu.throttled_nanos > 0, "{of_busy:?}");
    assert!(of_busy.memory.cache_bytes >= 8 << 20, "{of_busy:?}");
    assert!(of_busy.memory.bytes >= of_busy.memory.cache_bytes, "{of_busy:?}");
    assert!(of_idle.memory.rss_bytes > 0, "{of_idle:?}");
    assert_eq!(of_busy.memory.limit_bytes, Some(256 << 20), "its sandbox's");
    assert_eq!((of_busy.pids, of_busy.pids_max), (1, Some(50)), "its shell has become the sleep");
    assert_eq!(of_idle.pids_max, None);
    assert!(matches!(world.engine.stats(&ended).await, Err(EngineError::NoContainer(_))));
    for id in [&busy, &idle] {
        stop(&world, id).await;
    }
    world.end().await;
}
