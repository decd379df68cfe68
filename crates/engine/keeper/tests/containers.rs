//! Containers through a keeper: what they do, print and end with.

mod support;

use std::time::Duration;

use support::{lines, sandbox_spec, world};
use wharf_engine::log::{RECORD_TEXT_BYTES_MAX, Stream};
use wharf_engine::{ContainerId, ContainerState, Engine, EngineError, EventKind, Signal};

const TIMES: u64 = 300;

#[tokio::test]
async fn a_container_runs_prints_and_exits_with_its_code() {
    let Some(world) = world("a_container_runs").await else { return };
    let sandbox = world.sandbox("s").await;
    let mut events = world.engine.events();
    let (exit, log) = world.run(&sandbox, world.sh("c", "echo out; echo err >&2; exit 7")).await;
    assert_eq!((exit.code, exit.oom_killed, exit.start_error), (Some(7), false, None));
    assert_eq!(lines(&log, Stream::Stdout), ["out"]);
    assert_eq!(lines(&log, Stream::Stderr), ["err"]);
    assert!(matches!(events.recv().await.unwrap().kind, EventKind::Created));
    assert!(matches!(events.recv().await.unwrap().kind, EventKind::Started { pid } if pid > 1));
    let listed = world.engine.list().await.unwrap();
    assert_eq!(listed[0].labels, [("of".to_owned(), "test".to_owned())]);
    assert_eq!(listed[0].containers[0].labels, [("name".to_owned(), "c".to_owned())]);
    world.end().await;
}

#[tokio::test]
async fn a_signal_is_told_as_128_and_its_number() {
    let Some(world) = world("a_signal_is_told").await else { return };
    let sandbox = world.sandbox("s").await;
    let spec = world.sh("c", "trap 'exit 3' USR1; echo ready; while :; do sleep 0.02; done");
    let id = spec.id.clone();
    world.engine.start_container(&sandbox, spec).await.unwrap();
    wait_for_output(&world, &id).await;
    world.engine.kill_container(&id, Signal(10)).await.unwrap();
    assert_eq!(world.exit_of(&id).await.code, Some(3), "the program's own answer to the signal");
    let spec = world.spec("d", &["/bin/sleep", "1000"]);
    let id = spec.id.clone();
    world.engine.start_container(&sandbox, spec).await.unwrap();
    world.engine.kill_container(&id, Signal::KILL).await.unwrap();
    assert_eq!(world.exit_of(&id).await.code, Some(137));
    world.end().await;
}

