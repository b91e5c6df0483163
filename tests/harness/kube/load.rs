use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Kube, wait_for};
use crate::http::Connection;

/// Longest one write may take before its outcome counts as unknown.
const WRITE_LIMIT: Duration = Duration::from_secs(15);

/// Pause between two writes: what is wanted is a write at every moment of the sequence, not a busy API server.
const PAUSE: Duration = Duration::from_millis(30);

/// One writer that goes on through everything, to whichever server takes the write, each key once.
pub struct KubeLoad {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    namespace: String,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    tried: AtomicUsize,
    /// Numbers of the writes that were answered with `true`: these must be there, for ever.
    acknowledged: Mutex<Vec<usize>>,
}

/// One write over the open connection, or over a new one; what was said instead of `true`. A connection that failed is
/// given up.
pub(super) fn write(
    connection: &mut Option<Connection>,
    address: SocketAddr,
    path: &str,
    value: &str,
    limit: Duration,
) -> Result<(), String> {
    let open = match connection.take() {
        Some(open) => Ok(open),
        None => Connection::open(address, limit),
    };
    let reply = open.and_then(|mut open| {
        let reply = open.request("PUT", path, value.as_bytes())?;
        *connection = Some(open);
        Ok(reply)
    });
    match reply {
        Ok(reply) if reply.status == 200 && reply.text().trim() == "true" => Ok(()),
        Ok(reply) => Err(format!("{}: {}", reply.status, reply.text())),
        Err(error) => Err(error.to_string()),
    }
}

impl KubeLoad {
    /// Writes to the servers of `cluster`, which need not exist yet.
    pub fn start(kube: &Kube, namespace: &str, cluster: &str, servers: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let pods: Vec<String> = (0..servers)
            .map(|n| format!("{cluster}-server-{n}"))
            .collect();
        let writer = std::thread::spawn({
            let (shared, namespace) = (Arc::clone(&shared), namespace.to_owned());
            let address = kube.address();
            move || {
                let mut connection = None;
                let mut pod = 0;
                while !shared.stop.load(Ordering::Relaxed) {
                    let number = shared.tried.fetch_add(1, Ordering::Relaxed);
                    let path = Kube::agent_path(
                        &namespace,
                        &pods[pod % pods.len()],
                        &format!("/v1/kv/load/{number}"),
                    );
                    match write(&mut connection, address, &path, &value(number), WRITE_LIMIT) {
                        Ok(()) => {
                            let mut all = shared.acknowledged.lock().expect("no panic");
                            all.push(number);
                        }
                        Err(_) => pod += 1,
                    }
                    std::thread::sleep(PAUSE);
                }
            }
        });
        Self {
            shared,
            writer: Some(writer),
            namespace: namespace.to_owned(),
        }
    }

    /// How many writes have been acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.shared.acknowledged.lock().expect("no panic").len()
    }

    /// Waits until `more` further writes have been acknowledged.
    ///
    /// # Panics
    /// When they are not.
    #[track_caller]
    pub fn wait_for_progress(&self, more: usize) {
        let from = self.acknowledged();
        wait_for(&format!("{more} more writes are accepted"), || {
            let done = self.acknowledged() - from;
            if done >= more { Ok(()) } else { Err(done) }
        });
    }

    /// Stops the writer, and checks that every acknowledged write is there, as `pod` reads it.
    ///
    /// # Panics
    /// When one is lost or changed.
    #[track_caller]
    pub fn check(mut self, kube: &Kube, pod: &str) {
        self.end();
        let acknowledged = self.shared.acknowledged.lock().expect("no panic").clone();
        let path = Kube::agent_path(&self.namespace, pod, "/v1/kv/load/?recurse");
        let list = wait_for("the writes are read back", || kube.get(&path));
        let found: std::collections::BTreeMap<&str, &str> = list
            .as_array()
            .expect("an array of entries")
            .iter()
            .filter_map(|entry| Some((entry["Key"].as_str()?, entry["Value"].as_str()?)))
            .collect();
        let lost: Vec<usize> = acknowledged
            .iter()
            .copied()
            .filter(|number| {
                let wanted = crate::load::base64(&value(*number));
                found.get(format!("load/{number}").as_str()) != Some(&wanted.as_str())
            })
            .collect();
        assert!(
            lost.is_empty(),
            "{} of {} acknowledged writes are lost or changed at {pod}: {lost:?}",
            lost.len(),
            acknowledged.len()
        );
        assert!(
            !acknowledged.is_empty(),
            "no write was ever acknowledged: nothing was checked"
        );
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(writer) = self.writer.take() {
            writer.join().expect("the writer does not panic");
        }
    }
}

impl Drop for KubeLoad {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn value(number: usize) -> String {
    format!("value of {number}")
}
