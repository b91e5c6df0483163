//! What members say of themselves and of their staying: the knowledge that travels beside SWIM's own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use foca::{BroadcastHandler, Incarnation, Invalidates, Member, State};
use uuid::Uuid;

use super::Tags;
use super::codec::{DecodeError, Entry, Item};
use super::identity::Identity;
use super::probes::Probes;
use super::user::UserEvents;

/// Most members about whom anything is kept. Bounds what a broken or hostile sender can make this node remember.
const ENTRIES_MAX: usize = 1 << 16;
/// How long a record is kept whose member is not known (yet): it may overtake SWIM's update by a few rounds.
const ORPHAN_KEPT: Duration = Duration::from_secs(60);

/// What a member says of itself. Only the member makes them; (generation, version) orders them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// The life of the member that wrote it.
    pub(crate) generation: u64,
    /// Grows with every change within a life.
    pub(crate) version: u64,
    /// The tags.
    pub(crate) tags: Tags,
}

impl Record {
    fn order(&self) -> (u64, u64) {
        (self.generation, self.version)
    }
}

/// What was said about a member's staying, weakest first: of two about the same life, the stronger counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Intent {
    /// The member said that it is about to leave.
    Leaving = 1,
    /// An operator said that it has left. Counts only once SWIM too holds it for dead; a living member contradicts.
    Forced = 2,
    /// The member said that it has left.
    Left = 3,
    /// An operator said that it shall be forgotten, or it was away for too long. Like `Forced` until it is dead.
    Forgotten = 4,
}

impl Intent {
    /// The intent with this number.
    pub(crate) fn decode(byte: u8) -> Option<Self> {
        [Self::Leaving, Self::Forced, Self::Left, Self::Forgotten]
            .into_iter()
            .find(|intent| *intent as u8 == byte)
    }
}

struct Stamped<T> {
    value: T,
    at: Duration,
}

/// Records and intents of all members, the newest of each.
pub(crate) struct Ledger {
    own: Uuid,
    records: BTreeMap<Uuid, Stamped<Record>>,
    intents: BTreeMap<Uuid, Stamped<(u64, Intent)>>,
    /// Versions that were announced without the record.
    noticed: BTreeMap<Uuid, Stamped<(u64, u64)>>,
    /// Members about whom something changed since the last [`Ledger::take_touched`].
    touched: Vec<Uuid>,
    /// The lives that SWIM here holds for alive.
    living: BTreeMap<Uuid, Identity>,
    /// Living members that somebody else has declared dead, to be looked into.
    rumours: Vec<(Identity, Incarnation)>,
    /// Highest generation in which others say something about this node that it has not said itself.
    claimed: Option<u64>,
    /// What somebody said to everybody.
    pub(crate) user: UserEvents,
    /// Times of answers.
    pub(crate) probes: Probes,
    now: Duration,
}

impl Ledger {
    /// An empty ledger of the node `own`.
    pub(crate) fn new(own: Uuid) -> Self {
        Self {
            own,
            records: BTreeMap::new(),
            intents: BTreeMap::new(),
            noticed: BTreeMap::new(),
            touched: Vec::new(),
            living: BTreeMap::new(),
            rumours: Vec::new(),
            claimed: None,
            user: UserEvents::default(),
            probes: Probes::default(),
            now: Duration::ZERO,
        }
    }

    /// Sets the time with which what is learnt from now on is stamped.
    pub(crate) fn set_now(&mut self, now: Duration) {
        self.now = now;
    }

    /// Sets what this node says of itself.
    pub(crate) fn set_own_record(&mut self, record: Record) {
        let own = self.own;
        self.store_record(own, record);
    }

    /// Sets what this node says of its own staying.
    pub(crate) fn set_own_intent(&mut self, generation: u64, intent: Intent) {
        let own = self.own;
        self.store_intent(own, generation, intent);
    }

    /// The newest record of a member.
    pub(crate) fn record(&self, id: Uuid) -> Option<&Record> {
        self.records.get(&id).map(|stamped| &stamped.value)
    }

    /// The newest intent about a member, and the generation that it is about.
    pub(crate) fn intent(&self, id: Uuid) -> Option<(u64, Intent)> {
        self.intents.get(&id).map(|stamped| stamped.value)
    }