#[tokio::test]
async fn stopping_kills_what_ignores_the_signal_after_its_grace() {
    let Some(world) = world("stopping_kills").await else { return };
    let sandbox = world.sandbox("s").await;
    let spec = world.sh("c", "trap '' TERM; echo ready; while :; do sleep 0.05; done");
    let id = spec.id.clone();
    world.engine.start_container(&sandbox, spec).await.unwrap();
    wait_for_output(&world, &id).await;
    let grace = Duration::from_millis(400);
    let started = tokio::time::Instant::now();
    world.engine.stop_container(&id, Signal::TERM, grace).await.unwrap();
    assert_eq!(world.exit_of(&id).await.code, Some(137));
    assert!(started.elapsed() >= grace);
    world.engine.stop_container(&id, Signal::TERM, grace).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_start_error_and_an_exit() {
    let Some(world) = world("a_program_that_is_not_there").await else { return };
    let sandbox = world.sandbox("s").await;
    for _ in 0..2 {
        let error = world.engine.start_container(&sandbox, world.spec("c", &["/nope"])).await.unwrap_err();
        assert!(matches!(error, EngineError::Start { exit_code: 127, .. }), "{error:?}");
    }
    let status = world.engine.status(&ContainerId::new("c").unwrap()).await.unwrap();
    let ContainerState::Exited { started_at: None, exit } = status.state else { panic!("{status:?}") };
    assert_eq!(exit.code, Some(127));
    assert!(exit.start_error.is_some());
    let chunk = world.engine.read_log(&status.id, 0, 100).await.unwrap();
    assert!(chunk.ended && chunk.records.is_empty());
    world.end().await;
}

#[tokio::test]
async fn asking_twice_is_asking_once_and_another_spec_is_a_conflict() {
    let Some(world) = world("asking_twice").await else { return };
    let sandbox = world.sandbox("s").await;
    world.engine.create_sandbox(sandbox_spec("s")).await.unwrap();
    let spec = world.spec("c", &["/bin/sleep", "1000"]);
    let both = tokio::join!(
        world.engine.start_container(&sandbox, spec.clone()),
        world.engine.start_container(&sandbox, spec.clone())
    );
    assert_eq!(both.0.unwrap(), both.1.unwrap());
    let error = world.engine.start_container(&sandbox, world.sh("c", "true")).await.unwrap_err();
    assert!(matches!(error, EngineError::Conflict { .. }), "{error:?}");
    let mut other = sandbox_spec("s");
    other.hostname = "other".to_owned();
    assert!(matches!(world.engine.create_sandbox(other).await, Err(EngineError::Conflict { .. })));
    world.engine.remove_sandbox(&sandbox).await.unwrap();
    world.engine.remove_sandbox(&sandbox).await.unwrap();
    assert!(matches!(world.engine.status(&spec.id).await, Err(EngineError::NoContainer(_))));
    let missing = world.engine.start_container(&sandbox, spec).await;
    assert!(matches!(missing, Err(EngineError::NoSandbox(_))));
    world.end().await;
}

#[tokio::test]
async fn each_stream_keeps_its_order_and_no_line_is_lost_at_the_exit() {
    let Some(world) = world("each_stream_keeps_its_order").await else { return };
    let sandbox = world.sandbox("s").await;
    let script = format!(
        "i=0; while [ $i -lt {TIMES} ]; do echo o$i; echo e$i >&2; i=$((i+1)); done; printf 'no newline'"
    );
    let (exit, log) = world.run(&sandbox, world.sh("c", &script)).await;
    assert_eq!(exit.code, Some(0));
    let numbered = |prefix: &str| (0..TIMES).map(|i| format!("{prefix}{i}")).collect::<Vec<_>>();
    let mut out = numbered("o");
    out.push("no newline".to_owned());
    assert_eq!(lines(&log, Stream::Stdout), out);
    assert_eq!(lines(&log, Stream::Stderr), numbered("e"));
    assert!(log.is_sorted_by_key(|record| record.unix_nanos));
    world.end().await;
}

#[tokio::test]
async fn long_lines_are_cut_and_joined_again() {
    let Some(world) = world("long_lines").await else { return };
    let sandbox = world.sandbox("s").await;
    let (_, log) =
        world.run(&sandbox, world.sh("c", "head -c 100000 /dev/zero | tr '\\0' x; echo; echo end")).await;
    assert!(log.iter().all(|record| record.text.len() <= RECORD_TEXT_BYTES_MAX));
    assert!(log.iter().filter(|record| record.partial).count() >= 6);
    assert_eq!(lines(&log, Stream::Stdout), ["x".repeat(100_000), "end".to_owned()]);
    world.end().await;
}

#[tokio::test]
async fn a_prompt_without_a_newline_is_seen_while_the_program_waits() {
    let Some(world) = world("a_prompt").await else { return };
    let sandbox = world.sandbox("s").await;
    let spec = world.sh("c", "printf 'name: '; while [ ! -e /go ]; do sleep 0.02; done; echo Wharf");
    let id = spec.id.clone();
    let pid = match world.engine.start_container(&sandbox, spec).await.unwrap().state {
        ContainerState::Running { pid, .. } => pid,
        state => panic!("{state:?}"),
    };
    let records = wait_for_output(&world, &id).await;
    assert_eq!((records[0].text.as_slice(), records[0].partial), (&b"name: "[..], true));
    std::fs::write(format!("/proc/{pid}/root/go"), "").unwrap();
    world.exit_of(&id).await;
    assert_eq!(lines(&world.log(&id).await, Stream::Stdout), ["name: Wharf"]);
    world.end().await;
}

#[tokio::test]
async fn a_flood_of_output_starves_nobody_and_takes_no_memory() {
    let Some(world) = world("a_flood_of_output").await else { return };
    let sandbox = world.sandbox("s").await;
    let flood =
        world.sh("flood", "yes 0123456789012345678901234567890123456789012345678 | head -c 100000000");
    let id = flood.id.clone();
    world.engine.start_container(&sandbox, flood).await.unwrap();
    let (exit, log) = world.run(&sandbox, world.sh("quiet", "echo heard")).await;
    assert_eq!((exit.code, lines(&log, Stream::Stdout)), (Some(0), vec!["heard".to_owned()]));
    assert_eq!(world.exit_of(&id).await.code, Some(0));
    let (mut position, mut bytes) = (0, 0);
    loop {
        let chunk = world.engine.read_log(&id, position, 4 << 20).await.unwrap();
        position = chunk.next;
        bytes += chunk
            .records
            .iter()
            .map(|record| record.text.len() + usize::from(!record.partial))
            .sum::<usize>();
        world.engine.release_log(&id, position).await.unwrap();
        if chunk.ended {
            break;
        }
    }
    assert_eq!(bytes, 100_000_000);
    let keeper = world.engine.keeper_pid().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{keeper}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kb: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak_kb < 24 * 1024, "the keeper's peak: {peak_kb} kB");
    world.end().await;
}

