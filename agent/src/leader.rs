//! Duties of the leader: peers and catalog follow gossip.

pub mod catalog;
mod duties;
pub mod peers;

pub use duties::Duties;
