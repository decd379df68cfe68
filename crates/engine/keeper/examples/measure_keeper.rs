//! Measures the engine through its keeper: `measure [RUNS] [KEEPER-PROGRAM]`. Needs root and a
//! static busybox. Prints medians; compare them only with others of the same machine and minute.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wharf_engine::{ContainerId, ContainerSpec, Engine, EventKind, SandboxId, SandboxResources, SandboxSpec};
use wharf_engine_keeper::{KeeperConfig, KeeperEngine};

fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn sandbox(name: &str) -> SandboxSpec {
    SandboxSpec {
        hostname: "measure".to_owned(),
        resources: SandboxResources {
            memory_bytes: Some(512 << 20),
            cpu_millis: Some(1000),
            pids_max: Some(100),
        },
        ..SandboxSpec::new(SandboxId::new(name).expect("a name"))
    }
}

fn container(name: &str, image: &Path, args: &[&str]) -> ContainerSpec {
    ContainerSpec {
        layers: vec![image.to_owned()],
        ..ContainerSpec::new(
            ContainerId::new(name).expect("a name"),
            args.iter().map(|arg| (*arg).to_owned()).collect(),
        )
    }
}

fn median(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    (ms(times[times.len() / 2]), ms(times[times.len() * 95 / 100]))
}

fn pss_kb(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or("0");
    pss.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

/// CPU time of the keeper, and of its spawners, so far. A busy machine does not multiply it.
fn cpu(keeper: u32) -> (Duration, Duration) {
    let of = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
        Duration::from_nanos(stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
    };
    (of(keeper), spawners(keeper).into_iter().map(of).sum())
}

fn spawners(keeper: u32) -> Vec<u32> {
    let children =
        std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap_or_default();
    let is_spawner = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.contains("wharf"))
    };
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(is_spawner).collect()
}

/// The keeper with its spawners.
fn memory_kb(keeper: u32) -> (u64, u64) {
    (pss_kb(keeper), spawners(keeper).into_iter().map(pss_kb).sum())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args_os().skip(1);
    let runs: usize = args.next().and_then(|runs| runs.to_str()?.parse().ok()).unwrap_or(500);
    let beside = std::env::current_exe()
        .expect("a path")
        .parent()
        .and_then(Path::parent)
        .map(|dir| dir.join("wharf-keeper"));
    let program: OsString = args.next().or(beside.map(Into::into)).expect("a program");
    let dir = tempfile::tempdir().expect("a directory");
    let image = dir.path().join("image");
    std::fs::create_dir_all(image.join("bin")).expect("a directory");
    std::fs::copy("/bin/busybox", image.join("bin/busybox")).expect("a static busybox");
    for applet in ["true", "sleep"] {
        symlink("busybox", image.join("bin").join(applet)).expect("a link");
    }
    for spawners in [1, 2, 4] {
        let mut config = KeeperConfig::new(dir.path().join("engine"), vec![program.clone()]);
        config.spawners = spawners;
        let (engine, _) = KeeperEngine::connect_or_start(config).await.expect("a keeper");
        measure(&engine, &image, runs, spawners).await;
        if spawners == 4 {
            measure_memory(&engine, &image).await;
        }
        engine.shutdown().await.expect("an end");
    }
}

