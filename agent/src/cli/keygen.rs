//! `agent keygen`: a new key for gossip encryption.

use clap::Parser;

use super::{Done, Io, flags};
use crate::env::OsRandom;
use crate::gossip::GossipKey;

/// Prints a new gossip encryption key: 32 random bytes in base64.
#[derive(Parser)]
struct Flags {}

/// Runs the verb.
pub(super) fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let Flags {} = flags::parse("keygen", args)?;
    writeln!(io.out, "{}", GossipKey::random(&OsRandom))?;
    Ok(0)
}
