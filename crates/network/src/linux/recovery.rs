//! The ends of a life: adopting what an earlier one left, and leaving nothing behind.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use rustix::io::Errno;

use super::message::Batch;
use super::nftables::Family;
use super::route::Existing;
use super::socket::Refusal;
use super::{Eni, Failure, Inner, guarded, netns, nftables, pool, remove_file, route};
use crate::plane::{EniSpec, NetworkError, Recovery, VpcSpec, check_eni};

impl Inner {
    pub(super) fn recover(&self, vpcs: &[VpcSpec], expected: &[EniSpec]) -> Result<Recovery, NetworkError> {
        self.check_open()?;
        for eni in expected {
            check_eni(eni)?;
        }
        let failure = |error| Failure::Io(error).of("look for what an earlier life left".to_owned());
        let mut recovery = Recovery::default();
        self.prepare_machine()?;
        let mut found = entries(&self.directory).map_err(failure)?;

        for spec in vpcs.iter().chain(expected.iter().map(|eni| &eni.vpc)) {
            if found.contains(&spec.id) && netns::is_kept(&self.directory.join(&spec.id)) {
                self.vpc(spec)?;
            }
        }
        let mut kept: BTreeSet<String> = self.vpcs.lock().keys().cloned().collect();
        for spec in expected {
            match self.adopt(spec) {
                Ok(slot) => {
                    kept.extend([spec.id.clone(), slot]);
                    recovery.adopted.push(spec.id.clone());
                }
                Err(reason) => {
                    tracing::info!(eni = spec.id, reason, "a network interface did not survive");
                    recovery.lost.push(spec.id.clone());
                }
            }
        }
        self.restore_firewalls()?;
        found.retain(|name| !kept.contains(name));
        // Links of interfaces first: a namespace with a link to it is never without its keeper.
        found.sort_by_key(|name| !name.starts_with("eni-"));
        for name in &found {
            let path = self.directory.join(name);
            if name.starts_with("eni-") { remove_file(&path) } else { netns::release(&path) }
                .map_err(failure)?;
        }
        recovery.removed = found.iter().filter(|name| !name.starts_with("eni-")).count();
        self.remove_stale_routes(&recovery.adopted)?;
        Ok(recovery)
    }

    /// The name of the namespace of an interface that lives; otherwise why it does not.
    fn adopt(&self, spec: &EniSpec) -> Result<String, String> {
        let cell = self.vpcs.lock().get(&spec.vpc.id).cloned();
        let vpc = cell.and_then(|cell| cell.lock().clone()).ok_or("its VPC is gone")?;
        let target = std::fs::read_link(self.directory.join(&spec.id)).map_err(|error| error.to_string())?;
        let name = target.to_str().filter(|name| self.names.is_port(name) && !name.contains('/'));
        let name = name.ok_or("its namespace has no proper name")?;
        if !netns::is_kept(&self.directory.join(name)) {
            return Err("its namespace is gone".to_owned());
        }
        let slot = pool::adopt(&self.directory, name, &vpc).map_err(|error| error.to_string())?;
        // The route is there unless a crash came in between; nothing is cut by adding it again.
        let mut batch = Batch::new();
        route::add_route(&mut batch, vpc.host_route(spec.address), Existing::Refuse);
        match self.machine.lock().execute(&batch) {
            Ok(()) | Err(Refusal { errno: Errno::EXIST, .. }) => {}
            Err(refusal) => return Err(refusal.to_string()),
        }
        if slot.bridge.is_some() {
            let mut batch = Batch::new();
            route::isolate(&mut batch, slot.port);
            vpc.socket.lock().execute(&batch).map_err(|refusal| refusal.to_string())?;
        }
        let eni = Eni { spec: spec.clone(), vpc, slot };
        self.interfaces.lock().insert(spec.id.clone(), Arc::new(Mutex::new(Some(eni))));
        Ok(name.to_owned())
    }

