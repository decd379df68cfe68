//! What a process has used.

use std::path::PathBuf;

/// Nanoseconds on a CPU, of all threads that a process has now (proc(5), `schedstat`).
pub fn nanos(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// Nanoseconds on a CPU, of all threads that a process has or had, to 10 ms (proc(5), `stat`): for a
/// server that makes a thread for each connection.
pub fn nanos_of_all_threads(pid: u32) -> u64 {
    const NANOS_PER_TICK: u64 = 10_000_000;
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything, the state is the third field; 14 and 15 are wanted.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * NANOS_PER_TICK
}

/// Proportional set size in bytes (proc(5), `smaps_rollup`).
pub fn pss_bytes(pid: u32) -> u64 {
    let text =
        std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/smaps_rollup"))).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|count| count.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Resident set size in bytes (proc(5), `status`).
pub fn rss_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/status"))).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|count| count.parse::<u64>().ok()).unwrap_or(0) * 1024
}
