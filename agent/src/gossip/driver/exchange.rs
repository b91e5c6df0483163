//! The driver's part of the TCP exchange: what to tell, what to believe, and when to ask.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foca::{Member, State};
use uuid::Uuid;

use super::super::codec::{Entry, Exchange, FrameKind, Hello, Item};
use super::super::events::{collision, takes_part};
use super::super::identity::Identity;
use super::super::ledger::Intent;
use super::super::settings::ALL_DATACENTERS;
use super::super::swim::{DEAD_KEPT, Due};
use super::super::{JoinError, Status, sync};
use super::{Command, Driver, Phase, Why, log_failure};

/// Pools larger than this exchange less often, or the exchanges alone would load them. memberlist's threshold.
const PUSH_PULL_SCALE: f64 = 32.0;
/// Times the probe interval: time between two tries to reach a failed member.
const RECONNECT_MULT: u32 = 10;
/// Share of `reconnect_timeout` that passes between two searches for members to forget.
const REAP_SHARE: u32 = 10;
/// Bounds of that time.
const REAP_INTERVAL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(30));
/// Longest time between two tries to get a missing record.
const FETCH_PAUSE_MAX: Duration = Duration::from_secs(10);
/// Most news of one exchange that are passed on in datagrams. More come only when pools merge; then the rest
/// travels by exchanges, and by asking for what is missing.
const NEWS_MAX: usize = 16;

impl Driver {
    pub(super) fn set_periodic_timers(&mut self) {
        // Spread, so that members that were started together do not all ask at the same moments.
        let spread = |driver: &Self, interval: Duration| {
            let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
            Duration::from_millis(driver.env.random.below(millis.max(1)))
        };
        let half = self.settings.push_pull_interval / 2;
        let first_sync = half + spread(self, half);
        self.set_timer(first_sync, Due::PushPull);
        let reconnect = self.reconnect_interval();
        let first_reconnect = reconnect / 2 + spread(self, reconnect / 2);
        self.set_timer(first_reconnect, Due::Reconnect);
        self.set_timer(self.reap_interval(), Due::Reap);
    }

    fn reconnect_interval(&self) -> Duration {
        self.settings.probe_interval * RECONNECT_MULT
    }

    fn reap_interval(&self) -> Duration {
        (self.settings.reconnect_timeout / REAP_SHARE).clamp(REAP_INTERVAL.0, REAP_INTERVAL.1)
    }

    /// A request of this kind.
    pub(super) fn request(&self, kind: FrameKind, to: Option<Uuid>) -> Exchange {
        match kind {
            FrameKind::Join | FrameKind::Sync => self.say_all(to),
            _ => self.say_own(to),
        }
    }

    /// This node's own state.
    pub(super) fn say_own(&self, to: Option<Uuid>) -> Exchange {
        self.say_hello(to, vec![self.own_entry()])
    }

    /// All states, and the user events that others may have missed.
    fn say_all(&self, to: Option<Uuid>) -> Exchange {
        self.say_known(to, true, true)
    }

    /// All states, or all user events, or both.
    pub(super) fn say_known(&self, to: Option<Uuid>, states: bool, events: bool) -> Exchange {
        let entries = if states { self.entries() } else { Vec::new() };
        let events = match events {
            true => self.ledger.lock().user.known().cloned().collect(),
            false => Vec::new(),
        };
        Exchange {
            events,
            ..self.say_hello(to, entries)
        }
    }

    pub(super) fn say_hello(&self, to: Option<Uuid>, entries: Vec<Entry>) -> Exchange {
        let hello = Hello {
            instance: self.instance,
            identity: self.identity.clone(),
            to,
            datacenter: self.settings.pool.clone(),
        };
        Exchange {
            hello,
            entries,
            event_clock: self.ledger.lock().user.clock(),
            events: Vec::new(),
            digest: None,
        }
    }

