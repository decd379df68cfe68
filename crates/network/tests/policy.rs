//! Real packets against the model: what the kernel lets through is what the policy says.

#![allow(unsafe_code, reason = "unshare has no safe form")]
#![allow(dead_code, reason = "the support module serves other tests too")]

mod support;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};
use support::{Machine, OUTSIDE, PATIENCE, SILENCE, eni, inside, on_a_machine, run, vpc};
use wharf_core::{Rng as _, SeededRng};
use wharf_network::linux::NetlinkPlane;
use wharf_network::policy::model::{Connection, Member, Model, Packet, Payload, Verdict};
use wharf_network::policy::{
    AclAction, AclEntry, ICMP, NetworkAcl, Peer, Permission, Policy, SecurityGroup, TCP, Traffic, UDP,
};
use wharf_network::{DataPlane, Egress, EniSpec, Ipv4Cidr, VpcSpec};

const PORTS: [u16; 2] = [1000, 2000];
const CLIENT_PORT_FIRST: u16 = 20_000;

/// What is sent, and what has to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp(u16),
    Udp(u16),
    Ping,
}

#[derive(Clone, Debug)]
struct Task {
    spec: EniSpec,
    netns: PathBuf,
}

struct Scene<'m> {
    machine: &'m Machine,
    plane: NetlinkPlane,
    vpc: VpcSpec,
    tasks: Vec<Task>,
    model: Model,
    next_port: u16,
}

fn poll_one(socket: &OwnedFd, events: PollFlags, wait: Duration) -> bool {
    let limit = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
    let mut fds = [PollFd::new(socket, events)];
    poll(&mut fds, Some(&limit)).unwrap() > 0
}

/// Runs in the sender's namespace: whether an answer came.
fn answered(kind: Kind, client_port: u16, to: Ipv4Addr, wait: Duration) -> bool {
    let socket = |kind, protocol| {
        rustix::net::socket_with(
            AddressFamily::INET,
            kind,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            protocol,
        )
        .unwrap()
    };
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, client_port);
    match kind {
        Kind::Tcp(port) => {
            let socket = socket(SocketType::STREAM, None);
            rustix::net::bind(&socket, &any).unwrap();
            // In progress, or no route at all.
            let begun = rustix::net::connect(&socket, &SocketAddrV4::new(to, port));
            match begun {
                Ok(()) => return true,
                Err(rustix::io::Errno::INPROGRESS) => {}
                Err(_) => return false,
            }
            poll_one(&socket, PollFlags::OUT, wait)
                && rustix::net::sockopt::socket_error(&socket).unwrap().is_ok()
        }
        Kind::Udp(port) => {
            let socket = socket(SocketType::DGRAM, None);
            rustix::net::bind(&socket, &any).unwrap();
            let sent = rustix::net::sendto(&socket, b"ask", SendFlags::empty(), &SocketAddrV4::new(to, port));
            sent.is_ok() && answer(&socket, wait)
        }
        Kind::Ping => {
            let socket = socket(SocketType::DGRAM, Some(ipproto::ICMP));
            let echo = [8, 0, 0, 0, 0, 0, 0, 1, 9, 9, 9, 9];
            let sent = rustix::net::sendto(&socket, &echo, SendFlags::empty(), &SocketAddrV4::new(to, 0));
            sent.is_ok() && answer(&socket, wait)
        }
    }
}

fn answer(socket: &OwnedFd, wait: Duration) -> bool {
    let mut buffer = [0; 64];
    poll_one(socket, PollFlags::IN, wait)
        && rustix::net::recv(socket, &mut buffer, RecvFlags::empty()).is_ok()
}