    /// The intent that holds for this life of a member.
    pub(crate) fn intent_for(&self, identity: &Identity) -> Option<Intent> {
        self.intent(identity.id)
            .filter(|(generation, _)| *generation >= identity.generation)
            .map(|(_, intent)| intent)
    }

    /// Whether a newer record of this life is known to exist than the one that is here.
    pub(crate) fn wants_record(&self, identity: &Identity) -> bool {
        let have = self.record(identity.id).map(Record::order);
        let noticed = self.noticed.get(&identity.id).map(|stamped| stamped.value);
        have < noticed || have.is_none_or(|(generation, _)| generation < identity.generation)
    }

    /// Takes a record from outside. Whether it was new.
    pub(crate) fn learn_record(&mut self, id: Uuid, record: Record) -> bool {
        if id == self.own {
            let known = self.record(id).map(Record::order);
            if known < Some(record.order()) {
                self.claim(record.generation);
            }
            return false;
        }
        let new = self
            .record(id)
            .is_none_or(|known| known.order() < record.order());
        if !new || (self.records.len() >= ENTRIES_MAX && !self.records.contains_key(&id)) {
            return false;
        }
        self.store_record(id, record);
        true
    }

    /// Takes an intent from outside. Whether it was new.
    pub(crate) fn learn_intent(&mut self, id: Uuid, generation: u64, intent: Intent) -> bool {
        let new = self
            .intent(id)
            .is_none_or(|known| known < (generation, intent));
        if !new || (self.intents.len() >= ENTRIES_MAX && !self.intents.contains_key(&id)) {
            return false;
        }
        if id == self.own {
            self.claim(generation);
            return false;
        }
        self.store_intent(id, generation, intent);
        true
    }

    /// Takes the announcement of a record. Whether it was new.
    pub(crate) fn learn_notice(&mut self, id: Uuid, generation: u64, version: u64) -> bool {
        let order = (generation, version);
        let known = self.noticed.get(&id).map(|stamped| stamped.value);
        if id == self.own
            || known >= Some(order)
            || self.record(id).map(Record::order) >= Some(order)
            || (self.noticed.len() >= ENTRIES_MAX && known.is_none())
        {
            return false;
        }
        let stamped = self.stamp(order);
        self.noticed.insert(id, stamped);
        self.touched.push(id);
        true
    }

    /// Takes what an exchange says beside SWIM's part. Returns what was new, for passing on.
    pub(crate) fn learn_entry(&mut self, entry: &Entry) -> Vec<Item> {
        let id = entry.member.id().id;
        let mut news = Vec::new();
        if let Some((generation, intent)) = entry.intent
            && self.learn_intent(id, generation, intent)
        {
            news.push(Item::Intent(id, generation, intent));
        }
        if let Some(record) = &entry.record
            && self.learn_record(id, record.clone())
        {
            news.push(Item::Record(id, record.clone()));
        }
        news
    }

    /// Notes that others know this node in `generation`, which it did not choose.
    pub(crate) fn claim(&mut self, generation: u64) {
        self.claimed = self.claimed.max(Some(generation));
    }

    /// The claim to contradict, once.
    pub(crate) fn take_claim(&mut self) -> Option<u64> {
        self.claimed.take()
    }

    /// Whether something changed since [`Ledger::take_touched`], or was said to everybody.
    pub(crate) fn has_news(&self) -> bool {
        !self.touched.is_empty() || self.user.has_new()
    }

    /// Members about whom something changed, once.
    pub(crate) fn take_touched(&mut self) -> Vec<Uuid> {
        std::mem::take(&mut self.touched)
    }

    /// Notes that SWIM here holds this life for alive.
    pub(crate) fn set_living(&mut self, identity: &Identity) {
        self.living.insert(identity.id, identity.clone());
    }

    /// Notes that SWIM here holds this member for dead.
    pub(crate) fn set_dead(&mut self, id: Uuid) {
        self.living.remove(&id);
    }

    /// What to believe of what somebody else says about a member.
    ///
    /// To SWIM a death is final. One member that was cut off for a while has declared everybody dead, and would,
    /// once back, make everybody believe it of everybody. So a death that was found by somebody else is here only
    /// a suspicion, to be looked into; one that the member announced itself is believed.
    pub(crate) fn weigh(&mut self, said: Member<Identity>) -> Member<Identity> {
        let who = said.id();
        let announced = matches!(self.intent_for(who), Some(Intent::Leaving | Intent::Left));
        if said.state() != State::Down || announced || self.living.get(&who.id) != Some(who) {
            return said;
        }
        let suspect = Member::new(who.clone(), said.incarnation(), State::Suspect);
        self.rumours.push((said.id().clone(), said.incarnation()));
        suspect
    }

