//! The v1 driver on a tree of plain files.

use wharf_engine::Resources;

use super::*;
use crate::cgroup::fake::{Fake, block_io, container, limits, sandbox};

fn driver(fake: &Fake) -> V1 {
    V1::open(&fake.mounts, "wharf-t", Open::Make).unwrap()
}

#[test]
fn limits_land_in_their_files() {
    let fake = Fake::v1();
    let driver = driver(&fake);
    let resources =
        SandboxResources { cpu_millis: Some(250), memory_bytes: Some(512 << 20), pids_max: Some(100) };
    driver.create_sandbox(&sandbox(), &resources).unwrap();
    assert_eq!(fake.read("cpu/wharf-t/s/cpu.cfs_quota_us"), "25000");
    assert_eq!(fake.read("cpu/wharf-t/s/cpu.shares"), "256");
    assert_eq!(fake.read("memory/wharf-t/s/memory.limit_in_bytes"), "536870912");
    assert_eq!(fake.read("memory/wharf-t/s/memory.memsw.limit_in_bytes"), "536870912");
    assert_eq!(fake.read("memory/wharf-t/s/memory.swappiness"), "0");
    assert_eq!(fake.read("pids/wharf-t/s/pids.max"), "100");

    let resources = Resources {
        cpu_shares: Some(1),
        cpu_millis: Some(125),
        memory_reservation_bytes: Some(1 << 20),
        pids_max: Some(7),
        block_io: block_io(),
        ..Resources::default()
    };
    let membership = driver.create_container(&sandbox(), &container(), &limits(&resources)).unwrap();
    // cpu, cpuacct, memory, pids, blkio, devices; and freezer, for there is no v2 beside.
    assert_eq!(membership.join.len(), 7);
    assert!(membership.into.is_none());
    assert_eq!(fake.read("cpu/wharf-t/s/c/cpu.shares"), "2");
    assert_eq!(fake.read("cpu/wharf-t/s/c/cpu.cfs_quota_us"), "12500");
    assert_eq!(fake.read("memory/wharf-t/s/c/memory.soft_limit_in_bytes"), "1048576");
    assert_eq!(fake.read("memory/wharf-t/s/c/memory.limit_in_bytes"), "");
    assert_eq!(fake.read("pids/wharf-t/s/c/pids.max"), "7");
    assert_eq!(fake.read("blkio/wharf-t/s/c/blkio.bfq.weight"), "300");
    assert_eq!(fake.read("blkio/wharf-t/s/c/blkio.throttle.read_bps_device"), "8:16 1000000");
    assert_eq!(fake.read("blkio/wharf-t/s/c/blkio.throttle.write_iops_device"), "8:16 50");
    assert_eq!(fake.read("blkio/wharf-t/s/c/blkio.throttle.write_bps_device"), "");
    assert_eq!(driver.sandboxes().unwrap(), ["s"]);
}

#[test]
fn swap_is_beside_the_memory_and_never_alone() {
    let fake = Fake::v1();
    let driver = driver(&fake);
    let mut resources = Resources { swap_bytes: Some(1 << 20), ..Resources::default() };
    let refused = driver.create_container(&sandbox(), &container(), &limits(&resources));
    assert!(matches!(refused, Err(CgroupError::Unsupported { .. })), "{refused:?}");
    resources.memory_bytes = Some(2 << 20);
    driver.create_container(&sandbox(), &container(), &limits(&resources)).unwrap();
    assert_eq!(fake.read("memory/wharf-t/s/c/memory.limit_in_bytes"), "2097152");
    assert_eq!(fake.read("memory/wharf-t/s/c/memory.memsw.limit_in_bytes"), "3145728");
    assert_eq!(fake.read("memory/wharf-t/s/c/memory.swappiness"), "");
}

#[test]
fn what_the_host_lacks_for_block_io_is_refused_by_name() {
    let fake = Fake::v1();
    let resources = Resources { block_io: block_io(), ..Resources::default() };
    fake.remove("blkio/wharf-t/s/c/blkio.bfq.weight");
    let refused = driver(&fake).create_container(&sandbox(), &container(), &limits(&resources));
    assert!(refused.unwrap_err().to_string().contains("the weight of block I/O"));
    let mut fake = Fake::v1();
    fake.mounts.v1.retain(|mount| mount.controllers != ["blkio"]);
    let refused = driver(&fake).create_container(&sandbox(), &container(), &limits(&resources));
    assert!(refused.unwrap_err().to_string().contains("no blkio controller"));
}

