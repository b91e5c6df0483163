//! How foca is set up and what it asks of its host: its parameters, its outputs, and the timers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{
    Config, Incarnation, Notification, OwnedNotification, PeriodicParams, Timer, TimerToken,
};
use rand::rngs::StdRng;
use tokio::time::Instant;
use uuid::Uuid;

use super::Settings;
use super::codec::{Codec, DATAGRAM_MAX, DATAGRAM_OVERHEAD, Item, add_to_answer, seal_datagram};
use super::identity::Identity;
use super::ledger::SharedLedger;
use super::sealed;
use crate::coordinate::Coordinate;

/// foca with our types.
pub(crate) type Swim = foca::Foca<Identity, Codec, StdRng, SharedLedger>;

/// Members that get each round of gossip, and that are asked to probe on behalf of another.
const FANOUT: usize = 3;
/// Times the logarithm of the number of members: how often an update is passed on. memberlist's default.
const RETRANSMIT_MULT: f64 = 4.0;
/// Time between two announcements to a random member, which answers with others that it knows.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(30);
/// Time between two announcements to members that are down. The TCP path tries them more often.
const ANNOUNCE_DOWN_INTERVAL: Duration = Duration::from_secs(65);
/// SWIM remembers the dead longer than they are shown, so that nobody brings them back as living.
pub(crate) const DEAD_KEPT: u32 = 2;

/// SWIM's parameters for a pool of `members` living members.
pub(crate) fn config(settings: &Settings, members: usize) -> Config {
    let members = members.max(1) as f64;
    let transmissions = RETRANSMIT_MULT * (members + 1.0).log10().ceil().max(1.0);
    let suspicion = f64::from(settings.suspicion_mult.max(1)) * members.log10().max(1.0);
    let every = |frequency, count| {
        Some(PeriodicParams {
            frequency,
            num_members: nonzero(count),
        })
    };
    Config {
        probe_period: settings.probe_interval,
        probe_rtt: settings.probe_timeout,
        num_indirect_probes: nonzero(FANOUT),
        max_transmissions: NonZeroU8::new(transmissions as u8).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: settings.probe_interval.mul_f64(suspicion),
        remove_down_after: Some(settings.reconnect_timeout.saturating_mul(DEAD_KEPT)),
        // As large as it may be sealed, whether it is or not: a pool that is being encrypted has both.
        max_packet_size: nonzero(DATAGRAM_MAX - DATAGRAM_OVERHEAD - sealed::DATAGRAM_OVERHEAD),
        notify_down_members: true,
        periodic_announce: every(ANNOUNCE_INTERVAL, 1),
        periodic_announce_to_down_members: every(ANNOUNCE_DOWN_INTERVAL, 1),
        periodic_gossip: every(settings.gossip_interval, FANOUT),
    }
}

fn nonzero(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN)
}

/// Collects what one call of foca wants done.
pub(crate) struct Outbox {
    own: Uuid,
    /// Where this node is, as an item; empty when it does not say that.
    place: Vec<u8>,
    /// What happened, in order.
    pub(crate) notes: Vec<OwnedNotification<Identity>>,
    /// What to send, sealed.
    pub(crate) datagrams: Vec<(SocketAddr, Vec<u8>)>,
    /// What to call again, and after how long.
    pub(crate) timers: Vec<(Timer<Identity>, Duration)>,
}

impl Outbox {
    /// An empty one for the node `own`.
    pub(crate) fn new(own: Uuid) -> Self {
        Self {
            own,
            place: Vec::new(),
            notes: Vec::new(),
            datagrams: Vec::new(),
            timers: Vec::new(),
        }
    }

    /// Sets what answers to probes say from now on.
    pub(crate) fn set_place(&mut self, place: &Coordinate) {
        self.place = Item::Coordinate(*place).encode();
    }
}

impl foca::Runtime<Identity> for Outbox {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        self.notes.push(notification.to_owned());
    }

    /// foca knows earlier lives of its own node as dead members; it need not announce itself to them.
    fn send_to(&mut self, to: Identity, data: &[u8]) {
        if to.id != self.own {
            let mut datagram = data.to_vec();
            if !self.place.is_empty() {
                add_to_answer(&mut datagram, &self.place);
            }
            self.datagrams.push((to.addr, seal_datagram(&datagram)));
        }
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        self.timers.push((event, after));
    }
}

