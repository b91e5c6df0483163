//! Server RPC on one TCP port: what a connection is for, frames, and calls that share a connection.
//!
//! The first five bytes of a connection are [`MAGIC`] and a [`Purpose`]. Then both sides exchange frames, each a
//! little-endian `u32` length and that many bytes. Purposes have connections of their own, so that a snapshot or a
//! large append never delays a vote or a client's request.

mod frame;
mod message;
mod mux;
mod pool;

pub(crate) use frame::put_frame;
pub use frame::{MAX_FRAME, read_frame, write_frame};
pub use message::{Answer, Answered, Promise, Request};
pub(crate) use mux::open;
pub use mux::{Caller, Handler, serve};
pub use pool::Pool;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Opens every connection, so that somebody who speaks another protocol is told apart from a newer version.
pub const MAGIC: [u8; 4] = *b"ccr\x02";

/// Longest time a peer may take to say what its connection is for, and to finish a frame that it has begun.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Client requests and questions between servers: many calls at a time.
    Call = 1,
    /// Votes, pre-votes, leadership transfer: many calls at a time.
    Raft = 2,
    /// A leader's appends: requests and responses in order.
    Append = 3,
    /// One snapshot: a header, chunks, one response.
    Snapshot = 4,
    /// A client without a certificate asks for one: calls, of which few kinds are answered.
    Certify = 5,
}

impl TryFrom<u8> for Purpose {
    type Error = Error;

    fn try_from(byte: u8) -> Result<Self, Error> {
        match byte {
            1 => Ok(Purpose::Call),
            2 => Ok(Purpose::Raft),
            3 => Ok(Purpose::Append),
            4 => Ok(Purpose::Snapshot),
            5 => Ok(Purpose::Certify),
            other => Err(Error::Protocol(format!("unknown purpose {other}"))),
        }
    }
}

/// Why a call failed. What the other side refused arrives as its answer, not here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection could not be made: the request was not sent.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// What the connection said.
        source: io::Error,
    },
    /// The connection broke after the request may have been sent: its outcome is unknown.
    #[error("connection lost: {0}")]
    Lost(#[source] io::Error),
    /// No answer in time: the outcome is unknown.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// More calls wait for answers of this server than may. This one was not sent.
    #[error("too many calls to {0} are under way")]
    Busy(SocketAddr),
    /// The other side speaks another version of this protocol.
    #[error("protocol version {found}, this node speaks {own}: run the same version everywhere")]
    Version {
        /// Its version.
        found: u8,
        /// Ours.
        own: u8,
    },
    /// The other side speaks this protocol, but sent a message in another version's form.
    #[error("{0}: run the same version everywhere")]
    Foreign(String),
    /// The other side sent something that is not of this protocol.
    #[error("protocol violation: {0}")]
    Protocol(String),
}

impl Error {
    /// Whether the other side cannot have seen the request, so that sending it elsewhere cannot do it twice.
    pub fn never_sent(&self) -> bool {
        matches!(self, Error::Connect { .. } | Error::Busy(_))
    }

    /// Whether the other side is of another version, rather than a stranger.
    pub fn is_other_version(&self) -> bool {
        matches!(self, Error::Version { .. } | Error::Foreign(_))
    }
}
