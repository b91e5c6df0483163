//! What this node says of itself, and how it answers what others wrongly say of it.

use std::time::Duration;

use tokio::time::Instant;

use super::super::Tags;
use super::super::codec::{ITEM_MAX, Item};
use super::super::identity::Identity;
use super::super::ledger::{Intent, Record};
use super::super::swim::Due;
use super::super::user::UserEvent;
use super::{Driver, Phase, log_failure};

/// How often this node may be declared dead within [`FLAPPING_PERIOD`] before that is reported as an error.
const FLAPPING: usize = 5;
/// See [`FLAPPING`].
const FLAPPING_PERIOD: Duration = Duration::from_secs(60);

impl Driver {
    /// Answers what others wrongly say about this node, by a new life. Whether there was something.
    pub(super) fn contradict(&mut self) -> bool {
        let Some(claimed) = self.ledger.lock().take_claim() else {
            return false;
        };
        let generation = self.swim.identity().generation;
        if self.phase != Phase::Running || claimed < generation || claimed == u64::MAX {
            return false;
        }
        let identity = self.swim.identity().with_generation(claimed + 1);
        let result = self.swim.change_identity(identity, &mut self.outbox);
        log_failure("change of identity", result);
        true
    }

    /// foca has declared its old identity dead and continues with another one.
    pub(super) fn returned(&mut self, who: &Identity) {
        tracing::warn!(
            target: "serf",
            "other members took this node for dead, returning: generation={}", who.generation,
        );
        let now = Instant::now();
        self.returns.retain(|at| now - *at < FLAPPING_PERIOD);
        self.returns.push(now);
        if self.returns.len() == FLAPPING {
            tracing::error!(
                target: "serf",
                "this node is declared dead again and again: another one may be using its node id {}, \
                 or datagrams do not reach it at {}", who.id, who.addr,
            );
        }
    }

    /// Tells everybody about the identity that foca has chosen.
    pub(super) fn adopt_identity(&mut self) {
        self.identity = self.swim.identity().clone();
        let now = self.now();
        self.view.up(&self.identity, now);
        let intent = match self.phase {
            Phase::Running => None,
            Phase::Leaving => Some(Intent::Leaving),
            Phase::Departing | Phase::Left => Some(Intent::Left),
        };
        if let Some(intent) = intent {
            self.say(intent);
        }
        let tags = self.own_tags();
        self.write_own_record(tags);
        self.gossip();
        self.remember_soon();
        // The few datagrams that said so may be lost, and until somebody speaks to the new identity, foca waits.
        self.set_timer(Duration::ZERO, Due::Sync);
    }

    pub(super) fn set_tags(&mut self, tags: Tags) {
        if tags == self.own_tags() {
            return;
        }
        self.write_own_record(tags);
        self.gossip();
    }

    pub(super) fn own_tags(&self) -> Tags {
        let ledger = self.ledger.lock();
        ledger
            .record(self.settings.id)
            .map(|record| record.tags.clone())
            .unwrap_or_default()
    }

    /// Makes a new version of the own record and passes it on.
    pub(super) fn write_own_record(&mut self, tags: Tags) {
        let (id, generation) = (self.settings.id, self.identity.generation);
        let record = {
            let mut ledger = self.ledger.lock();
            let version = match ledger.record(id) {
                Some(old) if old.generation == generation => old.version + 1,
                _ => 0,
            };
            let record = Record {
                generation,
                version,
                tags,
            };
            ledger.set_own_record(record.clone());
            record
        };
        self.pass_on(Item::Record(id, record));
    }

    /// Says something about this node's own staying.
    pub(super) fn say(&mut self, intent: Intent) {
        let (id, generation) = (self.settings.id, self.identity.generation);
        self.ledger.lock().set_own_intent(generation, intent);
        self.pass_on(Item::Intent(id, generation, intent));
    }

    /// Tells everybody of a user event, this node included.
    pub(super) fn fire_event(&mut self, event: UserEvent) {
        let event = self.ledger.lock().user.fire(event);
        self.pass_on(Item::User(event));
        self.gossip();
    }

    /// Adds an item to what goes out with foca's messages. A record that is too large is only announced.
    pub(super) fn pass_on(&mut self, item: Item) {
        let mut bytes = item.encode();
        if bytes.len() > ITEM_MAX
            && let Item::Record(id, record) = &item
        {
            bytes = Item::Notice(*id, record.generation, record.version).encode();
        }
        log_failure("broadcast", self.swim.add_broadcast(&bytes));
    }

    /// Sends what is waiting to a few members at once, ahead of the next round.
    pub(super) fn gossip(&mut self) {
        log_failure("gossip", self.swim.gossip(&mut self.outbox));
    }
}
