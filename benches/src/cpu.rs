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
