//! The data plane on Linux: namespaces, bridges, veths and nftables, all by netlink.
//!
//! On disk, below `<run dir>/netns`: `vpc-…` keeps a VPC's namespace, `p…` a task's (or one made
//! ahead), and `eni-…` is a symbolic link from an interface to its namespace. A namespace without
//! a link to it belongs to nobody.
//!
//! The order of an attach is: route on the machine (the claim on the address), namespace, link on
//! disk. After a crash between any two, [`DataPlane::recover`] finds what is there and removes what
//! nobody asked for.

mod firewall;
mod message;
mod names;
mod netns;
mod nftables;
mod pool;
mod recovery;
mod route;
mod socket;
mod vpc;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use rustix::io::Errno;
use wharf_core::Rng;

use self::firewall::Guarded;
use self::message::Batch;
pub use self::names::InstanceId;
use self::names::Names;
use self::nftables::{Chain, Expression, Family, Hook, Table, Verdict};
pub use self::pool::PoolSize;
use self::pool::{Maker, Slot};
use self::route::{Existing, LOOPBACK_INDEX, PrefixRoute, Route};
use self::socket::{NetlinkSocket, Refusal};
use self::vpc::Vpc;
use crate::cidr::Ipv4Cidr;
use crate::plane::{
    Attached, DataPlane, Egress, EniSpec, NetworkError, PlaneStatus, Recovery, VpcSpec, check_eni, check_id,
};
use crate::policy::Policy;

/// How a data plane is opened.
pub struct PlaneConfig {
    pub instance: InstanceId,
    /// A directory that is this instance's alone and does not outlive the machine's uptime: below
    /// `/run`.
    pub run_dir: PathBuf,
    pub pool: PoolSize,
}

/// The kernel's data plane. Cheap to clone.
#[derive(Clone)]
pub struct NetlinkPlane(Arc<Inner>);

struct Inner {
    names: Arc<Names>,
    directory: PathBuf,
    machine_netns: OwnedFd,
    machine: Mutex<NetlinkSocket>,
    netfilter: Mutex<NetlinkSocket>,
    prepared: Mutex<bool>,
    closed: AtomicBool,
    notes: Mutex<BTreeSet<String>>,
    vpcs: Mutex<BTreeMap<String, Cell<Arc<Vpc>>>>,
    interfaces: Mutex<HashMap<String, Cell<Eni>>>,
    maker: Maker,
    pool: PoolSize,
}

/// One thing that is made once; whoever comes meanwhile waits for it and not for the others.
type Cell<T> = Arc<Mutex<Option<T>>>;

struct Eni {
    spec: EniSpec,
    vpc: Arc<Vpc>,
    slot: Slot,
}

/// Where a failure came from, before it is said what was being done.
enum Failure {
    Io(io::Error),
    Netlink(Refusal),
}

impl Failure {
    fn of(self, operation: String) -> NetworkError {
        let (errno, message) = match &self {
            Self::Io(error) => {
                let refusal = error.get_ref().and_then(|inner| inner.downcast_ref::<Refusal>());
                (
                    refusal.map(|refusal| refusal.errno.raw_os_error()).or(error.raw_os_error()),
                    error.to_string(),
                )
            }
            Self::Netlink(refusal) => (Some(refusal.errno.raw_os_error()), refusal.to_string()),
        };
        match errno {
            Some(errno) if errno == Errno::PERM.raw_os_error() => {
                NetworkError::Privilege { operation: "a VPC's network" }
            }
            _ => NetworkError::Kernel { operation, message },
        }
    }
}

impl NetlinkPlane {
    /// Opens the plane on the calling thread's network namespace, which is "the machine" from then
    /// on. Changes nothing yet but the run directory.
    ///
    /// # Errors
    /// When the directory cannot be made, or netlink sockets cannot be opened.
    pub fn open(config: PlaneConfig, rng: &dyn Rng) -> Result<Self, NetworkError> {
        let failure = |error| Failure::Io(error).of("open the data plane".to_owned());
        let refusal = |refusal| Failure::Netlink(refusal).of("open the data plane".to_owned());
        let directory = config.run_dir.join("netns");
        std::fs::create_dir_all(&directory).map_err(failure)?;
        let names = Arc::new(Names::new(config.instance, rng.next_u64()));
        let machine_netns = netns::current().map_err(failure)?;
        let home = machine_netns.try_clone().map_err(failure)?;
        let maker =
            Maker::start(directory.clone(), Arc::clone(&names), config.pool, home).map_err(failure)?;
        Ok(Self(Arc::new(Inner {
            names,
            directory,
            machine_netns,
            machine: Mutex::new(NetlinkSocket::route().map_err(refusal)?),
            netfilter: Mutex::new(NetlinkSocket::netfilter().map_err(|_| NetworkError::NoNftables)?),
            prepared: Mutex::new(false),
            closed: AtomicBool::new(false),
            notes: Mutex::new(BTreeSet::new()),
            vpcs: Mutex::new(BTreeMap::new()),
            interfaces: Mutex::new(HashMap::new()),
            maker,
            pool: config.pool,
        })))
    }

