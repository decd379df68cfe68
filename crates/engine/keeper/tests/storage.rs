//! Volumes, the limit on what a sandbox has on disk, and what is kept of logs, with real containers.

mod support;

use std::time::Duration;

use support::{World, eventually, kill_hard, world};
use wharf_engine::log::{LogPolicy, Stream};
use wharf_engine::session::TerminalSize;
use wharf_engine::{
    ContainerId, ContainerSpec, Engine, EngineError, Mount, MountSource, SandboxSpec, Signal, VolumeName,
    VolumeSpec,
};

fn name(name: &str) -> VolumeName {
    VolumeName::new(name).unwrap()
}

fn volume(volume: &str) -> VolumeSpec {
    VolumeSpec { name: name(volume), labels: vec![("kind".to_owned(), "test".to_owned())] }
}

fn mounting(spec: ContainerSpec, mounts: Vec<Mount>) -> ContainerSpec {
    ContainerSpec { mounts, ..spec }
}

/// What a container of these mounts prints.
async fn prints(world: &World, sandbox: &str, id: &str, mounts: Vec<Mount>, script: &str) -> Vec<String> {
    let sandbox = wharf_engine::SandboxId::new(sandbox).unwrap();
    let (exit, log) = world.run(&sandbox, mounting(world.sh(id, script), mounts)).await;
    let said = support::lines(&log, Stream::Stdout);
    assert_eq!(exit.code, Some(0), "{said:?} {:?}", support::lines(&log, Stream::Stderr));
    said
}

#[tokio::test]
async fn the_containers_of_a_sandbox_share_its_volumes_and_nobody_else() {
    let Some(world) = world("sandbox volumes").await else { return };
    for sandbox in ["one", "two"] {
        let spec = SandboxSpec { volumes: vec![name("data")], ..support::sandbox_spec(sandbox) };
        world.engine.create_sandbox(spec).await.unwrap();
    }
    let mount = |at: &str| Mount::volume(MountSource::Sandbox(name("data")), at);
    prints(&world, "one", "writer", vec![mount("/shared")], "echo hello > /shared/file").await;
    let script = "cat /deep/below/file; echo no > /deep/below/file || echo read-only";
    let said = prints(&world, "one", "reader", vec![mount("/deep/below").read_only()], script).await;
    assert_eq!(said, ["hello", "read-only"]);
    assert_eq!(prints(&world, "two", "other", vec![mount("/shared")], "echo /shared/*").await, ["/shared/*"]);
    let unknown =
        mounting(world.sh("x", "true"), vec![Mount::volume(MountSource::Sandbox(name("no")), "/x")]);
    let refused = world.engine.start_container(&wharf_engine::SandboxId::new("one").unwrap(), unknown).await;
    assert!(matches!(refused, Err(EngineError::NoVolume(_))), "{refused:?}");
    world.end().await;
}

#[tokio::test]
async fn a_volume_starts_with_what_the_image_has() {
    let Some(world) = world("initial content").await else { return };
    let image = world.image();
    std::fs::create_dir_all(image.join("srv/sub")).unwrap();
    std::fs::write(image.join("srv/sub/file"), "from the image\n").unwrap();
    std::os::unix::fs::chown(image.join("srv"), Some(1234), Some(5678)).unwrap();
    std::os::unix::fs::symlink("sub/file", image.join("srv/link")).unwrap();
    let spec = SandboxSpec { volumes: vec![name("full"), name("empty")], ..support::sandbox_spec("s") };
    world.engine.create_sandbox(spec).await.unwrap();
    let of = |volume: &str| Mount::volume(MountSource::Sandbox(name(volume)), "/srv");
    let script = "/bin/busybox stat -c %u:%g /srv; cat /srv/link; echo mine > /srv/sub/file";
    assert_eq!(prints(&world, "s", "a", vec![of("full")], script).await, ["1234:5678", "from the image"]);
    assert_eq!(prints(&world, "s", "b", vec![of("full")], "cat /srv/link").await, ["mine"]);
    let plain = Mount { content: wharf_engine::InitialContent::AsItIs, ..of("empty") };
    assert_eq!(prints(&world, "s", "c", vec![plain], "echo /srv/*").await, ["/srv/*"]);
    // The image itself is as it was.
    assert_eq!(std::fs::read_to_string(image.join("srv/sub/file")).unwrap(), "from the image\n");
    world.end().await;
}

