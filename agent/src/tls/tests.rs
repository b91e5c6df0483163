use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::make::{Authority, Names, Pair, authority, certificate};
use super::*;
use crate::client::Client;
use crate::config::{Config, FlagSettings, Format, Machine, SourceFile};
use crate::env::{Listener, RealNet};

mod automatic;

const DAY: Duration = Duration::from_secs(86_400);

/// Certificates of two authorities that know nothing of each other.
struct Files {
    folder: tempfile::TempDir,
    own: Pair,
}

impl Files {
    fn new() -> Self {
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
            own: new_authority("own"),
        };
        files.write("ca.pem", &files.own.cert);
        files.write("foreign-ca.pem", &new_authority("foreign").cert);
        for role in ["server", "client"] {
            files.issue(&files.own, role, role);
        }
        files.issue(&new_authority("stranger"), "server", "stranger");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// A certificate of `role`, in files called `name`.
    fn issue(&self, by: &Pair, role: &str, name: &str) {
        let names = Names {
            common_name: role.into(),
            dns: vec![format!("{role}.dc1.consul"), "localhost".into()],
            ips: vec![[127, 0, 0, 1].into()],
            server: true,
        };
        let made = certificate(by, &names, DAY).unwrap();
        self.write(&format!("{name}.pem"), &made.cert);
        self.write(&format!("{name}-key.pem"), &made.key);
    }

    /// `ca cert` in words: which authority is trusted, and whose certificate is shown.
    fn config(&self, ca: &str, cert: &str, more: &str) -> Config {
        self.config_beside(ca, cert, more, "")
    }

    /// The same with other settings beside those of TLS.
    fn config_beside(&self, ca: &str, cert: &str, more: &str, beside: &str) -> Config {
        let folder = self.folder.path().display();
        let mut text = format!(
            "data_dir = \"/d\" node_name = \"n\" bind_addr = \"127.0.0.1\" tls {{ defaults {{ ca_file = \"{folder}/{ca}.pem\""
        );
        if !cert.is_empty() {
            text += &format!(
                " cert_file = \"{folder}/{cert}.pem\" key_file = \"{folder}/{cert}-key.pem\""
            );
        }
        load(&format!("{text} {more} }} }} {beside}"))
    }

    fn tls(&self, ca: &str, cert: &str, more: &str) -> Arc<Tls> {
        Arc::new(Tls::load(&self.config(ca, cert, more)).unwrap())
    }
}

fn new_authority(name: &str) -> Pair {
    authority(&Authority {
        common_name: name.into(),
        lifetime: DAY,
        ..Authority::default()
    })
    .unwrap()
}

fn load(text: &str) -> Config {
    let file = SourceFile {
        name: "a.hcl".into(),
        format: Format::Hcl,
        text: text.into(),
    };
    let machine = Machine {
        hostname: "host".into(),
        private_ipv4: vec![],
        public_ipv6: vec![],
        temporary_dir: "/tmp/x".into(),
    };
    crate::config::load(&[file], &FlagSettings::default(), &machine)
        .unwrap()
        .config
}

async fn listen() -> (Box<dyn Listener>, SocketAddr) {
    let listener = RealNet.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// One connection from one to the other, with a word in both directions: whom the server saw, or why there is none.
async fn meet(server: &Arc<Tls>, client: &Arc<Tls>) -> Result<Peer, String> {
    let (mut listener, address) = listen().await;
    let net = client.outgoing(Arc::new(RealNet));
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut stream, peer) = server.accept_rpc(stream).await?;
        let word = stream.read_u8().await?;
        stream.write_u8(word + 1).await?;
        stream.flush().await?;
        io::Result::Ok(peer)
    };
    let ask = async {
        let mut stream = net.connect(address).await?;
        stream.write_u8(b'c').await?;
        stream.flush().await?;
        match stream.read_u8().await? {
            b'd' => Ok(()),
            other => Err(io::Error::other(format!("an answer {other}"))),
        }
    };
    let (served, asked) = tokio::join!(serve, ask);
    match (served, asked) {
        (Ok(peer), Ok(())) => Ok(peer),
        (served, asked) => Err(format!("{:?}; {:?}", served.err(), asked.err())),
    }
}

#[tokio::test]
async fn a_running_cluster_is_moved_step_by_step() {
    let files = Files::new();
    let plain = Arc::new(Tls::load(&load("data_dir = \"/d\" bind_addr = \"127.0.0.1\"")).unwrap());
    let certificates = files.tls("ca", "server", "");
    let outgoing = files.tls("ca", "server", "verify_outgoing = true");
    let both = files.tls(
        "ca",
        "server",
        "verify_outgoing = true verify_incoming = true",
    );
    // Each step with whoever took the one before it, in both directions.
    for (server, client, seen) in [
        (&plain, &plain, Peer::Anybody),
        (&plain, &certificates, Peer::Anybody),
        (&certificates, &plain, Peer::Anybody),
        (&certificates, &outgoing, Peer::Server),
        (&outgoing, &certificates, Peer::Anybody),
        (&outgoing, &both, Peer::Server),
        (&both, &outgoing, Peer::Server),
        (&both, &both, Peer::Server),
    ] {
        assert_eq!(meet(server, client).await, Ok(seen));
    }
    let refused = meet(&both, &certificates).await.unwrap_err();
    assert!(
        refused.contains("which verify_incoming demands"),
        "{refused}"
    );
}

