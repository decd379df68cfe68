//! Which address of a subnet comes next. Pure: it knows no store and no kernel.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::cidr::Ipv4Cidr;

/// The network's own address, the router, the resolver and one that is kept for later
/// (Amazon VPC User Guide, "Subnet CIDR blocks").
const RESERVED_FIRST: u64 = 4;
/// The broadcast address.
const RESERVED_LAST: u64 = 1;

/// How many addresses of a subnet can be given to interfaces.
pub fn usable(subnet: Ipv4Cidr) -> u64 {
    subnet.size().saturating_sub(RESERVED_FIRST + RESERVED_LAST)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no address of the subnet is free")]
pub struct Exhausted;

/// The addresses of one subnet. Hands out the next free one behind the last one given (next fit),
/// so that an address rests for as long as possible before it names another task.
#[derive(Clone, Debug)]
pub struct Allocator {
    subnet: Ipv4Cidr,
    taken: BTreeSet<u64>,
    next: u64,
}

impl Allocator {
    /// `start` is where the search begins, any number: a random one keeps two instances on one
    /// machine apart.
    pub fn new(subnet: Ipv4Cidr, start: u64) -> Self {
        let mut allocator = Self { subnet, taken: BTreeSet::new(), next: RESERVED_FIRST };
        allocator.search_from(start);
        allocator
    }

    /// Continues the search elsewhere: `start` is any number.
    pub fn search_from(&mut self, start: u64) {
        self.next = RESERVED_FIRST + start.checked_rem(usable(self.subnet)).unwrap_or(0);
    }

    pub fn subnet(&self) -> Ipv4Cidr {
        self.subnet
    }

    /// How many addresses are still free.
    pub fn available(&self) -> u64 {
        usable(self.subnet) - self.taken.len() as u64
    }

    /// Marks an address as taken. `false` when it is taken already, reserved, or elsewhere.
    pub fn take(&mut self, address: Ipv4Addr) -> bool {
        match self.offset(address) {
            Some(offset) => self.taken.insert(offset),
            None => false,
        }
    }

    /// Takes a free address.
    ///
    /// # Errors
    /// [`Exhausted`] when there is none.
    pub fn allocate(&mut self) -> Result<Ipv4Addr, Exhausted> {
        if self.available() == 0 {
            return Err(Exhausted);
        }
        let end = self.subnet.size() - RESERVED_LAST;
        let offset = first_gap(&self.taken, self.next, end)
            .or_else(|| first_gap(&self.taken, RESERVED_FIRST, self.next))
            .ok_or(Exhausted)?;
        self.taken.insert(offset);
        self.next = if offset + 1 < end { offset + 1 } else { RESERVED_FIRST };
        self.subnet.nth(offset).ok_or(Exhausted)
    }

    /// Gives an address back; giving back what is free changes nothing.
    pub fn release(&mut self, address: Ipv4Addr) {
        if let Some(offset) = self.subnet.offset_of(address) {
            self.taken.remove(&offset);
        }
    }

    fn offset(&self, address: Ipv4Addr) -> Option<u64> {
        let usable = RESERVED_FIRST..self.subnet.size() - RESERVED_LAST.min(self.subnet.size());
        self.subnet.offset_of(address).filter(|offset| usable.contains(offset))
    }
}

/// The first number in `from..to` that is not in the set.
fn first_gap(taken: &BTreeSet<u64>, from: u64, to: u64) -> Option<u64> {
    if from >= to {
        return None;
    }
    let mut candidate = from;
    for &offset in taken.range(from..to) {
        if offset != candidate {
            break;
        }
        candidate += 1;
    }
    (candidate < to).then_some(candidate)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_address_is_given_to_one_at_a_time(
            prefix in 24u8..=32, start: u64, steps in prop::collection::vec((any::<bool>(), any::<usize>()), 0..600)
        ) {
            let subnet = Ipv4Cidr::new(Ipv4Addr::new(10, 1, 2, 0), prefix).unwrap();
            let mut allocator = Allocator::new(subnet, start);
            let mut held: Vec<Ipv4Addr> = Vec::new();
            for (give_back, pick) in steps {
                if give_back && !held.is_empty() {
                    let address = held.swap_remove(pick % held.len());
                    allocator.release(address);
                } else {
                    match allocator.allocate() {
                        Ok(address) => {
                            let offset = subnet.offset_of(address).unwrap();
                            prop_assert!(offset >= 4 && offset < subnet.size() - 1);
                            prop_assert!(!held.contains(&address));
                            held.push(address);
                        }
                        Err(Exhausted) => prop_assert_eq!(held.len() as u64, usable(subnet)),
                    }
                }
                prop_assert_eq!(allocator.available(), usable(subnet) - held.len() as u64);
            }
        }
    }

    #[test]
    fn a_released_address_rests_until_the_others_were_used() {
        let mut allocator = Allocator::new("10.0.0.0/28".parse().unwrap(), 3);
        let first = allocator.allocate().unwrap();
        allocator.release(first);
        let others: HashSet<_> = (0..10).map(|_| allocator.allocate().unwrap()).collect();
        assert_eq!(others.len(), 10);
        assert!(!others.contains(&first));
        assert_eq!(allocator.allocate(), Ok(first));
        assert_eq!(allocator.allocate(), Err(Exhausted));
    }

    #[test]
    fn reserved_and_foreign_addresses_cannot_be_taken() {
        let mut allocator = Allocator::new("10.0.0.0/28".parse().unwrap(), 0);
        assert!(allocator.take(Ipv4Addr::new(10, 0, 0, 4)));
        for refused in [[10, 0, 0, 4], [10, 0, 0, 3], [10, 0, 0, 15], [10, 0, 1, 5]] {
            assert!(!allocator.take(Ipv4Addr::from(refused)), "{refused:?}");
        }
        assert_eq!(allocator.available(), 10);
        assert_eq!(Allocator::new("10.0.0.0/30".parse().unwrap(), 9).allocate(), Err(Exhausted));
    }
}
