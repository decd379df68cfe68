//! Many containers that do nothing: how soon they are up, what each costs of our own memory, how soon
//! a new keeper knows them after a death, and how soon they are gone.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use wharf_engine::{ContainerState, Engine};

use super::{Bench, PARALLEL, millis};
use crate::cpu;
use crate::report::{Report, Spread};

const IDLE: [&str; 2] = ["/bin/sleep", "100000"];
const DEATHS: usize = 3;

pub(super) async fn measure(bench: &Arc<Bench>, count: usize, report: &mut Report) -> Result<()> {
    let keeper = bench.engine.keeper_pid().context("there is a keeper")?;
    let before = own_memory(keeper);
    let begun = Instant::now();
    let containers = each(bench, (0..count).collect(), |bench, _| async move {
        let address = bench.address().await?;
        let (sandbox, _) = bench.start(&address, &IDLE).await?;
        Ok((sandbox, address))
    })
    .await?;
    let up = begun.elapsed().as_secs_f64();
    report.add(
        &format!("{count} idle containers up, own addresses"),
        "s",
        Spread::of(vec![up]),
        None,
        "≤ 5 s for 1,000",
    );
    let each_kib = (own_memory(keeper).saturating_sub(before)) as f64 / 1024.0 / count as f64;
    report.add(
        "memory of keeper, supervisor and spawners a container",
        "KiB",
        Spread::of(vec![each_kib]),
        None,
        "≤ 20 KiB with the control plane's",
    );

    let mut adoptions = Vec::new();
    for _ in 0..DEATHS {
        adoptions.push(adoption(bench, count).await?);
    }
    report.add(
        &format!("{count} containers known again after the keeper's death"),
        "ms",
        Spread::of(adoptions),
        None,
        "≤ 300 ms for 1,000",
    );

    let begun = Instant::now();
    each(bench, containers, |bench, (sandbox, address)| async move {
        bench.engine.remove_sandbox(&sandbox).await?;
        bench.release(address).await
    })
    .await?;
    report.add(
        &format!("{count} running containers removed"),
        "s",
        Spread::of(vec![begun.elapsed().as_secs_f64()]),
        None,
        "none",
    );
    Ok(())
}

/// Does `work` for each, several at a time.
async fn each<I, T, F>(bench: &Arc<Bench>, items: Vec<I>, work: impl Fn(Arc<Bench>, I) -> F) -> Result<Vec<T>>
where
    I: Send + 'static,
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(PARALLEL));
    let mut running = JoinSet::new();
    for item in items {
        let place = Arc::clone(&places).acquire_owned().await?;
        let future = work(Arc::clone(bench), item);
        running.spawn(async move {
            let outcome = future.await;
            drop(place);
            outcome
        });
    }
    let mut done = Vec::new();
    while let Some(outcome) = running.join_next().await {
        done.push(outcome??);
    }
    Ok(done)
}

/// Milliseconds from the keeper's death until another one lists all that runs.
async fn adoption(bench: &Bench, count: usize) -> Result<f64> {
    let keeper = bench.engine.keeper_pid().context("there is a keeper")?;
    let killed = tokio::process::Command::new("kill").args(["-9", &keeper.to_string()]).status().await?;
    let begun = Instant::now();
    let listed = bench.engine.list().await?;
    let took = begun.elapsed();
    let running = listed.iter().flat_map(|sandbox| &sandbox.containers);
    let running =
        running.filter(|container| matches!(container.state, ContainerState::Running { .. })).count();
    if !killed.success() || running != count || bench.engine.keeper_pid() == Some(keeper) {
        bail!("{running} of {count} containers are known after the keeper's death");
    }
    Ok(millis(took))
}

/// Of the keeper, its supervisor and its spawners, in bytes.
fn own_memory(keeper: u32) -> u64 {
    let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
    let status = read(format!("/proc/{keeper}/status"));
    let supervisor = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
    let is_ours = |pid: &u32| read(format!("/proc/{pid}/comm")).starts_with("wharf-");
    let children = read(format!("/proc/{keeper}/task/{keeper}/children"));
    let children = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).filter(is_ours);
    children.chain([keeper]).chain(supervisor.filter(is_ours)).map(cpu::pss_bytes).sum()
}