#[test]
fn use_is_read_from_its_files() {
    let fake = Fake::v1();
    let at = |file: &str| format!("{}/wharf-t/s/c/{file}", file.split('.').next().unwrap());
    for (file, text) in [
        ("cpuacct.usage", "9000\n"),
        ("cpuacct.usage_user", "6000\n"),
        ("cpuacct.usage_sys", "3000\n"),
        ("cpu.stat", "nr_periods 10\nnr_throttled 4\nthrottled_time 77\n"),
        ("memory.usage_in_bytes", "4096\n"),
        ("memory.max_usage_in_bytes", "8192\n"),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
        (
            "memory.stat",
            "cache 1\nhierarchical_memory_limit 9223372036854771712\ntotal_cache 100\ntotal_rss 200\ntotal_swap 5\ntotal_pgmajfault 6\ntotal_inactive_file 50\n",
        ),
        ("pids.current", "3\n"),
        ("pids.max", "max\n"),
        ("blkio.throttle.io_service_bytes_recursive", "8:0 Read 10\n8:0 Write 20\n8:16 Read 1\nTotal 31\n"),
        ("blkio.throttle.io_serviced_recursive", "8:0 Read 2\n8:0 Write 3\nTotal 5\n"),
    ] {
        fake.write(&at(file), text);
    }
    let stats = driver(&fake).stats(&sandbox(), &container(), Reading::Once).unwrap();
    assert_eq!(
        stats.cpu,
        CpuStats {
            total_nanos: 9000,
            user_nanos: 6000,
            system_nanos: 3000,
            periods: 10,
            throttled_periods: 4,
            throttled_nanos: 77
        }
    );
    assert_eq!(
        stats.memory,
        MemoryStats {
            bytes: 4096,
            max_bytes: 8192,
            limit_bytes: None,
            cache_bytes: 100,
            rss_bytes: 200,
            inactive_file_bytes: 50,
            swap_bytes: 5,
            major_faults: 6,
            oom_kills: 2
        }
    );
    assert_eq!((stats.pids, stats.pids_max), (3, None));
    assert_eq!(stats.block, BlockStats { read_bytes: 11, write_bytes: 20, reads: 2, writes: 3 });
}

#[test]
fn an_exec_has_a_group_of_its_own_where_processes_are_counted_and_the_containers_elsewhere() {
    let fake = Fake::v1();
    let membership = driver(&fake).create_exec(&sandbox(), &container(), "e").unwrap();
    assert_eq!(membership.join.len(), 7);
    fake.write("pids/wharf-t/s/c/cgroup.procs", "7\n");
    fake.write("pids/wharf-t/s/c/e/cgroup.procs", "5\n9\n");
    assert_eq!(driver(&fake).processes(&sandbox(), &container()).unwrap(), [5, 7, 9]);
}

#[test]
fn freezing_is_believed_when_the_kernel_says_so() {
    let fake = Fake::v1();
    let driver = driver(&fake);
    // A plain file says at once what was written.
    driver.freeze(&sandbox(), &container(), Freezer::Frozen).unwrap();
    assert_eq!(fake.read("freezer/wharf-t/s/c/freezer.state"), "FROZEN");
    assert_eq!(driver.frozen(&sandbox(), &container()).unwrap(), Freezer::Frozen);
    driver.freeze(&sandbox(), &container(), Freezer::Thawed).unwrap();
    assert_eq!(driver.frozen(&sandbox(), &container()).unwrap(), Freezer::Thawed);
}

#[test]
fn a_reader_makes_nothing() {
    let fake = Fake::v1();
    assert!(V1::open(&fake.mounts, "wharf-other", Open::Existing).is_err());
    assert!(!fake.exists("memory/wharf-other"));
}

#[test]
fn a_host_without_the_memory_controller_is_refused() {
    let mut fake = Fake::v1();
    fake.mounts.v1.retain(|mount| mount.controllers != ["memory"]);
    let refused = V1::open(&fake.mounts, "wharf-t", Open::Make);
    assert!(matches!(refused, Err(CgroupError::NoController("memory"))));
}

#[test]
fn all_in_a_group_are_killed_and_nobody_else() {
    use std::process::{Command, Stdio};

    use rustix::process::{WaitId, WaitIdOptions};

    let fake = Fake::v1();
    let driver = driver(&fake);
    let file = "pids/wharf-t/s/c/cgroup.procs";
    // They end with this test, whatever becomes of it.
    let start = || Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut members: Vec<_> = (0..=KILLED_AT_ONCE).map(|_| start()).collect();
    let mut other = start();
    fake.write(file, &members.iter().map(|member| format!("{}\n", member.id())).collect::<String>());
    std::thread::scope(|scope| {
        let killed = scope.spawn(|| driver.kill_all("s/c"));
        for member in &members {
            // Not reaped as long as it is listed: its number is its own.
            let of = Pid::from_child(member);
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            while rustix::process::waitid(WaitId::Pid(of), look).unwrap().is_none() {
                assert!(!killed.is_finished(), "it gave up");
                pause();
            }
        }
        fake.write(file, "");
        killed.join().unwrap().unwrap();
    });
    for member in &mut members {
        let ended = member.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(libc::SIGKILL));
    }
    assert!(other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    other.wait().unwrap();
}
