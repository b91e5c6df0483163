use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use serde_json::Value;

use super::watch::Event;
use super::{Kube, POLL, Path, Watch};

/// Watches the rules that no moment may break, from outside, while a test does its worst:
///
/// - never two server pods with `-bootstrap` at a time,
/// - none is made with it once a second voter was seen,
/// - no server ever says that it belongs to another cluster than the first one said.
pub struct Invariants {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    watch: Option<Watch>,
    sampler: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Server pods that exist, by uid: name, and whether it carries the flag and has not ended.
    pods: BTreeMap<String, (String, bool)>,
    /// Every pod that ever carried the flag.
    flagged_ever: BTreeSet<String>,
    second_voter: bool,
    clusters: BTreeSet<String>,
    broken: Vec<String>,
}

impl Invariants {
    /// Watches the servers of one `ConsulCluster`.
    pub fn watch(kube: &Arc<Kube>, namespace: &str, cluster: &str) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let prefix = format!("{cluster}-server-");
        let watch = Watch::start(kube.address(), Path::PODS.list(namespace), {
            let seen = Arc::clone(&seen);
            move |event| locked(&seen).pod(&prefix, event)
        });
        let sampler = std::thread::spawn({
            let (seen, stop, kube) = (Arc::clone(&seen), Arc::clone(&stop), Arc::clone(kube));
            let namespace = namespace.to_owned();
            move || {
                while !stop.load(Ordering::Relaxed) {
                    sample(&kube, &namespace, &seen);
                    std::thread::sleep(POLL);
                }
            }
        });
        Self {
            seen,
            stop,
            watch: Some(watch),
            sampler: Some(sampler),
        }
    }

    /// How many pods ever carried the flag.
    pub fn flagged_ever(&self) -> usize {
        locked(&self.seen).flagged_ever.len()
    }

    /// Names of the pods that carry the flag now.
    pub fn flagged_now(&self) -> Vec<String> {
        locked(&self.seen).flagged_now()
    }

    /// The cluster that the servers say they belong to.
    pub fn cluster(&self) -> Option<String> {
        locked(&self.seen).clusters.first().cloned()
    }

    /// Ends the watch.
    ///
    /// # Panics
    /// When a rule was broken at any moment.
    #[track_caller]
    pub fn finish(mut self) {
        self.end();
        let seen = locked(&self.seen);
        assert!(
            seen.broken.is_empty(),
            "rules were broken: {:#?}",
            seen.broken
        );
        assert!(
            !seen.clusters.is_empty(),
            "no server was ever heard to belong to a cluster: nothing was watched"
        );
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(watch) = self.watch.take() {
            watch.stop();
        }
        if let Some(sampler) = self.sampler.take() {
            sampler.join().expect("the sampler does not panic");
        }
    }
}

impl Drop for Invariants {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if std::thread::panicking() {
            eprintln!("--- rules watched: {:#?}", locked(&self.seen));
        }
    }
}

