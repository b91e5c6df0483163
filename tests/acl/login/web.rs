//! A server that speaks HTTPS, and answers as a test wants it to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use agent::tls::make::{Authority, Names, Pair, authority, certificate};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

const DAY: Duration = Duration::from_secs(86_400);

/// A request, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) authorization: String,
    pub(crate) body: String,
}

type Answer = dyn Fn(&Asked) -> (u16, String) + Send;

struct Shared {
    answer: Mutex<Box<Answer>>,
    asked: Mutex<Vec<Asked>>,
}

/// It listens as long as the test lasts.
pub(crate) struct Web {
    pub(crate) address: SocketAddr,
    /// Whom to trust to trust it.
    pub(crate) authorities: String,
    shared: Arc<Shared>,
}

pub(crate) fn some_authority() -> Pair {
    let asked = Authority {
        common_name: "issuer".into(),
        lifetime: DAY,
        ..Authority::default()
    };
    authority(&asked).expect("an authority")
}

impl Web {
    pub(crate) fn new(answer: impl Fn(&Asked) -> (u16, String) + Send + 'static) -> Self {
        let ca = some_authority();
        let names = Names {
            common_name: "issuer".into(),
            ips: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            server: true,
            ..Names::default()
        };
        let pair = certificate(&ca, &names, DAY).expect("a certificate");
        let chain = CertificateDer::from_pem_slice(pair.cert.as_bytes()).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .expect("a pair");
        let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            answer: Mutex::new(Box::new(answer)),
            asked: Mutex::default(),
        });
        let of_all = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, shared) = (config.clone(), of_all.clone());
                // One that hangs up, or does not trust us, is no concern of the others.
                std::thread::spawn(move || drop(serve(stream, config, &shared)));
            }
        });
        Self {
            address,
            authorities: ca.cert,
            shared,
        }
    }

    /// Answers otherwise from now on.
    pub(crate) fn set(&self, answer: impl Fn(&Asked) -> (u16, String) + Send + 'static) {
        *self.shared.answer.lock().expect("no panic") = Box::new(answer);
    }

    pub(crate) fn asked(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.shared.asked.lock().expect("no panic")
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let tls = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut reader = BufReader::new(StreamOwned::new(tls, stream));
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_owned()),
            }
        }
        let header = |name: &str| {
            let found = head.iter().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            });
            found.unwrap_or_default()
        };
        let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
        reader.read_exact(&mut body)?;
        let asked = Asked {
            line: head[0].trim_end_matches(" HTTP/1.1").to_owned(),
            authorization: header("authorization"),
            body: String::from_utf8_lossy(&body).into_owned(),
        };
        let (status, text) = (shared.answer.lock().expect("no panic"))(&asked);
        shared.asked.lock().expect("no panic").push(asked);
        let answer = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        );
        reader.get_mut().write_all(answer.as_bytes())?;
        reader.get_mut().flush()?;
    }
}
