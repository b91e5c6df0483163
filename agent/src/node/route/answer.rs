//! What this server answers to requests of other nodes.

use std::future::ready;

use futures::future::{BoxFuture, FutureExt as _};
use tokio::time::Instant;

use super::super::access::Caller;
use super::super::{Error, Node, Server};
use super::read;
use crate::config::Bootstrap;
use crate::rpc::{self, Answer, Answered, Request};

impl Node {
    /// Answers a request that arrived over RPC. Never passes it on: the asker finds the leader itself.
    /// Its asker gives up at `deadline`.
    pub(in crate::node) async fn answer(&self, request: Request, deadline: Instant) -> Answered {
        let (caller, request) = match request {
            Request::As { token, request } => (Caller::Holder(token.0.into()), *request),
            // A server that leaves looks whether it is out. Who the servers are, gossip tells everybody.
            request @ Request::RaftConfiguration(_) => (Caller::Own, request),
            request => (Caller::Holder("".into()), request),
        };
        let node = self.by(caller).uncounted();
        node.answer_caller(request, deadline).await
    }

    /// Answers whoever this handle is for. Each answer is boxed by itself, or all of them would take what the largest takes.
    fn answer_caller(&self, request: Request, deadline: Instant) -> BoxFuture<'_, Answered> {
        let Some(server) = &self.inner.server else {
            return at_once(Err(Error::Refused("this node is a client".to_owned())));
        };
        if let Err(error) = server.check_request(&self.caller, &request) {
            return at_once(Err(error));
        }
        match request {
            Request::As { .. } => at_once(Err(Error::Refused(
                "a request cannot be in the name of two".to_owned(),
            ))),
            Request::Grant(secret) => at_once(server.granted(&secret.0)),
            Request::Keyring { op, own_only } => self
                .keyring(op, own_only)
                .map(|keys| Answered(keys.map(Answer::Keyring)))
                .boxed(),
            Request::Propose(bytes) => Box::pin(async move {
                let proposed = server.propose(&self.caller, bytes, deadline).await;
                Answered(proposed.map(Answer::Applied))
            }),
            Request::Read(query, options) => Box::pin(async move {
                let reply = server.read_for(&self.caller, &query, &options).await;
                Answered(reply.map(read))
            }),
            Request::Peers => at_once(Ok(Answer::Peers {
                leader: server.leader_address(),
                voters: server.voter_addresses(),
            })),
            Request::RaftConfiguration(true) if !server.leads() => at_once(Err(Error::NoLeader)),
            Request::RaftConfiguration(_) => {
                let (servers, index) = server.configuration();
                at_once(Ok(Answer::RaftConfiguration(servers, index)))
            }
            request @ (Request::RemovePeer(_)
            | Request::TransferLeader(_)
            | Request::RenewSession(_)
            | Request::Health
            | Request::Place(..)
            | Request::SignLeaf(_)
            | Request::SignIntermediate(_)
            | Request::SetCa(_)
            | Request::Login(_)
            | Request::Logout
            | Request::Copying) => {
                Box::pin(async move { server.command(&request, self, deadline).await })
            }
            Request::ReadIndex { quorum } => {
                server.read_index(quorum, deadline).map(Answered).boxed()
            }
            request @ (Request::Save { .. } | Request::SavedPiece { .. }) => {
                Box::pin(async move { self.answer_save(server, &request).await })
            }
            Request::In {
                datacenter,
                forwarded,
                request,
            } => Box::pin(async move { self.answer_in(&datacenter, forwarded, *request).await }),
            Request::Datacenters => self
                .datacenters()
                .map(|found| Answered(found.map(Answer::Datacenters)))
                .boxed(),
            Request::Fire(_) => at_once(Err(Error::Refused(
                "every agent fires its own events".to_owned(),
            ))),
            Request::HasRoom => at_once(match server.consensus.room().borrow().lacking() {
                None => Ok(Answer::Done),
                Some(why) => Err(Error::NoRoom(why.to_owned())),
            }),
            Request::Promise(promise) => {
                Box::pin(async move { Answered(self.promise(server, &promise).await) })
            }
            Request::Release(promise) => at_once(server.release(promise)),
            Request::Confirm(promise) => at_once(server.confirm(promise)),
        }
    }

    async fn promise(&self, server: &Server, promise: &rpc::Promise) -> Result<Answer, Error> {
        let refuse = |why: String| Err(Error::Refused(why));
        let own = self.inner.config.bootstrap;
        if !matches!(own, Bootstrap::Expect(n) if n.get() == promise.expect) {
            return refuse(format!(
                "this server does not expect {} servers",
                promise.expect
            ));
        }
        if server.consensus.is_initialized().await? {
            return refuse("this server has raft data".to_owned());
        }
        match server
            .consensus
            .identity()
            .promise_to(promise.cluster, promise.initiator)
        {
            Ok(()) => Ok(Answer::Done),
            Err(error) => refuse(error.to_string()),
        }
    }
}

impl Server {
    fn release(&self, promise: rpc::Promise) -> Result<Answer, Error> {
        let identity = self.consensus.identity();
        let released = identity.release(promise.cluster, promise.initiator);
        released
            .map(|()| Answer::Done)
            .map_err(|e| Error::Refused(e.to_string()))
    }

    fn confirm(&self, promise: rpc::Promise) -> Result<Answer, Error> {
        let identity = self.consensus.identity();
        let holds = identity.cluster() == Some(promise.cluster)
            || identity.promise() == Some((promise.cluster, promise.initiator));
        match holds {
            true => Ok(Answer::Done),
            false => Err(Error::Refused("not forming that cluster".to_owned())),
        }
    }
}

/// An answer that waits for nothing.
fn at_once<'a>(answer: Result<Answer, Error>) -> BoxFuture<'a, Answered> {
    ready(Answered(answer)).boxed()
}
