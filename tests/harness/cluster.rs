use std::ops::{Index, IndexMut};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::address::Block;
use crate::agent::Agent;
use crate::http::Http;
use crate::wait::eventually;

/// The servers of the manual.
pub const SERVERS: [&str; 3] = ["A", "B", "C"];

/// Agents of one test, each with its address and data dir: A is `.1`, B is `.2`, and so on.
pub struct Cluster {
    /// The addresses.
    pub block: Block,
    agents: Vec<Agent>,
    // Dropped after the agents, which write to it.
    folder: Folder,
}

/// The folder of a test, left in place when the test fails.
struct Folder(Option<TempDir>);

impl Folder {
    fn path(&self) -> &Path {
        self.0.as_ref().expect("taken only when dropped").path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.0.take()
        {
            eprintln!(
                "what the agents wrote is left in {}",
                folder.keep().display()
            );
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new()
    }
}

impl Cluster {
    /// No agent runs yet; up to eight can be named, A to H.
    ///
    /// # Panics
    /// When there is no place for data.
    pub fn new() -> Self {
        let block = Block::take();
        let folder = tempfile::Builder::new()
            .prefix("agents-")
            .tempdir()
            .expect("a temporary folder");
        let agents = ('A'..='H')
            .zip(1..)
            .map(|(name, host)| {
                let name = name.to_string();
                let data = folder.path().join(&name);
                Agent::new(&name, block.ip(host), &data)
            })
            .collect();
        Self {
            block,
            agents,
            folder: Folder(Some(folder)),
        }
    }

    /// The manual's steps 1 to 4: A with the flag, B and C without, joined, three voters. A still carries the flag.
    #[track_caller]
    pub fn bootstrapped() -> Self {
        let mut cluster = Self::new();
        cluster.bootstrap();
        cluster
    }

    #[track_caller]
    fn bootstrap(&mut self) {
        let cluster = self;
        cluster["A"].start(&["-server", "-bootstrap"]);
        cluster["A"].wait_for_line("consul: cluster leadership acquired");
        for name in ["B", "C"] {
            cluster[name].start(&["-server"]);
            cluster[name].wait_until_up();
        }
        let (b, c) = (cluster.address("B"), cluster.address("C"));
        cluster["A"].cli(&["join", &b, &c]).success();
        cluster.wait_for_voters(&SERVERS);
    }

    /// A cluster that has been through the whole manual: three voters, none with the flag.
    #[track_caller]
    pub fn formed() -> Self {
        let mut cluster = Self::new();
        cluster.form();
        cluster
    }

    /// Takes servers that have not run yet through the whole manual.
    #[track_caller]
    pub fn form(&mut self) {
        self.bootstrap();
        let cluster = self;
        cluster["A"].interrupt();
        cluster.wait_for_voters(&["B", "C"]);
        let b = cluster.address("B");
        cluster["A"].start(&["-server", "-retry-join", &b]);
        cluster.wait_for_voters(&SERVERS);
    }

    /// The address of an agent, without a port.
    pub fn address(&self, name: &str) -> String {
        self[name].ip.to_string()
    }

    /// The folder with all data dirs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path for a file of the test itself.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The APIs of some agents.
    pub fn https(&self, names: &[&str]) -> Vec<Http> {
        names.iter().map(|name| self[*name].http()).collect()
    }

    /// Waits until exactly `names` are the voters, each of them knows it, and they agree on a leader among them.
    ///
    /// # Panics
    /// When it does not come to that.
    #[track_caller]
    pub fn wait_for_voters(&self, names: &[&str]) {
        let mut wanted: Vec<String> = names.iter().map(|n| self[*n].server_address()).collect();
        wanted.sort();
        eventually(&format!("the voters are {names:?}"), || {
            let leader = self[names[0]].leader()?;
            if !wanted.contains(&leader) {
                return Err(format!("leader {leader:?}"));
            }
            for name in names {
                let voters = self[*name].voters()?;
                if voters != wanted {
                    return Err(format!("{name} has the voters {voters:?}"));
                }
                let other = self[*name].leader()?;
                if other != leader {
                    return Err(format!("{name} follows {other:?}, not {leader:?}"));
                }
            }
            Ok(())
        });
    }

    /// Waits until `names` have applied the same log, when nobody writes any more.
    ///
    /// # Panics
    /// When it does not come to that.
    #[track_caller]
    pub fn wait_until_equal(&self, names: &[&str]) {
        eventually(&format!("{names:?} have applied the same log"), || {
            let applied = names
                .iter()
                .map(|name| self[*name].info("raft", "applied_index"))
                .collect::<Result<Vec<_>, _>>()?;
            if applied.iter().all(|index| *index == applied[0]) {
                Ok(())
            } else {
                Err(format!("{applied:?}"))
            }
        });
    }

    /// Waits until one of `names` leads, by their own agreement, and gives back its name.
    ///
    /// # Panics
    /// When none does.
    #[track_caller]
    pub fn leader_among(&self, names: &[&str]) -> String {
        eventually(&format!("one of {names:?} leads"), || {
            let leader = self[names[0]].leader()?;
            for name in names {
                if self[*name].leader()? != leader {
                    return Err(format!("{name} disagrees on {leader:?}"));
                }
            }
            names
                .iter()
                .find(|name| self[**name].server_address() == leader)
                .map(|name| (*name).to_owned())
                .ok_or_else(|| format!("leader {leader:?}"))
        })
    }

    /// Waits until the members that `observer` sees are exactly these, with these statuses.
    ///
    /// # Panics
    /// When it does not come to that.
    #[track_caller]
    pub fn wait_for_members(&self, observer: &str, wanted: &[(&str, &str)]) {
        const STATUS: [&str; 5] = ["none", "alive", "leaving", "left", "failed"];
        eventually(&format!("{observer} sees {wanted:?}"), || {
            let reply = self[observer]
                .http()
                .get("/v1/agent/members")
                .map_err(|e| e.to_string())?;
            let json = reply.json();
            let mut seen: Vec<(String, &str)> = json
                .as_array()
                .ok_or_else(|| reply.text())?
                .iter()
                .map(|member| {
                    let status = member["Status"].as_u64().unwrap_or_default() as usize;
                    let name = member["Name"].as_str().unwrap_or_default();
                    (name.to_owned(), STATUS[status.min(4)])
                })
                .collect();
            seen.sort();
            let mut wanted: Vec<(String, &str)> = wanted
                .iter()
                .map(|(name, status)| ((*name).to_owned(), *status))
                .collect();
            wanted.sort();
            if seen == wanted {
                Ok(())
            } else {
                Err(format!("{seen:?}"))
            }
        });
    }
}

impl Index<&str> for Cluster {
    type Output = Agent;

    fn index(&self, name: &str) -> &Agent {
        self.agents
            .iter()
            .find(|agent| agent.name == name)
            .unwrap_or_else(|| panic!("there is no agent {name}"))
    }
}

impl IndexMut<&str> for Cluster {
    fn index_mut(&mut self, name: &str) -> &mut Agent {
        self.agents
            .iter_mut()
            .find(|agent| agent.name == name)
            .unwrap_or_else(|| panic!("there is no agent {name}"))
    }
}
