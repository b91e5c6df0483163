//! Certificates of the mesh beside those of files.

use std::net::IpAddr;

use uuid::Uuid;

use super::*;
use crate::ca::{self, Place, Signed, spiffe};
use crate::env::{Env, SeededRandom};
use crate::state::{CaRoot, CaStep};

/// A server that gives certificates.
fn giving(files: &Files, more: &str) -> Arc<Tls> {
    let beside = "server = true auto_encrypt { allow_tls = true }";
    let config = files.config_beside("ca", "server", more, beside);
    Arc::new(Tls::load(&config).unwrap())
}

/// A client that asks for one.
fn asking(files: &Files) -> Arc<Tls> {
    let config = files.config_beside("ca", "", "", "auto_encrypt { tls = true }");
    Arc::new(Tls::load(&config).unwrap())
}

/// The authority of a mesh.
struct Mesh {
    root: CaRoot,
    domain: String,
}

impl Mesh {
    fn new(seed: u64) -> Self {
        let id = Uuid::from_u128(seed.into());
        let given = ca::settings::read(&serde_json::Map::new(), "").unwrap();
        let now = Env::real().clock.unix_ms();
        let CaStep::Set { mut roots, .. } =
            ca::first(&given, id, now, &SeededRandom::new(seed)).unwrap();
        Self {
            root: roots.remove(0),
            domain: spiffe::trust_domain(id),
        }
    }

    fn sign(&self, requested: &ca::Requested) -> Signed {
        // Of another domain, so that a server's name is no name of a server there.
        let place = Place {
            datacenter: "dc1",
            domain: "elsewhere",
        };
        let by = (Env::real().clock.unix_ms(), 7);
        ca::sign(&requested.csr, &self.root, &self.domain, place, DAY, by).unwrap()
    }

    /// Lets a client show a certificate of this mesh.
    fn equip(&self, client: &Tls, requested: &ca::Requested) {
        let signed = self.sign(requested);
        client
            .set_own(&signed.cert, &requested.private_key)
            .unwrap();
    }

    fn agent(&self, dns: &[&str]) -> ca::Requested {
        let dns: Vec<String> = dns.iter().map(|&name| name.to_owned()).collect();
        let name = spiffe::of_agent(&self.domain, "dc1", "D");
        let ips: [IpAddr; 1] = [[127, 0, 0, 1].into()];
        ca::request_of_agent(&name, &dns, &ips, &self.root).unwrap()
    }
}

#[tokio::test]
async fn agents_of_the_mesh_are_let_in_and_are_no_servers() {
    let files = Files::new();
    let server = giving(&files, "verify_incoming = true");
    let mesh = Mesh::new(1);
    let client = asking(&files);
    // It does not even connect, so that nobody is met.
    let (_listener, address) = listen().await;
    let connected = client.outgoing(Arc::new(RealNet)).connect(address).await;
    let refused = connected.map(drop).unwrap_err().to_string();
    assert!(
        refused.contains("no server has given this client"),
        "{refused}"
    );
    assert!(client.waits_for_certificate());
    mesh.equip(&client, &mesh.agent(&["localhost"]));
    assert!(!client.waits_for_certificate());
    let refused = meet(&server, &client).await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    server.set_mesh(&mesh.root.root_cert, &mesh.domain).unwrap();
    assert_eq!(meet(&server, &client).await, Ok(Peer::Known));
    // A name does not make a server of it; a certificate of the files does.
    mesh.equip(&client, &mesh.agent(&["server.dc1.consul"]));
    assert_eq!(meet(&server, &client).await, Ok(Peer::Known));
    let peer = files.tls("ca", "server", "verify_outgoing = true");
    assert_eq!(meet(&server, &peer).await, Ok(Peer::Server));

    // Services have certificates of the same root, and agents of another trust domain may.
    let web = spiffe::of_service(&mesh.domain, "dc1", "web");
    mesh.equip(&client, &ca::request(&web, &mesh.root).unwrap());
    let refused = meet(&server, &client).await.unwrap_err();
    assert!(
        refused.contains("ApplicationVerificationFailure"),
        "{refused}"
    );
    mesh.equip(&client, &mesh.agent(&[]));
    server.set_mesh(&mesh.root.root_cert, "x.consul").unwrap();
    let refused = meet(&server, &client).await.unwrap_err();
    assert!(
        refused.contains("ApplicationVerificationFailure"),
        "{refused}"
    );
    // The roots have changed.
    server
        .set_mesh(&Mesh::new(2).root.root_cert, &mesh.domain)
        .unwrap();
    let refused = meet(&server, &client).await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
}

#[tokio::test]
async fn who_shows_nothing_may_ask_for_a_certificate_and_is_told_apart() {
    let files = Files::new();
    let server = giving(&files, "verify_incoming = true");
    let nobody = files.tls("ca", "", "verify_outgoing = true");
    assert_eq!(meet(&server, &nobody).await, Ok(Peer::Applicant));
    let stranger = files.tls("ca", "stranger", "verify_outgoing = true");
    let refused = meet(&server, &stranger).await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    // Where nothing is demanded, nobody is an applicant.
    let server = giving(&files, "");
    assert_eq!(meet(&server, &nobody).await, Ok(Peer::Anybody));
}
