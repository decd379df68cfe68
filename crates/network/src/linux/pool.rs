//! Namespaces made ahead: each with loopback up and a veth pair, its peer waiting in the VPC.
//!
//! Making one waits behind the kernel's clean-up of earlier ones, so one thread does it in the
//! background; using one is a few netlink messages through a socket that was opened inside.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Weak};

use rustix::io::Errno;

use super::message::Batch;
use super::names::Names;
use super::netns;
use super::route::{self, LOOPBACK_INDEX};
use super::socket::{NetlinkSocket, Refusal};
use super::vpc::Vpc;

/// What a task's interface is called.
const ETH: &str = "eth0";

/// How many namespaces are kept.
#[derive(Clone, Copy, Debug)]
pub struct PoolSize {
    /// Made ahead for each VPC.
    pub ready: usize,
    /// Kept at most for each VPC when tasks give theirs back.
    pub kept_max: usize,
}

impl Default for PoolSize {
    fn default() -> Self {
        Self { ready: 8, kept_max: 32 }
    }
}

/// One namespace and its veth.
pub struct Slot {
    /// The file that keeps it, in the directory of namespaces.
    pub name: String,
    /// A socket inside it.
    pub socket: NetlinkSocket,
    /// The index of the task's end.
    pub eth: u32,
    /// The index of the other end, in the VPC.
    pub port: u32,
    /// The bridge that the other end is on. Taking it off would cost a grace period, so it stays.
    pub bridge: Option<u32>,
}

#[derive(Default)]
pub struct Pool {
    ready: VecDeque<Slot>,
}

impl Pool {
    pub fn len(&self) -> usize {
        self.ready.len()
    }

    /// One that is on the bridge already, or on none.
    pub fn take(&mut self, bridge: u32) -> Option<Slot> {
        let at = |wanted: Option<u32>| self.ready.iter().position(|slot| slot.bridge == wanted);
        let index = at(Some(bridge)).or_else(|| at(None))?;
        self.ready.remove(index)
    }

    fn put(&mut self, slot: Slot) {
        self.ready.push_back(slot);
    }

    pub fn drain(&mut self) -> Vec<Slot> {
        self.ready.drain(..).collect()
    }

    /// Slots that fit any subnet.
    pub fn unbound(&self) -> usize {
        self.ready.iter().filter(|slot| slot.bridge.is_none()).count()
    }
}

enum Job {
    /// A slot for this bridge.
    Make(Arc<Vpc>, u32, SyncSender<io::Result<Slot>>),
    Refill(Weak<Vpc>),
    Recycle(Weak<Vpc>, Slot),
    Barrier(SyncSender<()>),
}

/// The thread that makes namespaces.
pub struct Maker {
    jobs: Sender<Job>,
}

impl Maker {
    /// `machine` is the namespace that the thread stays in when it does nothing.
    pub fn start(
        directory: PathBuf,
        names: Arc<Names>,
        size: PoolSize,
        machine: OwnedFd,
    ) -> io::Result<Self> {
        let (jobs, received) = std::sync::mpsc::channel();
        let workshop = Workshop { directory, names, size, machine };
        std::thread::Builder::new()
            .name("wharf-netns-pool".to_owned())
            .spawn(move || workshop.run(&received))?;
        Ok(Self { jobs })
    }

    /// One slot, now.
    pub fn make(&self, vpc: &Arc<Vpc>, bridge: u32) -> io::Result<Slot> {
        let (sender, receiver) = sync_channel(1);
        self.send(Job::Make(Arc::clone(vpc), bridge, sender));
        receiver.recv().unwrap_or_else(|_| Err(io::Error::other("the maker of namespaces has ended")))
    }

    /// Brings the pool back to its size, in the background.
    pub fn refill(&self, vpc: &Arc<Vpc>) {
        self.send(Job::Refill(Arc::downgrade(vpc)));
    }

    /// Takes back a slot whose processes are gone, in the background.
    pub fn recycle(&self, vpc: &Arc<Vpc>, slot: Slot) {
        self.send(Job::Recycle(Arc::downgrade(vpc), slot));
    }

    /// Returns once everything asked for before is done, or given up: pools are not filled further.
    pub fn settle(&self) {
        let (sender, receiver) = sync_channel(1);
        self.send(Job::Barrier(sender));
        let _ = receiver.recv();
    }

    fn send(&self, job: Job) {
        // The receiver ends only with its sender.
        let _ = self.jobs.send(job);
    }
}

/// What the thread works with.
struct Workshop {
    directory: PathBuf,
    names: Arc<Names>,
    size: PoolSize,
    machine: OwnedFd,
}

impl Workshop {
    fn run(&self, jobs: &Receiver<Job>) {
        // Pools to be filled: work for when nobody waits, one slot at a time.
        let mut refills: VecDeque<Weak<Vpc>> = VecDeque::new();
        loop {
            let job = if refills.is_empty() {
                jobs.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                jobs.try_recv()
            };
            match job {
                Ok(Job::Make(vpc, bridge, reply)) => {
                    // One may have come back since it was asked for.
                    let pooled = vpc.pool.lock().take(bridge);
                    let slot = pooled.map_or_else(|| self.make(&vpc), Ok);
                    let _ = reply.send(slot);
                }
                Ok(Job::Refill(vpc)) => {
                    if !refills.iter().any(|known| known.ptr_eq(&vpc)) {
                        refills.push_back(vpc);
                    }
                }
                Ok(Job::Recycle(vpc, slot)) => self.recycle(&vpc, slot),
                Ok(Job::Barrier(reply)) => {
                    refills.clear();
                    let _ = reply.send(());
                }
                Err(TryRecvError::Empty) => {
                    if let Some(vpc) = refills.pop_front()
                        && self.refill_one(&vpc)
                    {
                        refills.push_back(vpc);
                    }
                }
                Err(TryRecvError::Disconnected) => break,
            }
        }
    }

