//! The compatibility page: what is as in Consul's community edition, endpoint by endpoint, verb by verb, name by name.
//!
//! The page is made of the tables here. They are held against the agent: every endpoint has a row, what is said to be
//! missing is refused, and what a client is said to have asked for is what it was seen to ask for, no more and no less.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use agent::http::{endpoint_of, endpoints};
use tests::{Cluster, run};

use crate::record::Asked;

mod cli;
mod http;
mod names;

pub(crate) use names::are_as_the_page_says as names_are_as_the_page_says;

/// How something of ours is to something of Consul's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Same,
    /// Answered, with a difference that the note tells.
    Differs,
    /// Consul has it, this agent does not.
    Missing,
    /// Consul does not have it.
    Ours,
}

/// A row about an endpoint.
struct Row {
    method: &'static str,
    path: &'static str,
    standing: Standing,
    note: &'static str,
    /// The clients that were seen to use it.
    by: &'static str,
}

const CLIENTS: [(&str, &str); 5] = [
    (
        "go",
        "Consul's own Go module `github.com/hashicorp/consul/api` 1.29.1",
    ),
    ("python", "`py-consul` 1.6.0"),
    ("node", "the npm package `consul` 2.0.1"),
    ("prometheus", "the service discovery of Prometheus 2.54.1"),
    ("curl", "the examples of Consul's documentation, with curl"),
];

/// Holds what a client asked for against what the table claims of it.
///
/// # Panics
/// When either has more, with the rows to change.
#[track_caller]
pub(crate) fn is_claimed(client: &str, asked: &BTreeSet<Asked>) {
    let seen: BTreeSet<_> = asked
        .iter()
        .filter_map(|(method, path)| Some((method.as_str(), endpoint_of(path)?)))
        .filter(|(method, path)| {
            endpoints().any(|(of, methods)| of == *path && methods.contains(method))
        })
        .collect();
    let claimed: BTreeSet<_> = http::ROWS
        .iter()
        .filter(|row| row.by.split(' ').any(|by| by == client))
        .map(|row| (row.method, row.path))
        .collect();
    let unseen: Vec<_> = claimed.difference(&seen).collect();
    let unclaimed: Vec<_> = seen.difference(&claimed).collect();
    assert!(
        unseen.is_empty() && unclaimed.is_empty(),
        "tests/clients/compatibility/http.rs: take {client:?} out of {unseen:?}, put it into {unclaimed:?}"
    );
}

/// The whole page.
fn page() -> String {
    let mut page = String::from(
        "# Compatibility with Consul 1.19, community edition\n\n\
         Made from the tables in `tests/clients/compatibility/`, which tests hold against running agents; change it \
         there, then\n`COMPATIBILITY=write cargo test -p tests --test clients the_page` writes this file.\n\n\
         *same*: what Consul answers, as far as the named clients look, and the tests beside the code. *differs*: answered, \
         with the\ndifference in the note. *missing*: Consul has it, this agent does not. *ours*: Consul does not have it.\n\n\
         ## Clients that were seen to use it\n",
    );
    for (name, what) in CLIENTS {
        let _ = writeln!(page, "- *{name}*: {what}");
    }
    page.push_str(
        "\nBeside these, `dig` and `dnsperf` ask for the names below.\n\n## Everywhere\n",
    );
    for line in http::EVERYWHERE {
        let _ = writeln!(page, "- {line}");
    }
    http_table(&mut page);
    cli::table(&mut page);
    names::table(&mut page);
    page
}

fn http_table(page: &mut String) {
    page.push_str(
        "\n## HTTP API\n| endpoint | standing | note | used by |\n| --- | --- | --- | --- |\n",
    );
    for row in http::ROWS {
        let standing = word(row.standing);
        let _ = writeln!(
            page,
            "| `{} {}` | {standing} | {} | {} |",
            row.method, row.path, row.note, row.by
        );
    }
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Same => "same",
        Standing::Differs => "differs",
        Standing::Missing => "missing",
        Standing::Ours => "ours",
    }
}

#[test]
fn the_page_is_what_the_tables_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/COMPATIBILITY.md");
    let page = page();
    if std::env::var_os("COMPATIBILITY").is_some_and(|wanted| wanted == "write") {
        fs::write(&path, &page).expect("written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == page,
        "agent/COMPATIBILITY.md is not what the tables in tests/clients/compatibility say: \
         run `COMPATIBILITY=write cargo test -p tests --test clients the_page`"
    );
}

#[test]
fn clients_are_those_that_are_pinned() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    for (client, file, pin) in [
        ("go", "go/go.mod", "hashicorp/consul/api v"),
        ("python", "python/requirements.txt", "py-consul=="),
        ("node", "node/package.json", "\"consul\": \""),
        // Version 2.N of Prometheus is v0.N of its module.
        (
            "prometheus",
            "prometheus/go.mod",
            "prometheus/prometheus v0.",
        ),
    ] {
        let (_, said) = CLIENTS
            .iter()
            .find(|(name, _)| *name == client)
            .expect("it is in the list");
        let version = said.split(' ').next_back().expect("a version");
        let version = version
            .strip_prefix("2.")
            .filter(|_| client == "prometheus")
            .unwrap_or(version);
        let pinned = fs::read_to_string(folder.join(file)).expect("it is there");
        assert!(
            pinned.contains(&format!("{pin}{version}")),
            "{client}: {file} pins another than {said}"
        );
    }
}

#[test]
fn every_endpoint_has_a_row() {
    let there: BTreeSet<_> = endpoints()
        .flat_map(|(path, methods)| methods.iter().map(move |method| (*method, path)))
        .collect();
    let rows: BTreeSet<_> = http::ROWS
        .iter()
        .filter(|row| row.standing != Standing::Missing)
        .map(|row| (row.method, row.path))
        .collect();
    let without: Vec<_> = there.difference(&rows).collect();
    let nothing: Vec<_> = rows.difference(&there).collect();
    assert!(
        without.is_empty() && nothing.is_empty(),
        "tests/clients/compatibility/http.rs: no row for {without:?}; no endpoint for {nothing:?}"
    );
    assert_eq!(
        http::ROWS
            .iter()
            .map(|row| (row.method, row.path))
            .collect::<BTreeSet<_>>()
            .len(),
        http::ROWS.len(),
        "an endpoint has two rows"
    );
    for row in http::ROWS {
        let told = row.standing == Standing::Same || !row.note.is_empty();
        assert!(told, "{} {}: the note says nothing", row.method, row.path);
        let used = row.standing != Standing::Same || !row.by.is_empty() || !row.note.is_empty();
        assert!(used, "{} {} is the same, says who?", row.method, row.path);
        for by in row.by.split(' ').filter(|by| !by.is_empty()) {
            assert!(CLIENTS.iter().any(|(name, _)| *name == by), "who is {by}?");
        }
    }
}

#[test]
fn what_is_said_to_be_missing_is_refused() {
    let mut cluster = Cluster::new();
    cluster["A"].start(&["-dev"]);
    cluster["A"].wait_until_up();
    for row in http::ROWS {
        if row.standing != Standing::Missing {
            continue;
        }
        let reply = cluster["A"].http().request(row.method, row.path, b"");
        let status = reply.expect("an answer").status;
        assert!(
            matches!(status, 404 | 405),
            "{} {} answers {status}: it is no longer missing",
            row.method,
            row.path
        );
    }
    for verb in cli::missing() {
        let output = run("agent", &[verb]);
        assert_eq!(output.code, Some(127), "{verb}: {output:?}");
    }
}
