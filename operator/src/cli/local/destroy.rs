//! `operator local destroy`: stops the agents and removes their data, when a person says so.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Result, bail};

use super::progress::Progress;
use super::{Which, down, folder};
use crate::driver::local::store::Store;

/// What to destroy.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    which: Which,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Destroys a cluster.
pub(super) async fn run(args: &Args) -> Result<()> {
    let dir = folder::find(&args.which)?;
    folder::check_ours(&dir)?;
    if !args.yes && !agreed(&dir)? {
        println!("nothing was removed");
        return Ok(());
    }
    let mut progress = Progress::new();
    let mut local = folder::driver(Store::open(&dir)?)?;
    let name = local.desired().name.clone();
    down::stop_all(&mut local, &mut progress).await?;
    drop(local);
    Store::open(&dir)?.destroy()?;
    progress.say(&format!(
        "{name} and its data in {} are gone",
        dir.display()
    ));
    Ok(())
}

fn agreed(dir: &std::path::Path) -> Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!(
            "removing {} needs --yes where nobody can be asked",
            dir.display()
        );
    }
    print!(
        "Remove {} with all data of its servers? [y/N] ",
        dir.display()
    );
    std::io::stdout().flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
