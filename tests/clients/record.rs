//! What agents were asked for, from their own logs.

use std::collections::BTreeSet;

use tests::{Agent, Cluster, Process};

/// A method and a path: `("GET", "/v1/status/leader")`.
pub(crate) type Asked = (String, String);

/// A time during which only one client talks to some agents.
pub(crate) struct Record {
    agents: Vec<(&'static str, usize)>,
}

impl Record {
    /// From now on. The agents log at level debug.
    pub(crate) fn of(cluster: &Cluster, names: &[&'static str]) -> Self {
        let agents = names.iter().map(|name| (*name, settled(&cluster[name])));
        Self {
            agents: agents.collect(),
        }
    }

    /// Until now.
    pub(crate) fn asked(&self, cluster: &Cluster) -> BTreeSet<Asked> {
        let of = |(name, mark): &(&str, usize)| {
            settled(&cluster[name]);
            requests(&cluster[name], *mark)
        };
        self.agents.iter().flat_map(of).collect()
    }
}

/// How many lines there are once all that was asked before is among them. An agent writes a line before it answers, but
/// it is read some time later.
fn settled(agent: &Agent) -> usize {
    let mark = agent.mark();
    let path = format!("/v1/nothing/{mark}");
    if agent.http().get(&path).is_ok() {
        agent.wait_for_line_after(mark, &path);
    } else {
        // It has left.
        agent.drain();
    }
    agent.mark()
}

fn requests(process: &Process, mark: usize) -> Vec<Asked> {
    let lines = process.lines();
    let asked = lines.iter().skip(mark).filter_map(|line| {
        let (_, fields) = line.text.split_once("http: Request finished: ")?;
        let field = |name| {
            fields
                .split_whitespace()
                .find_map(|field| field.strip_prefix(name))
        };
        Some((field("method=")?.to_owned(), field("url=")?.to_owned()))
    });
    asked.collect()
}
