//! The task that owns foca, the datagram socket and the timers. Everything else asks it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use foca::{OwnedNotification, Timer, TimerToken};
use futures::future::BoxFuture;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::codec::{Codec, DATAGRAM_MAX, Exchange, FrameKind, open_datagram};
use super::events::View;
use super::identity::Identity;
use super::ledger::{Ledger, SharedLedger};
use super::snapshot::{Remembered, Snapshot, Writer};
use super::swim::{Check, Due, Health, Outbox, Swim, Timers, config};
use super::user::UserEvent;
use super::{JoinError, Settings, Shared, Tags};
use crate::coordinate::Vivaldi;
use crate::env::{Datagrams, Env};

mod check;
mod compare;
mod depart;
mod exchange;
mod own;
mod shown;

/// Datagrams that are taken in a row before timers have their turn. Data goes first, so that an answer that waits
/// in the socket counts before the timer that waits for it.
const BURST: u32 = 64;
/// Pools up to this size pass news on at once. In larger ones that would be a flood whenever many change together,
/// and the next round of gossip is never far.
const SMALL_POOL: usize = 16;
/// How long changes are collected before the snapshot is written.
const SNAPSHOT_DELAY: Duration = Duration::from_millis(250);
/// How long to wait after an error of the socket.
const SOCKET_PAUSE: Duration = Duration::from_millis(10);
/// Where this node's time starts to count. Far from zero, so that what others saw before its start has a time.
const EPOCH: Duration = Duration::from_secs(1 << 32);

/// What the driver is asked to do: by the handle, by a stream, or by a task that it started itself.
pub(crate) enum Command {
    /// Hands out a request for an exchange.
    Request {
        kind: FrameKind,
        to: Option<Uuid>,
        reply: oneshot::Sender<Exchange>,
    },
    /// Takes the answer to a join; the reason if this side refuses it.
    Joined {
        answer: Exchange,
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Answers somebody's request, or says why not.
    Answer {
        kind: FrameKind,
        request: Exchange,
        reply: oneshot::Sender<Result<Exchange, String>>,
    },
    /// Replaces the own tags.
    SetTags {
        tags: Tags,
        reply: oneshot::Sender<()>,
    },
    /// Tells everybody that this node is about to leave.
    AnnounceLeaving { reply: oneshot::Sender<()> },
    /// Tells everybody that this node has left, and goes silent.
    Leave { reply: oneshot::Sender<()> },
    /// The second half of `Leave`, once others know.
    Depart { reply: oneshot::Sender<()> },
    /// Declares that a member has left, or shall be forgotten. Whether there is one of that name.
    ForceLeave {
        name: String,
        prune: bool,
        reply: oneshot::Sender<bool>,
    },
    /// Tells everybody of a user event, this node included.
    Fire {
        event: UserEvent,
        reply: oneshot::Sender<()>,
    },
    /// Hands out the members to contact after a restart.
    Remembered {
        reply: oneshot::Sender<Vec<(Uuid, Remembered)>>,
    },
    /// An exchange that the driver started is over.
    Exchanged {
        why: Why,
        result: Result<Exchange, JoinError>,
    },
    /// A snapshot was written, or not.
    SnapshotWritten(std::io::Result<()>),
    /// Stops without a word.
    Shutdown { reply: oneshot::Sender<()> },
}

/// Why the driver started an exchange.
#[derive(Debug)]
pub(crate) enum Why {
    /// Nothing that its end has to be told for.
    Routine,
    /// To see whether both know the same.
    Compare { with: Identity },
    /// A record is missing.
    Fetch { id: Uuid, attempt: u32 },
    /// A member is suspected to be dead.
    Check(Check),
}

/// How far this node is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    /// Has said that it will leave.
    Leaving,
    /// Is saying that it has left.
    Departing,
    /// Takes no part any more.
    Left,
}

