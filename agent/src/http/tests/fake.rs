//! The fake node's side of the API.

use super::*;

impl Api for Arc<Fake> {
    fn with(&self, _: &str) -> Self {
        self.clone()
    }

    fn own(&self) -> Self {
        self.clone()
    }

    async fn keyring(&self, op: KeyringOp, _: bool) -> Result<Vec<PoolKeys>, NodeError> {
        let error = match op {
            KeyringOp::List => "Keyring is empty (encryption not enabled)",
            _ => "No keyring to modify (encryption not enabled)",
        };
        let pool = |wan, name: &str| PoolKeys {
            wan,
            datacenter: "dc1".to_owned(),
            nodes: 1,
            errors: [(name.to_owned(), error.to_owned())].into(),
            ..PoolKeys::default()
        };
        Ok(vec![pool(true, "a.dc1"), pool(false, "a")])
    }

    fn secret(&self) -> String {
        String::new()
    }

    fn set_token(&self, of: TokenUse, secret: &str) -> Result<(), NodeError> {
        self.call(format!("token {of:?} {secret}"))
    }

    async fn holder(&self) -> Result<Option<SharedHolder>, NodeError> {
        Ok(None)
    }

    fn at(&self, datacenter: &str) -> Self {
        if datacenter == self.datacenter {
            return self.clone();
        }
        let others = self.others.lock().unwrap();
        let found = others.iter().find(|(name, _)| name == datacenter);
        match found {
            Some((_, other)) => other.clone(),
            None => Arc::new(Fake::broken(NodeError::NoPath)),
        }
    }

    async fn datacenters(&self) -> Result<Vec<Datacenter>, NodeError> {
        let others = self.others.lock().unwrap();
        let names = others.iter().map(|(name, _)| name.as_str());
        let found = std::iter::once("dc1").chain(names).map(|name| Datacenter {
            name: name.to_owned(),
            places: vec![("a".to_owned(), Coordinate::default())],
        });
        Ok(found.collect())
    }

    fn wan_members(&self) -> Vec<Arc<Member>> {
        vec![member("a.dc1", 8302, Status::Alive)]
    }

    async fn join_wan(&self, at: &str) -> Result<usize, JoinError> {
        let _ = self.call(format!("join -wan {at}"));
        match at {
            "client" => Err(JoinError::NoPool("Must be a server to join WAN cluster")),
            _ => Ok(1),
        }
    }

    async fn force_leave_wan(&self, name: &str, prune: bool) -> Result<(), NodeError> {
        self.call(format!("force-leave -wan {name} {prune}"))
    }

    async fn propose(&self, command: Command) -> Result<Outcome, NodeError> {
        self.led()?;
        Ok(self.apply(command))
    }

    async fn read(&self, query: Query, options: ReadOptions) -> Result<Reply, NodeError> {
        self.led()?;
        if options.min_index > 0 {
            let changed = self.shared.changed(&query, options.min_index);
            let _ = tokio::time::timeout(options.wait, changed).await;
        }
        let store = self.shared.load();
        Ok(Reply {
            answer: store.query(&query),
            index: store.index_of(&query),
            known_leader: true,
            last_contact: Duration::from_millis(7),
            filtered: false,
        })
    }

    fn members(&self) -> Vec<Arc<Member>> {
        vec![
            member("a", 8301, Status::Alive),
            member("b", 8302, Status::Left),
        ]
    }

    fn local_member(&self) -> Arc<Member> {
        member("a", 8301, Status::Alive)
    }

    async fn join(&self, at: &str) -> Result<usize, JoinError> {
        let _ = self.call(format!("join {at}"));
        if at == "127.0.0.9" {
            return Err(JoinError::Connect {
                address: address("127.0.0.9:8301"),
                source: io::Error::other("connection refused"),
            });
        }
        Ok(1)
    }

    async fn leave(&self) -> Result<(), NodeError> {
        self.call("leave".into())
    }

    async fn force_leave(&self, name: &str, prune: bool) -> Result<(), NodeError> {
        self.call(format!("force-leave {name} {prune}"))?;
        if name == "zz" {
            return Err(NodeError::NoSuchMember(name.into()));
        }
        Ok(())
    }

    async fn leader_address(&self) -> Result<Option<SocketAddr>, NodeError> {
        match self.led() {
            Err(NodeError::NoLeader) => Ok(None),
            led => led.map(|()| Some(address("127.0.0.1:8300"))),
        }
    }

    async fn peer_addresses(&self) -> Result<Vec<SocketAddr>, NodeError> {
        self.led()?;
        Ok(vec![address("127.0.0.1:8300"), address("127.0.0.2:8300")])
    }

