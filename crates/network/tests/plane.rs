//! The kernel's data plane, on machines that the tests make for themselves.

#![allow(unsafe_code, reason = "unshare has no safe form")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use support::{
    OUTSIDE, PATIENCE, SILENCE, UPLINK, answer_on, ask, ask_from, eni, inside, on_a_machine, run, serve,
    stop, vpc,
};
use wharf_core::{Rng as _, SeededRng, SystemRng};
use wharf_network::linux::{InstanceId, NetlinkPlane, PlaneConfig, PoolSize};
use wharf_network::{DataPlane, Egress, NetworkError, Recovery, TASK_ENDPOINT};

#[test]
fn tasks_reach_each_other_within_and_across_subnets_and_the_machine_reaches_them() {
    on_a_machine(|machine| {
        let plane = machine.plane(1);
        let vpc = vpc('a');
        let (first, near, far) = (
            eni(&vpc, 0, 10, Egress::VpcOnly),
            eni(&vpc, 0, 11, Egress::VpcOnly),
            eni(&vpc, 1, 10, Egress::Internet),
        );
        let namespaces = [&first, &near, &far].map(|eni| machine.attach(&plane, eni));
        serve(&namespaces[0], Ipv4Addr::UNSPECIFIED, 8080);
        assert_eq!(ask_from(&namespaces[1], first.address, 8080, PATIENCE).unwrap(), near.address);
        assert_eq!(ask_from(&namespaces[2], first.address, 8080, PATIENCE).unwrap(), far.address);
        assert!(ask(first.address, 8080, PATIENCE).unwrap().is_link_local());
        assert_eq!(
            ask_from(&namespaces[0], Ipv4Addr::LOCALHOST, 8080, PATIENCE).unwrap(),
            Ipv4Addr::LOCALHOST
        );
        let shown = inside(&namespaces[0], || run("ip -4 addr show eth0"));
        assert!(shown.contains("172.31.0.10/20"), "{shown}");
        let shown = inside(&namespaces[0], || run("ip link show eth0"));
        assert!(shown.contains(&first.mac.to_string()), "{shown}");

        // Attaching again changes nothing.
        assert_eq!(machine.attach(&plane, &first), namespaces[0]);
        assert_eq!(plane.status().interfaces, 3);
        stop(&namespaces[0], first.address, 8080);
        machine.runtime.block_on(plane.teardown()).unwrap();
    });
}

#[test]
fn only_a_task_with_internet_egress_gets_out_and_nobody_gets_in() {
    on_a_machine(|machine| {
        let plane = machine.plane(2);
        let vpc = vpc('b');
        let public = eni(&vpc, 0, 10, Egress::Internet);
        let private = eni(&vpc, 0, 11, Egress::VpcOnly);
        let (public_netns, private_netns) =
            (machine.attach(&plane, &public), machine.attach(&plane, &private));
        let listener = machine.outside(|| TcpListener::bind((OUTSIDE, 80)).unwrap());
        answer_on(listener);
        assert_eq!(ask_from(&public_netns, OUTSIDE, 80, PATIENCE).unwrap(), UPLINK);
        let refused = ask_from(&private_netns, OUTSIDE, 80, PATIENCE).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::NETUNREACH.raw_os_error()));

        // The outside, knowing the way, is not let in; nor does a task reach the machine itself.
        serve(&public_netns, public.address, 8080);
        assert!(ask(public.address, 8080, PATIENCE).is_ok());
        machine.outside(|| {
            run(&format!("ip route add 172.31.0.0/16 via {UPLINK}"));
            ask(public.address, 8080, SILENCE).unwrap_err();
        });
        let machine_end = ask(public.address, 8080, PATIENCE).unwrap();
        let on_machine = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = on_machine.local_addr().unwrap().port();
        for namespace in [&public_netns, &private_netns] {
            ask_from(namespace, machine_end, port, SILENCE).unwrap_err();
        }
        // An address of the VPC that is in no subnet here is not sought outside.
        let nowhere = Ipv4Addr::new(172, 31, 200, 9);
        let refused = ask_from(&public_netns, nowhere, 80, PATIENCE).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::HOSTUNREACH.raw_os_error()));
        stop(&public_netns, public.address, 8080);
        machine.outside(|| {
            TcpStream::connect((OUTSIDE, 80)).unwrap().write_all(b"quit").unwrap();
        });
        machine.runtime.block_on(plane.teardown()).unwrap();
    });
}

