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
        // The product's high half: unbiased enough for jitter, and without a division.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
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
