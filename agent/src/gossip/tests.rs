//! Several pool members in one process, on real sockets of the loopback.

use std::sync::atomic::AtomicU8;
use std::time::Instant;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

mod compare;
mod join;
mod leave;
mod partition;
mod restart;
mod user;

/// Only bounds a hang.
const HANG: Duration = Duration::from_secs(60);

/// A member under test and the folder that it remembers in.
struct Peer {
    gossip: Gossip,
    settings: Settings,
    folder: Arc<TempDir>,
}

/// Settings with short intervals, on a loopback address that no other member of this process has.
fn settings(name: &str, folder: &TempDir) -> Settings {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let host = NEXT.fetch_add(1, Ordering::Relaxed);
    let bind = SocketAddr::from(([127, 0, 3, host], 0));
    let snapshot = folder.path().join("serf/local.snapshot");
    Settings {
        tags: Tags::from([("role".to_owned(), "consul".to_owned())]),
        probe_interval: Duration::from_millis(60),
        probe_timeout: Duration::from_millis(30),
        gossip_interval: Duration::from_millis(20),
        ..Settings::lan(name.to_owned(), Env::real().random.uuid(), bind, snapshot)
    }
}

impl Peer {
    async fn new(name: &str) -> Self {
        Self::with(name, |_| {}).await
    }

    async fn with(name: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let mut settings = settings(name, &folder);
        change(&mut settings);
        Self::start(settings, folder).await
    }

    async fn start(settings: Settings, folder: Arc<TempDir>) -> Self {
        Self::start_in(Env::real(), settings, folder).await
    }

    async fn start_in(env: Env, settings: Settings, folder: Arc<TempDir>) -> Self {
        let gossip = start(env, settings).await.unwrap();
        let settings = gossip.settings().clone();
        Self {
            gossip,
            settings,
            folder,
        }
    }

    /// The same node again, after its end; with other settings where `change` says so.
    async fn again(&self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.settings.clone();
        change(&mut settings);
        Self::start(settings, Arc::clone(&self.folder)).await
    }

    fn address(&self) -> String {
        self.settings.advertise.to_string()
    }

    async fn join(&self, other: &Peer) -> Result<usize, JoinError> {
        self.gossip.join(&other.address(), 1).await
    }

    fn sees(&self, other: &Peer) -> Option<Arc<Member>> {
        self.gossip
            .members()
            .into_iter()
            .find(|member| member.id == other.settings.id)
    }

    fn status_of(&self, other: &Peer) -> Option<Status> {
        self.sees(other).map(|member| member.status)
    }

    /// Waits until `condition` holds for what this member sees.
    async fn until(&self, what: &str, condition: impl Fn(&Peer) -> bool) {
        let mut changes = self.gossip.watch();
        let wait = async {
            while !condition(self) {
                changes.changed().await.unwrap();
            }
        };
        if timeout(HANG, wait).await.is_err() {
            panic!(
                "{} never saw that {what}: {:#?}",
                self.settings.name,
                self.gossip.members()
            );
        }
    }

    async fn until_status(&self, other: &Peer, status: Status) {
        let what = format!("{} is {status}", other.settings.name);
        self.until(&what, |me| me.status_of(other) == Some(status))
            .await;
    }
}

/// A pool in which everybody sees everybody.
async fn pool(names: &[&str]) -> Vec<Peer> {
    let mut peers: Vec<Peer> = Vec::new();
    for name in names {
        let peer = Peer::new(name).await;
        if let Some(first) = peers.first() {
            assert_eq!(peer.join(first).await.unwrap(), 1);
        }
        peers.push(peer);
    }
    for peer in &peers {
        for other in &peers {
            peer.until_status(other, Status::Alive).await;
        }
    }
    peers
}

/// The events so far, as words.
fn words(events: &mut broadcast::Receiver<Event>) -> Vec<String> {
    let mut words = Vec::new();
    while let Ok(event) = events.try_recv() {
        let word = match &event {
            Event::Joined(_) => "joined",
            Event::Leaving(_) => "leaving",
            Event::Left(_) => "left",
            Event::Failed(_) => "failed",
            Event::Updated(_) => "updated",
            Event::Reaped(_) => "reaped",
        };
        words.push(format!("{word} {}", event.member().name));
    }
    words
}
