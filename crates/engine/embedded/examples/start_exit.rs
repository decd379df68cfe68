//! Measures a container from the request to its exit, beside crun and runc, in one run:
//! `cargo run --release -p wharf-engine-embedded --example start_exit -- [RUNS]` as root.
//!
//! Every runtime starts busybox `true` from a root of the same files, with the same limits, in a
//! network namespace made beforehand. Ours is asked over the spawner's socket, as the keeper does,
//! and cleaned up outside the measured time, as the keeper does; `crun run` and `runc run` clean up
//! themselves. Their own default spec makes a network namespace where ours has one made before.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as ProcessStdio};
use std::time::Instant;

use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions};
use wharf_engine::{
    ContainerId, ContainerSpec, ProcessSpec, Resources, SandboxId, SandboxResources, SandboxSpec, Users,
};
use wharf_engine_embedded::spawner::{self, Client, Reply, Request};
use wharf_engine_embedded::{Host, HostConfig, Stdio};

const MEMORY_BYTES: u64 = 64 << 20;
const PIDS: u32 = 100;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let runs: usize = std::env::args().nth(1).map_or(Ok(200), |text| text.parse())?;
    let directory = tempfile::tempdir()?;
    let root = directory.path().join("root");
    fs::create_dir_all(root.join("bin"))?;
    fs::copy("/bin/busybox", root.join("bin/true"))?;

    let instance = format!("bench{}", std::process::id());
    let sandboxes_dir = directory.path().join("sandboxes");
    let host = Host::detect(HostConfig { instance, sandboxes_dir })?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", host.kernel_summary())?;
    let client = spawner::fork(&host)?;
    let sandbox = sandbox();
    ask(&client, &Request::CreateSandbox(sandbox.clone()))?;

    // crun refuses hybrid hosts whose v2 hierarchy has a controller: there it goes without limits.
    let mut peers = [
        Peer::new("crun", "crun", &[], directory.path(), &root),
        Peer::new("crun without cgroups", "crun", &["--cgroup-manager=disabled"], directory.path(), &root),
        Peer::new("runc", "runc", &[], directory.path(), &root),
    ];
    let null = fs::OpenOptions::new().write(true).open("/dev/null")?;
    let stdio = Stdio { stdin: None, stdout: null.as_fd(), stderr: null.as_fd() };
    let private = SandboxSpec { users: Users::Private, ..named(sandbox.clone(), "private") };
    ask(&client, &Request::CreateSandbox(private.clone()))?;
    let (mut ours, mut started, mut with_private, mut first, mut first_private) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in 0..runs {
        let life = |sandbox: &SandboxSpec, name: &str| -> Result<(f64, f64), Failure> {
            start_and_end(&client, sandbox, &container(name, run, &root), &stdio)
        };
        let (start, end) = life(&sandbox, "host")?;
        started.push(start);
        ours.push(end);
        with_private.push(life(&private, "private")?.1);
        // A sandbox of its own, as a task has it: the user namespace is made anew.
        for (times, users) in [(&mut first, Users::Host), (&mut first_private, Users::Private)] {
            let own = SandboxSpec { users, ..named(sandbox.clone(), &format!("own{run}")) };
            let from = Instant::now();
            ask(&client, &Request::CreateSandbox(own.clone()))?;
            let made = from.elapsed().as_secs_f64() * 1e3;
            times.push(made + life(&own, "own")?.1);
            ask(&client, &Request::RemoveSandbox(own.id))?;
        }
        // In turns, so that a busy moment of the machine meets all of them.
        if run % 2 == 0 {
            peers.iter_mut().for_each(|peer| peer.run(run));
        }
    }
    writeln!(out, "wharf  start       {}", summary(&mut started))?;
    let median = report(&mut out, "wharf", &mut ours, None)?;
    report(&mut out, "wharf, private users", &mut with_private, None)?;
    report(&mut out, "wharf, new sandbox", &mut first, None)?;
    report(&mut out, "wharf, new sandbox, private users", &mut first_private, None)?;

    ask(&client, &Request::RemoveSandbox(private.id))?;
    ask(&client, &Request::RemoveSandbox(sandbox.id))?;
    let pid = client.pid.and_then(|pid| Pid::from_raw(pid.cast_signed()));
    drop(client);
    rustix::process::waitpid(pid, WaitOptions::empty())?;
    host.tear_down()?;

    for peer in &mut peers {
        match &peer.failure {
            None => drop(report(&mut out, peer.name, &mut peer.times, Some(median))?),
            Some(failure) => writeln!(out, "{}: not measured: {failure}", peer.name)?,
        }
    }
    Ok(())
}

fn named(sandbox: SandboxSpec, name: &str) -> SandboxSpec {
    SandboxSpec { id: SandboxId::new(name).unwrap_or(sandbox.id), ..sandbox }
}