#[tokio::test]
async fn who_does_not_belong_is_refused_by_both_sides() {
    let files = Files::new();
    let more = "verify_outgoing = true verify_incoming = true";
    let server = files.tls("ca", "server", more);
    for (ca, cert, wanted) in [
        // It does not trust the server, and says so to it.
        ("foreign-ca", "server", "UnknownIssuer"),
        // The server does not trust it.
        ("ca", "stranger", "UnknownIssuer"),
    ] {
        let client = files.tls(ca, cert, more);
        let refused = meet(&server, &client).await.unwrap_err();
        assert!(refused.contains(wanted), "{ca}, {cert}: {refused}");
    }
    let nobody = files.tls("ca", "", "verify_outgoing = true");
    let refused = meet(&server, &nobody).await.unwrap_err();
    assert!(refused.contains("NoCertificatesPresented"), "{refused}");
}

#[tokio::test]
async fn a_certificate_says_whether_it_is_a_servers() {
    let files = Files::new();
    let more = "verify_outgoing = true verify_incoming = true";
    let server = files.tls("ca", "server", more);
    let client = files.tls("ca", "client", more);
    assert_eq!(meet(&server, &client).await, Ok(Peer::Known));
    assert!(!server.only_servers_speak_raft());

    let more = "verify_outgoing = true verify_incoming = true verify_server_hostname = true";
    let strict = files.tls("ca", "client", more);
    assert!(strict.only_servers_speak_raft());
    assert_eq!(meet(&server, &strict).await, Ok(Peer::Known));
    // A client's certificate does not make a server, not even one with the address's name.
    let refused = meet(&client, &strict).await.unwrap_err();
    assert!(refused.contains("NotValidForName"), "{refused}");
}

#[tokio::test]
async fn an_expired_certificate_is_no_certificate() {
    let files = Files::new();
    let names = Names {
        dns: vec!["server.dc1.consul".into()],
        server: true,
        ..Names::default()
    };
    let made = certificate(&files.own, &names, Duration::ZERO).unwrap();
    files.write("old.pem", &made.cert);
    files.write("old-key.pem", &made.key);
    // Dates are in whole seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let more = "verify_outgoing = true verify_incoming = true";
    let (server, old) = (
        files.tls("ca", "server", more),
        files.tls("ca", "old", more),
    );
    let refused = meet(&server, &old).await.unwrap_err();
    assert!(refused.contains("Expired"), "{refused}");
    let refused = meet(&old, &server).await.unwrap_err();
    assert!(refused.contains("Expired"), "{refused}");
}

#[tokio::test]
async fn new_files_count_for_new_connections_and_broken_ones_for_none() {
    let files = Files::new();
    let more = "verify_outgoing = true verify_incoming = true";
    let (a, b) = (
        files.tls("ca", "server", more),
        files.tls("ca", "server", more),
    );
    assert_eq!(meet(&a, &b).await, Ok(Peer::Server));
    // Another authority for everybody: b first trusts both.
    let next = new_authority("next");
    files.write("both.pem", &format!("{}{}", files.own.cert, next.cert));
    files.issue(&next, "server", "next");
    for tls in [&a, &b] {
        let settings = files.config("both", "server", more).tls;
        tls.take_over(tls.prepare(&settings).unwrap());
    }
    assert_eq!(meet(&a, &b).await, Ok(Peer::Server));
    let settings = files.config("both", "next", more).tls;
    let before = b.digest();
    assert_eq!((before.len(), &before), (64, &a.digest()));
    let prepared = b.prepare(&settings).unwrap();
    assert_eq!(b.digest(), before, "what is prepared is not in force");
    b.take_over(prepared);
    assert_ne!(b.digest(), before);
    assert_eq!(meet(&a, &b).await, Ok(Peer::Server));
    assert_eq!(meet(&b, &a).await, Ok(Peer::Server));

    for (name, text, wanted) in [
        (
            "next.pem",
            "",
            "does not hold certificates in PEM form: there is none",
        ),
        (
            "next-key.pem",
            "x",
            "does not hold a private key in PEM form",
        ),
        ("next-key.pem", &files.own.key, "cannot use the certificate"),
    ] {
        let before = fs::read_to_string(files.path(name)).unwrap();
        files.write(name, text);
        let error = b.prepare(&settings).map(drop).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
        files.write(name, &before);
    }
    assert_eq!(meet(&a, &b).await, Ok(Peer::Server));
}

