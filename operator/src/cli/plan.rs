//! `operator plan`: the next step for two files.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use serde_yaml::with::singleton_map_recursive;

use crate::driver::local::address::{BASE, address, check};
use crate::observe::Observed;
use crate::plan::{Desired, plan, why};

/// What to plan for.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// File with the ConsulCluster.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    file: PathBuf,
    /// File with what was observed; without it, nothing exists yet.
    #[arg(long, value_name = "FILE")]
    observed: Option<PathBuf>,
    /// Address of the first server.
    #[arg(long, value_name = "IP", default_value_t = BASE)]
    bind_base: Ipv4Addr,
    /// How to print the step.
    #[arg(short = 'o', long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Output {
    /// Sentences.
    Text,
    /// The step with all that a driver gets.
    Yaml,
}

/// Prints the next step and why it is the next one.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    check(args.bind_base)?;
    let cluster = super::read_cluster(&args.file)?;
    let desired = Desired::new(&cluster, |mode, number| {
        address(args.bind_base, mode, number).to_string()
    });
    let observed = match &args.observed {
        Some(path) => read(path)?,
        None => Observed::default(),
    };
    for warning in crate::crd::warnings(&cluster.spec) {
        eprintln!("warning: {warning}");
    }
    let step = plan(&desired, &observed);
    match args.output {
        Output::Text => super::print(&format!("next: {step}\nwhy:  {}\n", why(&step))),
        Output::Yaml => {
            let mut text = Vec::new();
            singleton_map_recursive::serialize(&step, &mut serde_yaml::Serializer::new(&mut text))?;
            super::print(&String::from_utf8(text)?)
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Observed> {
    let text = std::fs::read_to_string(path).map_err(|e| anyhow!("{}: {e}", path.display()))?;
    let mut documents = serde_yaml::Deserializer::from_str(&text);
    let Some(first) = documents.next() else {
        return Ok(Observed::default());
    };
    let observed = singleton_map_recursive::deserialize(first)
        .map_err(|e| anyhow!("{}: {e}", path.display()))?;
    if documents.next().is_some() {
        return Err(anyhow!(
            "{}: the file holds several YAML documents; one observation is expected",
            path.display()
        ));
    }
    Ok(observed)
}
