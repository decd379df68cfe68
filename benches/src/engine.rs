//! Container starts: ours with everything on (own address from the pool, overlay root, limits,
//! seccomp), beside `crun run` and `runc run` of the same program with new namespaces, limits and a
//! plain root. The peers do less: they make no veth and no overlay.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::{Mutex, Semaphore};
use wharf_core::{Rng as _, SystemRng};
use wharf_engine::{
    ContainerId, ContainerSpec, Engine, EventKind, ProcessSpec, Resources, SandboxId, SandboxResources,
    SandboxSpec,
};
use wharf_engine_keeper::{KeeperConfig, KeeperEngine};
use wharf_network::linux::{InstanceId, NetlinkPlane, PlaneConfig, PoolSize};
use wharf_network::{DataPlane, Egress, EniSpec, MacAddress, SubnetSpec, VpcSpec};

use crate::report::{Report, Spread};

const PARALLEL: usize = 8;
const PROGRAM: [&str; 1] = ["/bin/true"];

struct Bench {
    engine: KeeperEngine,
    plane: Arc<NetlinkPlane>,
    layer: PathBuf,
    rng: SystemRng,
    /// Last octets that are free, so that addresses repeat.
    hosts: Mutex<Vec<u32>>,
}

pub async fn bench(busybox: &Path, runs: usize, sustained: usize) -> Result<Report> {
    let directory = tempfile::Builder::new().prefix("wharf-bench").tempdir()?;
    let layer = directory.path().join("layer");
    make_root(&layer, busybox)?;
    let mut report = Report::new();

    let rng = SystemRng::new();
    let instance = InstanceId::new(rng.hex(8)).context("eight digits are an instance id")?;
    let plane = NetlinkPlane::open(
        PlaneConfig {
            instance,
            run_dir: directory.path().join("run"),
            pool: PoolSize { ready: 16, kept_max: 64 },
        },
        &rng,
    )?;
    plane.recover(Vec::new(), Vec::new()).await?;
    plane.warm(vpc()).await?;
    let program: Vec<OsString> = vec![std::env::current_exe()?.into(), "__keeper".into()];
    let (engine, _connected) =
        KeeperEngine::connect_or_start(KeeperConfig::new(directory.path().join("engine"), program)).await?;
    let bench = Arc::new(Bench {
        engine,
        plane: Arc::new(plane),
        layer: layer.clone(),
        rng,
        hosts: Mutex::new((4..4000).rev().collect()),
    });

    let crun = peer("crun", directory.path(), &layer)?;
    let runc = peer("runc", directory.path(), &layer)?;
    // One after another in turns, so that the machine's noise falls on all alike.
    let (mut ours, mut theirs_crun, mut theirs_runc) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..runs + 10 {
        let own = bench.start_to_exit().await?;
        if number < 10 {
            continue;
        }
        ours.push(own.as_secs_f64() * 1000.0);
        theirs_crun.extend(crun.run()?);
        if number % 4 == 0 {
            theirs_runc.extend(runc.run()?);
        }
    }
    let ours = Spread::of(ours);
    let spread = |samples: Vec<f64>| (!samples.is_empty()).then(|| Spread::of(samples));
    let crun_spread = spread(theirs_crun);
    report.add(
        "container start → exit, own address",
        "ms",
        ours,
        crun_spread.map(|spread| ("crun", spread)),
        "≤ 3 ms, ≤ 0.33 × crun",
    );
    if let Some(runc_spread) = spread(theirs_runc) {
        report.add("container start → exit, own address", "ms", ours, Some(("runc", runc_spread)), "≤ 3 ms");
    }

    let mut rates = Vec::new();
    for _ in 0..3 {
        rates.push(sustained_rate(&bench, sustained).await?);
    }
    let crun_rate = crun.rate(100)?;
    report.add(
        "sustained starts",
        "starts/s",
        Spread::of(rates),
        crun_rate.map(|rate| ("crun, 2 at a time", Spread::of(vec![rate]))),
        "≥ 450/s",
    );

    bench.engine.shutdown().await?;
    bench.plane.teardown().await?;
    Ok(report)
}

fn vpc() -> VpcSpec {
    VpcSpec { id: "vpc-0123456789abcdef0".to_owned(), cidr: "172.31.0.0/16".parse().expect("a block") }
}

fn subnet() -> SubnetSpec {
    SubnetSpec { id: "subnet-0123456789abcdef0".to_owned(), cidr: "172.31.0.0/20".parse().expect("a block") }
}

