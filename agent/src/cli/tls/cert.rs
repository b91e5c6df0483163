//! `agent tls cert create`: a certificate of a server, a client or the command line.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use clap::Parser;

use super::{Done, Failure, Io, days, save};
use crate::cli::flags;
use crate::tls::make::{self, Names, Pair};

/// What Consul says here, too; people's scripts look for it.
const WARNING: &str = "==> WARNING: Server Certificates grants authority to become a
    server and access all state in the cluster including root keys
    and all ACL tokens. Do not distribute them to production hosts
    that are not server nodes. Store them as securely as CA keys.
";

/// Makes a certificate with its key, in two new files of this folder. One of -server, -client and -cli says for whom.
#[derive(Parser)]
struct Flags {
    /// Another DNS name of the node; may be repeated
    #[arg(long)]
    additional_dnsname: Vec<String>,
    /// Another address of the node; may be repeated
    #[arg(long)]
    additional_ipaddress: Vec<String>,
    /// PEM file of the authority [default: DOMAIN-agent-ca.pem]
    #[arg(long)]
    ca: Option<String>,
    /// For the command line
    #[arg(long)]
    cli: Option<bool>,
    /// For a client agent
    #[arg(long)]
    client: Option<bool>,
    /// Days that it is valid
    #[arg(long, default_value_t = 365)]
    days: u32,
    /// Datacenter
    #[arg(long, default_value = "dc1")]
    dc: String,
    /// Domain of the cluster
    #[arg(long, default_value = "consul")]
    domain: String,
    /// PEM file of the authority's key [default: DOMAIN-agent-ca-key.pem]
    #[arg(long)]
    key: Option<String>,
    /// Name of the server, put before `server.DC.DOMAIN` in a name of its own
    #[arg(long)]
    node: Option<String>,
    /// For a server
    #[arg(long)]
    server: Option<bool>,
}

/// Runs the verb.
pub(super) fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let given: Flags = flags::parse("tls cert create", args)?;
    let role = role(&given)?;
    let domain = given.domain.trim_matches('.');
    let ca = given.ca.clone();
    let ca = ca.unwrap_or_else(|| format!("{domain}-agent-ca.pem"));
    let key = given.key.clone();
    let key = key.unwrap_or_else(|| format!("{domain}-agent-ca-key.pem"));
    let read = |what: &str, path: &str| {
        let failed = format!("Error reading {what}: {path}");
        fs::read_to_string(path).map_err(Failure::because(&failed))
    };
    let authority = Pair {
        cert: read("CA", &ca)?,
        key: read("CA key", &key)?,
    };
    let names = names(&given, role, domain)?;
    let made = make::certificate(&authority, &names, days("days", given.days)?);
    let made = made.map_err(Failure::because("cannot make the certificate"))?;
    if role == "server" {
        io.out.write_all(WARNING.as_bytes())?;
    }
    writeln!(io.out, "==> Using CA file {ca} and CA key {key}")?;
    let prefix = free_prefix(&format!("{}-{role}-{domain}", given.dc))?;
    save(&format!("{prefix}.pem"), &made.cert, false, io)?;
    save(&format!("{prefix}-key.pem"), &made.key, true, io)?;
    Ok(0)
}

/// For whom it is.
fn role(given: &Flags) -> Result<&'static str, Failure> {
    let asked = [
        (given.server, "server"),
        (given.client, "client"),
        (given.cli, "cli"),
    ];
    let mut asked = asked.into_iter().filter(|(on, _)| *on == Some(true));
    match (asked.next(), asked.next()) {
        (Some((_, role)), None) if role == "server" || given.node.is_none() => Ok(role),
        (Some(_), None) => Err(Failure::Usage("-node requires -server".into())),
        (None, _) => Err(Failure::Usage(
            "Please provide either -server, -client, or -cli".into(),
        )),
        (Some(_), Some(_)) => Err(Failure::Usage(
            "-server, -client, and -cli are mutually exclusive".into(),
        )),
    }
}

fn names(given: &Flags, role: &str, domain: &str) -> Result<Names, Failure> {
    let name = format!("{role}.{}.{domain}", given.dc);
    let mut dns = given.additional_dnsname.clone();
    dns.extend(given.node.as_ref().map(|node| format!("{node}.{name}")));
    dns.extend([name.clone(), "localhost".to_owned()]);
    let mut ips = Vec::new();
    for text in &given.additional_ipaddress {
        let ip: IpAddr = text.parse().map_err(|_| {
            Failure::Usage(format!(
                "invalid value {text:?} for flag -additional-ipaddress: not an address"
            ))
        })?;
        ips.push(ip);
    }
    if role != "cli" {
        ips.push(Ipv4Addr::LOCALHOST.into());
    }
    Ok(Names {
        common_name: name,
        dns,
        ips,
        server: role != "cli",
    })
}

/// The first `PREFIX-NUMBER` of which there is no file yet.
fn free_prefix(prefix: &str) -> Result<String, Failure> {
    let is_free = |name: &String| {
        [format!("{name}.pem"), format!("{name}-key.pem")]
            .iter()
            .all(|file| fs::symlink_metadata(file).is_err())
    };
    (0..100_000)
        .map(|number| format!("{prefix}-{number}"))
        .find(is_free)
        .ok_or_else(|| {
            Failure::Message("could not find a filename that doesn't already exist".into())
        })
}
