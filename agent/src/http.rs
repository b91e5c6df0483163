//! The HTTP API under `/v1`: Consul's paths, codes, headers and texts.
//!
//! It reaches the rest of the node only through [`Api`]. There is no router library beneath it: Consul matches the
//! decoded path, answers a wrong method with its own body and `Allow` header, and names endpoints in metrics by
//! their pattern, so a table of patterns (`route.rs`) says it all in one place. HTTP/1 itself is in `wire.rs`, which
//! says why.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use uuid::Uuid;

use crate::acl::SharedHolder;
use crate::acl::copies::Copying;
use crate::acl::login::{LoggedIn, Login};
use crate::ca::{SharedLeaf, Update};
use crate::coordinate::Coordinate;
use crate::events::Events;
use crate::gossip::{JoinError, KeyringOp, Member, UserEvent};
use crate::leader::autopilot::ClusterHealth;
use crate::local::Local;
use crate::node::{
    Datacenter, Error as NodeError, Gauge, Node, PeerRef, PoolKeys, RaftServer, ReadOptions, Reply,
    Saved, TokenUse,
};
use crate::state::{Command, Outcome, Query, Session};

mod acl;
mod agent;
mod autopilot;
mod blocking;
mod body;
mod catalog;
mod closed;
mod config;
mod connect;
mod connection;
mod coordinate;
mod datacenter;
mod dispatch;
mod error;
mod event;
mod filtered;
mod guard;
mod gzip;
mod health;
mod host;
mod intentions;
mod json;
mod keyring;
mod kv;
mod listen;
mod local;
mod mesh;
mod near;
mod needs;
mod operator;
mod query;
mod request;
mod route;
mod server;
mod session;
mod settings;
mod shared;
mod snapshot;
mod status;
mod tokens;
mod txn;
mod ui;
mod usage;
mod views;
mod wire;

#[cfg(test)]
mod tests;

pub use listen::{BindError, UnixSocket, bind};
pub use route::{endpoint_of, endpoints};
pub use server::{Parts, Server};
pub use settings::{Build, Settings};

/// Every gauge as it is when this is called.
pub type GaugeSource = Box<dyn Fn() -> Vec<Gauge> + Send + Sync>;

