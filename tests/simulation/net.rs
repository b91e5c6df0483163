//! The network of a simulation: datagrams that are lost, doubled and overtaken, and connections that behave like TCP.
//!
//! turmoil has a network too, but its connections lose what a partition swallows and then wait for it for ever, and each
//! refused connection takes a port away for good. Here, as in a kernel, bytes are sent again once the way is free, a
//! machine that lost its power is silent, one whose process died says so, and one that came back knows nothing of the
//! connections that it had.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use agent::env::{Random as _, SeededRandom};
use bytes::Bytes;

use self::connection::Connection;

mod connection;
mod socket;

pub(crate) use socket::SimNet;

/// Longest pause of TCP between two tries to send again. Linux's `TCP_RTO_MAX`.
const RESEND_MAX: Duration = Duration::from_secs(120);

/// What the air is like between any two hosts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// Shortest and longest time that a message takes. Datagrams overtake each other within it.
    pub(crate) latency: (Duration, Duration),
    /// How many of a thousand datagrams are lost. On a connection, each such loss costs time.
    pub(crate) lost: u64,
    /// How many of a thousand datagrams arrive twice.
    pub(crate) doubled: u64,
}

impl Weather {
    /// A good network.
    pub(crate) const FAIR: Weather = Weather {
        latency: (Duration::from_millis(1), Duration::from_millis(10)),
        lost: 0,
        doubled: 0,
    };
}

/// All hosts' network. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Network(Arc<Mutex<World>>);

/// What is known of the network from outside of all hosts.
struct World {
    random: SeededRandom,
    weather: Weather,
    now: Duration,
    hosts: BTreeMap<IpAddr, Machine>,
    /// Ways on which nothing arrives, and since when.
    cut: BTreeMap<(IpAddr, IpAddr), Duration>,
    connections: BTreeMap<u64, Connection>,
    datagrams: BTreeMap<(Duration, u64), Datagram>,
    /// Numbers connections and datagrams.
    serial: u64,
    /// Of everything that arrived anywhere: equal for equal runs.
    digest: DefaultHasher,
}

/// A host, as far as the network goes.
#[derive(Default)]
struct Machine {
    /// Without power it hears nothing and says nothing.
    dark: bool,
    /// Counted up by each start, so that connections of an earlier life are unknown.
    life: u64,
    next_port: u16,
    listeners: BTreeMap<u16, Listening>,
    udp: BTreeMap<u16, Mailbox>,
}

