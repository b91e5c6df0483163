use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::Standing::{self, Differs, Missing, Same};
use super::word;

/// Verbs, ours in the order of the usage, then those that only Consul has.
const ROWS: &[(&str, Standing, &str)] = &[
    (
        "agent",
        Differs,
        "with `-bootstrap-permit` beside Consul's flags; what is not supported is refused or told of in the log",
    ),
    ("catalog", Same, ""),
    ("config", Same, ""),
    ("event", Same, ""),
    (
        "exec",
        Differs,
        "refused: this agent runs nobody's commands. Consul's is off by default",
    ),
    ("force-leave", Same, ""),
    (
        "info",
        Differs,
        "lines of its own beside Consul's; `runtime` tells of this program",
    ),
    ("intention", Same, ""),
    ("join", Same, ""),
    ("keygen", Same, ""),
    ("kv", Same, ""),
    ("leave", Same, ""),
    ("lock", Same, ""),
    ("maint", Same, ""),
    ("members", Same, ""),
    ("monitor", Same, ""),
    (
        "operator",
        Differs,
        "`raft` and `autopilot`; no `area`, no `usage`",
    ),
    ("reload", Same, ""),
    ("rtt", Same, ""),
    ("services", Same, ""),
    (
        "snapshot",
        Differs,
        "a format of its own; Consul's archives are refused. No `agent`, which is Enterprise's",
    ),
    ("validate", Same, ""),
    ("version", Same, ""),
    (
        "watch",
        Differs,
        "no `connect_roots`, `connect_leaf`, `agent_service`",
    ),
    ("acl", Missing, "access control is not there yet"),
    ("connect", Missing, "no sidecars, no certificate authority"),
    (
        "debug",
        Missing,
        "what it collects are profiles of the Go runtime",
    ),
    ("keyring", Missing, "gossip is not encrypted yet"),
    ("login", Missing, "as `acl`"),
    ("logout", Missing, "as `acl`"),
    ("peering", Missing, "one cluster only"),
    (
        "resource",
        Missing,
        "Consul's second catalog, an experiment there",
    ),
    ("tls", Missing, "use openssl or any other tool"),
    ("troubleshoot", Missing, "of Envoy's proxies"),
];

pub(super) fn missing() -> impl Iterator<Item = &'static str> {
    let missing = ROWS.iter().filter(|(_, standing, _)| *standing == Missing);
    missing.map(|(verb, _, _)| *verb)
}

pub(super) fn table(page: &mut String) {
    page.push_str("\n## Command line\nOutput and exit codes are Consul's; `consul` may be a link to `agent`.\n\n");
    page.push_str("| verb | standing | note |\n| --- | --- | --- |\n");
    for (verb, standing, note) in ROWS {
        let _ = writeln!(page, "| `{verb}` | {} | {note} |", word(*standing));
    }
}

#[test]
fn every_verb_has_a_row() {
    let there: BTreeSet<_> = agent::cli::verbs().collect();
    let rows: BTreeSet<_> = ROWS
        .iter()
        .filter(|(_, standing, _)| *standing != Missing)
        .map(|(verb, _, _)| *verb)
        .collect();
    assert_eq!(there, rows, "tests/clients/compatibility/cli.rs");
}
