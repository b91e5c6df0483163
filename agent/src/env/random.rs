use std::sync::atomic::{AtomicU64, Ordering};

use rand::{TryRng as _, rngs::SysRng};
use uuid::Uuid;

/// Random numbers for ids, jitter and the choice of gossip targets.
pub trait Random: Send + Sync {
    /// A uniformly distributed number.
    fn next_u64(&self) -> u64;

    /// A version 4 UUID made of this source's numbers.
    fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(
            ((u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())).to_be_bytes(),
        )
        .into_uuid()
    }

    /// A number in `0..bound`; 0 when `bound` is 0.
    fn below(&self, bound: u64) -> u64 {
        part(bound, self.next_u64())
    }
}

/// A number in `0..bound` that `random` chooses; 0 when `bound` is 0.
pub fn part(bound: u64, random: u64) -> u64 {
    // The product's high half: unbiased enough for jitter, and without a division.
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

/// The operating system's source.
pub struct OsRandom;

impl Random for OsRandom {
    fn next_u64(&self) -> u64 {
        SysRng
            .try_next_u64()
            .expect("the operating system always has random numbers after boot")
    }
}

/// The same numbers for the same seed, for simulations and tests. Not for anything secret.
pub struct SeededRandom(AtomicU64);

impl SeededRandom {
    /// The source that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Random for SeededRandom {
    // splitmix64: a few lines, and no crate whose next version draws other numbers.
    fn next_u64(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_the_numbers() {
        let random = SeededRandom::new(0);
        // The published first outputs of splitmix64.
        assert_eq!(random.next_u64(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(random.next_u64(), 0x6e78_9e6a_a1b9_65f4);
        assert!((0..100).all(|_| random.below(7) < 7));
    }
}
