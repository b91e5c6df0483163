//! Real nodes on simulated hosts, clients on each of them, and what the checker sees.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use agent::config::{self, Config, FlagSettings, Format, Machine, SourceFile};
use agent::env::{Disk as _, Env, Keep, MemoryDisk, Random as _, SeededRandom};
use agent::node::{self, Node, Phase};
use agent::raft::Inspector;
use agent::state::KvEntry;
use tests::{Broken, RaftRules};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::spawn_local;
use uuid::Uuid;

use crate::api::{self, Client};
use crate::clients::{self, Shared};
use crate::env::HostClock;
use crate::keepers;
use crate::net::{Network, SimNet};
use crate::view::View;

mod agree;

/// How often a scenario looks whether what it waits for has come.
const TICKS_PER_LOOK: u64 = 10;

/// Where every host's API is.
const HTTP_PORT: u16 = 8500;

/// Longest simulated time until a healed cluster must be in order. Failure detection, two joins and several
/// elections take far less.
const SETTLE: Duration = Duration::from_secs(180);

/// A run: hosts 1, 2, ... at 10.0.0.N, not started at first.
pub(crate) struct Cluster<'a> {
    sim: turmoil::Sim<'a>,
    pub(crate) net: Network,
    pub(crate) random: SeededRandom,
    pub(crate) shared: Rc<Shared>,
    hosts: BTreeMap<u8, Rc<Host>>,
    seed: u64,
    /// Raft's rules, checked in every step.
    rules: RaftRules,
    /// How many clusters the run may have.
    allowed_clusters: usize,
}

/// One machine.
pub(crate) struct Host {
    number: u8,
    seed: u64,
    net: Network,
    clock: HostClock,
    disk: MemoryDisk,
    /// Whether one of its clients keeps a lock.
    keeps_lock: Cell<bool>,
    /// What else its configuration says, as JSON members.
    settings: RefCell<String>,
    starts: Cell<u64>,
    node: RefCell<Option<Node>>,
    /// Looks at its Raft, while it is a server that is up.
    inspector: RefCell<Option<Inspector>>,
    requests: RefCell<Option<UnboundedSender<Request>>>,
    /// Started, and neither crashed nor ended by itself.
    running: Cell<bool>,
}

/// What a host's software is asked from outside: it must happen on the host, where its clock and its network are.
enum Request {
    Join(String),
    Leave,
    /// Hand leadership to this node, or to whoever is furthest ahead.
    Transfer(Option<Uuid>),
    /// Write so many keys at once.
    Fill(u64),
    /// Everything that the node has; the answer goes into the cell.
    Everything(Rc<RefCell<Vec<Arc<KvEntry>>>>),
}