#[test]
fn what_cannot_be_used_is_named() {
    let files = Files::new();
    let error = |config: &Config| Tls::load(config).map(drop).unwrap_err().to_string();
    let missing = error(&files.config("nothing", "server", "verify_outgoing = true"));
    let path = files.path("nothing.pem");
    assert_eq!(
        missing,
        format!(
            "cannot read certificates {}: No such file or directory (os error 2)",
            path.display()
        )
    );
    let suites = "tls_cipher_suites = \"TLS_RSA_WITH_AES_128_CBC_SHA\"";
    let unsafe_suite = error(&files.config("ca", "server", suites));
    assert!(
        unsafe_suite.starts_with(
            "tls_cipher_suites: \"TLS_RSA_WITH_AES_128_CBC_SHA\" is not spoken here; known are TLS_ECDHE_"
        ),
        "{unsafe_suite}"
    );
    let folder = files.folder.path().display();
    let good = load(&format!(
        "data_dir = \"/d\" bind_addr = \"127.0.0.1\" tls {{ defaults {{ ca_path = \"{folder}\" verify_outgoing = true
         tls_cipher_suites = \"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\" }} }}"
    ));
    // The folder holds keys as well; they are no authorities.
    assert!(error(&good).contains("does not hold certificates"));
    for entry in fs::read_dir(files.folder.path()).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if Path::new(&path).to_string_lossy().ends_with("-key.pem") {
            fs::remove_file(path).unwrap();
        }
    }
    Tls::load(&good).unwrap();
}

/// Answers a request a connection with what it was told over HTTPS.
async fn serve_https(mut https: Https) {
    loop {
        let (mut stream, _) = https.accept().await.unwrap();
        tokio::spawn(async move {
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap();
            assert!(head[..read].starts_with(b"GET /v1/status/leader"));
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n\"me\"";
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        });
    }
}

#[tokio::test]
async fn the_api_is_asked_over_https_by_those_who_belong() {
    let files = Files::new();
    let (listener, address) = listen().await;
    let tls = files.tls("ca", "server", "verify_incoming = true");
    tokio::spawn(serve_https(Https::new(listener, tls)));
    // Somebody who connects and says nothing keeps nobody waiting.
    let silent = RealNet.connect(address).await.unwrap();

    let client = |settings: &ClientTls| {
        let client = Client::new(&format!("https://{address}")).unwrap();
        client.with_tls(settings, false).unwrap()
    };
    let good = ClientTls {
        ca_file: Some(files.path("ca.pem")),
        cert_file: Some(files.path("client.pem")),
        key_file: Some(files.path("client-key.pem")),
        ..ClientTls::default()
    };
    let answer = client(&good).get("/v1/status/leader").await.unwrap();
    assert_eq!(answer.body, "\"me\"");

    let ca_file = Some(files.path("foreign-ca.pem"));
    for (settings, wanted) in [
        (
            ClientTls {
                ca_file,
                ..good.clone()
            },
            "UnknownIssuer",
        ),
        (
            ClientTls {
                cert_file: None,
                key_file: None,
                ..good.clone()
            },
            "ertificate",
        ),
        (
            ClientTls {
                server_name: Some("elsewhere.example".into()),
                ..good.clone()
            },
            "not valid for name",
        ),
    ] {
        let error = client(&settings)
            .get("/v1/status/leader")
            .await
            .unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    }
    // Who does not look is let in all the same, as long as it shows a certificate.
    let careless = ClientTls {
        ca_file: None,
        skip_verify: true,
        ..good
    };
    client(&careless).get("/v1/status/leader").await.unwrap();
    drop(silent);

    let plain = Client::new(&format!("http://{address}")).unwrap();
    let answer = plain.get("/v1/status/leader").await.unwrap();
    assert_eq!(answer.status.as_u16(), 400);
    assert_eq!(
        answer.body,
        "Client sent an HTTP request to an HTTPS server.\n"
    );
}

#[tokio::test]
async fn an_agent_is_reached_by_its_address_and_known_by_its_name() {
    let files = Files::new();
    let (listener, address) = listen().await;
    let tls = files.tls("ca", "server", "");
    tokio::spawn(serve_https(Https::new(listener, tls)));
    let ask = async |authority: &str, name: &str| {
        let pem = fs::read_to_string(files.path(authority)).unwrap();
        let client = Client::new(&address.to_string()).unwrap();
        let client = client.with_authorities(&pem, name).unwrap();
        let answer = client.get("/v1/status/leader").await;
        answer
            .map(|answer| answer.body)
            .map_err(|error| error.to_string())
    };
    let good = ask("ca.pem", "server.dc1.consul").await.unwrap();
    assert_eq!(good, "\"me\"");
    for (authority, name, wanted) in [
        ("ca.pem", "server.dc2.consul", "not valid for name"),
        ("foreign-ca.pem", "server.dc1.consul", "UnknownIssuer"),
    ] {
        let why = ask(authority, name).await.unwrap_err();
        assert!(why.contains(wanted), "{why}");
    }
    let none = Client::new("127.0.0.1:1")
        .unwrap()
        .with_authorities("", "x");
    let why = none.map(drop).unwrap_err().to_string();
    assert!(why.contains("there is none"), "{why}");
}
