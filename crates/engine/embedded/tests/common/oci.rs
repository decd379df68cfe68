//! Another runtime, by the OCI bundle interface: a `config.json` with what Docker asks of it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::common::{Ended, Engine};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// What is to run, as both kinds of engine are told it.
#[derive(Clone, Debug)]
pub struct Process {
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub hostname: String,
    pub capabilities: Vec<String>,
    /// Name, soft, hard.
    pub limits: Vec<(String, u64, u64)>,
    pub no_new_privileges: bool,
    pub readonly_root: bool,
    /// Target, options.
    pub tmpfs: Vec<(String, Vec<String>)>,
    /// Source, target, read-only.
    pub binds: Vec<(PathBuf, String, bool)>,
}

/// Docker's default set.
pub const CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

impl Default for Process {
    fn default() -> Self {
        Self {
            args: Vec::new(),
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            cwd: "/".to_owned(),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            hostname: "ip-10-0-0-9".to_owned(),
            capabilities: CAPABILITIES.map(str::to_owned).into(),
            limits: Vec::new(),
            no_new_privileges: false,
            readonly_root: false,
            tmpfs: Vec::new(),
            binds: Vec::new(),
        }
    }
}

/// An installed runtime.
pub struct Runtime(PathBuf);

impl Runtime {
    pub fn find() -> Option<Self> {
        let found = ["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc", "/usr/local/bin/runc"];
        found.iter().map(PathBuf::from).find(|path| path.exists()).map(Self)
    }

    /// In a copy of the engine's root, so that no run sees what another wrote.
    pub fn run(&self, engine: &Engine, process: &Process) -> Ended {
        let id = format!("wharf-oci-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let bundle = engine.path(&id);
        fs::create_dir(&bundle).unwrap();
        let copied = Command::new("cp").arg("-a").arg(engine.root()).arg(bundle.join("rootfs")).status();
        assert!(copied.unwrap().success());
        fs::write(bundle.join("config.json"), config(process, &id).to_string()).unwrap();
        let state = bundle.join("state");
        let output = Command::new(&self.0)
            .arg("--root")
            .arg(&state)
            .args(["run", "--bundle"])
            .arg(&bundle)
            .arg(&id)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let _ = Command::new(&self.0).arg("--root").arg(&state).args(["delete", "--force", &id]).output();
        fs::remove_dir_all(&bundle).unwrap();
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            oom_killed: false,
        }
    }
}

fn config(process: &Process, id: &str) -> Value {
    let capabilities: Vec<String> = process.capabilities.iter().map(|name| format!("CAP_{name}")).collect();
    // As Docker: none for who is not root but the bounding set.
    let effective = if process.uid == 0 { capabilities.clone() } else { Vec::new() };
    let limits: Vec<Value> = process
        .limits
        .iter()
        .map(|(name, soft, hard)| json!({ "type": format!("RLIMIT_{}", name.to_uppercase()), "soft": soft, "hard": hard }))
        .collect();
    let namespaces = ["pid", "ipc", "uts", "mount", "network", "cgroup"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.0.2",
        "hostname": process.hostname,
        "root": { "path": "rootfs", "readonly": process.readonly_root },
        "process": {
            "args": process.args,
            "env": process.env,
            "cwd": process.cwd,
            "user": { "uid": process.uid, "gid": process.gid, "additionalGids": process.groups, "umask": 18 },
            "capabilities": { "bounding": capabilities, "effective": effective, "permitted": effective },
            "rlimits": limits,
            "noNewPrivileges": process.no_new_privileges,
        },
        "mounts": mounts(process),
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "namespaces": namespaces,
            "resources": { "devices": devices() },
            "maskedPaths": [
                "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
                "/sys/devices/virtual/powercap", "/proc/interrupts",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": seccomp(),
        },
    })
}

fn mounts(process: &Process) -> Vec<Value> {
    let mount = |target: &str, kind: &str, options: &[&str]| json!({ "destination": target, "type": kind, "source": kind, "options": options });
    let quiet = ["nosuid", "noexec", "nodev"];
    let mut mounts = vec![
        mount("/proc", "proc", &quiet),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", &quiet),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ];
    for (target, options) in &process.tmpfs {
        let options: Vec<&str> = quiet.into_iter().chain(options.iter().map(String::as_str)).collect();
        mounts.push(mount(target, "tmpfs", &options));
    }
    for (source, target, readonly) in &process.binds {
        let write = if *readonly { "ro" } else { "rw" };
        mounts.push(json!({
            "destination": target, "type": "bind", "source": source, "options": ["rbind", "nodev", write],
        }));
    }
    mounts
}

/// What Docker lets containers open.
fn devices() -> Value {
    let allow = |kind: &str, major: Option<u32>, minor: Option<u32>, access: &str| {
        json!({ "allow": true, "type": kind, "major": major.map_or(-1, i64::from),
                "minor": minor.map_or(-1, i64::from), "access": access })
    };
    json!([
        { "allow": false, "access": "rwm" },
        allow("c", None, None, "m"),
        allow("b", None, None, "m"),
        allow("c", Some(1), Some(3), "rwm"),
        allow("c", Some(1), Some(5), "rwm"),
        allow("c", Some(1), Some(7), "rwm"),
        allow("c", Some(1), Some(8), "rwm"),
        allow("c", Some(1), Some(9), "rwm"),
        allow("c", Some(5), Some(0), "rwm"),
        allow("c", Some(5), Some(2), "rwm"),
        allow("c", Some(136), None, "rwm"),
    ])
}

/// What Docker's default profile refuses and a container's default capabilities would not, the other way
/// round: all but these are open.
fn seccomp() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{
            "names": [
                "add_key", "keyctl", "request_key", "bpf", "fanotify_init", "fsconfig", "fsmount", "fsopen",
                "fspick", "io_uring_setup", "kcmp", "kexec_load", "kexec_file_load", "mount", "mount_setattr",
                "move_mount", "move_pages", "open_by_handle_at", "open_tree", "perf_event_open", "pivot_root",
                "process_vm_readv", "quotactl", "setns", "swapon", "swapoff", "syslog", "umount2", "unshare",
                "userfaultfd", "vhangup",
            ],
            "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
        }, { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }],
    })
}
