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

mod automatic;
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

use automatic::{Guests, Mesh, Own};
use prefixed::{Prefixed, is_handshake};
use setup::Shown;

/// What protects the connections of an agent.
pub struct Tls {
    now: ArcSwap<Now>,
    /// Of servers of this datacenter: `server.DATACENTER.DOMAIN`.
    server_name: ServerName<'static>,
    domain: String,
    /// Where servers of other datacenters are, as soon as somebody knows.
    datacenters: OnceLock<Box<FindDatacenter>>,
    automatic: Automatic,
}

/// What comes by itself (`auto_encrypt`).
#[derive(Default)]
struct Automatic {
    /// Of a client that asks for it: its certificate.
    own: Option<Arc<Own>>,
    /// Of a server that gives them: the roots of those that it gave.
    mesh: Option<Arc<Mesh>>,
}

impl Automatic {
    fn new(settings: &config::AutoEncrypt) -> Self {
        Self {
            own: settings.tls.then(Arc::default),
            mesh: settings.allow_tls.then(Arc::default),
        }
    }
}

/// Finds the datacenter of a server by its address.
type FindDatacenter = dyn Fn(SocketAddr) -> Option<String> + Send + Sync;

/// What is in force.
struct Now {
    rpc_in: Option<Arc<ServerConfig>>,
    /// Who looks at certificates there, where those of the mesh are taken too.
    guests: Option<Arc<Guests>>,
    rpc_out: Option<Arc<ClientConfig>>,
    /// How servers are asked for a certificate: without one.
    asking: Option<Arc<ClientConfig>>,
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
    /// Somebody without the certificate that `verify_incoming` demands, who may ask for one and for nothing else.
    Applicant,
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
        let automatic = Automatic::new(&config.auto_encrypt);
        let now = Now::load(&config.tls, &automatic)?;
        Ok(Self {
            now: ArcSwap::from_pointee(now),
            server_name,
            domain,
            datacenters: OnceLock::new(),
            automatic,
        })
    }

    /// Reads the files anew, as these settings say, without changing what is in force.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub fn prepare(&self, settings: &config::Tls) -> Result<Prepared, Error> {
        Now::load(settings, &self.automatic).map(Prepared)
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

    /// The network of connections on which a client asks for its certificate, and shows none.
    pub fn asking(self: &Arc<Self>, net: Arc<dyn Net>) -> Arc<dyn Net> {
        Arc::new(outgoing::Outgoing::asking(net, Arc::clone(self)))
    }

    /// Whether this client still waits for the certificate that comes by itself. Until then it talks to no server.
    pub fn waits_for_certificate(&self) -> bool {
        let own = self.automatic.own.as_ref();
        own.is_some_and(|own| !own.is_there()) && !self.now.load().settings.rpc.has_certificate()
    }

    /// Takes a certificate, with what leads to a root, and its key, in PEM, for handshakes from now on.
    ///
    /// # Errors
    /// When they cannot be used; the one of before stays.
    pub fn set_own(&self, chain: &str, key: &str) -> Result<(), Error> {
        match &self.automatic.own {
            Some(own) => own.set(chain, key),
            None => Ok(()),
        }
    }

    /// Takes the roots of the mesh, in PEM: agents of this trust domain may connect with their certificates.
    ///
    /// # Errors
    /// When they cannot be used; those of before stay.
    pub fn set_mesh(&self, roots: &str, trust_domain: &str) -> Result<(), Error> {
        match &self.automatic.mesh {
            Some(mesh) => mesh.set(roots, trust_domain),
            None => Ok(()),
        }
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
            None | Some([]) if now.settings.rpc.verify_incoming => Peer::Applicant,
            None | Some([]) => Peer::Anybody,
            Some(certs @ [own, ..]) => {
                let named = ParsedCertificate::try_from(own)
                    .is_ok_and(|cert| verify_server_name(&cert, &self.server_name).is_ok());
                let guests = now.guests.as_ref();
                let is_server = named && guests.is_none_or(|guests| guests.is_of_files(certs));
                if is_server { Peer::Server } else { Peer::Known }
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
    fn load(settings: &config::Tls, automatic: &Automatic) -> Result<Self, Error> {
        let Automatic { own, mesh } = automatic;
        let by_name = settings.verify_server_hostname;
        // First: of files that change meanwhile it may tell what was, but never what is not in force yet.
        let digest = digest(&settings.rpc)?;
        let rpc_in = setup::incoming(&settings.rpc, None, mesh.as_ref())?;
        let https = setup::incoming(&settings.https, own.as_ref(), None)?;
        let shown = own.as_ref().map_or(Shown::Files, Shown::Own);
        let to_servers = |by_name, shown| setup::outgoing(&settings.rpc, by_name, shown);
        Ok(Self {
            digest,
            guests: rpc_in.as_ref().and_then(|rpc| rpc.guests.clone()),
            rpc_in: rpc_in.map(|rpc| rpc.config),
            rpc_out: match settings.rpc.verify_outgoing {
                true => Some(to_servers(by_name, shown)?),
                false => None,
            },
            asking: match own {
                Some(_) => Some(to_servers(true, Shown::Nothing)?),
                None => None,
            },
            https: https.map(|https| https.config),
            settings: settings.clone(),
        })
    }
}

/// What [`Tls::digest`] is of an agent with these files, as text; absent: it has none.
pub fn digest_of(authorities: Option<&str>, certificate: Option<&str>) -> String {
    let parts = [authorities, certificate].into_iter().flatten();
    let texts: Vec<&[u8]> = parts.map(str::as_bytes).collect();
    sum(&texts)
}

fn sum(texts: &[&[u8]]) -> String {
    use sha2::Digest as _;
    if texts.is_empty() {
        return String::new();
    }
    let mut sum = sha2::Sha256::new();
    texts.iter().for_each(|text| sum.update(text));
    let digits = sum.finalize();
    digits.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// See [`Tls::digest`].
fn digest(tls: &config::TlsInterface) -> Result<String, Error> {
    let files = [&tls.ca_file, &tls.cert_file];
    let files = files.into_iter().flatten();
    let texts: Vec<_> = files
        .map(|path| files::read("certificates", path))
        .collect::<Result<_, _>>()?;
    let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    Ok(sum(&texts))
}