    /// Runs `work`, which waits for the kernel, off the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, NetworkError> + Send + 'static,
    ) -> Result<T, NetworkError> {
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&inner)).await.unwrap_or(Err(NetworkError::Closed))
    }
}

impl Inner {
    fn check_open(&self) -> Result<(), NetworkError> {
        if self.closed.load(Ordering::Acquire) { Err(NetworkError::Closed) } else { Ok(()) }
    }

    /// Forwarding and address translation of the machine, once in a life.
    fn prepare_machine(&self) -> Result<(), NetworkError> {
        let mut prepared = self.prepared.lock();
        if *prepared {
            return Ok(());
        }
        nftables::replace(&self.netfilter.lock(), &machine_rules(&self.names)).map_err(|refusal| {
            match refusal.errno {
                Errno::PERM => NetworkError::Privilege { operation: "a VPC's network" },
                Errno::OPNOTSUPP | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT | Errno::NOENT => {
                    NetworkError::NoNftables
                }
                _ => Failure::Netlink(refusal).of("write the machine's nftables".to_owned()),
            }
        })?;
        let turned_on = netns::on_own_thread(|| {
            netns::enter(&self.machine_netns)?;
            let off = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")?.trim() == "0";
            if off {
                netns::set_sysctl("ipv4/ip_forward", "1")?;
            }
            Ok(off)
        })
        .map_err(|error| Failure::Io(error).of("turn on ip_forward".to_owned()))?;
        if turned_on {
            let note = "net.ipv4.ip_forward was 0 and has been set to 1; it stays so after Wharf has gone";
            self.notes.lock().insert(note.to_owned());
        }
        *prepared = true;
        Ok(())
    }

    fn vpc(&self, spec: &VpcSpec) -> Result<Arc<Vpc>, NetworkError> {
        check_id(&spec.id, "vpc")?;
        let cell = Arc::clone(self.vpcs.lock().entry(spec.id.clone()).or_default());
        let mut cell = cell.lock();
        if let Some(vpc) = &*cell {
            return Ok(Arc::clone(vpc));
        }
        self.check_open()?;
        self.prepare_machine()?;
        let vpc = Arc::new(Vpc::ensure(spec, &self.directory.join(&spec.id), &self.names, &self.machine)?);
        self.note_overlaps(spec);
        *cell = Some(Arc::clone(&vpc));
        Ok(vpc)
    }

    /// Tells the user when the machine's own network has addresses of the VPC.
    fn note_overlaps(&self, spec: &VpcSpec) {
        let machine = self.machine.lock();
        let (Ok(links), Ok(routes)) = (route::links(&machine), route::routes(&machine)) else { return };
        for (to, index) in routes {
            let name = links.iter().find(|link| link.index == index).map_or("?", |link| link.name.as_str());
            if to.prefix() > 0 && to.overlaps(spec.cidr) && !name.starts_with("wh") {
                self.notes.lock().insert(format!(
                    "this machine reaches {to} through {name}, which overlaps {} of {}: addresses of tasks go first",
                    spec.cidr, spec.id
                ));
            }
        }
    }

