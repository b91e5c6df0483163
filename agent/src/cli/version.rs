//! `agent version`, and what the other surfaces say of the version.

use clap::Parser;
use serde_json::json;

use super::{Done, Failure, Io, flags};
use crate::{REVISION, VERSION};

/// Version of this program itself.
pub const AGENT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// When it was built, as the builder named it in `AGENT_BUILD_DATE` (RFC 3339), else the epoch: builds are reproducible.
pub const BUILD_DATE: &str = match option_env!("AGENT_BUILD_DATE") {
    Some(date) => date,
    None => "1970-01-01T00:00:00Z",
};

/// Lowest, default and highest version of the gossip protocol, in Consul's count.
pub const PROTOCOLS: (u8, u8, u8) = (2, 2, 3);

/// Prints the version.
#[derive(Parser)]
struct Flags {
    /// `pretty` or `json`
    #[arg(long, default_value = "pretty")]
    format: String,
}

/// Runs the verb.
pub(super) fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("version", args)?;
    let (min, default, max) = PROTOCOLS;
    match flags.format.as_str() {
        "pretty" => {
            writeln!(io.out, "Consul v{VERSION}")?;
            writeln!(
                io.out,
                "Agent {AGENT_VERSION} (compatible with Consul's API 1.19)"
            )?;
            if !REVISION.is_empty() {
                writeln!(io.out, "Revision {REVISION}")?;
            }
            if option_env!("AGENT_BUILD_DATE").is_some() {
                writeln!(io.out, "Build Date {BUILD_DATE}")?;
            }
            writeln!(
                io.out,
                "Protocol {default} spoken by default, understands {min} to {max} (agent will automatically use protocol >{default} when speaking to compatible agents)"
            )?;
        }
        "json" => {
            let version = json!({
                "Version": VERSION,
                "Revision": REVISION,
                "Prerelease": "",
                "BuildDate": BUILD_DATE,
                "RPC": {"Default": default, "Min": min, "Max": max},
            });
            let mut text = Vec::new();
            let indent = serde_json::ser::PrettyFormatter::with_indent(b"   ");
            let mut serializer = serde_json::Serializer::with_formatter(&mut text, indent);
            serde::Serialize::serialize(&version, &mut serializer)
                .map_err(|e| Failure::Message(e.to_string()))?;
            text.push(b'\n');
            io.out.write_all(&text)?;
        }
        other => {
            let text = format!("Unknown format: {other}. The formats are pretty and json.");
            return Err(Failure::Usage(text));
        }
    }
    Ok(0)
}
