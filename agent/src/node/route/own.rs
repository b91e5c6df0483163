//! What a server answers itself: reads of its own state, proposals while it leads, commands to the leader.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::future::Either;
use tokio::time::Instant;
use uuid::Uuid;

use super::CALL_TIMEOUT;
use crate::leader::autopilot::ClusterHealth;
use crate::node::access::{Admitted, Caller};
use crate::node::{
    Consistency, Error, Node, PeerRef, Phase, RaftServer, ReadOptions, Reply, Server,
};
use crate::raft;
use crate::rpc::{Answer, Answered, Request};
use crate::state::{Command, Outcome, Query, Stamped};

impl Server {
    pub(in crate::node) fn leads(&self) -> bool {
        self.consensus.leads()
    }

    /// Where the leader is, as far as this server knows.
    pub(in crate::node) fn leader_address(&self) -> Option<SocketAddr> {
        self.consensus.leader_address()
    }

    pub(super) fn voter_addresses(&self) -> Vec<SocketAddr> {
        let status = self.consensus.status();
        status
            .voters
            .iter()
            .filter_map(|id| self.consensus.address(*id, &status))
            .collect()
    }

    pub(super) fn configuration(&self) -> (Vec<RaftServer>, u64) {
        let status = self.consensus.status();
        let servers = status.peers.iter().map(|(id, peer)| RaftServer {
            id: peer.node_id,
            node: peer.name.clone(),
            address: peer.addr,
            leader: status.leader == Some(*id),
            voter: status.voters.contains(id),
            last_index: if *id == status.id {
                status.last_index
            } else {
                status.matched.get(id).copied().unwrap_or(0)
            },
        });
        let mut servers: Vec<_> = servers.collect();
        // By name: raft ids are random, and a list that changes its order at every look is hard to read.
        servers.sort_by(|a, b| a.node.cmp(&b.node).then(a.id.cmp(&b.id)));
        (servers, status.membership_index)
    }

    /// Proposes what was decided on here, in nobody's name.
    pub(in crate::node) async fn propose_own(
        &self,
        command: Command,
        node: &Node,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        let stamped = Stamped {
            unix_ms: node.inner.env.clock.unix_ms(),
            command,
        };
        self.propose(&Caller::Own, stamped.encode(), deadline).await
    }

    /// What has been proposed by the deadline may be committed later; what still waits for its turn then never is.
    pub(in crate::node) async fn propose(
        &self,
        caller: &Caller,
        command: Bytes,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        let (command, is_bootstrap) = match self.admit(caller, command)? {
            Admitted::Command(command) => (command, false),
            Admitted::Bootstrap(command) => (command, true),
            Admitted::Refused(outcome) => return Ok(outcome),
        };
        match tokio::time::timeout_at(deadline, self.consensus.propose(command)).await {
            Ok(Ok(Outcome::Done)) if is_bootstrap => {
                self.bootstrapped();
                Ok(Outcome::Done)
            }
            Ok(result) => Ok(result?),
            Err(_) => Err(Error::Unknown),
        }
    }

    /// The answer to a read that has to wait for nothing and nobody.
    pub(super) fn read_at_once(
        &self,
        caller: &Caller,
        query: &Query,
        options: &ReadOptions,
    ) -> Option<Result<Reply, Error>> {
        if options.min_index > 0 {
            return None;
        }
        match options.consistency {
            Consistency::Default => self
                .consensus
                .leased(|| self.reply(caller, query, Duration::ZERO)),
            Consistency::Consistent => None,
            Consistency::Stale => {
                let age = self.fresh_contact(options)?;
                Some(self.reply(caller, query, age))
            }
        }
    }

    /// Whether [`Server::read_at_once`] would give what it gave with this index.
    pub(super) fn is_unchanged(
        &self,
        caller: &Caller,
        query: &Query,
        options: &ReadOptions,
        index: u64,
    ) -> bool {
        // The index does not tell whether the caller may still see the same.
        let is = || self.index(query) == index && self.sees_catalog(caller);
        match options.consistency {
            Consistency::Default => self.consensus.leased(is).unwrap_or(false),
            Consistency::Consistent => false,
            Consistency::Stale => self.fresh_contact(options).is_some() && is(),
        }
    }

    /// What a reply to this query carries as its index.
    fn index(&self, query: &Query) -> u64 {
        self.shared.load().index_of(query).max(1)
    }

    /// Waits for a change until that moment at the longest.
    pub(super) async fn read(
        &self,
        caller: &Caller,
        query: &Query,
        options: &ReadOptions,
        until: Instant,
    ) -> Result<Reply, Error> {
        let quorum = options.consistency == Consistency::Consistent;
        Box::pin(self.linearize(quorum, until + CALL_TIMEOUT)).await?;
        self.wait(caller, query, options, until).await?;
        self.reply(caller, query, Duration::ZERO)
    }

    /// The index up to which everything that was acknowledged is in this leader's state.
    pub(super) async fn read_index(
        &self,
        quorum: bool,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        self.linearize(quorum, deadline).await?;
        let store = self.shared.load();
        Ok(Answer::ReadIndex(store.index_of(&Query::Noop)))
    }

