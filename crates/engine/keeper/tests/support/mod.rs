#![allow(dead_code, reason = "each test file uses a part")]
//! An engine in a directory of its own, with busybox as its only image, and a check at its end that
//! it left nothing behind.

use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wharf_engine::log::{LogRecord, Stream};
use wharf_engine::{ContainerId, ContainerSpec, ContainerState, Engine, ExitStatus, SandboxId, SandboxSpec};
use wharf_engine_keeper::testing::Footprint;
use wharf_engine_keeper::{KeeperConfig, KeeperEngine};

/// For anything that must happen, on a machine that is busy.
const DEADLINE: Duration = Duration::from_secs(60);

pub struct World {
    pub engine: KeeperEngine,
    pub config: KeeperConfig,
    image: PathBuf,
    dir: tempfile::TempDir,
}

/// `None`, said aloud, where the host cannot run the real engine.
pub async fn world(test: &str) -> Option<World> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let (true, Some(busybox)) = (rustix::process::geteuid().is_root(), busybox) else {
        // Past the test harness, which would swallow it.
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: needs root and a static busybox");
        return None;
    };
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    std::fs::create_dir_all(image.join("bin")).unwrap();
    std::fs::create_dir_all(image.join("tmp")).unwrap();
    std::fs::copy(busybox, image.join("bin/busybox")).unwrap();
    for applet in [
        "sh", "true", "false", "echo", "cat", "sleep", "seq", "yes", "head", "dd", "tr", "date", "usleep",
        "rm", "touch", "wc",
    ] {
        std::os::unix::fs::symlink("busybox", image.join("bin").join(applet)).unwrap();
    }
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program: OsString = env!("CARGO_BIN_EXE_wharf-keeper").into();
    let config = KeeperConfig::new(dir.path().join("engine"), vec![program]);
    let (engine, _) = KeeperEngine::connect_or_start(config.clone()).await.unwrap();
    Some(World { engine, config, image, dir })
}

impl World {
    /// The engine is told to end, and must leave nothing.
    pub async fn end(self) {
        self.engine.shutdown().await.unwrap();
        let engine_dir = self.config.dir.clone();
        let gone = || Footprint::of(&self.config.instance, &engine_dir);
        eventually("everything is gone", async || gone() == Footprint::default()).await.unwrap_or_else(
            |_| {
                panic!("left behind: {:#?}", gone().beyond(&Footprint::default()));
            },
        );
        drop(self.dir);
    }

    pub fn image(&self) -> PathBuf {
        self.image.clone()
    }

    pub async fn sandbox(&self, name: &str) -> SandboxId {
        let spec = sandbox_spec(name);
        let id = spec.id.clone();
        self.engine.create_sandbox(spec).await.unwrap();
        id
    }

    pub fn spec(&self, name: &str, args: &[&str]) -> ContainerSpec {
        ContainerSpec {
            layers: vec![self.image.clone()],
            labels: vec![("name".to_owned(), name.to_owned())],
            ..ContainerSpec::new(
                ContainerId::new(name).unwrap(),
                args.iter().map(|arg| (*arg).to_owned()).collect(),
            )
        }
    }

    pub fn sh(&self, name: &str, script: &str) -> ContainerSpec {
        self.spec(name, &["/bin/sh", "-c", script])
    }

    /// Starts it and waits for its end.
    pub async fn run(&self, sandbox: &SandboxId, spec: ContainerSpec) -> (ExitStatus, Vec<LogRecord>) {
        let id = spec.id.clone();
        self.engine.start_container(sandbox, spec).await.unwrap();
        let exit = self.exit_of(&id).await;
        (exit, self.log(&id).await)
    }

    pub async fn exit_of(&self, container: &ContainerId) -> ExitStatus {
        exit_of(&self.engine, container).await
    }

    /// The whole log of a container that has exited.
    pub async fn log(&self, container: &ContainerId) -> Vec<LogRecord> {
        let mut records = Vec::new();
        let mut position = 0;
        loop {
            let chunk = self.engine.read_log(container, position, 1 << 20).await.unwrap();
            position = chunk.next;
            records.extend(chunk.records);
            if chunk.ended {
                return records;
            }
        }
    }
}

pub async fn exit_of(engine: &KeeperEngine, container: &ContainerId) -> ExitStatus {
    let mut events = engine.events();
    let wait = async {
        loop {
            if let ContainerState::Exited { exit, .. } = engine.status(container).await.unwrap().state {
                return exit;
            }
            // Any event is a reason to look again; so is having missed some.
            let _ = events.recv().await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("the container exits")
}

pub fn sandbox_spec(name: &str) -> SandboxSpec {
    SandboxSpec {
        hostname: name.to_owned(),
        labels: vec![("of".to_owned(), "test".to_owned())],
        ..SandboxSpec::new(SandboxId::new(name).unwrap())
    }
}

/// The lines of one stream, parts joined.
pub fn lines(records: &[LogRecord], stream: Stream) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = Vec::new();
    for record in records.iter().filter(|record| record.stream == stream) {
        line.extend_from_slice(&record.text);
        if !record.partial {
            lines.push(String::from_utf8_lossy(&std::mem::take(&mut line)).into_owned());
        }
    }
    assert!(line.is_empty(), "an unfinished line is left: {line:?}");
    lines
}

/// Waits until `holds`, looking again and again.
pub async fn eventually<F: Future<Output = bool>>(
    what: &str,
    mut holds: impl FnMut() -> F,
) -> Result<(), String> {
    let look = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, look).await.map_err(|_| format!("it never came about that {what}"))
}

/// Kills a process of ours with SIGKILL, and waits until it is gone.
pub async fn kill_hard(pid: u32) {
    let process = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    eventually("the keeper is dead", async || !is_alive(pid)).await.unwrap();
}

pub fn parent_of(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
    parent.unwrap_or(0)
}

pub fn children_of(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_ascii_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Not dead, and not a zombie.
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
