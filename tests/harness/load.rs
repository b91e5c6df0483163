use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::http::{Connection, Http};
use crate::wait::{DEADLINE, eventually};

/// Longest one write may take before its outcome counts as unknown.
const WRITE_LIMIT: Duration = Duration::from_secs(15);

/// Writers that go on until they are stopped, each key once, each with a value of its own.
pub struct Load {
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    acknowledged: AtomicUsize,
    written: Mutex<Written>,
}

/// What came of the writes.
#[derive(Debug, Default)]
pub struct Written {
    /// Answered with `true`: these must be there, for ever.
    pub acknowledged: Vec<(String, String)>,
    /// Everything else: refused, or of unknown outcome.
    pub unknown: Vec<String>,
    /// Longest time between two acknowledged writes of one writer.
    pub longest_gap: Duration,
    /// How long each acknowledged write took.
    pub latencies: Vec<Duration>,
}

impl Load {
    /// Starts `writers` threads; each keeps to one agent and moves on to the next one when that fails it.
    pub fn start(agents: &[Http], writers: usize, prefix: &str) -> Self {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            acknowledged: AtomicUsize::new(0),
            written: Mutex::default(),
        });
        let writers = (0..writers)
            .map(|number| {
                let shared = Arc::clone(&shared);
                let agents = agents.to_vec();
                let prefix = format!("{prefix}/{number}");
                std::thread::spawn(move || write(&shared, &agents, number, &prefix))
            })
            .collect();
        Self { shared, writers }
    }

    /// How many writes have been acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until `more` further writes have been acknowledged.
    ///
    /// # Panics
    /// When they are not.
    #[track_caller]
    pub fn wait_for_progress(&self, more: usize) {
        let from = self.acknowledged();
        eventually(&format!("{more} more writes are accepted"), || {
            let done = self.acknowledged() - from;
            if done >= more { Ok(()) } else { Err(done) }
        });
    }

    /// Checks that every write acknowledged so far is there, as `agent` reads it in `mode`, while more are made.
    ///
    /// # Panics
    /// As [`Written::check`].
    #[track_caller]
    pub fn check(&self, agent: Http, prefix: &str, mode: &str) {
        let so_far = Written {
            acknowledged: self
                .shared
                .written
                .lock()
                .expect("writers do not panic")
                .acknowledged
                .clone(),
            ..Written::default()
        };
        so_far.check(agent, prefix, mode);
    }

    /// Stops the writers and gives back what came of their writes.
    ///
    /// # Panics
    /// When a writer panicked.
    pub fn stop(self) -> Written {
        self.shared.stop.store(true, Ordering::Relaxed);
        for writer in self.writers {
            writer.join().expect("writers do not panic");
        }
        std::mem::take(&mut self.shared.written.lock().expect("writers do not panic"))
    }
}

fn write(shared: &Shared, agents: &[Http], number: usize, prefix: &str) {
    let mut written = Written::default();
    let mut agent = number;
    let mut connection = None;
    let mut last = Instant::now();
    for serial in 0_usize.. {
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("{prefix}/{serial}");
        let value = format!("value of {key}");
        let address = agents[agent % agents.len()].address;
        let begun = Instant::now();
        let reply = match connection.take() {
            Some(open) => Ok(open),
            None => Connection::open(address, WRITE_LIMIT),
        }
        .and_then(|mut open| {
            let reply = open.request("PUT", &format!("/v1/kv/{key}"), value.as_bytes())?;
            Ok((open, reply))
        });
        match reply {
            Ok((open, reply)) if reply.status == 200 && reply.text().trim() == "true" => {
                connection = Some(open);
                written.longest_gap = written.longest_gap.max(last.elapsed());
                written.latencies.push(begun.elapsed());
                last = Instant::now();
                let mut all = shared.written.lock().expect("writers do not panic");
                all.acknowledged.push((key, value));
                shared.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            _ => {
                written.unknown.push(key);
                agent += 1;
                // Not to fill the log of unknown keys while nobody listens.
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    let mut all = shared.written.lock().expect("writers do not panic");
    all.unknown.append(&mut written.unknown);
    all.latencies.append(&mut written.latencies);
    all.longest_gap = all.longest_gap.max(written.longest_gap);
}

impl Written {
    /// Checks that every acknowledged write is there, as `agent` reads it in `mode` (empty, `stale`, `consistent`).
    ///
    /// # Panics
    /// When one is lost or changed.
    #[track_caller]
    pub fn check(&self, agent: Http, prefix: &str, mode: &str) {
        let path = format!("/v1/kv/{prefix}/?recurse&{mode}");
        let reply = eventually("the writes are read back", || {
            match agent.request_within(DEADLINE, "GET", &path, b"") {
                Ok(reply) if reply.status == 200 => Ok(reply),
                Ok(reply) => Err(format!("{} {}", reply.status, reply.text())),
                Err(e) => Err(e.to_string()),
            }
        });
        let json = reply.json();
        let found: std::collections::BTreeMap<&str, &str> = json
            .as_array()
            .expect("an array of entries")
            .iter()
            .filter_map(|entry| Some((entry["Key"].as_str()?, entry["Value"].as_str()?)))
            .collect();
        let lost: Vec<&str> = self
            .acknowledged
            .iter()
            .filter(|(key, value)| found.get(key.as_str()) != Some(&base64(value).as_str()))
            .map(|(key, _)| key.as_str())
            .collect();
        assert!(
            lost.is_empty(),
            "{} of {} acknowledged writes are lost or changed at {}, first {:?}",
            lost.len(),
            self.acknowledged.len(),
            agent.address,
            &lost[..lost.len().min(5)]
        );
    }
}

/// Writes one key again and again until some agent accepts it; how long that took.
///
/// # Panics
/// When none does.
#[track_caller]
pub fn write_until_accepted(agents: &[Http], key: &str) -> Duration {
    let start = Instant::now();
    let path = format!("/v1/kv/{key}");
    for agent in agents.iter().cycle() {
        if matches!(agent.put(&path, "x"), Ok(reply) if reply.status == 200 && reply.text().trim() == "true")
        {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "no write was accepted");
        std::thread::sleep(Duration::from_millis(2));
    }
    start.elapsed()
}

pub(crate) fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let group = chunk
            .iter()
            .chain([0, 0].iter())
            .take(3)
            .fold(0_u32, |group, byte| group << 8 | u32::from(*byte));
        for position in 0..4 {
            if position <= chunk.len() {
                encoded.push(ALPHABET[(group >> (18 - 6 * position)) as usize & 63] as char);
            } else {
                encoded.push('=');
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_rfc_4648() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(plain), encoded);
        }
    }
}
