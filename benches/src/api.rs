//! The API: CPU of the server for one request, signed and durable, beside moto; from `RunTask` to
//! `RUNNING` as a client sees it; start-up and idle memory.
//!
//! CPU is the kernel's count for all threads of the server's process (schedstat), over many
//! requests of one client on one connection, so that it holds parsing, verification, the handler,
//! the journal and the answer.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use wharf_core::{Clock as _, SystemClock};
use wharf_wire::client::Client;
use wharf_wire::sigv4::SigningCredentials;

use crate::cpu;
use crate::load;
use crate::report::{Report, Spread};

const TARGET: &str = "AmazonEC2ContainerServiceV20141113";
const REPEATS: usize = 5;
/// Tasks that are listed and described, and the cluster that has them alone.
const TASKS: usize = 100;
const CLUSTER: &str = "hundred";
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn bench(wharf: &Path, busybox: &Path, moto: Option<&Path>) -> Result<Report> {
    let mut report = Report::new();
    let directory = tempfile::Builder::new().prefix("wharf-bench").tempdir()?;
    let data = directory.path().join("data");

    let mut starts = Vec::new();
    for _ in 0..REPEATS {
        let server = Wharf::start(wharf, &data)?;
        starts.push(server.ready_after.as_secs_f64() * 1000.0);
        server.down()?;
    }
    let server = Wharf::start(wharf, &data)?;
    let moto = moto.map(Moto::start).transpose()?;
    report.add(
        "ready after start",
        "ms",
        Spread::of(starts),
        moto.as_ref().map(|moto| ("moto", Spread::of(vec![moto.ready_after.as_secs_f64() * 1000.0]))),
        "≤ 50 ms (stretch 8)",
    );
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let idle = Spread::of(vec![megabytes(cpu::rss_bytes(server.pid))]);
    let moto_idle =
        moto.as_ref().map(|moto| ("moto", Spread::of(vec![megabytes(cpu::rss_bytes(moto.child.id()))])));
    report.add("idle memory, control plane (RSS)", "MB", idle, moto_idle, "≤ 20 MB (stretch 12)");
    report.add(
        "idle memory, keeper and spawners (PSS)",
        "MB",
        Spread::of(vec![megabytes(server.keepers_bytes()?)]),
        None,
        "within the 20 MB",
    );

    server.load(busybox, directory.path())?;
    let mut ours = Target::new(&server.endpoint, server.pid, cpu::nanos)?;
    let mut theirs = moto
        .as_ref()
        .map(|moto| Target::new(&moto.endpoint, moto.child.id(), cpu::nanos_of_all_threads))
        .transpose()?;
    ours.prepare().await?;
    if let Some(theirs) = &mut theirs {
        theirs.prepare().await?;
    }

    let latencies = run_to_running(&mut ours, 200).await?;
    let mut sorted = latencies.clone();
    sorted.sort_by(f64::total_cmp);
    report.add("RunTask call → RUNNING seen, p50", "ms", Spread::of(latencies), None, "≤ 12 ms");
    report.add(
        "RunTask call → RUNNING seen, p99",
        "ms",
        Spread::of(vec![sorted[sorted.len() * 99 / 100]]),
        None,
        "≤ 60 ms",
    );

    let before = (cpu::pss_bytes(server.pid), server.keepers_bytes()?);
    ours.hundred_tasks().await?;
    ours.until_running().await?;
    let after = (cpu::pss_bytes(server.pid), server.keepers_bytes()?);
    let kilobytes = |before: u64, after: u64| (after as f64 - before as f64) / 1000.0 / TASKS as f64;
    for (name, grown, budget) in [
        ("keeper and spawners", kilobytes(before.1, after.1), "≤ 20 KB"),
        ("control plane", kilobytes(before.0, after.0), "with the keeper ≤ 20 KB"),
    ] {
        let name = format!("memory per idle running task of {TASKS}, {name} (PSS)");
        report.add(&name, "KB", Spread::of(vec![grown]), None, budget);
    }
    if let Some(theirs) = &mut theirs {
        theirs.hundred_tasks().await?;
    }
    let describe = |target: &Target| json!({"cluster": CLUSTER, "tasks": target.tasks});
    for (name, operation, count, budget) in [
        ("ListTasks(100)", "ListTasks", 2000, "≤ 30 µs"),
        ("DescribeTasks(100)", "DescribeTasks", 500, "≤ 300 µs"),
        ("RegisterTaskDefinition", "RegisterTaskDefinition", 1000, "≤ 40 µs"),
    ] {
        let input = |target: &Target| match operation {
            "ListTasks" => json!({"cluster": CLUSTER}),
            "DescribeTasks" => describe(target),
            _ => definition("registered"),
        };
        let own = ours.cpu_per_request(operation, &input(&ours), count, REPEATS).await?;
        let other = match &mut theirs {
            Some(theirs) => {
                let input = input(theirs);
                Some(("moto", theirs.cpu_per_request(operation, &input, 50, 3).await?))
            }
            None => None,
        };
        report.add(&format!("{name}, CPU a request"), "µs", own, other, budget);
    }
    let (mut rates, mut busy) = (Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        let time = Duration::from_secs(2);
        let before = cpu::nanos(server.pid);
        let rate = load::list_tasks(&server.endpoint, CLUSTER, 16, time).await?;
        busy.push((cpu::nanos(server.pid) - before) as f64 / 1000.0 / (rate * time.as_secs_f64()));
        rates.push(rate);
    }
    // Beside the figure of one client, which holds a wake-up and a sleep of the server for each request.
    report.add("ListTasks(100), CPU a request, 16 connections", "µs", Spread::of(busy), None, "≤ 30 µs");
    report.add(
        "ListTasks(100), 16 connections, the client on the same cores",
        "requests/s",
        Spread::of(rates),
        None,
        "≥ 40,000/s",
    );

    // What a call of RunTask costs the control plane, with everything that follows from it: the
    // task cannot start (its image is missing), so no container's cost is counted.
    let input = ours.run_task("absent");
    ours.call("RegisterTaskDefinition", &definition_of("absent", "absent:1")).await?;
    let own = ours.cpu_per_request("RunTask", &input, 50, REPEATS).await?;
    report.add("RunTask and the end of its task, CPU", "µs", own, None, "≤ 60 µs (accept alone)");

    drop(theirs);
    drop(moto);
    server.down()?;
    Ok(report)
}

