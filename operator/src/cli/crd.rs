//! `operator crd`.

use clap::Args as ClapArgs;

/// Which resources.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Only this one, as `consulsnapshots.consulcluster.dev` [default: all, in one stream]
    name: Option<String>,
}

/// Prints the manifests.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let all = crate::crd::manifests()?;
    let Some(wanted) = &args.name else {
        let all: Vec<_> = all.into_iter().map(|(_, text)| text).collect();
        return super::print(&all.join("---\n"));
    };
    let found = all.iter().find(|(name, _)| name == wanted);
    match found {
        Some((_, text)) => super::print(text),
        None => {
            let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
            anyhow::bail!("there is no resource \"{wanted}\": {}", names.join(", "))
        }
    }
}
