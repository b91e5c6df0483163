//! One TCP connection: two ends, each with what it has under way to the other.

use std::collections::VecDeque;
use std::hash::Hash as _;
use std::net::{IpAddr, SocketAddr};
use std::task::Waker;
use std::time::Duration;

use agent::env::Random as _;
use bytes::Bytes;

use super::{RESEND_MAX, World};

/// Bytes that may be under way, or arrived and not read, in one direction.
const WINDOW: usize = 256 * 1024;

/// Bytes that may be under way while nothing comes back that says that they have arrived.
const UNCONFIRMED: usize = 64 * 1024;

/// What goes over the wire.
#[derive(Debug, Hash)]
pub(super) enum Segment {
    /// The caller asks to be let in.
    Open,
    /// It is.
    Accept,
    Data(Bytes),
    /// No more will come from this end.
    End,
    /// The other end does not exist.
    Reset,
}

/// The server's end is 1.
pub(super) struct Connection {
    pub(super) ends: [End; 2],
}

pub(super) struct End {
    pub(super) addr: SocketAddr,
    /// Which life of its host it belongs to; `None` until the host has heard of it.
    life: Option<u64>,
    /// Whether somebody on the host still holds it.
    pub(super) held: bool,
    pub(super) established: bool,
    /// Broken: nothing more arrives or leaves.
    pub(super) reset: bool,
    /// The other end has said that it is done.
    pub(super) ended: bool,
    /// This end has said so.
    pub(super) shut: bool,
    outgoing: VecDeque<(Duration, Segment)>,
    pub(super) incoming: VecDeque<Bytes>,
    /// Bytes from here that the other end's software has not read.
    pub(super) unread: usize,
    /// Bytes that arrived there and of which nothing has come back to say so.
    unconfirmed: usize,
    /// Since when the first segment under way meets an obstacle.
    stalled: Option<Duration>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl End {
    fn new(addr: SocketAddr, life: Option<u64>) -> Self {
        Self {
            addr,
            life,
            held: life.is_some(),
            established: false,
            reset: false,
            ended: false,
            shut: false,
            outgoing: VecDeque::new(),
            incoming: VecDeque::new(),
            unread: 0,
            unconfirmed: 0,
            stalled: None,
            reader: None,
            writer: None,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.unread < WINDOW
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()]
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }

    fn break_off(&mut self) {
        self.reset = true;
        self.outgoing.clear();
        self.incoming.clear();
        self.wake();
    }
}

impl Connection {
    pub(super) fn new(from: SocketAddr, life: u64, to: SocketAddr) -> Self {
        Self {
            ends: [End::new(from, Some(life)), End::new(to, None)],
        }
    }

    /// Whether nobody will ever look at it again.
    pub(super) fn is_over(&self) -> bool {
        self.ends
            .iter()
            .all(|end| !end.held && (end.reset || end.outgoing.is_empty()))
    }

    /// Breaks both ends, if one of them is on `host` in this life.
    pub(super) fn reset_all_of(&mut self, host: IpAddr, life: u64) {
        let on_it = |end: &End| end.addr.ip() == host && end.life == Some(life);
        if self.ends.iter().any(on_it) {
            self.ends.iter_mut().for_each(End::break_off);
        }
    }

    /// Marks an end as held by software of its host's present life.
    pub(super) fn accepted(&mut self, life: u64) {
        self.ends[1].life = Some(life);
        self.ends[1].held = true;
        self.ends[1].established = true;
    }
}

impl World {
    /// Puts a segment on its way from `end` of a connection.
    pub(super) fn send(&mut self, connection: &mut Connection, end: usize, segment: Segment) {
        let (from, to) = (&connection.ends[end], &connection.ends[1 - end]);
        if from.reset || self.is_dark(from.addr.ip()) {
            return;
        }
        let mut due = self.now + self.latency(from.addr.ip(), to.addr.ip());
        if from.addr.ip() != to.addr.ip() && self.chance(self.weather.lost) {
            // Lost once, and sent again.
            due += Duration::from_millis(200);
        }
        if let Segment::Data(data) = &segment {
            connection.ends[end].unread += data.len();
        }
        connection.ends[end].outgoing.push_back((due, segment));
    }

    /// Delivers what `end` has sent first, if it is due and gets through; false when there is nothing more to do now.
    pub(super) fn deliver_next(
        &mut self,
        id: u64,
        connection: &mut Connection,
        end: usize,
    ) -> bool {
        let [from, to] = [
            connection.ends[end].addr.ip(),
            connection.ends[1 - end].addr.ip(),
        ];
        let sender = &mut connection.ends[end];
        if sender.life.is_some() && self.is_dark(from) {
            sender.outgoing.clear();
            return false;
        }
        let Some((due, _)) = sender.outgoing.front_mut() else {
            return false;
        };
        if *due > self.now {
            return false;
        }
        let back_is_cut = self.is_cut(to, from);
        let blocked = self.is_cut(from, to)
            || self.is_dark(to)
            || (back_is_cut && sender.unconfirmed > UNCONFIRMED);
        if blocked {
            sender.stalled.get_or_insert(self.now);
            return false;
        }
        if let Some(since) = sender.stalled.take() {
            // Sent again after a pause that has doubled for as long as nothing got through.
            let pause = (self.now - since).min(RESEND_MAX).as_millis() as u64;
            *due = self.now + Duration::from_millis(self.random.below(pause + 1));
            return true;
        }
        let Some((_, segment)) = sender.outgoing.pop_front() else {
            return false;
        };
        (self.now, id, end, &segment).hash(&mut self.digest);
        if let Segment::Data(data) = &segment {
            sender.unconfirmed = if back_is_cut {
                sender.unconfirmed + data.len()
            } else {
                0
            };
        }
        self.arrive(id, connection, 1 - end, segment);
        true
    }

    /// A segment reaches `end`.
    fn arrive(&mut self, id: u64, connection: &mut Connection, end: usize, segment: Segment) {
        let addr = connection.ends[end].addr;
        let life = self.life(addr.ip());
        if matches!(segment, Segment::Open) {
            let machine = self.hosts.entry(addr.ip()).or_default();
            match machine.listeners.get_mut(&addr.port()) {
                Some(listener) => {
                    connection.accepted(life);
                    listener.waiting.push_back(id);
                    if let Some(waker) = listener.waker.take() {
                        waker.wake();
                    }
                    self.send(connection, end, Segment::Accept);
                }
                None => self.send(connection, end, Segment::Reset),
            }
            return;
        }
        if matches!(segment, Segment::Reset) {
            connection.ends[end].break_off();
            return;
        }
        let unknown = connection.ends[end].life != Some(life);
        let receiver = &mut connection.ends[end];
        if unknown || !receiver.held || receiver.reset {
            // Of an earlier life, or closed: whoever is still there is told, once, when it sends something.
            let told = receiver.life.is_none();
            if !told && matches!(segment, Segment::Data(_) | Segment::End) {
                receiver.break_off();
                (receiver.reset, receiver.life) = (false, None);
                let back = self.now + self.latency(addr.ip(), connection.ends[1 - end].addr.ip());
                connection.ends[end]
                    .outgoing
                    .push_back((back, Segment::Reset));
            }
            return;
        }
        match segment {
            Segment::Accept => receiver.established = true,
            Segment::Data(data) => receiver.incoming.push_back(data),
            Segment::End => receiver.ended = true,
            Segment::Open | Segment::Reset => {}
        }
        receiver.wake();
    }
}