/// A server under measurement, and what was made in it.
struct Target {
    client: Client,
    pid: u32,
    /// How its CPU is counted.
    nanos: fn(u32) -> u64,
    subnet: String,
    security_group: String,
    tasks: Vec<String>,
}

impl Target {
    fn new(endpoint: &str, pid: u32, nanos: fn(u32) -> u64) -> Result<Self> {
        Ok(Self {
            client: client(endpoint)?,
            pid,
            nanos,
            subnet: String::new(),
            security_group: String::new(),
            tasks: Vec::new(),
        })
    }

    async fn call(&mut self, operation: &str, input: &Value) -> Result<Value> {
        let body = serde_json::to_vec(input)?;
        let answer = self
            .client
            .call_json("ecs", &format!("{TARGET}.{operation}"), "1.1", body, SystemClock.now())
            .await
            .with_context(|| format!("{operation} failed"))?;
        Ok(serde_json::from_slice(&answer)?)
    }

    async fn prepare(&mut self) -> Result<()> {
        self.subnet = self.first_of("DescribeSubnets", "subnetId").await?;
        // moto starts no task without one.
        self.security_group = self.first_of("DescribeSecurityGroups", "groupId").await?;
        for cluster in ["default", CLUSTER] {
            self.call("CreateCluster", &json!({"clusterName": cluster})).await?;
        }
        self.call("RegisterTaskDefinition", &definition("sleeper")).await?;
        Ok(())
    }

