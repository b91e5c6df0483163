//! Leaving gracefully: hand leadership over, get out of the Raft configuration, tell everybody, stop.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Error, Node, Phase, Server};
use crate::rpc::{Answer, Answered, Request};

/// How long a leaving server waits to be out of the Raft configuration. Source: Consul.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time one server may take to take over.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(1);

/// Time between two looks at whether the leader has removed this server. A removed server is not told.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Longest time one such look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

impl Node {
    /// Leaves gracefully; returns when the leave is over. The process then ends by itself, with exit code 0.
    pub async fn leave(&self) -> Result<(), Error> {
        let first = self.inner.phase.send_if_modified(|phase| {
            let first = *phase == Phase::Running;
            if first {
                *phase = Phase::Leaving;
            }
            first
        });
        if !first {
            // Somebody else's leave is under way: its end is this one's too.
            let mut phase = self.inner.phase.subscribe();
            let end = phase
                .wait_for(|phase| !matches!(phase, Phase::Running | Phase::Leaving))
                .await;
            return match end.as_deref() {
                Ok(Phase::Left) => Ok(()),
                _ => Err(Error::ShuttingDown),
            };
        }
        // From here on nothing registers this node again.
        self.local().stop().await;
        match &self.inner.server {
            Some(server) => {
                tracing::info!(target: "consul", "server starting leave");
                // Others need not be told in turn: who hands leadership over is still in both pools.
                tokio::join!(self.leave_wan(), self.hand_over(server));
                self.inner.gossip.announce_leaving().await;
                self.get_out(server).await;
                self.drain(server).await;
            }
            None => tracing::info!(target: "consul", "client starting leave"),
        }
        self.inner.gossip.leave().await;
        self.shutdown().await;
        tracing::info!(target: "agent", "Graceful leave complete");
        self.inner.phase.send_replace(Phase::Left);
        Ok(())
    }

    /// Stops without leaving: the same voters come back. Whoever leads hands over first, or the others would have to find
    /// out that he is gone; for whoever is started again, updated or drained that is most of the time without a leader.
    pub async fn stop(&self) {
        if let Some(server) = &self.inner.server {
            let handed_over = timeout(TRANSFER_TIMEOUT, self.hand_over(server)).await;
            if handed_over.is_err() {
                tracing::warn!(target: "consul", "stopping as the leader: nobody took over in time");
            }
        }
        self.shutdown().await;
    }

    /// Leaves the pool of all datacenters, which comes first: requests of others should no longer come here.
    async fn leave_wan(&self) {
        if let Some(wan) = &self.inner.wan {
            wan.gossip.leave().await;
        }
    }

    /// Hands leadership to the other voters in turn, the one that is furthest ahead first.
    async fn hand_over(&self, server: &Server) {
        let deadline = Instant::now() + LEAVE_TIMEOUT;
        while Instant::now() < deadline {
            let status = server.consensus.status();
            let Some(successor) = status.successor().filter(|_| status.is_leader()) else {
                return;
            };
            let name = status
                .peers
                .get(&successor)
                .map_or("?", |node| node.name.as_str());
            tracing::info!(target: "consul", "transferring leadership: to={name}");
            if let Err(error) = server
                .consensus
                .transfer_leader(successor, TRANSFER_TIMEOUT)
                .await
            {
                tracing::warn!(target: "consul", "failed to transfer leadership: {error}");
            }
        }
    }

    /// Waits until what others have asked of this server is answered, at most `leave_drain_time`.
    async fn drain(&self, server: &Server) {
        let deadline = Instant::now() + self.inner.config.leave_drain_time;
        while server.in_flight.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until the leader has taken this server out of the configuration.
    async fn get_out(&self, server: &Server) {
        let deadline = Instant::now() + LEAVE_TIMEOUT;
        loop {
            let status = server.consensus.status();
            let alone = status.voters.iter().all(|id| *id == status.id);
            if !status.peers.contains_key(&status.id) || alone {
                return;
            }
            if Instant::now() >= deadline {
                tracing::warn!(target: "consul", "failed to leave raft configuration gracefully, timeout");
                return;
            }
            if status.is_leader() {
                // Nobody wanted to take over before; perhaps now.
                self.hand_over(server).await;
            } else if let Some(leader) = server.leader_address()
                && let Ok(Answered(Ok(Answer::RaftConfiguration(servers, _)))) = self
                    .inner
                    .calls
                    .request(leader, &Request::RaftConfiguration(true), LOOK_TIMEOUT)
                    .await
                && servers.iter().all(|peer| peer.id != self.inner.node_id)
            {
                return;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
