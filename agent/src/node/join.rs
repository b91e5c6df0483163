//! Joins others at the start: remembered members, `start_join`, `retry_join`, in the local pool and in that of all
//! datacenters.

use std::fmt;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;

use super::{Node, Phase, StartError};
use crate::gossip::JoinError;

/// A pool that is joined by address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pool {
    /// The datacenter's.
    Lan,
    /// That of the servers of all datacenters.
    Wan,
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pool::Lan => "LAN",
            Pool::Wan => "WAN",
        })
    }
}

/// What is tried until somebody answers.
struct Retry<'a> {
    addresses: &'a [String],
    interval: Duration,
    /// Rounds at most; 0 is for ever.
    max: u32,
}

impl Node {
    async fn join_in(&self, pool: Pool, address: &str) -> Result<usize, JoinError> {
        let joined = match pool {
            Pool::Lan => self.join(address).await,
            Pool::Wan => self.join_wan(address).await,
        };
        joined.inspect_err(|error| {
            tracing::warn!(target: "agent", "({pool}) couldn't join: {address}: {error}");
        })
    }

    /// Tries every address once; how many nodes were contacted. What failed is logged.
    async fn join_all(&self, pool: Pool, addresses: &[String]) -> usize {
        let tries = addresses
            .iter()
            .map(|address| async move { self.join_in(pool, address).await.unwrap_or(0) });
        join_all(tries).await.into_iter().sum()
    }

    /// The first round of `retry_join`, of which the log tells.
    async fn join_first(&self, pool: Pool, addresses: &[String]) -> usize {
        if addresses.is_empty() {
            return 0;
        }
        let name = pool.to_string().to_lowercase();
        tracing::info!(target: "agent", "({pool}) joining: {name}_addresses={addresses:?}");
        self.join_all(pool, addresses).await
    }

    /// `-join` and `-join-wan`: at least one address must answer.
    pub(super) async fn start_join(
        &self,
        pool: Pool,
        addresses: &[String],
    ) -> Result<(), StartError> {
        let (mut contacted, mut last) = (0, None);
        for address in addresses {
            match self.join_in(pool, address).await {
                Ok(nodes) => contacted += nodes,
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(last) if contacted == 0 => Err(StartError::Join {
                addresses: addresses.to_vec(),
                last,
            }),
            _ => Ok(()),
        }
    }

    /// Contacts whom this node remembers, and what it was given to join, once each; then says so in `asked` and goes
    /// on with `retry_join` until somebody answers.
    pub(super) async fn join_at_start(self, asked: watch::Sender<bool>) {
        let config = &self.inner.config;
        let (remembered, joined) = tokio::join!(
            self.inner.gossip.rejoin(),
            self.join_first(Pool::Lan, &config.retry_join)
        );
        tell_remembered(remembered);
        asked.send_replace(true);
        let retry = Retry {
            addresses: &config.retry_join,
            interval: config.retry_interval,
            max: config.retry_max,
        };
        self.keep_joining(Pool::Lan, retry, joined).await;
    }

    /// Contacts the servers that this one remembers, then goes on with `retry_join_wan` until somebody answers.
    pub(super) async fn join_wan_at_start(self) {
        let Some(wan) = &self.inner.wan else {
            return;
        };
        tell_remembered(wan.gossip.rejoin().await);
        let config = &self.inner.config.wan;
        let joined = self.join_first(Pool::Wan, &config.retry_join).await;
        let retry = Retry {
            addresses: &config.retry_join,
            interval: config.retry_interval,
            max: config.retry_max,
        };
        self.keep_joining(Pool::Wan, retry, joined).await;
    }

    /// Goes on until somebody answers; `joined` is what the first round came to.
    async fn keep_joining(&self, pool: Pool, retry: Retry<'_>, mut joined: usize) {
        let Retry {
            addresses,
            interval,
            max,
        } = retry;
        let mut tries = 1;
        while joined == 0 && !addresses.is_empty() {
            if max > 0 && tries >= max {
                let why = format!(
                    "({pool}) max join retry exhausted, exiting: tried {tries} times {addresses:?}"
                );
                self.inner.phase.send_replace(Phase::Failed(why));
                return;
            }
            tracing::warn!(target: "agent", "({pool}) join failed, will retry: retry_interval={interval:?}");
            tokio::time::sleep(interval).await;
            joined = self.join_all(pool, addresses).await;
            tries += 1;
        }
        if joined > 0 {
            tracing::info!(target: "agent", "({pool}) joined: number_of_nodes={joined}");
        }
    }
}

fn tell_remembered(nodes: usize) {
    if nodes > 0 {
        tracing::info!(target: "serf", "re-joined to previously known nodes: number_of_nodes={nodes}");
    }
}
