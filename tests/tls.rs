//! Connections that are protected: who belongs talks, nobody else does, and certificates change under load.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use tests::{Cluster, SERVERS, binary};

const AGENTS: [&str; 4] = ["A", "B", "C", "D"];

/// Certificates of one authority in a folder of their own.
struct Authority {
    folder: PathBuf,
}

impl Authority {
    fn new(cluster: &Cluster, name: &str) -> Self {
        let folder = cluster.path(name);
        fs::create_dir(&folder).expect("a new folder");
        let authority = Self { folder };
        authority.run(&["ca", "create"]);
        authority
    }

    fn run(&self, words: &[&str]) -> String {
        let mut command = Command::new(binary("agent"));
        let output = command.arg("tls").args(words).current_dir(&self.folder);
        let output = output.output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{words:?}: {said}{output:?}");
        said
    }

    /// A new certificate with its key, in PEM form.
    fn issue(&self, role: &str, ip: &str) -> (String, String) {
        let said = self.run(&["cert", "create", role, "-additional-ipaddress", ip]);
        let saved: Vec<_> = said
            .lines()
            .filter_map(|line| line.strip_prefix("==> Saved "))
            .map(|name| fs::read_to_string(self.folder.join(name)).expect("it was saved"))
            .collect();
        let [cert, key] = saved.try_into().expect("a certificate and its key");
        (cert, key)
    }

    fn ca(&self) -> String {
        fs::read_to_string(self.folder.join("consul-agent-ca.pem")).expect("made before")
    }
}

/// Writes what an agent shows and whom it trusts.
fn equip(cluster: &Cluster, name: &str, (cert, key): &(String, String)) {
    fs::write(cluster.path(&format!("{name}.pem")), cert).expect("room");
    fs::write(cluster.path(&format!("{name}-key.pem")), key).expect("room");
}

fn trust(cluster: &Cluster, authorities: &str) {
    fs::write(cluster.path("ca.pem"), authorities).expect("room");
}

/// The configuration of an agent with everything that can be demanded.
fn settings(cluster: &Cluster, name: &str) -> String {
    let path = cluster.path(&format!("{name}.hcl"));
    let folder = path.parent().expect("a file").display();
    let text = format!(
        r#"ports {{ https = 8501 }}
           tls {{
             defaults {{
               ca_file = "{folder}/ca.pem" cert_file = "{folder}/{name}.pem" key_file = "{folder}/{name}-key.pem"
               verify_incoming = true verify_outgoing = true
             }}
             internal_rpc {{ verify_server_hostname = true }}
           }}"#
    );
    fs::write(&path, text).expect("room");
    path.display().to_string()
}

/// A cluster of three servers and the client D that speaks nothing but TLS.
fn protected() -> (Cluster, Authority) {
    let mut cluster = Cluster::new();
    let authority = Authority::new(&cluster, "first");
    trust(&cluster, &authority.ca());
    for name in AGENTS {
        let role = if name == "D" { "-client" } else { "-server" };
        let issued = authority.issue(role, &cluster.address(name));
        equip(&cluster, name, &issued);
        let file = settings(&cluster, name);
        let more: &[&str] = match name {
            "A" => &["-server", "-bootstrap"],
            "D" => &[],
            _ => &["-server"],
        };
        cluster[name].start(&[more, &["-config-file", &file]].concat());
        cluster[name].wait_until_up();
    }
    cluster["A"].wait_for_line("consul: cluster leadership acquired");
    let others: Vec<_> = AGENTS[1..].iter().map(|n| cluster.address(n)).collect();
    let others: Vec<_> = others.iter().map(String::as_str).collect();
    cluster["A"]
        .cli(&[&["join"], others.as_slice()].concat())
        .success();
    cluster.wait_for_voters(&SERVERS);
    cluster["D"].wait_for_leader();
    (cluster, authority)
}

/// A verb over HTTPS, with D's certificate.
fn over_https(cluster: &Cluster, to: &str, words: &[&str], more: &[&str]) -> tests::Output {
    let file = |name: &str| cluster.path(name).display().to_string();
    let mut arguments: Vec<String> = words[..2].iter().map(|&w| w.to_owned()).collect();
    arguments.push(format!("-http-addr=https://{}:8501", cluster.address(to)));
    arguments.push(format!("-ca-file={}", file("ca.pem")));
    arguments.extend(more.iter().map(|&w| w.to_owned()));
    arguments.extend(words[2..].iter().map(|&w| w.to_owned()));
    tests::run("agent", &arguments)
}

