//! Real containers from a root of busybox, and a leak check at the end of each test.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::disallowed_macros, clippy::print_stderr, reason = "a skipped test says so")]

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions};
use wharf_engine::{ContainerId, ContainerSpec, EngineError, SandboxId, SandboxResources, SandboxSpec};
use wharf_engine_embedded::spawner::{self, Client, Reply, Request};
use wharf_engine_embedded::{Host, HostConfig, Stdio};

static NEXT: AtomicU32 = AtomicU32::new(0);

const APPLETS: &str = "true false sh cat ls id env echo sleep mount grep pwd touch stat readlink head dd ps wc tr \
                       hostname mknod ip test mkdir kill tail df chroot unshare cut sort nproc dmesg printf chown";

pub struct Engine {
    pub directory: tempfile::TempDir,
    pub host: Host,
    pub client: Client,
    instance: String,
}

/// A failed test must not leave its groups to the next.
impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.client.call(&Request::Sweep { keep: vec![] }, None);
            let pid = Pid::from_raw(self.client.pid.unwrap() as i32).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
            let _ = self.host.tear_down();
        }
    }
}

/// How a container ended and what it said.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub oom_killed: bool,
}

/// A container that runs.
pub struct Running {
    pub pid: u32,
    pub pidfd: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    pub sandbox: SandboxId,
    pub container: ContainerId,
}

