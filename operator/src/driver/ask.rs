//! Asking an agent who it is and what it knows. What is no answer of the very agent that was asked is no answer.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use crate::observe::{Answers, Role, answers};

/// Fetches JSON from one agent.
pub(super) trait Fetch {
    /// Why there is none.
    type Error: Display;

    /// What the agent says under that path.
    fn fetch(&self, path: &str) -> impl Future<Output = Result<Value, Self::Error>>;
}

/// Where autopilot's settings are.
pub(super) const AUTOPILOT: &str = "/v1/operator/autopilot/configuration";

/// Longest time for an answer that may be missing.
const SETTINGS_TIME_MAX: Duration = Duration::from_secs(1);

/// The questions, put to the agent of that node name.
pub(super) async fn ask(name: &str, agent: &impl Fetch) -> Option<Answers> {
    let (own, members, configuration) = match questions(agent).await {
        Ok(read) => read,
        Err(error) => {
            tracing::trace!(node = name, %error, "no answer");
            return None;
        }
    };
    // Another agent may have taken the address.
    if own["Config"]["NodeName"].as_str() != Some(name) {
        tracing::debug!(node = name, found = %own["Config"]["NodeName"], "another agent answers at this address");
        return None;
    }
    match answers(&own, &members, configuration.as_ref()) {
        Ok(mut answers) => {
            let leads = answers.raft.as_ref().map(|raft| raft.role) == Some(Role::Leader);
            if leads {
                // As it knows them: a leader without a quorum would wait for one, and would count as silent.
                let path = format!("{AUTOPILOT}?stale");
                let settings = timeout(SETTINGS_TIME_MAX, agent.fetch(&path)).await;
                let settings = settings.ok().and_then(Result::ok);
                answers.min_quorum = settings.as_ref().and_then(min_quorum);
            }
            Some(answers)
        }
        Err(error) => {
            tracing::warn!(node = name, %error, "unreadable answer");
            None
        }
    }
}

fn min_quorum(settings: &Value) -> Option<u32> {
    settings["MinQuorum"].as_u64()?.try_into().ok()
}

/// What to send, and where, so that of these settings only `MinQuorum` changes, unless somebody else changes them now.
pub(super) fn with_min_quorum(settings: &Value, servers: u32) -> (String, String) {
    let mut changed = settings.clone();
    changed["MinQuorum"] = servers.into();
    let seen = settings["ModifyIndex"].as_u64().unwrap_or(0);
    (format!("{AUTOPILOT}?cas={seen}"), changed.to_string())
}

/// Who of them says that it leads.
pub(super) fn leader(all: &BTreeMap<String, Answers>) -> Option<String> {
    let leads = |answers: &Answers| {
        answers
            .raft
            .as_ref()
            .is_some_and(|raft| raft.role == Role::Leader)
    };
    let found = all.iter().find(|(_, answers)| leads(answers));
    found.map(|(name, _)| name.clone())
}

async fn questions<F: Fetch>(agent: &F) -> Result<(Value, Value, Option<Value>), F::Error> {
    let own = agent.fetch("/v1/agent/self").await?;
    let members = agent.fetch("/v1/agent/members").await?;
    // A client, or a server without a configuration, has none to tell.
    let configuration = match own["Config"]["Server"].as_bool() {
        Some(true) => agent
            .fetch("/v1/operator/raft/configuration?stale")
            .await
            .ok(),
        _ => None,
    };
    Ok((own, members, configuration))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A leader that lost its quorum: what needs one is not answered.
    struct Alone;

    impl Fetch for Alone {
        type Error = String;

        async fn fetch(&self, path: &str) -> Result<Value, String> {
            let member = json!({"Name": "a", "Addr": "10.0.0.1", "Port": 8301, "Status": 1, "Tags": {"role": "consul"}});
            match path {
                "/v1/agent/self" => {
                    let raft = json!({"state": "Leader", "term": "2", "num_peers": "1", "last_log_index": "3", "commit_index": "3", "last_log_term": "2", "latest_configuration_index": "1"});
                    let config =
                        json!({"NodeName": "a", "NodeID": "x", "Version": "1", "Server": true});
                    Ok(json!({"Config": config, "Member": member, "Stats": {"raft": raft}}))
                }
                "/v1/agent/members" => Ok(json!([member])),
                "/v1/operator/raft/configuration?stale" => Ok(json!({"Servers": []})),
                _ => std::future::pending().await,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_without_a_quorum_is_heard() {
        let answers = ask("a", &Alone).await.expect("it answers");
        assert_eq!(answers.raft.map(|raft| raft.role), Some(Role::Leader));
        assert_eq!(answers.min_quorum, None);
    }
}
