//! What is done only because a person asked for it.

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::{Error, Local};
use crate::driver::Driver as _;
use crate::observe::{Agent, Role};
use crate::plan::Alone;

/// Port of every agent's server RPC: the resource cannot set another.
const SERVER_PORT: u16 = 8300;

impl Local {
    /// Stops a server and moves its folder aside, whatever is in it.
    pub(super) async fn move_aside_on(&mut self, name: &str, token: &str) -> Result<(), Error> {
        self.stop_and_wait(name).await?;
        let aside = self.store.move_aside_on(name, token, Timestamp::now())?;
        if let Some(aside) = aside {
            tracing::info!(node = name, aside = %aside.display(), "raft folder moved aside");
        }
        // What kept it from starting is gone.
        if let Some(agent) = self.agents.get_mut(name) {
            (agent.failed_starts, agent.failed_at) = (0, None);
        }
        Ok(())
    }

    /// Stops the survivor and gives it the documented `raft/peers.json`, which lists it alone. It follows the file when it
    /// is started next, once.
    pub(super) async fn recover(&mut self, alone: &Alone) -> Result<(), Error> {
        let observed = self.observe().await?;
        let same = |agent: &Agent| {
            agent.raft().is_some_and(|raft| {
                raft.raft_id == alone.raft_id
                    && raft.last_log_index == alone.last_log_index
                    && raft.role != Role::Leader
            })
        };
        if !observed.servers.get(&alone.server).is_some_and(same) {
            return Err(Error::Changed(format!(
                "{} is not as it was observed any more; looking again",
                alone.server
            )));
        }
        self.stop_and_wait(&alone.server).await?;
        let address = format!("{}:{SERVER_PORT}", alone.address);
        let peers = json!([{"id": alone.node_id, "address": address, "non_voter": false}]);
        self.store
            .write_peers(&alone.server, peers.to_string().as_bytes())?;
        Ok(())
    }
}