#[tokio::test]
async fn a_full_disk_costs_lines_and_says_so_and_stops_nobody() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let Some(world) = world("a_full_disk").await else { return };
    let sandbox = world.sandbox("s").await;
    let logs = world.config.dir.join("logs");
    mount("tmpfs", &logs, "tmpfs", MountFlags::NOSUID, c"size=1m").unwrap();
    let script = "yes 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789 | head -c 5000000; echo; : > /full; while [ ! -e /go ]; do sleep 0.02; done; echo after; exit 6";
    let spec = world.sh("c", script);
    let id = spec.id.clone();
    let ContainerState::Running { pid, .. } =
        world.engine.start_container(&sandbox, spec).await.unwrap().state
    else {
        panic!("it runs");
    };
    // It is not held up, though its output fits five times over.
    let full = format!("/proc/{pid}/root/full");
    support::eventually("it has printed all", async || std::fs::exists(&full).unwrap_or(false))
        .await
        .unwrap();
    let full = world.engine.read_log(&id, 0, 4 << 20).await.unwrap();
    assert!((1000..10_000).contains(&full.records.len()), "{}", full.records.len());
    world.engine.release_log(&id, full.next).await.unwrap();
    std::fs::write(format!("/proc/{pid}/root/go"), "").unwrap();
    assert_eq!(world.exit_of(&id).await.code, Some(6));
    let rest = world.log(&id).await;
    // A short piece may still fit where a long one did not.
    let lost = [lines(&full.records, Stream::Stderr), lines(&rest, Stream::Stderr)].concat();
    assert!(lost.iter().any(|line| line.contains("bytes of output are lost")), "{lost:?}");
    assert_eq!(lines(&rest, Stream::Stdout).last().unwrap(), "after");
    world.engine.remove_sandbox(&sandbox).await.unwrap();
    unmount(&logs, UnmountFlags::empty()).unwrap();
    world.end().await;
}

#[tokio::test]
async fn memory_beyond_the_limit_is_told_as_an_oom_kill() {
    let Some(world) = world("memory_beyond_the_limit").await else { return };
    let sandbox = world.sandbox("s").await;
    let mut spec = world.sh("c", "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo survived");
    spec.resources.memory_bytes = Some(16 << 20);
    let (exit, log) = world.run(&sandbox, spec).await;
    assert!(exit.oom_killed, "{exit:?} {log:?}");
    world.end().await;
}

#[tokio::test]
async fn two_hundred_containers_at_once() {
    let Some(world) = world("two_hundred_containers").await else { return };
    let world = std::sync::Arc::new(world);
    let mut running = tokio::task::JoinSet::new();
    for index in 0..200 {
        let world = std::sync::Arc::clone(&world);
        running.spawn(async move {
            let sandbox = world.sandbox(&format!("s{index}")).await;
            let spec = world.sh(&format!("c{index}"), &format!("echo {index}; exit {}", index % 100));
            let (exit, log) = world.run(&sandbox, spec).await;
            (index, exit.code, lines(&log, Stream::Stdout))
        });
    }
    while let Some(done) = running.join_next().await {
        let (index, code, log) = done.unwrap();
        assert_eq!((code, log), (Some(index % 100), vec![index.to_string()]));
    }
    let world = std::sync::Arc::into_inner(world).unwrap();
    world.end().await;
}

/// The first records, once there are any.
async fn wait_for_output(world: &support::World, id: &ContainerId) -> Vec<wharf_engine::log::LogRecord> {
    let mut found = Vec::new();
    support::eventually("it prints", async || {
        !world.engine.read_log(id, 0, 1 << 20).await.unwrap().records.is_empty()
    })
    .await
    .unwrap();
    found.extend(world.engine.read_log(id, 0, 1 << 20).await.unwrap().records);
    found
}
