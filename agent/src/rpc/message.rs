use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::acl::Granted;
use crate::acl::copies::Copying;
use crate::acl::login::{LoggedIn, Login};
use crate::archive::About;
use crate::ca::{Signed, Update};
use crate::config::Secret;
use crate::coordinate::Coordinate;
use crate::gossip::{KeyringOp, UserEvent};
use crate::leader::autopilot::ClusterHealth;
use crate::node::{Datacenter, Error, PeerRef, PoolKeys, RaftServer, ReadOptions, Reply};
use crate::rpc;
use crate::state::{Outcome, Query, Session};

/// Version of the messages below; in front of each, so that an old server can say that it does not understand.
const VERSION: u8 = 1;

/// A question to a server. Append only: the variant's number is its wire form.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// Propose an encoded command. Answered by the leader; a follower answers [`Error::NoLeader`].
    Propose(Bytes),
    /// Answer a query; a follower passes it on to the leader where the options ask for that.
    Read(Query, ReadOptions),
    /// Who leads, and who votes.
    Peers,
    /// The Raft configuration as this server has it; with `true` only if it leads.
    RaftConfiguration(bool),
    /// Remove a server from the Raft configuration.
    RemovePeer(PeerRef),
    /// Hand leadership over.
    TransferLeader(Option<Uuid>),
    /// Promise to take part in this cluster and no other (`-bootstrap-expect`).
    Promise(Promise),
    /// Take a promise back: the asker never formed that cluster and never will.
    Release(Promise),
    /// Does the initiator still hold to this promise, or has it formed that cluster?
    Confirm(Promise),
    /// Start a session's time anew. Answered by the leader, which measures it.
    RenewSession(Uuid),
    /// Does this server's disk have room for more log?
    HasRoom,
    /// How well are the servers? Answered by the leader.
    Health,
    /// Keep the state as it is now, encoded, until it is fetched.
    Save {
        /// Whether a server that does not lead may do so.
        stale: bool,
    },
    /// A piece of a state that was kept.
    SavedPiece {
        /// Which state.
        id: Uuid,
        /// Which piece, from 0. The last one ends it.
        number: u32,
    },
    /// Up to which index was everything acknowledged? Answered by the leader.
    ReadIndex {
        /// Whether a quorum must confirm that it leads, although its lease lasts.
        quorum: bool,
    },
    /// Where a node is. Answered by the leader, which writes it with others.
    Place(String, Box<Coordinate>),
    /// A request for a datacenter. The receiver finds whoever can answer it.
    In {
        /// Which.
        datacenter: String,
        /// Whether the receiver is of that datacenter; else it knows the way.
        forwarded: bool,
        /// What is asked there.
        request: Box<Request>,
    },
    /// Which datacenters are there, the nearest first?
    Datacenters,
    /// Tell every agent of an event; asked by another datacenter.
    Fire(UserEvent),
    /// Sign a request for a service's certificate (PKCS #10, DER). Answered by the leader.
    SignLeaf(Bytes),
    /// Change the certificate authority. Answered by the leader.
    SetCa(Box<Update>),
    /// A request in the name of whoever holds a token; one without is in nobody's.
    As {
        /// The token's secret; empty for the anonymous token.
        token: Secret,
        /// What is asked.
        request: Box<Request>,
    },
    /// What does the token with this secret allow?
    Grant(Secret),
    /// Do something with the keys of gossip everywhere, or look at them.
    Keyring {
        /// What.
        op: KeyringOp,
        /// Whether only in the datacenter of whoever is asked.
        own_only: bool,
    },
    /// Vouch for the authority of another datacenter by an intermediate certificate (PKCS #10, DER). Answered by the primary
    /// datacenter's leader, with [`Answer::Signed`].
    SignIntermediate(Bytes),
    /// Hand out a token for an identity. Answered by the leader.
    Login(Box<Login>),
    /// End the token in whose name this is asked. Answered by the leader.
    Logout,
    /// How does copying of policies, roles and tokens go? Answered by the leader, which copies.
    Copying,
}

/// What `-bootstrap-expect` asks of every server before one of them forms the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// Id of the cluster to be.
    pub cluster: Uuid,
    /// Node id of the server that will form it.
    pub initiator: Uuid,
    /// Number of servers that it expects.
    pub expect: u32,
}

