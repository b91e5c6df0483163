//! Clients that keep a lock by a session with a TTL: never two at a time, and nobody loses it while it renews in time.
//!
//! A client can only trust a lock for as long as it knows that its session lives: a TTL from the moment at which it sent
//! the last renewal that was answered, by its own clock, which may be slower than the leader's by a fifth.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use agent::env::{Random as _, SeededRandom};
use tokio::task::spawn_local;
use tokio::time::sleep;

use crate::api::{Change, Client, Renewed, Written};
use crate::env::HostClock;
use agent::client::KvPut;

/// The TTL of the sessions, in the form of the API; hosts must allow it (`session_ttl_min`).
const TTL_TEXT: &str = "2s";
const TTL: Duration = Duration::from_secs(2);

/// The part of a TTL that clocks which differ by a fifth leave.
const fn usable(ttl: Duration) -> Duration {
    Duration::from_millis(ttl.as_millis() as u64 * 4 / 5)
}

const KEY: &str = "kept";

/// What all keepers share.
#[derive(Default)]
pub(crate) struct Lock {
    /// Who trusts that it has the lock, and until when in the world's time.
    trusted: RefCell<Option<(String, Duration)>>,
    /// How often it was taken.
    pub(crate) taken: Cell<u64>,
    pub(crate) stopped: Cell<bool>,
}

/// One client.
struct Keeper {
    name: String,
    api: Client,
    clock: HostClock,
    random: SeededRandom,
    lock: Rc<Lock>,
}

/// Starts one on the host that this runs on.
pub(crate) fn start(api: &Client, name: String, clock: &HostClock, lock: &Rc<Lock>, seed: u64) {
    let keeper = Keeper {
        name,
        api: api.clone(),
        clock: clock.clone(),
        random: SeededRandom::new(seed),
        lock: Rc::clone(lock),
    };
    spawn_local(async move {
        while !keeper.lock.stopped.get() {
            keeper.live().await;
        }
    });
}

impl Keeper {
    /// One session: takes the lock when it is free, keeps it for a while, and goes without a word.
    async fn live(&self) {
        let mut sent = self.clock.world();
        let Some(session) = self.api.session(Some(TTL_TEXT)).await else {
            sleep(Duration::from_millis(100 + self.random.below(200))).await;
            return;
        };
        let mut has = false;
        for _ in 0..2 + self.random.below(6) {
            has = has || self.acquire(&session).await;
            if has {
                self.trust(sent);
            }
            sleep(TTL / 8 + Duration::from_millis(self.random.below(TTL.as_millis() as u64 / 4)))
                .await;
            let asked = self.clock.world();
            match self.api.renew(&session).await {
                Renewed::Lives => sent = asked,
                Renewed::Gone => {
                    let lived = self.clock.world() - sent;
                    // Measured by the leader, whose clock may be the fastest.
                    assert!(
                        lived >= usable(TTL),
                        "a session of {} with a TTL of {TTL:?} was over after {lived:?}",
                        self.name
                    );
                    return;
                }
                Renewed::Unknown => {}
            }
        }
    }

    async fn acquire(&self, session: &str) -> bool {
        let put = KvPut {
            acquire: Some(session.to_owned()),
            ..KvPut::default()
        };
        let taken = self.api.change(KEY, Change::Put(&self.name, put)).await;
        matches!(taken, Written::Answered(true))
    }

    /// Trusts that it has the lock, if its session must still live after a message that was sent at `sent`.
    fn trust(&self, sent: Duration) {
        let now = self.clock.world();
        let until = sent + self.clock.in_the_world(usable(TTL));
        if until <= now {
            return;
        }
        let mut trusted = self.lock.trusted.borrow_mut();
        if let Some((other, until)) = &*trusted {
            assert!(
                *other == self.name || *until <= now,
                "{other} trusts to have the lock until {until:?}, and {} has it at {now:?}",
                self.name
            );
        }
        self.lock.taken.set(self.lock.taken.get() + 1);
        *trusted = Some((self.name.clone(), until));
    }
}
