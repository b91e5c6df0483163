//! `agent validate`: are these configuration files right?

use std::path::PathBuf;

use clap::Parser;

use super::{Done, Failure, Io, flags};
use crate::config::{self, FlagSettings, Machine};

/// Checks configuration files and folders as the agent would read them, without starting anything.
#[derive(Parser)]
struct Flags {
    /// Language of all files, whatever their names: json or hcl
    #[arg(long)]
    config_format: Option<String>,
    /// Print nothing when all is well
    #[arg(long)]
    quiet: Option<bool>,
    /// Files and folders
    paths: Vec<PathBuf>,
}

/// Runs the verb.
pub(super) fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("validate", args)?;
    if flags.paths.is_empty() {
        return Err(Failure::Usage(
            "Must specify at least one config file or directory".into(),
        ));
    }
    let format = flags
        .config_format
        .as_deref()
        .filter(|text| !text.is_empty());
    let format = format.map(str::parse).transpose().map_err(Failure::Usage)?;
    let loaded = config::files::read(&flags.paths, format)
        .and_then(|files| config::load(&files, &FlagSettings::default(), &Machine::detect()))
        .map_err(Failure::because("Config validation failed"))?;
    if flags.quiet != Some(true) {
        for warning in loaded.warnings {
            writeln!(io.err, "{warning}")?;
        }
        writeln!(io.out, "Configuration is valid!")?;
    }
    Ok(0)
}
