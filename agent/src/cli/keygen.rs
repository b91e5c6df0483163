//! `agent keygen`: a new key for gossip encryption.

use base64::Engine as _;
use clap::Parser;

use super::{Done, Io, flags};
use crate::env::{OsRandom, Random as _};

/// Prints a new gossip encryption key: 32 random bytes in base64.
#[derive(Parser)]
struct Flags {}

/// Runs the verb.
pub(super) fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let Flags {} = flags::parse("keygen", args)?;
    let mut key = [0; 32];
    for part in key.chunks_exact_mut(8) {
        part.copy_from_slice(&OsRandom.next_u64().to_le_bytes());
    }
    writeln!(
        io.out,
        "{}",
        base64::engine::general_purpose::STANDARD.encode(key)
    )?;
    Ok(0)
}