    async fn raft_configuration(&self, stale: bool) -> Result<(Vec<RaftServer>, u64), NodeError> {
        self.call(format!("configuration {stale}"))?;
        let server = RaftServer {
            id: Uuid::from_u128(1),
            node: "a".into(),
            address: address("127.0.0.1:8300"),
            leader: true,
            voter: true,
            last_index: 9,
        };
        let unknown = RaftServer {
            node: String::new(),
            leader: false,
            voter: false,
            ..server.clone()
        };
        Ok((vec![server, unknown], 5))
    }

    async fn remove_peer(&self, peer: PeerRef) -> Result<(), NodeError> {
        self.call(format!("remove {peer:?}"))?;
        match peer {
            PeerRef::Address(address) if address == "1.1.1.1:1" => {
                Err(NodeError::NoSuchPeer(address))
            }
            _ => Ok(()),
        }
    }

    async fn renew_session(&self, id: Uuid) -> Result<Option<Arc<Session>>, NodeError> {
        self.call(format!("renew {id}"))?;
        Ok(self.shared.load().session(&id))
    }

    async fn transfer_leader(&self, id: Option<Uuid>) -> Result<(), NodeError> {
        self.call(format!("transfer {id:?}"))?;
        match id {
            Some(id) if id.is_nil() => Err(NodeError::NoTransferTarget),
            _ => Ok(()),
        }
    }

    async fn health(&self) -> Result<ClusterHealth, NodeError> {
        self.call("health".into())?;
        let server = |n: u8, leader| ServerHealth {
            id: Uuid::from_u128(n.into()),
            name: format!("s{n}"),
            address: SocketAddr::from(([127, 0, 0, n], 8300)),
            member_status: "alive".to_owned(),
            version: "1.19.0".to_owned(),
            leader,
            last_contact: Some(Duration::from_micros(u64::from(n - 1) * 1500)),
            last_term: 2,
            last_index: 90,
            healthy: n < 3,
            voter: true,
            stable_since_ms: 1_604_670_704_500,
        };
        Ok(ClusterHealth {
            servers: vec![server(1, true), server(3, false)],
            healthy: false,
            failure_tolerance: 0,
        })
    }

    fn local(&self) -> &Local {
        &self.local
    }

    async fn fire(&self, event: UserEvent) -> Result<(), NodeError> {
        self.led()?;
        self.events.push(Arc::new(UserEvent { ltime: 5, ..event }));
        Ok(())
    }

    fn events(&self) -> &Events {
        &self.events
    }

    fn coordinate(&self) -> Coordinate {
        Coordinate::default()
    }

    async fn tell_place(&self, node: &str, place: Coordinate) -> Result<(), NodeError> {
        self.led()?;
        let node = node.to_owned();
        self.apply(Command::SetPlaces(vec![NodePlace { node, place }]));
        Ok(())
    }

    async fn set_ca_config(&self, update: Update) -> Result<bool, NodeError> {
        self.led()?;
        let (store, env) = (self.shared.load(), Env::real());
        let step = crate::ca::change(&store, &update, env.clock.unix_ms(), &*env.random)?;
        let Some((step, _)) = step else {
            return Ok(false);
        };
        Ok(self.apply(Command::Ca(step)) == Outcome::Bool(true))
    }

    async fn copying(&self) -> Result<Copying, NodeError> {
        self.call("copying".to_owned())?;
        Ok(Copying::default())
    }

    async fn login(&self, login: Login) -> Result<LoggedIn, NodeError> {
        let refused = format!("login {login:?}");
        self.call(refused.clone())?;
        Err(NodeError::Denied(refused))
    }

    async fn logout(&self) -> Result<(), NodeError> {
        self.call("logout".to_owned())
    }

    async fn leaf(
        &self,
        service: &str,
        min_index: u64,
        wait: Duration,
    ) -> Result<(SharedLeaf, bool), NodeError> {
        self.call(format!("leaf {service} {min_index} {wait:?}"))?;
        connect::leaf(&self.shared.load(), service)
    }

    fn meta(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("rack".into(), "1".into())])
    }

    fn not_ready(&self) -> Option<String> {
        self.led().err().map(|error| error.to_string())
    }

    async fn save(&self, stale: bool) -> Result<Saved, NodeError> {
        self.call(format!("save {stale}"))?;
        let store = self.shared.load();
        let state = store.encode();
        let about = crate::archive::About::new(1, store.last_index(), 5, state.len() as u64);
        let pieces = state.chunks(7).map(Bytes::copy_from_slice).collect();
        Ok(Saved { about, pieces })
    }

    fn gauges(&self) -> Vec<Gauge> {
        vec![(
            "state.kv_entries",
            self.shared.load().counts().kv_entries as f64,
        )]
    }

    fn later_gauges(&self) -> GaugeSource {
        let fake = self.clone();
        Box::new(move || fake.gauges())
    }

    fn info(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let raft = BTreeMap::from([("num_peers".to_owned(), "2".to_owned())]);
        BTreeMap::from([("raft".to_owned(), raft)])
    }
}