pub(crate) fn ip(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

/// The root of every simulated cluster. One that a cluster makes for itself comes from the operating system's random numbers,
/// and a seed would not mean the same course of events twice.
const OWN_KEY: &str = include_str!("../../agent/src/ca/tests/own-ca.key");
const OWN_ROOT: &str = include_str!("../../agent/src/ca/tests/own-ca.pem");

fn data_dir() -> PathBuf {
    PathBuf::from("/data")
}

impl Host {
    fn config(&self) -> Config {
        let settings = self.settings.borrow();
        // Where there is one datacenter, the pool of all is the local one once more.
        let ports = match settings.contains("\"ports\"") {
            true => "",
            false => r#""ports": {"serf_wan": -1}, "#,
        };
        let text = format!(
            r#"{{"node_name": "n{0}", "bind_addr": "{1}", "client_addr": "{1}", "data_dir": "/data",
                "connect": {{"ca_config": {2}}}, {ports}{settings}}}"#,
            self.number,
            ip(self.number),
            serde_json::json!({"PrivateKey": OWN_KEY, "RootCert": OWN_ROOT}),
        );
        let file = SourceFile {
            name: "simulated.json".to_owned(),
            format: Format::Json,
            text,
        };
        let machine = Machine {
            hostname: format!("n{}", self.number),
            private_ipv4: Vec::new(),
            public_ipv6: Vec::new(),
            temporary_dir: PathBuf::from("/tmp"),
        };
        config::load(&[file], &FlagSettings::default(), &machine)
            .expect("the scenario's settings are valid")
            .config
    }

    /// Its node is gone.
    fn forget(&self) {
        self.node.borrow_mut().take();
        self.inspector.borrow_mut().take();
    }

    /// The machine's software: an agent, and clients that use it.
    async fn run(self: Rc<Self>, shared: Rc<Shared>) -> Result<(), Box<dyn Error>> {
        self.starts.set(self.starts.get() + 1);
        let start = self.starts.get();
        let seed = self.seed ^ (u64::from(self.number) << 32) ^ (start << 40);
        let env = Env {
            clock: Arc::new(self.clock.clone()),
            net: Arc::new(SimNet {
                network: self.net.clone(),
                host: ip(self.number),
            }),
            disk: Arc::new(self.disk.clone()),
            random: Arc::new(SeededRandom::new(seed)),
        };
        spawn_local(self.clock.clone().run());
        let config = self.config();
        let node = node::start(env.clone(), config.clone(), Handle::current()).await?;
        api::serve(&node, env.clone(), &config).await?;
        let client = Client::new(SocketAddr::new(ip(self.number), HTTP_PORT), &env);
        let mut phase = node.phase();
        *self.node.borrow_mut() = Some(node.clone());
        *self.inspector.borrow_mut() = node.inspector();
        let name = format!("n{}.{start}", self.number);
        clients::start(&client, &name, &shared, seed);
        if self.keeps_lock.get() {
            keepers::start(&client, name, &self.clock, &shared.lock, seed);
        }
        let (sender, mut requests) = unbounded_channel();
        *self.requests.borrow_mut() = Some(sender);
        loop {
            match &*phase.borrow_and_update() {
                Phase::Running | Phase::Leaving => {}
                Phase::Left => break,
                Phase::Failed(why) => return Err(format!("n{} failed: {why}", self.number).into()),
            }
            tokio::select! {
                biased;
                changed = phase.changed() => changed?,
                Some(request) = requests.recv() => {
                    spawn_local(obey(node.clone(), client.clone(), request, Rc::clone(&shared)));
                }
            }
        }
        self.forget();
        self.running.set(false);
        node.shutdown().await;
        Ok(())
    }
}

async fn obey(node: Node, api: Client, request: Request, shared: Rc<Shared>) {
    match request {
        Request::Join(address) => {
            // A scenario waits for what the join leads to; without it, that does not come.
            let _ = node.join(&address).await;
        }
        Request::Leave => {
            let _ = node.leave().await;
        }
        Request::Transfer(to) => {
            // Nobody may be able to take over now; the checks are the same either way.
            let _ = node.transfer_leader(to).await;
        }
        Request::Fill(number) => clients::fill(&api, number, &shared).await,
        Request::Everything(answer) => {
            let found = clients::everything(&node).await;
            *answer.borrow_mut() = found;
        }
    }
}

