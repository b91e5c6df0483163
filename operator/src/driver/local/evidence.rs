//! Agents' logs: the lines that prove a step, and the last words of one that could not start.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::store::Store;
use crate::plan::Desired;

/// What the manual tells people to look for, and what warns of a danger that the operator acts on.
const LINES: [&str; 8] = [
    "cluster leadership acquired",
    "EnableSingleNode disabled, and no known peers. Aborting election.",
    "Added peer ",
    "Removed peer ",
    "Two nodes are in bootstrap mode.",
    "belongs to another cluster, not adding Raft peer",
    "bootstrap mode is set, but cluster",
    "Raft data found, disabling bootstrap mode",
];

/// Size from which a log is set aside before an agent starts. One older log is kept.
const LOG_SIZE_MAX_BYTES: u64 = 16 << 20;

/// Most that is read of one log at a time.
const READ_SIZE_MAX_BYTES: u64 = 1 << 20;

/// A line that proves something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Node name.
    pub node: String,
    /// The line without its time.
    pub line: String,
}

/// How far each log was read.
#[derive(Debug, Default)]
pub(super) struct Tails {
    read_to: BTreeMap<String, u64>,
}

impl Tails {
    /// Takes everything that is there as read.
    pub(super) fn skip_to_end(&mut self, store: &Store, desired: &Desired) {
        for name in names(desired) {
            let size = fs::metadata(store.log(name)).map_or(0, |meta| meta.len());
            self.read_to.insert(name.to_owned(), size);
        }
    }

    /// Evidence that was written since the last call.
    pub(super) fn read(&mut self, store: &Store, desired: &Desired) -> Vec<Evidence> {
        let mut evidence = Vec::new();
        for node in names(desired) {
            let from = self.read_to.entry(node.to_owned()).or_default();
            let Some((text, to)) = since(&store.log(node), *from) else {
                continue;
            };
            *from = to;
            let lines = text
                .lines()
                .filter(|line| LINES.iter().any(|known| line.contains(known)));
            evidence.extend(lines.map(|line| Evidence {
                node: node.to_owned(),
                line: without_time(line).to_owned(),
            }));
        }
        evidence
    }
}

fn names(desired: &Desired) -> impl Iterator<Item = &str> {
    desired
        .server_seats
        .iter()
        .chain(&desired.client_seats)
        .map(|seat| seat.name.as_str())
}

/// Whole lines from that place on, and where they end. A log that has become shorter is a new one.
fn since(path: &Path, from: u64) -> Option<(String, u64)> {
    let mut file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    let from = if size < from { 0 } else { from };
    if size == from {
        return None;
    }
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut text = Vec::new();
    file.take(READ_SIZE_MAX_BYTES).read_to_end(&mut text).ok()?;
    // A line that has no end yet is read next time; one that is longer than all that is read at once is skipped.
    let whole = match text.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => end + 1,
        None if text.len() as u64 == READ_SIZE_MAX_BYTES => text.len(),
        None => return None,
    };
    text.truncate(whole);
    Some((
        String::from_utf8_lossy(&text).into_owned(),
        from + whole as u64,
    ))
}

/// `2026-11-23T10:40:31.911Z [INFO] consul: ...` from the bracket on.
fn without_time(line: &str) -> &str {
    let line = line.trim();
    match line.split_once(' ') {
        Some((time, rest)) if time.ends_with('Z') && rest.starts_with('[') => rest,
        _ => line,
    }
}

/// The last thing that an agent said: its last error, or else its last line.
pub(super) fn last_words(log: &Path) -> String {
    let size = fs::metadata(log).map_or(0, |meta| meta.len());
    let Some((text, _)) = since(log, size.saturating_sub(8 << 10)) else {
        return String::new();
    };
    let lines = || {
        text.lines()
            .rev()
            .take(20)
            .filter(|line| !line.trim().is_empty())
    };
    let error = lines().find(|line| {
        line.contains("[ERR") || line.starts_with("Error") || line.starts_with("error")
    });
    let word = error.or_else(|| lines().next()).unwrap_or_default();
    without_time(word).chars().take(500).collect()
}

/// Sets a log aside that has grown large. What is lost by a failure here is an old log.
pub(super) fn rotate(log: &Path) {
    if fs::metadata(log).is_ok_and(|meta| meta.len() > LOG_SIZE_MAX_BYTES) {
        let _ = fs::rename(log, log.with_extension("log.1"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_new_lines_are_read_and_a_new_log_from_its_start() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("a.log");
        fs::write(&log, "one\ntwo\nthr").unwrap();
        let (text, to) = since(&log, 0).unwrap();
        assert_eq!((text.as_str(), to), ("one\ntwo\n", 8));
        assert_eq!(since(&log, to), None);
        fs::write(&log, "one\ntwo\nthree\n").unwrap();
        assert_eq!(since(&log, to).unwrap().0, "three\n");
        fs::write(&log, "new\n").unwrap();
        assert_eq!(since(&log, 14).unwrap(), ("new\n".to_owned(), 4));
    }

    #[test]
    fn the_contract_lines_are_evidence_without_their_time() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let text = "apiVersion: consulcluster.dev/v1alpha1\nkind: ConsulCluster\nmetadata: {name: d}\nspec: {}";
        let desired = Desired::new(&crate::crd::read(text).unwrap(), |_, _| String::new());
        let lines = "2026-11-23T10:40:31.911Z [INFO] consul: cluster leadership acquired\n2026-11-23T10:40:31.911Z [DEBUG] x: y\n";
        fs::write(store.log("d-server-0"), lines).unwrap();
        let mut tails = Tails::default();
        let expected = Evidence {
            node: "d-server-0".into(),
            line: "[INFO] consul: cluster leadership acquired".into(),
        };
        assert_eq!(tails.read(&store, &desired), [expected]);
        assert!(tails.read(&store, &desired).is_empty());
    }

    #[test]
    fn the_last_words_are_the_last_error() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("a.log");
        fs::write(
            &log,
            "==> Starting\nError: 127.0.0.1:8300 is in use\n==> Bye\n",
        )
        .unwrap();
        assert_eq!(last_words(&log), "Error: 127.0.0.1:8300 is in use");
        fs::write(&log, "only this\n\n").unwrap();
        assert_eq!(last_words(&log), "only this");
        assert_eq!(last_words(&dir.path().join("none")), "");
    }
}