#[tokio::test]
async fn a_named_volume_outlives_sandbox_keeper_and_engine_and_is_kept_while_it_is_used() {
    let Some(world) = world("named volumes").await else { return };
    let sandbox = world.sandbox("s").await;
    let made = world.engine.create_volume(volume("data")).await.unwrap();
    assert_eq!(made, world.engine.create_volume(volume("data")).await.unwrap(), "it may be asked for again");
    let other = VolumeSpec { labels: Vec::new(), ..volume("data") };
    assert!(matches!(world.engine.create_volume(other).await, Err(EngineError::Conflict { .. })));
    let mount = || Mount::volume(MountSource::Named(name("data")), "/data");
    let id = ContainerId::new("c").unwrap();
    let spec = mounting(world.sh("c", "echo kept > /data/file; sleep 1000"), vec![mount()]);
    world.engine.start_container(&sandbox, spec).await.unwrap();
    eventually("the file is there", async || made.path.join("file").exists()).await.unwrap();

    for turn in ["while it runs", "after the keeper's death", "after its exit"] {
        let refused = world.engine.remove_volume(&name("data")).await;
        assert!(matches!(refused, Err(EngineError::InUse { .. })), "{turn}: {refused:?}");
        assert_eq!(
            world.engine.list_volumes().await.unwrap()[0].used_by,
            std::slice::from_ref(&id),
            "{turn}"
        );
        match turn {
            "while it runs" => kill_hard(world.engine.keeper_pid().unwrap()).await,
            "after the keeper's death" => {
                world.engine.kill_container(&id, Signal::KILL).await.unwrap();
                world.engine.wait_container(&id).await.unwrap();
            }
            _ => {}
        }
    }
    world.engine.remove_sandbox(&sandbox).await.unwrap();
    world.sandbox("t").await;
    assert_eq!(prints(&world, "t", "d", vec![mount()], "cat /data/file").await, ["kept"]);
    world.engine.remove_sandbox(&wharf_engine::SandboxId::new("t").unwrap()).await.unwrap();

    // The engine is shut down, and started again.
    world.engine.shutdown().await.unwrap();
    let (engine, _) =
        wharf_engine_keeper::KeeperEngine::connect_or_start(world.config.clone()).await.unwrap();
    let mut world = world;
    world.engine = engine;
    let held = world.engine.list_volumes().await.unwrap();
    assert_eq!((held.len(), &held[0].labels, held[0].created_at), (1, &made.labels, made.created_at));
    world.engine.remove_volume(&name("data")).await.unwrap();
    world.engine.remove_volume(&name("data")).await.unwrap();
    assert_eq!(world.engine.list_volumes().await.unwrap(), []);
    assert!(!made.path.exists());
    let sandbox = world.sandbox("u").await;
    let spec = mounting(world.sh("e", "true"), vec![mount()]);
    let refused = world.engine.start_container(&sandbox, spec).await;
    assert!(matches!(refused, Err(EngineError::NoVolume(_))), "{refused:?}");
    world.end().await;
}

#[tokio::test]
async fn a_sandbox_that_has_too_much_on_disk_is_killed_and_says_so() {
    let Some(world) = world("storage limit").await else { return };
    let spec = SandboxSpec {
        volumes: vec![name("data")],
        ephemeral_storage_bytes: Some(16 << 20),
        ..support::sandbox_spec("s")
    };
    let sandbox = spec.id.clone();
    world.engine.create_sandbox(spec).await.unwrap();
    // Below the limit for as long as it takes to be measured a few times.
    let modest = mounting(
        world.sh("modest", "dd if=/dev/zero of=/tmp/f bs=1M count=4 2>/dev/null; usleep 2500000; echo fine"),
        Vec::new(),
    );
    let (exit, log) = world.run(&sandbox, modest).await;
    assert!(exit.code == Some(0) && !exit.storage_exceeded, "{exit:?}");
    assert_eq!(support::lines(&log, Stream::Stdout), ["fine"]);
    // Half in its layer, half in the volume.
    let mount = vec![Mount::volume(MountSource::Sandbox(name("data")), "/data")];
    let script = "dd if=/dev/zero of=/data/f bs=1M count=10 2>/dev/null; dd if=/dev/zero of=/tmp/f bs=1M count=10 2>/dev/null; sleep 1000";
    let (exit, _) = world.run(&sandbox, mounting(world.sh("greedy", script), mount)).await;
    assert!(exit.code == Some(137) && exit.storage_exceeded && !exit.oom_killed, "{exit:?}");
    world.end().await;
}