    /// Whether there may be more to do.
    fn refill_one(&self, vpc: &Weak<Vpc>) -> bool {
        let Some(vpc) = vpc.upgrade() else { return false };
        if vpc.pool.lock().unbound() >= self.size.ready {
            return false;
        }
        match self.make(&vpc) {
            Ok(slot) => {
                vpc.pool.lock().put(slot);
                true
            }
            Err(error) => {
                tracing::warn!(vpc = vpc.spec.id, %error, "cannot make a network namespace ahead");
                false
            }
        }
    }

    /// Runs on the maker's own thread, which goes home afterwards: a thread for each would cost two
    /// more switches.
    fn make(&self, vpc: &Vpc) -> io::Result<Slot> {
        let name = self.names.slot();
        let path = self.directory.join(&name);
        let inside = netns::create_and_enter(&path).and_then(|()| prepare());
        netns::enter(&self.machine)?;
        let made = inside.and_then(|(netns, socket)| {
            let (eth, port) = join(vpc, &name, &netns, &socket).map_err(io::Error::other)?;
            Ok(Slot { name, socket, eth, port, bridge: None })
        });
        if made.is_err() {
            netns::release(&path)?;
        }
        made
    }

    fn recycle(&self, vpc: &Weak<Vpc>, slot: Slot) {
        let vpc = vpc.upgrade();
        let room = vpc.as_ref().filter(|vpc| vpc.pool.lock().len() < self.size.kept_max);
        match room {
            Some(vpc) if self.is_clean(&slot) => vpc.pool.lock().put(slot),
            _ => discard(&self.directory, slot),
        }
    }

    fn is_clean(&self, slot: &Slot) -> bool {
        let look = || -> io::Result<bool> {
            netns::enter(std::fs::File::open(self.directory.join(&slot.name))?)?;
            Ok(netns::is_quiet())
        };
        let clean = look().unwrap_or(false);
        // Staying would keep the namespace alive.
        clean & netns::enter(&self.machine).is_ok()
    }
}

/// Gives the namespace up. The kernel removes it, and the veth with it, in its own time.
pub fn discard(directory: &Path, slot: Slot) {
    let path = directory.join(&slot.name);
    drop(slot);
    if let Err(error) = netns::release(&path) {
        tracing::warn!(path = %path.display(), %error, "cannot release a network namespace");
    }
}

/// Runs inside the new namespace.
fn prepare() -> io::Result<(OwnedFd, NetlinkSocket)> {
    for (name, value) in [
        // `lo` keeps ::1, eth0 gets no IPv6 address: this network has none yet.
        ("ipv6/conf/default/addr_gen_mode", "1"),
        // As container runtimes have it: ports below 1024 and ICMP sockets for every user.
        ("ipv4/ip_unprivileged_port_start", "0"),
        ("ipv4/ping_group_range", "0 2147483647"),
    ] {
        netns::set_sysctl(name, value)?;
    }
    Ok((netns::current()?, NetlinkSocket::route().map_err(io::Error::other)?))
}

fn join(vpc: &Vpc, name: &str, netns: &OwnedFd, socket: &NetlinkSocket) -> Result<(u32, u32), Refusal> {
    let port = {
        let inside = vpc.maker_socket.lock();
        let mut batch = Batch::new();
        route::add_veth(&mut batch, name, ETH, netns.as_fd());
        inside.execute(&batch)?;
        let port = route::link_index(&inside, name)?;
        let mut batch = Batch::new();
        route::set_up(&mut batch, port);
        inside.execute(&batch)?;
        port
    };
    let eth = route::link_index(socket, ETH)?;
    let mut batch = Batch::new();
    route::set_up(&mut batch, LOOPBACK_INDEX);
    route::set_up(&mut batch, eth);
    route::settle(&mut batch, eth);
    socket.execute(&batch)?;
    let mut batch = Batch::new();
    route::settle(&mut batch, port);
    vpc.maker_socket.lock().execute(&batch)?;
    Ok((eth, port))
}

/// Adopts the namespace at `path`: a socket inside it, and where its port is.
pub fn adopt(directory: &Path, name: &str, vpc: &Vpc) -> io::Result<Slot> {
    let path = directory.join(name);
    let (socket, link) = netns::on_own_thread(|| {
        netns::enter(std::fs::File::open(&path)?)?;
        let socket = NetlinkSocket::route().map_err(io::Error::other)?;
        let links = route::links(&socket).map_err(io::Error::other)?;
        let link = links.into_iter().find(|link| link.name == ETH).ok_or(Errno::NODEV)?;
        Ok((socket, link))
    })?;
    let port = link.peer.ok_or(Errno::NODEV)?;
    let bridge = *vpc.ports.lock().get(&port).ok_or(Errno::NODEV)?;
    Ok(Slot { name: name.to_owned(), socket, eth: link.index, port, bridge })
}
