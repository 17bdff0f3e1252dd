//! Random histories for simulations: which, and what they leave to chance.

use std::ops::Range;

/// The seeds of a simulation: the first `count`, or what `CAUSEWAY_SEED` says: one (`4711`), or a range (`1000..2000`).
pub(crate) fn seeds(count: u64) -> Range<u64> {
    let Ok(chosen) = std::env::var("CAUSEWAY_SEED") else {
        return 0..count;
    };
    let number = |text: &str| {
        text.parse::<u64>()
            .expect("CAUSEWAY_SEED is a number or a range a..b")
    };
    match chosen.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&chosen)..number(&chosen) + 1,
    }
}

/// Small numbers from a seed (SplitMix64, Steele et al. 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number from 0 on, below this one.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    /// Yes, so often in a hundred times.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