/// Listens for as long as `work` runs: TCP by the kernel alone, UDP by an echo.
fn with_servers<T>(tasks: &[Task], work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for task in tasks {
            for port in PORTS {
                let address = (task.spec.address, port);
                let (tcp, udp) = inside(&task.netns, || {
                    (TcpListener::bind(address).unwrap(), UdpSocket::bind(address).unwrap())
                });
                tcp.set_nonblocking(true).unwrap();
                udp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                let over = &over;
                scope.spawn(move || {
                    let mut buffer = [0; 64];
                    while !over.load(Ordering::Relaxed) {
                        // What has been accepted by the kernel makes room for the next.
                        while tcp.accept().is_ok() {}
                        if let Ok((length, peer)) = udp.recv_from(&mut buffer) {
                            let _ = udp.send_to(&buffer[..length], peer);
                        }
                    }
                });
            }
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl<'m> Scene<'m> {
    /// Three tasks of three groups in two subnets.
    fn new(machine: &'m Machine, life: u64) -> Self {
        let plane = machine.plane(life);
        let vpc = vpc('a');
        let places = [(0, 10, "sg-0"), (0, 11, "sg-1"), (1, 10, "sg-2")];
        let tasks: Vec<Task> = places
            .into_iter()
            .map(|(subnet, number, group)| {
                let spec =
                    EniSpec { groups: vec![group.into()], ..eni(&vpc, subnet, number, Egress::VpcOnly) };
                Task { netns: machine.attach(&plane, &spec), spec }
            })
            .collect();
        let members = tasks.iter().map(|task| (task.spec.address, member(&task.spec))).collect();
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap();
        let model = Model { policy: Policy::default(), members };
        Self { machine, plane, vpc, tasks, model, next_port: CLIENT_PORT_FIRST }
    }

    fn set(&mut self, policy: Policy) {
        self.machine.runtime.block_on(self.plane.set_policy(self.vpc.clone(), policy.clone())).unwrap();
        self.model.policy = policy;
    }

    fn client_port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port
    }

    /// What the model says of a question and its answer.
    fn expected(&self, kind: Kind, client: u16, from: Ipv4Addr, to: Ipv4Addr) -> bool {
        let (ask, reply) = match kind {
            Kind::Tcp(port) => (
                Payload::Tcp { source: client, destination: port },
                Payload::Tcp { source: port, destination: client },
            ),
            Kind::Udp(port) => (
                Payload::Udp { source: client, destination: port },
                Payload::Udp { source: port, destination: client },
            ),
            Kind::Ping => (Payload::Icmp { kind: 8, code: 0 }, Payload::Icmp { kind: 0, code: 0 }),
        };
        let packet = |source, destination, payload| Packet { source, destination, payload };
        self.model.verdict(packet(from, to, ask), Connection::New) == Verdict::Allow
            && self.model.verdict(packet(to, from, reply), Connection::Established) == Verdict::Allow
    }

    /// Sends every kind of packet from every task and from the machine to every task, all at once,
    /// and compares. Returns how many were let through, and how many were not.
    fn check_all(&mut self, what: &str) -> (usize, usize) {
        let machine_end = run("ip -4 -o addr show scope link");
        let machine_end = machine_end
            .split_whitespace()
            .find_map(|word| word.split('/').next()?.parse::<Ipv4Addr>().ok().filter(Ipv4Addr::is_link_local))
            .unwrap_or(Ipv4Addr::new(169, 254, 172, 0));
        let mut senders: Vec<(Option<PathBuf>, Ipv4Addr)> =
            self.tasks.iter().map(|task| (Some(task.netns.clone()), task.spec.address)).collect();
        senders.push((None, machine_end));
        let kinds =
            [Kind::Tcp(PORTS[0]), Kind::Tcp(PORTS[1]), Kind::Udp(PORTS[0]), Kind::Udp(PORTS[1]), Kind::Ping];
        let mut probes = Vec::new();
        for (netns, from) in &senders {
            for to in self.tasks.iter().map(|task| task.spec.address).filter(|to| to != from) {
                for kind in kinds {
                    let client = self.next_port;
                    self.next_port += 1;
                    let expected = self.expected(kind, client, *from, to);
                    probes.push((netns.clone(), *from, to, kind, client, expected));
                }
            }
        }
        let machine = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let machine_path =
            PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&machine)));
        let wrong: Vec<String> = std::thread::scope(|scope| {
            let running: Vec<_> = probes
                .iter()
                .map(|(netns, from, to, kind, client, expected)| {
                    let netns = netns.clone().unwrap_or_else(|| machine_path.clone());
                    scope.spawn(move || {
                        let wait = if *expected { PATIENCE } else { SILENCE };
                        let got = inside(&netns, || answered(*kind, *client, *to, wait));
                        (got != *expected)
                            .then(|| format!("{from} → {to} {kind:?}: got {got}, expected {expected}"))
                    })
                })
                .collect();
            running.into_iter().filter_map(|probe| probe.join().unwrap()).collect()
        });
        assert!(wrong.is_empty(), "{what}: {wrong:#?}\n{:#?}", self.model.policy);
        let allowed = probes.iter().filter(|probe| probe.5).count();
        (allowed, probes.len() - allowed)
    }

    fn end(self) {
        self.machine.runtime.block_on(self.plane.teardown()).unwrap();
    }
}

