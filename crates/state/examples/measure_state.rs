//! Measures the store: `cargo run --release -p wharf-state --example measure_state`. Prints figures, asserts
//! nothing. The directory is a temporary one; set `TMPDIR` to choose the disk.

#![allow(clippy::print_stdout, reason = "the figures are what this program is for")]

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use wharf_state::{Direction, FjallJournal, Index, Journal, Key as _, MemoryJournal, Record, Store};

const TASKS: u64 = 100_000;

#[derive(Clone, Serialize, Deserialize)]
struct Task {
    cluster: String,
    id: String,
    definition: String,
    desired_status: String,
    last_status: String,
    cpu: u32,
    memory: u32,
    created_at_ms: i64,
    containers: Vec<Container>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Container {
    name: String,
    image: String,
    exit_code: Option<i32>,
}

impl Record for Task {
    const TABLE: &'static str = "task";
    const VERSION: u32 = 1;
    type Key = (String, String);

    fn key(&self) -> Self::Key {
        (self.cluster.clone(), self.id.clone())
    }

    fn indexes() -> &'static [Index<Self>] {
        &[Index { name: "by_definition", keys: |task| vec![task.definition.to_bytes()] }]
    }
}

fn task(number: u64) -> Task {
    let mix = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Task {
        cluster: "default".into(),
        id: format!("{mix:016x}{number:016x}"),
        definition: format!("arn:aws:ecs:us-east-1:000000000000:task-definition/hello:{}", mix % 50),
        desired_status: "RUNNING".into(),
        last_status: "PENDING".into(),
        cpu: 256,
        memory: 512,
        created_at_ms: 1_700_000_000_000,
        containers: vec![Container { name: "web".into(), image: "hello:latest".into(), exit_code: None }],
    }
}

fn nanos(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

fn wall() -> u64 {
    nanos(ClockId::Monotonic)
}

fn cpu() -> u64 {
    nanos(ClockId::ProcessCPUTime)
}

/// From `/proc/self/status`: resident KiB, threads.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches(|character: char| !character.is_ascii_digit()).parse().unwrap()
    };
    (field("VmRSS:"), field("Threads:"))
}

fn micros(nanos: u64, of: u64) -> f64 {
    nanos as f64 / 1000.0 / of as f64
}

async fn put(store: &Store, number: u64) {
    store
        .transact(|transaction| {
            transaction.put(task(number));
            Ok::<_, Infallible>(())
        })
        .await
        .unwrap();
}

fn open(journal: Arc<dyn Journal>) -> Store {
    Store::builder(journal).table::<Task>().history("log").open().unwrap()
}

fn open_directory(path: &Path) -> Store {
    open(Arc::new(FjallJournal::open(path).unwrap()))
}

async fn fill(store: &Store, tasks: u64) {
    for chunk in 0..tasks / 1000 {
        store
            .transact(|transaction| {
                (0..1000).for_each(|number| transaction.put(task(chunk * 1000 + number)));
                Ok::<_, Infallible>(())
            })
            .await
            .unwrap();
    }
}

async fn memory(tasks: u64) {
    println!("in memory, {tasks} tasks:");
    let store = open(Arc::new(MemoryJournal::new()));
    fill(&store, tasks).await;
    let snapshot = store.snapshot();
    let keys: Vec<_> = (0..tasks).map(|number| task(number * 7 % tasks).key()).collect();
    let start = cpu();
    let found = keys.iter().filter(|key| snapshot.get::<Task>(key).is_some()).count();
    println!("get                              {:8.2} us", micros(cpu() - start, found as u64));
    let start = cpu();
    let mut found = 0;
    for key in &keys[..1000] {
        found += snapshot.range::<Task>(key.clone()..).take(100).count();
    }
    println!("range of 100                     {:8.2} us ({found} rows)", micros(cpu() - start, 1000));
    let prefix = task(0).definition.to_bytes();
    let start = cpu();
    let mut found = 0;
    for _ in 0..1000 {
        found += snapshot.index::<Task>("by_definition", &prefix).take(100).count();
    }
    println!("index prefix, first 100          {:8.2} us ({found} rows)", micros(cpu() - start, 1000));
    let start = wall();
    (0..1_000_000).for_each(|_| drop(std::hint::black_box(store.snapshot())));
    println!("snapshot                         {:8.3} us", micros(wall() - start, 1_000_000));
    let start = cpu();
    for number in 0..50_000 {
        put(&store, number % tasks).await;
    }
    println!("put, no disk, CPU                {:8.2} us", micros(cpu() - start, 50_000));
}

