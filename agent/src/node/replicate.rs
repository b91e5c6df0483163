//! What the leader of every other datacenter takes over from the primary one: config entries, who may do what, and the
//! certificate authority.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Error, Node, ReadOptions, Server};

mod acl;
mod authority;

use crate::state::{Answer, Command, ConfigEntry, EntryStep, Outcome, Query};

/// How long to wait for a change in the primary datacenter until the entries are compared anyway: somebody may have restored
/// an older state here.
const WAIT: Duration = Duration::from_secs(60);

/// Pause after a failure; up to as much again is added.
const RETRY: Duration = Duration::from_secs(5);

/// What must be done here so that the entries are those of the primary datacenter. Those of other places go first, so that
/// nobody sees two that exclude each other. Pure.
fn steps(primary: &[Arc<ConfigEntry>], own: &[Arc<ConfigEntry>]) -> Vec<EntryStep> {
    let key = |entry: &ConfigEntry| (entry.kind.clone(), entry.name.to_lowercase());
    let wanted: BTreeSet<_> = primary.iter().map(|entry| key(entry)).collect();
    let known: BTreeMap<_, _> = own.iter().map(|entry| (key(entry), entry)).collect();
    let gone = own
        .iter()
        .filter(|entry| !wanted.contains(&key(entry)))
        .map(|entry| EntryStep::Delete {
            kind: entry.kind.clone(),
            name: entry.name.clone(),
            cas: None,
        });
    let set = primary
        .iter()
        .filter(|entry| {
            let same =
                |own: &&&Arc<ConfigEntry>| (&own.name, &own.json) == (&entry.name, &entry.json);
            known.get(&key(entry)).filter(same).is_none()
        })
        .map(|entry| EntryStep::Set {
            entry: Box::new(ConfigEntry::clone(entry)),
            cas: None,
        });
    gone.chain(set).collect()
}

/// What follows the primary datacenter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Followed {
    Entries,
    Acl,
    Authority,
}

impl Followed {
    fn failed(self, datacenter: &str, error: &Error) {
        match self.copied() {
            None => tracing::warn!(
                target: "connect",
                "the certificate authority cannot follow datacenter {datacenter}, will retry, and stays as it is until then: {error}"
            ),
            Some(what) => tracing::warn!(
                target: "consul",
                "replication of {what} failed, will retry: error={error}"
            ),
        }
    }

    fn goes_on(self, datacenter: &str) {
        match self.copied() {
            None => tracing::info!(
                target: "connect",
                "the certificate authority follows datacenter {datacenter} again"
            ),
            Some(what) => tracing::info!(target: "consul", "replication of {what} goes on"),
        }
    }

    /// What is copied as it is there.
    fn copied(self) -> Option<&'static str> {
        match self {
            Followed::Entries => Some("config entries"),
            Followed::Acl => Some("policies, roles and tokens"),
            Followed::Authority => None,
        }
    }
}

/// What the last look at the primary datacenter found.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// The index there; 0 for none.
    index: u64,
    /// When something is due although nothing changes there, in milliseconds since the Unix epoch.
    until_ms: u64,
}

impl Node {
    /// Takes it over whenever it changes, while this server leads.
    pub(super) async fn follow_primary(self, what: Followed) {
        let Some(server) = &self.inner.server else {
            return;
        };
        let datacenter = &self.inner.config.primary_datacenter;
        let (mut seen, mut told) = (Seen::default(), String::new());
        loop {
            if !server.leads() {
                seen = Seen::default();
                let leads = |status: &crate::raft::Status| status.is_leader().then_some(());
                server.consensus.wait_until(leads).await;
            }
            // The token may have become another one.
            let primary = self.with_replication().at(datacenter);
            let of_index = |index| Seen { index, until_ms: 0 };
            let looked = match what {
                Followed::Entries => {
                    let copied = self.copy_entries(server, &primary, seen.index).await;
                    copied.map(of_index)
                }
                Followed::Acl => {
                    let copied = self.copy_acl(server, &primary, seen.index).await;
                    copied.map(of_index)
                }
                Followed::Authority => self.look_at_primary(server, &primary, seen).await,
            };
            match looked {
                Ok(now) => {
                    // It went back: another cluster is there now.
                    seen = match now.index < seen.index {
                        true => Seen::default(),
                        false => now,
                    };
                    if !std::mem::take(&mut told).is_empty() {
                        what.goes_on(datacenter);
                    }
                }
                Err(error) => {
                    let why = error.to_string();
                    if why != told {
                        what.failed(datacenter, &error);
                        told = why;
                    }
                    seen = Seen::default();
                    let bound = RETRY.as_millis() as u64;
                    let jitter = Duration::from_millis(self.inner.env.random.below(bound));
                    tokio::time::sleep(RETRY + jitter).await;
                }
            }
        }
    }

    /// Waits for a change after the index `seen`, takes it over, and gives back the new index.
    async fn copy_entries(&self, server: &Server, primary: &Node, seen: u64) -> Result<u64, Error> {
        let query = || Query::Entries {
            kind: String::new(),
        };
        // By its leader: a server that has just been started has no entries yet, and all of ours would be removed.
        let options = ReadOptions {
            min_index: seen,
            wait: if seen == 0 { Duration::ZERO } else { WAIT },
            ..ReadOptions::default()
        };
        let reply = primary.read(query(), options).await?;
        let Answer::Entries(wanted) = reply.answer else {
            return Err(Error::Unknown);
        };
        if !server.leads() {
            return Err(Error::NoLeader);
        }
        let Answer::Entries(own) = server.shared.load().query(&query()) else {
            return Err(Error::Unknown);
        };
        for step in steps(&wanted, &own) {
            if let EntryStep::Delete { kind, name, .. } = &step {
                tracing::info!(target: "consul", "removing a config entry that the primary datacenter does not have: kind={kind} name={name}");
            }
            if let Outcome::Error { text, .. } = self.propose(Command::Entry(step)).await? {
                return Err(Error::Refused(text));
            }
        }
        Ok(reply.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, name: &str, json: &str) -> Arc<ConfigEntry> {
        Arc::new(ConfigEntry {
            kind: kind.to_owned(),
            name: name.to_owned(),
            json: json.to_owned(),
            ..ConfigEntry::default()
        })
    }

    #[test]
    fn entries_become_those_of_the_primary_datacenter() {
        let own = [
            entry("k", "same", "1"),
            entry("k", "changed", "1"),
            entry("k", "gone", "1"),
        ];
        let primary = [
            ConfigEntry {
                modify_index: 99,
                ..ConfigEntry::clone(&own[0])
            }
            .into(),
            entry("k", "changed", "2"),
            entry("k", "new", "3"),
        ];
        let done: Vec<_> = steps(&primary, &own)
            .into_iter()
            .map(|step| match step {
                EntryStep::Set { entry, cas: None } => format!("set {} {}", entry.name, entry.json),
                EntryStep::Delete {
                    name, cas: None, ..
                } => format!("delete {name}"),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(done, ["delete gone", "set changed 2", "set new 3"]);
        assert_eq!(steps(&primary, &primary), []);
        assert_eq!(steps(&[], &own).len(), 3);
    }

    #[test]
    fn an_entry_whose_name_changed_its_case_is_written_and_not_removed() {
        let steps = steps(&[entry("k", "Web", "1")], &[entry("k", "web", "1")]);
        assert!(matches!(&steps[..], [EntryStep::Set { entry, .. }] if entry.name == "Web"));
    }
}
