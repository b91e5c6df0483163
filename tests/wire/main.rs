//! What a listener in between reads: with everything protected nothing of what agents tell each other and their clients,
//! without protection all of it.
//!
//! Three servers, a client and those who ask them have a network of their own, and every packet on it is kept. Needs root,
//! or user namespaces that anybody may make, and `ip`.

mod capture;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use capture::{Capture, Channel};
use tests::{Agent, Cluster, Output, SERVERS, binary, eventually, run};

/// Set, with the test's name, in the process that has a network of its own.
const INSIDE: &str = "WIRE_INSIDE";

/// What is looked for. Nothing else on the wire looks like any of it.
const SECRET: &str = "6e1b8f52-93d4-4c07-b2aa-71c0d95e3f84";
const VALUE: &str = "value-quokka-of-a-key";
const SERVICE: &str = "service-axolotl";
const PAYLOAD: &str = "payload-okapi-of-an-event";
const NODE: &str = "node-numbat";
const WANTED: [&str; 5] = [SECRET, VALUE, SERVICE, PAYLOAD, NODE];

/// How the agents of a run speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    /// Gossip encrypted, TLS between agents, HTTPS alone.
    Protected,
    Plain,
}

/// A cluster of three servers with a client of an unusual name.
struct World {
    // Before the cluster, in whose folder it writes.
    client: Agent,
    cluster: Cluster,
    wire: Wire,
}

impl World {
    /// Everybody runs, and knows the others.
    fn start(wire: Wire) -> Self {
        let cluster = Cluster::new();
        let client = Agent::new(NODE, cluster["D"].ip, &cluster.path(NODE));
        let mut world = Self {
            client,
            cluster,
            wire,
        };
        if wire == Wire::Protected {
            fs::create_dir(world.cluster.path("tls")).expect("a new folder");
            world.tls(&["ca", "create"]);
        }
        let key = run("agent", &["keygen"]).success();
        let a = world.cluster.address("A");
        for name in SERVERS {
            let file = world.settings(name, key.trim());
            let flags = ["-server", "-bootstrap-expect=3", "-retry-interval=100ms"];
            let more = ["-retry-join", &a, "-config-file", &file];
            world.cluster[name].start(&[flags.as_slice(), &more].concat());
        }
        let file = world.settings("D", key.trim());
        let flags = ["-retry-interval=100ms", "-retry-join", &a];
        let flags = [flags.as_slice(), &["-config-file", &file]].concat();
        world.client.start(&flags);
        world.wait_until_formed();
        world
    }

    fn tls(&self, words: &[&str]) {
        let mut command = Command::new(binary("agent"));
        let command = command.arg("tls").args(words);
        let output = command.current_dir(self.cluster.path("tls")).output();
        let output = output.expect("the program runs");
        assert!(output.status.success(), "{words:?}: {output:?}");
    }

    /// The configuration file of an agent. Tokens are asked for in either case.
    fn settings(&self, name: &str, key: &str) -> String {
        let mut text = format!(
            r#"acl {{
                 enabled = true default_policy = "deny"
                 tokens {{ initial_management = "{SECRET}" agent = "{SECRET}" }}
               }}
            "#
        );
        if self.wire == Wire::Protected {
            let role = if name == "D" { "client" } else { "server" };
            let ip = self.cluster.address(name);
            let flags = ["-additional-ipaddress", &ip];
            let role_flag = format!("-{role}");
            self.tls(&[&["cert", "create", &role_flag], flags.as_slice()].concat());
            let number = SERVERS.iter().position(|one| *one == name).unwrap_or(0);
            let folder = self.cluster.path("tls").display().to_string();
            text += &format!(
                r#"encrypt = "{key}"
                   ports {{ http = -1 https = 8501 }}
                   tls {{
                     defaults {{
                       ca_file = "{folder}/consul-agent-ca.pem"
                       cert_file = "{folder}/dc1-{role}-consul-{number}.pem"
                       key_file = "{folder}/dc1-{role}-consul-{number}-key.pem"
                       verify_outgoing = true
                     }}
                     internal_rpc {{ verify_incoming = true verify_server_hostname = true }}
                   }}
                "#
            );
        }
        let file = self.cluster.path(&format!("{name}.hcl"));
        fs::write(&file, text).expect("room");
        file.display().to_string()
    }

    /// A verb, its words apart from its flags, asked of an agent with the token.
    fn ask(&self, name: &str, verb: &[&str], rest: &[&str]) -> Output {
        let ip = self.cluster.address(name);
        let address = match self.wire {
            Wire::Protected => format!("-http-addr=https://{ip}:8501"),
            Wire::Plain => format!("-http-addr=http://{ip}:8500"),
        };
        let ca = self.cluster.path("tls/consul-agent-ca.pem");
        let ca = format!("-ca-file={}", ca.display());
        let token = format!("-token={SECRET}");
        let mut flags = vec![address.as_str(), &token];
        if self.wire == Wire::Protected {
            flags.push(&ca);
        }
        run("agent", &[verb, &flags, rest].concat())
    }

    /// Waits until an answer holds this text so many times.
    fn wait_for(&self, name: &str, verb: &[&str], text: &str, times: usize) {
        eventually(&format!("{name} says {text}"), || {
            let said = self.ask(name, verb, &[]);
            let found = said.code == Some(0) && said.stdout.matches(text).count() == times;
            if found {
                Ok(())
            } else {
                Err(format!("{said:?}"))
            }
        });
    }

    fn wait_until_formed(&self) {
        for name in ["A", "B", "C", "D"] {
            self.wait_for(name, &["members"], "alive", 4);
            self.wait_for(name, &["operator", "raft", "list-peers"], "true", 3);
            self.wait_for(name, &["catalog", "nodes"], NODE, 1);
        }
    }

    /// Says each of the things that are looked for, and waits until others have heard of it.
    fn talk(&self) {
        self.ask("D", &["kv", "put"], &["key", VALUE]).success();
        let register = ["services", "register"];
        let flag = format!("-name={SERVICE}");
        self.ask("D", &register, &[&flag]).success();
        self.ask("D", &["event"], &["-name=news", PAYLOAD])
            .success();
        for name in SERVERS {
            let read = self.ask(name, &["kv", "get"], &["key"]).success();
            assert_eq!(read, format!("{VALUE}\n"));
            self.wait_for(name, &["catalog", "services"], SERVICE, 1);
            self.wait_for(name, &["info"], "event_time = 2", 1);
        }
    }

    fn stop(mut self) {
        // It says that it leaves, by its name.
        self.client.interrupt();
        for name in SERVERS {
            self.cluster[name].kill();
        }
    }
}