    /// Deaths to be looked into, once.
    pub(crate) fn take_rumours(&mut self) -> Vec<(Identity, Incarnation)> {
        std::mem::take(&mut self.rumours)
    }

    /// Forgets what is about nobody any more. Intents stay longer: they keep a forgotten member from coming back
    /// through somebody who has not forgotten it yet.
    pub(crate) fn prune(&mut self, intents_kept: Duration, is_known: impl Fn(Uuid) -> bool) {
        let (own, now) = (self.own, self.now);
        let keep = |id: Uuid, at: Duration, kept: Duration| {
            id == own || is_known(id) || now.saturating_sub(at) < kept
        };
        self.records
            .retain(|id, stamped| keep(*id, stamped.at, ORPHAN_KEPT));
        self.noticed
            .retain(|id, stamped| keep(*id, stamped.at, ORPHAN_KEPT));
        self.intents
            .retain(|id, stamped| keep(*id, stamped.at, intents_kept));
    }

    fn stamp<T>(&self, value: T) -> Stamped<T> {
        Stamped {
            value,
            at: self.now,
        }
    }

    fn store_record(&mut self, id: Uuid, record: Record) {
        if self
            .noticed
            .get(&id)
            .is_some_and(|noticed| noticed.value <= record.order())
        {
            self.noticed.remove(&id);
        }
        let stamped = self.stamp(record);
        self.records.insert(id, stamped);
        self.touched.push(id);
    }

    fn store_intent(&mut self, id: Uuid, generation: u64, intent: Intent) {
        let stamped = self.stamp((generation, intent));
        self.intents.insert(id, stamped);
        self.touched.push(id);
    }
}

/// The ledger as the driver and foca's broadcast handler share it. Both run on the driver's task, so the lock is
/// never contended; it must not be held while foca is called.
#[derive(Clone)]
pub(crate) struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    /// Shares a ledger.
    pub(crate) fn new(ledger: Ledger) -> Self {
        Self(Arc::new(Mutex::new(ledger)))
    }

    /// Access for a moment.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Identifies an item among those that foca is still passing on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// A record or the notice of one.
    Record(Uuid),
    /// An intent.
    Intent(Uuid),
    /// A user event.
    User(Uuid),
}

impl Invalidates for Key {
    /// Items are only added when they are newer than what was known, so the later one always replaces.
    fn invalidates(&self, other: &Self) -> bool {
        self == other
    }
}

impl BroadcastHandler<Identity> for SharedLedger {
    type Key = Key;
    type Error = DecodeError;