    fn attach(&self, spec: &EniSpec) -> Result<Attached, NetworkError> {
        check_eni(spec)?;
        let attached = Attached { netns: self.directory.join(&spec.id) };
        let cell = Arc::clone(self.interfaces.lock().entry(spec.id.clone()).or_default());
        let mut cell = cell.lock();
        match &*cell {
            Some(eni) if eni.spec == (EniSpec { groups: eni.spec.groups.clone(), ..spec.clone() }) => {
                return Ok(attached);
            }
            Some(_) => {
                return Err(NetworkError::Kernel {
                    operation: format!("attach {}", spec.id),
                    message: "it is attached with another address or subnet".to_owned(),
                });
            }
            None => {}
        }
        self.check_open()?;
        let made = self.make_interface(spec);
        match made {
            Ok(eni) => {
                *cell = Some(eni);
                Ok(attached)
            }
            Err(error) => {
                drop(cell);
                self.interfaces.lock().remove(&spec.id);
                Err(error)
            }
        }
    }

    fn make_interface(&self, spec: &EniSpec) -> Result<Eni, NetworkError> {
        let failure = |refusal| Failure::Netlink(refusal).of(format!("attach {}", spec.id));
        let vpc = self.vpc(&spec.vpc)?;
        let bridge = vpc.bridge(&spec.subnet)?;
        let mut batch = Batch::new();
        route::add_route(&mut batch, vpc.host_route(spec.address), Existing::Refuse);
        match self.machine.lock().execute(&batch) {
            Err(Refusal { errno: Errno::EXIST, .. }) => {
                return Err(NetworkError::AddressInUse { address: spec.address });
            }
            other => other.map_err(failure)?,
        }
        let give_back_address = || {
            let mut batch = Batch::new();
            route::delete_route(&mut batch, vpc.host_route(spec.address));
            let _ = self.machine.lock().execute(&batch);
        };
        let slot = match self.take_slot(&vpc, bridge) {
            Ok(slot) => slot,
            Err(error) => {
                give_back_address();
                return Err(Failure::Io(error).of(format!("make a network namespace for {}", spec.id)));
            }
        };
        // Under the rules first: what is connected may speak.
        let guarded = vpc.firewall.add(guarded(spec, &slot)).map_err(failure);
        let connected =
            guarded.and_then(|()| connect(spec, &vpc, bridge, &slot).map_err(failure)).and_then(|()| {
                link_to_namespace(&self.directory, &spec.id, &slot.name)
                    .map_err(|error| Failure::Io(error).of(format!("attach {}", spec.id)))
            });
        match connected {
            Ok(()) => Ok(Eni {
                spec: spec.clone(),
                slot: Slot { bridge: Some(bridge), ..slot },
                vpc: Arc::clone(&vpc),
            }),
            Err(error) => {
                // The first error is the one to tell.
                let _ = vpc.firewall.remove(spec.address);
                give_back_address();
                pool::discard(&self.directory, slot);
                Err(error)
            }
        }
    }

    fn set_policy(&self, spec: &VpcSpec, policy: Policy) -> Result<(), NetworkError> {
        let failure = |refusal| Failure::Netlink(refusal).of(format!("set the policy of {}", spec.id));
        self.vpc(spec)?.firewall.set_policy(policy).map_err(failure)
    }

    fn set_groups(&self, id: &str, groups: Vec<String>) -> Result<(), NetworkError> {
        check_id(id, "eni")?;
        let Some(cell) = self.interfaces.lock().get(id).cloned() else { return Ok(()) };
        let mut cell = cell.lock();
        let Some(eni) = &mut *cell else { return Ok(()) };
        let failure = |refusal| Failure::Netlink(refusal).of(format!("change the groups of {id}"));
        eni.vpc.firewall.set_groups(eni.spec.address, &groups).map_err(failure)?;
        eni.spec.groups = groups;
        Ok(())
    }

    fn take_slot(&self, vpc: &Arc<Vpc>, bridge: u32) -> io::Result<Slot> {
        let (pooled, low) = {
            let mut pool = vpc.pool.lock();
            (pool.take(bridge), pool.unbound() <= self.pool.ready / 2)
        };
        // Not after every claim: making one disturbs the start of the task that has just claimed one.
        if low {
            self.maker.refill(vpc);
        }
        pooled.map_or_else(|| self.maker.make(vpc, bridge), Ok)
    }

