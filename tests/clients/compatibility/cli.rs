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
        Same,
        "agents run nothing unless `disable_remote_exec` is false",
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
        "`raft`, `autopilot` and `usage`; `area` and `utilization` are Enterprise's",
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
    ("watch", Same, ""),
    ("acl", Same, ""),
    (
        "connect",
        Differs,
        "`ca get-config|set-config`; no `envoy`, no `proxy`, `redirect-traffic`, `expose`",
    ),
    ("debug", Differs, "no profiles of the Go runtime"),
    (
        "keyring",
        Differs,
        "`-use` and `-remove` are done everywhere or nowhere",
    ),
    (
        "login",
        Differs,
        "by `kubernetes` and `jwt`; `oidc`, by a browser, is Enterprise's",
    ),
    ("logout", Same, ""),
    (
        "peering",
        Differs,
        "lists none, refuses the rest: no peering",
    ),
    (
        "resource",
        Differs,
        "says that there is none: an experiment of Consul's",
    ),
    ("tls", Same, ""),
    (
        "troubleshoot",
        Differs,
        "says that there is none: of Envoy's proxies",
    ),
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
