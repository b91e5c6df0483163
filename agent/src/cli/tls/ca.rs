//! `agent tls ca create`: an authority.

use clap::Parser;

use super::{Done, Failure, Io, days, must_be_new, save};
use crate::cli::flags;
use crate::tls::make::{self, Authority};

/// Makes an authority that vouches for the certificates of agents, in two new files of this folder.
#[derive(Parser)]
struct Flags {
    /// Another domain for whose names it may vouch, with -name-constraint; may be repeated
    #[arg(long)]
    additional_name_constraint: Vec<String>,
    /// Id of the cluster, put into the certificate as the address spiffe://ID.DOMAIN
    #[arg(long)]
    cluster_id: Option<String>,
    /// Name of the authority [default: Consul Agent CA]
    #[arg(long)]
    common_name: Option<String>,
    /// Days that it is valid
    #[arg(long, default_value_t = 1825)]
    days: u32,
    /// Domain of the cluster, which also begins the files' names
    #[arg(long, default_value = "consul")]
    domain: String,
    /// Let it vouch for names of the domain and `localhost` only
    #[arg(long)]
    name_constraint: Option<bool>,
}

/// Runs the verb.
pub(super) fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let given: Flags = flags::parse("tls ca create", args)?;
    let domain = given.domain.trim_matches('.');
    let (cert, key) = (
        format!("{domain}-agent-ca.pem"),
        format!("{domain}-agent-ca-key.pem"),
    );
    must_be_new(&cert)?;
    must_be_new(&key)?;
    let mut only_names = Vec::new();
    if flags::on(given.name_constraint) {
        only_names = given.additional_name_constraint;
        only_names.extend([domain.to_owned(), "localhost".to_owned()]);
    } else if !given.additional_name_constraint.is_empty() {
        let text = "-additional-name-constraint needs -name-constraint";
        return Err(Failure::Usage(text.into()));
    }
    let uri = given.cluster_id.map(|id| format!("spiffe://{id}.{domain}"));
    let common_name = given
        .common_name
        .unwrap_or_else(|| "Consul Agent CA".into());
    let made = make::authority(&Authority {
        common_name,
        lifetime: days("days", given.days)?,
        only_names,
        uri,
    })
    .map_err(Failure::because("cannot make the authority"))?;
    save(&cert, &made.cert, false, io)?;
    save(&key, &made.key, true, io)?;
    Ok(0)
}
