//! Membership by gossip: SWIM (foca) over UDP, and a TCP path for joining and full-state exchange.
//!
//! This module knows members and their tags, nothing of Raft or of the catalog.

//!
//! - SWIM (foca) tells who is alive; its identity is small: node id, name, address, generation.
//! - What a member says of itself (tags) and of its staying (leaving, left) travels beside it: in the same datagrams
//!   while it fits, and in the TCP exchange that a join, a check of a suspect and a periodic repair are made of.
//! - One task owns all of it; [`Gossip`] is the handle.
//!
//! Decisions that cost something:
//!
//! - A generation is made durable before it is used, so a start needs a writable disk. In return a node is never
//!   refused for what it was in an earlier life.
//! - A death found by somebody else is looked into before it is believed. In pools too large to probe everybody
//!   within seconds a death without a refused connection is known everywhere some probe intervals later; in return
//!   one member that comes back from behind a partition cannot make all others fail for a moment.
//! - A machine that says twice that nobody listens on the port ends a suspicion early: a killed process is failed
//!   after about four probe intervals instead of six to eight.
//! - Whoever said that it is leaving and then dies has left, not failed, as in Serf.
//! - The periodic repair compares sixteen bytes before anybody tells all that it knows. In return there is one exchange
//!   more where something differs.
//! - A name is shown once: a dead holder is forgotten as soon as a living member of another node id has its name.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::timeout;
use uuid::Uuid;

use crate::coordinate::Coordinate;
use crate::env::Env;

mod codec;
mod driver;
mod events;
mod identity;
mod keyring;
mod ledger;
mod probes;
mod sealed;
mod settings;
mod shared;
mod snapshot;
mod start;
mod swim;
mod sync;
mod tags;
mod user;
mod window;

use codec::FrameKind;
use driver::Command;
use shared::Shared;
use snapshot::Remembered;

pub use keyring::{GossipKey, KeyError, KeyText, KeyringOp};
pub use sealed::Encryption;
pub use settings::Settings;
pub use start::start;
pub use tags::Tags;
pub use user::UserEvent;

/// Longest that a remembered member may take to answer at start.
const REJOIN_LIMIT: Duration = Duration::from_secs(3);
/// Remembered members that are contacted at once.
const REJOIN_PARALLEL: usize = 16;
/// Most addresses of one name that are contacted.
const ADDRESSES_MAX: usize = 64;

/// What gossip knows of one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Node name, unique in the pool without regard to case.
    pub name: String,
    /// The Consul node id, which survives restarts.
    pub id: Uuid,
    /// Where its gossip listens (UDP and TCP).
    pub addr: SocketAddr,
    /// Grows with every start of the same node; a higher one replaces a lower one.
    pub generation: u64,
    /// Whether it takes part.
    pub status: Status,
    /// What it says of itself.
    pub tags: Tags,
}

/// Whether a member takes part. The numbers are those of Consul's member JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Status {
    /// Answers, or was heard of lately.
    Alive = 1,
    /// Said that it is about to leave.
    Leaving = 2,
    /// Left gracefully.
    Left = 3,
    /// Stopped answering without a word.
    Failed = 4,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Alive => "alive",
            Status::Leaving => "leaving",
            Status::Left => "left",
            Status::Failed => "failed",
        })
    }
}

/// A change of one member, in the order in which this node learnt it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// New, or returned after it had left or failed.
    Joined(Arc<Member>),
    /// Announced that it is leaving.
    Leaving(Arc<Member>),
    /// Left gracefully.
    Left(Arc<Member>),
    /// Declared dead by the pool.
    Failed(Arc<Member>),
    /// Tags or address changed.
    Updated(Arc<Member>),
    /// Forgotten, after `reconnect_timeout` or by `force-leave -prune`.
    Reaped(Arc<Member>),
}

/// Why gossip could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings contradict themselves or cannot be carried.
    #[error("{0}")]
    Settings(&'static str),
    /// The port is taken, or the address is not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// What was to be bound.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The snapshot file could not be read or written; without it, an old generation might be used again.
    #[error("gossip snapshot {}: {source}", path.display())]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The keys.
    #[error("{0}")]
    Keyring(String),
}

/// No member has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no node found with name '{0}'")]
pub struct NotFound(pub String);

