//! Where a local cluster lives, and what can be told about it without its file.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};

use super::Which;
use crate::crd::ConsulCluster;
use crate::driver::local::address::{self, BASE};
use crate::driver::local::process::{self, Found};
use crate::driver::local::store::{State, Store};
use crate::driver::local::{Local, program};

/// Folder that holds the folders of all clusters, in the working directory.
const PARENT: &str = ".consulcluster";

/// The folder of a cluster of that name.
pub(super) fn of(name: &str, given: Option<&Path>) -> PathBuf {
    given.map_or_else(|| Path::new(PARENT).join(name), Path::to_owned)
}

/// The folder that a person means.
pub(super) fn find(which: &Which) -> anyhow::Result<PathBuf> {
    if which.dir.is_some() || which.name.is_some() {
        let dir = of(
            which.name.as_deref().unwrap_or_default(),
            which.dir.as_deref(),
        );
        if !dir.is_dir() {
            bail!("there is no cluster in {}", dir.display());
        }
        return Ok(dir);
    }
    let entries = fs::read_dir(PARENT).into_iter().flatten().flatten();
    let mut dirs: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    dirs.sort();
    match dirs.as_slice() {
        [] => bail!(
            "there is no cluster in {PARENT}; start one with `operator local up FILE`, or give its folder with --dir"
        ),
        [only] => Ok(only.clone()),
        several => {
            let names: Vec<_> = several
                .iter()
                .filter_map(|dir| dir.file_name()?.to_str())
                .collect();
            bail!(
                "there are several clusters in {PARENT}; give one of their names: {}",
                names.join(", ")
            )
        }
    }
}

/// Refuses a folder that no cluster was ever in, so that a slip of the hand removes nothing else.
pub(super) fn check_ours(dir: &Path) -> anyhow::Result<()> {
    let ours = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name == "state.json" || name.contains("-server-")
    };
    if fs::read_dir(dir)?.flatten().any(ours) {
        return Ok(());
    }
    bail!("{} is not the folder of a cluster", dir.display())
}

/// The resource as it was last acted on; without the cache, what the agents' folders tell.
pub(super) fn cluster(store: &Store, state: &State) -> anyhow::Result<ConsulCluster> {
    if let Some(cluster) = &state.cluster {
        return Ok(cluster.clone());
    }
    let servers: Vec<_> = store
        .agents("")
        .into_iter()
        .filter_map(|name| seat(&name, "-server-"))
        .collect();
    let Some((prefix, _)) = servers.first() else {
        return Err(anyhow!(
            "nothing is known about a cluster in {}",
            store.dir().display()
        ));
    };
    let highest = servers
        .iter()
        .map(|(_, number)| *number + 1)
        .max()
        .unwrap_or(1);
    // The next number that a cluster may have.
    let count = crate::crd::SERVER_COUNTS
        .into_iter()
        .find(|count| usize::try_from(*count).is_ok_and(|n| n >= highest));
    let text = format!(
        "apiVersion: consulcluster.dev/v1alpha1\nkind: ConsulCluster\nmetadata: {{name: {prefix}}}\nspec: {{servers: {}}}",
        count.unwrap_or(7)
    );
    Ok(crate::crd::read(&text)?)
}

/// A driver for a cluster that exists, to look or to stop: the binary is only to know agents by.
pub(super) fn driver(store: Store) -> anyhow::Result<Local> {
    let state = store.load();
    let cluster = cluster(&store, &state)?;
    let program = state.agent.clone().or_else(|| program(None).ok());
    let program = program.unwrap_or_else(|| "agent".into());
    let found = process::find(store.dir(), program.file_name().unwrap_or_default());
    let base = base(&state, &found);
    address::check(base)?;
    Ok(Local::new(store, state, program, base, cluster))
}

/// Splits `demo-server-2` into its prefix and its number.
fn seat(name: &str, kind: &str) -> Option<(String, usize)> {
    let (prefix, number) = name.rsplit_once(kind)?;
    Some((prefix.to_owned(), number.parse().ok()?))
}

/// Address of the first server: as kept, else as a running server's own address tells, else the default.
pub(super) fn base<'a>(
    state: &State,
    running: impl IntoIterator<Item = (&'a String, &'a Found)>,
) -> Ipv4Addr {
    let told = running.into_iter().find_map(|(name, found)| {
        let bind: Ipv4Addr = found.bind.as_deref()?.parse().ok()?;
        let (_, number) = seat(name, "-server-")?;
        Some(Ipv4Addr::from(
            u32::from(bind).checked_sub(u32::try_from(number).ok()?)?,
        ))
    });
    state.base.or(told).unwrap_or(BASE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_told_from_its_folders_when_the_cache_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert!(cluster(&store, &State::default()).is_err());
        assert!(check_ours(store.dir()).is_err());
        for number in 0..4 {
            fs::create_dir(store.data(&format!("demo-server-{number}"))).unwrap();
        }
        let told = cluster(&store, &State::default()).unwrap();
        assert_eq!(
            (told.metadata.name.as_deref(), told.spec.servers),
            (Some("demo"), 5)
        );
        assert!(check_ours(store.dir()).is_ok());
    }

    #[test]
    fn the_base_is_told_by_a_running_server() {
        let identity = crate::driver::local::process::Identity { pid: 1, started: 1 };
        let found = Found {
            identity,
            bootstrap: false,
            revision: String::new(),
            bind: Some("127.3.0.3".into()),
        };
        let name = "demo-server-2".to_owned();
        assert_eq!(
            base(&State::default(), [(&name, &found)]),
            Ipv4Addr::new(127, 3, 0, 1)
        );
        assert_eq!(base(&State::default(), []), BASE);
    }
}
