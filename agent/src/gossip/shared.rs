//! What the driver shows to readers, and what streams and sockets count.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, watch};
use uuid::Uuid;

use super::keyring::KeyringOp;
use super::sealed::{self, Sealer};
use super::{Event, Member, UserEvent, codec, events};
use crate::coordinate::Coordinate;
use crate::log::Told;

/// What the driver shows to readers, who never wait for it.
pub(crate) struct Shared {
    pub(super) members: ArcSwap<Vec<Arc<Member>>>,
    pub(super) local: ArcSwap<Member>,
    pub(super) changes: watch::Sender<u64>,
    pub(super) events: broadcast::Sender<Event>,
    pub(super) user_events: broadcast::Sender<Arc<UserEvent>>,
    pub(super) event_time: AtomicU64,
    pub(super) coordinate: ArcSwap<Coordinate>,
    pub(super) coordinate_resets: AtomicU64,
    /// Where the others are, where that is kept.
    pub(super) places: ArcSwap<BTreeMap<Uuid, Coordinate>>,
    pub(super) health_score: AtomicU64,
    pub(super) intent_queue: AtomicU64,
    pub(super) datagrams_dropped: AtomicU64,
    pub(super) streams_dropped: AtomicU64,
    /// What was said of those who speak another version.
    pub(super) told: Told,
    /// The keys, where the pool is encrypted.
    pub(super) sealer: Option<Arc<Sealer>>,
}

impl Shared {
    pub(super) fn new(local: Member, events: usize, sealer: Option<Arc<Sealer>>) -> Self {
        let local = Arc::new(local);
        Self {
            members: ArcSwap::from_pointee(vec![Arc::clone(&local)]),
            local: ArcSwap::new(local),
            changes: watch::Sender::new(0),
            events: broadcast::Sender::new(events),
            user_events: broadcast::Sender::new(events),
            event_time: AtomicU64::new(0),
            coordinate: ArcSwap::default(),
            coordinate_resets: AtomicU64::new(0),
            places: ArcSwap::default(),
            health_score: AtomicU64::new(0),
            intent_queue: AtomicU64::new(0),
            datagrams_dropped: AtomicU64::new(0),
            streams_dropped: AtomicU64::new(0),
            told: Told::default(),
            sealer,
        }
    }

    /// Says, once, that somebody speaks another version of the gossip protocol: it can never become a member.
    pub(super) fn note_version(&self, from: SocketAddr, error: &codec::DecodeError) {
        if matches!(error, codec::DecodeError::Sealed) {
            if self.told.is_news(from.ip(), &error.to_string()) {
                tracing::error!(target: "serf", "dropped what {from} sent: {error}");
            }
            return;
        }
        if matches!(error, codec::DecodeError::Version(_))
            && self.told.is_news(from.ip(), &error.to_string())
        {
            tracing::error!(
                target: "serf",
                "dropped what {from} sent: {error}: run the same version everywhere"
            );
        }
    }

    pub(super) fn change_keys(&self, op: &KeyringOp) -> Result<Vec<String>, String> {
        let Some(sealer) = &self.sealer else {
            return Err(match op {
                KeyringOp::List => "Keyring is empty (encryption not enabled)",
                _ => "No keyring to modify (encryption not enabled)",
            }
            .to_owned());
        };
        sealer.change(op)?;
        Ok(sealer.keys())
    }

    /// Says, once an address, that what came from there was not opened.
    pub(super) fn note_unopened(&self, from: SocketAddr, error: sealed::OpenError) {
        if error != sealed::OpenError::Replayed && self.told.is_news(from.ip(), &error.to_string())
        {
            tracing::error!(target: "serf", "dropped what {from} sent: {error}");
        }
    }

    /// Shows the members as they are after what happened, then tells.
    pub(super) fn publish(&self, local: Option<Arc<Member>>, happened: Vec<Event>) {
        let mut members = Vec::clone(&self.members.load());
        for event in &happened {
            events::apply(event, &mut members);
        }
        self.members.store(Arc::new(members));
        if let Some(local) = local {
            self.local.store(local);
        }
        for event in happened {
            event.log();
            // Nobody may be listening.
            let _ = self.events.send(event);
        }
        self.changes.send_modify(|count| *count += 1);
    }

    pub(super) fn publish_user_events(&self, events: Vec<Arc<UserEvent>>, clock: u64) {
        self.event_time.store(clock, Ordering::Relaxed);
        for event in events {
            // Nobody may be listening.
            let _ = self.user_events.send(event);
        }
    }
}
