//! Numbers that look random and follow from a seed, so that a run can be repeated. `SplitMix64`: small, and good enough for schedules.

use std::time::Duration;

/// A sequence of numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another sequence that follows from this one's seed and a number, such as that of a connection.
    #[must_use]
    pub fn branch(&self, number: u64) -> Self {
        let mut branch = Self(self.0 ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        branch.next_number();
        branch
    }

    /// The next number.
    pub fn next_number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_number() % end
    }

    /// A duration from 0 up to `end`.
    pub fn duration_below(&mut self, end: Duration) -> Duration {
        Duration::from_nanos(self.below(end.as_nanos().max(1) as u64))
    }
}