    /// The text of the first element of a name in the answer of an operation of EC2.
    async fn first_of(&mut self, operation: &str, element: &str) -> Result<String> {
        let mut headers = http::HeaderMap::new();
        headers.insert("content-type", "application/x-www-form-urlencoded; charset=utf-8".parse()?);
        let body = format!("Action={operation}&Version=2016-11-15").into();
        let answer =
            self.client.send("ec2", "POST".parse()?, "/", "", headers, body, SystemClock.now()).await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let open = format!("<{element}>");
        let start = text.find(&open).with_context(|| format!("{operation} finds nothing"))? + open.len();
        let end = start + text[start..].find('<').context("the answer is cut")?;
        Ok(text[start..end].to_owned())
    }

    fn run_task(&self, family: &str) -> Value {
        json!({
            "cluster": "default",
            "launchType": "FARGATE",
            "taskDefinition": family,
            "networkConfiguration": {"awsvpcConfiguration": {
                "subnets": [self.subnet],
                "securityGroups": [self.security_group],
            }},
        })
    }

    async fn hundred_tasks(&mut self) -> Result<()> {
        let mut input = self.run_task("sleeper");
        input["cluster"] = json!(CLUSTER);
        input["count"] = json!(10);
        for _ in 0..TASKS / 10 {
            let answer = self.call("RunTask", &input).await?;
            let tasks = answer["tasks"].as_array().context("no tasks")?;
            self.tasks.extend(tasks.iter().filter_map(|task| Some(task["taskArn"].as_str()?.to_owned())));
        }
        if self.tasks.len() != TASKS {
            bail!("{} tasks instead of {TASKS}", self.tasks.len());
        }
        Ok(())
    }

