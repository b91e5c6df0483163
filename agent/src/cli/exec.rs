//! `agent exec`: known, and refused.

use clap::Parser;

use super::api::{ApiFlags, ServerFlags};
use super::{Done, Failure, Io, flags};

/// Not supported: agents here never run commands for others.
#[derive(Parser)]
#[allow(dead_code, reason = "read so that the refusal is the only complaint")]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    #[arg(long, hide = true)]
    node: Option<String>,
    #[arg(long, hide = true)]
    prefix: Option<String>,
    #[arg(long, hide = true)]
    service: Option<String>,
    #[arg(long, hide = true)]
    shell: Option<bool>,
    #[arg(long, hide = true)]
    tag: Option<String>,
    #[arg(long, hide = true)]
    verbose: Option<bool>,
    #[arg(long, hide = true)]
    wait: Option<String>,
    #[arg(long, hide = true)]
    wait_repl: Option<String>,
    #[arg(hide = true)]
    words: Vec<String>,
}

/// Says why.
pub(super) fn run(args: &[String], _io: &mut Io<'_>) -> Done {
    let _: Flags = flags::parse("exec", args)?;
    Err(Failure::Message(
        "exec is not supported: agents here never run commands for others (as Consul's do not unless disable_remote_exec is false)"
            .into(),
    ))
}