#[tokio::test]
async fn a_log_keeps_its_newest_lines_and_counts_the_others() {
    let Some(world) = world("rotation").await else { return };
    let sandbox = world.sandbox("s").await;
    let log = LogPolicy::DropOldest { segment_bytes: 256 * 1024, segments_max: 3 };
    let spec = ContainerSpec { log, ..world.sh("c", "seq 1 200000") };
    let id = spec.id.clone();
    world.engine.start_container(&sandbox, spec).await.unwrap();
    world.engine.wait_container(&id).await.unwrap();
    let (mut lines, mut position) = (Vec::new(), 0);
    let dropped = loop {
        let chunk = world.engine.read_log(&id, position, 1 << 20).await.unwrap();
        position = chunk.next;
        lines.extend(chunk.records.into_iter().map(|record| String::from_utf8(record.text).unwrap()));
        if chunk.ended {
            break chunk.dropped.records;
        }
    };
    assert!(dropped > 100_000, "{dropped}");
    assert_eq!(dropped + lines.len() as u64, 200_000);
    assert_eq!(lines[0], (dropped + 1).to_string());
    assert_eq!(lines.last().unwrap(), "200000");
    let file = std::fs::metadata(world.config.dir.join("logs/c.log")).unwrap();
    let on_disk = std::os::unix::fs::MetadataExt::blocks(&file) * 512;
    assert!(on_disk <= 800 * 1024, "{on_disk}");
    world.end().await;
}

#[tokio::test]
async fn a_container_whose_log_is_full_waits_for_its_reader_and_its_neighbour_does_not() {
    let Some(world) = world("a full log").await else { return };
    let sandbox = world.sandbox("s").await;
    let log = LogPolicy::Block { bytes_max: 128 * 1024 };
    let spec = ContainerSpec { log, ..world.sh("c", "seq 1 50000") };
    let id = spec.id.clone();
    world.engine.start_container(&sandbox, spec).await.unwrap();
    let length = || std::fs::metadata(world.config.dir.join("logs/c.log")).unwrap().len();
    eventually("the log is full", async || length() >= 128 * 1024).await.unwrap();
    // The neighbour writes all it wants, and ends.
    let (exit, others) = world.run(&sandbox, world.sh("neighbour", "seq 1 50000")).await;
    assert_eq!((exit.code, others.len()), (Some(0), 50_000));
    assert!(length() <= 128 * 1024 + 256 * 1024, "{}", length());
    // Reading and releasing lets it go on; no line is lost.
    let (mut lines, mut position) = (0_u64, 0);
    let read = async {
        loop {
            let chunk = world.engine.read_log(&id, position, 1 << 20).await.unwrap();
            for record in &chunk.records {
                lines += 1;
                assert_eq!(record.text, lines.to_string().as_bytes());
            }
            assert_eq!(chunk.dropped.records, 0);
            position = chunk.next;
            world.engine.release_log(&id, position).await.unwrap();
            if chunk.ended {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.unwrap();
    assert_eq!(lines, 50_000);
    let small = ContainerSpec { log: LogPolicy::Block { bytes_max: 1 }, ..world.sh("small", "true") };
    let refused = world.engine.start_container(&sandbox, small).await;
    assert!(matches!(refused, Err(EngineError::Unsupported { .. })), "{refused:?}");
    world.end().await;
}

#[tokio::test]
async fn a_full_log_makes_a_terminals_writer_wait_too() {
    let Some(world) = world("a full log of a terminal").await else { return };
    let sandbox = world.sandbox("s").await;
    let log = LogPolicy::Block { bytes_max: 128 * 1024 };
    let terminal = Some(TerminalSize::default());
    let spec = ContainerSpec { log, terminal, ..world.sh("c", "seq 1 100000; echo end") };
    let id = spec.id.clone();
    world.engine.start_container(&sandbox, spec).await.unwrap();
    let length = || std::fs::metadata(world.config.dir.join("logs/c.log")).unwrap().len();
    eventually("the log is full", async || length() >= 128 * 1024).await.unwrap();
    // Its neighbour takes longer than it would to write it all.
    world.run(&sandbox, world.sh("neighbour", "seq 1 200000")).await;
    assert!(length() <= 128 * 1024 + 256 * 1024, "{}", length());
    let (mut text, mut position) = (Vec::new(), 0);
    let read = async {
        loop {
            let chunk = world.engine.read_log(&id, position, 1 << 20).await.unwrap();
            text.extend(chunk.records.into_iter().flat_map(|record| record.text));
            position = chunk.next;
            world.engine.release_log(&id, position).await.unwrap();
            if chunk.ended {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.unwrap();
    let text = String::from_utf8(text).unwrap();
    let lines: Vec<&str> = text.split_ascii_whitespace().collect();
    assert_eq!((lines.len(), lines[99_999], lines[100_000]), (100_001, "100000", "end"));
    world.end().await;
}