/// The driver's state.
pub(crate) struct Driver {
    env: Env,
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    swim: Swim,
    outbox: Outbox,
    /// The own incarnation, kept up to date by the codec.
    incarnation: Arc<AtomicU16>,
    /// The own identity as it was last told to others; foca may have changed it since.
    identity: Identity,
    instance: u64,
    ledger: SharedLedger,
    vivaldi: Vivaldi,
    view: View,
    socket: Arc<dyn Datagrams>,
    timers: Timers,
    health: Health,
    phase: Phase,
    /// From handles. When all are gone, the driver ends.
    commands: mpsc::Receiver<Command>,
    /// From the driver's own tasks and from streams.
    requests: mpsc::Receiver<Command>,
    requests_in: mpsc::Sender<Command>,
    tasks: JoinSet<()>,
    started: Instant,
    /// Members whose shown state may be out of date.
    touched: BTreeSet<Uuid>,
    /// Members whose record is being fetched.
    fetching: BTreeSet<Uuid>,
    /// Whether somebody is being asked for all records that are missing.
    asking_around: bool,
    /// foca's newest token: its timers with another one are void.
    token: TimerToken,
    /// Suspects that are being asked over TCP.
    checking: BTreeSet<Uuid>,
    /// When this node was declared dead and came back.
    returns: Vec<Instant>,
    /// Living members for which foca is set up.
    sized_for: usize,
    remembered: BTreeMap<Uuid, Remembered>,
    writer: Writer,
    snapshot_due: bool,
    /// Whether the last one could not be written.
    snapshot_failed: bool,
    snapshots: u64,
}

/// What the driver is started with.
pub(crate) struct Parts {
    pub(crate) env: Env,
    pub(crate) settings: Arc<Settings>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) identity: Identity,
    pub(crate) socket: Arc<dyn Datagrams>,
    pub(crate) snapshot: Snapshot,
    pub(crate) writer: Writer,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) requests: mpsc::Receiver<Command>,
    pub(crate) requests_in: mpsc::Sender<Command>,
    /// Serves the streams of others, for as long as the driver runs.
    pub(crate) served: BoxFuture<'static, ()>,
}

