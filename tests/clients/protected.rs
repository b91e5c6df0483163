//! The same clients with tokens and over HTTPS, as they reach a cluster that is protected.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use tests::{Cluster, SERVERS, binary, eventually};

use crate::{all_well, consul_api, run, scripts, tool};

/// A token that may do everything.
const MANAGER: &str = "3a1f6c1e-7f3b-4a55-9a86-0d6a8c1f2b10";

/// Three servers and the client agent D, which ask for tokens. The client's HTTPS demands certificates of its callers,
/// too; A's does not. Plain HTTP is there for the waits of the test alone.
struct Protected {
    cluster: Cluster,
}

impl Protected {
    fn start() -> Self {
        let cluster = Cluster::new();
        for authority in ["tls", "strangers"] {
            fs::create_dir(cluster.path(authority)).expect("a new folder");
        }
        let mut protected = Self { cluster };
        for authority in ["tls", "strangers"] {
            protected.tls(authority, &["ca", "create"]);
            protected.tls(authority, &["cert", "create", "-cli"]);
        }
        let a = protected.cluster.address("A");
        for name in ["A", "B", "C", "D"] {
            let file = protected.settings(name);
            let role: &[&str] = match name {
                "D" => &[],
                _ => &["-server", "-bootstrap-expect=3"],
            };
            let flags = [
                "-retry-interval=100ms",
                "-retry-join",
                &a,
                "-config-file",
                &file,
            ];
            protected.cluster[name].start(&[role, &flags].concat());
        }
        for name in ["A", "B", "C", "D"] {
            let path = format!("/v1/operator/raft/configuration?token={MANAGER}");
            eventually(&format!("{name} knows three servers"), || {
                let reply = protected.cluster[name].http().get(&path);
                let said = reply.map_err(|e| e.to_string())?.text();
                let known = said.matches("\"Voter\":true").count() == SERVERS.len();
                if known { Ok(()) } else { Err(said) }
            });
        }
        protected
    }

    fn tls(&self, authority: &str, words: &[&str]) {
        let mut command = Command::new(binary("agent"));
        let command = command.arg("tls").args(words);
        run(command.current_dir(self.cluster.path(authority)));
    }

    fn file(&self, name: &str) -> String {
        self.cluster.path(name).display().to_string()
    }

    fn settings(&self, name: &str) -> String {
        let ip = self.cluster.address(name);
        let role = if name == "D" { "client" } else { "server" };
        let flag = format!("-{role}");
        let words = ["cert", "create", &flag, "-additional-ipaddress", &ip];
        self.tls("tls", &words);
        let number = SERVERS.iter().position(|one| *one == name).unwrap_or(0);
        let own = self.file(&format!("tls/dc1-{role}-consul-{number}"));
        let text = format!(
            r#"ports {{ https = 8501 }}
               acl {{ enabled = true default_policy = "deny" tokens {{ initial_management = "{MANAGER}" agent = "{MANAGER}" }} }}
               tls {{
                 defaults {{
                   ca_file = "{ca}" cert_file = "{own}.pem" key_file = "{own}-key.pem" verify_outgoing = true
                 }}
                 internal_rpc {{ verify_incoming = true verify_server_hostname = true }}
                 https {{ verify_incoming = {demanding} }}
               }}"#,
            ca = self.file("tls/consul-agent-ca.pem"),
            demanding = name == "D",
        );
        let file = self.cluster.path(&format!("{name}.hcl"));
        fs::write(&file, text).expect("room");
        file.display().to_string()
    }

    fn https(&self, name: &str) -> SocketAddr {
        SocketAddr::from((self.cluster[name].ip, 8501))
    }

    /// The token, the authority, a certificate of it and its key, as the programs here take them.
    fn credentials(&self) -> [String; 4] {
        [
            MANAGER.to_owned(),
            self.file("tls/consul-agent-ca.pem"),
            self.file("tls/dc1-cli-consul-0.pem"),
            self.file("tls/dc1-cli-consul-0-key.pem"),
        ]
    }