async fn measure(engine: &KeeperEngine, image: &Path, runs: usize, spawners: usize) {
    let one = SandboxId::new("one").expect("a name");
    engine.create_sandbox(sandbox("one")).await.expect("a sandbox");
    let mut events = engine.events();
    let (mut starts, mut exits, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    let keeper = engine.keeper_pid().expect("a keeper");
    let cpu_before = cpu(keeper);
    let mut host = Vec::new();
    for run in 0..runs {
        let begun = Instant::now();
        // What the machine does today for a plain fork and exec.
        let done = tokio::process::Command::new(image.join("bin/true")).status().await;
        done.expect("the host runs it");
        host.push(begun.elapsed());
        let name = format!("c{run}");
        let begun = Instant::now();
        engine.start_container(&one, container(&name, image, &["/bin/true"])).await.expect("a start");
        starts.push(begun.elapsed());
        loop {
            let event = events.recv().await.expect("events");
            if event.container.as_str() == name && matches!(event.kind, EventKind::Exited(_)) {
                break;
            }
        }
        exits.push(begun.elapsed());
    }
    let cpu_after = cpu(keeper);
    let micros = |after: Duration, before: Duration| (after - before).as_secs_f64() * 1e6 / runs as f64;
    say(&format!(
        "{spawners} spawners: CPU a start: keeper {:.0} µs, spawner {:.0} µs; fork and exec on the host p50 {:.2} ms",
        micros(cpu_after.0, cpu_before.0),
        micros(cpu_after.1, cpu_before.1),
        median(host).0
    ));
    for run in 0..runs {
        let begun = Instant::now();
        let id = SandboxId::new(format!("w{run}")).expect("a name");
        engine.create_sandbox(sandbox(id.as_str())).await.expect("a sandbox");
        engine
            .start_container(&id, container(&format!("w{run}"), image, &["/bin/true"]))
            .await
            .expect("a start");
        loop {
            let event = events.recv().await.expect("events");
            if event.sandbox == id && matches!(event.kind, EventKind::Exited(_)) {
                break;
            }
        }
        whole.push(begun.elapsed());
    }
    // Sixteen at a time, in one sandbox: how fast containers can be started and seen to end.
    let total = runs * 4;
    let engine = Arc::new(engine.clone());
    let begun = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..16 {
        let (engine, image, one) = (Arc::clone(&engine), image.to_owned(), one.clone());
        workers.spawn(async move {
            let mut events = engine.events();
            for run in 0..total / 16 {
                let name = format!("p{worker}-{run}");
                engine
                    .start_container(&one, container(&name, &image, &["/bin/true"]))
                    .await
                    .expect("a start");
                loop {
                    let event = events.recv().await.expect("events");
                    if event.container.as_str() == name && matches!(event.kind, EventKind::Exited(_)) {
                        break;
                    }
                }
            }
        });
    }
    while let Some(done) = workers.join_next().await {
        done.expect("a worker");
    }
    let rate = (total / 16 * 16) as f64 / begun.elapsed().as_secs_f64();
    let (start, start95) = median(starts);
    let (exit, exit95) = median(exits);
    let (all, all95) = median(whole);
    say(&format!(
        "{spawners} spawners: start call p50 {start:.2} p95 {start95:.2} ms; start to exit seen p50 {exit:.2} p95 {exit95:.2} ms; with a sandbox and netns of its own p50 {all:.2} p95 {all95:.2} ms; sustained {rate:.0}/s"
    ));
    let list = engine.list().await.expect("a list");
    for sandbox in list {
        engine.remove_sandbox(&sandbox.id).await.expect("a removal");
    }
}

async fn measure_memory(engine: &KeeperEngine, image: &Path) {
    const CONTAINERS: usize = 500;
    let keeper = engine.keeper_pid().expect("a keeper");
    let (idle, idle_spawners) = memory_kb(keeper);
    let one = SandboxId::new("many").expect("a name");
    let spec = SandboxSpec { resources: SandboxResources::default(), ..sandbox("many") };
    engine.create_sandbox(spec).await.expect("a sandbox");
    for run in 0..CONTAINERS {
        engine
            .start_container(&one, container(&format!("m{run}"), image, &["/bin/sleep", "1000"]))
            .await
            .expect("a start");
    }
    let (full, full_spawners) = memory_kb(keeper);
    say(&format!(
        "PSS: keeper {idle} kB and its spawners {idle_spawners} kB before; {full} kB and {full_spawners} kB with {CONTAINERS} containers: {:.2} kB each",
        (full.saturating_sub(idle)) as f64 / CONTAINERS as f64
    ));
}