impl Engine {
    /// `None`, and a word about it, where containers cannot run.
    pub fn start() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: containers need root");
            return None;
        }
        if !Path::new("/bin/busybox").exists() {
            eprintln!("skipped: no /bin/busybox");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let instance = format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let config =
            HostConfig { instance: instance.clone(), sandboxes_dir: directory.path().join("sandboxes") };
        let host = Host::detect(config).unwrap();
        let client = spawner::fork(&host).unwrap();
        make_root(&directory.path().join("root"));
        Some(Self { directory, host, client, instance })
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn layer(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    pub fn spec(&self, args: &[&str]) -> ContainerSpec {
        ContainerSpec {
            layers: vec![self.root()],
            ..ContainerSpec::new(
                ContainerId::new(format!("c{}", NEXT.fetch_add(1, Ordering::Relaxed))).unwrap(),
                args.iter().map(|&arg| arg.to_owned()).collect(),
            )
        }
    }

    pub fn shell(&self, script: &str) -> ContainerSpec {
        self.spec(&["sh", "-c", script])
    }

    pub fn ask(&self, request: &Request) -> Result<(), EngineError> {
        match self.client.call(request, None).unwrap().reply {
            Reply::Done => Ok(()),
            Reply::Failed { error, .. } => Err(error),
            other => panic!("nothing was to be started: {other:?}"),
        }
    }

    pub fn begin(&self, sandbox: &SandboxSpec, spec: &ContainerSpec) -> Result<Running, EngineError> {
        let (stdout, stdout_in) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (stderr, stderr_in) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        let stdio = Stdio { stdin: None, stdout: stdout_in.as_fd(), stderr: stderr_in.as_fd() };
        let request = Request::Start { sandbox: sandbox.clone(), container: spec.clone() };
        let answer = self.client.call(&request, Some(&stdio)).unwrap();
        match answer.reply {
            Reply::Started { pid } => Ok(Running {
                pid,
                pidfd: answer.pidfd.unwrap(),
                stdout,
                stderr,
                sandbox: sandbox.id.clone(),
                container: spec.id.clone(),
            }),
            Reply::Failed { error, unreaped } => {
                if let Some(pid) = unreaped {
                    let pid = Pid::from_raw(pid as i32);
                    rustix::process::waitpid(pid, WaitOptions::empty()).unwrap();
                }
                Err(error)
            }
            other => panic!("a container was to be started: {other:?}"),
        }
    }

    pub fn end(&self, running: &Running) -> Ended {
        let stdout = read_all(&running.stdout);
        let stderr = read_all(&running.stderr);
        let code = wait(running);
        let oom_killed = self.host.oom_killed(&running.sandbox, &running.container);
        let (sandbox, container) = (running.sandbox.clone(), running.container.clone());
        self.ask(&Request::CleanContainer { sandbox, container }).unwrap();
        Ended { code, stdout, stderr, oom_killed }
    }

    /// In a sandbox of its own that is removed afterwards.
    pub fn run(&self, spec: &ContainerSpec) -> Result<Ended, EngineError> {
        self.run_in(&sandbox(SandboxResources::default()), spec)
    }

    pub fn run_in(&self, sandbox: &SandboxSpec, spec: &ContainerSpec) -> Result<Ended, EngineError> {
        self.ask(&Request::CreateSandbox(sandbox.clone())).unwrap();
        let ended = self.begin(sandbox, spec).map(|running| self.end(&running));
        self.ask(&Request::RemoveSandbox(sandbox.id.clone())).unwrap();
        ended
    }

    /// What the script prints.
    pub fn output(&self, script: &str) -> String {
        let ended = self.run(&self.shell(script)).unwrap();
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.stdout
    }

    /// Takes the engine down and looks for what it left.
    pub fn finish(self) {
        let pid = Pid::from_raw(self.client.pid.unwrap() as i32);
        rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::KILL).unwrap();
        rustix::process::waitpid(pid, WaitOptions::empty()).unwrap();
        self.host.tear_down().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let place = self.directory.path().to_str().unwrap();
        assert!(!mounts.contains(place), "mounts are left:\n{mounts}");
        assert!(!self.directory.path().join("sandboxes").exists());
        let groups = groups_named(&format!("wharf-{}", self.instance));
        assert!(groups.is_empty(), "cgroups are left: {groups:?}");
        let left = Errno::CHILD;
        let any =
            rustix::process::waitid(WaitId::Pid(pid.unwrap()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        assert_eq!(any.unwrap_err(), left);
    }
}

fn groups_named(name: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let mut places = vec![top.to_owned()];
    places.extend(fs::read_dir(top).unwrap().flatten().map(|entry| entry.path()));
    places.into_iter().map(|place| place.join(name)).filter(|place| place.exists()).collect()
}

pub fn sandbox(resources: SandboxResources) -> SandboxSpec {
    SandboxSpec {
        hostname: "ip-10-0-0-9".into(),
        resources,
        name_servers: vec!["10.0.0.2".parse().unwrap()],
        ..SandboxSpec::new(SandboxId::new(format!("s{}", NEXT.fetch_add(1, Ordering::Relaxed))).unwrap())
    }
}

fn make_root(root: &Path) {
    for directory in ["bin", "etc", "tmp", "home/app"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in APPLETS.split_whitespace() {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n")
        .unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\napp:x:1001:\nvideo:x:44:app\n").unwrap();
}

pub fn read_all(fd: &OwnedFd) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => return String::from_utf8_lossy(&bytes).into_owned(),
            Ok(length) => bytes.extend(&buffer[..length]),
            Err(Errno::INTR) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// What is said up to and with `end`.
pub fn read_until(fd: &OwnedFd, end: &str) -> String {
    let mut said = String::new();
    let mut buffer = [0; 256];
    while !said.ends_with(end) {
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => panic!("it ended with {said:?}"),
            Ok(length) => said.push_str(std::str::from_utf8(&buffer[..length]).unwrap()),
            Err(Errno::INTR) => {}
            Err(error) => panic!("{error}"),
        }
    }
    said
}

/// The exit code, as a shell would say it.
pub fn wait(running: &Running) -> i32 {
    let status = rustix::process::waitid(WaitId::PidFd(running.pidfd.as_fd()), WaitIdOptions::EXITED)
        .unwrap()
        .unwrap();
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => panic!("neither exited nor killed"),
    }
}