    /// A request of curl's for a key: its exit code, the status (0 without an answer) and the body.
    fn curl(&self, name: &str, words: &[&str]) -> (i32, u16, String) {
        let mut command = tool("curl", "curl");
        command.args(["-q", "--silent", "--noproxy", "*"]);
        command.args(["--write-out", "\n%{http_code}"]).args(words);
        command.arg(format!("https://{}/v1/kv/curl?raw", self.https(name)));
        let output = command.output().expect("it is there");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = said.rsplit_once('\n').expect("the line of the status");
        let code = output.status.code().expect("it ends by itself");
        (code, status.parse().expect("a number"), body.to_owned())
    }
}

/// How curl says that the other end closed the connection instead of answering: at the handshake (35), or with TLS 1.3
/// after it, when it writes (55), reads (56) or finds nothing to read (52).
const CLOSED: [i32; 4] = [35, 52, 55, 56];

#[test]
fn curl_needs_the_authority_a_token_and_where_it_is_demanded_a_certificate() {
    let protected = Protected::start();
    let [token, ca, cert, key] = protected.credentials();
    let strangers = protected.file("strangers/consul-agent-ca.pem");
    let token = format!("X-Consul-Token: {token}");
    let answer = |status: u16, body: &str| (0, status, body.to_owned());

    let curl = |words: &[&str]| protected.curl("A", words);
    let put = ["--cacert", &ca, "-H", &token, "-X", "PUT", "-d", "hello"];
    assert_eq!(curl(&put), answer(200, "true"));
    assert_eq!(curl(&["--cacert", &ca, "-H", &token]), answer(200, "hello"));
    let bearer = token.replace("X-Consul-Token:", "Authorization: Bearer");
    assert_eq!(
        curl(&["--cacert", &ca, "-H", &bearer]),
        answer(200, "hello")
    );
    let wrong = "X-Consul-Token: wrong";
    assert_eq!(
        curl(&["--cacert", &ca, "-H", wrong]),
        answer(403, "ACL not found")
    );
    let (code, status, body) = curl(&["--cacert", &ca]);
    assert_eq!((code, status), (0, 403), "{body}");
    assert!(
        body.starts_with("Permission denied: anonymous token lacks"),
        "{body}"
    );
    for trusted in [["--cacert", &strangers].as_slice(), &[]] {
        let refused = curl(&[trusted, &["-H", &token]].concat());
        assert_eq!(refused, (60, 0, String::new()), "{trusted:?}");
    }

    let demanding = |words: &[&str]| {
        protected.curl(
            "D",
            &[["--cacert", &ca, "-H", &token].as_slice(), words].concat(),
        )
    };
    assert_eq!(
        demanding(&["--cert", &cert, "--key", &key]),
        answer(200, "hello")
    );
    let strange = protected.file("strangers/dc1-cli-consul-0.pem");
    let strange_key = protected.file("strangers/dc1-cli-consul-0-key.pem");
    for shown in [[].as_slice(), &["--cert", &strange, "--key", &strange_key]] {
        let (code, status, body) = demanding(shown);
        assert!(CLOSED.contains(&code), "{shown:?}: {code} {status} {body}");
        assert_eq!((status, body.as_str()), (0, ""), "{shown:?}");
    }
}

#[test]
fn a_python_client_gets_through_with_a_token_and_a_certificate() {
    let protected = Protected::start();
    let python = scripts::python(protected.cluster.folder());
    let d = protected.https("D");
    let mut command = Command::new(python);
    command.arg(crate::source("python").join("main.py"));
    command.args([d.ip().to_string(), d.port().to_string()]);
    all_well(&run(command.args(protected.credentials())));
}

#[test]
fn a_node_client_gets_through_with_a_token_and_a_certificate() {
    let protected = Protected::start();
    let program = scripts::node(protected.cluster.folder());
    let d = protected.https("D");
    let mut command = Command::new("node");
    command.arg(program);
    command.args([d.ip().to_string(), d.port().to_string()]);
    all_well(&run(command.args(protected.credentials())));
}

#[test]
fn consuls_own_go_client_gets_through_with_a_token_and_a_certificate() {
    let protected = Protected::start();
    let program = consul_api::program(protected.cluster.folder());
    let counts = protected.cluster.path("counts");
    fs::create_dir(&counts).expect("a new folder");
    let mut command = Command::new(program);
    command.env("GOCOVERDIR", &counts).arg("protected");
    command.arg(protected.https("D").to_string());
    all_well(&run(command.args(protected.credentials())));
}
