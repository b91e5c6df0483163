//! The vault once more, when its Secret is lost: from the Secrets that are rendered from it, which agents run with.
//!
//! Nothing in it is new. What those Secrets do not hold is found later, in an order in which no two agents stop
//! understanding each other: an authority whose key is lost is replaced as an old one is, and a key of gossip that was
//! on its way in or out is found in the agents' keyrings.

use std::collections::BTreeMap;

use agent::tls::inspect;
use agent::tls::make::Pair;
use serde_json::Value;

use super::render::{self, AUTHORITIES, TOKEN};
use super::vault::Held;
use super::{Broken, Data, MadeAgain, Stages, Tokens, Vault, bundle, made};
use crate::crd::{ConsulCluster, Stage};
use crate::driver::kube::names;

/// Makes it again, as far on as `stages` says, from what servers and clients see of it; at `now`, in seconds since 1970.
///
/// # Errors
/// One of the two Secrets is lost as well, or does not hold what it should: which, and what. Nothing can be put in the
/// place of what is missing there, as agents would not understand it.
pub fn again(
    cluster: &ConsulCluster,
    stages: Stages,
    servers: Option<&Data>,
    clients: Option<&Data>,
    now: i64,
) -> Result<Vault, Broken> {
    let own = cluster.metadata.name.as_deref().unwrap_or_default();
    let [server_name, client_name] = [true, false].map(|server| names::secure(own, server));
    let servers = Rendered::new(&server_name, servers)?;
    let clients = Rendered::new(&client_name, clients)?;
    let management = servers.text(TOKEN)?;
    let (server_acl, client_acl) = (servers.tokens()?, clients.tokens()?);
    let client = match clients.has("cert.pem") || clients.has("key.pem") || made::own(cluster) {
        true => Some(clients.pair()?),
        false => None,
    };
    let vault = Vault {
        stages,
        gossip_key: servers.gossip_key()?,
        gossip_next: None,
        gossip_old: None,
        // Nobody knows. So where the spec bounds its age, another one takes its place.
        gossip_since: 0,
        // The two are written one after the other. While an authority is replaced, more trust is always right.
        authorities: match (servers.authorities()?, clients.authorities()?) {
            (one, other) if one == other => one,
            (one, other) => bundle(&one, &other),
        },
        signer: None,
        server: servers.pair()?,
        client,
        next: None,
        tokens: Tokens {
            management,
            agent: servers.token(&server_acl, "agent")?,
            dns: servers.token(&server_acl, "dns")?,
            recovery: servers.token(&server_acl, "agent_recovery")?,
            client_recovery: clients.token(&client_acl, "agent_recovery")?,
        },
        // Unknown, too: what a person asked for once is done once more, rather than not at all.
        done: BTreeMap::new(),
        made_again: MadeAgain::UnderWay,
    };
    let check = vault.check();
    check.map_err(|why| Broken(format!("Secrets {server_name} and {client_name}: {why}")))?;
    servers.vouched(&vault.authorities, Some(&vault.server), now)?;
    clients.vouched(&vault.authorities, vault.client.as_ref(), now)?;
    Ok(vault)
}

/// One of the two Secrets.
struct Rendered<'a> {
    name: &'a str,
    data: &'a Data,
}

impl<'a> Rendered<'a> {
    fn new(name: &'a str, data: Option<&'a Data>) -> Result<Self, Broken> {
        let data = data.ok_or_else(|| Broken(format!("Secret {name} is missing as well")))?;
        Ok(Rendered { name, data })
    }

    fn broken(&self, what: impl std::fmt::Display) -> Broken {
        Broken(format!("Secret {}: {what}", self.name))
    }

    fn has(&self, file: &str) -> bool {
        self.data.contains_key(file)
    }

    fn text(&self, file: &str) -> Result<String, Broken> {
        let text = Held(self.data).text(file);
        text.map_err(|Broken(why)| self.broken(why))
    }

    /// A file of the agents' configuration. What the parser says of it may quote it.
    fn json(&self, file: &str) -> Result<Value, Broken> {
        serde_json::from_str(&self.text(file)?)
            .map_err(|_| self.broken(format!("{file} in it is no JSON")))
    }

    fn authorities(&self) -> Result<String, Broken> {
        let text = self.text(AUTHORITIES)?;
        let check = inspect::check_authorities(&text);
        check.map_err(|why| self.broken(format!("{AUTHORITIES}: {why}")))?;
        Ok(text)
    }

    fn pair(&self) -> Result<Pair, Broken> {
        Ok(Pair {
            cert: self.text("cert.pem")?,
            key: self.text("key.pem")?,
        })
    }

    /// The same in the files of all stages.
    fn gossip_key(&self) -> Result<String, Broken> {
        let file = render::gossip_file(Stage::Full);
        let key = self.json(&file)?["encrypt"].as_str().map(str::to_owned);
        key.ok_or_else(|| self.broken(format!("{file} in it has no key")))
    }

    fn tokens(&self) -> Result<Value, Broken> {
        Ok(self.json(&render::acl_file(Stage::Full))?["acl"]["tokens"].take())
    }

    fn token(&self, tokens: &Value, name: &str) -> Result<String, Broken> {
        let file = render::acl_file(Stage::Full);
        let token = tokens[name].as_str().map(str::to_owned);
        token.ok_or_else(|| self.broken(format!("{file} in it has no token \"{name}\"")))
    }

    /// A copy that was put back may be of another time than the rest.
    fn vouched(&self, authorities: &str, pair: Option<&Pair>, now: i64) -> Result<(), Broken> {
        let Some(pair) = pair else { return Ok(()) };
        inspect::check(authorities, pair, &[], now).map_err(|why| {
            let why = why.replace("tls.crt", "cert.pem");
            self.broken(
                why.replace("tls.key", "key.pem")
                    .replace("ca.crt", AUTHORITIES),
            )
        })
    }
}
