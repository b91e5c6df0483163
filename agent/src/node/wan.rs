//! The pool that the servers of all datacenters form: who is in it, and how they come into it.
//!
//! It is a pool of its own, on a port of its own. Nothing of it reaches Raft: what its members say of themselves has neither
//! a raft id nor a cluster, and the duties of the leader look at the local pool alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::join::Pool;
use super::{Error, Node, StartError};
use crate::config::Config;
use crate::env::Env;
use crate::gossip::{self, Gossip, JoinError, Member, Status, Tags};
use crate::leader::peers::server_addr;
use crate::rate::Operation;
use crate::rpc::{Answer, Request};

mod table;

pub use table::Datacenter;
pub(super) use table::{Table, WAN_JOIN_PORT, name_in_all};

/// Time after which peers that could not be joined to the pool are tried again although nothing has changed. Consul's.
const FLOOD_INTERVAL: Duration = Duration::from_secs(60);

/// What this agent says where it cannot take part.
const NOT_A_SERVER: &str = "Must be a server to join WAN cluster";
const SWITCHED_OFF: &str = "WAN Federation is disabled";

/// What a server has of the pool of all datacenters.
pub(super) struct Wan {
    pub(super) gossip: Gossip,
    /// Who answered last, by datacenter.
    last: Mutex<BTreeMap<String, SocketAddr>>,
}

impl Wan {
    /// Takes part in the pool, if this agent shall.
    pub(super) async fn start(
        env: &Env,
        config: &Config,
        id: Uuid,
        tags: &Tags,
    ) -> Result<Option<Self>, gossip::StartError> {
        let Some(settings) = settings(config, id, tags) else {
            return Ok(None);
        };
        Ok(Some(Self {
            gossip: gossip::start(env.clone(), settings).await?,
            last: Mutex::default(),
        }))
    }

    pub(super) fn table(&self) -> Table {
        Table::of(&self.gossip.members())
    }

    pub(super) fn last(&self, datacenter: &str) -> Option<SocketAddr> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(datacenter).copied()
    }

    pub(super) fn set_last(&self, datacenter: &str, answered: Option<SocketAddr>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match answered {
            Some(address) => last.insert(datacenter.to_owned(), address),
            None => last.remove(datacenter),
        };
    }

    /// The datacenters, the nearest first.
    fn datacenters(&self, own: &str, id: Uuid) -> Vec<Datacenter> {
        let from = self.gossip.coordinate();
        let mut places = BTreeMap::clone(&self.gossip.places());
        places.insert(id, from);
        self.table().by_distance(own, &from, &places)
    }
}

fn settings(config: &Config, id: Uuid, tags: &Tags) -> Option<gossip::Settings> {
    let (bind, advertise) = (config.wan_bind()?, config.wan_advertise()?);
    let times = config.wan.gossip;
    // What makes a server a peer is nobody's business in other datacenters.
    let local = ["raft_id", "cluster", "bootstrap", "expect"];
    let tags = tags.iter().filter(|(name, _)| !local.contains(name));
    let name = name_in_all(&config.node_name, &config.datacenter);
    let snapshot = config.data_dir.join("serf/remote.snapshot");
    Some(gossip::Settings {
        advertise,
        tags: tags.collect(),
        rejoin_after_leave: config.rejoin_after_leave,
        probe_interval: times.probe_interval,
        probe_timeout: times.probe_timeout,
        suspicion_mult: times.suspicion_mult,
        gossip_interval: times.gossip_interval,
        reconnect_timeout: config.wan.reconnect_timeout,
        coordinates: !config.disable_coordinates,
        encryption: Some(super::start::encryption(config, "remote.keyring")),
        ..gossip::Settings::wan(name, id, bind, snapshot)
    })
}

