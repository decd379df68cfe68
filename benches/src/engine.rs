//! Container starts: ours with everything on (own address from the pool, overlay root, limits,
//! seccomp), beside `crun run` and `runc run` of the same program with new namespaces, limits and a
//! plain root. The peers do less: they make no veth and no overlay.

mod many;

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
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

use crate::peer::{AT_ONCE, Peer};
use crate::report::{Report, Spread};

const PARALLEL: usize = 8;
/// Starts of one side before it is the other's turn.
const BLOCK: usize = 20;
/// Between two turns.
const REST: Duration = Duration::from_millis(100);
const PROGRAM: [&str; 1] = ["/bin/true"];

struct Bench {
    engine: KeeperEngine,
    plane: Arc<NetlinkPlane>,
    layer: PathBuf,
    rng: SystemRng,
    /// Last octets that are free, so that addresses repeat.
    hosts: Mutex<Vec<u32>>,
}

pub async fn bench(busybox: &Path, runs: usize, sustained: usize, idle: usize) -> Result<Report> {
    let directory = tempfile::Builder::new().prefix("wharf-bench").tempdir()?;
    let layer = directory.path().join("layer");
    make_root(&layer, busybox)?;

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
        layer,
        rng,
        hosts: Mutex::new((4..4000).rev().collect()),
    });

    let measured = match measure(&bench, &directory, runs, sustained).await {
        Ok(mut report) => many::measure(&bench, idle, &mut report).await.map(|()| report),
        Err(error) => Err(error),
    };
    // Nothing stays behind, whatever became of it.
    bench.engine.shutdown().await?;
    bench.plane.teardown().await?;
    measured
}

async fn measure(
    bench: &Arc<Bench>,
    directory: &tempfile::TempDir,
    runs: usize,
    sustained: usize,
) -> Result<Report> {
    let mut report = Report::new();
    let mut crun = Peer::start("crun", directory.path(), &bench.layer, &PROGRAM)?;
    let mut runc = Peer::start("runc", directory.path(), &bench.layer, &PROGRAM)?;
    for _ in 0..BLOCK {
        bench.start_to_exit().await?;
    }
    // In turns, so that the machine's noise falls on all alike; a turn is long enough that what one
    // leaves to the kernel to clean up is not counted with another.
    let (mut ours, mut theirs_crun, mut theirs_runc) = (Vec::new(), Vec::new(), Vec::new());
    let mut parts = Life::PARTS.map(|_| Vec::new());
    while ours.len() < runs {
        for _ in 0..BLOCK {
            let life = bench.start_to_exit().await?;
            ours.push(millis(life.exited));
            for (samples, part) in parts.iter_mut().zip(life.parts()) {
                samples.push(millis(part));
            }
        }
        for (peer, samples) in [(&mut crun, &mut theirs_crun), (&mut runc, &mut theirs_runc)] {
            let Some(peer) = peer else { continue };
            for _ in 0..BLOCK {
                samples.push(peer.run()?);
            }
        }
        tokio::time::sleep(REST).await;
    }
    let ours = Spread::of(ours);
    for (name, samples) in Life::PARTS.into_iter().zip(parts) {
        report.add(&format!("of which {name}"), "ms", Spread::of(samples), None, "a part of the 3 ms");
    }
    let spread = |samples: Vec<f64>| (!samples.is_empty()).then(|| Spread::of(samples));
    report.add(
        "container start → exit, own address",
        "ms",
        ours,
        spread(theirs_crun).map(|spread| ("crun run, without address and overlay", spread)),
        "≤ 3 ms, ≤ 0.33 × crun",
    );
    if let Some(theirs) = spread(theirs_runc) {
        report.add(
            "container start → exit, own address",
            "ms",
            ours,
            Some(("runc run, without address and overlay", theirs)),
            "≤ 3 ms",
        );
    }

    let mut rates = Vec::new();
    for _ in 0..3 {
        rates.push(sustained_rate(bench, sustained).await?);
    }
    let crun_rate = crun.as_mut().map(|crun| crun.rate(100)).transpose()?;
    let peer = format!("crun run, {AT_ONCE} at a time, without address and overlay");
    report.add(
        "sustained starts",
        "starts/s",
        Spread::of(rates),
        crun_rate.map(|rate| (peer.as_str(), Spread::of(vec![rate]))),
        "≥ 450/s",
    );
    Ok(report)
}

