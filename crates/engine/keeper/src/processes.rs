//! What the kernel tells of a process: proc_pid_stat(5), proc_pid_status(5), proc_pid_cmdline(5).

use std::time::Duration;

use wharf_engine::session::Process;

/// Bytes of a command line that are kept.
const COMMAND_BYTES_MAX: usize = 4096;
/// Major numbers of terminals in `/dev/pts`, Documentation/admin-guide/devices.txt.
const PTS_MAJORS: std::ops::RangeInclusive<u32> = 136..=143;

pub fn read(pids: &[u32]) -> Vec<Process> {
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let page = rustix::param::page_size() as u64;
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let uptime = uptime.split(' ').next().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    pids.iter().filter_map(|&pid| read_one(pid, ticks, page, uptime)).collect()
}

fn read_one(pid: u32, ticks: u64, page: u64, uptime: f64) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses, which may hold anything.
    let (head, rest) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Numbered from 3 in the manual page.
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |field_number| field(field_number).and_then(|text| text.parse::<u64>().ok());
    let in_ticks = |count: u64| Duration::from_millis(count.saturating_mul(1000) / ticks);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_ascii_whitespace().nth(1)?.parse().ok())?;
    let mut command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    command.truncate(COMMAND_BYTES_MAX);
    let command: Vec<String> = command
        .split(|&byte| byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let started = number(22)? as f64 / ticks as f64;
    Some(Process {
        pid,
        parent_pid: u32::try_from(number(4)?).ok()?,
        uid,
        state: field(3)?.chars().next()?,
        threads: u32::try_from(number(20)?).ok()?,
        cpu: in_ticks(number(14)? + number(15)?),
        resident_bytes: number(24)?.saturating_mul(page),
        age: Duration::from_secs_f64((uptime - started).max(0.0)),
        terminal: field(7).and_then(|text| text.parse::<i32>().ok()).and_then(terminal),
        command: if command.is_empty() { vec![format!("[{name}]")] } else { command },
    })
}

fn terminal(device: i32) -> Option<String> {
    let device = device.cast_unsigned();
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    PTS_MAJORS.contains(&major).then(|| format!("pts/{}", (major - PTS_MAJORS.start()) * 256 + minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_as_it_is() {
        let me = std::process::id();
        let read = read(&[me, u32::MAX]);
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].pid, read[0].uid), (me, rustix::process::geteuid().as_raw()));
        assert!(read[0].resident_bytes > 0 && !read[0].command.is_empty());
        assert!(read[0].age < Duration::from_secs(24 * 3600), "{:?}", read[0].age);
    }

    #[test]
    fn a_terminal_is_named_by_its_number() {
        assert_eq!(terminal((136 << 8) | 5), Some("pts/5".to_owned()));
        assert_eq!(terminal(0), None);
        assert_eq!(terminal((4 << 8) | 1), None);
    }
}
