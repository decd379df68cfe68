//! Limits on real containers, as their owner sees them: told when broken, refused when impossible.

#![allow(clippy::disallowed_methods, reason = "a limit on CPU time shows in time")]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use support::world;
use wharf_engine::log::Stream;
use wharf_engine::{BlockIo, BlockLimit, ContainerSpec, Engine, EngineError, EventKind, Resources};

/// The whole disk that holds the temporary directory, where there is one.
fn disk() -> Option<PathBuf> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = mountinfo.lines().find(|line| line.split(' ').nth(4) == Some("/"))?;
    let device = root.split(" - ").nth(1)?.split(' ').nth(1)?;
    let name = device.strip_prefix("/dev/")?;
    Path::new("/sys/block").join(name).exists().then(|| PathBuf::from(device))
}

#[tokio::test]
async fn a_kill_for_want_of_memory_is_told_before_the_exit() {
    let Some(world) = world("memory").await else { return };
    let sandbox = world.sandbox("s").await;
    let mut events = world.engine.events();
    let resources = Resources { memory_bytes: Some(16 << 20), ..Resources::default() };
    let spec = ContainerSpec { resources, ..world.sh("c", "dd if=/dev/zero of=/dev/null bs=200M count=1") };
    let id = spec.id.clone();
    world.engine.start_container(&sandbox, spec).await.unwrap();
    let exit = world.engine.wait_container(&id).await.unwrap();
    assert!(exit.oom_killed && exit.code != Some(0), "{exit:?}");
    let mut kinds = Vec::new();
    while let Ok(event) = events.try_recv() {
        if !matches!(event.kind, EventKind::Logged { .. }) {
            kinds.push(event.kind);
        }
    }
    assert!(
        matches!(
            kinds[..],
            [EventKind::Created, EventKind::Started { .. }, EventKind::OutOfMemory, EventKind::Exited(_)]
        ),
        "{kinds:?}"
    );
    world.end().await;
}

#[tokio::test]
async fn a_containers_cpu_limit_holds_within_its_sandboxs() {
    let Some(world) = world("cpu").await else { return };
    let mut sandbox = support::sandbox_spec("s");
    sandbox.resources.cpu_millis = Some(200);
    let sandbox_id = sandbox.id.clone();
    world.engine.create_sandbox(sandbox).await.unwrap();
    // More than the sandbox has is what the sandbox has.
    for (name, millis) in [("tenth", 100), ("much", 4000)] {
        let resources = Resources { cpu_millis: Some(millis), ..Resources::default() };
        let spec = ContainerSpec { resources, ..world.sh(name, "while true; do :; done") };
        let id = spec.id.clone();
        world.engine.start_container(&sandbox_id, spec).await.unwrap();
        support::eventually("it has had three tenths of a second", async || {
            world.engine.stats(&id).await.unwrap().cpu.total_nanos > 300_000_000
        })
        .await
        .unwrap();
        let before = (std::time::Instant::now(), world.engine.stats(&id).await.unwrap().cpu.total_nanos);
        support::eventually("it has had three tenths more", async || {
            world.engine.stats(&id).await.unwrap().cpu.total_nanos > before.1 + 300_000_000
        })
        .await
        .unwrap();
        // At a tenth of a CPU that takes three seconds, at a fifth one and a half.
        let least = if name == "tenth" { 2400 } else { 1200 };
        assert!(before.0.elapsed() > Duration::from_millis(least), "{name}: {:?}", before.0.elapsed());
        world.engine.kill_container(&id, wharf_engine::Signal::KILL).await.unwrap();
        world.engine.wait_container(&id).await.unwrap();
    }
    world.end().await;
}

#[tokio::test]
async fn limits_on_block_io_reach_the_kernel_or_are_refused_by_name() {
    let Some(world) = world("block io").await else { return };
    let sandbox = world.sandbox("s").await;
    let limited = |name: &str, device: &str| {
        let limit = BlockLimit {
            device: device.into(),
            write_bytes_per_second: Some(1 << 20),
            ..BlockLimit::default()
        };
        let block_io = BlockIo { weight: None, limits: vec![limit] };
        let script = "/bin/busybox cat /sys/fs/cgroup/blkio/blkio.throttle.write_bps_device /sys/fs/cgroup/io.max 2>/dev/null; true";
        ContainerSpec { resources: Resources { block_io, ..Resources::default() }, ..world.sh(name, script) }
    };
    for none in ["/dev/null", "/dev/no-such-disk"] {
        let refused = world.engine.start_container(&sandbox, limited("none", none)).await;
        let Err(EngineError::Unsupported { what, .. }) = refused else { panic!("{refused:?}") };
        assert!(what.contains(none), "{what}");
    }
    if let Some(disk) = disk() {
        let (exit, log) = world.run(&sandbox, limited("limited", disk.to_str().unwrap())).await;
        assert_eq!(exit.code, Some(0));
        let said = support::lines(&log, Stream::Stdout);
        assert!(said.iter().any(|line| line.contains("1048576")), "{said:?}");
    }
    let resources = Resources { swap_bytes: Some(1), ..Resources::default() };
    let refused =
        world.engine.start_container(&sandbox, ContainerSpec { resources, ..world.sh("x", "true") });
    assert!(matches!(refused.await, Err(EngineError::Unsupported { .. })));
    world.end().await;
}
