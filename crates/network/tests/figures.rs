//! How long an attach takes, and how many a second go. Figures for people; nothing is asserted about
//! time: `cargo test -p wharf-network --test figures -- --ignored --nocapture`.

#![allow(unsafe_code, reason = "unshare has no safe form")]
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "it measures, and prints what it measured"
)]
#![allow(dead_code, reason = "the support module serves other tests too")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use support::{Machine, eni, on_a_machine, vpc};
use wharf_core::SeededRng;
use wharf_network::linux::{InstanceId, NetlinkPlane, PlaneConfig, PoolSize};
use wharf_network::policy::{Peer, Permission, Policy, SecurityGroup, TCP, Traffic};
use wharf_network::{DataPlane, Egress, EniSpec, Ipv4Cidr, MacAddress};

fn plane(machine: &Machine, pool: PoolSize) -> NetlinkPlane {
    let config = PlaneConfig {
        instance: InstanceId::new("0badcafe").unwrap(),
        run_dir: machine.run_dir.path().join("run"),
        pool,
    };
    NetlinkPlane::open(config, &SeededRng::new(1)).unwrap()
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_micros();
    println!("{what}: p50 {} µs, p95 {} µs, max {} µs ({} times)", at(50), at(95), at(100), times.len());
}

#[test]
#[ignore = "prints figures, proves nothing"]
fn attach_and_detach() {
    on_a_machine(|machine| {
        let plane = plane(machine, PoolSize { ready: 200, kept_max: 256 });
        let vpc = vpc('a');
        let runtime = &machine.runtime;
        let start = Instant::now();
        runtime.block_on(plane.warm(vpc.clone())).unwrap();
        println!("VPC made: {} µs", start.elapsed().as_micros());
        let start = Instant::now();
        while plane.status().pooled < 200 {
            std::thread::yield_now();
        }
        println!("namespace made ahead: {} µs each", start.elapsed().as_micros() / 200);
        let first = eni(&vpc, 0, 4, Egress::Internet);
        runtime.block_on(plane.attach(first)).unwrap();
        let (mut attached, mut detached) = (Vec::new(), Vec::new());
        for number in 10..160 {
            let eni = eni(&vpc, 0, number, Egress::Internet);
            let start = Instant::now();
            runtime.block_on(plane.attach(eni)).unwrap();
            attached.push(start.elapsed());
        }
        for number in 10..160 {
            let id = eni(&vpc, 0, number, Egress::Internet).id;
            let start = Instant::now();
            runtime.block_on(plane.detach(&id)).unwrap();
            detached.push(start.elapsed());
        }
        print("attach, namespace made ahead", attached);
        print("detach", detached);
        let mut again = Vec::new();
        for number in 10..100 {
            let eni = eni(&vpc, 0, number, Egress::Internet);
            let start = Instant::now();
            runtime.block_on(plane.attach(eni)).unwrap();
            again.push(start.elapsed());
        }
        print("attach, namespace used again", again);
        runtime.block_on(plane.teardown()).unwrap();
    });
}

#[test]
#[ignore = "prints figures, proves nothing"]
fn sustained() {
    const ROUNDS: u32 = 1000;
    for (what, pool) in [
        ("used again", PoolSize { ready: 8, kept_max: 32 }),
        ("never used again", PoolSize { ready: 8, kept_max: 0 }),
    ] {
        on_a_machine(|machine| {
            let plane = Arc::new(plane(machine, pool));
            let vpc = vpc('b');
            machine.runtime.block_on(plane.warm(vpc.clone())).unwrap();
            let start = Instant::now();
            machine.runtime.block_on(async {
                let mut workers = tokio::task::JoinSet::new();
                for worker in 0..4u8 {
                    let (plane, vpc) = (Arc::clone(&plane), vpc.clone());
                    workers.spawn(async move {
                        for _ in 0..ROUNDS / 4 {
                            let eni = eni(&vpc, 0, 10 + worker, Egress::Internet);
                            plane.attach(eni.clone()).await.unwrap();
                            plane.detach(&eni.id).await.unwrap();
                        }
                    });
                }
                workers.join_all().await;
            });
            let rate = f64::from(ROUNDS) / start.elapsed().as_secs_f64();
            println!("attach and detach, 4 at a time, namespaces {what}: {rate:.0} a second");
            machine.runtime.block_on(plane.teardown()).unwrap();
        });
    }
}

#[test]
#[ignore = "prints figures, proves nothing"]
fn policy_of_a_thousand_tasks() {
    const TASKS: u32 = 1000;
    const GROUPS: u16 = 20;
    const RULES: u16 = 50;
    on_a_machine(|machine| {
        let plane = plane(machine, PoolSize { ready: 8, kept_max: 32 });
        let vpc = vpc('c');
        let runtime = &machine.runtime;
        let rule = |group: u16, rule: u16, shift: u16| Permission {
            traffic: Traffic::Ports { protocol: TCP, ports: 1 + rule + shift..=1 + rule + shift },
            peer: if rule.is_multiple_of(2) {
                Peer::Cidr(Ipv4Cidr::EVERYWHERE)
            } else {
                Peer::Group(format!("sg-{}", (group + rule) % GROUPS))
            },
        };
        let policy = |shift| Policy {
            groups: (0..GROUPS)
                .map(|group| {
                    let ingress = (0..RULES).map(|number| rule(group, number, shift)).collect();
                    let egress =
                        vec![Permission { traffic: Traffic::All, peer: Peer::Cidr(Ipv4Cidr::EVERYWHERE) }];
                    (format!("sg-{group}"), SecurityGroup { ingress, egress })
                })
                .collect(),
            ..Policy::default()
        };
        runtime.block_on(plane.set_policy(vpc.clone(), policy(0))).unwrap();
        let mut attached = Vec::new();
        for number in 0..TASKS {
            let address = std::net::Ipv4Addr::from(u32::from_be_bytes([172, 31, 0, 10]) + number);
            let first = number as u16 % GROUPS;
            let spec = EniSpec {
                id: format!("eni-{number:017x}"),
                address,
                mac: MacAddress::of(&vpc.id, address),
                groups: (0..=number as u16 % 3)
                    .map(|next| format!("sg-{}", (first + next) % GROUPS))
                    .collect(),
                ..eni(&vpc, 0, 10, Egress::VpcOnly)
            };
            let start = Instant::now();
            runtime.block_on(plane.attach(spec)).unwrap();
            attached.push(start.elapsed());
        }
        print("attach under 20 groups of 50 rules, up to 1,000 tasks", attached);
        let mut changed = Vec::new();
        for round in 1..=11 {
            let start = Instant::now();
            runtime.block_on(plane.set_policy(vpc.clone(), policy(round))).unwrap();
            changed.push(start.elapsed());
        }
        print("another policy for 1,000 tasks, one batch", changed);
        runtime.block_on(plane.teardown()).unwrap();
    });
}