#[test]
fn vpcs_with_the_same_addresses_and_two_wharfs_live_side_by_side() {
    on_a_machine(|machine| {
        let (plane, other) = (machine.plane(3), machine.plane_of("0badcaff", "other", 3));
        let (one, two, three) = (vpc('c'), vpc('d'), vpc('e'));
        let first = eni(&one, 0, 10, Egress::Internet);
        let first_netns = machine.attach(&plane, &first);
        for (plane, vpc) in [(&plane, &two), (&other, &three)] {
            let taken = machine.runtime.block_on(plane.attach(eni(vpc, 0, 10, Egress::Internet)));
            assert!(matches!(taken, Err(NetworkError::AddressInUse { address }) if address == first.address));
        }
        let second = eni(&two, 0, 11, Egress::Internet);
        let third = eni(&three, 0, 12, Egress::Internet);
        let second_netns = machine.attach(&plane, &second);
        let third_netns = machine.attach(&other, &third);
        serve(&second_netns, second.address, 8080);
        serve(&third_netns, third.address, 8080);
        assert!(ask(second.address, 8080, PATIENCE).is_ok() && ask(third.address, 8080, PATIENCE).is_ok());
        for stranger in [second.address, third.address] {
            ask_from(&first_netns, stranger, 8080, SILENCE).unwrap_err();
        }
        stop(&second_netns, second.address, 8080);
        machine.runtime.block_on(plane.teardown()).unwrap();

        // One Wharf goes; the other's tasks do not notice.
        assert!(ask(third.address, 8080, PATIENCE).is_ok());
        stop(&third_netns, third.address, 8080);
        machine.runtime.block_on(other.teardown()).unwrap();
    });
}

#[test]
fn connections_outlive_a_restart_and_leftovers_go() {
    on_a_machine(|machine| {
        let vpc = vpc('f');
        let (kept, dropped) = (eni(&vpc, 0, 10, Egress::Internet), eni(&vpc, 1, 11, Egress::VpcOnly));
        let never = eni(&vpc, 0, 12, Egress::VpcOnly);
        let plane = machine.plane(4);
        let namespace = machine.attach(&plane, &kept);
        machine.attach(&plane, &dropped);
        let listener = inside(&namespace, || TcpListener::bind((kept.address, 8080)).unwrap());
        let mut client = TcpStream::connect((kept.address, 8080)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        drop(plane);

        let plane = machine.plane(5);
        let expected = vec![kept.clone(), never.clone()];
        let recovery = machine.runtime.block_on(plane.recover(vec![vpc.clone()], expected)).unwrap();
        assert_eq!((recovery.adopted, recovery.lost), (vec![kept.id.clone()], vec![never.id.clone()]));
        assert!(recovery.removed >= 1, "the dropped interface and the pool of the earlier life");
        client.write_all(b"still here").unwrap();
        let mut text = [0; 10];
        server.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"still here");
        assert!(!run("ip route").contains("172.31.16.11"), "the dropped interface's route");
        assert!(run("ip route").contains("172.31.0.10 via"), "the kept interface's route");
        drop((client, server, listener));

        // The adopted interface is as good as a new one, and so are its VPC and subnet.
        assert_eq!(machine.attach(&plane, &kept), namespace);
        let neighbour = machine.attach(&plane, &never);
        serve(&neighbour, never.address, 8080);
        assert_eq!(ask_from(&namespace, never.address, 8080, PATIENCE).unwrap(), kept.address);
        stop(&neighbour, never.address, 8080);
        machine.runtime.block_on(plane.detach(&kept.id)).unwrap();
        assert!(!namespace.exists());
        drop(plane);

        // A new life that knows nothing removes all; one that tears down at once does too.
        let plane = machine.plane(6);
        let recovery = machine.runtime.block_on(plane.recover(Vec::new(), Vec::new())).unwrap();
        assert_eq!((recovery.adopted.len(), recovery.lost.len()), (0, 0));
        machine.attach(&plane, &dropped);
        drop(plane);
        machine.runtime.block_on(machine.plane(7).teardown()).unwrap();
    });
}

