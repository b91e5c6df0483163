//! Leaving, making others leave, and what is remembered for the next start.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::super::codec::{FrameKind, Item};
use super::super::events::takes_part;
use super::super::identity::Identity;
use super::super::ledger::Intent;
use super::super::snapshot::Snapshot;
use super::super::swim::Due;
use super::super::sync;
use super::{Command, Driver, Phase, SNAPSHOT_DELAY, log_failure};

/// Members that are told over TCP, with a receipt, of what must not be lost.
const TOLD: usize = 3;
/// Longest to wait for receipts of the announcement.
const ANNOUNCE_LIMIT: Duration = Duration::from_millis(300);
/// Longest to wait for receipts of the leave itself.
const LEAVE_LIMIT: Duration = Duration::from_millis(800);
/// How long to wait for more receipts after the first: one who knows it is enough to tell the rest.
const MORE_RECEIPTS: Duration = Duration::from_millis(150);

impl Driver {
    pub(super) fn announce_leaving(&mut self, reply: oneshot::Sender<()>) {
        if self.phase >= Phase::Leaving {
            let _ = reply.send(());
            return;
        }
        self.phase = Phase::Leaving;
        self.say(Intent::Leaving);
        self.gossip();
        let told = self.tell(ANNOUNCE_LIMIT);
        self.tasks.spawn(async move {
            told.await;
            let _ = reply.send(());
        });
    }

    /// First says that this node has left, and only then lets SWIM declare it dead: in the other order members far
    /// away could take it for failed until the word arrives.
    pub(super) fn leave(&mut self, reply: oneshot::Sender<()>) {
        if self.phase >= Phase::Departing {
            let _ = reply.send(());
            return;
        }
        self.phase = Phase::Departing;
        self.say(Intent::Left);
        self.gossip();
        let told = self.tell(LEAVE_LIMIT);
        let requests = self.requests_in.clone();
        self.tasks.spawn(async move {
            told.await;
            let _ = requests.send(Command::Depart { reply }).await;
        });
    }

    pub(super) fn depart(&mut self, reply: oneshot::Sender<()>) {
        log_failure("leave", self.swim.leave_cluster(&mut self.outbox));
        // Once more, for what may be lost; whoever misses both finds out by probing, and knows that it left.
        self.gossip();
        self.phase = Phase::Left;
        self.snapshots += 1;
        let (number, snapshot) = (self.snapshots, self.snapshot());
        let writer = self.writer.clone();
        self.tasks.spawn(async move {
            if let Err(e) = writer.write(number, &snapshot).await {
                tracing::error!(target: "serf", "cannot write the gossip snapshot: error={e}");
            }
            let _ = reply.send(());
        });
    }

    /// Sends the own entry to a few members over TCP. The future ends when they have it, or when that takes long.
    fn tell(&mut self, limit: Duration) -> impl Future<Output = ()> + Send + 'static {
        let mut others: Vec<Identity> = self.others_up().cloned().collect();
        let mut chosen = Vec::new();
        while chosen.len() < TOLD
            && let Some(index) = self.pick(others.len())
        {
            chosen.push(others.swap_remove(index));
        }
        let mut receipts: FuturesUnordered<_> = chosen
            .into_iter()
            .map(|member| {
                let (env, shared) = (self.env.clone(), std::sync::Arc::clone(&self.shared));
                let request = self.request(FrameKind::Push, Some(member.id));
                async move {
                    let kind = FrameKind::Push;
                    sync::exchange(&env, &shared, member.addr, kind, &request).await
                }
            })
            .collect();
        async move {
            let mut deadline = Instant::now() + limit;
            while let Ok(Some(receipt)) = timeout_at(deadline, receipts.next()).await {
                match receipt {
                    Ok(_) => deadline = deadline.min(Instant::now() + MORE_RECEIPTS),
                    Err(e) => tracing::debug!(target: "serf", "cannot tell a member: error={e}"),
                }
            }
        }
    }

    /// Declares about somebody else that it has left, or shall be forgotten. A living member is not touched by it
    /// here, and contradicts where it is taken for dead.
    pub(super) fn force_leave(&mut self, name: &str, prune: bool) -> bool {
        let Some(member) = self.view.by_name(name) else {
            return false;
        };
        if member.id == self.settings.id || takes_part(member.status) {
            return true;
        }
        let intent = if prune {
            Intent::Forgotten
        } else {
            Intent::Forced
        };
        let (id, generation) = (member.id, member.generation);
        if self.ledger.lock().learn_intent(id, generation, intent) {
            self.pass_on(Item::Intent(id, generation, intent));
            self.gossip();
        }
        true
    }

    /// Plans to write the snapshot.
    pub(super) fn remember_soon(&mut self) {
        if !self.snapshot_due && self.phase != Phase::Left {
            self.snapshot_due = true;
            self.set_timer(SNAPSHOT_DELAY, Due::Snapshot);
        }
    }

    pub(super) fn write_snapshot(&mut self) {
        if !self.snapshot_due || self.phase == Phase::Left {
            return;
        }
        self.snapshot_due = false;
        self.snapshots += 1;
        let (number, snapshot) = (self.snapshots, self.snapshot());
        let (writer, requests) = (self.writer.clone(), self.requests_in.clone());
        self.tasks.spawn(async move {
            let result = writer.write(number, &snapshot).await;
            let _ = requests.send(Command::SnapshotWritten(result)).await;
        });
    }

    /// What is to be remembered now.
    pub(super) fn snapshot(&mut self) -> Snapshot {
        let now = self.env.clock.unix_ms();
        let up: Vec<_> = self.others_up().map(|identity| identity.id).collect();
        for id in up {
            if let Some(remembered) = self.remembered.get_mut(&id) {
                remembered.seen = now;
            }
        }
        let mut snapshot = Snapshot::new();
        snapshot.generation = self.identity.generation;
        snapshot.left = self.phase >= Phase::Departing;
        snapshot.members = self.remembered.clone();
        snapshot
    }
}