fn member(spec: &EniSpec) -> Member {
    Member { subnet: spec.subnet.id.clone(), groups: spec.groups.clone() }
}

fn cidr(text: &str) -> Ipv4Cidr {
    text.parse().unwrap()
}

fn ports(protocol: u8, port: u16) -> Traffic {
    Traffic::Ports { protocol, ports: port..=port }
}

/// Groups that let everything out, and in what they are given.
fn ingress_only(rules: [Vec<Permission>; 3]) -> BTreeMap<String, SecurityGroup> {
    let out = vec![Permission { traffic: Traffic::All, peer: Peer::Cidr(Ipv4Cidr::EVERYWHERE) }];
    rules
        .into_iter()
        .enumerate()
        .map(|(index, ingress)| (format!("sg-{index}"), SecurityGroup { ingress, egress: out.clone() }))
        .collect()
}

#[test]
fn every_pair_meets_what_the_policy_says() {
    on_a_machine(|machine| {
        let mut scene = Scene::new(machine, 1);
        let tasks = scene.tasks.clone();
        with_servers(&tasks, || {
            // Nobody has set a policy: everything passes.
            let open = SecurityGroup {
                ingress: vec![Permission { traffic: Traffic::All, peer: Peer::Cidr(Ipv4Cidr::EVERYWHERE) }],
                egress: vec![Permission { traffic: Traffic::All, peer: Peer::Cidr(Ipv4Cidr::EVERYWHERE) }],
            };
            scene.model.policy.groups = (0..3).map(|index| (format!("sg-{index}"), open.clone())).collect();
            assert_eq!(scene.check_all("no policy").1, 0);

            let allow = |traffic, peer| Permission { traffic, peer };
            let by_block = ingress_only([
                vec![allow(ports(TCP, 1000), Peer::Cidr(Ipv4Cidr::EVERYWHERE))],
                vec![allow(Traffic::Protocol(UDP), Peer::Cidr(cidr("172.31.0.0/20")))],
                vec![allow(Traffic::Icmp { kind: Some(8), code: None }, Peer::Cidr(cidr("172.31.0.10/32")))],
            ]);
            scene.set(Policy { groups: by_block.clone(), ..Policy::default() });
            let (passed, stopped) = scene.check_all("by block");
            assert!(passed > 0 && stopped > passed);

            let by_group = ingress_only([
                vec![allow(Traffic::All, Peer::Group("sg-1".into()))],
                vec![allow(ports(TCP, 2000), Peer::Group("sg-2".into()))],
                vec![allow(Traffic::All, Peer::Group("sg-2".into()))],
            ]);
            scene.set(Policy { groups: by_group, ..Policy::default() });
            let (passed, stopped) = scene.check_all("by group");
            assert!(passed > 0 && stopped > passed);

            let all = [allow(Traffic::All, Peer::Cidr(Ipv4Cidr::EVERYWHERE))].to_vec();
            let open = ingress_only([all.clone(), all.clone(), all]);
            let entry = |action, traffic, block: &str| AclEntry { action, traffic, cidr: cidr(block) };
            let everything = |number| (number, entry(AclAction::Allow, Traffic::All, "0.0.0.0/0"));
            for (name, acl) in [
                (
                    "denied by an ACL on the way in",
                    NetworkAcl {
                        ingress: [
                            (10, entry(AclAction::Deny, ports(TCP, 1000), "0.0.0.0/0")),
                            everything(20),
                        ]
                        .into(),
                        egress: [everything(10)].into(),
                    },
                ),
                (
                    "denied by an ACL on the way out",
                    NetworkAcl {
                        ingress: [everything(10)].into(),
                        egress: [
                            (10, entry(AclAction::Deny, Traffic::Protocol(UDP), "172.31.16.0/20")),
                            everything(20),
                        ]
                        .into(),
                    },
                ),
                (
                    "answers stopped by an ACL",
                    NetworkAcl {
                        ingress: [everything(10)].into(),
                        egress: [(10, entry(AclAction::Allow, Traffic::Protocol(ICMP), "0.0.0.0/0"))].into(),
                    },
                ),
            ] {
                let subnet = scene.tasks[0].spec.subnet.id.clone();
                scene.set(Policy {
                    groups: open.clone(),
                    acls: [("acl-0".into(), acl)].into(),
                    subnet_acls: [(subnet, "acl-0".into())].into(),
                });
                let (passed, stopped) = scene.check_all(name);
                assert!(passed > 0 && stopped > 0, "{name}");
            }
        });
        scene.end();
    });
}

