//! Measures what runs beside containers: statistics of all of them, with files opened each time and
//! with descriptors that are kept; and how fast output is taken from a container that does nothing
//! but write. `cargo run --release -p wharf-engine-keeper --example measure_life [containers]`, as root.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "a measurement"
)]

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use wharf_engine::{ContainerId, ContainerSpec, Engine, SandboxId, SandboxSpec, Signal};
use wharf_engine_keeper::{KeeperConfig, KeeperEngine};

const ROUNDS: u32 = 5;
const LINES: u64 = 2_000_000;

fn container(name: &str, image: &Path, args: &[&str]) -> ContainerSpec {
    ContainerSpec {
        layers: vec![image.to_owned()],
        ..ContainerSpec::new(
            ContainerId::new(name).expect("a name"),
            args.iter().map(|arg| (*arg).to_owned()).collect(),
        )
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let count: usize = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(200);
    let beside = std::env::current_exe().expect("a path");
    let program: OsString =
        beside.parent().and_then(Path::parent).expect("a directory").join("wharf-keeper").into();
    let dir = tempfile::tempdir().expect("a directory");
    let image = dir.path().join("image");
    std::fs::create_dir_all(image.join("bin")).expect("a directory");
    std::fs::copy("/bin/busybox", image.join("bin/busybox")).expect("a static busybox");
    for applet in ["sh", "seq", "sleep", "yes", "head"] {
        symlink("busybox", image.join("bin").join(applet)).expect("a link");
    }
    let config = KeeperConfig::new(dir.path().join("engine"), vec![program]);
    let instance = config.instance.clone();
    let (engine, _) = KeeperEngine::connect_or_start(config).await.expect("a keeper");
    let sandbox = SandboxId::new("s").expect("a name");
    engine.create_sandbox(SandboxSpec::new(sandbox.clone())).await.expect("a sandbox");

    for number in 0..count {
        let spec = container(&format!("c{number}"), &image, &["sleep", "1000"]);
        engine.start_container(&sandbox, spec).await.expect("a container");
    }
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let all = engine.stats_of_all().await.expect("statistics");
        assert_eq!(all.len(), count);
        best = best.min(begun.elapsed().as_secs_f64());
    }
    println!("statistics of {count} containers in one call: {:.1} us each", best * 1e6 / count as f64);
    kept_descriptors(&instance, count);
    for number in 0..count {
        let id = ContainerId::new(format!("c{number}")).expect("a name");
        engine.kill_container(&id, Signal::KILL).await.expect("a kill");
    }

    let line = "x".repeat(99);
    let script = format!("yes {line} | head -n {LINES}");
    let spec = container("loud", &image, &["sh", "-c", &script]);
    let (id, begun) = (spec.id.clone(), Instant::now());
    engine.start_container(&sandbox, spec).await.expect("a container");
    engine.wait_container(&id).await.expect("an exit");
    let took = begun.elapsed().as_secs_f64();
    let (mut lines, mut position) = (0, 0);
    loop {
        let chunk = engine.read_log(&id, position, 4 << 20).await.expect("a log");
        lines += chunk.records.len() as u64;
        position = chunk.next;
        if chunk.ended {
            break;
        }
    }
    println!(
        "output of one container: {:.0} lines of 100 bytes a second ({:.0} MB/s), {} of {LINES} in the log",
        LINES as f64 / took,
        LINES as f64 * 100.0 / took / 1e6,
        lines
    );
    engine.shutdown().await.expect("an end");
}

/// The same files, opened once.
fn kept_descriptors(instance: &str, count: usize) {
    let v1 = Path::new("/sys/fs/cgroup/memory").exists();
    let files: &[&str] = if v1 {
        &[
            "memory/{}/memory.stat",
            "memory/{}/memory.usage_in_bytes",
            "memory/{}/memory.max_usage_in_bytes",
            "memory/{}/memory.oom_control",
            "pids/{}/pids.current",
            "pids/{}/pids.max",
            "cpu/{}/cpu.stat",
            "unified/{}/cpu.stat",
            "blkio/{}/blkio.throttle.io_service_bytes_recursive",
            "blkio/{}/blkio.throttle.io_serviced_recursive",
        ]
    } else {
        &[
            "{}/memory.stat",
            "{}/memory.current",
            "{}/memory.events",
            "{}/pids.current",
            "{}/cpu.stat",
            "{}/io.stat",
        ]
    };
    let paths: Vec<PathBuf> = (0..count)
        .flat_map(|number| files.iter().map(move |file| (number, file)))
        .map(|(number, file)| {
            let group = format!("wharf-{instance}/s/c{number}");
            Path::new("/sys/fs/cgroup").join(file.replace("{}", &group))
        })
        .filter(|path| path.exists())
        .collect();
    let kept: Vec<File> = paths.iter().map(|path| File::open(path).expect("a control file")).collect();
    let mut buffer = vec![0; 16 * 1024];
    let mut of_each = [f64::MAX; 2];
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        for file in &kept {
            file.read_at(&mut buffer, 0).expect("a read");
        }
        of_each[0] = of_each[0].min(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        for path in &paths {
            File::open(path).and_then(|file| file.read_at(&mut buffer, 0)).expect("a read");
        }
        of_each[1] = of_each[1].min(begun.elapsed().as_secs_f64());
    }
    let [kept, opened] = of_each.map(|took| took * 1e6 / count as f64);
    println!(
        "their {} files alone: {kept:.1} us with kept descriptors, {opened:.1} us opened each time",
        files.len()
    );
}