    fn detach(&self, id: &str) -> Result<(), NetworkError> {
        check_id(id, "eni")?;
        let Some(cell) = self.interfaces.lock().get(id).cloned() else { return Ok(()) };
        let taken = cell.lock().take();
        self.interfaces.lock().remove(id);
        let Some(Eni { spec, vpc, slot }) = taken else { return Ok(()) };
        // From here on a new life sees a namespace that belongs to nobody.
        remove_file(&self.directory.join(id))
            .map_err(|error| Failure::Io(error).of(format!("detach {id}")))?;
        let clean = disconnect(&spec, &vpc, &slot).and(vpc.firewall.remove(spec.address));
        let mut batch = Batch::new();
        route::delete_route(&mut batch, vpc.host_route(spec.address));
        let unrouted = self.machine.lock().execute(&batch);
        if clean.is_ok() {
            self.maker.recycle(&vpc, slot);
        } else {
            pool::discard(&self.directory, slot);
        }
        match unrouted {
            Err(Refusal { errno: Errno::SRCH, .. }) => Ok(()),
            other => other.map_err(|refusal| Failure::Netlink(refusal).of(format!("detach {id}"))),
        }
    }

    fn listen(&self, spec: &VpcSpec, address: Ipv4Addr, port: u16) -> Result<TcpListener, NetworkError> {
        let vpc = self.vpc(spec)?;
        let failure = |error| Failure::Io(error).of(format!("listen on {address}:{port} in {}", spec.id));
        if address.is_link_local() {
            let mut batch = Batch::new();
            route::add_address(&mut batch, LOOPBACK_INDEX, address, 32, PrefixRoute::Implied);
            vpc.socket.lock().execute(&batch).map_err(|refusal| failure(io::Error::other(refusal)))?;
        }
        netns::on_own_thread(|| {
            netns::enter(&vpc.netns)?;
            let listener = TcpListener::bind((address, port))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })
        .map_err(failure)
    }

    fn remove_vpc(&self, id: &str) -> Result<(), NetworkError> {
        check_id(id, "vpc")?;
        let Some(cell) = self.vpcs.lock().get(id).cloned() else { return Ok(()) };
        let mut cell = cell.lock();
        let Some(vpc) = cell.take() else { return Ok(()) };
        // What was asked of the maker before holds the VPC too; afterwards only interfaces do.
        self.maker.settle();
        if Arc::strong_count(&vpc) > 1 {
            *cell = Some(vpc);
            return Err(NetworkError::VpcInUse { vpc: id.to_owned() });
        }
        for slot in vpc.pool.lock().drain() {
            pool::discard(&self.directory, slot);
        }
        let mut batch = Batch::new();
        route::delete_link(&mut batch, vpc.transit.index);
        let unlinked = self.machine.lock().execute(&batch);
        netns::release(&self.directory.join(id))
            .map_err(|error| Failure::Io(error).of(format!("remove {id}")))?;
        match unlinked {
            Err(Refusal { errno: Errno::NODEV, .. }) => Ok(()),
            other => other.map_err(|refusal| Failure::Netlink(refusal).of(format!("remove {id}"))),
        }
    }
}

/// Gives a slot its identity: two batches, no namespace entered.
fn connect(spec: &EniSpec, vpc: &Vpc, bridge: u32, slot: &Slot) -> Result<(), Refusal> {
    let mut batch = Batch::new();
    if slot.bridge != Some(bridge) {
        route::set_master(&mut batch, slot.port, bridge);
        route::isolate(&mut batch, slot.port);
        // A bridge has a carrier from its first port on.
        route::settle(&mut batch, bridge);
    }
    route::add_forwarding(&mut batch, slot.port, spec.mac);
    route::add_neighbour(&mut batch, bridge, spec.address, spec.mac);
    vpc.socket.lock().execute(&batch)?;

    let mut batch = Batch::new();
    let subnet = spec.subnet.cidr;
    route::set_mac(&mut batch, slot.eth, spec.mac);
    route::add_address(&mut batch, slot.eth, spec.address, subnet.prefix(), PrefixRoute::Implied);
    let destinations = match spec.egress {
        Egress::Internet => vec![Ipv4Cidr::EVERYWHERE],
        Egress::VpcOnly => vec![spec.vpc.cidr, Ipv4Cidr::LINK_LOCAL],
    };
    for to in destinations.into_iter().filter(|&to| to != subnet) {
        let via = Route::Via { to, gateway: subnet.gateway(), index: slot.eth, source: None };
        route::add_route(&mut batch, via, Existing::Replace);
    }
    slot.socket.execute(&batch)
}

fn guarded(spec: &EniSpec, slot: &Slot) -> Guarded {
    Guarded { address: spec.address, mac: spec.mac, port: slot.name.clone(), groups: spec.groups.clone() }
}

