//! `operator local up`: observe, plan, apply, until all is as wanted; then keep it so.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, anyhow, bail};
use k8s_openapi::jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::progress::Progress;
use super::{down, folder, saved};
use crate::crd::{ConsulCluster, ConsulClusterStatus, warnings, warnings_local};
use crate::driver::Driver;
use crate::driver::local::store::Store;
use crate::driver::local::{Local, address, process, program};
use crate::observe::Observed;
use crate::plan::{Stall, Step, View, plan};

/// Time between two looks while something is under way. Agents take 50 to 100 ms for most of what is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// The same when it takes long.
const LOOK_AGAIN_LATER: Duration = Duration::from_millis(100);
/// Time after which something takes long.
const LONG: Duration = Duration::from_secs(5);
/// Time between two full looks at a cluster that is as wanted.
const STEADY_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two looks for what is cheap to see: a process that ended, a file that changed.
const GLANCE_INTERVAL: Duration = Duration::from_millis(50);
/// Time between two tries of a step that failed.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Longest time for which a status on disk may be old, when only its numbers changed.
const KEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Time for which an address may be in use: an agent that was just killed keeps its own for a moment.
const ADDRESS_TIME_MAX: Duration = Duration::from_secs(1);
/// Ports that a server listens on: server RPC, gossip, gossip between datacenters, HTTP.
const PORTS: [u16; 4] = [8300, 8301, 8302, 8500];

/// What to bring up.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// File with the ConsulCluster.
    file: PathBuf,
    /// Folder for the agents' data and logs [default: .consulcluster/NAME]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Return when the cluster is as wanted, and leave the agents running.
    #[arg(long)]
    detach: bool,
    /// The agent's binary [default: beside this program, or on PATH]
    #[arg(long, value_name = "PATH", env = "CONSULCLUSTER_AGENT")]
    agent: Option<PathBuf>,
    /// Address of the first server; the others and the clients follow [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    bind_base: Option<Ipv4Addr>,
}

/// Brings a cluster up, and keeps it.
pub(super) async fn run(args: Args) -> Result<()> {
    let mut interrupt = Interrupt::new()?;
    let mut up = Up::new(&args)?;
    let end = up.reconcile(&mut interrupt).await;
    if args.detach {
        return end.map(drop);
    }
    // Without --detach no agent outlives this program, whatever ended it.
    if let Ok(()) = end {
        up.progress.step("interrupted: stopping the agents");
    }
    down::stop_all(&mut up.local, &mut up.progress).await?;
    end?;
    let data = up.local.store().dir().display().to_string();
    up.progress.say(&format!(
        "the data is kept in {data}\nnext: {} local up {}",
        typed_own(),
        args.file.display()
    ));
    Ok(())
}

/// Ctrl-C, a polite request to end, or a terminal that goes.
struct Interrupt {
    int: Signal,
    term: Signal,
    hangup: Signal,
}

