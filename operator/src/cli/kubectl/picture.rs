//! A cluster as text for a terminal. Pure: the time is given.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::crd::{
    ConsulCluster, ConsulClusterStatus, ConsulSnapshotSchedule, MemberRole, MemberStatus, Security,
    condition,
};
use crate::observe::Answers;

/// All that is shown.
pub(super) struct Seen<'a> {
    pub(super) cluster: &'a ConsulCluster,
    pub(super) pods: &'a [Pod],
    /// What the agents said just now, by node name; a server that is missing did not answer, or may not be asked.
    pub(super) answers: &'a BTreeMap<String, Answers>,
    pub(super) schedules: &'a [ConsulSnapshotSchedule],
    pub(super) now: Timestamp,
}

/// How long ago, in the unit that a person would take.
pub(super) fn span(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().abs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Bytes for people.
fn size(bytes: i64) -> String {
    const UNITS: [(&str, i64); 3] = [("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)];
    for (unit, one) in UNITS {
        if bytes >= one {
            return format!("{}.{} {unit}", bytes / one, bytes % one * 10 / one);
        }
    }
    format!("{bytes} B")
}

/// Columns as wide as what stands in them.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The whole picture.
pub(super) fn draw(seen: &Seen<'_>) -> String {
    let status = seen.cluster.status.clone().unwrap_or_default();
    let mut text = head(seen, &status);
    text.push('\n');
    text.push_str(&servers(seen, &status));
    text.push('\n');
    text.push_str(&state(seen, &status));
    text
}

fn head(seen: &Seen<'_>, status: &ConsulClusterStatus) -> String {
    let metadata = &seen.cluster.metadata;
    let name = metadata.name.as_deref().unwrap_or_default();
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let phase = match status.phase {
        Some(phase) => format!("{phase:?}"),
        None => "not looked at yet".to_owned(),
    };
    let mut text = format!("{name} in {namespace}: {phase}\n");
    let id = status.cluster_id.as_deref().unwrap_or("not formed yet");
    text.push_str(&format!("cluster id   {id}\n"));
    let leader = status.leader.as_deref().unwrap_or("none");
    text.push_str(&format!("leader       {leader}\n"));
    let servers = seen.cluster.spec.servers;
    let mut line = format!(
        "servers      {} of {servers} are caught-up voters, {} voters in all",
        status.ready_servers, status.voters
    );
    if seen.cluster.spec.clients > 0 {
        line.push_str(&format!(
            "; {} of {} clients",
            status.clients, seen.cluster.spec.clients
        ));
    }
    text.push_str(&line);
    text.push('\n');
    if let Some(version) = &status.version {
        text.push_str(&format!("version      {version}\n"));
    }
    if let Some(security) = &status.security {
        text.push_str(&protection(security, seen.now));
    }
    if let Some(flagged) = &status.flagged {
        text.push_str(&format!(
            "bootstrap    {flagged} still runs with -bootstrap\n"
        ));
    }
    text
}

/// How far encryption and tokens are on, and what is being done about it.
fn protection(security: &Security, now: Timestamp) -> String {
    let Security {
        gossip,
        tls,
        acl,
        certificates_end,
        message,
    } = security;
    let mut text = format!("protection   gossip {gossip:?}, TLS {tls:?}, tokens {acl:?}");
    if let Some(Time(ends)) = certificates_end {
        let word = if *ends < now {
            "have been over for"
        } else {
            "end in"
        };
        text.push_str(&format!("; certificates {word} {}", span(now, *ends)));
    }
    text.push('\n');
    if let Some(message) = message {
        text.push_str(&format!("             {message}\n"));
    }
    text
}

fn servers(seen: &Seen<'_>, status: &ConsulClusterStatus) -> String {
    if status.members.is_empty() {
        return "no servers yet\n".to_owned();
    }
    let index = |member: &MemberStatus| {
        let answers = seen.answers.get(&member.name);
        let asked = answers.and_then(|answers| answers.raft.as_ref());
        let asked = asked.map(|raft| i64::try_from(raft.last_log_index).unwrap_or(i64::MAX));
        asked.or(member.last_log_index)
    };
    let most = status.members.iter().filter_map(index).max();
    let mut rows = vec![
        [
            "", "SERVER", "ROLE", "INDEX", "BEHIND", "POD", "ADDRESS", "NOTE",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for member in &status.members {
        let role = match member.role {
            Some(MemberRole::Leader) => "leader",
            Some(MemberRole::Voter) => "voter",
            Some(MemberRole::Learner) => "learner",
            Some(MemberRole::Left) => "left",
            Some(MemberRole::Foreign) => "foreign",
            None => "silent",
        };
        let own = index(member);
        let number = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |v| v.to_string());
        let behind = most.zip(own).map(|(most, own)| most - own);
        let mark = match member.role {
            Some(MemberRole::Leader) => "*",
            _ => "",
        };
        rows.push(vec![
            mark.to_owned(),
            member.name.clone(),
            role.to_owned(),
            number(own),
            number(behind),
            pod(seen, member),
            member.address.clone().unwrap_or_default(),
            note(seen, member),
        ]);
    }
    let mut text = table(&rows);
    for foreign in &status.foreign {
        text.push_str(&format!(
            "of another cluster: {} at {} (never added, never touched)\n",
            foreign.name, foreign.address
        ));
    }
    text
}

fn find<'a>(seen: &Seen<'a>, member: &MemberStatus) -> Option<&'a Pod> {
    let name = member.pod.as_ref()?;
    seen.pods
        .iter()
        .find(|pod| pod.metadata.name.as_ref() == Some(name))
}

/// What the platform says of the pod, with its age.
fn pod(seen: &Seen<'_>, member: &MemberStatus) -> String {
    let Some(pod) = find(seen, member) else {
        return "none".to_owned();
    };
    let phase = match pod.metadata.deletion_timestamp {
        Some(_) => "Terminating",
        None => pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            .unwrap_or("Unknown"),
    };
    match &pod.metadata.creation_timestamp {
        Some(time) => format!("{phase} {}", span(time.0, seen.now)),
        None => phase.to_owned(),
    }
}

fn note(seen: &Seen<'_>, member: &MemberStatus) -> String {
    let mut notes = Vec::new();
    if member.bootstrap_flag {
        notes.push("-bootstrap".to_owned());
    }
    let statuses = find(seen, member).and_then(|pod| pod.status.as_ref());
    let containers = statuses
        .iter()
        .flat_map(|s| s.container_statuses.iter().flatten());
    for container in containers {
        if container.restart_count > 0 {
            notes.push(format!("{} restarts", container.restart_count));
        }
        let waiting = container.state.as_ref().and_then(|s| s.waiting.as_ref());
        if let Some(reason) = waiting.and_then(|waiting| waiting.reason.as_ref()) {
            notes.push(reason.clone());
        }
    }
    notes.join(", ")
}

fn state(seen: &Seen<'_>, status: &ConsulClusterStatus) -> String {
    let mut text = String::new();
    let said = |name: &str| status.conditions.iter().find(|c| c.type_ == name);
    let message = status.message.as_deref().unwrap_or("nothing is known yet");
    let verb = match said(condition::RECONCILING) {
        Some(c) if c.status == "True" && c.reason == "Waiting" => "waits for",
        _ => "step",
    };
    text.push_str(&format!("{verb:<12} {message}\n"));
    for name in [
        condition::READY,
        condition::BOOTSTRAPPED,
        condition::SINGLE_CLUSTER,
        condition::AVAILABLE,
        condition::STALLED,
    ] {
        let Some(found) = said(name) else { continue };
        let good = if name == condition::STALLED {
            "False"
        } else {
            "True"
        };
        if found.status == good && name != condition::READY {
            continue;
        }
        let since = span(found.last_transition_time.0, seen.now);
        text.push_str(&format!(
            "{:<12} {} for {since}: {} ({})\n",
            label(name),
            found.status.to_lowercase(),
            found.message,
            found.reason
        ));
    }
    if let Some(restored) = &status.restored {
        let message = restored.message.as_deref().unwrap_or_default();
        text.push_str(&format!("restored     {:?}: {message}\n", restored.phase));
    }
    text.push_str(&backups(seen, status));
    let seen_at = status.observed_generation;
    if seen_at.is_some() && seen_at != seen.cluster.metadata.generation {
        text.push_str("the operator has not looked at the newest spec yet\n");
    }
    text
}

/// What stands before a condition: as wide as the others, at most.
fn label(condition: &str) -> String {
    match condition {
        condition::SINGLE_CLUSTER => "one cluster".to_owned(),
        other => other.to_lowercase(),
    }
}

fn backups(seen: &Seen<'_>, status: &ConsulClusterStatus) -> String {
    let mut text = match &status.last_backup {
        Some(last) => format!(
            "backup       {} ago: {}, index {}, {}\n",
            span(last.time.0, seen.now),
            last.name.as_deref().unwrap_or("a snapshot"),
            last.index,
            size(last.size_bytes)
        ),
        None => "backup       none was ever verified\n".to_owned(),
    };
    for schedule in seen.schedules {
        let name = schedule.metadata.name.as_deref().unwrap_or_default();
        let status = schedule.status.clone().unwrap_or_default();
        let message = status.message.unwrap_or_default();
        text.push_str(&format!(
            "schedule     {name} ({}): {} kept; {message}\n",
            schedule.spec.schedule, status.kept
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::observe::Raft;

    /// Compares with the file, which `UPDATE=1` writes anew.
    fn golden(name: &str, text: &str) {
        let path = format!(
            "{}/src/cli/kubectl/golden/{name}.txt",
            env!("CARGO_MANIFEST_DIR")
        );
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        let wanted = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            text, wanted,
            "{path}: run the test with UPDATE=1 and look at what changed"
        );
    }

    fn now() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    fn cluster(status: serde_json::Value) -> ConsulCluster {
        let value = json!({
            "apiVersion": "consulcluster.dev/v1alpha1", "kind": "ConsulCluster",
            "metadata": {"name": "demo", "namespace": "prod", "generation": 2},
            "spec": {"servers": 3, "clients": 2}, "status": status,
        });
        serde_json::from_value(value).unwrap()
    }

    fn pod(number: usize, status: serde_json::Value) -> Pod {
        let value = json!({"metadata": {"name": format!("demo-server-{number}"), "creationTimestamp": "2026-11-23T09:00:00Z"}, "status": status});
        serde_json::from_value(value).unwrap()
    }

    fn running(number: usize) -> Pod {
        pod(number, json!({"phase": "Running"}))
    }

    fn member(number: usize, role: &str, index: i64) -> serde_json::Value {
        json!({"name": format!("demo-server-{number}"), "pod": format!("demo-server-{number}"), "role": role, "lastLogIndex": index, "address": format!("10.0.0.{number}")})
    }

    fn said(name: &str, status: &str, reason: &str, message: &str) -> serde_json::Value {
        json!({"type": name, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-11-23T11:58:30Z"})
    }

    #[test]
    fn a_cluster_at_rest() {
        let status = json!({
            "observedGeneration": 2, "phase": "Running", "message": "nothing to do", "clusterID": "6f2c1f7e-5f6b-4a0e-9d46-2f8f4d1b7a11",
            "servers": 3, "readyServers": 3, "voters": 3, "clients": 2, "leader": "demo-server-1", "version": "0.1.0",
            "members": [member(0, "voter", 90), member(1, "leader", 90), member(2, "voter", 90)],
            "lastBackup": {"name": "nightly-20261123-030000", "time": "2026-11-23T03:00:07Z", "index": 88, "sizeBytes": 1_590_000},
            "security": {
                "gossip": "Full", "tls": "Outgoing", "acl": "Prepared", "certificatesEnd": "2027-10-01T00:00:00Z",
                "message": "tokens of agents and of DNS are made",
            },
            "conditions": [said("Ready", "True", "AsWanted", "all servers are caught-up voters of one cluster"), said("Available", "True", "Leader", "x")],
        });
        let schedule = json!({
            "apiVersion": "consulcluster.dev/v1alpha1", "kind": "ConsulSnapshotSchedule", "metadata": {"name": "nightly"},
            "spec": {"cluster": "demo", "schedule": "0 3 * * *", "destination": {"pvc": {"claimName": "keep"}}},
            "status": {"kept": 7, "failures": 0, "message": "nightly-20261123-030000 is verified; the next one is due at 2026-11-24T03:00:00Z"},
        });
        let answers = |index: u64| Answers {
            raft: Some(Raft {
                last_log_index: index,
                ..Raft::default()
            }),
            ..Answers::default()
        };
        let answers = BTreeMap::from([
            ("demo-server-1".to_owned(), answers(1042)),
            ("demo-server-0".to_owned(), answers(1042)),
            ("demo-server-2".to_owned(), answers(1040)),
        ]);
        let text = draw(&Seen {
            cluster: &cluster(status),
            pods: &[running(0), running(1), running(2)],
            answers: &answers,
            schedules: &[serde_json::from_value(schedule).unwrap()],
            now: now(),
        });
        golden("at-rest", &text);
    }

    #[test]
    fn a_cluster_that_waits_in_the_middle_of_its_bootstrap() {
        let mut first = member(0, "leader", 30);
        first["bootstrapFlag"] = json!(true);
        let status = json!({
            "observedGeneration": 2, "phase": "Verifying", "message": "2 of 3 voters", "clusterID": "6f2c1f7e-5f6b-4a0e-9d46-2f8f4d1b7a11",
            "servers": 3, "readyServers": 2, "voters": 2, "leader": "demo-server-0", "flagged": "demo-server-0", "version": "0.1.0",
            "members": [first, member(1, "voter", 30), member(2, "learner", 12)],
            "foreign": [{"name": "stray", "address": "10.9.9.9"}],
            "conditions": [
                said("Ready", "False", "StepsRemain", "2 of 3 voters"), said("Reconciling", "True", "Waiting", "2 of 3 voters"),
                said("Bootstrapped", "False", "Flagged", "demo-server-0 runs with -bootstrap"), said("SingleCluster", "False", "Foreign", "stray"),
            ],
        });
        let waiting = json!({"phase": "Pending", "containerStatuses": [{"name": "agent", "image": "", "imageID": "", "ready": false, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
        let text = draw(&Seen {
            cluster: &cluster(status),
            pods: &[running(0), running(1), pod(2, waiting)],
            answers: &BTreeMap::new(),
            schedules: &[],
            now: now(),
        });
        golden("bootstrap", &text);
    }

    #[test]
    fn a_resource_that_nobody_has_looked_at() {
        let mut cluster = cluster(json!({}));
        cluster.status = None;
        let text = draw(&Seen {
            cluster: &cluster,
            pods: &[],
            answers: &BTreeMap::new(),
            schedules: &[],
            now: now(),
        });
        golden("nothing-yet", &text);
    }

    #[test]
    fn a_cluster_that_only_a_person_can_help() {
        let mut silent = member(2, "voter", 40);
        silent["role"] = json!(null);
        silent["pod"] = json!(null);
        let status = json!({
            "observedGeneration": 1, "phase": "Stalled", "message": "quorum lost: 1 of 3 voters answer", "clusterID": "6f2c1f7e-5f6b-4a0e-9d46-2f8f4d1b7a11",
            "servers": 3, "readyServers": 0, "voters": 3, "members": [member(0, "voter", 40), silent],
            "restored": {"phase": "Failed", "message": "no such file"},
            "conditions": [
                said("Ready", "False", "QuorumLost", "quorum lost: 1 of 3 voters answer"), said("Available", "Unknown", "NoAnswer", "no leader is known"),
                said("Stalled", "True", "QuorumLost", "quorum lost: 1 of 3 voters answer"),
            ],
        });
        let text = draw(&Seen {
            cluster: &cluster(status),
            pods: &[running(0)],
            answers: &BTreeMap::new(),
            schedules: &[],
            now: now(),
        });
        golden("stalled", &text);
    }

    #[test]
    fn spans_are_said_in_the_unit_that_a_person_would_take() {
        for (seconds, wanted) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7200, "2h"),
            (172_800, "2d"),
        ] {
            let from = now() - k8s_openapi::jiff::SignedDuration::from_secs(seconds);
            assert_eq!(span(from, now()), wanted);
        }
        assert_eq!(
            [size(12), size(1536), size(3 << 20)],
            ["12 B", "1.5 kB", "3.0 MB"]
        );
    }
}