/// Policies that nobody would write, from a seed.
fn random_policy(rng: &SeededRng, subnets: &[String]) -> Policy {
    let pick = |bound: u64| rng.below(bound);
    let traffic = || match pick(6) {
        0 => Traffic::All,
        1 => Traffic::Protocol([ICMP, TCP, UDP][pick(3) as usize]),
        2 => Traffic::Icmp {
            kind: [None, Some(8), Some(0)][pick(3) as usize],
            code: [None, Some(0)][pick(2) as usize],
        },
        _ => {
            let low = [0, 1000, 1001, 2000][pick(4) as usize];
            let high = [1000, 1999, 2000, 65_535][pick(4) as usize].max(low);
            Traffic::Ports { protocol: [TCP, UDP][pick(2) as usize], ports: low..=high }
        }
    };
    let block = || {
        cidr(
            [
                "0.0.0.0/0",
                "172.31.0.0/16",
                "172.31.0.0/20",
                "172.31.16.10/32",
                "172.31.0.8/30",
                "169.254.0.0/16",
            ][pick(6) as usize],
        )
    };
    let permission = || Permission {
        traffic: traffic(),
        peer: if pick(2) == 0 { Peer::Cidr(block()) } else { Peer::Group(format!("sg-{}", pick(3))) },
    };
    let permissions = || (0..pick(4)).map(|_| permission()).collect();
    let entries = || {
        (0..pick(4))
            .map(|_| {
                let action = if pick(3) == 0 { AclAction::Deny } else { AclAction::Allow };
                (1 + pick(9) as u16, AclEntry { action, traffic: traffic(), cidr: block() })
            })
            .chain([(
                100,
                AclEntry { action: AclAction::Allow, traffic: Traffic::All, cidr: cidr("0.0.0.0/0") },
            )])
            .collect()
    };
    Policy {
        groups: (0..3)
            .map(|index| {
                (format!("sg-{index}"), SecurityGroup { ingress: permissions(), egress: permissions() })
            })
            .collect(),
        acls: (0..2)
            .map(|index| (format!("acl-{index}"), NetworkAcl { ingress: entries(), egress: entries() }))
            .collect(),
        subnet_acls: subnets
            .iter()
            .filter(|_| pick(2) == 0)
            .map(|subnet| (subnet.clone(), format!("acl-{}", pick(2))))
            .collect(),
    }
}

