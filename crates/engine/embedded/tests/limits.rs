//! Limits hold, what breaks them is told, and everything can be removed while it runs.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use common::{Engine, sandbox, wait};
use wharf_engine::{Resources, SandboxId, SandboxResources};
use wharf_engine_embedded::spawner::Request;

/// The file of a group, wherever this host has the hierarchy; `None` on another kind of host.
fn group_file(engine: &Engine, controller: &str, rest: &str) -> Option<String> {
    let instance = format!("wharf-{}", engine.host.config().instance);
    let v1 = Path::new("/sys/fs/cgroup").join(controller).join(instance).join(rest);
    fs::read_to_string(v1).ok().map(|text| text.trim().to_owned())
}

#[test]
fn limits_stand_in_the_kernels_files() {
    let Some(engine) = Engine::start() else { return };
    let resources =
        SandboxResources { cpu_millis: Some(250), memory_bytes: Some(512 << 20), pids_max: Some(50) };
    let sandbox = sandbox(resources);
    engine.ask(&Request::CreateSandbox(sandbox.clone())).unwrap();
    let mut spec = engine.shell("cat /proc/self/cgroup; cat /sys/fs/cgroup/memory/memory.limit_in_bytes");
    spec.resources = Resources {
        cpu_shares: Some(128),
        memory_bytes: Some(64 << 20),
        memory_reservation_bytes: Some(32 << 20),
        pids_max: Some(20),
        ..Resources::default()
    };
    let running = engine.begin(&sandbox, &spec).unwrap();
    let (s, c) = (&sandbox.id, &spec.id);
    if let Some(quota) = group_file(&engine, "cpu", &format!("{s}/cpu.cfs_quota_us")) {
        assert_eq!(quota, "25000");
        let file = |controller: &str, rest: String| group_file(&engine, controller, &rest).unwrap();
        assert_eq!(file("cpu", format!("{s}/{c}/cpu.shares")), "128");
        assert_eq!(file("memory", format!("{s}/memory.limit_in_bytes")), (512u64 << 20).to_string());
        assert_eq!(file("memory", format!("{s}/{c}/memory.limit_in_bytes")), (64u64 << 20).to_string());
        assert_eq!(file("memory", format!("{s}/{c}/memory.soft_limit_in_bytes")), (32u64 << 20).to_string());
        assert_eq!(file("pids", format!("{s}/pids.max")), "50");
        assert_eq!(file("pids", format!("{s}/{c}/pids.max")), "20");
        let ended = engine.end(&running);
        // From inside, the container's own group is the root, and its limit can be read.
        for controller in ["memory", "cpu", "pids"] {
            assert!(ended.stdout.contains(&format!(":{controller}:/\n")), "{ended:?}");
        }
        assert!(ended.stdout.ends_with(&format!("{}\n", 64u64 << 20)), "{ended:?}");
    } else {
        engine.end(&running);
    }
    engine.ask(&Request::RemoveSandbox(sandbox.id)).unwrap();
    engine.finish();
}

#[test]
fn a_memory_hog_is_killed_and_told_so() {
    let Some(engine) = Engine::start() else { return };
    let mut spec = engine.shell("dd if=/dev/zero of=/dev/null bs=200M count=1");
    spec.resources.memory_bytes = Some(16 << 20);
    let ended = engine.run(&spec).unwrap();
    assert!(ended.oom_killed && ended.code != 0, "{ended:?}");

    // By the sandbox's limit, with none of the container's own.
    let sandbox = sandbox(SandboxResources { memory_bytes: Some(16 << 20), ..Default::default() });
    let ended =
        engine.run_in(&sandbox, &engine.shell("dd if=/dev/zero of=/dev/null bs=200M count=1")).unwrap();
    assert!(ended.oom_killed && ended.code != 0, "{ended:?}");

    // Failing by oneself is not that.
    assert!(!engine.run(&engine.shell("exit 137")).unwrap().oom_killed);
    engine.finish();
}

#[test]
fn a_fork_bomb_stops_at_the_limit() {
    let Some(engine) = Engine::start() else { return };
    let mut spec = engine
        .shell("n=0; while [ $n -lt 100 ]; do sleep 60 & n=$((n+1)); done 2>/tmp/e; echo never; exit 0");
    spec.resources.pids_max = Some(16);
    let ended = engine.run(&spec).unwrap();
    assert!(ended.code != 0 && !ended.stdout.contains("never"), "{ended:?}");
    engine.finish();
}

