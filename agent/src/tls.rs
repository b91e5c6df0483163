//! TLS of servers' RPC and of the HTTPS API.
//!
//! What is in force is read at each handshake, so that a reload changes certificates, authorities and demands without
//! closing a connection. A set of files is taken over whole or not at all. Consul's meaning of the settings:
//! `verify_outgoing` makes own connections use TLS and checks who answers; a server with a certificate takes both kinds of
//! connections until `verify_incoming` demands TLS and a certificate. So a running cluster is moved without a pause: first
//! certificates everywhere, then `verify_outgoing`, then `verify_incoming`.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{ClientConfig, ServerConfig, client::verify_server_name};

use crate::config;
use crate::env::{BoxStream, Net};

mod files;
mod https;
pub mod inspect;
pub mod make;
mod outgoing;
mod prefixed;
mod setup;
#[cfg(test)]
mod tests;

pub use files::Error;
pub use https::Https;
pub use outgoing::ClientTls;

use prefixed::{Prefixed, is_handshake};

/// What protects the connections of an agent.
pub struct Tls {
    now: ArcSwap<Now>,
    /// Of servers of this datacenter: `server.DATACENTER.DOMAIN`.
    server_name: ServerName<'static>,
    domain: String,
    /// Where servers of other datacenters are, as soon as somebody knows.
    datacenters: OnceLock<Box<FindDatacenter>>,
}

/// Finds the datacenter of a server by its address.
type FindDatacenter = dyn Fn(SocketAddr) -> Option<String> + Send + Sync;

/// What is in force.
struct Now {
    rpc_in: Option<Arc<ServerConfig>>,
    rpc_out: Option<Arc<ClientConfig>>,
    https: Option<Arc<ServerConfig>>,
    settings: config::Tls,
    digest: String,
}

/// What was read, and is not in force yet.
pub struct Prepared(Now);

/// Who is at the other end of a connection to the server port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Nobody knows: no TLS, or no certificate.
    Anybody,
    /// Somebody with a certificate of our authorities.
    Known,
    /// The same, and its certificate says that it is a server of this datacenter.
    Server,
}

impl Tls {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// The first file that cannot be read or does not hold what it should.
    pub fn load(config: &config::Config) -> Result<Self, Error> {
        let domain = config.domain.trim_end_matches('.').to_owned();
        let name = name_of(&config.datacenter, &domain);
        let server_name = ServerName::try_from(name.clone()).map_err(|_| Error::Name { name })?;
        let now = Now::load(&config.tls)?;
        Ok(Self {
            now: ArcSwap::from_pointee(now),
            server_name,
            domain,
            datacenters: OnceLock::new(),
        })
    }

    /// Reads the files anew, as these settings say, without changing what is in force.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub fn prepare(&self, settings: &config::Tls) -> Result<Prepared, Error> {
        Now::load(settings).map(Prepared)
    }

    /// Says how servers of other datacenters are found by their address: their certificates have other names. Counts once.
    pub fn find_datacenters(
        &self,
        find: impl Fn(SocketAddr) -> Option<String> + Send + Sync + 'static,
    ) {
        // There is one node a process; a second call changes nothing.
        let _ = self.datacenters.set(Box::new(find));
    }

    /// Whom the certificate of the server at this address names.
    fn name_at(&self, address: SocketAddr) -> ServerName<'static> {
        let found = self.datacenters.get().and_then(|find| find(address));
        found
            .and_then(|datacenter| ServerName::try_from(name_of(&datacenter, &self.domain)).ok())
            .unwrap_or_else(|| self.server_name.clone())
    }

    /// Handshakes from now on follow what was read; connections that are open stay.
    pub fn take_over(&self, Prepared(now): Prepared) {
        self.now.store(Arc::new(now));
    }

    /// The network of connections to servers, protected as the settings say at each of them.
    pub fn outgoing(self: &Arc<Self>, net: Arc<dyn Net>) -> Arc<dyn Net> {
        Arc::new(outgoing::Outgoing::new(net, Arc::clone(self)))
    }

    /// What a connection to the server port begins with: TLS or not, as far as it is allowed. The caller bounds its time.
    ///
    /// # Errors
    /// When the handshake fails, or plain text comes where it is not taken.
    pub async fn accept_rpc(&self, stream: BoxStream) -> io::Result<(BoxStream, Peer)> {
        let now = self.now.load_full();
        let Some(config) = &now.rpc_in else {
            return Ok((stream, Peer::Anybody));
        };
        let stream = Prefixed::peek(stream).await?;
        if !is_handshake(stream.first()) {
            if now.settings.rpc.verify_incoming {
                let why = "it does not use TLS, which verify_incoming demands";
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
            }
            return Ok((Box::new(stream), Peer::Anybody));
        }
        let secured = TlsAcceptor::from(Arc::clone(config)).accept(stream).await?;
        let peer = match secured.get_ref().1.peer_certificates() {
            None | Some([]) => Peer::Anybody,
            Some([own, ..]) => {
                let named = ParsedCertificate::try_from(own)
                    .is_ok_and(|cert| verify_server_name(&cert, &self.server_name).is_ok());
                if named { Peer::Server } else { Peer::Known }
            }
        };
        Ok((Box::new(secured), peer))
    }

    /// SHA-256, in hexadecimal digits, of the files of the servers' RPC that are in force: that of the authorities and then that of
    /// the own certificate. Empty: there is none. So whoever changed the files can see when an agent has taken them over.
    pub fn digest(&self) -> String {
        self.now.load().digest.clone()
    }

    /// Whether only servers with a certificate that says so may speak Raft's protocol to this one.
    pub fn only_servers_speak_raft(&self) -> bool {
        let now = self.now.load();
        now.settings.verify_server_hostname && now.settings.rpc.verify_incoming
    }
}

/// The name that certificates of servers of a datacenter have.
fn name_of(datacenter: &str, domain: &str) -> String {
    format!("server.{datacenter}.{domain}")
}

impl Now {
    fn load(settings: &config::Tls) -> Result<Self, Error> {
        let by_name = settings.verify_server_hostname;
        // First: of files that change meanwhile it may tell what was, but never what is not in force yet.
        let digest = digest(&settings.rpc)?;
        Ok(Self {
            digest,
            rpc_in: setup::incoming(&settings.rpc)?,
            rpc_out: match settings.rpc.verify_outgoing {
                true => Some(setup::outgoing(&settings.rpc, by_name)?),
                false => None,
            },
            https: setup::incoming(&settings.https)?,
            settings: settings.clone(),
        })
    }
}

/// See [`Tls::digest`].
fn digest(tls: &config::TlsInterface) -> Result<String, Error> {
    use sha2::Digest as _;
    let mut sum = sha2::Sha256::new();
    let mut any = false;
    let parts = [
        ("certificates", &tls.ca_file),
        ("certificates", &tls.cert_file),
    ];
    for (what, path) in parts {
        if let Some(path) = path {
            sum.update(files::read(what, path)?);
            any = true;
        }
    }
    if !any {
        return Ok(String::new());
    }
    Ok(sum
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
