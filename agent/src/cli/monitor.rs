//! `agent monitor`: follow the log of an agent.

use clap::Parser;

use super::api::ApiFlags;
use super::{Done, Failure, Io, flags};
use crate::client::query;

/// Follows the log of an agent until it ends or Ctrl-C.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    /// Least important lines to show: trace, debug, info, warn or error
    #[arg(long, default_value = "INFO")]
    log_level: String,
    /// Lines as JSON objects
    #[arg(long)]
    log_json: Option<bool>,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("monitor", args)?;
    let client = flags.api.client(io)?;
    let level = ("loglevel", Some(flags.log_level.as_str()));
    let json = (flags.log_json == Some(true)).then_some(("logjson", Some("true")));
    let path = format!(
        "/v1/agent/monitor{}",
        query([level].into_iter().chain(json))
    );
    let mut stream = client
        .stream(&path)
        .await
        .map_err(Failure::because("Error starting monitor"))?;
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        let chunk = tokio::select! {
            _ = &mut interrupted => return Ok(0),
            chunk = stream.chunk() => chunk.map_err(Failure::because("Remote side ended the monitor"))?,
        };
        let Some(chunk) = chunk else {
            return Err(Failure::Message("Remote side ended the monitor! This usually means that the remote side has exited or crashed.".into()));
        };
        io.out.write_all(&chunk)?;
        io.out.flush()?;
    }
}