    /// Has every VPC's firewall know the interfaces that were adopted into it.
    fn restore_firewalls(&self) -> Result<(), NetworkError> {
        let vpcs: Vec<_> = self.vpcs.lock().values().filter_map(|cell| cell.lock().clone()).collect();
        let interfaces: Vec<_> = self.interfaces.lock().values().cloned().collect();
        for vpc in vpcs {
            let members = interfaces.iter().filter_map(|cell| {
                let cell = cell.lock();
                let eni = cell.as_ref().filter(|eni| Arc::ptr_eq(&eni.vpc, &vpc))?;
                Some((eni.spec.subnet.clone(), guarded(&eni.spec, &eni.slot)))
            });
            let (subnets, members): (Vec<_>, Vec<_>) = members.unzip();
            let failure = |refusal| Failure::Netlink(refusal).of(format!("guard {}", vpc.spec.id));
            vpc.firewall.restore(members).map_err(failure)?;
            for subnet in subnets {
                vpc.bridge(&subnet)?;
            }
        }
        Ok(())
    }

    /// Removes the machine's routes to addresses that no adopted interface has, and links to VPCs
    /// that are gone.
    fn remove_stale_routes(&self, adopted: &[String]) -> Result<(), NetworkError> {
        let failure = |refusal| Failure::Netlink(refusal).of("remove routes of an earlier life".to_owned());
        let live: BTreeSet<(Ipv4Addr, u32)> = {
            let interfaces = self.interfaces.lock();
            let enis = adopted.iter().filter_map(|id| interfaces.get(id));
            enis.filter_map(|cell| cell.lock().as_ref().map(|eni| (eni.spec.address, eni.vpc.transit.index)))
                .collect()
        };
        let transits: BTreeSet<u32> = {
            let vpcs = self.vpcs.lock();
            vpcs.values().filter_map(|cell| cell.lock().as_ref().map(|vpc| vpc.transit.index)).collect()
        };
        let machine = self.machine.lock();
        let links = route::links(&machine).map_err(failure)?;
        let own: BTreeSet<u32> =
            links.iter().filter(|link| self.names.is_transit(&link.name)).map(|link| link.index).collect();
        let mut batch = Batch::new();
        for (to, index) in route::routes(&machine).map_err(failure)? {
            let ours = transits.contains(&index) && to.prefix() == 32;
            if ours && !live.contains(&(to.network(), index)) {
                route::delete_route_through(&mut batch, to, index);
            }
        }
        for &index in own.difference(&transits) {
            route::delete_link(&mut batch, index);
        }
        for fate in machine.execute_each(&batch).map_err(failure)? {
            // What is on its way out by itself is no error.
            match fate {
                Err(Refusal { errno: Errno::SRCH | Errno::NODEV, .. }) | Ok(()) => {}
                Err(refusal) => return Err(failure(refusal)),
            }
        }
        Ok(())
    }

    pub(super) fn teardown(&self) -> Result<(), NetworkError> {
        self.closed.store(true, Ordering::Release);
        let io_failure = |error| Failure::Io(error).of("remove the data plane".to_owned());
        let failure = |refusal| Failure::Netlink(refusal).of("remove the data plane".to_owned());
        self.maker.settle();
        let interfaces: Vec<_> = self.interfaces.lock().drain().collect();
        for (_, cell) in interfaces {
            drop(cell.lock().take());
        }
        let vpcs = std::mem::take(&mut *self.vpcs.lock());
        for cell in vpcs.into_values() {
            if let Some(vpc) = cell.lock().take() {
                drop(vpc.pool.lock().drain());
            }
        }
        {
            let machine = self.machine.lock();
            let mut batch = Batch::new();
            for link in route::links(&machine).map_err(failure)? {
                if self.names.is_transit(&link.name) {
                    route::delete_link(&mut batch, link.index);
                }
            }
            for fate in machine.execute_each(&batch).map_err(failure)? {
                match fate {
                    Err(Refusal { errno: Errno::NODEV, .. }) | Ok(()) => {}
                    Err(refusal) => return Err(failure(refusal)),
                }
            }
        }
        nftables::remove(&self.netfilter.lock(), Family::Inet, &self.names.table()).map_err(failure)?;
        for name in entries(&self.directory).map_err(io_failure)? {
            let path = self.directory.join(&name);
            if name.starts_with("eni-") { remove_file(&path) } else { netns::release(&path) }
                .map_err(io_failure)?;
        }
        match std::fs::remove_dir(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_failure(error)),
            _ => Ok(()),
        }
    }
}

/// The names in the directory; none when it is not there.
fn entries(directory: &Path) -> io::Result<Vec<String>> {
    match std::fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