fn vpc() -> VpcSpec {
    VpcSpec { id: "vpc-0123456789abcdef0".to_owned(), cidr: "172.31.0.0/16".parse().expect("a block") }
}

fn subnet() -> SubnetSpec {
    SubnetSpec { id: "subnet-0123456789abcdef0".to_owned(), cidr: "172.31.0.0/20".parse().expect("a block") }
}

/// How long after its begin a container was where.
#[derive(Clone, Copy)]
struct Life {
    attached: Duration,
    made: Duration,
    started: Duration,
    exited: Duration,
}

impl Life {
    const PARTS: [&str; 4] = ["attach an address", "make the sandbox", "start", "run and exit"];

    fn parts(self) -> [Duration; 4] {
        [self.attached, self.made - self.attached, self.started - self.made, self.exited - self.started]
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

impl Bench {
    /// One that is free.
    async fn address(&self) -> Result<Address> {
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
            groups: Vec::new(),
        };
        Ok(Address { id, host, eni })
    }

    async fn release(&self, address: Address) -> Result<()> {
        self.plane.detach(&address.eni.id).await?;
        self.hosts.lock().await.push(address.host);
        Ok(())
    }

    /// Starts a container in a sandbox of its own. Tells how long after the begin what was done.
    async fn start(&self, address: &Address, program: &[&str]) -> Result<(SandboxId, [Duration; 3])> {
        let sandbox = SandboxId::new(address.id.clone()).context("digits are an id")?;
        let begun = Instant::now();
        let attached = self.plane.attach(address.eni.clone()).await?;
        let attach = begun.elapsed();
        self.engine
            .create_sandbox(SandboxSpec {
                hostname: "bench".to_owned(),
                netns: Some(attached.netns),
                resources: SandboxResources {
                    cpu_millis: Some(1000),
                    memory_bytes: Some(512 << 20),
                    pids_max: Some(4096),
                },
                ..SandboxSpec::new(sandbox.clone())
            })
            .await?;
        let made = begun.elapsed();
        self.engine.start_container(&sandbox, self.container(address.container()?, program)).await?;
        Ok((sandbox, [attach, made, begun.elapsed()]))
    }

    /// From "make it an address" to "its exit is told".
    async fn start_to_exit(self: &Arc<Self>) -> Result<Life> {
        let address = self.address().await?;
        let container = address.container()?;
        let mut events = self.engine.events();
        let begun = Instant::now();
        let (sandbox, [attached, made, started]) = self.start(&address, &PROGRAM).await?;
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
        let exited = begun.elapsed();
        self.engine.remove_sandbox(&sandbox).await?;
        self.release(address).await?;
        Ok(Life { attached, made, started, exited })
    }

    fn container(&self, id: ContainerId, program: &[&str]) -> ContainerSpec {
        ContainerSpec {
            layers: vec![self.layer.clone()],
            process: ProcessSpec {
                no_new_privileges: true,
                ..ProcessSpec::new(program.iter().map(|word| (*word).to_owned()).collect())
            },
            resources: Resources { cpu_shares: Some(1024), ..Resources::default() },
            ..ContainerSpec::new(id, Vec::new())
        }
    }
}

/// A container's place, and its names.
struct Address {
    id: String,
    host: u32,
    eni: EniSpec,
}

impl Address {
    fn container(&self) -> Result<ContainerId> {
        ContainerId::new(format!("{}-main", self.id)).context("digits are an id")
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
    for applet in ["true", "sleep"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
    }
    Ok(())
}