/// What is to be done at its time.
#[derive(Debug)]
pub(crate) enum Due {
    /// foca's own.
    Swim(Timer<Identity>),
    /// Exchange all states with a random living member.
    PushPull,
    /// The same, once and out of turn.
    Sync,
    /// Try to reach a failed member.
    Reconnect,
    /// Forget who has been away for too long.
    Reap,
    /// Ask for a record that did not come by itself.
    Fetch {
        /// Whose.
        id: Uuid,
        /// How often it was asked for already.
        attempt: u32,
    },
    /// Ask a suspect over TCP once more.
    Check(Check),
    /// Write the snapshot file.
    Snapshot,
}

/// A suspect that is being asked over TCP whether it lives.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    /// The suspect.
    pub(crate) who: Identity,
    /// Its incarnation when it was suspected; a higher one refutes.
    pub(crate) incarnation: Incarnation,
    /// foca's token of that moment.
    pub(crate) token: TimerToken,
    /// Whether somebody else declared it dead, rather than a probe from here being unanswered.
    pub(crate) rumour: bool,
    /// How often its machine has refused the connection.
    pub(crate) refusals: u32,
}

impl Check {
    /// What makes foca declare the suspect dead.
    pub(crate) fn verdict(&self) -> Timer<Identity> {
        Timer::ChangeSuspectToDown {
            member_id: self.who.clone(),
            incarnation: self.incarnation,
            token: self.token,
        }
    }
}

/// Timers in order of time; of equal ones, the earlier set goes first.
#[derive(Default)]
pub(crate) struct Timers {
    due: BTreeMap<(Instant, u64), Due>,
    count: u64,
}

impl Timers {
    /// Sets a timer.
    pub(crate) fn set(&mut self, at: Instant, due: Due) {
        self.count += 1;
        self.due.insert((at, self.count), due);
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    /// Takes the next one if its time has come, and how late it is.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(Duration, Due)> {
        let first = self.due.first_entry()?;
        let late = now.checked_duration_since(first.key().0)?;
        Some((late, first.remove()))
    }
}

/// How far this node's own slowness may be the reason for missing answers: 0 (not at all) to 8.
///
/// A node that is starved or was stopped for a while must not declare everybody else dead. The score rises whenever
/// a probe's timer fires late, falls with each probe on time, and stretches the time that suspects have.
#[derive(Default)]
pub(crate) struct Health(u32);

impl Health {
    const WORST: u32 = 8;

    /// Notes how late a probe's timer was.
    pub(crate) fn timer_was(&mut self, late: Duration, tolerated: Duration) {
        if late > tolerated {
            self.0 = (self.0 + 1).min(Self::WORST);
        } else {
            self.0 = self.0.saturating_sub(1);
        }
    }

    /// The score.
    pub(crate) fn score(&self) -> u32 {
        self.0
    }

    /// The time that a suspect has to speak up.
    pub(crate) fn stretch(&self, suspicion: Duration) -> Duration {
        suspicion * (1 + self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::lan(
            "A".to_owned(),
            Uuid::nil(),
            "127.0.0.1:0".parse().unwrap(),
            "unused".into(),
        )
    }

    #[test]
    fn suspects_have_four_probes_time_in_small_pools_and_more_in_large_ones() {
        let seconds = |members| {
            config(&settings(), members)
                .suspect_to_down_after
                .as_secs_f64()
        };
        assert_eq!(seconds(0), 4.0);
        assert_eq!(seconds(10), 4.0);
        assert_eq!(seconds(1000), 12.0);
    }

    #[test]
    fn updates_are_passed_on_more_often_in_large_pools() {
        let times = |members| config(&settings(), members).max_transmissions.get();
        assert_eq!((times(0), times(3), times(9), times(99)), (4, 4, 4, 8));
        assert!(times(usize::MAX) > 50);
    }

    #[test]
    fn timers_fire_in_order_and_only_when_due() {
        let mut timers = Timers::default();
        let start = Instant::now();
        let second = Duration::from_secs(1);
        timers.set(start + second * 2, Due::Reap);
        timers.set(start + second, Due::PushPull);
        timers.set(start + second, Due::Reconnect);
        assert!(timers.pop(start).is_none());
        let now = start + second.mul_f64(1.5);
        assert!(matches!(timers.pop(now), Some((late, Due::PushPull)) if late == second / 2));
        assert!(matches!(timers.pop(now), Some((_, Due::Reconnect))));
        assert!(timers.pop(now).is_none());
        assert_eq!(timers.next(), Some(start + second * 2));
    }

    #[test]
    fn late_timers_give_suspects_more_time_and_punctual_ones_take_it_back() {
        let mut health = Health::default();
        let second = Duration::from_secs(1);
        for _ in 0..20 {
            health.timer_was(second * 2, second);
        }
        assert_eq!(health.stretch(second), second * 9);
        health.timer_was(second, second);
        assert_eq!(health.score(), 7);
    }
}
