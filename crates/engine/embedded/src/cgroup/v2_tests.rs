//! The v2 driver on a tree of plain files; and, where a v2 hierarchy is mounted, whatever of it needs
//! no controller on the kernel's own.

use std::process::{Command, Stdio};

use wharf_engine::Resources;

use super::*;
use crate::cgroup::fake::{Fake, block_io, container, limits, sandbox};

fn driver(fake: &Fake) -> V2 {
    V2::open(&fake.mounts, "wharf-t", Open::Make).unwrap()
}

#[test]
fn limits_land_in_their_files() {
    let fake = Fake::v2();
    let driver = driver(&fake);
    assert_eq!(fake.read("cgroup.subtree_control"), CONTROLLERS_WITH_IO);
    assert_eq!(fake.read("wharf-t/cgroup.subtree_control"), CONTROLLERS_WITH_IO);
    let resources =
        SandboxResources { cpu_millis: Some(2000), memory_bytes: Some(1 << 30), pids_max: Some(100) };
    driver.create_sandbox(&sandbox(), &resources).unwrap();
    assert_eq!(fake.read("wharf-t/s/cpu.max"), "200000 100000");
    assert_eq!(fake.read("wharf-t/s/cpu.weight"), "79");
    assert_eq!(fake.read("wharf-t/s/memory.max"), "1073741824");
    assert_eq!(fake.read("wharf-t/s/memory.swap.max"), "0");
    assert_eq!(fake.read("wharf-t/s/pids.max"), "100");
    assert_eq!(fake.read("wharf-t/s/cgroup.subtree_control"), CONTROLLERS_WITH_IO);

    let resources = Resources {
        cpu_shares: Some(1024),
        cpu_millis: Some(500),
        memory_bytes: Some(64 << 20),
        memory_reservation_bytes: Some(32 << 20),
        swap_bytes: Some(1 << 20),
        pids_max: Some(5),
        block_io: block_io(),
    };
    let membership = driver.create_container(&sandbox(), &container(), &limits(&resources)).unwrap();
    assert!(membership.join.is_empty() && membership.into.is_some());
    assert_eq!(fake.read("wharf-t/s/c/cpu.weight"), "39");
    assert_eq!(fake.read("wharf-t/s/c/cpu.max"), "50000 100000");
    assert_eq!(fake.read("wharf-t/s/c/memory.max"), "67108864");
    assert_eq!(fake.read("wharf-t/s/c/memory.low"), "33554432");
    assert_eq!(fake.read("wharf-t/s/c/memory.swap.max"), "1048576");
    assert_eq!(fake.read("wharf-t/s/c/pids.max"), "5");
    assert_eq!(fake.read("wharf-t/s/c/io.bfq.weight"), "300");
    assert_eq!(fake.read("wharf-t/s/c/io.max"), "8:16 rbps=1000000 wiops=50");
}

#[test]
fn a_host_without_io_has_everything_else_and_refuses_limits_on_it() {
    let fake = Fake::v2();
    fake.write("cgroup.controllers", "cpu memory pids\n");
    for file in ["io.max", "io.weight", "io.bfq.weight", "io.stat"] {
        fake.remove(&format!("wharf-t/s/c/{file}"));
    }
    let driver = driver(&fake);
    assert_eq!(fake.read("cgroup.subtree_control"), CONTROLLERS);
    driver.create_container(&sandbox(), &container(), &limits(&Resources::default())).unwrap();
    let mut resources = Resources { block_io: block_io(), ..Resources::default() };
    let refused = driver.create_container(&sandbox(), &container(), &limits(&resources)).unwrap_err();
    assert!(refused.to_string().contains("the weight of block I/O"), "{refused}");
    resources.block_io.weight = None;
    let refused = driver.create_container(&sandbox(), &container(), &limits(&resources)).unwrap_err();
    assert!(refused.to_string().contains("/dev/sdb"), "{refused}");
}

#[test]
fn without_bfq_the_weight_is_the_controllers_own() {
    let fake = Fake::v2();
    fake.remove("wharf-t/s/c/io.bfq.weight");
    for (weight, expected) in [(10, "1"), (1000, "10000"), (500, "4950")] {
        let mut resources = Resources::default();
        resources.block_io.weight = Some(weight);
        fake.write("wharf-t/s/c/io.weight", "");
        driver(&fake).create_container(&sandbox(), &container(), &limits(&resources)).unwrap();
        assert_eq!(fake.read("wharf-t/s/c/io.weight"), expected);
    }
}