/// An answer to a [`Request`]. Append only.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Request::Propose`].
    Applied(Outcome),
    /// To [`Request::Read`].
    Read(Box<Reply>),
    /// To [`Request::Peers`].
    Peers {
        /// Address of the leader, if one is known.
        leader: Option<SocketAddr>,
        /// Addresses of the voters.
        voters: Vec<SocketAddr>,
    },
    /// To [`Request::RaftConfiguration`].
    RaftConfiguration(Vec<RaftServer>, u64),
    /// Done, with nothing to say.
    Done,
    /// To [`Request::RenewSession`]: the session, if it lives.
    Session(Option<Arc<Session>>),
    /// To [`Request::Health`].
    Health(ClusterHealth),
    /// To [`Request::Save`].
    Saved {
        /// Its name until it is fetched.
        id: Uuid,
        /// What it is.
        about: About,
        /// How many pieces it has.
        pieces: u32,
    },
    /// To [`Request::SavedPiece`].
    Bytes(Bytes),
    /// To [`Request::ReadIndex`].
    ReadIndex(u64),
    /// To [`Request::Datacenters`].
    Datacenters(Vec<Datacenter>),
    /// To [`Request::SignLeaf`].
    Signed(Box<Signed>),
    /// To [`Request::Read`] too: something was left out that the asker may not see.
    Filtered(Box<Reply>),
    /// To [`Request::Grant`].
    Granted(Granted),
    /// To [`Request::Keyring`].
    Keyring(Vec<PoolKeys>),
    /// To [`Request::Login`].
    LoggedIn(Box<LoggedIn>),
    /// To [`Request::Copying`].
    Copying(Box<Copying>),
}

/// An answer, or why there is none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answered(pub Result<Answer, Error>);

impl Request {
    /// The method number of every request here: they are told apart by their own variants.
    pub const METHOD: u8 = 0;

    /// The wire form.
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// Reads the wire form.
    ///
    /// # Errors
    /// [`rpc::Error::Foreign`] for bytes of another version; else they are a request that only a later one knows, or none.
    pub fn decode(bytes: &[u8]) -> Result<Self, rpc::Error> {
        match bytes.first() {
            Some(&other) if other != VERSION => Err(rpc::Error::Foreign(format!(
                "a request in format version {other}, this node reads {VERSION}"
            ))),
            _ => decode(bytes).ok_or_else(|| {
                rpc::Error::Protocol("the request does not decode: another version?".to_owned())
            }),
        }
    }
}

impl Answered {
    /// The wire form.
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// Reads the wire form; `None` for bytes that are not of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        decode(bytes)
    }
}

fn encode<T: Serialize>(message: &T) -> Bytes {
    postcard::to_extend(message, vec![VERSION])
        .expect("messages hold nothing that cannot be encoded")
        .into()
}

fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Option<T> {
    match bytes.split_first()? {
        (&VERSION, body) => postcard::from_bytes(body).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Command, Stamped};

    #[test]
    fn no_call_makes_the_decoders_panic() {
        let command = Stamped {
            unix_ms: 5,
            command: Command::SetClusterId(Uuid::from_u128(1)),
        };
        let seeds = [
            Request::Propose(command.encode()).encode().to_vec(),
            Request::Read(Query::KvGet { key: "k".into() }, ReadOptions::default())
                .encode()
                .to_vec(),
            Request::RemovePeer(PeerRef::Id("x".into()))
                .encode()
                .to_vec(),
            Request::SetCa(Box::default()).encode().to_vec(),
            Request::Login(Box::default()).encode().to_vec(),
            Answered(Err(Error::NoLeader)).encode().to_vec(),
        ];
        crate::fuzz::run("rpc-call", &seeds, |bytes| {
            let request = match Request::decode(bytes) {
                Err(error) => error.to_string(),
                Ok(Request::Propose(command)) => match Stamped::decode(&command) {
                    Ok(stamped) => variant(&stamped.command),
                    Err(error) => error.to_string(),
                },
                Ok(other) => variant(&other),
            };
            let answer = Answered::decode(bytes).map(|Answered(result)| variant(&result));
            format!("{request}, {answer:?}")
        });
    }

    /// The name in front of what a value holds.
    fn variant(value: &impl std::fmt::Debug) -> String {
        let text = format!("{value:?}");
        let end = text.find(|c: char| !c.is_alphanumeric());
        text[..end.unwrap_or(text.len())].to_owned()
    }
}
