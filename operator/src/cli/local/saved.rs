//! Saved states of local clusters: `operator local snapshot`, and `spec.restoreFrom` with a file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::archive;
use agent::client::Client;
use agent::state::Store as State;
use anyhow::{Context as _, Result, anyhow};

use super::{Which, folder};
use crate::crd::{ConsulCluster, JobPhase, Restored};
use crate::driver::Driver;
use crate::driver::local::Local;
use crate::driver::local::store::Store;
use crate::observe::Observed;
use crate::plan::View;

/// How long it may take until a state is here, or back on every server.
const TIME_MAX: Duration = Duration::from_secs(600);

/// What to save, and where.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Where to; a file of that name is replaced once the new one is whole.
    file: PathBuf,
    #[command(flatten)]
    which: Which,
}

/// Saves a running cluster's state, as of one moment.
pub(super) async fn run(args: &Args) -> Result<()> {
    let dir = folder::find(&args.which)?;
    folder::check_ours(&dir)?;
    let mut local = folder::driver(Store::look(&dir)?)?;
    let observed = local.observe().await?;
    let client = leader(&local, &observed)?;
    let answer = client.get("/v1/snapshot").await?.success()?;
    let about = check(&answer.body)?;
    write(&args.file, &answer.body)
        .with_context(|| format!("cannot write {}", args.file.display()))?;
    let found = std::fs::read(&args.file)
        .with_context(|| format!("cannot read {} back", args.file.display()))?;
    if found != answer.body {
        return Err(anyhow!(
            "{} does not hold what was written",
            args.file.display()
        ));
    }
    let text = format!("Saved and verified snapshot to index {}\n", about.index);
    super::super::print(&text)
}

/// A client of the leader, for whatever is as large as a state.
fn leader(local: &Local, observed: &Observed) -> Result<Client> {
    let view = View::new(local.desired(), observed);
    let leader = view
        .leader
        .context("the cluster has no leader: `operator local status` says what is missing")?;
    let client = Client::new(&format!("{}:8500", leader.seat.address))?;
    Ok(client
        .with_timeout(TIME_MAX)
        .with_answer_bytes_max(archive::ARCHIVE_BYTES_MAX))
}

fn check(bytes: &bytes::Bytes) -> Result<archive::About> {
    let (about, state) = archive::read(bytes)?;
    State::decode(&state).map_err(|error| anyhow!("the saved state cannot be read: {error}"))?;
    Ok(about)
}

/// Under another name first: whoever looks for the file finds a whole one.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unverified");
    let written = || {
        std::fs::write(&unfinished, bytes)?;
        std::fs::File::open(&unfinished)?.sync_all()?;
        std::fs::rename(&unfinished, path)
    };
    written().inspect_err(|_| {
        // What is left of it is of no use; the first error says what is wrong.
        let _ = std::fs::remove_file(&unfinished);
    })
}

/// The file that a new cluster is to start from, when that is still to be done.
fn wanted(cluster: &ConsulCluster) -> Option<&Path> {
    let from = cluster.spec.restore_from.as_ref()?;
    let done = cluster.status.as_ref().and_then(|s| s.restored.as_ref());
    match (&from.file, &from.destination, done) {
        (Some(file), None, None) => Some(Path::new(file)),
        _ => None,
    }
}

/// Refuses a file that could not be put back, before anything is started for it.
pub(super) fn check_wanted(cluster: &ConsulCluster) -> Result<()> {
    let Some(file) = wanted(cluster) else {
        return Ok(());
    };
    let name = || format!("spec.restoreFrom: {}", file.display());
    let bytes = std::fs::read(file).with_context(name)?;
    check(&bytes.into()).with_context(name)?;
    Ok(())
}

/// Puts the file back into a cluster that was just formed; what to say of it. Once: that it begins is on disk before it
/// does, and whoever finds that and no end does not begin again.
pub(super) async fn start_from(local: &mut Local, observed: &Observed) -> Result<Option<String>> {
    let Some(file) = wanted(local.cluster()).map(Path::to_owned) else {
        return Ok(None);
    };
    let status = local.cluster().status.clone().unwrap_or_default();
    if status.bootstrap_server.is_none() {
        let text = "skipped: the servers had data of a cluster already";
        note(local, JobPhase::Completed, text)?;
        return Ok(Some(format!("spec.restoreFrom: {text}")));
    }
    let bytes = bytes::Bytes::from(std::fs::read(&file)?);
    let about = check(&bytes)?;
    let client = leader(local, observed)?;
    note(
        local,
        JobPhase::Running,
        "begun, and not known to have ended",
    )?;
    let put = client.put("/v1/snapshot", bytes).await;
    let put = put.and_then(agent::client::Response::success);
    match put {
        Ok(_) => {
            let text = format!("put back, as of index {}", about.index);
            note(local, JobPhase::Completed, &text)?;
            Ok(Some(format!("{} is {text}", file.display())))
        }
        Err(error) => {
            note(local, JobPhase::Failed, &error.to_string())?;
            Err(anyhow!("{} could not be put back: {error}", file.display()))
        }
    }
}

fn note(local: &mut Local, phase: JobPhase, message: &str) -> Result<()> {
    let mut status = local.cluster().status.clone().unwrap_or_default();
    status.restored = Some(Restored {
        phase,
        by: None,
        message: Some(message.to_owned()),
    });
    Ok(local.keep(status)?)
}