#[test]
fn a_task_reaches_what_listens_at_the_task_endpoint_and_is_known_by_its_address() {
    on_a_machine(|machine| {
        let plane = machine.plane(8);
        let vpc = vpc('1');
        let listener = machine.runtime.block_on(plane.listen(vpc.clone(), TASK_ENDPOINT, 80)).unwrap();
        listener.set_nonblocking(false).unwrap();
        answer_on(listener);
        let private = eni(&vpc, 0, 10, Egress::VpcOnly);
        let public = eni(&vpc, 1, 10, Egress::Internet);
        for task in [&private, &public] {
            let namespace = machine.attach(&plane, task);
            assert_eq!(ask_from(&namespace, TASK_ENDPOINT, 80, PATIENCE).unwrap(), task.address);
        }
        let taken = machine.runtime.block_on(plane.listen(vpc.clone(), TASK_ENDPOINT, 80));
        assert!(taken.is_err(), "the port is in use");
        stop(&machine.attach(&plane, &private), TASK_ENDPOINT, 80);
        machine.runtime.block_on(plane.teardown()).unwrap();
    });
}

#[test]
fn a_namespace_that_is_used_again_knows_nothing_of_its_last_task() {
    on_a_machine(|machine| {
        let plane = machine.plane(9);
        let vpc = vpc('2');
        let witness = eni(&vpc, 0, 10, Egress::VpcOnly);
        let witness_netns = machine.attach(&plane, &witness);
        for round in 0..12u8 {
            // The same address again and again: neighbours' caches must stay true.
            let egress = if round % 2 == 0 { Egress::Internet } else { Egress::VpcOnly };
            let task = eni(&vpc, round % 2, 20, egress);
            let namespace = machine.attach(&plane, &task);
            let listener = inside(&namespace, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).unwrap());
            let (from_witness, from_machine) = std::thread::scope(|scope| {
                let answering = scope.spawn(|| {
                    for _ in 0..2 {
                        let (mut stream, peer) = listener.accept().unwrap();
                        let mut request = [0; 4];
                        stream.read_exact(&mut request).unwrap();
                        stream.write_all(peer.ip().to_string().as_bytes()).unwrap();
                    }
                });
                let answers = (
                    ask_from(&witness_netns, task.address, 8080, PATIENCE),
                    ask(task.address, 8080, PATIENCE),
                );
                answering.join().unwrap();
                answers
            });
            assert_eq!(from_witness.unwrap(), witness.address);
            assert!(from_machine.is_ok());
            let addresses = inside(&namespace, || run("ip -4 -o addr show dev eth0"));
            assert_eq!(addresses.lines().count(), 1, "{addresses}");
            let default = inside(&namespace, || run("ip route show default"));
            assert_eq!(default.is_empty(), egress == Egress::VpcOnly, "{default}");
            drop(listener);
            machine.runtime.block_on(plane.detach(&task.id)).unwrap();
            machine.runtime.block_on(plane.detach(&task.id)).unwrap();
            assert!(!run("ip route").contains(&task.address.to_string()));
            let gone = SocketAddr::from((task.address, 8080));
            assert!(inside(&witness_netns, || TcpStream::connect_timeout(&gone, SILENCE)).is_err());
        }
        assert_eq!(plane.status().interfaces, 1);

        // The VPC itself goes when its last interface has gone, and can be made again.
        let early = machine.runtime.block_on(plane.remove_vpc(&vpc.id));
        assert!(matches!(early, Err(NetworkError::VpcInUse { .. })), "{early:?}");
        machine.runtime.block_on(plane.detach(&witness.id)).unwrap();
        machine.runtime.block_on(plane.remove_vpc(&vpc.id)).unwrap();
        assert_eq!((plane.status().vpcs, run("ip -o link").contains("wh0")), (0, false));
        machine.attach(&plane, &witness);
        machine.runtime.block_on(plane.teardown()).unwrap();
    });
}

#[test]
fn a_machine_that_has_the_vpcs_addresses_itself_is_told_so_and_tasks_go_first() {
    on_a_machine(|machine| {
        run(&format!("ip route add 172.31.0.0/24 via {OUTSIDE}"));
        let plane = machine.plane(12);
        let vpc = vpc('4');
        let task = eni(&vpc, 0, 10, Egress::VpcOnly);
        let namespace = machine.attach(&plane, &task);
        let notes = plane.status().notes;
        assert!(notes.iter().any(|note| note.contains("172.31.0.0/24 through uplink")), "{notes:?}");
        serve(&namespace, task.address, 8080);
        assert!(ask(task.address, 8080, PATIENCE).is_ok());
        stop(&namespace, task.address, 8080);
        machine.runtime.block_on(plane.teardown()).unwrap();
        assert!(run("ip route").contains("172.31.0.0/24 via"), "the machine's own route stays");
    });
}

