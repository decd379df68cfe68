//! Which addresses of each subnet are taken: by our records, and by others on this machine.
//!
//! Kept in memory, built from the records when a subnet is first used. A record is written for
//! every address that is given out, so that nothing is lost with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use parking_lot::Mutex;
use wharf_core::{ApiError, Rng};
use wharf_network::allocator::Allocator;

use crate::records::Subnet;
use crate::view::View;

#[derive(Default)]
pub struct Addresses(Mutex<BTreeMap<String, Taken>>);

struct Taken {
    allocator: Allocator,
    /// Found in use by somebody else. Tried again when nothing else is left.
    foreign: BTreeSet<Ipv4Addr>,
}

impl Addresses {
    /// # Errors
    /// EC2's `InsufficientFreeAddressesInSubnet`.
    pub fn allocate(&self, view: &View, subnet: &Subnet, rng: &dyn Rng) -> Result<Ipv4Addr, ApiError> {
        let mut subnets = self.0.lock();
        let taken = subnets.entry(subnet.id.clone()).or_insert_with(|| {
            // A random start: two Wharfs on one machine seldom want the same address.
            let mut allocator = Allocator::new(subnet.cidr, rng.next_u64());
            for interface in view.interfaces_in(subnet) {
                allocator.take(interface.address);
            }
            Taken { allocator, foreign: BTreeSet::new() }
        });
        let allocated = taken.allocator.allocate().or_else(|exhausted| {
            for address in std::mem::take(&mut taken.foreign) {
                taken.allocator.release(address);
            }
            taken.allocator.allocate().map_err(|_| exhausted)
        });
        allocated.map_err(|_| {
            let message = "The specified subnet does not have enough free addresses to satisfy the request.";
            ApiError::sender("InsufficientFreeAddressesInSubnet", message)
        })
    }

    /// Somebody else on this machine has the address: it stays taken, and the search goes on elsewhere.
    pub fn mark_foreign(&self, subnet_id: &str, address: Ipv4Addr, rng: &dyn Rng) {
        if let Some(taken) = self.0.lock().get_mut(subnet_id) {
            taken.foreign.insert(address);
            taken.allocator.search_from(rng.next_u64());
        }
    }

    pub fn release(&self, subnet_id: &str, address: Ipv4Addr) {
        if let Some(taken) = self.0.lock().get_mut(subnet_id) {
            taken.allocator.release(address);
        }
    }

    pub fn clear(&self) {
        self.0.lock().clear();
    }
}