/// What was read, of all that was said, and where.
fn overheard(wire: Wire) -> BTreeSet<(&'static str, Channel)> {
    let capture = Capture::start();
    let world = World::start(wire);
    world.talk();
    world.stop();
    let traffic = capture.finish();
    // Something went each way; otherwise nothing found would mean nothing.
    for channel in Channel::ALL {
        let bytes = traffic.bytes(channel);
        println!("{wire:?}, {channel:?}: {bytes} bytes");
        assert!(bytes > 1000, "{channel:?}: only {bytes} bytes went there");
    }
    let found = WANTED.into_iter().flat_map(|text| {
        let places = traffic.places_of(text.as_bytes());
        places.into_iter().map(move |place| (text, place))
    });
    found.collect()
}

/// Runs the rest of a test in a process that has a network of its own; `None` outside, once it has ended well.
fn inside(test: &str, wire: Wire) -> Option<BTreeSet<(&'static str, Channel)>> {
    if std::env::var_os(INSIDE).is_some_and(|name| name == test) {
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        let up = up.unwrap_or_else(|e| panic!("cannot run ip (Debian: iproute2): {e}"));
        assert!(up.success(), "a loopback");
        return Some(overheard(wire));
    }
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--"]);
    command.arg(std::env::current_exe().expect("this program has a path"));
    command
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, test);
    let output = command.output();
    let output = output.unwrap_or_else(|e| panic!("cannot run unshare (Debian: util-linux): {e}"));
    let (said, errors) = (output.stdout, output.stderr);
    let said = String::from_utf8_lossy(&said) + String::from_utf8_lossy(&errors);
    assert!(
        output.status.success(),
        "in a network of its own (which needs root, or user namespaces for everybody):\n{said}"
    );
    assert!(
        said.contains("1 passed"),
        "{test} is not the test's name:\n{said}"
    );
    println!("{said}");
    None
}

#[test]
fn nothing_is_read_of_a_protected_cluster() {
    let name = "nothing_is_read_of_a_protected_cluster";
    if let Some(found) = inside(name, Wire::Protected) {
        assert_eq!(found, BTreeSet::new());
    }
}

/// The same agents say the same: what is not found of protected ones would have been.
#[test]
fn everything_is_read_without_protection() {
    let name = "everything_is_read_without_protection";
    if let Some(found) = inside(name, Wire::Plain) {
        for (text, channels) in [
            (SECRET, [Channel::Http, Channel::Rpc].as_slice()),
            (VALUE, &[Channel::Http, Channel::Rpc]),
            (SERVICE, &[Channel::Http, Channel::Rpc]),
            (PAYLOAD, &[Channel::Http, Channel::GossipDatagrams]),
            (NODE, &Channel::ALL),
        ] {
            for channel in channels {
                let read = found.contains(&(text, *channel));
                assert!(read, "{text} was not read in {channel:?}, only {found:?}");
            }
        }
    }
}