impl Cluster<'_> {
    /// Hosts 1 to `hosts`, none started.
    pub(crate) fn new(seed: u64, hosts: u8) -> Self {
        let mut builder = turmoil::Builder::new();
        let sim = builder
            .rng_seed(seed)
            .enable_random_order()
            .simulation_duration(Duration::from_secs(24 * 3600))
            .build();
        let net = Network::new(seed);
        let hosts = (1..=hosts)
            .map(|number| {
                let host = Host {
                    number,
                    seed,
                    clock: HostClock::new(
                        net.clone(),
                        Duration::from_millis(
                            SeededRandom::new(seed ^ u64::from(number)).below(5000),
                        ),
                    ),
                    net: net.clone(),
                    keeps_lock: Cell::new(false),
                    disk: MemoryDisk::new(),
                    settings: RefCell::default(),
                    starts: Cell::new(0),
                    node: RefCell::default(),
                    inspector: RefCell::default(),
                    requests: RefCell::default(),
                    running: Cell::new(false),
                };
                (number, Rc::new(host))
            })
            .collect();
        Self {
            sim,
            net,
            random: SeededRandom::new(seed),
            shared: Rc::default(),
            hosts,
            seed,
            rules: RaftRules::default(),
            allowed_clusters: 1,
        }
    }

    /// Lets this run have several clusters, which never merge.
    pub(crate) fn allow_clusters(&mut self, number: usize) {
        self.allowed_clusters = number;
    }

    /// A random time up to `max`.
    pub(crate) fn time_up_to(&self, max: Duration) -> Duration {
        Duration::from_millis(self.random.below(max.as_millis() as u64 + 1))
    }

    /// Starts a host that does not run, with these settings (members of its configuration's JSON object).
    pub(crate) fn start(&mut self, number: u8, settings: &str) {
        let host = Rc::clone(&self.hosts[&number]);
        assert!(!host.running.replace(true), "n{number} runs already");
        *host.settings.borrow_mut() = settings.to_owned();
        self.net.boot(ip(number));
        if host.starts.get() > 0 {
            self.sim.bounce(ip(number));
            return;
        }
        let shared = Rc::clone(&self.shared);
        self.sim
            .host(ip(number), move || Rc::clone(&host).run(Rc::clone(&shared)));
    }

    /// Starts it with the settings that it had.
    pub(crate) fn restart(&mut self, number: u8) {
        let settings = self.hosts[&number].settings.borrow().clone();
        self.start(number, &settings);
    }

    /// Ends a host at once. What was not synced is lost as `keep` says.
    pub(crate) fn crash(&mut self, number: u8, keep: Keep<'_>) {
        let host = &self.hosts[&number];
        if !matches!(keep, Keep::Everything) {
            self.net.darken(ip(number));
        }
        if host.running.replace(false) {
            self.sim.crash(ip(number));
        }
        host.forget();
        host.disk.crash(keep);
    }

    /// Gives a host's disk another time that each sync takes, up to 40 ms.
    pub(crate) fn slow_disk(&self, number: u8) {
        let latency = self.time_up_to(Duration::from_millis(40));
        self.hosts[&number].disk.set_sync_latency(latency);
    }

    /// The clocks of a host.
    pub(crate) fn clock(&self, number: u8) -> &HostClock {
        &self.hosts[&number].clock
    }

    /// Lets a client on this host keep a lock, from its next start on.
    pub(crate) fn keep_lock(&self, number: u8) {
        self.hosts[&number].keeps_lock.set(true);
    }

    /// Moves the `raft/` folder of a host that is down aside.
    pub(crate) fn lose_log(&self, number: u8) {
        let host = &self.hosts[&number];
        assert!(!host.running.get());
        let aside = data_dir().join(format!("raft.{}", host.starts.get()));
        host.disk
            .rename(&data_dir().join("raft"), &aside)
            .and_then(|()| host.disk.sync_dir(&data_dir()))
            .expect("a simulated disk that is not faulty");
    }

    /// Begins a graceful leave on a host, as SIGINT does.
    pub(crate) fn leave(&self, number: u8) {
        self.ask(number, Request::Leave);
    }

    /// Lets a host that is up ask for another leader.
    pub(crate) fn transfer(&self, number: u8) {
        self.ask(number, Request::Transfer(None));
    }

    /// Lets a host that is up ask for `to` as the leader.
    pub(crate) fn transfer_to(&self, number: u8, to: u8) {
        let to = self.hosts[&to].node.borrow().as_ref().map(Node::id);
        self.ask(number, Request::Transfer(to));
    }

    /// The host that leads in the highest term, if any does.
    pub(crate) fn leader(&self) -> Option<u8> {
        let leaders = self.hosts.keys().filter_map(|number| {
            let view = self.view(*number).filter(|view| view.leads)?;
            Some((view.term, *number))
        });
        leaders.max().map(|(_, number)| number)
    }

    /// Lets a host that is up join another one.
    pub(crate) fn join(&self, number: u8, other: u8) {
        self.ask(number, Request::Join(ip(other).to_string()));
    }

    fn ask(&self, number: u8, request: Request) {
        let requests = self.hosts[&number].requests.borrow();
        let sent = requests.as_ref().map(|sender| sender.send(request).is_ok());
        assert_eq!(sent, Some(true), "n{number} is not up");
    }

    /// Whether a host's agent is up.
    pub(crate) fn is_up(&self, number: u8) -> bool {
        self.hosts[&number].node.borrow().is_some()
    }

    /// Whether a host has been started and has not ended.
    pub(crate) fn is_running(&self, number: u8) -> bool {
        self.hosts[&number].running.get()
    }

    /// Lets simulated time pass, and checks the rules on the way.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.sim.elapsed() + time;
        while self.sim.elapsed() < until {
            self.step();
        }
    }

    /// Lets time pass until `condition` holds or `limit` is over, whichever comes first.
    pub(crate) fn run_until(&mut self, limit: Duration, condition: impl Fn(&Self) -> bool) {
        let until = self.sim.elapsed() + limit;
        while self.sim.elapsed() < until && !condition(self) {
            self.step();
        }
    }

    /// Lets time pass until `condition` holds.
    ///
    /// # Panics
    /// When it never does.
    pub(crate) fn until(&mut self, what: &str, condition: impl Fn(&Self) -> Result<(), String>) {
        let begun = self.sim.elapsed();
        loop {
            for _ in 0..TICKS_PER_LOOK {
                self.step();
            }
            match condition(self) {
                Ok(()) => return,
                Err(missing) => assert!(
                    self.sim.elapsed() - begun < SETTLE,
                    "never: {what}: {missing}; cut: {:?}",
                    self.net.cuts()
                ),
            }
        }
    }

    fn step(&mut self) {
        self.net.advance(self.sim.elapsed());
        if let Err(error) = self.sim.step() {
            panic!("after {:?}: {error}", self.sim.elapsed());
        }
        if let Err(broken) = self.check() {
            panic!("after {:?}: {broken}", self.sim.elapsed());
        }
    }

    /// Raft's rules, and that there are no more clusters than there may be.
    fn check(&mut self) -> Result<(), Broken> {
        let mut changed = false;
        for (number, host) in &self.hosts {
            let mut inspector = host.inspector.borrow_mut();
            let Some(inspector) = inspector.as_mut() else {
                continue;
            };
            let look = inspector.look().map_err(|e| format!("n{number}: {e}"))?;
            let Some(look) = look else {
                continue;
            };
            changed = true;
            self.rules.see(host.starts.get(), &look)?;
            if look.belief.leads {
                let mut history = self.shared.history.borrow_mut();
                history.note((look.cluster, look.belief.term, *number));
            }
        }
        if !changed {
            return Ok(());
        }
        self.rules.settle()?;
        match self.clusters() {
            number if number > self.allowed_clusters => Err(format!(
                "a cluster too many: {:?}",
                self.rules.clusters().collect::<Vec<_>>()
            )),
            _ => Ok(()),
        }
    }

    /// How many clusters there ever were.
    pub(crate) fn clusters(&self) -> usize {
        self.rules.clusters().count()
    }

    /// How many living servers a host sees in the pool of all datacenters.
    pub(crate) fn alive_in_all_datacenters(&self, number: u8) -> usize {
        let node = self.hosts[&number].node.borrow();
        let members = node.as_ref().map(Node::wan_members).unwrap_or_default();
        members
            .iter()
            .filter(|member| member.status == agent::gossip::Status::Alive)
            .count()
    }

    /// A digest of what happened, for scenarios without a common end.
    pub(crate) fn digest(&self) -> u64 {
        let mut history = self.shared.history.borrow_mut();
        history.note((self.seed, self.sim.elapsed(), self.net.digest()));
        history.digest()
    }

    /// What the server on a host says of itself; `None` for a client, or a host that is not up.
    pub(crate) fn view(&self, number: u8) -> Option<View> {
        View::of(self.hosts.get(&number)?.node.borrow().as_ref()?)
    }

    /// Lets a server write so many keys at once.
    pub(crate) fn fill(&self, number: u8, keys: u64) {
        self.ask(number, Request::Fill(keys));
    }
}
