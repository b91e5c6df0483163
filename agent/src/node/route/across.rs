//! Requests for another datacenter: from an agent to a server of its own, from there to a server of that datacenter, from there
//! to whoever can answer.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::{CALL_TIMEOUT, PROPOSE_TIMEOUT};
use crate::gossip::Status;
use crate::leader::peers::server_addr;
use crate::node::{Datacenter, Error, Node, ReadOptions, Reply};
use crate::rpc::{Answer, Answered, Request};
use crate::state::{Answer as Found, NodePlace, Query};

/// How much longer than its own time a request to another datacenter may take altogether: there too it may have to wait for a
/// leader.
const FURTHER: Duration = Duration::from_secs(7);

impl Node {
    /// The same agent for requests to a datacenter: what is asked of this handle is asked there.
    #[must_use]
    pub fn at(&self, datacenter: &str) -> Self {
        let is_own = datacenter == self.inner.config.datacenter;
        Self {
            elsewhere: (!is_own).then(|| datacenter.into()),
            ..self.clone()
        }
    }

    /// Asks one server of another datacenter, which has until `deadline`. `request` makes the request anew for each try.
    pub(in crate::node) async fn across(
        &self,
        datacenter: &str,
        request: impl Fn() -> Request + Sync,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        let request = &request;
        self.until_led(deadline, || async move {
            Answered(self.try_across(datacenter, request, deadline).await)
        })
        .await
    }

    async fn try_across(
        &self,
        datacenter: &str,
        request: &(impl Fn() -> Request + Sync),
        deadline: Instant,
    ) -> Result<Answer, Error> {
        let (servers, forwarded) = self.next_servers(datacenter)?;
        for server in servers {
            let request = Request::In {
                datacenter: datacenter.to_owned(),
                forwarded,
                request: Box::new(request()),
            };
            let answered = self.try_ask(server, &request, deadline).await;
            if let Some(wan) = &self.inner.wan {
                wan.set_last(datacenter, answered.as_ref().map(|_| server));
            }
            if let Some(answered) = answered {
                return answered.0;
            }
        }
        Err(match forwarded {
            true => Error::Unreachable,
            false => self.nobody(),
        })
    }

    /// Whom to ask next about a datacenter, and whether they are of it.
    pub(in crate::node) fn next_servers(
        &self,
        datacenter: &str,
    ) -> Result<(Vec<SocketAddr>, bool), Error> {
        match (&self.inner.wan, &self.inner.server) {
            (Some(wan), _) => {
                let last = wan.last(datacenter);
                let way = wan.table().way(datacenter, last, &*self.inner.env.random)?;
                Ok((way, true))
            }
            (None, Some(_)) => Err(Error::NoPath),
            (None, None) => {
                let mut servers = self.living_servers();
                if servers.is_empty() {
                    return Err(self.nobody());
                }
                let first = self.inner.env.random.below(servers.len() as u64) as usize;
                servers.rotate_left(first);
                Ok((servers, false))
            }
        }
    }

    /// Server addresses of the living servers of the own datacenter.
    pub(in crate::node) fn living_servers(&self) -> Vec<SocketAddr> {
        self.members()
            .iter()
            .filter(|m| m.status == Status::Alive)
            .filter_map(|m| server_addr(m))
            .collect()
    }

    pub(super) async fn read_across(
        &self,
        datacenter: &str,
        query: &Query,
        options: &ReadOptions,
        until: Instant,
    ) -> Result<Reply, Error> {
        let request = || {
            let wait = until.saturating_duration_since(Instant::now());
            let options = ReadOptions {
                wait,
                ..options.clone()
            };
            Request::Read(query.clone(), options)
        };
        let deadline = until + CALL_TIMEOUT + FURTHER;
        let answer = self.across(datacenter, request, deadline).await?;
        super::read_of(answer)
    }