#[derive(Default)]
struct Listening {
    waiting: VecDeque<u64>,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Mailbox {
    waiting: VecDeque<(Bytes, SocketAddr)>,
    waker: Option<Waker>,
}

struct Datagram {
    from: SocketAddr,
    to: SocketAddr,
    data: Bytes,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World {
            random: SeededRandom::new(seed),
            weather: Weather::FAIR,
            now: Duration::ZERO,
            hosts: BTreeMap::new(),
            cut: BTreeMap::new(),
            connections: BTreeMap::new(),
            datagrams: BTreeMap::new(),
            serial: 0,
            digest: DefaultHasher::new(),
        })))
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.world().weather = weather;
    }

    /// Nothing that `from` sends reaches `to` from now on, what is under way included.
    pub(crate) fn cut_oneway(&self, from: IpAddr, to: IpAddr) {
        let mut world = self.world();
        let now = world.now;
        world.cut.entry((from, to)).or_insert(now);
    }

    /// Neither reaches the other.
    pub(crate) fn cut(&self, one: IpAddr, other: IpAddr) {
        self.cut_oneway(one, other);
        self.cut_oneway(other, one);
    }

    /// Both ways are free again.
    pub(crate) fn heal(&self, one: IpAddr, other: IpAddr) {
        let mut world = self.world();
        world.cut.remove(&(one, other));
        world.cut.remove(&(other, one));
    }

    /// Every way is free again.
    pub(crate) fn heal_all(&self) {
        self.world().cut.clear();
    }

    /// Breaks every connection of a host, as a firewall that forgets does.
    pub(crate) fn reset_connections(&self, host: IpAddr) {
        let mut world = self.world();
        let life = world.hosts.get(&host).map_or(0, |machine| machine.life);
        for connection in world.connections.values_mut() {
            connection.reset_all_of(host, life);
        }
    }

    /// The power is off: whatever the host's software still says in its last moment is not heard.
    pub(crate) fn darken(&self, host: IpAddr) {
        self.world().hosts.entry(host).or_default().dark = true;
    }

    /// The host begins a new life, with no sockets.
    pub(crate) fn boot(&self, host: IpAddr) {
        let mut world = self.world();
        let machine = world.hosts.entry(host).or_default();
        machine.dark = false;
        machine.life += 1;
        machine.listeners.clear();
        machine.udp.clear();
    }

    /// Delivers what has arrived by `now`.
    pub(crate) fn advance(&self, now: Duration) {
        let mut world = self.world();
        world.now = now;
        world.deliver_datagrams();
        world.deliver_segments();
    }

    /// The world's time: what has passed since the simulation began.
    pub(crate) fn now(&self) -> Duration {
        self.world().now
    }

    /// Of everything that has arrived anywhere.
    pub(crate) fn digest(&self) -> u64 {
        self.world().digest.finish()
    }

    /// What hangs, in words, for a scenario that waits in vain.
    pub(crate) fn cuts(&self) -> BTreeSet<(IpAddr, IpAddr)> {
        self.world().cut.keys().copied().collect()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        // A panic has ended the process before anybody else can look.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn latency(&self, from: IpAddr, to: IpAddr) -> Duration {
        if from == to {
            return Duration::ZERO;
        }
        let (min, max) = self.weather.latency;
        let spread = (max - min).as_micros() as u64;
        min + Duration::from_micros(self.random.below(spread + 1))
    }

    fn chance(&self, per_thousand: u64) -> bool {
        per_thousand > 0 && self.random.below(1000) < per_thousand
    }

    fn is_cut(&self, from: IpAddr, to: IpAddr) -> bool {
        self.cut.contains_key(&(from, to))
    }

    fn is_dark(&self, host: IpAddr) -> bool {
        self.hosts.get(&host).is_none_or(|machine| machine.dark)
    }

    fn life(&self, host: IpAddr) -> u64 {
        self.hosts.get(&host).map_or(0, |machine| machine.life)
    }

    fn send_datagram(&mut self, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        let local = from.ip() == to.ip();
        if self.is_dark(from.ip()) || (!local && self.chance(self.weather.lost)) {
            return;
        }
        let copies = if !local && self.chance(self.weather.doubled) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let due = self.now + self.latency(from.ip(), to.ip());
            let data = Bytes::copy_from_slice(data);
            let serial = self.serial();
            self.datagrams
                .insert((due, serial), Datagram { from, to, data });
        }
    }

    fn deliver_datagrams(&mut self) {
        while let Some(first) = self.datagrams.first_entry()
            && first.key().0 <= self.now
        {
            let Datagram { from, to, data } = first.remove();
            if self.is_cut(from.ip(), to.ip()) || self.is_dark(to.ip()) {
                continue;
            }
            (self.now, from, to, &data[..]).hash(&mut self.digest);
            let mailbox = self
                .hosts
                .get_mut(&to.ip())
                .and_then(|machine| machine.udp.get_mut(&to.port()));
            if let Some(mailbox) = mailbox {
                mailbox.waiting.push_back((data, from));
                if let Some(waker) = mailbox.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    fn deliver_segments(&mut self) {
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for id in ids {
            let Some(mut connection) = self.connections.remove(&id) else {
                continue;
            };
            for end in [0, 1] {
                while self.deliver_next(id, &mut connection, end) {}
            }
            if !connection.is_over() {
                self.connections.insert(id, connection);
            }
        }
    }
}