#[test]
fn random_policies_hold_as_the_model_says() {
    on_a_machine(|machine| {
        let mut scene = Scene::new(machine, 2);
        let tasks = scene.tasks.clone();
        let subnets: Vec<String> = tasks.iter().map(|task| task.spec.subnet.id.clone()).collect();
        let rounds = std::env::var("WHARF_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
        let rng = SeededRng::new(7);
        let (mut passed, mut stopped) = (0, 0);
        with_servers(&tasks, || {
            for round in 0..rounds {
                let mut policy = random_policy(&rng, &subnets);
                // Now and then a task moves to another set of groups.
                if round % 3 == 2 {
                    let index = rng.below(3) as usize;
                    let groups: Vec<String> =
                        (0..=rng.below(2)).map(|_| format!("sg-{}", rng.below(3))).collect();
                    let spec = &mut scene.tasks[index].spec;
                    spec.groups.clone_from(&groups);
                    let moved = (spec.address, member(spec));
                    machine.runtime.block_on(scene.plane.set_groups(&spec.id, groups)).unwrap();
                    scene.model.members.extend([moved]);
                }
                if round % 4 == 3 {
                    policy.groups.remove("sg-2");
                }
                scene.set(policy);
                let (more, fewer) = scene.check_all(&format!("round {round}"));
                passed += more;
                stopped += fewer;
            }
        });
        assert!(passed > 20 && stopped > 20, "{passed} passed, {stopped} stopped");
        scene.end();
    });
}

#[test]
fn a_change_stops_the_new_and_leaves_what_runs_and_members_come_and_go() {
    on_a_machine(|machine| {
        let mut scene = Scene::new(machine, 3);
        let all = || vec![Permission { traffic: Traffic::All, peer: Peer::Cidr(Ipv4Cidr::EVERYWHERE) }];
        let from = |group: &str| vec![Permission { traffic: Traffic::All, peer: Peer::Group(group.into()) }];
        scene.set(Policy { groups: ingress_only([all(), all(), all()]), ..Policy::default() });
        let [first, second, _] = &scene.tasks.clone()[..] else { panic!("three tasks") };
        let listener = inside(&first.netns, || TcpListener::bind((first.spec.address, 1000)).unwrap());
        let target = (first.spec.address, 1000);
        let mut client = inside(&second.netns, || std::net::TcpStream::connect(target).unwrap());
        let (mut server, _) = listener.accept().unwrap();

        let mut groups = ingress_only([from("sg-9"), all(), all()]);
        groups.insert("sg-9".into(), groups["sg-1"].clone());
        scene.set(Policy { groups, ..Policy::default() });
        let port = scene.client_port();
        assert!(!inside(&second.netns, || answered(Kind::Tcp(1000), port, target.0, SILENCE)));
        std::io::Write::write_all(&mut client, b"still").unwrap();
        let mut heard = [0; 5];
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        std::io::Read::read_exact(&mut server, &mut heard).unwrap();
        assert_eq!(&heard, b"still");

        // A task of the group that is let in comes, and goes, and its address is another's.
        let mut newcomer = EniSpec { groups: vec!["sg-9".into()], ..eni(&scene.vpc, 1, 20, Egress::VpcOnly) };
        let netns = machine.attach(&scene.plane, &newcomer);
        let port = scene.client_port();
        assert!(inside(&netns, || answered(Kind::Tcp(1000), port, target.0, PATIENCE)));
        machine.runtime.block_on(scene.plane.detach(&newcomer.id)).unwrap();
        newcomer.groups = vec!["sg-1".into()];
        let netns = machine.attach(&scene.plane, &newcomer);
        let port = scene.client_port();
        assert!(!inside(&netns, || answered(Kind::Tcp(1000), port, target.0, SILENCE)));
        scene.end();
    });
}

#[test]
fn nobody_speaks_for_another_and_the_rules_outlive_their_maker() {
    on_a_machine(|machine| {
        let mut scene = Scene::new(machine, 4);
        let all = || vec![Permission { traffic: Traffic::All, peer: Peer::Cidr(Ipv4Cidr::EVERYWHERE) }];
        let from = |group: &str| vec![Permission { traffic: Traffic::All, peer: Peer::Group(group.into()) }];
        let policy = Policy { groups: ingress_only([from("sg-2"), all(), all()]), ..Policy::default() };
        scene.set(policy.clone());
        let [first, second, third] = &scene.tasks.clone()[..] else { panic!("three tasks") };
        let target = first.spec.address;
        let _listener = inside(&first.netns, || TcpListener::bind((target, 1000)).unwrap());
        let try_from = |scene: &mut Scene<'_>, task: &Task, wait| {
            let port = scene.client_port();
            inside(&task.netns, || answered(Kind::Tcp(1000), port, target, wait))
        };
        assert!(try_from(&mut scene, third, PATIENCE));
        assert!(!try_from(&mut scene, second, SILENCE));

        // With the address and even the link address of the one who is let in, it is still not it.
        let thief = second.clone();
        inside(&thief.netns, || {
            run("ip addr flush dev eth0");
            run(&format!("ip addr add {}/20 dev eth0", third.spec.address));
            run("ip route add default via 172.31.16.1 dev eth0 onlink");
        });
        assert!(!try_from(&mut scene, &thief, SILENCE));
        inside(&thief.netns, || run(&format!("ip link set eth0 address {}", third.spec.mac)));
        assert!(!try_from(&mut scene, &thief, SILENCE));
        assert!(try_from(&mut scene, third, PATIENCE), "the one who is let in has lost nothing");

        // The maker dies; its rules hold. Another life finds the interfaces and goes on.
        drop(scene.plane);
        let port = scene.next_port + 1;
        let ask = |port, wait| inside(&third.netns, || answered(Kind::Tcp(1000), port, target, wait));
        assert!(ask(port, PATIENCE));
        let plane = machine.plane(5);
        let expected: Vec<EniSpec> = [first, third].map(|task| task.spec.clone()).to_vec();
        machine.runtime.block_on(plane.recover(vec![scene.vpc.clone()], expected)).unwrap();
        machine.runtime.block_on(plane.set_policy(scene.vpc.clone(), policy)).unwrap();
        assert!(ask(port + 1, PATIENCE));
        let shut = Policy { groups: ingress_only([from("sg-1"), all(), all()]), ..Policy::default() };
        machine.runtime.block_on(plane.set_policy(scene.vpc.clone(), shut)).unwrap();
        assert!(!ask(port + 2, SILENCE));
        machine.runtime.block_on(plane.teardown()).unwrap();
    });
}