    /// The datacenters as another one sees them.
    pub(in crate::node) async fn datacenters_across(
        &self,
        datacenter: &str,
    ) -> Result<Vec<Datacenter>, Error> {
        let deadline = Instant::now() + CALL_TIMEOUT;
        let answer = self.across(datacenter, || Request::Datacenters, deadline);
        match answer.await? {
            Answer::Datacenters(found) => Ok(found),
            _ => Err(Error::Unknown),
        }
    }

    /// Asks whichever server of the own datacenter; for agents that are none.
    pub(in crate::node) async fn ask_servers(&self, request: &Request) -> Result<Answer, Error> {
        let deadline = Instant::now() + CALL_TIMEOUT;
        self.until_led(deadline, || self.ask_any(request, deadline))
            .await
    }

    /// Where the nodes are, as this server knows it.
    pub(in crate::node) fn stale_places(&self) -> Vec<std::sync::Arc<NodePlace>> {
        let Some(server) = &self.inner.server else {
            return Vec::new();
        };
        match server.shared.load().query(&Query::Places) {
            Found::Places(rows) => rows,
            _ => Vec::new(),
        }
    }

    /// Answers [`Request::In`]: finds who can, here or elsewhere, unlike for requests of the own datacenter's nodes, which
    /// find the leader themselves.
    pub(super) async fn answer_in(
        &self,
        datacenter: &str,
        forwarded: bool,
        request: Request,
    ) -> Answered {
        let own = &self.inner.config.datacenter;
        if forwarded && datacenter != own {
            let text = format!("this server is in datacenter '{own}', not in '{datacenter}'");
            return Answered(Err(Error::Refused(text)));
        }
        let node = self.at(datacenter);
        Answered(match request {
            Request::Propose(command) => {
                let deadline = Instant::now() + PROPOSE_TIMEOUT;
                let proposed = node.propose_encoded(command, deadline).await;
                proposed.map(Answer::Applied)
            }
            Request::Read(query, options) => node.read(query, options).await.map(super::read),
            Request::Peers => node.peers().await,
            Request::RaftConfiguration(led) => {
                let found = node.raft_configuration(!led).await;
                found.map(|(servers, index)| Answer::RaftConfiguration(servers, index))
            }
            Request::Datacenters => node.datacenters().await.map(Answer::Datacenters),
            Request::Keyring { op, own_only } => {
                node.keyring(op, own_only).await.map(Answer::Keyring)
            }
            Request::Fire(event) => node.fire(event).await.map(|()| Answer::Done),
            Request::Save { stale } => match node.save(stale).await {
                Ok(saved) => self.keep_saved(saved),
                Err(error) => Err(error),
            },
            request @ (Request::RemovePeer(_)
            | Request::TransferLeader(_)
            | Request::RenewSession(_)
            | Request::Health
            | Request::Place(..)
            | Request::SignIntermediate(_)
            | Request::Login(_)
            | Request::Logout
            | Request::Copying) => node.lead_or_ask(request).await,
            // What servers ask of each other when they form a cluster or copy its log stays within a datacenter.
            _ => Err(Error::Refused(
                "not a request that may be made of another datacenter".to_owned(),
            )),
        })
    }

    /// Leader and voters, here or elsewhere.
    async fn peers(&self) -> Result<Answer, Error> {
        Ok(Answer::Peers {
            leader: self.leader_address().await?,
            voters: self.peer_addresses().await?,
        })
    }
}

/// Whether a request that may have been done already can be made once more. Reads can; of anything else nobody knows whether
/// it was done.
pub(super) fn is_repeatable(request: &Request) -> bool {
    match request {
        Request::Read(..)
        | Request::Peers
        | Request::RaftConfiguration(_)
        | Request::RenewSession(_)
        | Request::Health
        | Request::ReadIndex { .. }
        | Request::Place(..)
        | Request::Save { .. }
        | Request::SavedPiece { .. }
        | Request::SignLeaf(_)
        | Request::SignIntermediate(_)
        | Request::Grant(_)
        | Request::Copying
        | Request::Datacenters => true,
        Request::In { request, .. } | Request::As { request, .. } => is_repeatable(request),
        _ => false,
    }
}