#[test]
fn use_is_counted() {
    let Some(engine) = Engine::start() else { return };
    let sandbox = sandbox(SandboxResources::default());
    engine.ask(&Request::CreateSandbox(sandbox.clone())).unwrap();
    let spec = engine.shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo ready; sleep 60");
    let running = engine.begin(&sandbox, &spec).unwrap();
    let mut buffer = [0; 16];
    rustix::io::read(&running.stdout, &mut buffer).unwrap();
    let stats = engine.host.stats(&sandbox.id, &spec.id).unwrap();
    assert!(stats.cpu.total_nanos > 1_000_000, "{stats:?}");
    assert!(stats.memory.bytes > 0 && stats.memory.max_bytes >= stats.memory.bytes, "{stats:?}");
    assert!((1..=2).contains(&stats.pids), "{stats:?}");
    rustix::process::pidfd_send_signal(&running.pidfd, rustix::process::Signal::KILL).unwrap();
    assert_eq!(engine.end(&running).code, 137);
    assert!(engine.host.stats(&sandbox.id, &spec.id).is_err());
    engine.ask(&Request::RemoveSandbox(sandbox.id)).unwrap();
    engine.finish();
}

#[test]
fn a_sandbox_can_be_removed_while_its_containers_run() {
    let Some(engine) = Engine::start() else { return };
    let sandbox = sandbox(SandboxResources::default());
    engine.ask(&Request::CreateSandbox(sandbox.clone())).unwrap();
    let spec = engine.shell("sleep 600 & sleep 600 & echo ready; sleep 600");
    let running = engine.begin(&sandbox, &spec).unwrap();
    let mut buffer = [0; 16];
    rustix::io::read(&running.stdout, &mut buffer).unwrap();
    engine.client.send(&Request::RemoveSandbox(sandbox.id.clone()), None).unwrap();
    assert_eq!(wait(&running), 137);
    let mut poll =
        [rustix::event::PollFd::from_borrowed_fd(engine.client.as_fd(), rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut poll, None).unwrap();
    let answer = engine.client.try_receive().unwrap().unwrap();
    assert!(matches!(answer.reply, wharf_engine_embedded::spawner::Reply::Done), "{answer:?}");
    engine.finish();
}

#[test]
fn a_sweep_removes_what_an_earlier_life_left_and_keeps_what_is_alive() {
    let Some(engine) = Engine::start() else { return };
    let (kept, lost) = (sandbox(SandboxResources::default()), sandbox(SandboxResources::default()));
    for sandbox in [&kept, &lost] {
        engine.ask(&Request::CreateSandbox(sandbox.clone())).unwrap();
    }
    let alive = engine.begin(&kept, &engine.shell("echo ready; sleep 600")).unwrap();
    let orphan = engine.begin(&lost, &engine.shell("sleep 600")).unwrap();
    let keep: BTreeSet<SandboxId> = [kept.id.clone()].into();
    // As a spawner leaves it when it is killed between moving aside and removing.
    let trash = engine.host.config().sandboxes_dir.join(".trash");
    fs::create_dir_all(trash.join("1-0/upper/file")).unwrap();
    engine.client.send(&Request::Sweep { keep: keep.into_iter().collect() }, None).unwrap();
    assert_eq!(wait(&orphan), 137);
    // The next answer is the sweep's: no request goes before it.
    let mut poll =
        [rustix::event::PollFd::from_borrowed_fd(engine.client.as_fd(), rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut poll, None).unwrap();
    engine.client.try_receive().unwrap().unwrap();
    let place: PathBuf = engine.host.config().sandboxes_dir.clone();
    assert!(place.join(kept.id.as_str()).exists());
    assert!(!place.join(lost.id.as_str()).exists());
    assert!(!trash.join("1-0").exists());
    assert!(
        rustix::process::test_kill_process(rustix::process::Pid::from_raw(alive.pid as i32).unwrap()).is_ok()
    );
    rustix::process::pidfd_send_signal(&alive.pidfd, rustix::process::Signal::KILL).unwrap();
    engine.end(&alive);
    engine.ask(&Request::RemoveSandbox(kept.id)).unwrap();
    engine.finish();
}
