//! How long to wait after a failure. Pure: attempts and randomness in, a duration out.

use std::time::Duration;

use wharf_core::Rng;

/// Exponential, capped, with jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The most that is waited after the first failure.
    pub first: Duration,
    /// The most that is ever waited.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), cap: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The wait after `failures` failures in a row (1 for the first): between half of the doubled
    /// time and all of it, so that keys which failed together do not come back together.
    pub fn delay(&self, failures: u32, rng: &dyn Rng) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let whole = self.first.saturating_mul(1 << doublings).min(self.cap);
        let half = whole / 2;
        let jitter = rng.below(u64::try_from(half.as_micros()).unwrap_or(u64::MAX).saturating_add(1));
        half + Duration::from_micros(jitter)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wharf_core::SeededRng;

    use super::*;

    proptest! {
        #[test]
        fn a_delay_lies_between_half_and_all_of_the_capped_power(failures in 0_u32..1000, seed: u64) {
            let backoff = Backoff::default();
            let delay = backoff.delay(failures, &SeededRng::new(seed));
            let whole = (0..failures.saturating_sub(1)).fold(backoff.first, |d, _| (d * 2).min(backoff.cap));
            prop_assert!(delay >= whole / 2 && delay <= whole, "{delay:?} of {whole:?}");
        }
    }
}
