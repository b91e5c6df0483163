//! What the operator counts, and how `/metrics` says it: Prometheus' text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::crd::{
    ConsulClusterStatus, ConsulSnapshotSchedule, ConsulSnapshotScheduleStatus, condition,
};
use crate::driver::kube::Error;
use crate::plan::{Step, Waiting};

/// Every metric: name, kind, help. What is printed is here, and what is not here cannot be printed.
const METRICS: [(&str, &str, &str); 23] = [
    ("operator_leader", "gauge", "Whether this replica leads."),
    (
        "operator_clusters",
        "gauge",
        "Clusters that are looked after.",
    ),
    ("operator_reconciles_total", "counter", "Looks at clusters."),
    (
        "operator_reconcile_seconds",
        "histogram",
        "Time of one look at a cluster, answers of its agents included.",
    ),
    (
        "operator_reconcile_errors_total",
        "counter",
        "Looks that ended with an error, by its reason.",
    ),
    (
        "operator_steps_total",
        "counter",
        "Steps that were carried out, by their name.",
    ),
    (
        "operator_waits_total",
        "counter",
        "Looks that ended with something to be waited for, by what it was.",
    ),
    (
        "operator_status_writes_total",
        "counter",
        "Statuses that were written.",
    ),
    (
        "operator_wait_seconds_total",
        "counter",
        "Time between a look that had to wait and the next one that could go on, an upper bound of the operator's own delay.",
    ),
    (
        "operator_cluster_ready",
        "gauge",
        "Whether the cluster is as asked for, is one cluster, and serves.",
    ),
    (
        "operator_cluster_available",
        "gauge",
        "Whether the cluster has a leader with a quorum.",
    ),
    (
        "operator_cluster_stalled",
        "gauge",
        "Whether a person has to act.",
    ),
    (
        "operator_cluster_servers",
        "gauge",
        "Servers that are asked for.",
    ),
    (
        "operator_cluster_ready_servers",
        "gauge",
        "Servers that are caught-up voters.",
    ),
    (
        "operator_cluster_voters",
        "gauge",
        "Voters in the Raft configuration.",
    ),
    (
        "operator_cluster_foreign_servers",
        "gauge",
        "Servers of other clusters that gossip with this one.",
    ),
    (
        "operator_cluster_certificates_end_timestamp_seconds",
        "gauge",
        "When the first of the certificates that a cluster's agents show ends. Absent without TLS.",
    ),
    (
        "operator_backups_total",
        "counter",
        "Snapshots that ended, by result: verified or failed.",
    ),
    (
        "operator_backup_last_success_timestamp_seconds",
        "gauge",
        "When the last snapshot of a schedule was verified; 0 before the first.",
    ),
    (
        "operator_backup_next_timestamp_seconds",
        "gauge",
        "When the next snapshot of a schedule is due; 0 when none is.",
    ),
    (
        "operator_backup_failures",
        "gauge",
        "Snapshots of a schedule in a row, up to the last one, that failed.",
    ),
    (
        "operator_backup_kept",
        "gauge",
        "Verified snapshots of a schedule that are kept.",
    ),
    (
        "operator_backup_size_bytes",
        "gauge",
        "Size of a cluster's last verified snapshot.",
    ),
];

