//! Duties of the leader: peers and catalog follow gossip, and what has a time ends when it is over.

mod acl;
pub mod autopilot;
pub mod catalog;
mod duties;
pub mod peers;
mod places;
mod session_timers;
mod timings;
mod upkeep;

pub use acl::{AclDuty, KNOWS_ACL};
pub use catalog::own_row;
pub(crate) use duties::knows;
pub use duties::{Duties, KNOWS_INTERMEDIATE, KNOWS_MESH};
pub use places::PendingPlaces;
pub use session_timers::SessionTimers;
pub use timings::Timings;
