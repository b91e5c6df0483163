//! `agent tls ...`: certificates for agents.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use super::{Done, Failure, Io};

mod ca;
mod cert;

const USAGE: &str = "Usage: agent tls COMMAND [FLAGS]

Commands:
    ca create    Makes an authority that vouches for agents
    cert create  Makes a certificate of a server, a client or the command line
";

/// Runs the verb.
pub(super) fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["ca", "create", ..] => ca::run(&args[2..], io),
        ["cert", "create", ..] => cert::run(&args[2..], io),
        [] | ["ca" | "cert"] => Err(Failure::Message(USAGE.trim_end().into())),
        [.., "-h" | "-help" | "--help"] => Err(Failure::Help(USAGE.into())),
        _ => Err(Failure::Usage(format!(
            "There is no command {:?} here. The commands are `ca create` and `cert create`.",
            words.join(" ")
        ))),
    }
}

/// Days as a time. Longer than a certificate's dates can say is refused by whoever makes it.
fn days(flag: &str, days: u32) -> Result<Duration, Failure> {
    match days {
        1..=36_500 => Ok(Duration::from_secs(u64::from(days) * 86_400)),
        _ => Err(Failure::Usage(format!(
            "invalid value {days} for -{flag}: must be between 1 and 36500"
        ))),
    }
}

/// Refuses to go on when something has this name already: it might be the only copy of a key.
fn must_be_new(name: &str) -> Result<(), Failure> {
    match fs::symlink_metadata(name) {
        Ok(_) => Err(Failure::Message(format!("{name} already exists."))),
        Err(_) => Ok(()),
    }
}

/// Writes a new file, which only its owner may read when it holds a key.
fn save(name: &str, text: &str, secret: bool, io: &mut Io<'_>) -> Result<(), Failure> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mode = if secret { 0o600 } else { 0o644 };
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(Path::new(name))
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    written.map_err(Failure::because(&format!("cannot write {name}")))?;
    writeln!(io.out, "==> Saved {name}")?;
    Ok(())
}