/// Milliseconds until the program runs, and until it has ended.
fn start_and_end(
    client: &Client,
    sandbox: &SandboxSpec,
    spec: &ContainerSpec,
    stdio: &Stdio<'_>,
) -> Result<(f64, f64), Failure> {
    let request = Request::Start { sandbox: sandbox.clone(), container: spec.clone() };
    let from = Instant::now();
    let answer = client.call(&request, Some(stdio))?;
    let started = from.elapsed().as_secs_f64() * 1e3;
    let (Reply::Started { .. }, Some(pidfd)) = (answer.reply.clone(), answer.pidfd) else {
        return Err(format!("{:?}", answer.reply).into());
    };
    let mut poll = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut poll, None)?;
    let ended = from.elapsed().as_secs_f64() * 1e3;
    rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
    ask(client, &Request::CleanContainer { sandbox: sandbox.id.clone(), container: spec.id.clone() })?;
    Ok((started, ended))
}

fn report(
    out: &mut impl std::io::Write,
    name: &str,
    times: &mut [f64],
    ours: Option<f64>,
) -> Result<f64, Failure> {
    let text = summary(times);
    let median = times[times.len() / 2];
    let ratio = ours.map(|ours| format!("  wharf / {name} = {:.3}", ours / median)).unwrap_or_default();
    writeln!(out, "{name:6} start→exit  {text}{ratio}")?;
    Ok(median)
}

fn summary(times: &mut [f64]) -> String {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    format!("p50 {:6.2} ms  p95 {:6.2}  min {:6.2}  max {:6.2}", at(0.5), at(0.95), at(0.0), at(1.0))
}

fn ask(client: &Client, request: &Request) -> Result<(), Failure> {
    match client.call(request, None)?.reply {
        Reply::Done => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

fn sandbox() -> SandboxSpec {
    SandboxSpec {
        hostname: "bench".into(),
        resources: SandboxResources {
            cpu_millis: Some(2000),
            memory_bytes: Some(MEMORY_BYTES * 2),
            pids_max: Some(PIDS),
        },
        ..SandboxSpec::new(SandboxId::new("bench").unwrap_or_else(|| unreachable!("a valid id")))
    }
}

fn container(name: &str, run: usize, root: &Path) -> ContainerSpec {
    ContainerSpec {
        layers: vec![root.to_owned()],
        process: ProcessSpec { no_new_privileges: true, ..ProcessSpec::new(vec!["/bin/true".into()]) },
        resources: Resources {
            cpu_shares: Some(512),
            memory_bytes: Some(MEMORY_BYTES),
            pids_max: Some(PIDS),
            ..Resources::default()
        },
        ..ContainerSpec::new(
            ContainerId::new(format!("{name}{run}")).unwrap_or_else(|| unreachable!("a valid id")),
            Vec::new(),
        )
    }
}

/// A runtime that is run with its own default spec, with the same limits and without a terminal.
struct Peer {
    name: &'static str,
    runtime: &'static str,
    options: &'static [&'static str],
    bundle: PathBuf,
    times: Vec<f64>,
    failure: Option<String>,
}

impl Peer {
    fn new(
        name: &'static str,
        runtime: &'static str,
        options: &'static [&'static str],
        directory: &Path,
        root: &Path,
    ) -> Self {
        let bundle = directory.join(name.replace(' ', "-"));
        let failure = write_spec(runtime, &bundle, root).err().map(|error| error.to_string());
        Self { name, runtime, options, bundle, times: Vec::new(), failure }
    }

    fn run(&mut self, run: usize) {
        if self.failure.is_some() {
            return;
        }
        let id = format!("wharf-bench-{}-{run}", std::process::id());
        let from = Instant::now();
        let output = Command::new(self.runtime)
            .args(self.options)
            .args(["run", "--bundle"])
            .arg(&self.bundle)
            .arg(&id)
            .stdin(ProcessStdio::null())
            .output();
        self.times.push(from.elapsed().as_secs_f64() * 1e3);
        self.failure = match output {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Some(error.to_string()),
        };
    }
}

fn write_spec(runtime: &str, bundle: &Path, root: &Path) -> Result<(), Failure> {
    fs::create_dir(bundle)?;
    if !Command::new(runtime).arg("spec").current_dir(bundle).status()?.success() {
        return Err("it writes no spec".into());
    }
    let config = bundle.join("config.json");
    let text = fs::read_to_string(&config)?
        .replace("\"terminal\": true", "\"terminal\": false")
        .replace("\"sh\"", "\"/bin/true\"")
        .replace("\"path\": \"rootfs\"", &format!("\"path\": {:?}", root.display().to_string()))
        .replacen(
            "\"resources\": {",
            &format!(
                "\"resources\": {{ \"memory\": {{\"limit\": {MEMORY_BYTES}}}, \"pids\": {{\"limit\": {PIDS}}}, \
                 \"cpu\": {{\"shares\": 512}},"
            ),
            1,
        );
    fs::write(&config, text)?;
    Ok(())
}