#[test]
fn what_does_not_hold_together_is_refused_before_the_kernel_sees_it() {
    on_a_machine(|machine| {
        let plane = machine.plane(10);
        let good = eni(&vpc('3'), 0, 10, Egress::VpcOnly);
        let mut escaping = good.clone();
        escaping.id = "eni-../../../etc".to_owned();
        let mut elsewhere = good.clone();
        elsewhere.address = Ipv4Addr::new(172, 31, 16, 10);
        for bad in [escaping, elsewhere] {
            assert!(machine.runtime.block_on(plane.attach(bad)).is_err());
        }
        assert_eq!(plane.status(), wharf_network::PlaneStatus::default());
        assert_eq!(
            machine.runtime.block_on(plane.recover(Vec::new(), Vec::new())).unwrap(),
            Recovery::default()
        );
        let notes = plane.status().notes;
        assert!(notes.iter().any(|note| note.contains("ip_forward")), "{notes:?}");
        machine.runtime.block_on(plane.teardown()).unwrap();
        let late = machine.runtime.block_on(plane.attach(good));
        assert!(matches!(late, Err(NetworkError::Closed)), "{late:?}");
    });
}

/// Set for a child process: the run directory that it works in.
const CHILD: &str = "WHARF_NETWORK_TEST_CHILD";

/// Not a test of its own: what the killed process of the next test does.
#[test]
fn attach_and_detach_until_killed() {
    let Some(run_dir) = std::env::var_os(CHILD) else { return };
    let config = PlaneConfig {
        instance: InstanceId::new("0badcafe").unwrap(),
        run_dir: run_dir.into(),
        pool: PoolSize { ready: 2, kept_max: 2 },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let plane = NetlinkPlane::open(config, &SystemRng::new()).unwrap();
    let vpc = vpc('9');
    let wanted: Vec<_> = (10..14).map(|number| eni(&vpc, 0, number, Egress::Internet)).collect();
    let recovery = runtime.block_on(plane.recover(vec![vpc], wanted.clone())).unwrap();
    for id in recovery.adopted {
        runtime.block_on(plane.detach(&id)).unwrap();
    }
    for round in 0.. {
        let eni = &wanted[round % wanted.len()];
        runtime.block_on(plane.attach(eni.clone())).unwrap();
        println!("attached");
        let oldest = &wanted[(round + 1) % wanted.len()];
        runtime.block_on(plane.detach(&oldest.id)).unwrap();
        println!("detached");
    }
}

#[test]
fn a_kill_at_any_moment_leaves_nothing_that_the_next_life_does_not_find() {
    on_a_machine(|machine| {
        let rng = SeededRng::new(11);
        let run_dir = machine.run_dir.path().join("run");
        let vpc = vpc('9');
        for life in 0..8 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["attach_and_detach_until_killed", "--exact", "--nocapture"])
                .env(CHILD, &run_dir)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            // The moment: so many lines, and then a number of turns that is below any step's length.
            let moment = 4 + rng.below(40) as usize;
            assert_eq!(lines.by_ref().take(moment).map_while(Result::ok).count(), moment);
            for _ in 0..rng.below(200_000) {
                std::hint::spin_loop();
            }
            child.kill().unwrap();
            child.wait().unwrap();

            let plane = machine.plane(100 + life);
            let wanted: Vec<_> = (10..14).map(|number| eni(&vpc, 0, number, Egress::Internet)).collect();
            let recovery =
                machine.runtime.block_on(plane.recover(vec![vpc.clone()], wanted.clone())).unwrap();
            assert_eq!(recovery.adopted.len() + recovery.lost.len(), 4);
            // What was lost left no claim on its address, and what was adopted works.
            for eni in &wanted {
                let namespace = machine.attach(&plane, eni);
                serve(&namespace, eni.address, 8080);
                assert!(ask(eni.address, 8080, PATIENCE).is_ok(), "{} in life {life}", eni.id);
                stop(&namespace, eni.address, 8080);
            }
            for eni in &wanted {
                machine.runtime.block_on(plane.detach(&eni.id)).unwrap();
            }
            assert!(!run("ip route").contains("172.31."), "{}", run("ip route"));
        }
        machine.runtime.block_on(machine.plane(200).teardown()).unwrap();
    });
}