impl Node {
    fn wan(&self) -> Result<&Wan, &'static str> {
        match &self.inner.wan {
            Some(wan) => Ok(wan),
            None if self.is_server() => Err(SWITCHED_OFF),
            None => Err(NOT_A_SERVER),
        }
    }

    /// The members of the pool that the servers of all datacenters form, by name; none where this agent is not in it.
    pub fn wan_members(&self) -> Vec<Arc<Member>> {
        self.wan()
            .map_or_else(|_| Vec::new(), |wan| wan.gossip.members())
    }

    /// Joins the pool of all datacenters by a server at `address`; the number of servers contacted.
    ///
    /// # Errors
    /// As [`Node::join`], and on an agent that is not in that pool.
    pub async fn join_wan(&self, address: &str) -> Result<usize, JoinError> {
        let port = self.inner.config.ports.serf_wan.unwrap_or_default();
        match self.wan() {
            Ok(wan) => wan.gossip.join(address, port).await,
            Err(why) => Err(JoinError::NoPool(why)),
        }
    }

    /// As [`Node::force_leave`], in the pool of all datacenters; `name` is `NODE.DATACENTER`.
    ///
    /// # Errors
    /// When there is no such member, or this agent is not in that pool.
    pub async fn force_leave_wan(&self, name: &str, prune: bool) -> Result<(), Error> {
        let wan = self.wan().map_err(|why| Error::Refused(why.to_owned()))?;
        tracing::info!(target: "consul", "Force leaving node: node={name}");
        let found = wan.gossip.force_leave(name, prune).await;
        found.map_err(|_| Error::NoSuchMember(name.to_owned()))
    }

    /// Every datacenter that is known, the nearest first, with the places of its servers.
    ///
    /// # Errors
    /// When this agent is a client and reaches no server.
    pub async fn datacenters(&self) -> Result<Vec<Datacenter>, Error> {
        self.enter(|| Operation::DATACENTERS)?;
        let config = self.config();
        if let Some(datacenter) = &self.elsewhere {
            return self.datacenters_across(datacenter).await;
        }
        match (&self.inner.wan, &self.inner.server) {
            (Some(wan), _) => Ok(wan.datacenters(&config.datacenter, self.inner.node_id)),
            (None, Some(_)) => Ok(vec![self.lone_datacenter()]),
            (None, None) => match self.ask_servers(&Request::Datacenters).await? {
                Answer::Datacenters(found) => Ok(found),
                _ => Err(Error::Unknown),
            },
        }
    }

    /// The own datacenter with its servers' places in the local pool, where there is no other.
    fn lone_datacenter(&self) -> Datacenter {
        let places = self.stale_places();
        let place = |name: &str| {
            let row = places
                .iter()
                .find(|row| row.node.eq_ignore_ascii_case(name));
            row.map(|row| row.place).unwrap_or_default()
        };
        let members = self.members();
        let servers = members
            .iter()
            .filter(|member| member.status == Status::Alive && server_addr(member).is_some());
        Datacenter {
            name: self.config().datacenter.clone(),
            places: servers
                .map(|member| (member.name.clone(), place(&member.name)))
                .collect(),
        }
    }

    /// How many datacenters this server knows.
    pub(super) fn known_datacenters(&self) -> usize {
        self.inner.wan.as_ref().map_or(1, |wan| wan.table().len())
    }

    /// `-join-wan`: at least one address must answer.
    pub(super) async fn start_join_wan(&self) -> Result<(), StartError> {
        match self.inner.wan {
            Some(_) => {
                let addresses = &self.inner.config.wan.start_join;
                self.start_join(Pool::Wan, addresses).await
            }
            None => Ok(()),
        }
    }

    /// Joins the servers of the own datacenter to the pool of all, whenever one turns up that is not in it.
    pub(super) async fn flood_join(self) {
        let Some(wan) = &self.inner.wan else {
            return;
        };
        let (mut here, mut there) = (self.inner.gossip.watch(), wan.gossip.watch());
        let mut tried: Vec<(String, SocketAddr)> = Vec::new();
        loop {
            here.mark_unchanged();
            there.mark_unchanged();
            let lan = self.members();
            let missing = table::missing(&lan, &wan.gossip.members(), &self.config().datacenter);
            for (name, address) in missing.iter().filter(|one| !tried.contains(one)) {
                if let Err(error) = wan.gossip.join(&address.to_string(), address.port()).await {
                    // Where nobody reaches the port, that is how it is meant.
                    tracing::debug!(target: "consul", "Failed to flood-join server at address: server={name} address={address} error={error}");
                }
            }
            // One that cannot be joined is tried again after a while, not at every change of others.
            tried = missing;
            tokio::select! {
                Ok(()) = here.changed() => {}
                Ok(()) = there.changed() => {}
                () = tokio::time::sleep(FLOOD_INTERVAL) => tried.clear(),
            }
        }
    }
}
