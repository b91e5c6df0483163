//! Joins others at the start: remembered members, `start_join`, `retry_join`.

use futures::future::join_all;
use tokio::sync::watch;

use super::{Node, Phase};

impl Node {
    /// Tries every address once; how many nodes were contacted. What failed is logged.
    async fn join_all(&self, addresses: &[String]) -> usize {
        let tries = join_all(addresses.iter().map(|address| async move {
            self.join(address).await.unwrap_or_else(|error| {
                tracing::warn!(target: "agent", "(LAN) couldn't join: {address}: {error}");
                0
            })
        }));
        tries.await.into_iter().sum()
    }

    /// Contacts whom this node remembers, and what it was given to join, once each; then says so in `asked` and goes
    /// on with `retry_join` until somebody answers.
    pub(super) async fn join_at_start(self, asked: watch::Sender<bool>) {
        let config = &self.inner.config;
        let (remembered, mut joined) = tokio::join!(self.inner.gossip.rejoin(), async {
            if config.retry_join.is_empty() {
                return 0;
            }
            tracing::info!(target: "agent", "(LAN) joining: lan_addresses={:?}", config.retry_join);
            self.join_all(&config.retry_join).await
        });
        if remembered > 0 {
            tracing::info!(target: "serf", "re-joined to previously known nodes: number_of_nodes={remembered}");
        }
        asked.send_replace(true);
        let mut tries = 1;
        while joined == 0 && !config.retry_join.is_empty() {
            if config.retry_max > 0 && tries >= config.retry_max {
                let why = format!(
                    "(LAN) max join retry exhausted, exiting: tried {tries} times {:?}",
                    config.retry_join
                );
                self.inner.phase.send_replace(Phase::Failed(why));
                return;
            }
            tracing::warn!(target: "agent", "(LAN) join failed, will retry: retry_interval={:?}", config.retry_interval);
            tokio::time::sleep(config.retry_interval).await;
            joined = self.join_all(&config.retry_join).await;
            tries += 1;
        }
        if joined > 0 {
            tracing::info!(target: "agent", "(LAN) joined: number_of_nodes={joined}");
        }
    }
}