#[test]
fn another_network_and_the_outside_are_never_reached_by_a_group_that_allows_everything() {
    on_a_machine(|machine| {
        let mut scene = Scene::new(machine, 6);
        let all = || vec![Permission { traffic: Traffic::All, peer: Peer::Cidr(Ipv4Cidr::EVERYWHERE) }];
        let open = Policy { groups: ingress_only([all(), all(), all()]), ..Policy::default() };
        scene.set(open.clone());
        let other = vpc('b');
        let stranger = EniSpec { groups: vec!["sg-0".into()], ..eni(&other, 1, 30, Egress::Internet) };
        let stranger_netns = machine.attach(&scene.plane, &stranger);
        machine.runtime.block_on(scene.plane.set_policy(other, open)).unwrap();
        let task = scene.tasks[0].clone();
        let tasks = [task.clone()];
        with_servers(&tasks, || {
            for kind in [Kind::Tcp(1000), Kind::Udp(1000), Kind::Ping] {
                let port = scene.client_port();
                let to = task.spec.address;
                assert!(!inside(&stranger_netns, || answered(kind, port, to, SILENCE)), "{kind:?}");
                machine.outside(|| {
                    let _ = std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
                    let _ = std::process::Command::new("ip")
                        .args(["route", "replace", "172.31.0.0/16", "via", &support::UPLINK.to_string()])
                        .status();
                    assert!(!answered(kind, port, to, SILENCE), "{kind:?} from {OUTSIDE}");
                });
            }
        });
        scene.end();
    });
}
