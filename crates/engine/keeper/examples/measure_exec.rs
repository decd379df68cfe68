//! Measures a program run in a container that runs: `measure_exec [RUNS] [KEEPER-PROGRAM]`, beside
//! `nsenter` and, where it is installed, nothing else: `crun exec` needs a container of crun's own.
//! Needs root and a static busybox. Compare figures only with others of the same machine and minute.

use std::ffi::OsString;
use std::time::Duration;

use tokio::time::Instant;
use wharf_engine::session::ExecSpec;
use wharf_engine::{ContainerId, ContainerSpec, ContainerState, Engine, SandboxId, SandboxSpec};
use wharf_engine_keeper::{KeeperConfig, KeeperEngine};

fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn told(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (p50, p95) = (ms(times[times.len() / 2]), ms(times[times.len() * 95 / 100]));
    say(&format!("{what:<32} p50 {p50:6.2} ms  p95 {p95:6.2} ms"));
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let runs: usize = args.next().and_then(|text| text.to_str()?.parse().ok()).unwrap_or(300);
    let program: OsString = args.next().unwrap_or_else(|| "target/release/wharf-keeper".into());
    let dir = tempfile::tempdir()?;
    let image = dir.path().join("image");
    std::fs::create_dir_all(image.join("bin"))?;
    std::fs::copy("/bin/busybox", image.join("bin/busybox"))?;
    for applet in ["true", "sleep"] {
        std::os::unix::fs::symlink("busybox", image.join("bin").join(applet))?;
    }
    let config = KeeperConfig::new(dir.path().join("engine"), vec![program]);
    let (engine, _) = KeeperEngine::connect_or_start(config).await?;
    let sandbox = SandboxId::new("exec").ok_or("a name")?;
    engine.create_sandbox(SandboxSpec::new(sandbox.clone())).await?;
    let id = ContainerId::new("exec").ok_or("a name")?;
    let sleep = ["sleep", "1000"].map(str::to_owned).to_vec();
    let spec = ContainerSpec { layers: vec![image], ..ContainerSpec::new(id.clone(), sleep) };
    let status = engine.start_container(&sandbox, spec).await?;
    let ContainerState::Running { pid, .. } = status.state else { return Err("it does not run".into()) };

    let (mut started, mut ended) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let begin = Instant::now();
        let session = engine.exec(&id, ExecSpec::new(vec!["/bin/true".to_owned()])).await?;
        started.push(begin.elapsed());
        if session.control.wait().await.code != Some(0) {
            return Err("true failed".into());
        }
        ended.push(begin.elapsed());
    }
    told("exec: asked -> runs", started);
    told("exec: asked -> exit code", ended);
    let mut peer = Vec::new();
    for _ in 0..runs {
        let begin = Instant::now();
        let done = tokio::process::Command::new("nsenter")
            .args(["-t", &pid.to_string(), "-m", "-u", "-i", "-n", "-p", "-C", "/bin/true"])
            .status()
            .await?;
        if !done.success() {
            return Err("nsenter failed".into());
        }
        peer.push(begin.elapsed());
    }
    told("nsenter (no cgroup, no filter)", peer);
    engine.shutdown().await?;
    Ok(())
}