impl Interrupt {
    fn new() -> Result<Self> {
        Ok(Interrupt {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits; true when interrupted. Cancel safe.
    async fn within(&mut self, time: Duration) -> bool {
        tokio::select! {
            _ = self.int.recv() => true,
            _ = self.term.recv() => true,
            _ = self.hangup.recv() => true,
            () = tokio::time::sleep(time) => false,
        }
    }
}

/// The file of the resource, looked at again and again.
struct File {
    path: PathBuf,
    seen: Option<(SystemTime, u64)>,
}

impl File {
    fn new(path: &Path) -> Self {
        let mut file = File {
            path: path.to_owned(),
            seen: None,
        };
        file.changed();
        file
    }

    /// Whether it is another than at the last call.
    fn changed(&mut self) -> bool {
        let meta = std::fs::metadata(&self.path);
        let now = meta
            .and_then(|meta| Ok((meta.modified()?, meta.len())))
            .ok();
        // One that is gone for a moment is being replaced.
        let changed = now.is_some() && now != self.seen;
        self.seen = now.or(self.seen);
        changed
    }
}

struct Up {
    local: Local,
    progress: Progress,
    file: File,
    detach: bool,
    steady: bool,
    ever_steady: bool,
    stalled: Option<String>,
    failure: Option<String>,
    kept: Option<(ConsulClusterStatus, Instant)>,
}

impl Up {
    fn new(args: &Args) -> Result<Self> {
        let file = File::new(&args.file);
        let cluster = super::super::read_cluster(&args.file)?;
        warn(&cluster);
        let program = program(args.agent.as_deref()).map_err(|text| anyhow!(text))?;
        let name = cluster.metadata.name.clone().unwrap_or_default();
        if let Some(base) = args.bind_base {
            address::check(base)?;
        }
        let store = Store::open(&folder::of(&name, args.dir.as_deref()))?;
        let state = store.load();
        if let Some(before) = &state.cluster {
            check_change(before, &cluster)?;
        }
        let found = process::find(store.dir(), program.file_name().unwrap_or_default());
        let fresh = state.base.is_none() && found.is_empty();
        let known = folder::base(&state, &found);
        let base = match args.bind_base {
            // Servers know each other by id, not by address; but one that runs keeps the address that it has.
            Some(base) if !fresh && base != known && !found.is_empty() => {
                bail!(
                    "the servers in {} run with addresses from {known} on, and keep them until `operator local down`",
                    store.dir().display()
                )
            }
            Some(base) => base,
            None => known,
        };
        let status = state
            .cluster
            .as_ref()
            .and_then(|before| before.status.clone());
        let cluster = ConsulCluster { status, ..cluster };
        saved::check_wanted(&cluster)?;
        let mut local = Local::new(store, state, program, base, cluster);
        check_addresses(&mut local)?;
        // From here on the folder is known to be a cluster's, whatever happens next.
        local.keep_resource()?;
        let (kept, stalled, failure) = (None, None, None);
        let progress = Progress::new();
        Ok(Up {
            local,
            progress,
            file,
            detach: args.detach,
            steady: false,
            ever_steady: false,
            stalled,
            failure,
            kept,
        })
    }

    /// Goes on until it is interrupted or, detached, until all is as wanted.
    async fn reconcile(&mut self, interrupt: &mut Interrupt) -> Result<()> {
        let (servers, clients) = (
            self.local.desired().servers,
            self.local.desired().client_seats.len(),
        );
        let (name, dir) = (
            self.local.desired().name.clone(),
            self.local.store().dir().display().to_string(),
        );
        self.progress.say(&format!(
            "{name}: {servers} servers, {clients} clients, data in {dir}"
        ));
        let mut waiting_since = Instant::now();
        loop {
            let observed = self.local.observe().await?;
            let step = plan(self.local.desired(), &observed);
            let evidence = self.local.evidence();
            self.progress.evidence(&evidence);
            self.keep(&observed, &step)?;
            let pause = match &step {
                Step::Steady => {
                    if let Some(said) = saved::start_from(&mut self.local, &observed).await? {
                        self.progress.step(&said);
                    }
                    self.now_steady(&observed);
                    if self.detach {
                        return Ok(());
                    }
                    if self.wait_steady(interrupt).await {
                        return Ok(());
                    }
                    waiting_since = Instant::now();
                    continue;
                }
                Step::Stalled(stall) => {
                    self.now_stalled(stall)?;
                    LOOK_AGAIN_LATER
                }
                Step::Wait(waiting) => {
                    self.stalled = None;
                    self.progress.waiting(&waiting.to_string());
                    if waiting_since.elapsed() > LONG {
                        LOOK_AGAIN_LATER
                    } else {
                        LOOK_AGAIN
                    }
                }
                step => {
                    waiting_since = Instant::now();
                    (self.steady, self.stalled) = (false, None);
                    self.act(step, &observed).await
                }
            };
            if interrupt.within(pause).await {
                return Ok(());
            }
            if self.file.changed() {
                self.read_again();
            }
        }
    }

    /// Carries a step out, and says so; how long to wait before the next look.
    async fn act(&mut self, step: &Step, observed: &Observed) -> Duration {
        if self.failure.is_none() {
            if let Step::RestartFirstWithoutBootstrap { .. } = step {
                self.progress
                    .step(&verified(&View::new(self.local.desired(), observed)));
            }
            self.progress.step(&step.to_string());
        }
        match self.local.apply(step).await {
            Ok(()) => {
                self.failure = None;
                if let Step::Join { .. } = step {
                    self.progress
                        .proof("Successfully joined cluster by contacting 1 nodes.");
                }
                Duration::ZERO
            }
            Err(error) => {
                let text = error.to_string();
                if self.failure.as_ref() != Some(&text) {
                    self.progress
                        .proof(&format!("failed, trying again: {text}"));
                    self.failure = Some(text);
                }
                RETRY_INTERVAL
            }
        }
    }

    fn now_steady(&mut self, observed: &Observed) {
        self.stalled = None;
        if self.steady {
            return;
        }
        (self.steady, self.ever_steady) = (true, true);
        let view = View::new(self.local.desired(), observed);
        let leader = view.leader.map_or("", |leader| leader.seat.name.as_str());
        let (voters, clients) = (view.voters(), view.desired.client_seats.len());
        let id = view.cluster.map(|id| id.to_string()).unwrap_or_default();
        let text = format!(
            "steady: {voters} of {} servers vote, {leader} leads, {clients} clients, cluster {id}",
            view.desired.servers
        );
        let first = view
            .desired
            .server_seats
            .first()
            .map(|seat| seat.address.clone())
            .unwrap_or_default();
        self.progress.step(&text);
        self.progress.say(&self.what_next(&first));
    }

    /// What a person may want to type now.
    fn what_next(&self, first: &str) -> String {
        let default = first == address::BASE.to_string();
        let http = if default {
            String::new()
        } else {
            format!(" -http-addr={first}:8500")
        };
        let (agent, operator) = (typed(self.local.program()), typed_own());
        let dir = self.local.store().dir();
        let name = &self.local.desired().name;
        let usual =
            std::env::current_dir().is_ok_and(|cwd| cwd.join(folder::of(name, None)) == dir);
        let which = if usual {
            name.clone()
        } else {
            format!("--dir {}", typed(dir))
        };
        if self.detach {
            return format!(
                "next: {agent} members{http}, or: {operator} local status {which}, or: {operator} local down {which}"
            );
        }
        format!(
            "next, in another terminal: {agent} members{http}, or: {operator} local status {which}\n\
             here: Ctrl-C stops the agents and keeps their data"
        )
    }

    /// Waits until it is time for a full look; true when interrupted.
    async fn wait_steady(&mut self, interrupt: &mut Interrupt) -> bool {
        let since = Instant::now();
        while since.elapsed() < STEADY_INTERVAL {
            if interrupt.within(GLANCE_INTERVAL).await {
                return true;
            }
            if self.file.changed() {
                self.read_again();
                return false;
            }
            if self.local.somebody_ended() {
                return false;
            }
        }
        false
    }

    fn now_stalled(&mut self, stall: &Stall) -> Result<()> {
        let text = stall.to_string();
        self.steady = false;
        if self.detach || (!self.ever_steady && matches!(stall, Stall::StartFails { .. })) {
            bail!("{text}");
        }
        if self.stalled.as_ref() != Some(&text) {
            self.progress.step(&format!("stalled: {text}"));
            self.stalled = Some(text);
        }
        Ok(())
    }

    /// A file that cannot be acted on changes nothing.
    fn read_again(&mut self) {
        let read = super::super::read_cluster(&self.file.path).and_then(|cluster| {
            check_change(self.local.cluster(), &cluster)?;
            Ok(cluster)
        });
        match read {
            Ok(cluster) if cluster.spec == self.local.cluster().spec => {}
            Ok(cluster) => {
                warn(&cluster);
                let servers = format!(
                    "{} servers, {} clients",
                    cluster.spec.servers, cluster.spec.clients
                );
                self.progress.step(&format!(
                    "{} changed: {servers} wanted",
                    self.file.path.display()
                ));
                self.steady = false;
                self.local.want(cluster);
                if let Err(error) = check_addresses(&mut self.local) {
                    self.progress.proof(&format!("warning: {error}"));
                }
            }
            Err(error) => self.progress.step(&format!("nothing changes: {error:#}")),
        }
    }

    /// Keeps the status on disk: at once when it says something else, now and then when only numbers moved.
    fn keep(&mut self, observed: &Observed, step: &Step) -> Result<()> {
        let status = crate::status::status(
            self.local.cluster(),
            self.local.desired(),
            observed,
            step,
            Timestamp::now(),
        );
        let due = self.kept.as_ref().is_none_or(|(kept, at)| {
            let same = (kept.phase, &kept.conditions, kept.voters, &kept.leader)
                == (
                    status.phase,
                    &status.conditions,
                    status.voters,
                    &status.leader,
                );
            !same || at.elapsed() > KEEP_INTERVAL
        });
        if due {
            self.local.keep(status.clone())?;
            self.kept = Some((status, Instant::now()));
        }
        Ok(())
    }
}

/// A path as a person here would type it.
fn typed(path: &Path) -> String {
    let cwd = std::env::current_dir().ok();
    let below = cwd.and_then(|cwd| path.strip_prefix(cwd).ok().map(Path::to_owned));
    below
        .filter(|below| !below.as_os_str().is_empty())
        .unwrap_or_else(|| path.to_owned())
        .display()
        .to_string()
}

fn typed_own() -> String {
    std::env::current_exe().map_or_else(|_| "operator".to_owned(), |path| typed(&path))
}

/// Step 4 of the manual, in its words.
fn verified(view: &View<'_>) -> String {
    let Some(leader) = view.leader else {
        return String::new();
    };
    let indexes = view.desired.wanted().iter().filter_map(|seat| {
        let raft = view.server(seat).raft()?;
        Some(format!("{} on {}", raft.last_log_index, seat.name))
    });
    let indexes = indexes.collect::<Vec<_>>().join(", ");
    format!(
        "verified: raft.num_peers = {} on {}; raft.last_log_index = {indexes}",
        leader.raft.num_peers, leader.seat.name
    )
}

fn warn(cluster: &ConsulCluster) {
    for warning in warnings(&cluster.spec)
        .into_iter()
        .chain(warnings_local(&cluster.spec))
    {
        eprintln!("warning: {warning}");
    }
}

/// What cannot change in the life of a cluster. The CRD has the same rules, for the API server.
fn check_change(before: &ConsulCluster, now: &ConsulCluster) -> Result<()> {
    let fields = [
        ("metadata.name", before.metadata.name == now.metadata.name),
        (
            "spec.datacenter",
            before.spec.datacenter == now.spec.datacenter,
        ),
        ("spec.domain", before.spec.domain == now.spec.domain),
        (
            "spec.nodePrefix",
            before.spec.node_prefix == now.spec.node_prefix,
        ),
        (
            "spec.restoreFrom",
            before.spec.restore_from == now.spec.restore_from,
        ),
    ];
    if let Some((field, _)) = fields.iter().find(|(_, same)| !same) {
        bail!("{field} cannot change in the life of a cluster");
    }
    let (from, to) = (before.spec.servers, now.spec.servers);
    if (from - to).abs() > 2 {
        bail!("spec.servers changes by at most two at a time, not from {from} to {to}");
    }
    Ok(())
}

/// Finds out that an address is in use before anything is started.
fn check_addresses(local: &mut Local) -> Result<()> {
    let since = Instant::now();
    loop {
        let Some((seat, address, error)) = address_in_use(local) else {
            return Ok(());
        };
        if since.elapsed() > ADDRESS_TIME_MAX {
            bail!(
                "{address}, which {seat} needs, cannot be used: {error}; stop what uses it, or choose other addresses \
                 with --bind-base"
            );
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// The first address that somebody else has, for whom it is needed, and what the system says.
fn address_in_use(local: &mut Local) -> Option<(String, SocketAddrV4, std::io::Error)> {
    let running = local.running();
    let desired = local.desired();
    let seats = desired.wanted().iter().chain(&desired.client_seats);
    let needed = seats.filter(|seat| !running.contains_key(&seat.name));
    needed
        .filter_map(|seat| Some((seat, seat.address.parse::<Ipv4Addr>().ok()?)))
        .find_map(|(seat, ip)| {
            PORTS.into_iter().find_map(|port| {
                let address = SocketAddrV4::new(ip, port);
                let error = TcpListener::bind(address).err()?;
                Some((seat.name.clone(), address, error))
            })
        })
}
