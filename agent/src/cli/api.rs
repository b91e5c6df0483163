//! The flags that every verb which speaks to an agent has, and the client that they make.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, Io};
use crate::client::Client;
use crate::go_bool;
use crate::tls::ClientTls;

/// Which agent to speak to, and as whom.
#[derive(Debug, Default, Args)]
pub(crate) struct ApiFlags {
    /// HTTP address of the agent: HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix://PATH [environment:
    /// CONSUL_HTTP_ADDR] [default: 127.0.0.1:8500]
    #[arg(long)]
    http_addr: Option<String>,
    /// Token to send with each request [environment: CONSUL_HTTP_TOKEN]
    #[arg(long)]
    token: Option<String>,
    /// File that holds the token [environment: CONSUL_HTTP_TOKEN_FILE]
    #[arg(long)]
    token_file: Option<String>,
    /// PEM file with the authorities that may vouch for the agent [environment: CONSUL_CACERT]
    #[arg(long)]
    ca_file: Option<String>,
    /// Folder of such files [environment: CONSUL_CAPATH]
    #[arg(long)]
    ca_path: Option<String>,
    /// PEM file with the certificate to show to the agent [environment: CONSUL_CLIENT_CERT]
    #[arg(long)]
    client_cert: Option<String>,
    /// PEM file with its key [environment: CONSUL_CLIENT_KEY]
    #[arg(long)]
    client_key: Option<String>,
    /// Name that the agent's certificate must have [environment: CONSUL_TLS_SERVER_NAME]
    #[arg(long)]
    tls_server_name: Option<String>,
    /// Only `default` exists
    #[arg(long)]
    partition: Option<String>,
    /// Only `default` exists
    #[arg(long)]
    namespace: Option<String>,
}

/// Whom a request about the cluster's state is for.
#[derive(Debug, Default, Args)]
pub(crate) struct ServerFlags {
    /// Datacenter to ask; without it the agent's own
    #[arg(long)]
    datacenter: Option<String>,
    /// Let any server answer, which works without a leader but may be out of date
    #[arg(long)]
    stale: Option<bool>,
}

impl ServerFlags {
    /// Whether any server may answer.
    pub(crate) fn stale(&self) -> bool {
        self.stale == Some(true)
    }

    /// The datacenter to ask, where one was given.
    pub(crate) fn datacenter(&self) -> Option<&str> {
        self.datacenter.as_deref().filter(|dc| !dc.is_empty())
    }

    /// As parameters of a query.
    pub(crate) fn params(&self) -> Vec<(&'static str, Option<&str>)> {
        let mut params = Vec::new();
        if let Some(datacenter) = self.datacenter() {
            params.push(("dc", Some(datacenter)));
        }
        if self.stale() {
            params.push(("stale", None));
        }
        params
    }
}

impl ApiFlags {
    /// The client that flags and environment ask for; flags win.
    pub(crate) fn client(&self, io: &Io<'_>) -> Result<Client, Failure> {
        let wrong = || Failure::because("Error connecting to Consul agent");
        let env = |name: &str| (io.env)(name).filter(|value| !value.is_empty());
        self.refuse_unsupported()?;
        let address = self.http_addr.clone().or_else(|| env("CONSUL_HTTP_ADDR"));
        let address = address.as_deref().unwrap_or("127.0.0.1:8500");
        let client = Client::new(address).map_err(wrong())?;
        let always = (env("CONSUL_HTTP_SSL").and_then(|text| go_bool::parse(&text))) == Some(true);
        let tls = self.tls(&env);
        let client = match always || tls != ClientTls::default() {
            true => client.with_tls(&tls, always).map_err(wrong())?,
            false => client,
        };
        let client = match env("CONSUL_HTTP_AUTH") {
            Some(auth) => client.with_basic_auth(&auth),
            None => Ok(client),
        };
        let client = client.map_err(Failure::because("CONSUL_HTTP_AUTH"))?;
        match self.token(&env)? {
            Some(token) => client.with_token(&token).map_err(Failure::because("token")),
            None => Ok(client),
        }
    }

    fn token(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<String>, Failure> {
        if let Some(token) = self.token.clone().filter(|token| !token.is_empty()) {
            return Ok(Some(token));
        }
        let file = self
            .token_file
            .clone()
            .or_else(|| match env("CONSUL_HTTP_TOKEN") {
                Some(_) => None,
                None => env("CONSUL_HTTP_TOKEN_FILE"),
            });
        let Some(file) = file.filter(|file| !file.is_empty()) else {
            return Ok(env("CONSUL_HTTP_TOKEN"));
        };
        let token = std::fs::read_to_string(&file).map_err(Failure::because(&format!(
            "Error loading token file {file}"
        )))?;
        Ok(Some(token.trim().to_owned()))
    }

    /// How HTTPS is spoken, where it is.
    fn tls(&self, env: &dyn Fn(&str) -> Option<String>) -> ClientTls {
        let given = |flag: &Option<String>, name| {
            let flag = flag.clone().filter(|value| !value.is_empty());
            flag.or_else(|| env(name))
        };
        let path = |flag, name| given(flag, name).map(PathBuf::from);
        let verify = env("CONSUL_HTTP_SSL_VERIFY").and_then(|text| go_bool::parse(&text));
        ClientTls {
            ca_file: path(&self.ca_file, "CONSUL_CACERT"),
            ca_path: path(&self.ca_path, "CONSUL_CAPATH"),
            cert_file: path(&self.client_cert, "CONSUL_CLIENT_CERT"),
            key_file: path(&self.client_key, "CONSUL_CLIENT_KEY"),
            server_name: given(&self.tls_server_name, "CONSUL_TLS_SERVER_NAME"),
            skip_verify: verify == Some(false),
        }
    }

    fn refuse_unsupported(&self) -> Result<(), Failure> {
        let given = |value: &Option<String>| value.as_deref().is_some_and(|v| !v.is_empty());
        for (flag, value) in [
            ("-partition", &self.partition),
            ("-namespace", &self.namespace),
        ] {
            if given(value) && value.as_deref() != Some("default") {
                let text = format!("{flag} is not supported: only \"default\" exists");
                return Err(Failure::Message(text));
            }
        }
        Ok(())
    }
}