    /// Waits until the tasks run, so that no start is counted with the requests. moto runs nothing.
    async fn until_running(&mut self) -> Result<()> {
        let begun = Instant::now();
        let input = json!({"cluster": CLUSTER, "tasks": self.tasks});
        while begun.elapsed() < PATIENCE {
            let answer = self.call("DescribeTasks", &input).await?;
            let tasks = answer["tasks"].as_array().context("no tasks")?;
            if tasks.iter().all(|task| task["lastStatus"] == "RUNNING") {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the tasks do not run")
    }

    /// Microseconds of the server's CPU.
    async fn cpu_per_request(
        &mut self,
        operation: &str,
        input: &Value,
        count: usize,
        repeats: usize,
    ) -> Result<Spread> {
        for _ in 0..count / 10 {
            self.call(operation, input).await?;
        }
        let mut samples = Vec::new();
        for _ in 0..repeats {
            let before = (self.nanos)(self.pid);
            for _ in 0..count {
                self.call(operation, input).await?;
            }
            samples.push((self.nanos)(self.pid).saturating_sub(before) as f64 / 1000.0 / count as f64);
        }
        Ok(Spread::of(samples))
    }
}

async fn run_to_running(target: &mut Target, runs: usize) -> Result<Vec<f64>> {
    let input = target.run_task("sleeper");
    let mut samples = Vec::new();
    for number in 0..runs + 5 {
        let begun = Instant::now();
        let answer = target.call("RunTask", &input).await?;
        let arn = answer["tasks"][0]["taskArn"].as_str().context("no task")?.to_owned();
        let describe = json!({"cluster": "default", "tasks": [arn]});
        loop {
            let answer = target.call("DescribeTasks", &describe).await?;
            match answer["tasks"][0]["lastStatus"].as_str() {
                Some("RUNNING") => break,
                Some("STOPPED") => bail!("the task stopped: {}", answer["tasks"][0]["stoppedReason"]),
                _ if begun.elapsed() > PATIENCE => bail!("the task does not run"),
                _ => tokio::time::sleep(Duration::from_micros(500)).await,
            }
        }
        if number >= 5 {
            samples.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        target.call("StopTask", &json!({"cluster": "default", "task": arn})).await?;
        loop {
            let answer = target.call("DescribeTasks", &describe).await?;
            if answer["tasks"][0]["lastStatus"] == "STOPPED" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    Ok(samples)
}

fn client(endpoint: &str) -> Result<Client> {
    let credentials = SigningCredentials {
        access_key_id: "test".to_owned(),
        secret_access_key: "test".to_owned(),
        session_token: None,
    };
    Ok(Client::new(endpoint, credentials, "us-east-1".parse()?)?)
}

fn definition(family: &str) -> Value {
    definition_of(family, "busybox:latest")
}

fn definition_of(family: &str, image: &str) -> Value {
    json!({
        "family": family,
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": "256",
        "memory": "512",
        "containerDefinitions": [{
            "name": "main",
            "image": image,
            // moto starts no task without it.
            "memory": 512,
            "essential": true,
            // It may be told before it listens.
            "stopTimeout": 2,
            // Ends at once on SIGTERM.
            "command": ["/bin/busybox", "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"],
            "portMappings": [{"containerPort": 8080}],
            "environment": [{"name": "COLOUR", "value": "blue"}],
        }],
    })
}

struct Wharf {
    program: PathBuf,
    data: PathBuf,
    child: Child,
    endpoint: String,
    pid: u32,
    ready_after: Duration,
}

impl Wharf {
    fn start(program: &Path, data: &Path) -> Result<Self> {
        let begun = Instant::now();
        let mut child = Command::new(program)
            .args(["up", "--json", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start wharf")?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("stdout is piped")?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
        let ready_after = begun.elapsed();
        let ready: Value = serde_json::from_str(&line).context("wharf did not start")?;
        let endpoint = ready["endpoint"].as_str().context("no endpoint")?.to_owned();
        let pid = child.id();
        Ok(Self { program: program.to_owned(), data: data.to_owned(), child, endpoint, pid, ready_after })
    }

    fn command(&self, arguments: &[&str]) -> Result<String> {
        let output =
            Command::new(&self.program).args(arguments).arg("--data-dir").arg(&self.data).output()?;
        if !output.status.success() {
            bail!("wharf {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The keeper and its spawners. Its other children are the containers.
    fn keepers(&self) -> Result<Vec<u32>> {
        let status: Value = serde_json::from_str(&self.command(&["status", "--json"])?)?;
        let keeper = u32::try_from(status["keeper_pid"].as_u64().context("no keeper")?)?;
        let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children"))?;
        let program = |pid: u32| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
        let own = program(keeper);
        let spawners = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        Ok(std::iter::once(keeper).chain(spawners.filter(|&pid| program(pid) == own)).collect())
    }

    /// Proportional set size of the keeper and its spawners.
    fn keepers_bytes(&self) -> Result<u64> {
        Ok(self.keepers()?.into_iter().map(cpu::pss_bytes).sum())
    }

    fn load(&self, busybox: &Path, directory: &Path) -> Result<()> {
        let archive = directory.join("busybox.tar");
        crate::image::write(&archive, busybox)?;
        self.command(&["load", archive.to_str().context("a readable path")?])?;
        Ok(())
    }

    fn down(mut self) -> Result<()> {
        self.command(&["down"])?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Wharf {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.command(&["down"]);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

struct Moto {
    child: Child,
    endpoint: String,
    ready_after: Duration,
}

impl Moto {
    fn start(program: &Path) -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let begun = Instant::now();
        let child = Command::new(program)
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start moto")?;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if begun.elapsed() > PATIENCE {
                bail!("moto does not listen");
            }
            std::thread::yield_now();
        }
        Ok(Self { child, endpoint: format!("http://127.0.0.1:{port}"), ready_after: begun.elapsed() })
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