/// Takes a slot's identity away; its routes go with its address.
fn disconnect(spec: &EniSpec, vpc: &Vpc, slot: &Slot) -> Result<(), Refusal> {
    let mut batch = Batch::new();
    route::delete_address(&mut batch, slot.eth, spec.address, spec.subnet.cidr.prefix());
    let own = slot.socket.execute(&batch);
    let mut batch = Batch::new();
    route::delete_forwarding(&mut batch, slot.port, spec.mac);
    if let Some(bridge) = slot.bridge {
        route::delete_neighbour(&mut batch, bridge, spec.address);
    }
    let socket = vpc.socket.lock();
    own.and(socket.execute(&batch))
}

/// What leaves through one of our links takes the machine's address; and nobody reaches a task by
/// being forwarded: neither the machine's neighbours nor another VPC.
fn machine_rules(names: &Names) -> Table {
    let prefix = names.transit_prefix();
    Table {
        family: Family::Inet,
        name: names.table(),
        sets: Vec::new(),
        chains: vec![
            Chain {
                name: "forward".to_owned(),
                hook: Some(Hook::Forward(0)),
                rules: vec![vec![
                    Expression::OutputPrefix(prefix.clone()),
                    Expression::NewConnection,
                    Expression::Verdict(Verdict::Drop),
                ]],
            },
            Chain {
                name: "postrouting".to_owned(),
                hook: Some(Hook::SourceNat),
                rules: vec![vec![Expression::InputPrefix(prefix), Expression::Masquerade]],
            },
        ],
    }
}

/// Points `eni-…` at its namespace, in one step.
fn link_to_namespace(directory: &Path, id: &str, slot: &str) -> io::Result<()> {
    let link = directory.join(id);
    match std::os::unix::fs::symlink(slot, &link) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(&link)?;
            std::os::unix::fs::symlink(slot, &link)
        }
        other => other,
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[async_trait]
impl DataPlane for NetlinkPlane {
    async fn recover(&self, vpcs: Vec<VpcSpec>, expected: Vec<EniSpec>) -> Result<Recovery, NetworkError> {
        self.blocking(move |inner| inner.recover(&vpcs, &expected)).await
    }

    async fn warm(&self, vpc: VpcSpec) -> Result<(), NetworkError> {
        self.blocking(move |inner| {
            let vpc = inner.vpc(&vpc)?;
            inner.maker.refill(&vpc);
            Ok(())
        })
        .await
    }

    async fn attach(&self, eni: EniSpec) -> Result<Attached, NetworkError> {
        self.blocking(move |inner| inner.attach(&eni)).await
    }

    async fn detach(&self, eni_id: &str) -> Result<(), NetworkError> {
        let id = eni_id.to_owned();
        self.blocking(move |inner| inner.detach(&id)).await
    }

    async fn set_policy(&self, vpc: VpcSpec, policy: Policy) -> Result<(), NetworkError> {
        self.blocking(move |inner| inner.set_policy(&vpc, policy)).await
    }

    async fn set_groups(&self, eni_id: &str, groups: Vec<String>) -> Result<(), NetworkError> {
        let id = eni_id.to_owned();
        self.blocking(move |inner| inner.set_groups(&id, groups)).await
    }

    async fn remove_vpc(&self, vpc_id: &str) -> Result<(), NetworkError> {
        let id = vpc_id.to_owned();
        self.blocking(move |inner| inner.remove_vpc(&id)).await
    }

    async fn listen(&self, vpc: VpcSpec, address: Ipv4Addr, port: u16) -> Result<TcpListener, NetworkError> {
        self.blocking(move |inner| inner.listen(&vpc, address, port)).await
    }

    fn status(&self) -> PlaneStatus {
        let vpcs: Vec<_> = self.0.vpcs.lock().values().cloned().collect();
        let vpcs: Vec<_> = vpcs.iter().filter_map(|cell| cell.lock().clone()).collect();
        PlaneStatus {
            vpcs: vpcs.len(),
            interfaces: self.0.interfaces.lock().len(),
            pooled: vpcs.iter().map(|vpc| vpc.pool.lock().len()).sum(),
            notes: self.0.notes.lock().iter().cloned().collect(),
        }
    }

    async fn teardown(&self) -> Result<(), NetworkError> {
        self.blocking(Inner::teardown).await
    }
}