/// Why one address could not be joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The name has no address.
    #[error("cannot resolve {address}: {source}")]
    Resolve {
        /// As given.
        address: String,
        /// What the resolver said.
        source: std::io::Error,
    },
    /// Nobody listens there, or not in time.
    #[error("dial tcp {address}: {source}")]
    Connect {
        /// The resolved address.
        address: SocketAddr,
        /// What the connection said.
        source: std::io::Error,
    },
    /// Somebody listens there who does not speak this protocol.
    #[error("{address} does not speak the gossip protocol: {reason}")]
    Protocol {
        /// The resolved address.
        address: SocketAddr,
        /// What was wrong.
        reason: String,
    },
    /// This agent is in no such pool.
    #[error("{0}")]
    NoPool(&'static str),
    /// The other side, or this one, refused: another datacenter, a name in use.
    #[error("{address} refused the join: {reason}")]
    Refused {
        /// The resolved address.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
}

impl Event {
    /// The member as it is after the change; the last that was known of it when it was forgotten.
    pub fn member(&self) -> &Arc<Member> {
        match self {
            Event::Joined(member)
            | Event::Leaving(member)
            | Event::Left(member)
            | Event::Failed(member)
            | Event::Updated(member)
            | Event::Reaped(member) => member,
        }
    }

    /// In Serf's words, which people and scripts look for.
    fn log(&self) {
        let (name, ip) = (&self.member().name, self.member().addr.ip());
        match self {
            Event::Joined(_) => tracing::info!(target: "serf", "EventMemberJoin: {name} {ip}"),
            Event::Leaving(_) => tracing::debug!(target: "serf", "member is leaving: {name} {ip}"),
            Event::Left(_) => tracing::info!(target: "serf", "EventMemberLeave: {name} {ip}"),
            Event::Failed(_) => tracing::info!(target: "serf", "EventMemberFailed: {name} {ip}"),
            Event::Updated(_) => tracing::info!(target: "serf", "EventMemberUpdate: {name} {ip}"),
            Event::Reaped(_) => tracing::info!(target: "serf", "EventMemberReap: {name} {ip}"),
        }
    }
}

/// A running pool member. Cloning is cheap; it stops when the last handle is dropped.
#[derive(Clone)]
pub struct Gossip {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    env: Env,
    settings: Arc<Settings>,
    /// Whether the members remembered from the last run are to be contacted.
    may_rejoin: bool,
}

impl Gossip {
    /// All members that are known, this node included, by name.
    pub fn members(&self) -> Vec<Arc<Member>> {
        self.shared.members.load().as_ref().clone()
    }

    /// This node.
    pub fn local(&self) -> Arc<Member> {
        self.shared.local.load_full()
    }

    /// A counter that grows with each change of [`Gossip::members`].
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Changes from now on. A reader that falls behind by a thousand loses some, and reads the members anew.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// Where this node is, by the times of its probes.
    pub fn coordinate(&self) -> Coordinate {
        **self.shared.coordinate.load()
    }

    /// Where other members are, as far as they have answered a probe of this node; nobody unless the settings say so.
    pub fn places(&self) -> Arc<BTreeMap<Uuid, Coordinate>> {
        self.shared.places.load_full()
    }

    /// User events from now on, those of this node included, in the order in which this node hears of them.
    pub fn user_events(&self) -> broadcast::Receiver<Arc<UserEvent>> {
        self.shared.user_events.subscribe()
    }

    /// Tells everybody of a user event. Its Lamport time is set on the way. Returns when it is on its way; nobody says that
    /// it has arrived.
    pub async fn fire(&self, event: UserEvent) {
        self.ask(|reply| Command::Fire { event, reply }).await;
    }

    /// Joins the pool of whoever listens at `address`: a host or an IP address, with or without a port. Returns how
    /// many of its addresses answered. Joining oneself succeeds.
    ///
    /// # Errors
    /// When no address answered: why the last one did not. Members may have been learnt of all the same.
    pub async fn join(&self, address: &str, default_port: u16) -> Result<usize, JoinError> {
        let resolve = |source| JoinError::Resolve {
            address: address.to_owned(),
            source,
        };
        let (host, port) = sync::parse_address(address, default_port).map_err(resolve)?;
        let mut addresses = self.env.net.resolve(&host, port).await.map_err(resolve)?;
        addresses.sort();
        addresses.dedup();
        addresses.truncate(ADDRESSES_MAX);
        let contacts = addresses.iter().map(|addr| self.contact(*addr, None));
        let mut contacted = 0;
        let mut failure = None;
        for result in futures::future::join_all(contacts).await {
            match result {
                Ok(()) => contacted += 1,
                Err(e) => failure = Some(e),
            }
        }
        match failure {
            Some(e) if contacted == 0 => Err(e),
            None if contacted == 0 => Err(resolve(io::Error::new(
                io::ErrorKind::NotFound,
                "no addresses",
            ))),
            _ => Ok(contacted),
        }
    }

    /// Contacts the members that were alive when this node last ran; how many answered. After a graceful leave
    /// nobody, unless `rejoin_after_leave` is set.
    pub async fn rejoin(&self) -> usize {
        if !self.may_rejoin {
            return 0;
        }
        let remembered: Vec<(Uuid, Remembered)> = self
            .ask(|reply| Command::Remembered { reply })
            .await
            .unwrap_or_default();
        futures::stream::iter(remembered)
            .map(|(id, member)| async move {
                match timeout(REJOIN_LIMIT, self.contact(member.addr, Some(id))).await {
                    Ok(Ok(())) => return true,
                    Ok(Err(e)) => {
                        tracing::debug!(target: "serf", "cannot rejoin: member={} error={e}", member.name);
                    }
                    Err(_) => {
                        tracing::debug!(target: "serf", "cannot rejoin in time: member={}", member.name);
                    }
                }
                false
            })
            .buffer_unordered(REJOIN_PARALLEL)
            .filter(|contacted| std::future::ready(*contacted))
            .count()
            .await
    }

    /// Replaces what this node says of itself, and tells everybody at once.
    pub async fn set_tags(&self, tags: Tags) {
        if !codec::tags_fit(&tags) {
            tracing::error!(target: "serf", "the tags are too large and stay as they were");
            return;
        }
        self.ask(|reply| Command::SetTags { tags, reply }).await;
    }

    /// Tells everybody that this node is about to leave. Returns when some know it, or after a moment.
    pub async fn announce_leaving(&self) {
        self.ask(|reply| Command::AnnounceLeaving { reply }).await;
    }

    /// Leaves: tells everybody that this node has left, and takes no part any more. Returns when some know it, or
    /// after a second at most. [`Gossip::shutdown`] frees the port.
    pub async fn leave(&self) {
        self.ask(|reply| Command::Leave { reply }).await;
    }

    /// Turns a failed member into one that left, everywhere; with `prune` everybody forgets it. A member that is
    /// alive stays as it is.
    ///
    /// # Errors
    /// When no member has that name, compared without regard to case.
    pub async fn force_leave(&self, name: &str, prune: bool) -> Result<(), NotFound> {
        let found = self
            .ask(|reply| Command::ForceLeave {
                name: name.to_owned(),
                prune,
                reply,
            })
            .await;
        match found {
            Some(true) => Ok(()),
            _ => Err(NotFound(name.to_owned())),
        }
    }

    /// Stops without a word, as if the process had died; the port is free afterwards.
    pub async fn shutdown(&self) {
        self.ask(|reply| Command::Shutdown { reply }).await;
    }

    /// The block `serf_lan` of `info`.
    pub fn stats(&self) -> BTreeMap<String, String> {
        let members = self.shared.members.load();
        let with = |status| {
            members
                .iter()
                .filter(|member| member.status == status)
                .count() as u64
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let sealer = self.shared.sealer.as_deref();
        let unopened = sealer.map_or(0, |sealer| read(&sealer.unopened));
        let replayed = sealer.map_or(0, |sealer| read(&sealer.replayed));
        [
            ("members", members.len() as u64),
            ("failed", with(Status::Failed)),
            ("left", with(Status::Left)),
            ("health_score", read(&self.shared.health_score)),
            ("member_time", *self.shared.changes.borrow()),
            ("intent_queue", read(&self.shared.intent_queue)),
            ("datagrams_dropped", read(&self.shared.datagrams_dropped)),
            ("streams_dropped", read(&self.shared.streams_dropped)),
            ("event_time", read(&self.shared.event_time)),
            // Queries are not part of this pool; these are their values at rest.
            ("event_queue", 0),
            ("datagrams_unopened", unopened),
            ("datagrams_replayed", replayed),
            ("query_time", 1),
            ("query_queue", 0),
            ("coordinate_resets", read(&self.shared.coordinate_resets)),
        ]
        .into_iter()
        .map(|(name, number)| (name.to_owned(), number.to_string()))
        .chain([(
            "encrypted".to_owned(),
            self.shared.sealer.is_some().to_string(),
        )])
        .collect()
    }

    /// Exchanges all states with whoever listens at `address`, who must be the node `to` if given.
    async fn contact(&self, address: SocketAddr, to: Option<Uuid>) -> Result<(), JoinError> {
        let stopped = || JoinError::Connect {
            address,
            source: io::Error::new(io::ErrorKind::NotConnected, "gossip is shut down here"),
        };
        let kind = FrameKind::Join;
        let request = self
            .ask(|reply| Command::Request { kind, to, reply })
            .await
            .ok_or_else(stopped)?;
        let answer = sync::exchange(&self.env, &self.shared, address, kind, &request).await?;
        self.ask(|reply| Command::Joined { answer, reply })
            .await
            .ok_or_else(stopped)?
            .map_err(|reason| JoinError::Refused { address, reason })
    }

    /// Has the driver do something; `None` when it has stopped.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Whether it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.shared.sealer.is_some()
    }

    /// What was dropped since the start because no key opened it, and because it was taken before.
    pub fn dropped_by_keys(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let sealer = self.shared.sealer.as_deref();
        sealer.map_or((0, 0), |sealer| {
            (read(&sealer.unopened), read(&sealer.replayed))
        })
    }

    /// Does something with the keys of this node, or looks at them: all keys in base64, the primary first.
    ///
    /// # Errors
    /// Why it may not be, in Consul's words.
    pub fn change_keys(&self, op: &KeyringOp) -> Result<Vec<String>, String> {
        self.shared.change_keys(op)
    }

    /// The same with those of a member.
    ///
    /// # Errors
    /// Also when the member is not reached.
    pub async fn change_keys_of(
        &self,
        member: &Member,
        op: &KeyringOp,
    ) -> Result<Vec<String>, String> {
        if member.id == self.settings.id {
            return self.change_keys(op);
        }
        let asked = sync::ask_keys(&self.env, &self.shared, member.addr, op).await;
        asked.map_err(|error| error.to_string())?
    }

    /// The settings that it runs with, with the port that was bound where any was asked for.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

#[cfg(test)]
mod tests;