async fn disk(path: &Path) {
    let store = open_directory(path);
    fill(&store, TASKS).await;

    let mut latencies = Vec::new();
    let start = cpu();
    for number in 0..3000 {
        let start = wall();
        put(&store, number).await;
        latencies.push(wall() - start);
    }
    let used = cpu() - start;
    latencies.sort_unstable();
    println!(
        "one writer, durable              {:8.1} us p50, {:.1} us p99, {:.1} us CPU",
        micros(latencies[1500], 1),
        micros(latencies[2970], 1),
        micros(used, 3000)
    );

    let (start, start_cpu, each) = (wall(), cpu(), 2000u64);
    let writers: Vec<_> = (0..64)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0..each {
                    put(&store, (writer * each + number) % TASKS).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let total = 64 * each;
    println!(
        "64 writers, durable              {:8.0} transactions/s, {:.1} us CPU each",
        total as f64 * 1e9 / (wall() - start) as f64,
        micros(cpu() - start_cpu, total)
    );

    let (start, start_cpu) = (wall(), cpu());
    for batch in 0..200u64 {
        store
            .transact(|transaction| {
                for event in 0..100u64 {
                    transaction.append("log", (batch * 100 + event).to_be_bytes(), vec![b'x'; 120]);
                }
                Ok::<_, Infallible>(())
            })
            .await
            .unwrap();
    }
    println!(
        "history append, batches of 100   {:8.2} us each, {:.2} us CPU",
        micros(wall() - start, 20_000),
        micros(cpu() - start_cpu, 20_000)
    );
    let start = wall();
    for batch in 0..200u64 {
        let low = (batch * 100).to_be_bytes().to_vec();
        assert_eq!(store.history("log").range(low.., Direction::Forward, 100).unwrap().len(), 100);
    }
    println!("history range of 100             {:8.1} us", micros(wall() - start, 200));
}

/// How long an open takes when the journal is long and the state is small.
fn replay(runtime: &tokio::runtime::Runtime, path: &Path) {
    for megabytes in [0u64, 8, 24, 56] {
        let store = open_directory(path);
        let mut rows = 0;
        let journal = path.join("journal/0.jnl");
        let allocated = || {
            use std::os::unix::fs::MetadataExt as _;
            std::fs::metadata(&journal).map_or(u64::MAX, |metadata| metadata.blocks() * 512)
        };
        while allocated() < megabytes * 1_000_000 {
            runtime
                .block_on(store.transact(|transaction| {
                    (0..1000).for_each(|number| transaction.put(task(number)));
                    Ok::<_, Infallible>(())
                }))
                .unwrap();
            rows += 1000;
        }
        drop(store);
        let start = wall();
        drop(FjallJournal::open(path).unwrap());
        println!("open, {megabytes:2} MB of journal (+{rows} rows) {:6.1} ms", (wall() - start) as f64 / 1e6);
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if std::env::args().nth(1).as_deref() == Some("memory") {
        runtime.block_on(memory(2000));
        runtime.block_on(memory(TASKS));
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let small = directory.path().join("small");
    for what in ["new", "small"] {
        let (before, start) = (resident(), wall());
        let store = open_directory(&small);
        let took = wall() - start;
        let after = resident();
        println!(
            "open, {what:26} {:8.2} ms, {} KiB resident more, {} threads more",
            took as f64 / 1e6,
            after.0 - before.0,
            after.1 - before.1
        );
        runtime.block_on(async {
            for number in 0..100 {
                put(&store, number).await;
            }
        });
        let start = wall();
        drop(store);
        println!("close                            {:8.2} ms", (wall() - start) as f64 / 1e6);
    }
    replay(&runtime, &directory.path().join("replay"));
    let large = directory.path().join("large");
    runtime.block_on(disk(&large));
    let start = wall();
    let store = open_directory(&large);
    println!(
        "open, 100k tasks                 {:8.1} ms, {} KiB resident",
        (wall() - start) as f64 / 1e6,
        resident().0
    );
    drop(store);
    runtime.block_on(memory(2000));
    runtime.block_on(memory(TASKS));
}
