//! Carries out what `raft::bootstrap` decides: forms a cluster, or does not, once in the life of a raft folder.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use uuid::Uuid;

use crate::config::{Bootstrap, Config};
use crate::env::Env;
use crate::gossip::{Gossip, Member};
use crate::leader::peers::server_addr;
use crate::raft::bootstrap::{Decision, Reason, Situation, decide};
use crate::raft::{Consensus, PeerNode, RaftId};
use crate::rpc::{Answered, Pool, Promise, Request};

/// How long a server may take to give its promise.
const PROMISE_TIMEOUT: Duration = Duration::from_secs(2);

/// Time after which a situation is looked at again although gossip has not changed: a promise may be refused for a
/// moment only.
const AGAIN: Duration = Duration::from_millis(250);

/// Time between two lines that say what a server waits for.
const REMIND: Duration = Duration::from_secs(30);

pub(super) struct Formation {
    pub(super) env: Env,
    pub(super) config: Arc<Config>,
    pub(super) node_id: Uuid,
    pub(super) gossip: Gossip,
    pub(super) consensus: Consensus,
    pub(super) calls: Arc<Pool>,
    /// Becomes true when every address to join has been tried once.
    pub(super) asked: watch::Receiver<bool>,
}

impl Formation {
    /// Runs until this server belongs to a cluster.
    pub(super) async fn run(mut self) {
        let mut seen = Reminder::default();
        let mut changes = self.gossip.watch();
        let mut formed = self.consensus.identity().watch_cluster();
        loop {
            changes.mark_unchanged();
            formed.mark_unchanged();
            match self.step(&mut seen).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(target: "consul", "could not form a cluster: {error}")
                }
            }
            // An `Err` means that nothing will change there any more: no reason to look again at once.
            tokio::select! {
                Ok(()) = formed.changed() => {}
                Ok(()) = changes.changed() => {}
                Ok(()) = self.asked.changed() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    /// Looks once; true when there is nothing left to decide.
    async fn step(&self, seen: &mut Reminder) -> Result<bool, String> {
        self.confirm_promise().await?;
        let identity = self.consensus.identity();
        let initialized = self
            .consensus
            .is_initialized()
            .await
            .map_err(|e| e.to_string())?;
        let has_state = initialized || identity.cluster().is_some();
        if initialized && let Some((cluster, _)) = identity.promise() {
            // Formed, and stopped before it was noted.
            identity.adopt(cluster).map_err(|e| e.to_string())?;
        }
        let members = self.gossip.members();
        let decision = decide(&Situation {
            own: self.node_id,
            datacenter: &self.config.datacenter,
            has_state,
            mode: self.config.bootstrap,
            members: &members,
            everybody_was_asked: *self.asked.borrow(),
        });
        match decision {
            Decision::HasState => {
                if initialized && self.config.bootstrap != Bootstrap::Never {
                    tracing::info!(target: "consul", "Raft data found, disabling bootstrap mode");
                }
                Ok(initialized)
            }
            Decision::ClusterExists { cluster, seen_on } => {
                seen.say(Some(cluster), || self.report_existing(cluster, &seen_on));
                self.withdraw(&members).await?;
                Ok(false)
            }
            Decision::Wait(reason) => {
                if !matches!(reason, Reason::Initiator(_)) || self.own_promise().is_some() {
                    self.withdraw(&members).await?;
                }
                seen.say(None, || self.report_waiting(&reason));
                Ok(false)
            }
            Decision::FormAlone => self.form_alone().await.map(|()| true),
            Decision::FormWith(others) => self.form_with(&others, &members).await,
        }
    }

    fn report_existing(&self, cluster: Uuid, seen_on: &str) {
        if self.config.bootstrap == Bootstrap::Never {
            tracing::info!(target: "consul", "waiting to be added to cluster {cluster}, seen on {seen_on}");
        } else {
            tracing::error!(
                target: "consul",
                "bootstrap mode is set, but cluster {cluster} exists (seen on {seen_on}): \
                 not forming another one, joining it as a plain server; remove the flag"
            );
        }
    }

    fn report_waiting(&self, reason: &Reason) {
        match reason {
            Reason::ToBeAdded => tracing::warn!(
                target: "raft",
                "EnableSingleNode disabled, and no known peers. Aborting election."
            ),
            Reason::Conflict { member, carries } => tracing::error!(
                target: "consul",
                "Member has a conflicting expect value. All nodes should expect the same number.: \
                 member={member} carries={carries}"
            ),
            other => tracing::info!(target: "consul", "not bootstrapping yet: {other}"),
        }
    }

    fn own_promise(&self) -> Option<Uuid> {
        let promise = self.consensus.identity().promise();
        promise
            .filter(|(_, initiator)| *initiator == self.node_id)
            .map(|(cluster, _)| cluster)
    }

    fn own_peer(&self) -> (RaftId, PeerNode) {
        let node = PeerNode {
            node_id: self.node_id,
            name: self.config.node_name.clone(),
            addr: self.config.rpc_advertise(),
        };
        (self.consensus.identity().raft_id(), node)
    }

    async fn form_alone(&self) -> Result<(), String> {
        let cluster = self.own_promise().unwrap_or_else(|| self.env.random.uuid());
        let identity = self.consensus.identity();
        // Noted before Raft is: a crash in between goes on with the same id.
        identity
            .promise_to(cluster, self.node_id)
            .map_err(|e| e.to_string())?;
        self.consensus
            .form(BTreeMap::from([self.own_peer()]))
            .await
            .map_err(|e| e.to_string())?;
        identity.adopt(cluster).map_err(|e| e.to_string())?;
        tracing::info!(target: "consul", "formed cluster {cluster}");
        Ok(())
    }

    async fn form_with(&self, others: &[Uuid], members: &[Arc<Member>]) -> Result<bool, String> {
        let Bootstrap::Expect(expect) = self.config.bootstrap else {
            return Ok(false);
        };
        let identity = self.consensus.identity();
        if let Some((_, initiator)) = identity
            .promise()
            .filter(|(_, initiator)| *initiator != self.node_id)
        {
            let name = members
                .iter()
                .find(|m| m.id == initiator)
                .map_or("an unknown server", |m| m.name.as_str());
            return Err(format!(
                "this server has promised itself to the cluster that {name} ({initiator}) was forming; waiting for it"
            ));
        }
        let cluster = self.own_promise().unwrap_or_else(|| self.env.random.uuid());
        identity
            .promise_to(cluster, self.node_id)
            .map_err(|e| e.to_string())?;
        let promise = Promise {
            cluster,
            initiator: self.node_id,
            expect: expect.get(),
        };
        let mut peers = BTreeMap::from([self.own_peer()]);
        let mut asked = Vec::new();
        for id in others {
            let member = members
                .iter()
                .find(|m| m.id == *id)
                .ok_or("a server went away meanwhile")?;
            let (raft_id, node) = peer_of(member)
                .ok_or_else(|| format!("{} does not say its raft id yet", member.name))?;
            asked.push((member.name.clone(), node.addr));
            peers.insert(raft_id, node);
        }
        for (name, answer) in join_all(
            asked
                .into_iter()
                .map(|(name, addr)| self.ask(name, addr, &promise)),
        )
        .await
        {
            answer.map_err(|why| format!("{name} did not promise to take part: {why}"))?;
        }
        let names: Vec<_> = peers.values().map(|peer| peer.addr.to_string()).collect();
        tracing::info!(
            target: "consul",
            "Found expected number of peers, attempting bootstrap: peers={}", names.join(",")
        );
        self.consensus
            .form(peers)
            .await
            .map_err(|e| e.to_string())?;
        identity.adopt(cluster).map_err(|e| e.to_string())?;
        tracing::info!(target: "consul", "formed cluster {cluster}");
        Ok(true)
    }

    async fn ask(
        &self,
        name: String,
        addr: SocketAddr,
        promise: &Promise,
    ) -> (String, Result<(), String>) {
        let request = Request::Promise(promise.clone());
        let answer = match self.calls.request(addr, &request, PROMISE_TIMEOUT).await {
            Ok(Answered(Ok(_))) => Ok(()),
            Ok(Answered(Err(refused))) => Err(refused.to_string()),
            Err(failed) => Err(failed.to_string()),
        };
        (name, answer)
    }

    /// Frees this server of a promise that its initiator no longer holds: it never formed that cluster, or it lost its
    /// raft folder, and this server, which has never voted there, is not missed.
    async fn confirm_promise(&self) -> Result<(), String> {
        let identity = self.consensus.identity();
        let Some((cluster, initiator)) = identity.promise().filter(|(_, of)| *of != self.node_id)
        else {
            return Ok(());
        };
        let members = self.gossip.members();
        let Some(addr) = members
            .iter()
            .find(|m| m.id == initiator)
            .and_then(|m| server_addr(m))
        else {
            return Ok(());
        };
        let request = Request::Confirm(Promise {
            cluster,
            initiator,
            expect: 0,
        });
        if let Ok(Answered(Err(_))) = self.calls.request(addr, &request, PROMISE_TIMEOUT).await {
            identity
                .release(cluster, initiator)
                .map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Takes back a promise that this server made to itself: it does not form that cluster, now or ever.
    async fn withdraw(&self, members: &[Arc<Member>]) -> Result<(), String> {
        let Some(cluster) = self.own_promise() else {
            return Ok(());
        };
        // First here, on disk: nobody may be free while this server could still form it.
        self.consensus
            .identity()
            .release(cluster, self.node_id)
            .map_err(|e| e.to_string())?;
        let expect = match self.config.bootstrap {
            Bootstrap::Expect(n) => n.get(),
            _ => 0,
        };
        let request = Request::Release(Promise {
            cluster,
            initiator: self.node_id,
            expect,
        });
        let servers = members
            .iter()
            .filter(|m| m.id != self.node_id)
            .filter_map(|m| server_addr(m));
        // One that does not hear it stays bound, says so, and hears it when this server asks again.
        join_all(servers.map(|addr| self.calls.request(addr, &request, PROMISE_TIMEOUT))).await;
        Ok(())
    }
}

/// A server member as the Raft configuration knows it.
pub(super) fn peer_of(member: &Member) -> Option<(RaftId, PeerNode)> {
    let raft_id = member.tags.get("raft_id")?.parse().ok()?;
    let node = PeerNode {
        node_id: member.id,
        name: member.name.clone(),
        addr: server_addr(member)?,
    };
    Some((raft_id, node))
}

/// Says a thing once, and again from time to time while it stays so.
#[derive(Default)]
struct Reminder {
    last: Option<(Option<Uuid>, tokio::time::Instant)>,
}

impl Reminder {
    fn say(&mut self, what: Option<Uuid>, line: impl FnOnce()) {
        let now = tokio::time::Instant::now();
        let due = self
            .last
            .is_none_or(|(said, at)| said != what || now.duration_since(at) >= REMIND);
        if due {
            line();
            self.last = Some((what, now));
        }
    }
}