    /// An item without a sender is this node's own wish to pass it on, and known already.
    fn receive_item(
        &mut self,
        data: &[u8],
        sender: Option<&Identity>,
    ) -> Result<Option<Key>, DecodeError> {
        let Some(item) = Item::decode(data)? else {
            return Ok(None);
        };
        let mut ledger = self.lock();
        let (new, key) = match item {
            // From the one that answers to the one that asked; nobody else's business.
            Item::Coordinate(place) => {
                if let Some(sender) = sender {
                    ledger.probes.is_at(sender.id, place);
                }
                return Ok(None);
            }
            Item::Record(id, record) => (
                sender.is_none() || ledger.learn_record(id, record),
                Key::Record(id),
            ),
            Item::Notice(id, generation, version) => (
                sender.is_none() || ledger.learn_notice(id, generation, version),
                Key::Record(id),
            ),
            Item::Intent(id, generation, intent) => (
                sender.is_none() || ledger.learn_intent(id, generation, intent),
                Key::Intent(id),
            ),
            Item::User(event) => {
                let id = event.id;
                (sender.is_none() || ledger.user.learn(event), Key::User(id))
            }
        };
        Ok(new.then_some(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    fn record(generation: u64, version: u64) -> Record {
        Record {
            generation,
            version,
            tags: Tags::from([("v".to_owned(), version.to_string())]),
        }
    }

    fn identity(generation: u64) -> Identity {
        Identity {
            id: OTHER,
            name: "B".into(),
            addr: "127.0.0.2:8301".parse().unwrap(),
            generation,
        }
    }

    #[test]
    fn an_older_record_never_replaces_a_newer_one() {
        let mut ledger = Ledger::new(OWN);
        assert!(ledger.learn_record(OTHER, record(2, 0)));
        assert!(!ledger.learn_record(OTHER, record(1, 9)));
        assert!(!ledger.learn_record(OTHER, record(2, 0)));
        assert!(ledger.learn_record(OTHER, record(2, 1)));
        assert_eq!(ledger.record(OTHER), Some(&record(2, 1)));
    }

    #[test]
    fn an_intent_is_only_about_its_generation_and_earlier_ones() {
        let mut ledger = Ledger::new(OWN);
        assert!(ledger.learn_intent(OTHER, 5, Intent::Left));
        assert!(
            !ledger.learn_intent(OTHER, 5, Intent::Leaving),
            "the weaker one came late"
        );
        assert_eq!(ledger.intent_for(&identity(5)), Some(Intent::Left));
        assert_eq!(ledger.intent_for(&identity(6)), None, "it came back");
    }

    #[test]
    fn what_others_say_about_this_node_is_a_claim_and_not_believed() {
        let mut ledger = Ledger::new(OWN);
        ledger.set_own_record(record(3, 0));
        assert!(!ledger.learn_intent(OWN, 3, Intent::Forced));
        assert_eq!(ledger.intent(OWN), None);
        assert!(!ledger.learn_record(OWN, record(4, 0)));
        assert_eq!(ledger.record(OWN), Some(&record(3, 0)));
        assert_eq!(ledger.take_claim(), Some(4));
        assert_eq!(ledger.take_claim(), None);
        ledger.set_own_intent(3, Intent::Left);
        ledger.learn_intent(OWN, 3, Intent::Left);
        assert_eq!(ledger.take_claim(), None, "an echo is no claim");
    }

    #[test]
    fn a_notice_makes_a_record_wanted_until_it_comes() {
        let mut ledger = Ledger::new(OWN);
        assert!(ledger.wants_record(&identity(1)), "nothing is known");
        ledger.learn_record(OTHER, record(1, 0));
        assert!(!ledger.wants_record(&identity(1)));
        assert!(ledger.wants_record(&identity(2)), "a new life");
        assert!(ledger.learn_notice(OTHER, 1, 4));
        assert!(ledger.wants_record(&identity(1)));
        ledger.learn_record(OTHER, record(1, 4));
        assert!(!ledger.wants_record(&identity(1)));
        assert!(!ledger.learn_notice(OTHER, 1, 4));
    }

    #[test]
    fn a_death_found_by_somebody_else_is_a_suspicion() {
        let mut ledger = Ledger::new(OWN);
        let b = identity(5);
        let dead = |who: &Identity| Member::new(who.clone(), 3, State::Down);
        assert_eq!(ledger.weigh(dead(&b)), dead(&b), "not known as alive");
        ledger.set_living(&b);
        let weighed = ledger.weigh(dead(&b));
        assert_eq!(weighed, Member::new(b.clone(), 3, State::Suspect));
        assert_eq!(ledger.take_rumours(), [(b.clone(), 3)]);
        let earlier = identity(4);
        assert_eq!(ledger.weigh(dead(&earlier)), dead(&earlier));
        ledger.learn_intent(OTHER, 5, Intent::Forced);
        assert_ne!(ledger.weigh(dead(&b)), dead(&b), "only an operator says so");
        ledger.learn_intent(OTHER, 5, Intent::Left);
        assert_eq!(ledger.weigh(dead(&b)), dead(&b), "it said so itself");
    }

    #[test]
    fn what_is_about_nobody_is_forgotten_in_time() {
        let mut ledger = Ledger::new(OWN);
        ledger.set_own_record(record(1, 0));
        ledger.learn_record(OTHER, record(1, 0));
        ledger.learn_intent(OTHER, 1, Intent::Forgotten);
        ledger.set_now(ORPHAN_KEPT);
        ledger.prune(ORPHAN_KEPT * 2, |_| false);
        assert_eq!(ledger.record(OTHER), None);
        assert!(ledger.intent(OTHER).is_some());
        assert!(ledger.record(OWN).is_some());
        ledger.set_now(ORPHAN_KEPT * 2);
        ledger.prune(ORPHAN_KEPT * 2, |_| false);
        assert!(ledger.intent(OTHER).is_none());
    }
}