impl Driver {
    /// A driver that knows itself only, and has shown that.
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            env,
            settings,
            shared,
            identity,
            socket,
            snapshot,
            writer,
            commands,
            requests,
            requests_in,
            served,
        } = parts;
        let mut tasks = JoinSet::new();
        tasks.spawn(served);
        let ledger = SharedLedger::new(Ledger::new(settings.id));
        let incarnation = Arc::<AtomicU16>::default();
        let swim = Swim::with_custom_broadcast(
            identity.clone(),
            config(&settings, 1),
            seeded(&env),
            Codec {
                incarnation: Arc::clone(&incarnation),
                ledger: ledger.clone(),
            },
            ledger.clone(),
        );
        let mut driver = Self {
            instance: env.random.next_u64(),
            outbox: Outbox::new(settings.id),
            env,
            settings,
            shared,
            swim,
            incarnation,
            identity: identity.clone(),
            ledger,
            vivaldi: Vivaldi::default(),
            view: View::new(),
            socket,
            timers: Timers::default(),
            health: Health::default(),
            phase: Phase::Running,
            commands,
            requests,
            requests_in,
            tasks,
            started: Instant::now(),
            touched: BTreeSet::new(),
            fetching: BTreeSet::new(),
            asking_around: false,
            token: 0,
            checking: BTreeSet::new(),
            returns: Vec::new(),
            sized_for: 1,
            remembered: snapshot.members,
            writer,
            snapshot_due: false,
            snapshot_failed: false,
            // The start has written the first one.
            snapshots: 1,
        };
        let now = driver.now();
        driver.view.up(&identity, now);
        let tags = driver.settings.tags.clone();
        driver.write_own_record(tags);
        if driver.settings.coordinates {
            driver.outbox.set_place(driver.vivaldi.coordinate());
        }
        driver.set_periodic_timers();
        driver.refresh();
        driver
    }

    /// Runs until told to shut down, or until all handles are gone.
    pub(crate) async fn run(mut self) {
        let stopped = self.turn().await;
        if self.snapshot_due {
            // Also waits for a write that is going on: the next start must not be overtaken by it.
            let snapshot = self.snapshot();
            if let Err(e) = self.writer.write(self.snapshots + 1, &snapshot).await {
                tracing::warn!(target: "serf", "cannot write the gossip snapshot: error={e}");
            }
        }
        self.tasks.shutdown().await;
        drop(self);
        if let Some(reply) = stopped {
            let _ = reply.send(());
        }
    }

    /// The loop. Returns who is to be told that it has ended.
    async fn turn(&mut self) -> Option<oneshot::Sender<()>> {
        let mut buffer = vec![0; DATAGRAM_MAX + 1];
        let mut burst = 0;
        loop {
            self.settle().await;
            if burst >= BURST {
                burst = 0;
                self.fire();
                continue;
            }
            let next = self.timers.next();
            let socket = Arc::clone(&self.socket);
            tokio::select! {
                // A fixed order: random choice would make simulated runs differ.
                biased;
                command = self.commands.recv() => match command {
                    None => return None,
                    Some(Command::Shutdown { reply }) => return Some(reply),
                    Some(command) => self.obey(command),
                },
                Some(command) = self.requests.recv() => self.obey(command),
                received = socket.recv_from(&mut buffer) => {
                    burst += 1;
                    match received {
                        Ok((length, from)) => self.receive(&buffer[..length], from),
                        Err(e) => {
                            tracing::debug!(target: "serf", "cannot receive: error={e}");
                            sleep(SOCKET_PAUSE).await;
                        }
                    }
                }
                () = wait_until(next) => {
                    burst = 0;
                    self.fire();
                }
                Some(_) = self.tasks.join_next(), if !self.tasks.is_empty() => {}
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Request { kind, to, reply } => {
                let _ = reply.send(self.request(kind, to));
            }
            Command::Joined { answer, reply } => {
                let _ = reply.send(self.joined(answer));
            }
            Command::Answer {
                kind,
                request,
                reply,
            } => {
                let _ = reply.send(self.answer(kind, request));
            }
            Command::SetTags { tags, reply } => {
                self.set_tags(tags);
                // The sender learns of it once the new tags are shown.
                self.refresh();
                let _ = reply.send(());
            }
            Command::AnnounceLeaving { reply } => self.announce_leaving(reply),
            Command::Leave { reply } => self.leave(reply),
            Command::Depart { reply } => self.depart(reply),
            Command::ForceLeave { name, prune, reply } => {
                let found = self.force_leave(&name, prune);
                self.refresh();
                let _ = reply.send(found);
            }
            Command::Fire { event, reply } => {
                self.fire_event(event);
                let _ = reply.send(());
            }
            Command::Remembered { reply } => {
                let remembered = self.remembered.clone().into_iter().collect();
                let _ = reply.send(remembered);
            }
            Command::Exchanged { why, result } => self.exchanged(why, result),
            Command::SnapshotWritten(result) => {
                // Once, however long the disk stays full; tried again and again.
                let failed_before = std::mem::replace(&mut self.snapshot_failed, result.is_err());
                if let Err(e) = result {
                    if !failed_before {
                        tracing::error!(target: "serf", "cannot write the gossip snapshot, will retry: error={e}");
                    }
                    self.remember_soon();
                }
            }
            // Taken by the loop already.
            Command::Shutdown { .. } => {}
        }
    }

    fn receive(&mut self, datagram: &[u8], from: SocketAddr) {
        if self.phase == Phase::Left {
            // foca would take the news of its own death as a reason to return.
            return;
        }
        let result = match open_datagram(datagram) {
            Ok(data) => self
                .swim
                .handle_data(data, &mut self.outbox)
                .map_err(|e| e.to_string()),
            Err(e) => {
                self.shared.note_version(from, &e);
                Err(e.to_string())
            }
        };
        self.measure();
        let news = !self.outbox.notes.is_empty() || self.ledger.lock().has_news();
        if news && self.sized_for <= SMALL_POOL {
            self.gossip();
        }
        if let Err(reason) = result {
            self.shared
                .datagrams_dropped
                .fetch_add(1, Ordering::Relaxed);
            tracing::debug!(target: "serf", "dropped a datagram: error={reason}");
        }
    }

    /// Does the next thing that is due, if any.
    fn fire(&mut self) {
        let Some((late, due)) = self.timers.pop(Instant::now()) else {
            return;
        };
        match due {
            Due::Swim(timer) => {
                match &timer {
                    Timer::ProbeRandomMember(_) => {
                        self.health.timer_was(late, self.settings.probe_timeout);
                    }
                    // foca would tell a member that has refuted the suspicion to start a new life.
                    Timer::ChangeSuspectToDown {
                        member_id,
                        incarnation,
                        ..
                    } if !self.is_suspect(member_id, *incarnation) => return,
                    _ => {}
                }
                let result = self.swim.handle_timer(timer, &mut self.outbox);
                log_failure("timer", result);
            }
            Due::PushPull => self.push_pull(),
            Due::Sync => self.sync(),
            Due::Reconnect => self.reconnect(),
            Due::Reap => self.reap(),
            Due::Fetch { id, attempt } => self.fetch(id, attempt),
            Due::Check(check) => self.check(check),
            Due::Snapshot => self.write_snapshot(),
        }
    }

    /// Carries out what foca and the ledger want after something happened, until they want nothing more.
    async fn settle(&mut self) {
        loop {
            self.schedule();
            self.refresh();
            self.look_into_rumours();
            if !self.contradict() && self.swim.identity() == &self.identity {
                break;
            }
            self.adopt_identity();
        }
        self.resize();
        for (to, datagram) in std::mem::take(&mut self.outbox.datagrams) {
            if let Err(e) = self.socket.send_to(&datagram, to).await {
                tracing::debug!(target: "serf", "cannot send: to={to} error={e}");
            }
        }
        let backlog = self.swim.custom_broadcast_backlog() as u64;
        self.shared.intent_queue.store(backlog, Ordering::Relaxed);
        let score = u64::from(self.health.score());
        self.shared.health_score.store(score, Ordering::Relaxed);
    }

    /// Sets foca's timers.
    fn schedule(&mut self) {
        for (timer, mut after) in std::mem::take(&mut self.outbox.timers) {
            match &timer {
                Timer::ProbeRandomMember(token) => self.token = *token,
                Timer::ChangeSuspectToDown {
                    member_id,
                    incarnation,
                    token,
                } => {
                    after = self.health.stretch(after);
                    self.suspect(Check {
                        who: member_id.clone(),
                        incarnation: *incarnation,
                        token: *token,
                        rumour: false,
                        refusals: 0,
                    });
                }
                _ => {}
            }
            self.set_timer(after, Due::Swim(timer));
        }
    }

    /// Takes foca's notifications over into the view.
    fn absorb(&mut self) {
        let now = self.now();
        for note in std::mem::take(&mut self.outbox.notes) {
            match note {
                OwnedNotification::MemberUp(who) if who.id != self.settings.id => {
                    self.view.up(&who, now);
                    self.ledger.lock().set_living(&who);
                    self.touched.insert(who.id);
                }
                OwnedNotification::MemberDown(who) if who.id != self.settings.id => {
                    self.vivaldi.forget(who.id);
                    self.view.down(&who, now);
                    self.ledger.lock().set_dead(who.id);
                    self.touched.insert(who.id);
                }
                OwnedNotification::Rename(_, who) if who.id != self.settings.id => {
                    if self.view.renamed(&who) {
                        self.ledger.lock().set_living(&who);
                    }
                    self.touched.insert(who.id);
                }
                OwnedNotification::Idle => {
                    tracing::debug!(target: "serf", "no other member is alive");
                }
                OwnedNotification::Rejoin(who) => self.returned(&who),
                OwnedNotification::Defunct if self.phase != Phase::Left => {
                    tracing::error!(target: "serf", "declared dead, and no generation is left to return in");
                }
                _ => {}
            }
        }
    }

    /// Brings what is shown up to date and tells about the changes.
    fn refresh(&mut self) {
        self.absorb();
        let now = self.now();
        let mut ledger = self.ledger.lock();
        ledger.set_now(now);
        self.touched.extend(ledger.take_touched());
        let touched = std::mem::take(&mut self.touched);
        let said = ledger.user.take_new();
        let clock = ledger.user.clock();
        let mut events = Vec::new();
        let mut missing = Vec::new();
        for id in touched {
            events.extend(self.view.refresh(id, &ledger));
            if let Some((identity, true)) = self.view.seen(id)
                && ledger.wants_record(identity)
            {
                missing.push(id);
            }
        }
        drop(ledger);
        self.shared.publish_user_events(said, clock);
        for id in missing {
            self.fetch_soon(id);
        }
        if !events.is_empty() {
            self.publish(events);
        }
    }

    /// Follows the size of the pool with foca's parameters.
    fn resize(&mut self) {
        let members = self.swim.num_members() + 1;
        if members != self.sized_for {
            self.sized_for = members;
            let config = config(&self.settings, members);
            log_failure("change of parameters", self.swim.set_config(config));
        }
    }

    fn set_timer(&mut self, after: Duration, due: Due) {
        self.timers.set(Instant::now() + after, due);
    }

    fn now(&self) -> Duration {
        EPOCH + self.started.elapsed()
    }

    /// A random index below `length`, if there is any.
    fn pick(&self, length: usize) -> Option<usize> {
        (length > 0).then(|| self.env.random.below(length as u64) as usize)
    }
}

/// foca's errors are about single calls; none of them stops the protocol.
fn log_failure<T>(what: &str, result: Result<T, foca::Error>) {
    if let Err(e) = result {
        tracing::warn!(target: "serf", "gossip {what} failed: error={e}");
    }
}

/// A generator for foca, whose choices repeat when the environment's do.
fn seeded(env: &Env) -> StdRng {
    let mut seed = [0; 32];
    for chunk in seed.chunks_mut(8) {
        chunk.copy_from_slice(&env.random.next_u64().to_be_bytes());
    }
    StdRng::from_seed(seed)
}

async fn wait_until(next: Option<Instant>) {
    match next {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
