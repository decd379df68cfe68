//! A campaign: processes of the engine are killed at chance moments, in the midst of creating,
//! starting, stopping and removing. `WHARF_KILLS=1000` makes it long; `WHARF_KILLS_SEED` repeats one.
//!
//! What must hold: a container that runs keeps its pid; not a line is lost or doubled; an exit code is
//! the kernel's; what was asked for succeeds when it is asked again; and nothing is left behind.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal as Kill, kill_process};
use support::{children_of, eventually, lines, parent_of, sandbox_spec, world};
use wharf_engine::log::Stream;
use wharf_engine::{ContainerSpec, ContainerState, Engine, EngineError, SandboxId, Signal};
use wharf_engine_keeper::KeeperEngine;

const KILLS_DEFAULT: usize = 16;
const WORKERS: usize = 3;
/// Between two kills: about as long as a start takes on a busy machine.
const PAUSE_US_MAX: u64 = 40_000;
/// What a short container prints.
const LINES: usize = 40;

/// SplitMix64: a campaign can be repeated.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Asks until it succeeds: what a kill cut off may be asked again.
async fn insist<T, F: Future<Output = Result<T, EngineError>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let asking = async {
        loop {
            match ask().await {
                Ok(value) => return value,
                Err(EngineError::Internal { .. } | EngineError::Conflict { .. }) => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{what}: {error}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(120), asking)
        .await
        .unwrap_or_else(|_| panic!("{what} never succeeds"))
}

/// One container after another, each in a sandbox of its own. Returns how many there were.
async fn work(
    engine: KeeperEngine,
    name: String,
    spec: impl Fn(&str, &str) -> ContainerSpec,
    goes_on: Arc<AtomicBool>,
    all_killed: Arc<AtomicUsize>,
) -> usize {
    let mut count = 0;
    while goes_on.load(Ordering::SeqCst) {
        let id = SandboxId::new(format!("{name}-{count}")).unwrap();
        let stubborn = count % 3 == 2;
        let script = if stubborn {
            "trap '' TERM; echo ready; while :; do sleep 0.01; done".to_owned()
        } else {
            format!("seq 1 {LINES}; exit 7")
        };
        let container = spec(&format!("{name}-{count}-c"), &script);
        let killed_before = all_killed.load(Ordering::SeqCst);
        insist("create", || engine.create_sandbox(sandbox_spec(id.as_str()))).await;
        insist("start", || engine.start_container(&id, container.clone())).await;
        if stubborn {
            let grace = Duration::from_millis(20);
            insist("stop", || engine.stop_container(&container.id, Signal::TERM, grace)).await;
        }
        let exit = support::exit_of(&engine, &container.id).await;
        // Where nothing of the engine lived for a moment, nobody kept what ended in it.
        if killed_before == all_killed.load(Ordering::SeqCst) {
            assert_eq!(exit.code, Some(if stubborn { 137 } else { 7 }), "{name}-{count}: {exit:?}");
            let chunk = engine.read_log(&container.id, 0, 1 << 20).await.unwrap();
            if !stubborn {
                let expected: Vec<String> = (1..=LINES).map(|line| line.to_string()).collect();
                assert_eq!(lines(&chunk.records, Stream::Stdout), expected, "{name}-{count}");
            }
        }
        insist("remove", || engine.remove_sandbox(&id)).await;
        count += 1;
    }
    count
}

fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have died since it was looked for.
        let _ = kill_process(pid, Kill::KILL);
    }
}

/// Children of the keeper that are spawners.
fn spawners(keeper: u32) -> Vec<u32> {
    let is_spawner = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "wharf-spawner")
    };
    children_of(keeper).into_iter().filter(is_spawner).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campaign_of_kills_loses_nothing_and_leaves_nothing() {
    let Some(world) = world("a_campaign_of_kills").await else { return };
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let kills = number("WHARF_KILLS").map_or(KILLS_DEFAULT, |kills| usize::try_from(kills).unwrap());
    let seed = number("WHARF_KILLS_SEED").unwrap_or(0x5eed);
    let mut chance = Chance(seed);

    let witnesses = world.sandbox("witnesses").await;
    let script = "i=0; while [ ! -e /go ]; do echo $i; i=$((i+1)); usleep 2000; done; exit 9";
    let witness = world.sh("witness", script);
    let status = world.engine.start_container(&witnesses, witness.clone()).await.unwrap();
    let ContainerState::Running { pid: witness_pid, .. } = status.state else { panic!("{status:?}") };

    let goes_on = Arc::new(AtomicBool::new(true));
    let all_killed = Arc::new(AtomicUsize::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..WORKERS {
        let image = world.image();
        let spec = move |name: &str, script: &str| ContainerSpec {
            layers: vec![image.clone()],
            ..ContainerSpec::new(
                wharf_engine::ContainerId::new(name).unwrap(),
                ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            )
        };
        let (goes_on, all_killed) = (Arc::clone(&goes_on), Arc::clone(&all_killed));
        workers.spawn(work(world.engine.clone(), format!("w{worker}"), spec, goes_on, all_killed));
    }
    for round in 0..kills {
        // The moment is the point: anywhere in what the workers are at.
        tokio::time::sleep(Duration::from_micros(chance.below(PAUSE_US_MAX))).await;
        let Some(keeper) = world.engine.keeper_pid() else { continue };
        let supervisor = parent_of(keeper);
        match chance.below(8) {
            0..=2 => kill(keeper),
            3..=4 => spawners(keeper).into_iter().for_each(kill),
            5..=6 if supervisor > 1 => kill(supervisor),
            _ => {
                all_killed.fetch_add(1, Ordering::SeqCst);
                if supervisor > 1 {
                    kill(supervisor);
                }
                kill(keeper);
                spawners(keeper).into_iter().for_each(kill);
            }
        }
        let status = insist("status", || world.engine.status(&witness.id)).await;
        let is_same = matches!(status.state, ContainerState::Running { pid, .. } if pid == witness_pid);
        assert!(is_same, "round {round} of seed {seed}: {status:?}");
        if workers.try_join_next().is_some_and(|ended| ended.is_err()) {
            panic!("a worker failed in round {round} of seed {seed}");
        }
    }
    goes_on.store(false, Ordering::SeqCst);
    let mut lives = 0;
    while let Some(ended) = workers.join_next().await {
        lives += ended.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    assert!(lives > 0);

    std::fs::write(format!("/proc/{witness_pid}/root/go"), "").unwrap();
    assert_eq!(world.exit_of(&witness.id).await.code, Some(9));
    let printed = lines(&world.log(&witness.id).await, Stream::Stdout);
    assert_eq!(printed, (0..printed.len()).map(|line| line.to_string()).collect::<Vec<_>>());
    world.engine.remove_sandbox(&witnesses).await.unwrap();
    eventually("no sandbox is left", async || world.engine.list().await.unwrap().is_empty()).await.unwrap();
    world.end().await;
}
