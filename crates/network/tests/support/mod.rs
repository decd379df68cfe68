//! A machine of its own for each test: a fresh network namespace that takes the part of the host,
//! with an "outside" behind it. The real machine's network is never touched.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use wharf_core::SeededRng;
use wharf_network::linux::{InstanceId, NetlinkPlane, PlaneConfig, PoolSize};
use wharf_network::{DataPlane, Egress, EniSpec, Ipv4Cidr, MacAddress, SubnetSpec, VpcSpec};

pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const UPLINK: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Long enough for a loaded machine, and only ever waited for in full when a test fails or when
/// nothing is meant to answer.
pub const PATIENCE: Duration = Duration::from_secs(10);
pub const SILENCE: Duration = Duration::from_millis(300);

pub struct Machine {
    pub run_dir: tempfile::TempDir,
    pub runtime: tokio::runtime::Runtime,
    outside: PathBuf,
}

/// Runs the test on a thread whose network namespace is a new machine. Says so and returns when
/// there is no root to make one.
#[expect(clippy::print_stdout, reason = "a test that did not run says so")]
pub fn on_a_machine(test: impl FnOnce(&Machine) + Send) {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: network namespaces need root");
        return;
    }
    if ["ip", "nft"].iter().any(|tool| Command::new(tool).arg("-V").output().is_err()) {
        println!("SKIPPED: the checks need the programs ip and nft");
        return;
    }
    std::thread::scope(|scope| {
        let result = scope
            .spawn(|| {
                unshare_network();
                let machine = Machine::new();
                test(&machine);
                machine.end();
            })
            .join();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

fn unshare_network() {
    // SAFETY: only the network namespace of this thread changes.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
}

impl Machine {
    fn new() -> Self {
        let run_dir = tempfile::tempdir().unwrap();
        let outside = run_dir.path().join("outside");
        std::fs::write(&outside, "").unwrap();
        std::thread::scope(|scope| {
            let keep = || {
                unshare_network();
                rustix::mount::mount_bind("/proc/thread-self/ns/net", &outside).unwrap();
                run("ip link set lo up");
            };
            scope.spawn(keep).join().unwrap();
        });
        run("ip link set lo up");
        run("ip link add uplink type veth peer name inner");
        run(&format!("ip addr add {UPLINK}/24 dev uplink"));
        run("ip link set uplink up");
        // `ip link set netns` takes a process id or a name; the name is looked up in /run/netns, so
        // the peer is moved by the thread that lives there.
        let namespace = std::fs::File::open(&outside).unwrap();
        let tid = std::sync::mpsc::channel();
        let done = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&namespace),
                    Some(LinkNameSpaceType::Network),
                )
                .unwrap();
                tid.0.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
                done.1.recv().unwrap();
                run(&format!("ip addr add {OUTSIDE}/24 dev inner"));
                run("ip link set inner up");
            });
            run(&format!("ip link set inner netns {}", tid.1.recv().unwrap()));
            done.0.send(()).unwrap();
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { run_dir, runtime, outside }
    }

    pub fn plane(&self, life: u64) -> NetlinkPlane {
        self.plane_of("0badcafe", "run", life)
    }

    pub fn plane_of(&self, instance: &str, directory: &str, life: u64) -> NetlinkPlane {
        let config = PlaneConfig {
            instance: InstanceId::new(instance).unwrap(),
            run_dir: self.run_dir.path().join(directory),
            pool: PoolSize { ready: 2, kept_max: 4 },
        };
        NetlinkPlane::open(config, &SeededRng::new(life)).unwrap()
    }

    pub fn attach(&self, plane: &NetlinkPlane, eni: &EniSpec) -> PathBuf {
        self.runtime.block_on(plane.attach(eni.clone())).unwrap().netns
    }

    /// Runs `work` outside.
    pub fn outside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.outside, work)
    }

    /// Checks that a teardown left nothing, and removes the outside.
    fn end(&self) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = self.run_dir.path().to_str().unwrap();
        let left: Vec<_> =
            mounts.lines().filter(|line| line.contains(own) && !line.contains("/outside ")).collect();
        assert!(left.is_empty(), "mounts are left: {left:?}");
        let links = run("ip -o link");
        assert!(!links.contains("wh0"), "links are left: {links}");
        let routes = run("ip route show table main");
        assert!(routes.lines().all(|route| route.contains("dev uplink")), "routes are left: {routes}");
        assert_eq!(run("nft list tables"), "", "nftables are left");
        rustix::mount::unmount(&self.outside, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

/// Runs a program of the machine and returns what it prints.
pub fn run(command: &str) -> String {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `work` in a network namespace, on a thread of its own.
pub fn inside<T: Send>(namespace: &Path, work: impl FnOnce() -> T + Send) -> T {
    let namespace = std::fs::File::open(namespace).unwrap();
    std::thread::scope(|scope| {
        scope
            .spawn(move || {
                move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&namespace),
                    Some(LinkNameSpaceType::Network),
                )
                .unwrap();
                work()
            })
            .join()
            .unwrap()
    })
}

/// A server that tells each caller the address it came from, until the test is over.
pub fn serve(namespace: &Path, address: Ipv4Addr, port: u16) {
    let listener = inside(namespace, || TcpListener::bind((address, port)).unwrap());
    answer_on(listener);
}

pub fn answer_on(listener: TcpListener) {
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let mut request = [0; 4];
            if stream.read_exact(&mut request).is_err() {
                continue;
            }
            if &request == b"quit" {
                break;
            }
            let _ = stream.write_all(peer.ip().to_string().as_bytes());
        }
    });
}

pub fn stop(namespace: &Path, address: Ipv4Addr, port: u16) {
    inside(namespace, || {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, port)), PATIENCE).unwrap();
        stream.write_all(b"quit").unwrap();
    });
}

/// Who the server says we are.
pub fn ask(address: Ipv4Addr, port: u16, patience: Duration) -> std::io::Result<Ipv4Addr> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, port)), patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"ask?")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    text.parse().map_err(std::io::Error::other)
}

pub fn ask_from(
    namespace: &Path,
    address: Ipv4Addr,
    port: u16,
    patience: Duration,
) -> std::io::Result<Ipv4Addr> {
    inside(namespace, || ask(address, port, patience))
}

pub fn vpc(digit: char) -> VpcSpec {
    VpcSpec { id: format!("vpc-{}", digit.to_string().repeat(17)), cidr: cidr("172.31.0.0/16") }
}

pub fn cidr(text: &str) -> Ipv4Cidr {
    text.parse().unwrap()
}

/// An interface in one of the VPC's two subnets; the number is its id and the end of its address.
pub fn eni(vpc: &VpcSpec, subnet: u8, number: u8, egress: Egress) -> EniSpec {
    let subnet_cidr = cidr(&format!("172.31.{}.0/20", subnet * 16));
    let address = Ipv4Addr::new(172, 31, subnet * 16, number);
    EniSpec {
        id: format!("eni-{}{subnet:01x}{number:02x}", &vpc.id[4..18]),
        vpc: vpc.clone(),
        subnet: SubnetSpec { id: format!("subnet-{}{subnet:03x}", &vpc.id[4..18]), cidr: subnet_cidr },
        address,
        mac: MacAddress::of(&vpc.id, address),
        egress,
        groups: Vec::new(),
    }
}
