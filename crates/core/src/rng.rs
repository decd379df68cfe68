//! Randomness, as an argument: ids and choices can be replayed from a seed.

use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

/// A source of random numbers that can be shared between threads.
pub trait Rng: Send + Sync {
    fn next_u64(&self) -> u64;

    /// `digits` random lower-case hexadecimal digits: the form of a task id (32) or an ENI id (17).
    fn hex(&self, digits: usize) -> String {
        let mut text = String::with_capacity(digits + 16);
        while text.len() < digits {
            text.push_str(&format!("{:016x}", self.next_u64()));
        }
        text.truncate(digits);
        text
    }

    /// A number in `0..bound`. The bias is below `bound / 2^64`.
    fn below(&self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

/// A generator whose sequence follows from its seed alone.
pub struct SeededRng(Mutex<ChaCha12Rng>);

impl SeededRng {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(ChaCha12Rng::seed_from_u64(seed)))
    }
}

impl Rng for SeededRng {
    fn next_u64(&self) -> u64 {
        self.0.lock().next_u64()
    }
}

/// A cryptographic generator seeded once from the operating system.
pub struct SystemRng(SeededRng);

impl SystemRng {
    /// # Panics
    /// When the operating system has no randomness to give: no id could be trusted after that.
    pub fn new() -> Self {
        let mut seed = [0; 32];
        rand::TryRng::try_fill_bytes(&mut rand::rngs::SysRng, &mut seed)
            .expect("the operating system gives random bytes");
        Self(SeededRng(Mutex::new(ChaCha12Rng::from_seed(seed))))
    }
}

impl Default for SystemRng {
    fn default() -> Self {
        Self::new()
    }
}

impl Rng for SystemRng {
    fn next_u64(&self) -> u64 {
        self.0.next_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_the_same_ids() {
        assert_eq!(SeededRng::new(7).hex(32), SeededRng::new(7).hex(32));
        assert_ne!(SeededRng::new(7).hex(32), SeededRng::new(8).hex(32));
        assert_eq!(SystemRng::new().hex(17).len(), 17);
    }

    #[test]
    fn below_stays_below() {
        let rng = SeededRng::new(1);
        assert!((0..1000).all(|_| rng.below(3) < 3));
    }
}
