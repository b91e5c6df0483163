//! `operator run`: look after the ConsulClusters of a Kubernetes cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::{Args as ClapArgs, ValueEnum};
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::controller::lease::Elector;
use crate::controller::{self, Counters, Health, Options, SHUTDOWN_TIME_MAX};
use crate::driver::kube::agents::Reach;

/// How agents are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Agents {
    /// By pod IP inside of the cluster, through the API server outside.
    Auto,
    /// By pod IP.
    Direct,
    /// Through the API server's pod proxy.
    Proxy,
}

/// Looks after the ConsulClusters of the Kubernetes cluster that KUBECONFIG, ~/.kube/config or the pod's service
/// account names.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Serve this namespace only; needs no right beyond it.
    #[arg(long, env = "OPERATOR_NAMESPACE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    namespace: Option<String>,
    /// Image of agents whose `spec.image` is absent.
    #[arg(long, env = "OPERATOR_AGENT_IMAGE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    agent_image: Option<String>,
    /// How agents are reached.
    #[arg(long, env = "OPERATOR_AGENTS", value_enum, default_value = "auto")]
    agents: Agents,
    /// Let one of several replicas lead, by a Lease.
    #[arg(long, env = "OPERATOR_LEADER_ELECT")]
    leader_elect: bool,
    /// Namespace of the Lease.
    #[arg(long, env = "OPERATOR_POD_NAMESPACE", default_value = "default")]
    lease_namespace: String,
    /// Name of the Lease.
    #[arg(long, default_value = "consul-operator")]
    lease_name: String,
    /// Name of this replica, in the Lease and in Events [default: the host's name]
    #[arg(long, env = "OPERATOR_POD_NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    identity: Option<String>,
    /// Where /healthz, /readyz and /metrics are answered.
    #[arg(long, env = "OPERATOR_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|e| anyhow::anyhow!("cannot listen on {}: {e}", args.listen))?;
    let config = Config::infer().await.map_err(|e| {
        anyhow::anyhow!("no Kubernetes cluster: set KUBECONFIG, or run this in a pod ({e})")
    })?;
    let client = Client::try_from(config)?;
    let identity = args.identity.clone().unwrap_or_else(host_name);
    let counters = Arc::new(Counters::default());
    let health = Arc::new(Health {
        counters: Arc::clone(&counters),
        ..Health::default()
    });
    tokio::spawn(controller::serve(listener, Arc::clone(&health)));
    let mut stop = stop_signal()?;
    tokio::select! {
        version = api_server(&client) => tracing::info!(%version, "the API server answers"),
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    }
    health.ready.store(true, Ordering::Relaxed);

    let mut elector = None;
    if args.leader_elect {
        let mut own = Elector::new(
            client.clone(),
            &args.lease_namespace,
            &args.lease_name,
            &identity,
        );
        tokio::select! {
            () = own.win() => {}
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        }
        tracing::info!(identity, "this replica leads");
        elector = Some(own);
    }
    health.leads.store(true, Ordering::Relaxed);
    let held = elector.as_ref().map(Elector::held);
    let options = Options {
        namespace: args.namespace,
        image: args.agent_image,
        reach: reach(args.agents),
        identity,
        leads: Arc::new(move || held.as_ref().is_none_or(|held| held.holds())),
    };
    let ended = {
        let mut stop = stop.clone();
        async move {
            let _ = stop.wait_for(|stop| *stop).await;
        }
    };
    let work = controller::run(client, options, counters, ended);
    lead(work, elector, stop).await
}

/// Works until told to stop, or until somebody else may lead.
async fn lead(
    work: impl Future<Output = ()>,
    mut elector: Option<Elector>,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let overdue = async {
        let _ = stop.wait_for(|stop| *stop).await;
        tokio::time::sleep(SHUTDOWN_TIME_MAX).await;
    };
    let lost = async {
        match &mut elector {
            Some(elector) => elector.keep().await,
            None => std::future::pending().await,
        }
    };
    let lost = tokio::select! {
        () = work => false,
        () = overdue => false,
        () = lost => true,
    };
    // At once, with whatever is under way: another replica may have begun.
    anyhow::ensure!(!lost, "the lease was lost, another replica may lead");
    if let Some(elector) = &mut elector {
        elector.release().await;
    }
    Ok(())
}

/// Waits until the API server answers; its version.
async fn api_server(client: &Client) -> String {
    let mut pause = std::time::Duration::from_millis(500);
    loop {
        match client.apiserver_version().await {
            Ok(version) => return version.git_version,
            Err(error) => tracing::warn!(%error, "the API server does not answer yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(std::time::Duration::from_secs(15));
    }
}

/// Becomes true with SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("told to stop");
        sender.send_replace(true);
        // Kept, so that nobody takes its end for a signal.
        std::future::pending::<()>().await;
    });
    Ok(receiver)
}

fn reach(agents: Agents) -> Reach {
    let in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
        && std::env::var_os("KUBECONFIG").is_none();
    match agents {
        Agents::Direct => Reach::Direct,
        Agents::Proxy => Reach::Proxy,
        Agents::Auto if in_pod => Reach::Direct,
        Agents::Auto => Reach::Proxy,
    }
}

fn host_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    format!("{name}-{}", std::process::id())
}