    /// A leader that cannot tell in time whether it still is one is none.
    async fn linearize(&self, quorum: bool, deadline: Instant) -> Result<(), Error> {
        match tokio::time::timeout_at(deadline, self.consensus.linearize(quorum)).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(Error::NoLeader),
        }
    }

    /// Waits until this leader has applied what was acknowledged.
    pub(in crate::node) async fn up_to_date(&self, deadline: Instant) -> Result<(), Error> {
        self.linearize(false, deadline).await
    }

    /// Answers another node's read, which waits no longer than its options say.
    pub(super) async fn read_for(
        &self,
        caller: &Caller,
        query: &Query,
        options: &ReadOptions,
    ) -> Result<Reply, Error> {
        let until = Instant::now() + options.wait;
        if options.consistency == Consistency::Stale {
            let reply = self.read_stale(caller, query, options, until).await;
            return reply.unwrap_or(Err(Error::NoLeader));
        }
        self.read(caller, query, options, until).await
    }

    /// How long ago the leader was heard of, if that is not too long ago for this read.
    fn fresh_contact(&self, options: &ReadOptions) -> Option<Duration> {
        let fresh = |age: &Duration| options.max_stale.is_none_or(|max| *age <= max);
        self.consensus.last_contact().filter(fresh)
    }

    /// `None` when the leader must be asked: it was never heard of, or too long ago.
    pub(super) async fn read_stale(
        &self,
        caller: &Caller,
        query: &Query,
        options: &ReadOptions,
        until: Instant,
    ) -> Option<Result<Reply, Error>> {
        self.fresh_contact(options)?;
        if let Err(error) = self.wait(caller, query, options, until).await {
            return Some(Err(error));
        }
        let age = self.consensus.last_contact().unwrap_or_default();
        Some(self.reply(caller, query, age))
    }

    /// Waits until the query's answer is newer than the asker has. Unchanged at the end of the wait is an answer too,
    /// also when the end comes early because this server leaves.
    ///
    /// # Errors
    /// When the caller may not ask that, at once.
    pub(super) async fn wait(
        &self,
        caller: &Caller,
        query: &Query,
        options: &ReadOptions,
        until: Instant,
    ) -> Result<(), Error> {
        if options.min_index == 0 {
            return Ok(());
        }
        let changed = if self.guard.is_none() || *caller == Caller::Own {
            Either::Left(self.shared.changed(query, options.min_index))
        } else {
            self.check_query(caller, query)?;
            Either::Right(Box::pin(self.changed(caller, query, options.min_index)))
        };
        let mut phase = self.phase.clone();
        tokio::select! {
            biased;
            () = changed => {}
            () = tokio::time::sleep_until(until) => {}
            _ = phase.wait_for(|phase| *phase != Phase::Running) => {}
        }
        Ok(())
    }

    pub(super) async fn command(
        &self,
        request: &Request,
        node: &Node,
        deadline: Instant,
    ) -> Answered {
        let status = self.consensus.status();
        if !status.is_leader() {
            return Answered(Err(Error::NoLeader));
        }
        if let Err(error) = self.check_request(&node.caller, request) {
            return Answered(Err(error));
        }
        Answered(match request {
            Request::RemovePeer(peer) => self.remove_peer(peer, &status).await,
            Request::TransferLeader(to) => self.transfer_leader(*to, &status, deadline).await,
            Request::RenewSession(id) => self.renew_session(*id, deadline).await,
            Request::Place(node, place) => match self.places.tell(node, **place) {
                true => Ok(Answer::Done),
                false => Err(Error::Busy),
            },
            Request::Health => Ok(Answer::Health(self.health(&status, node))),
            Request::SignLeaf(csr) => self.sign_leaf(csr, node).await,
            Request::SignIntermediate(csr) => self.sign_intermediate(csr, node).await,
            Request::SetCa(update) => self.set_ca(update, node, deadline).await,
            Request::Login(login) => Box::pin(self.login(login, node, deadline)).await,
            Request::Logout => self.logout(node, deadline).await,
            Request::Copying => Ok(Answer::Copying(Box::new(self.copying(node)))),
            _ => Err(Error::Refused("not a request to the leader".to_owned())),
        })
    }

    pub(in crate::node) fn health(&self, status: &raft::Status, node: &Node) -> ClusterHealth {
        let store = self.shared.load();
        let config = store.autopilot().cloned().unwrap_or_default();
        self.stability
            .lock()
            .expect("no code panics while it holds this lock")
            .judge(status, &node.members(), &config, node.env().clock.unix_ms())
    }

    async fn renew_session(&self, id: Uuid, deadline: Instant) -> Result<Answer, Error> {
        self.linearize(false, deadline).await?;
        let known = self.shared.load().session(&id);
        let renewed = known.filter(|session| self.timers.renew(session, Instant::now()));
        Ok(Answer::Session(renewed))
    }

    async fn remove_peer(&self, peer: &PeerRef, status: &raft::Status) -> Result<Answer, Error> {
        let found = status.peers.iter().find(|(_, node)| match peer {
            PeerRef::Address(address) => node.addr.to_string() == *address,
            PeerRef::Id(id) => node.node_id.to_string() == *id,
        });
        let Some((&id, node)) = found else {
            return Err(match peer {
                PeerRef::Address(address) => Error::NoSuchPeer(address.clone()),
                PeerRef::Id(id) => Error::Refused(format!(
                    "id \"{id}\" was not found in the Raft configuration"
                )),
            });
        };
        self.consensus.remove(id).await?;
        tracing::info!(target: "raft", "Removed peer {}", node.addr);
        Ok(Answer::Done)
    }

    async fn transfer_leader(
        &self,
        to: Option<Uuid>,
        status: &raft::Status,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        let target = match to {
            Some(id) => status
                .voters
                .iter()
                .copied()
                .find(|voter| status.peers.get(voter).is_some_and(|n| n.node_id == id)),
            None => status.successor(),
        };
        let target = target
            .filter(|id| *id != status.id)
            .ok_or(Error::NoTransferTarget)?;
        let left = deadline.saturating_duration_since(Instant::now());
        self.consensus
            .transfer_leader(target, left.min(CALL_TIMEOUT))
            .await?;
        Ok(Answer::Done)
    }
}