/// Upper bounds of the histogram's buckets, in seconds.
const BUCKETS: [f64; 8] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Name and labels.
type Series = (&'static str, String);
/// Gauges of one thing.
type Gauges = Vec<(&'static str, f64)>;
/// Namespace and name.
type Place = (String, String);

/// What is counted.
#[derive(Debug, Default)]
pub struct Counters {
    /// Looks at clusters.
    pub reconciles: AtomicU64,
    /// Statuses written.
    pub status_writes: AtomicU64,
    /// Clusters known.
    pub clusters: AtomicU64,
    /// Milliseconds between a look that had to wait and the next one, which could go on: at most so long was a step due
    /// and nobody looked.
    pub waited_millis: AtomicU64,
    labelled: Mutex<Labelled>,
}

#[derive(Debug, Default)]
struct Labelled {
    counts: BTreeMap<Series, u64>,
    buckets: [u64; BUCKETS.len()],
    looks: u64,
    seconds: f64,
    clusters: BTreeMap<Place, Gauges>,
    /// With the cluster that each is of.
    schedules: BTreeMap<Place, (String, Gauges)>,
}

/// The variant's name, as it is in files.
fn variant(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => name,
        Ok(Value::Object(object)) => object.keys().next().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

/// Why something failed, in a word.
fn reason(error: &Error) -> String {
    match error {
        Error::Api(error) => match &**error {
            kube::Error::Api(status) if !status.reason.is_empty() => status.reason.clone(),
            kube::Error::Api(status) => format!("status{}", status.code),
            _ => "ApiServerSilent".to_owned(),
        },
        Error::Agent(_) => "AgentRefused".to_owned(),
        Error::Changed(_) => "Changed".to_owned(),
        Error::Gone => "Gone".to_owned(),
        Error::Incomplete(_) => "Incomplete".to_owned(),
        Error::Deposed => "Deposed".to_owned(),
    }
}

/// A label's value, with what would end it early said otherwise.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text.replace('\n', "\\n"))
}

fn seconds(time: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>) -> f64 {
    // Whole seconds, far below 2^53.
    time.map_or(0.0, |time| time.0.as_second() as f64)
}

impl Counters {
    fn labelled(&self) -> MutexGuard<'_, Labelled> {
        self.labelled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, name: &'static str, label: &str, value: &str) {
        let mut labelled = self.labelled();
        let series = (name, format!("{label}={}", quoted(value)));
        *labelled.counts.entry(series).or_default() += 1;
    }

    /// A look took so long.
    pub fn looked(&self, took: Duration) {
        let mut labelled = self.labelled();
        let took = took.as_secs_f64();
        for (count, bound) in labelled.buckets.iter_mut().zip(BUCKETS) {
            *count += u64::from(took <= bound);
        }
        labelled.looks += 1;
        labelled.seconds += took;
    }

    /// A step was carried out, or something is waited for.
    pub fn stepped(&self, step: &Step) {
        match step {
            Step::Wait(waiting) => self.waits(waiting),
            Step::Steady | Step::Stalled(_) => {}
            other => self.count("operator_steps_total", "step", &variant(other)),
        }
    }

    fn waits(&self, waiting: &Waiting) {
        self.count("operator_waits_total", "for", &variant(waiting));
    }

    /// A look ended with an error.
    pub fn failed(&self, error: &Error) {
        let reason = reason(error);
        self.count("operator_reconcile_errors_total", "reason", &reason);
    }

    /// A snapshot ended.
    pub fn backup_ended(&self, good: bool) {
        let result = if good { "verified" } else { "failed" };
        self.count("operator_backups_total", "result", result);
    }

    /// What is known of a cluster.
    pub fn cluster(&self, place: &Place, wanted: i32, status: &ConsulClusterStatus) {
        let is = |name: &str| {
            let mut all = status.conditions.iter();
            let found = all.find(|c| c.type_ == name);
            f64::from(u8::from(found.is_some_and(|c| c.status == "True")))
        };
        let mut all = vec![
            ("operator_cluster_ready", is(condition::READY)),
            ("operator_cluster_available", is(condition::AVAILABLE)),
            ("operator_cluster_stalled", is(condition::STALLED)),
            ("operator_cluster_servers", f64::from(wanted)),
            (
                "operator_cluster_ready_servers",
                f64::from(status.ready_servers),
            ),
            ("operator_cluster_voters", f64::from(status.voters)),
            (
                "operator_cluster_foreign_servers",
                status.foreign.len() as f64,
            ),
        ];
        let security = status.security.as_ref();
        if let Some(ends) = security.and_then(|security| security.certificates_end.as_ref()) {
            let name = "operator_cluster_certificates_end_timestamp_seconds";
            all.push((name, seconds(Some(ends))));
        }
        if let Some(last) = &status.last_backup {
            all.push(("operator_backup_size_bytes", last.size_bytes as f64));
        }
        self.labelled().clusters.insert(place.clone(), all);
    }

    /// Nothing is known of a cluster any more: it is gone.
    pub fn forget_cluster(&self, place: &Place) {
        self.labelled().clusters.remove(place);
    }

    /// The same of all but these.
    pub fn retain_clusters(&self, known: &BTreeSet<Place>) {
        let mut labelled = self.labelled();
        labelled.clusters.retain(|place, _| known.contains(place));
    }

    /// What is known of a schedule.
    pub fn schedule(
        &self,
        namespace: &str,
        schedule: &ConsulSnapshotSchedule,
        status: &ConsulSnapshotScheduleStatus,
    ) {
        let name = schedule.metadata.name.clone().unwrap_or_default();
        let all = vec![
            (
                "operator_backup_last_success_timestamp_seconds",
                seconds(status.last_success_time.as_ref()),
            ),
            (
                "operator_backup_next_timestamp_seconds",
                seconds(status.next_time.as_ref()),
            ),
            ("operator_backup_failures", f64::from(status.failures)),
            ("operator_backup_kept", f64::from(status.kept)),
        ];
        let cluster = schedule.spec.cluster.clone();
        let place = (namespace.to_owned(), name);
        self.labelled().schedules.insert(place, (cluster, all));
    }

    /// Nothing is known of a schedule any more: it is gone.
    pub fn forget_schedule(&self, namespace: &str, name: &str) {
        let place = (namespace.to_owned(), name.to_owned());
        self.labelled().schedules.remove(&place);
    }

    /// The same of all but these.
    pub fn retain_schedules(&self, known: &BTreeSet<Place>) {
        let mut labelled = self.labelled();
        labelled.schedules.retain(|place, _| known.contains(place));
    }

    /// Names of all metrics, as they are scraped.
    pub fn names() -> Vec<String> {
        let parts = |(name, kind, _): &(&str, &str, &str)| match *kind {
            "histogram" => ["_bucket", "_sum", "_count"]
                .map(|part| format!("{name}{part}"))
                .to_vec(),
            _ => vec![(*name).to_owned()],
        };
        METRICS.iter().flat_map(parts).collect()
    }

    /// All of it as Prometheus' text.
    pub(super) fn text(&self, leads: bool) -> String {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let mut lines: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut put = |name: &'static str, labels: &str, value: f64| {
            let labels = match labels {
                "" => String::new(),
                labels => format!("{{{labels}}}"),
            };
            let line = format!("{name}{labels} {value}");
            lines.entry(name).or_default().push(line);
        };
        put("operator_leader", "", f64::from(u8::from(leads)));
        put("operator_clusters", "", read(&self.clusters));
        put("operator_reconciles_total", "", read(&self.reconciles));
        put(
            "operator_status_writes_total",
            "",
            read(&self.status_writes),
        );
        put(
            "operator_wait_seconds_total",
            "",
            read(&self.waited_millis) / 1000.0,
        );
        let labelled = self.labelled();
        for ((name, labels), count) in &labelled.counts {
            put(name, labels, *count as f64);
        }
        for ((namespace, cluster), all) in &labelled.clusters {
            let labels = format!(
                "namespace={},cluster={}",
                quoted(namespace),
                quoted(cluster)
            );
            all.iter()
                .for_each(|(name, value)| put(name, &labels, *value));
        }
        for ((namespace, schedule), (cluster, all)) in &labelled.schedules {
            let labels = format!(
                "namespace={},schedule={},cluster={}",
                quoted(namespace),
                quoted(schedule),
                quoted(cluster)
            );
            all.iter()
                .for_each(|(name, value)| put(name, &labels, *value));
        }
        let mut text = String::new();
        for (name, kind, help) in METRICS {
            // Writing to a string does not fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            if kind == "histogram" {
                labelled.histogram(name, &mut text);
            }
            for line in lines.remove(name).unwrap_or_default() {
                let _ = writeln!(text, "{line}");
            }
        }
        text
    }
}