/// What the API needs of a node. Tests put a fake in its place.
pub trait Api: Send + Sync + Sized + 'static {
    /// See [`Node::at`].
    fn at(&self, datacenter: &str) -> Self;
    /// See [`Node::with`].
    fn with(&self, secret: &str) -> Self;
    /// See [`Node::own`].
    fn own(&self) -> Self;
    /// See [`Node::set_token`].
    fn set_token(&self, of: TokenUse, secret: &str) -> Result<(), NodeError>;
    /// See [`Node::secret`].
    fn secret(&self) -> String;
    /// See [`Node::keyring`].
    fn keyring(
        &self,
        op: KeyringOp,
        own_only: bool,
    ) -> impl Future<Output = Result<Vec<PoolKeys>, NodeError>> + Send;
    /// See [`Node::holder`].
    fn holder(&self) -> impl Future<Output = Result<Option<SharedHolder>, NodeError>> + Send;
    /// See [`Node::datacenters`].
    fn datacenters(&self) -> impl Future<Output = Result<Vec<Datacenter>, NodeError>> + Send;
    /// See [`Node::wan_members`].
    fn wan_members(&self) -> Vec<Arc<Member>>;
    /// See [`Node::join_wan`].
    fn join_wan(&self, address: &str) -> impl Future<Output = Result<usize, JoinError>> + Send;
    /// See [`Node::force_leave_wan`].
    fn force_leave_wan(
        &self,
        name: &str,
        prune: bool,
    ) -> impl Future<Output = Result<(), NodeError>> + Send;
    /// See [`Node::propose`].
    fn propose(
        &self,
        command: Command,
    ) -> impl Future<Output = Result<Outcome, NodeError>> + Send + '_;
    /// See [`Node::read`].
    fn read(
        &self,
        query: Query,
        options: ReadOptions,
    ) -> impl Future<Output = Result<Reply, NodeError>> + Send + '_;
    /// See [`Node::members`].
    fn members(&self) -> Vec<Arc<Member>>;
    /// See [`Node::local_member`].
    fn local_member(&self) -> Arc<Member>;
    /// See [`Node::join`].
    fn join(&self, address: &str) -> impl Future<Output = Result<usize, JoinError>> + Send;
    /// See [`Node::leave`].
    fn leave(&self) -> impl Future<Output = Result<(), NodeError>> + Send;
    /// See [`Node::force_leave`].
    fn force_leave(
        &self,
        name: &str,
        prune: bool,
    ) -> impl Future<Output = Result<(), NodeError>> + Send;
    /// See [`Node::leader_address`].
    fn leader_address(&self) -> impl Future<Output = Result<Option<SocketAddr>, NodeError>> + Send;
    /// See [`Node::peer_addresses`].
    fn peer_addresses(&self) -> impl Future<Output = Result<Vec<SocketAddr>, NodeError>> + Send;
    /// See [`Node::raft_configuration`].
    fn raft_configuration(
        &self,
        stale: bool,
    ) -> impl Future<Output = Result<(Vec<RaftServer>, u64), NodeError>> + Send;
    /// See [`Node::remove_peer`].
    fn remove_peer(&self, peer: PeerRef) -> impl Future<Output = Result<(), NodeError>> + Send;
    /// See [`Node::transfer_leader`].
    fn transfer_leader(
        &self,
        id: Option<Uuid>,
    ) -> impl Future<Output = Result<(), NodeError>> + Send;
    /// See [`Node::renew_session`].
    fn renew_session(
        &self,
        id: Uuid,
    ) -> impl Future<Output = Result<Option<Arc<Session>>, NodeError>> + Send;
    /// See [`Node::health`].
    fn health(&self) -> impl Future<Output = Result<ClusterHealth, NodeError>> + Send;
    /// See [`Node::local`].
    fn local(&self) -> &Local;
    /// See [`Node::fire`].
    fn fire(&self, event: UserEvent) -> impl Future<Output = Result<(), NodeError>> + Send;
    /// See [`Node::events`].
    fn events(&self) -> &Events;
    /// See [`Node::coordinate`].
    fn coordinate(&self) -> Coordinate;
    /// See [`Node::tell_place`].
    fn tell_place(
        &self,
        node: &str,
        place: Coordinate,
    ) -> impl Future<Output = Result<(), NodeError>> + Send;
    /// See [`Node::set_ca_config`].
    fn set_ca_config(&self, update: Update)
    -> impl Future<Output = Result<bool, NodeError>> + Send;
    /// See [`Node::copying`].
    fn copying(&self) -> impl Future<Output = Result<Copying, NodeError>> + Send;
    /// See [`Node::login`].
    fn login(&self, login: Login) -> impl Future<Output = Result<LoggedIn, NodeError>> + Send;
    /// See [`Node::logout`].
    fn logout(&self) -> impl Future<Output = Result<(), NodeError>> + Send;
    /// See [`Node::leaf`].
    fn leaf(
        &self,
        service: &str,
        min_index: u64,
        wait: Duration,
    ) -> impl Future<Output = Result<(SharedLeaf, bool), NodeError>> + Send;
    /// See [`Node::meta`].
    fn meta(&self) -> BTreeMap<String, String>;
    /// See [`Node::not_ready`].
    fn not_ready(&self) -> Option<String>;
    /// See [`Node::save`].
    fn save(&self, stale: bool) -> impl Future<Output = Result<Saved, NodeError>> + Send;
    /// See [`Node::gauges`].
    fn gauges(&self) -> Vec<Gauge>;
    /// [`Api::gauges`] for whoever outlives the request.
    fn later_gauges(&self) -> GaugeSource;
    /// See [`Node::info`].
    fn info(&self) -> BTreeMap<String, BTreeMap<String, String>>;
}

/// What the API needs of the process around the node.
pub trait Process: Send + Sync {
    /// Log lines of this level and above from now on, each with its newline. Ends when the log does. Dropping it
    /// ends the subscription.
    fn follow_log(&self, level: tracing::Level, json: bool) -> BoxStream<'static, Bytes>;

    /// Reads the configuration files again and applies what can be applied.
    ///
    /// # Errors
    /// What is wrong with them; nothing has changed then.
    fn reload(&self) -> Result<(), String>;
}

impl Api for Node {
    fn at(&self, datacenter: &str) -> Self {
        Node::at(self, datacenter)
    }

    fn with(&self, secret: &str) -> Self {
        Node::with(self, secret)
    }

    fn own(&self) -> Self {
        Node::own(self)
    }

    fn keyring(
        &self,
        op: KeyringOp,
        own_only: bool,
    ) -> impl Future<Output = Result<Vec<PoolKeys>, NodeError>> + Send {
        Node::keyring(self, op, own_only)
    }

    fn secret(&self) -> String {
        Node::secret(self)
    }

    fn set_token(&self, of: TokenUse, secret: &str) -> Result<(), NodeError> {
        Node::set_token(self, of, secret)
    }

    fn holder(&self) -> impl Future<Output = Result<Option<SharedHolder>, NodeError>> + Send {
        Node::holder(self)
    }

    fn datacenters(&self) -> impl Future<Output = Result<Vec<Datacenter>, NodeError>> + Send {
        Node::datacenters(self)
    }

