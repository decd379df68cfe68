//! The OCI runtimes that our starts are compared with.
//!
//! crun refuses a host of the hybrid kind whose unified hierarchy carries a controller, so that the
//! peers run where that hierarchy is not mounted: in a mount namespace of their own, made once. A
//! process of this program sits there, starts the runtimes when told to, and tells what that took;
//! the way to it is not counted.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How many runs go on at once when a rate is measured.
pub const AT_ONCE: usize = 2;
/// Leaves the mount namespace of the peers without the unified hierarchy, then becomes the peers.
const SCRIPT: &str = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";

/// One OCI runtime, ready to run its bundle.
pub struct Peer {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// `None` where the runtime is not installed.
    pub fn start(name: &str, directory: &Path, root: &Path, arguments: &[&str]) -> Result<Option<Self>> {
        let found = ["/usr/bin", "/usr/sbin", "/usr/local/bin"].map(|folder| Path::new(folder).join(name));
        let Some(program) = found.into_iter().find(|program| program.is_file()) else { return Ok(None) };
        let bundle = directory.join(name);
        std::fs::create_dir_all(&bundle)?;
        std::fs::write(bundle.join("config.json"), serde_json::to_vec(&config(root, arguments))?)?;
        let mut process = Command::new("unshare")
            .args(["--mount", "--", "sh", "-c", SCRIPT, "sh"])
            .arg(std::env::current_exe()?)
            .arg("__peer")
            .args([&program, &bundle, &directory.join(format!("{name}-state"))])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the process that runs the peers")?;
        let requests = process.stdin.take().context("stdin is piped")?;
        let answers = BufReader::new(process.stdout.take().context("stdout is piped")?);
        Ok(Some(Self { process, requests, answers }))
    }

    /// Milliseconds from the start of the runtime to its end, of one run.
    pub fn run(&mut self) -> Result<f64> {
        self.ask(1)
    }

    /// Runs a second, [`AT_ONCE`] at a time.
    pub fn rate(&mut self, count: usize) -> Result<f64> {
        Ok(count as f64 * 1000.0 / self.ask(count)?)
    }

    fn ask(&mut self, count: usize) -> Result<f64> {
        writeln!(self.requests, "{count}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        answer.trim().parse().with_context(|| format!("a run of the peer failed: {answer}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The process in the mount namespace: a line with a number of runs comes in, a line with the
/// milliseconds that they took goes out.
pub fn serve(program: &Path, bundle: &Path, state: &Path) -> Result<()> {
    let runtime = Runtime { program, bundle, state };
    for line in std::io::stdin().lines() {
        let count: usize = line?.trim().parse()?;
        let begun = Instant::now();
        let outcome = if count == 1 { runtime.run("wharf-bench") } else { runtime.run_many(count) };
        let took = begun.elapsed();
        match outcome {
            Ok(()) => anstream::println!("{}", took.as_secs_f64() * 1000.0),
            Err(error) => anstream::println!("{error:#}"),
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Runtime<'a> {
    program: &'a Path,
    bundle: &'a Path,
    state: &'a Path,
}

impl Runtime<'_> {
    fn run(self, id: &str) -> Result<()> {
        let mut command = Command::new(self.program);
        command.arg("--root").arg(self.state).args(["run", "--bundle"]).arg(self.bundle).arg(id);
        let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
        if !output.status.success() {
            bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).replace('\n', " "));
        }
        Ok(())
    }

    fn run_many(self, count: usize) -> Result<()> {
        let part = |of: usize| -> Result<()> {
            (of..count).step_by(AT_ONCE).try_for_each(|number| self.run(&format!("wharf-bench-{number}")))
        };
        std::thread::scope(|scope| {
            let parts: Vec<_> = (0..AT_ONCE).map(|of| scope.spawn(move || part(of))).collect();
            parts.into_iter().try_for_each(|part| match part.join() {
                Ok(outcome) => outcome,
                Err(_) => bail!("a thread died"),
            })
        })
    }
}

/// What a container of ours has, but for the overlay and the veth.
fn config(root: &Path, arguments: &[&str]) -> Value {
    let namespaces: Vec<_> = ["pid", "network", "ipc", "uts", "mount", "cgroup"]
        .iter()
        .map(|kind| json!({"type": kind}))
        .collect();
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    let capabilities = ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_NET_BIND_SERVICE"];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": arguments,
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
            "resources": {
                "memory": {"limit": 512 << 20},
                "cpu": {"shares": 1024, "quota": 100_000, "period": 100_000},
                "pids": {"limit": 4096},
            },
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