impl Labelled {
    fn histogram(&self, name: &str, text: &mut String) {
        for (count, bound) in self.buckets.iter().zip(BUCKETS) {
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let Labelled { looks, seconds, .. } = self;
        let _ = writeln!(
            text,
            "{name}_bucket{{le=\"+Inf\"}} {looks}\n{name}_sum {seconds}\n{name}_count {looks}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_has_its_labels_and_stands_under_its_metric() {
        let counters = Counters::default();
        counters.stepped(&Step::Join {
            agent: "b".into(),
            to: "a".into(),
            address: "10.0.0.1".into(),
        });
        counters.stepped(&Step::Wait(Waiting::Leader));
        counters.failed(&Error::Changed("x".into()));
        counters.looked(Duration::from_millis(60));
        let status = ConsulClusterStatus {
            voters: 3,
            ..ConsulClusterStatus::default()
        };
        let place = ("prod".to_owned(), "de\"mo".to_owned());
        counters.cluster(&place, 3, &status);
        let text = counters.text(true);
        for wanted in [
            "# TYPE operator_leader gauge\noperator_leader 1\n",
            "# TYPE operator_steps_total counter\noperator_steps_total{step=\"join\"} 1\n",
            "operator_waits_total{for=\"leader\"} 1\n",
            "operator_reconcile_errors_total{reason=\"Changed\"} 1\n",
            "operator_reconcile_seconds_bucket{le=\"0.05\"} 0\n",
            "operator_reconcile_seconds_bucket{le=\"0.1\"} 1\n",
            "operator_reconcile_seconds_count 1\n",
            "operator_cluster_voters{namespace=\"prod\",cluster=\"de\\\"mo\"} 3\n",
        ] {
            assert!(text.contains(wanted), "{wanted}\n{text}");
        }
        counters.forget_cluster(&place);
        assert!(!counters.text(true).contains("prod"));
    }

    #[test]
    fn no_series_is_printed_without_its_metric() {
        let counters = Counters::default();
        let schedule = crate::crd::ConsulSnapshotSchedule::new(
            "s",
            serde_json::from_value(
                serde_json::json!({"cluster": "c", "schedule": "* * * * *", "destination": {}}),
            )
            .unwrap(),
        );
        counters.schedule("n", &schedule, &ConsulSnapshotScheduleStatus::default());
        counters.backup_ended(true);
        let text = counters.text(false);
        let known = Counters::names();
        let named = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split(['{', ' ']).next().unwrap());
        let named: std::collections::BTreeSet<_> = named.collect();
        assert!(named.contains("operator_backup_kept"));
        assert!(named.contains("operator_backups_total"));
        for name in named {
            assert!(known.iter().any(|known| known == name), "{name}");
        }
    }
}