impl Bench {
    /// From "make it an address" to "its exit is told".
    async fn start_to_exit(self: &Arc<Self>) -> Result<Duration> {
        let id = self.rng.hex(32);
        let host = self.hosts.lock().await.pop().context("no address is free")?;
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 31, 0, 0)) + host);
        let vpc = vpc();
        let eni = EniSpec {
            id: format!("eni-{}", &id[..17]),
            mac: MacAddress::of(&vpc.id, address),
            vpc,
            subnet: subnet(),
            address,
            egress: Egress::VpcOnly,
        };
        let mut events = self.engine.events();
        let sandbox = SandboxId::new(id.clone()).context("digits are an id")?;
        let container = ContainerId::new(format!("{id}-main")).context("digits are an id")?;

        let begun = Instant::now();
        let attached = self.plane.attach(eni.clone()).await?;
        self.engine
            .create_sandbox(SandboxSpec {
                id: sandbox.clone(),
                hostname: "bench".to_owned(),
                netns: Some(attached.netns),
                resources: SandboxResources {
                    cpu_millis: Some(1000),
                    memory_bytes: Some(512 << 20),
                    pids_max: Some(4096),
                },
                name_servers: Vec::new(),
                search_domains: Vec::new(),
                hosts: Vec::new(),
                labels: Vec::new(),
            })
            .await?;
        self.engine.start_container(&sandbox, self.container(container.clone())).await?;
        loop {
            match events.recv().await {
                Ok(event) if event.container == container => {
                    if let EventKind::Exited(exit) = event.kind {
                        if exit.code != Some(0) {
                            bail!("the container ended with {exit:?}");
                        }
                        break;
                    }
                }
                Ok(_) => {}
                Err(error) => bail!("the events broke off: {error}"),
            }
        }
        let took = begun.elapsed();

        self.engine.remove_sandbox(&sandbox).await?;
        self.plane.detach(&eni.id).await?;
        self.hosts.lock().await.push(host);
        Ok(took)
    }

    fn container(&self, id: ContainerId) -> ContainerSpec {
        ContainerSpec {
            id,
            layers: vec![self.layer.clone()],
            readonly_root: false,
            process: ProcessSpec {
                args: PROGRAM.map(str::to_owned).to_vec(),
                env: Vec::new(),
                working_dir: String::new(),
                user: String::new(),
                capabilities_add: Vec::new(),
                capabilities_drop: Vec::new(),
                rlimits: Vec::new(),
                no_new_privileges: true,
            },
            resources: Resources { cpu_shares: Some(1024), ..Resources::default() },
            mounts: Vec::new(),
            tmpfs: Vec::new(),
            shm_bytes: None,
            labels: Vec::new(),
        }
    }
}

/// Starts and ends containers, several at a time, removal included.
async fn sustained_rate(bench: &Arc<Bench>, count: usize) -> Result<f64> {
    let places = Arc::new(Semaphore::new(PARALLEL));
    let mut running = tokio::task::JoinSet::new();
    let begun = Instant::now();
    for _ in 0..count {
        let place = Arc::clone(&places).acquire_owned().await?;
        let bench = Arc::clone(bench);
        running.spawn(async move {
            let outcome = bench.start_to_exit().await;
            drop(place);
            outcome
        });
    }
    while let Some(outcome) = running.join_next().await {
        outcome??;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

fn make_root(root: &Path, busybox: &Path) -> Result<()> {
    for directory in ["bin", "proc", "dev", "sys", "etc", "tmp"] {
        std::fs::create_dir_all(root.join(directory))?;
    }
    std::fs::copy(busybox, root.join("bin/busybox")).context("cannot copy busybox")?;
    std::os::unix::fs::symlink("busybox", root.join("bin/true"))?;
    Ok(())
}

/// An OCI runtime and a bundle for it.
struct Peer {
    program: Option<PathBuf>,
    bundle: PathBuf,
    state: PathBuf,
}

fn peer(name: &str, directory: &Path, root: &Path) -> Result<Peer> {
    let found = ["/usr/bin", "/usr/sbin", "/usr/local/bin"].map(|folder| Path::new(folder).join(name));
    let program = found.into_iter().find(|program| program.is_file());
    let bundle = directory.join(name);
    std::fs::create_dir_all(&bundle)?;
    let namespaces: Vec<_> = ["pid", "network", "ipc", "uts", "mount", "cgroup"]
        .iter()
        .map(|kind| serde_json::json!({"type": kind}))
        .collect();
    let mount = |destination: &str, kind: &str, options: &[&str]| serde_json::json!({"destination": destination, "type": kind, "source": kind, "options": options});
    let capabilities = ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_NET_BIND_SERVICE"];
    let config = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": PROGRAM,
            "env": ["PATH=/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        },
        "root": {"path": root, "readonly": false},
        "hostname": "bench",
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": format!("/wharf-bench-{name}"),
            "resources": {
                "memory": {"limit": 512 << 20},
                "cpu": {"shares": 1024, "quota": 100_000, "period": 100_000},
                "pids": {"limit": 4096},
            },
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    });
    std::fs::write(bundle.join("config.json"), serde_json::to_vec(&config)?)?;
    let state = directory.join(format!("{name}-state"));
    Ok(Peer { program, bundle, state })
}

impl Peer {
    fn command(&self, id: &str) -> Option<Command> {
        let mut command = Command::new(self.program.as_ref()?);
        command.arg("--root").arg(&self.state).args(["run", "--bundle"]).arg(&self.bundle).arg(id);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Some(command)
    }

    /// Milliseconds of one run; `None` without the program.
    fn run(&self) -> Result<Option<f64>> {
        let Some(mut command) = self.command("bench") else { return Ok(None) };
        let begun = Instant::now();
        let output = command.output()?;
        let took = begun.elapsed();
        if !output.status.success() {
            bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(Some(took.as_secs_f64() * 1000.0))
    }

    /// Runs a second, two at a time.
    fn rate(&self, count: usize) -> Result<Option<f64>> {
        if self.program.is_none() {
            return Ok(None);
        }
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let halves = ["a", "b"].map(|half| {
                scope.spawn(move || -> Result<()> {
                    for number in 0..count / 2 {
                        let id = format!("bench-{half}{number}");
                        let output = self.command(&id).context("the program is there")?.output()?;
                        if !output.status.success() {
                            bail!("{}", String::from_utf8_lossy(&output.stderr));
                        }
                    }
                    Ok(())
                })
            });
            halves
                .into_iter()
                .try_for_each(|half| half.join().map_err(|_| anyhow::anyhow!("a thread died"))?)
        })?;
        Ok(Some(count as f64 / begun.elapsed().as_secs_f64()))
    }
}