impl Seen {
    fn pod(&mut self, prefix: &str, event: &Event) {
        let pod = &event.object;
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        if !name.starts_with(prefix) {
            return;
        }
        let uid = pod["metadata"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if event.what == "DELETED" {
            self.pods.remove(&uid);
            return;
        }
        let ended = matches!(
            pod["status"]["phase"].as_str(),
            Some("Succeeded" | "Failed")
        );
        let flagged = carries_flag(pod);
        if flagged && self.flagged_ever.insert(uid.clone()) && self.second_voter {
            self.broken.push(format!(
                "{name} ({uid}) was made with -bootstrap after a second voter was seen"
            ));
        }
        self.pods.insert(uid, (name.to_owned(), flagged && !ended));
        let flagged = self.flagged_now();
        if flagged.len() > 1 {
            self.broken
                .push(format!("two pods with -bootstrap at a time: {flagged:?}"));
        }
    }

    fn flagged_now(&self) -> Vec<String> {
        let flagged = self.pods.values().filter(|(_, flagged)| *flagged);
        flagged.map(|(name, _)| name.clone()).collect()
    }
}

/// Whether a container of the pod is started with `-bootstrap`.
fn carries_flag(pod: &Value) -> bool {
    let containers = pod["spec"]["containers"].as_array();
    containers.into_iter().flatten().any(|container| {
        ["command", "args"].into_iter().any(|part| {
            let words = container[part].as_array().into_iter().flatten();
            let mut flags = words
                .filter_map(Value::as_str)
                .filter_map(|word| word.strip_prefix('-'))
                .map(|flag| flag.trim_start_matches('-'));
            flags.any(|flag| flag == "bootstrap" || flag == "bootstrap=true")
        })
    })
}

fn sample(kube: &Kube, namespace: &str, seen: &Mutex<Seen>) {
    let names: Vec<String> = {
        let seen = locked(seen);
        seen.pods.values().map(|(name, _)| name.clone()).collect()
    };
    for name in names {
        let Ok(own) = kube.agent(namespace, &name, "/v1/agent/self") else {
            continue;
        };
        let configuration = kube.agent(namespace, &name, "/v1/operator/raft/configuration?stale");
        let voters = configuration.map_or(0, |configuration| {
            let servers = configuration["Servers"].as_array();
            let voters = servers.into_iter().flatten().filter(|s| s["Voter"] == true);
            voters.count()
        });
        let mut seen = locked(seen);
        seen.second_voter |= voters >= 2;
        let cluster = own["Stats"]["consul"]["cluster_id"]
            .as_str()
            .unwrap_or_default();
        if !cluster.is_empty()
            && seen.clusters.insert(cluster.to_owned())
            && seen.clusters.len() > 1
        {
            let all = seen.clusters.clone();
            seen.broken.push(format!(
                "{name} belongs to another cluster; seen so far: {all:?}"
            ));
        }
    }
}

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().expect("no panic while it is held")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::json;

    use super::*;

    fn event(what: &str, uid: &str, args: &[&str]) -> Event {
        Event {
            at: Instant::now(),
            what: what.into(),
            object: json!({
                "metadata": {"name": format!("c-server-{uid}"), "uid": uid},
                "spec": {"containers": [{"args": args}]},
                "status": {"phase": "Running"},
            }),
        }
    }

    #[test]
    fn the_flag_is_told_from_its_permit_and_its_expectation() {
        for (args, flagged) in [
            (&["agent", "-server", "-bootstrap"][..], true),
            (&["--bootstrap=true"], true),
            (
                &[
                    "-bootstrap-permit",
                    "A=b",
                    "-bootstrap-expect=3",
                    "-bootstrap=false",
                ],
                false,
            ),
        ] {
            assert_eq!(
                carries_flag(&event("ADDED", "0", args).object),
                flagged,
                "{args:?}"
            );
        }
    }

    #[test]
    fn two_flags_at_a_time_are_seen() {
        let mut seen = Seen::default();
        seen.pod("c-server-", &event("ADDED", "0", &["-bootstrap"]));
        seen.pod("c-server-", &event("DELETED", "0", &["-bootstrap"]));
        seen.pod("c-server-", &event("ADDED", "1", &["-bootstrap"]));
        assert!(seen.broken.is_empty());
        seen.pod("c-server-", &event("ADDED", "2", &["-bootstrap"]));
        assert_eq!(seen.broken.len(), 1);
    }

    #[test]
    fn a_flag_after_the_second_voter_is_seen() {
        let mut seen = Seen::default();
        seen.pod("c-server-", &event("ADDED", "0", &["-bootstrap"]));
        seen.second_voter = true;
        seen.pod("c-server-", &event("MODIFIED", "0", &["-bootstrap"]));
        assert!(
            seen.broken.is_empty(),
            "the first one keeps it until it is replaced"
        );
        seen.pod("c-server-", &event("DELETED", "0", &["-bootstrap"]));
        seen.pod("c-server-", &event("ADDED", "1", &["-bootstrap"]));
        assert_eq!(seen.broken.len(), 1);
    }
}