    /// All that is known.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let others = self
            .swim
            .iter_membership_state()
            .filter(|member| member.id().id != self.settings.id)
            .map(|member| self.entry(member.clone()));
        std::iter::once(self.own_entry()).chain(others).collect()
    }

    pub(super) fn own_entry(&self) -> Entry {
        let incarnation = self.incarnation.load(Ordering::Relaxed);
        self.entry(Member::new(
            self.identity.clone(),
            incarnation,
            State::Alive,
        ))
    }

    pub(super) fn entry(&self, member: Member<Identity>) -> Entry {
        let id = member.id().id;
        let down_for = match member.state() {
            State::Down => self.view.down_for(id, self.now()),
            State::Alive | State::Suspect => Duration::ZERO,
        };
        let ledger = self.ledger.lock();
        Entry {
            member,
            down_for,
            intent: ledger.intent(id),
            record: ledger.record(id).cloned(),
        }
    }

    /// Whether whoever spoke may: the reason if not, and else whether it is somebody else than this node.
    fn admit(&self, kind: FrameKind, theirs: &Exchange) -> Result<bool, String> {
        let own = &self.identity;
        let hello = &theirs.hello;
        if hello.to.is_some_and(|to| to != own.id) {
            return Err(format!(
                "the node that was looked for is not here: this is '{}', node {}",
                own.name, own.id
            ));
        }
        if hello.instance == self.instance {
            return Ok(false);
        }
        if hello.datacenter != self.settings.pool {
            let place = |pool: &str| match pool {
                ALL_DATACENTERS => "in the pool of all datacenters".to_owned(),
                datacenter => format!("in datacenter '{datacenter}'"),
            };
            return Err(format!(
                "'{}' at {} is {}, '{}' at {} {}",
                hello.identity.name,
                hello.identity.addr,
                place(&hello.datacenter),
                own.name,
                own.addr,
                place(&self.settings.pool),
            ));
        }
        if hello.identity.id == own.id {
            return Err(format!(
                "node id {} of '{}' at {} is in use by '{}' at {}",
                own.id, hello.identity.name, hello.identity.addr, own.name, own.addr
            ));
        }
        if kind == FrameKind::Join {
            let shown = |identity: &&Identity| {
                self.view
                    .member(identity.id)
                    .is_some_and(|member| takes_part(member.status))
            };
            let ours: Vec<_> = self.view.ups().filter(shown).collect();
            if let Some(reason) = collision(&ours, &hello.identity, &theirs.entries) {
                return Err(reason);
            }
        }
        Ok(true)
    }

    /// Answers a request that came over TCP.
    pub(super) fn answer(
        &mut self,
        kind: FrameKind,
        request: Exchange,
    ) -> Result<Exchange, String> {
        if self.phase == Phase::Left {
            return Err("this node has left the pool".to_owned());
        }
        match self.admit(kind, &request) {
            Ok(true) => self.merge(kind, &request),
            Ok(false) => {}
            Err(reason) => {
                if kind == FrameKind::Join {
                    tracing::warn!(target: "serf", "refused a join: {reason}");
                } else {
                    tracing::debug!(target: "serf", "refused an exchange: {reason}");
                }
                return Err(reason);
            }
        }
        // What was just learnt may have changed what is to be said, also about this node itself.
        self.refresh();
        if self.contradict() || self.swim.identity() != &self.identity {
            self.adopt_identity();
        }
        let to = Some(request.hello.identity.id);
        Ok(match (kind, request.digest) {
            (FrameKind::Sync, Some(digest)) => self.say_what_differs(to, digest),
            (FrameKind::Join | FrameKind::Sync, _) => self.say_all(to),
            (FrameKind::Fetch, _) => self.say_own(to),
            _ => self.say_hello(to, Vec::new()),
        })
    }

    /// Takes the answer to a join that this node asked for.
    pub(super) fn joined(&mut self, answer: Exchange) -> Result<(), String> {
        if !self.admit(FrameKind::Join, &answer)? {
            return Ok(());
        }
        self.ledger.lock().user.ignore_before(answer.event_clock);
        self.merge(FrameKind::Join, &answer);
        let announced = self.swim.announce(answer.hello.identity, &mut self.outbox);
        log_failure("announcement", announced);
        self.refresh();
        Ok(())
    }

    /// Believes what somebody knows, as far as it is newer.
    fn merge(&mut self, kind: FrameKind, theirs: &Exchange) {
        let speaker = &theirs.hello.identity;
        // One that knew nobody hears what the other's pool knows: passed on as news by everybody who joins, that
        // would be a flood.
        let was_alone = self.swim.num_members() == 0;
        let mut news: Vec<Item> = Vec::new();
        {
            let mut ledger = self.ledger.lock();
            for entry in &theirs.entries {
                let who = entry.member.id();
                if who.id == self.settings.id
                    && *who != self.identity
                    && who.generation >= self.identity.generation
                {
                    // An earlier life that this node does not remember, or a copy of it.
                    ledger.claim(who.generation);
                }
                news.extend(ledger.learn_entry(entry));
            }
            ledger.user.witness(theirs.event_clock);
            for event in &theirs.events {
                if ledger.user.learn(event.clone()) {
                    news.push(Item::User(event.clone()));
                }
            }
        }
        let replaced: Vec<Identity> = self
            .view
            .ups()
            .filter(|old| {
                // The same name at the same address with another node id: the old one cannot be running.
                kind == FrameKind::Join
                    && old.id != speaker.id
                    && old.id != self.settings.id
                    && old.addr == speaker.addr
                    && old.folded_name() == speaker.folded_name()
            })
            .cloned()
            .collect();
        let updates = theirs
            .entries
            .iter()
            .map(|entry| &entry.member)
            .filter(|member| {
                // foca would enter this node's former lives as dead members.
                member.id().id != self.settings.id || *member.id() == self.identity
            })
            .map(|member| self.ledger.lock().weigh(member.clone()))
            .chain(replaced.into_iter().map(Member::down));
        let applied = (self.swim).apply_many(updates, !was_alone, &mut self.outbox);
        log_failure("merge", applied);
        self.absorb();
        self.hear_of_the_dead(&theirs.entries);
        self.revive(&theirs.entries);
        let anything_new = !news.is_empty() || self.swim.updates_backlog() > 0;
        if news.len() <= NEWS_MAX && !was_alone {
            for item in news {
                self.pass_on(item);
            }
        }
        if anything_new {
            self.gossip();
        }
    }

    /// Takes over members that are dead already, and that foca therefore does not tell about.
    fn hear_of_the_dead(&mut self, entries: &[Entry]) {
        let now = self.now();
        for entry in entries {
            let who = entry.member.id();
            let forgotten = self.ledger.lock().intent_for(who) == Some(Intent::Forgotten);
            if entry.member.state() == State::Down
                && who.id != self.settings.id
                && entry.down_for < self.settings.reconnect_timeout
                && !forgotten
            {
                self.view.heard_down(who, entry.down_for, now);
                self.touched.insert(who.id);
            }
        }
    }

    /// Starts an exchange with a member.
    pub(super) fn start_exchange(&mut self, with: &Identity, kind: FrameKind, why: Why) {
        let request = self.request(kind, Some(with.id));
        self.send_request(request, with, kind, why);
    }

    /// Starts an exchange with a member by a certain request.
    pub(super) fn send_request(
        &mut self,
        request: Exchange,
        with: &Identity,
        kind: FrameKind,
        why: Why,
    ) {
        let (env, addr, requests) = (self.env.clone(), with.addr, self.requests_in.clone());
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn(async move {
            let result = sync::exchange(&env, &shared, addr, kind, &request).await;
            let _ = requests.send(Command::Exchanged { why, result }).await;
        });
    }

    /// An exchange that was started here is over.
    pub(super) fn exchanged(&mut self, why: Why, result: Result<Exchange, JoinError>) {
        if self.phase == Phase::Left {
            return;
        }
        let (failure, digest) = match result {
            Ok(answer) => {
                match self.admit(FrameKind::Sync, &answer) {
                    Ok(true) => self.merge(FrameKind::Sync, &answer),
                    Ok(false) => {}
                    Err(reason) => {
                        tracing::debug!(target: "serf", "refused the answer to an exchange: {reason}");
                    }
                }
                (None, answer.digest)
            }
            Err(e) => {
                tracing::debug!(target: "serf", "exchange failed: why={why:?} error={e}");
                (Some(e), None)
            }
        };
        match why {
            Why::Routine => {}
            Why::Compare { with } if failure.is_none() => self.compared(&with, digest),
            Why::Compare { .. } => {}
            Why::Fetch { id, attempt } => self.fetched(id, attempt),
            Why::Check(check) => self.checked(check, failure.as_ref()),
        }
    }

    pub(super) fn push_pull(&mut self) {
        let scale = (self.sized_for as f64 / PUSH_PULL_SCALE)
            .log2()
            .ceil()
            .max(0.0);
        let interval = self.settings.push_pull_interval;
        self.set_timer(interval.mul_f64(scale + 1.0), Due::PushPull);
        if let Some(with) = self.somebody(None) {
            self.compare(with);
        }
    }

    /// Exchanges all states with a random living member.
    pub(super) fn sync(&mut self) {
        if let Some(with) = self.somebody(None) {
            self.start_exchange(&with, FrameKind::Sync, Why::Routine);
        }
    }

    /// A random living member other than `except`, as long as this node takes part.
    fn somebody(&self, except: Option<Uuid>) -> Option<Identity> {
        if self.phase == Phase::Left {
            return None;
        }
        let others = self.others_up().filter(|other| Some(other.id) != except);
        let others: Vec<_> = others.collect();
        let index = self.pick(others.len())?;
        Some(others[index].clone())
    }

    /// Tries one failed member. Heals partitions, also when foca has nobody left to talk to.
    pub(super) fn reconnect(&mut self) {
        self.set_timer(self.reconnect_interval(), Due::Reconnect);
        let failed: Vec<_> = self
            .view
            .members()
            .into_iter()
            .filter(|member| member.status == Status::Failed)
            .filter_map(|member| self.view.seen(member.id).map(|(who, _)| who.clone()))
            .collect();
        if self.phase != Phase::Left
            && let Some(index) = self.pick(failed.len())
        {
            self.start_exchange(&failed[index], FrameKind::Sync, Why::Routine);
        }
    }

    /// Forgets who has been down for too long.
    pub(super) fn reap(&mut self) {
        self.set_timer(self.reap_interval(), Due::Reap);
        let limit = self.settings.reconnect_timeout;
        for who in self.view.expired(limit, self.now()) {
            self.view.forget(who.id);
            self.touched.insert(who.id);
        }
        let view = &self.view;
        self.ledger
            .lock()
            .prune(limit.saturating_mul(DEAD_KEPT), |id| {
                view.seen(id).is_some()
            });
    }

    fn record_is_missing(&self, id: Uuid) -> bool {
        self.view
            .seen(id)
            .is_some_and(|(who, up)| up && self.ledger.lock().wants_record(who))
    }

    /// Plans to ask for a record. Mostly it comes by itself a moment later, with the gossip that told of the member.
    pub(super) fn fetch_soon(&mut self, id: Uuid) {
        if self.fetching.insert(id) {
            let millis = u64::try_from(self.settings.gossip_interval.as_millis()).unwrap_or(200);
            let after = Duration::from_millis(millis / 4 + self.env.random.below(millis / 2 + 1));
            self.set_timer(after, Due::Fetch { id, attempt: 0 });
        }
    }

    /// Asks for a record: its member, and every other time somebody else who may have it.
    pub(super) fn fetch(&mut self, id: Uuid, attempt: u32) {
        if !self.record_is_missing(id) || self.phase == Phase::Left {
            self.fetching.remove(&id);
            return;
        }
        if attempt % 2 == 1 && self.asking_around {
            // One answer brings all that is missing. In a pool of a thousand it is large, and where many join at once
            // so many records may be missing that as many answers would not fit in memory.
            self.set_timer(self.fetch_pause(attempt), Due::Fetch { id, attempt });
            return;
        }
        let why = Why::Fetch { id, attempt };
        if attempt % 2 == 1
            && let Some(who) = self.somebody(Some(id))
        {
            self.asking_around = true;
            self.send_request(self.comparison(who.id), &who, FrameKind::Sync, why);
        } else if let Some((who, _)) = self.view.seen(id) {
            let who = who.clone();
            self.start_exchange(&who, FrameKind::Fetch, why);
        }
    }

    /// A record was asked for; it may be here now.
    fn fetched(&mut self, id: Uuid, attempt: u32) {
        self.fetching.remove(&id);
        if attempt % 2 == 1 {
            self.asking_around = false;
        }
        self.refresh();
        if self.record_is_missing(id) {
            self.fetching.insert(id);
            let pause = self.fetch_pause(attempt);
            let attempt = attempt.saturating_add(1);
            self.set_timer(pause, Due::Fetch { id, attempt });
        }
    }

    /// Time until the next try to get a missing record.
    fn fetch_pause(&self, attempt: u32) -> Duration {
        let base = self.settings.gossip_interval;
        (base.saturating_mul(1 << attempt.min(10))).min(FETCH_PAUSE_MAX)
    }

    /// Living members other than this one.
    pub(super) fn others_up(&self) -> impl Iterator<Item = &Identity> {
        self.view
            .ups()
            .filter(|identity| identity.id != self.settings.id)
            .filter(|identity| {
                self.view
                    .member(identity.id)
                    .is_none_or(|member| takes_part(member.status))
            })
    }
}
