use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::load::write;
use super::scene::is_ready;
use super::watch::Event;
use super::{Kube, wait_for};

/// Server pods are told about by a watch, a little later than it happened.
const HEARD_LATE: Duration = Duration::from_secs(5);

/// Longest that a writer waits for one write. What is sent to a pod whose address is gone is answered by nobody: were it
/// longer than two servers take to be replaced, all writers would wait at once, and nobody would see that writes are taken.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// Pause between two writes of one writer.
const PAUSE: Duration = Duration::from_millis(10);

/// One write, and what came of it.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Number of the server that it was sent to.
    pub server: usize,
    /// Key.
    pub key: String,
    /// When it was sent.
    pub begun: Instant,
    /// When its outcome was known.
    pub ended: Instant,
    /// What was said instead of `true`; absent: it was acknowledged.
    pub failure: Option<String>,
}

/// One writer for each server, which never moves on to another: so it is seen which server failed a write, and when.
pub struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    attempts: Arc<Mutex<Vec<Attempt>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Writes to the first `servers` servers of `cluster`.
    pub fn start(kube: &Kube, namespace: &str, cluster: &str, servers: usize) -> Self {
        let (namespace, cluster) = (namespace.to_owned(), cluster.to_owned());
        Self::by(kube, servers, move |server, path| {
            vec![Kube::agent_path(
                &namespace,
                &format!("{cluster}-server-{server}"),
                path,
            )]
        })
    }

    /// The same, with each write tried at those paths, in their order, that `ways` gives for it.
    pub fn by(
        kube: &Kube,
        servers: usize,
        ways: impl Fn(usize, &str) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        let ways = Arc::new(ways);
        let (stop, acknowledged, attempts) = (Arc::default(), Arc::default(), Arc::default());
        let thread = |server: usize| {
            let (stop, acknowledged): (Arc<AtomicBool>, Arc<AtomicUsize>) =
                (Arc::clone(&stop), Arc::clone(&acknowledged));
            let attempts: Arc<Mutex<Vec<Attempt>>> = Arc::clone(&attempts);
            let (address, ways) = (kube.address(), Arc::clone(&ways));
            std::thread::spawn(move || {
                let mut connection = None;
                for serial in 0_usize.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("writers/{server}/{serial}");
                    let begun = Instant::now();
                    let mut failure = None;
                    for path in ways(server, &format!("/v1/kv/{key}")) {
                        failure = write(&mut connection, address, &path, &key, WRITE_LIMIT).err();
                        if failure.is_none() {
                            break;
                        }
                    }
                    if failure.is_none() {
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    attempts.lock().expect("no panic").push(Attempt {
                        server,
                        key,
                        begun,
                        ended: Instant::now(),
                        failure,
                    });
                    std::thread::sleep(PAUSE);
                }
            })
        };
        let threads = (0..servers).map(thread).collect();
        Self {
            stop,
            acknowledged,
            attempts,
            threads,
        }
    }

    /// Waits until `more` further writes have been acknowledged.
    ///
    /// # Panics
    /// When they are not.
    #[track_caller]
    pub fn wait_for_progress(&self, more: usize) {
        let from = self.acknowledged.load(Ordering::Relaxed);
        wait_for(&format!("{more} more writes are accepted"), || {
            let done = self.acknowledged.load(Ordering::Relaxed) - from;
            if done >= more { Ok(()) } else { Err(done) }
        });
    }

    /// Stops the writers, and checks that every acknowledged write is there, as `pod` reads it. All that was tried, in
    /// the order in which it ended.
    ///
    /// # Panics
    /// When one is lost.
    #[track_caller]
    pub fn check(self, kube: &Kube, namespace: &str, pod: &str) -> Vec<Attempt> {
        self.check_by(kube, |path| Kube::agent_path(namespace, pod, path))
    }

    /// The same, as whoever reads them by that way.
    ///
    /// # Panics
    /// When one is lost.
    #[track_caller]
    pub fn check_by(mut self, kube: &Kube, way: impl Fn(&str) -> String) -> Vec<Attempt> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a writer does not panic");
        }
        let attempts = std::mem::take(&mut *self.attempts.lock().expect("no panic"));
        let path = way("/v1/kv/writers/?keys");
        let keys = wait_for("the writes are read back", || kube.get(&path));
        let found: BTreeSet<&str> = keys
            .as_array()
            .expect("an array of keys")
            .iter()
            .filter_map(|key| key.as_str())
            .collect();
        let acknowledged = attempts.iter().filter(|one| one.failure.is_none());
        let lost: Vec<&str> = acknowledged
            .map(|one| one.key.as_str())
            .filter(|key| !found.contains(key))
            .collect();
        assert!(
            lost.is_empty(),
            "{} acknowledged writes are lost at {path}: {lost:?}",
            lost.len()
        );
        attempts
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Longest time for which no write was acknowledged by anybody, between the first and the last that was.
pub fn longest_gap(attempts: &[Attempt]) -> Duration {
    let mut ends: Vec<Instant> = attempts
        .iter()
        .filter(|one| one.failure.is_none())
        .map(|one| one.ended)
        .collect();
    ends.sort();
    let gaps = ends.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or_default()
}

/// Writes that failed though the server that they were sent to was there all the time, as [`away`] tells.
pub fn unexcused<'a>(
    attempts: &'a [Attempt],
    away: &BTreeMap<usize, Vec<(Instant, Instant)>>,
) -> Vec<&'a Attempt> {
    let excused = |one: &Attempt| {
        let times = away.get(&one.server).into_iter().flatten();
        times
            .into_iter()
            .any(|(from, to)| one.ended + HEARD_LATE >= *from && one.begun <= *to + HEARD_LATE)
    };
    attempts
        .iter()
        .filter(|one| one.failure.is_some() && !excused(one))
        .collect()
}

/// Times in which a server was on its way out or back, by its number, as a watch of its pods tells.
///
/// # Panics
/// When one did not come back.
pub fn away(events: &[Event], cluster: &str) -> BTreeMap<usize, Vec<(Instant, Instant)>> {
    let prefix = format!("{cluster}-server-");
    let mut since: BTreeMap<usize, Instant> = BTreeMap::new();
    let mut all: BTreeMap<usize, Vec<(Instant, Instant)>> = BTreeMap::new();
    for event in events {
        let pod = &event.object;
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let Some(number) = name.strip_prefix(&prefix).and_then(|n| n.parse().ok()) else {
            continue;
        };
        if event.what == "DELETED" || !is_ready(pod) {
            since.entry(number).or_insert(event.at);
        } else if let Some(since) = since.remove(&number) {
            all.entry(number).or_default().push((since, event.at));
        }
    }
    assert!(since.is_empty(), "these never came back: {since:?}");
    all
}