#[test]
fn use_is_read_from_its_files() {
    let fake = Fake::v2();
    let driver = driver(&fake);
    for (file, text) in [
        (
            "cpu.stat",
            "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 4\nnr_throttled 2\nthrottled_usec 9\n",
        ),
        ("memory.current", "4096\n"),
        ("memory.peak", "8192\n"),
        ("memory.max", "max\n"),
        ("memory.stat", "anon 100\nfile 200\ninactive_file 50\npgmajfault 7\n"),
        ("memory.swap.current", "3\n"),
        ("pids.current", "3\n"),
        ("pids.max", "12\n"),
        ("memory.events", "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n"),
        (
            "io.stat",
            "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=5 dios=6\n8:16 rbytes=1 wbytes=0 rios=1 wios=0\n",
        ),
    ] {
        fake.write(&format!("wharf-t/s/c/{file}"), text);
    }
    fake.write("wharf-t/s/memory.max", "65536\n");
    let stats = driver.stats(&sandbox(), &container(), Reading::Once).unwrap();
    assert_eq!(
        stats.cpu,
        CpuStats {
            total_nanos: 1_500_000,
            user_nanos: 1_000_000,
            system_nanos: 500_000,
            periods: 4,
            throttled_periods: 2,
            throttled_nanos: 9_000
        }
    );
    assert_eq!(
        stats.memory,
        MemoryStats {
            bytes: 4096,
            max_bytes: 8192,
            limit_bytes: Some(65_536),
            cache_bytes: 200,
            rss_bytes: 100,
            inactive_file_bytes: 50,
            swap_bytes: 3,
            major_faults: 7,
            oom_kills: 1
        }
    );
    assert_eq!((stats.pids, stats.pids_max), (3, Some(12)));
    assert_eq!(stats.block, BlockStats { read_bytes: 11, write_bytes: 20, reads: 2, writes: 2 });
    assert_eq!(driver.oom_kills(&sandbox(), &container()).unwrap(), 1);
}

#[test]
fn a_host_without_the_pids_controller_is_refused() {
    let fake = Fake::v2();
    fake.write("cgroup.controllers", "cpu memory io\n");
    let refused = V2::open(&fake.mounts, "wharf-t", Open::Make);
    assert!(matches!(refused, Err(CgroupError::NoController("pids"))));
}

#[test]
fn devices_are_not_controlled_here() {
    assert_eq!(driver(&Fake::v2()).device_control(), DeviceControl::None);
}

/// On the kernel's own hierarchy, in an instance of its own; `None` where there is none to write to.
fn real(test: &str) -> Option<V2> {
    let mounts = CgroupMounts::parse(&std::fs::read_to_string("/proc/self/mountinfo").unwrap());
    V2::open_without_controllers(&mounts, &format!("wharf-v2-{test}-{}", std::process::id()), Open::Make).ok()
}

/// A shell with two children of its own, in the group.
fn crowd(driver: &V2, name: Option<&str>) -> std::process::Child {
    let group = match name {
        None => format!("{}/{}", sandbox(), container()),
        Some(name) => format!("{}/{}/{name}", sandbox(), container()),
    };
    let mut shell = Command::new("/bin/sh")
        .args(["-c", "sleep 600 & sleep 600 & while read line; do echo $line; done; wait"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    driver.parent.write(&format!("{group}/cgroup.procs"), &shell.id().to_string()).unwrap();
    // Its children may have been made before it moved.
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", shell.id())).unwrap();
    for child in children.split_whitespace() {
        driver.parent.write(&format!("{group}/cgroup.procs"), child).unwrap();
    }
    answer(&mut shell);
    shell
}

/// The shell says what it is told, so it runs.
fn answer(shell: &mut std::process::Child) {
    use std::io::{Read, Write};
    shell.stdin.as_mut().unwrap().write_all(b"x\n").unwrap();
    let mut said = [0; 2];
    shell.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"x\n");
}

#[test]
fn the_kernel_freezes_thaws_and_kills_what_is_frozen() {
    let Some(driver) = real("freeze") else { return };
    driver.make_container(&sandbox(), &container()).unwrap();
    let mut shell = crowd(&driver, None);
    assert_eq!(driver.processes(&sandbox(), &container()).unwrap().len(), 3);
    driver.freeze(&sandbox(), &container(), Freezer::Frozen).unwrap();
    assert_eq!(driver.frozen(&sandbox(), &container()).unwrap(), Freezer::Frozen);
    driver.freeze(&sandbox(), &container(), Freezer::Thawed).unwrap();
    answer(&mut shell);
    driver.freeze(&sandbox(), &container(), Freezer::Frozen).unwrap();
    driver.remove_container(&sandbox(), &container()).unwrap();
    assert!(!shell.wait().unwrap().success());
    driver.remove_sandbox(&sandbox()).unwrap();
    driver.remove_instance().unwrap();
}

#[test]
fn the_kernel_kills_an_exec_with_all_that_it_started_and_nothing_else() {
    let Some(driver) = real("exec") else { return };
    driver.make_container(&sandbox(), &container()).unwrap();
    let mut stays = crowd(&driver, None);
    assert!(driver.create_exec(&sandbox(), &container(), "probe").unwrap().into.is_some());
    let mut goes = crowd(&driver, Some("probe"));
    assert_eq!(driver.processes(&sandbox(), &container()).unwrap().len(), 6);
    driver.remove_exec(&sandbox(), &container(), "probe").unwrap();
    driver.remove_exec(&sandbox(), &container(), "probe").unwrap();
    assert!(!goes.wait().unwrap().success());
    assert_eq!(driver.processes(&sandbox(), &container()).unwrap().len(), 3);
    answer(&mut stays);
    assert!(
        driver.cpu_use(&format!("{}/{}", sandbox(), container()), &mut Reading::Once).unwrap().total_nanos
            > 0
    );
    // A group below the container's does not keep the sandbox from being removed.
    driver.create_exec(&sandbox(), &container(), "left").unwrap();
    driver.remove_sandbox(&sandbox()).unwrap();
    assert!(!stays.wait().unwrap().success());
    driver.remove_instance().unwrap();
}
