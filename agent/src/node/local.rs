//! This node's own services and checks: what they are started with, and their way to the servers.

use std::collections::BTreeMap;

use futures::future::{BoxFuture, FutureExt as _};
use uuid::Uuid;

use super::{Error, Node, ReadOptions, Reply};
use crate::config::Config;
use crate::gossip::Status;
use crate::leader::own_row;
use crate::local::{InNameOf, Servers, Settings};
use crate::state::{Command, Outcome, Query};

/// What a configuration says of them.
pub(super) fn settings(config: &Config, id: Uuid) -> Settings {
    let checks = config.check_settings;
    Settings {
        node: own_row(config, id),
        data_dir: Some(config.data_dir.clone()),
        output_max: checks.output_max_size,
        discard_output: checks.discard_output,
        update_interval: checks.update_interval,
        scripts_from_api: checks.enable_script_checks,
        scripts_from_files: checks.enable_script_checks || checks.enable_local_script_checks,
        sidecar_ports: config.ports.sidecar,
        asks_for_tokens: config.acl.enabled,
    }
}

/// Why a configuration was not taken over. Everything is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// A service or a check.
    #[error(transparent)]
    Local(#[from] crate::local::Error),
    /// A certificate or a key.
    #[error(transparent)]
    Tls(#[from] crate::tls::Error),
}

impl Node {
    /// Takes over what applies live of a configuration that was read again.
    ///
    /// # Errors
    /// What is wrong with its services and checks, or with its certificates; those of before stay.
    pub fn reload(&self, config: &Config) -> Result<(), ReloadError> {
        let tls = self.inner.tls.prepare(&config.tls)?;
        let local = self.local();
        local.reload(&config.services, &config.checks)?;
        self.inner.tls.take_over(tls);
        self.reload_tokens(&config.acl.tokens);
        self.inner.rates.reload(config);
        local.set_meta(own_row(config, self.inner.node_id).meta);
        Ok(())
    }

    /// The node's own meta data, without what the agent adds.
    pub fn meta(&self) -> BTreeMap<String, String> {
        let mut meta = self.local().node().meta.clone();
        meta.retain(|key, _| !key.starts_with("consul-"));
        meta
    }
}

impl Servers for Node {
    fn read(&self, query: Query, options: ReadOptions) -> BoxFuture<'_, Result<Reply, Error>> {
        let own = self.with_own();
        async move { own.read(query, options).await }.boxed()
    }

    fn propose(&self, name: &InNameOf, command: Command) -> BoxFuture<'_, Result<Outcome, Error>> {
        let own = match name {
            InNameOf::Agent => self.with_own(),
            InNameOf::Files => self.with_files(),
            InNameOf::Default => self.with(""),
            InNameOf::Holder(secret) => self.with(&secret.0),
        };
        async move { own.propose(command).await }.boxed()
    }

    fn nodes(&self) -> usize {
        let members = self.members();
        members.iter().filter(|m| m.status == Status::Alive).count()
    }

    fn news(&self) -> BoxFuture<'_, ()> {
        let mut members = self.inner.gossip.watch();
        members.mark_unchanged();
        async move {
            let joined = async {
                // Gossip ends with the node.
                if members.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            match &self.inner.server {
                None => joined.await,
                Some(server) => {
                    let led = server
                        .consensus
                        .wait_until(|status| status.leader.is_some().then_some(()));
                    if server.consensus.leader().is_some() {
                        return joined.await;
                    }
                    tokio::select! {
                        () = joined => {}
                        () = led => {}
                    }
                }
            }
        }
        .boxed()
    }
}