    fn wan_members(&self) -> Vec<Arc<Member>> {
        Node::wan_members(self)
    }

    fn join_wan(&self, address: &str) -> impl Future<Output = Result<usize, JoinError>> + Send {
        Node::join_wan(self, address)
    }

    fn force_leave_wan(
        &self,
        name: &str,
        prune: bool,
    ) -> impl Future<Output = Result<(), NodeError>> + Send {
        Node::force_leave_wan(self, name, prune)
    }

    fn propose(
        &self,
        command: Command,
    ) -> impl Future<Output = Result<Outcome, NodeError>> + Send + '_ {
        Node::propose(self, command)
    }

    fn read(
        &self,
        query: Query,
        options: ReadOptions,
    ) -> impl Future<Output = Result<Reply, NodeError>> + Send + '_ {
        Node::read(self, query, options)
    }

    fn members(&self) -> Vec<Arc<Member>> {
        Node::members(self)
    }

    fn local_member(&self) -> Arc<Member> {
        Node::local_member(self)
    }

    fn join(&self, address: &str) -> impl Future<Output = Result<usize, JoinError>> + Send {
        Node::join(self, address)
    }

    fn leave(&self) -> impl Future<Output = Result<(), NodeError>> + Send {
        Node::leave(self)
    }

    fn force_leave(
        &self,
        name: &str,
        prune: bool,
    ) -> impl Future<Output = Result<(), NodeError>> + Send {
        Node::force_leave(self, name, prune)
    }

    fn leader_address(&self) -> impl Future<Output = Result<Option<SocketAddr>, NodeError>> + Send {
        Node::leader_address(self)
    }

    fn peer_addresses(&self) -> impl Future<Output = Result<Vec<SocketAddr>, NodeError>> + Send {
        Node::peer_addresses(self)
    }

    fn raft_configuration(
        &self,
        stale: bool,
    ) -> impl Future<Output = Result<(Vec<RaftServer>, u64), NodeError>> + Send {
        Node::raft_configuration(self, stale)
    }

    fn remove_peer(&self, peer: PeerRef) -> impl Future<Output = Result<(), NodeError>> + Send {
        Node::remove_peer(self, peer)
    }

    fn transfer_leader(
        &self,
        id: Option<Uuid>,
    ) -> impl Future<Output = Result<(), NodeError>> + Send {
        Node::transfer_leader(self, id)
    }

    fn renew_session(
        &self,
        id: Uuid,
    ) -> impl Future<Output = Result<Option<Arc<Session>>, NodeError>> + Send {
        Node::renew_session(self, id)
    }

    fn health(&self) -> impl Future<Output = Result<ClusterHealth, NodeError>> + Send {
        Node::health(self)
    }

    fn local(&self) -> &Local {
        Node::local(self)
    }

    fn fire(&self, event: UserEvent) -> impl Future<Output = Result<(), NodeError>> + Send {
        Node::fire(self, event)
    }

    fn events(&self) -> &Events {
        Node::events(self)
    }

    fn coordinate(&self) -> Coordinate {
        Node::coordinate(self)
    }

    fn tell_place(
        &self,
        node: &str,
        place: Coordinate,
    ) -> impl Future<Output = Result<(), NodeError>> + Send {
        Node::tell_place(self, node, place)
    }

    fn set_ca_config(
        &self,
        update: Update,
    ) -> impl Future<Output = Result<bool, NodeError>> + Send {
        Node::set_ca_config(self, update)
    }

    fn copying(&self) -> impl Future<Output = Result<Copying, NodeError>> + Send {
        Node::copying(self)
    }

    fn login(&self, login: Login) -> impl Future<Output = Result<LoggedIn, NodeError>> + Send {
        Node::login(self, login)
    }

    fn logout(&self) -> impl Future<Output = Result<(), NodeError>> + Send {
        Node::logout(self)
    }

    fn leaf(
        &self,
        service: &str,
        min_index: u64,
        wait: Duration,
    ) -> impl Future<Output = Result<(SharedLeaf, bool), NodeError>> + Send {
        Node::leaf(self, service, min_index, wait)
    }

    fn meta(&self) -> BTreeMap<String, String> {
        Node::meta(self)
    }

    fn not_ready(&self) -> Option<String> {
        Node::not_ready(self)
    }

    fn save(&self, stale: bool) -> impl Future<Output = Result<Saved, NodeError>> + Send {
        Node::save(self, stale)
    }

    fn gauges(&self) -> Vec<Gauge> {
        Node::gauges(self)
    }

    fn later_gauges(&self) -> GaugeSource {
        let node = self.clone();
        Box::new(move || node.gauges())
    }

    fn info(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        Node::info(self)
    }
}
