//! Why a server may not be stopped now, as data that carries the counts.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use super::view::View;
use super::{MAX_SERVERS_DOWN, Seat};

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It leaves the Raft configuration first.
    Leave,
    /// It stays in the Raft configuration, and is missing until it is back.
    Stop,
}

/// Why a server may not be stopped now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Unsafe {
    /// There is no leader that could replace it.
    NoLeader {
        /// Server that would be stopped.
        server: String,
    },
    /// Another voter cannot be counted on: one at a time.
    OtherDown {
        /// Server that would be stopped.
        server: String,
        /// Voter that is not a caught-up one.
        other: String,
    },
    /// The others would not be a quorum.
    QuorumAtRisk {
        /// Server that would be stopped.
        server: String,
        /// Voters that the remaining ones have to outvote.
        voters: usize,
        /// Caught-up voters that remain.
        caught_up: usize,
        /// Caught-up voters that are needed.
        needed: usize,
    },
    /// Another server has not been running for long enough.
    TooSoon {
        /// Server that would be stopped.
        server: String,
        /// Server that started lately.
        other: String,
        /// Seconds that it has been running.
        uptime_seconds: u64,
        /// Seconds that it should have been.
        needed_seconds: u64,
    },
}

impl Display for Unsafe {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Unsafe::NoLeader { server } => {
                write!(f, "{server} is not stopped while there is no leader")
            }
            Unsafe::OtherDown { server, other } => {
                write!(
                    f,
                    "{server} is not stopped before {other} is a caught-up voter again"
                )
            }
            Unsafe::QuorumAtRisk {
                server,
                voters,
                caught_up,
                needed,
            } => write!(
                f,
                "{server} is not stopped: {caught_up} caught-up voters would remain, {needed} of {voters} are needed"
            ),
            Unsafe::TooSoon {
                server,
                other,
                uptime_seconds,
                needed_seconds,
            } => write!(
                f,
                "{server} is not stopped before {other} has been running for {needed_seconds} s, now {uptime_seconds} s"
            ),
        }
    }
}

/// Rule 4: one server at a time, and only while the others keep a quorum of caught-up voters.
///
/// A server that does not vote may always be stopped. So may the only server of a cluster of one, which nobody could
/// stand in for: it comes back with its own log.
///
/// # Errors
/// Why not, with the counts.
pub fn may_stop(view: &View<'_>, seat: &Seat, how: How) -> Result<(), Unsafe> {
    let server = seat.name.clone();
    if view.leader.is_none() {
        return Err(Unsafe::NoLeader { server });
    }
    if !view.votes(seat) {
        return Ok(());
    }
    let voters = view.voters();
    if voters == 1 && view.desired.servers == 1 && how == How::Stop {
        return Ok(());
    }
    // Counted from the configuration, not from the seats: a voter that is not ours counts too, as not caught up.
    let caught_up = view
        .seats()
        .iter()
        .filter(|other| *other != seat && view.caught_up(other))
        .count();
    // This one is the one server that may be down, so no other may be.
    let down = voters - 1 - caught_up.min(voters - 1);
    if down + 1 > MAX_SERVERS_DOWN {
        let missing = view
            .seats()
            .iter()
            .find(|other| *other != seat && view.votes(other) && !view.caught_up(other));
        if let Some(other) = missing {
            return Err(Unsafe::OtherDown {
                server,
                other: other.name.clone(),
            });
        }
    }
    let outvote = match how {
        How::Leave => voters - 1,
        How::Stop => voters,
    };
    let needed = outvote / 2 + 1;
    if caught_up < needed {
        return Err(Unsafe::QuorumAtRisk {
            server,
            voters: outvote,
            caught_up,
            needed,
        });
    }
    Ok(())
}

/// Whether every other server has been running for `min_ready`, so that one bad configuration stops at one server.
///
/// # Errors
/// The server that started too lately.
pub fn settled(view: &View<'_>, seat: &Seat) -> Result<(), Unsafe> {
    for other in view.desired.wanted().iter().filter(|other| *other != seat) {
        let Some(running) = view.server(other).running() else {
            continue;
        };
        if running.uptime() < view.desired.min_ready {
            return Err(Unsafe::TooSoon {
                server: seat.name.clone(),
                other: other.name.clone(),
                uptime_seconds: running.uptime().as_secs(),
                needed_seconds: view.desired.min_ready.as_secs(),
            });
        }
    }
    Ok(())
}