fn own_certificate(cluster: &Cluster) -> [String; 2] {
    let file = |name: &str| cluster.path(name).display().to_string();
    [
        format!("-client-cert={}", file("D.pem")),
        format!("-client-key={}", file("D-key.pem")),
    ]
}

#[test]
fn nobody_is_heard_without_a_certificate_and_no_client_becomes_a_server() {
    let (mut cluster, authority) = protected();
    let own = own_certificate(&cluster);
    let own = [own[0].as_str(), own[1].as_str()];
    over_https(&cluster, "D", &["kv", "put", "a", "1"], &own).success();
    let read = over_https(&cluster, "B", &["kv", "get", "a"], &own);
    assert_eq!(read.success(), "1\n");
    let refused = over_https(&cluster, "B", &["kv", "get", "a"], &[]).failure();
    assert!(refused.contains("ertificate"), "{refused}");

    // Without TLS the server port says nothing, whatever it is asked.
    let mut plain = TcpStream::connect(cluster["A"].server_address()).expect("it listens");
    plain
        .write_all(b"ccr\x02\x01")
        .expect("taken by the kernel");
    let mut said = Vec::new();
    // A reset is as good an end as any.
    let _ = plain.read_to_end(&mut said);
    assert_eq!(said, b"");

    // Servers without a certificate, or with a client's, are members, and that is all.
    let a = cluster.address("A");
    let issued = authority.issue("-client", &cluster.address("F"));
    equip(&cluster, "F", &issued);
    let file = settings(&cluster, "F");
    let flags = ["-server", "-retry-join", &a];
    cluster["E"].start(&flags);
    cluster["F"].start(&[flags.as_slice(), &["-config-file", &file]].concat());
    for name in ["E", "F"] {
        cluster[name].wait_until_up();
        cluster[name].wait_for_line("waiting to be added to cluster");
        let reply = cluster[name].http().put("/v1/kv/b", "2");
        assert_eq!(reply.expect("an answer").status, 500);
    }
    // A leader that could reach them would have added them long before.
    over_https(&cluster, "A", &["kv", "put", "c", "3"], &own).success();
    cluster.wait_for_voters(&SERVERS);
}

#[test]
fn authorities_and_certificates_change_under_load_without_a_refused_request() {
    let (mut cluster, _first) = protected();
    let done = AtomicBool::new(false);
    let http = cluster["D"].http();
    let leader = cluster.leader_among(&SERVERS);
    let follower = SERVERS.into_iter().find(|name| *name != leader);
    let follower = follower.expect("three servers");
    let old = cluster.path("ca.pem");
    let reload = |cluster: &Cluster| {
        for name in AGENTS {
            cluster[name].cli(&["reload"]).success();
        }
    };
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0_u64;
            while !done.load(Ordering::Relaxed) {
                let reply = http.put(&format!("/v1/kv/load/{written}"), "x");
                let reply = reply.expect("an answer");
                assert_eq!((reply.status, reply.text().as_str()), (200, "true"));
                written += 1;
            }
            written
        });
        let second = Authority::new(&cluster, "second");
        let before = fs::read_to_string(&old).expect("it is there");
        trust(&cluster, &format!("{before}{}", second.ca()));
        reload(&cluster);
        for name in AGENTS {
            let role = if name == "D" { "-client" } else { "-server" };
            let issued = second.issue(role, &cluster.address(name));
            equip(&cluster, name, &issued);
        }
        reload(&cluster);
        trust(&cluster, &second.ca());
        reload(&cluster);
        // Connections that were open stayed so: somebody must come back to show that the new ones do.
        cluster[follower].kill();
        let (a, file) = (cluster.address(&leader), settings(&cluster, follower));
        cluster[follower].start(&["-server", "-retry-join", &a, "-config-file", &file]);
        cluster.wait_for_voters(&SERVERS);
        done.store(true, Ordering::Relaxed);
        writer.join().expect("every write was accepted")
    });
    let keys = cluster[follower].json("/v1/kv/load/?keys&consistent");
    let keys = keys.as_array().map_or(0, Vec::len);
    assert!(written > 0);
    assert_eq!(u64::try_from(keys).expect("few"), written);

    // A file that is half written changes nothing.
    fs::write(cluster.path("D.pem"), "").expect("room");
    let refused = cluster["D"].cli(&["reload"]).failure();
    assert!(refused.contains("does not hold certificates"), "{refused}");
    cluster["D"].cli(&["kv", "get", "load/0"]).success();
}
