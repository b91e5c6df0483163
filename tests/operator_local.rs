//! `operator local` with real agents: the manual sequence from a file, and everything that may come in between.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tests::{Block, Http, Output, Random, binary, eventually, run};

/// A cluster's file, folder and addresses. What is still running when the test ends is killed.
struct Local {
    block: Block,
    folder: tempfile::TempDir,
}

impl Local {
    fn new(spec: &str) -> Self {
        let local = Self {
            block: Block::take(),
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        local.write(spec);
        local
    }

    fn write(&self, spec: &str) {
        let head = "apiVersion: consulcluster.dev/v1alpha1\nkind: ConsulCluster\nmetadata:\n  name: demo\nspec: ";
        // Replaced in one go, as editors do.
        let next = self.folder.path().join("next.yaml");
        fs::write(&next, format!("{head}{spec}\n")).expect("a writable folder");
        fs::rename(next, self.file()).expect("a writable folder");
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("cluster.yaml")
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn arguments(&self, verb: &str) -> Vec<String> {
        let mut arguments = vec!["local".to_owned(), verb.to_owned()];
        if verb == "up" {
            arguments.push(self.file().display().to_string());
            arguments.extend(["--bind-base".to_owned(), self.block.ip(1).to_string()]);
        }
        arguments.extend(["--dir".to_owned(), self.dir().display().to_string()]);
        arguments
    }

    fn operator(&self, verb: &str, more: &[&str]) -> Output {
        let mut arguments = self.arguments(verb);
        arguments.extend(more.iter().map(|&word| word.to_owned()));
        run("operator", &arguments)
    }

    /// Starts `up` and lets it run beside the test.
    fn up(&self) -> Up {
        let log = fs::File::create(self.folder.path().join("up.log")).expect("a writable folder");
        let mut command = Command::new(binary("operator"));
        command
            .args(self.arguments("up"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log);
        Up {
            child: command.spawn().expect("the operator starts"),
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("up.log")).unwrap_or_default()
    }

    fn status(&self) -> Value {
        let output = self.operator("status", &["-o", "json"]).success();
        serde_json::from_str(&output).expect("JSON")
    }

    fn wait_for(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || {
            let output = self.operator("status", &["-o", "json"]);
            // In its first moments there is nothing to look at.
            let Ok(resource) = serde_json::from_str::<Value>(&output.stdout) else {
                return Err(format!("{output:?}\n{}", self.said()));
            };
            let status = resource["status"].clone();
            if condition(&status) {
                Ok(status)
            } else {
                Err(format!("{status}\n{}", self.said()))
            }
        })
    }

    fn wait_until_steady(&self, servers: usize) -> Value {
        self.wait_for("the cluster is as wanted", |status| {
            status["phase"] == "Running"
                && status["readyServers"] == servers
                && status["voters"] == servers
        })
    }

    fn server(&self, number: u8) -> Http {
        Http {
            address: self.block.socket(number + 1, 8500),
        }
    }

    /// Agents of this cluster that run, with their command lines.
    fn agents(&self) -> Vec<(u32, String)> {
        let mark = self.dir().display().to_string();
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let lines = pids.filter_map(|pid: u32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .ok()?
                .replace('\0', " ");
            (line.contains(&mark) && line.contains("-data-dir")).then_some((pid, line))
        });
        lines.collect()
    }

    fn pid(&self, name: &str) -> u32 {
        let node = format!("-node {name} ");
        let agents = self.agents();
        agents
            .iter()
            .find(|(_, line)| line.contains(&node))
            .unwrap_or_else(|| panic!("{name} runs: {agents:?}"))
            .0
    }

    fn kill(&self, name: &str) {
        kill(self.pid(name));
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.agents().into_iter().for_each(|(pid, _)| kill(pid));
    }
}

/// Kills a process that this test started, if it is still there.
fn kill(pid: u32) {
    use rustix::process::{Pid, Signal, kill_process};
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may be gone already.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// A running `operator local up`.
struct Up {
    child: Child,
}

impl Up {
    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn interrupt(&mut self) -> Option<i32> {
        use rustix::process::{Pid, Signal, kill_process};
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::INT).expect("the operator runs");
        self.child.wait().expect("the operator ends").code()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.kill();
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a temporary folder has a plain name")
}

fn condition<'a>(status: &'a Value, name: &str) -> &'a str {
    let conditions = status["conditions"].as_array().expect("conditions");
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == name);
    found
        .and_then(|condition| condition["status"].as_str())
        .unwrap_or("absent")
}

#[test]
fn the_manual_sequence_from_a_file() {
    let local = Local::new("{servers: 3, clients: 2}");
    let said = local
        .block
        .as_in_manual(&local.operator("up", &["--detach"]).success());
    let mut rest = said.as_str();
    for part in [
        "reserve the bootstrap for demo-server-0",
        "start demo-server-0 on 127.0.0.1 with -server -bootstrap",
        "demo-server-0: [INFO] consul: cluster leadership acquired",
        "record the cluster id",
        "start demo-server-1 on 127.0.0.2 and demo-server-2 on 127.0.0.3 with -server, without -bootstrap",
        "join demo-server-1 to demo-server-0 at 127.0.0.1",
        "Successfully joined cluster by contacting 1 nodes.",
        "verified: raft.num_peers = 2 on demo-server-0; raft.last_log_index = ",
        "start demo-server-0 on 127.0.0.1 again, without -bootstrap",
        "start client demo-client-0 on 127.0.0.11 and demo-client-1 on 127.0.0.12",
        "steady: 3 of 3 servers vote",
        "agent members -http-addr=127.0.0.1:8500, or: ",
    ] {
        let at = rest
            .find(part)
            .unwrap_or_else(|| panic!("{part:?} is missing, or not in its place:\n{said}"));
        rest = &rest[at..];
    }
    for line in [
        "demo-server-1: [WARN] raft: EnableSingleNode disabled, and no known peers. Aborting election.",
        "demo-server-2: [WARN] raft: EnableSingleNode disabled, and no known peers. Aborting election.",
        "demo-server-0: [INFO] raft: Added peer 127.0.0.2:8300, starting replication",
        "demo-server-0: [INFO] raft: Added peer 127.0.0.3:8300, starting replication",
        "demo-server-0 leaves gracefully, to come back without -bootstrap",
    ] {
        assert!(said.contains(line), "{line:?} is missing:\n{said}");
    }
    let agents = local.agents();
    assert_eq!(agents.len(), 5, "{agents:?}");
    assert!(
        agents.iter().all(|(_, line)| !line.contains("-bootstrap")),
        "{agents:?}"
    );
    let status = local.wait_until_steady(3);
    for name in ["Ready", "Bootstrapped", "SingleCluster", "Available"] {
        assert_eq!(condition(&status, name), "True", "{name}: {status}");
    }
    assert_eq!(
        (status["voters"].clone(), status["clients"].clone()),
        (json!(3), json!(2))
    );
    // What was observed can be planned from, touching nothing.
    let observed = local.folder.path().join("observed.yaml");
    fs::write(
        &observed,
        local.operator("status", &["-o", "observed"]).success(),
    )
    .expect("a writable folder");
    let file = local.file();
    let plan = [
        "plan",
        "-f",
        path(&file),
        "--observed",
        path(&observed),
        "--bind-base",
        &local.block.ip(1).to_string(),
    ];
    assert!(run("operator", &plan).success().starts_with("next: steady"));
    let names: Vec<_> = status["members"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|member| member["name"].clone())
        .collect();
    assert_eq!(names, ["demo-server-0", "demo-server-1", "demo-server-2"]);
    // Step 7: a client's write is read on every server.
    let client = Http {
        address: local.block.socket(11, 8500),
    };
    assert_eq!(
        client
            .put("/v1/kv/who", "a client")
            .expect("an answer")
            .status,
        200
    );
    for number in 0..3 {
        assert_eq!(
            local
                .server(number)
                .get("/v1/kv/who?raw")
                .expect("an answer")
                .text(),
            "a client"
        );
    }
    // Down and up again: the same cluster with the same data.
    local.operator("down", &[]).success();
    assert!(local.agents().is_empty());
    let again = local.operator("up", &["--detach"]).success();
    assert!(!again.contains("-server -bootstrap\n"), "{again}");
    assert_eq!(local.status()["status"]["clusterID"], status["clusterID"]);
    assert_eq!(
        local
            .server(1)
            .get("/v1/kv/who?raw")
            .expect("an answer")
            .text(),
        "a client"
    );
    let refused = local.operator("destroy", &[]).failure();
    assert!(refused.contains("--yes"), "{refused}");
    local.operator("destroy", &["--yes"]).success();
    assert!(local.agents().is_empty() && !local.dir().exists());
}

#[test]
fn it_keeps_reconciling_killed_agents_and_a_changed_file() {
    let local = Local::new("{servers: 3, clients: 1, updatePolicy: {minReadySeconds: 0}}");
    let mut up = local.up();
    local.wait_until_steady(3);
    let before = local.pid("demo-server-2");
    for name in ["demo-server-2", "demo-client-0"] {
        local.kill(name);
    }
    local.wait_for("the killed agents are back", |status| {
        status["readyServers"] == 3 && status["clients"] == 1 && status["phase"] == "Running"
    });
    assert_ne!(local.pid("demo-server-2"), before);
    local.write("{servers: 5, clients: 1, updatePolicy: {minReadySeconds: 0}}");
    local.wait_until_steady(5);
    local.write("{servers: 3, clients: 0, updatePolicy: {minReadySeconds: 0}}");
    local.wait_until_steady(3);
    eventually("three agents are left", || match local.agents().len() {
        3 => Ok(()),
        other => Err(format!("{other} run")),
    });
    // Another configuration reaches everybody, one at a time.
    local.write("{servers: 3, config: {log_level: debug}, updatePolicy: {minReadySeconds: 0}}");
    local.wait_for("every server runs the new configuration", |status| {
        let members = status["members"].as_array().expect("a list");
        let revisions: BTreeSet<_> = members
            .iter()
            .filter_map(|m| m["revision"].as_str())
            .collect();
        let all = local
            .agents()
            .iter()
            .all(|(_, line)| line.contains("-config-file"));
        status["phase"] == "Running" && revisions.len() == 1 && all
    });
    // A file that is wrong changes nothing.
    local.write("{servers: 4}");
    eventually("the mistake is said", || {
        let said = local.said();
        if said.contains("servers must be 1, 3, 5 or 7, got 4") {
            Ok(())
        } else {
            Err(said)
        }
    });
    assert_eq!(local.agents().len(), 3);
    assert_eq!(up.interrupt(), Some(0), "{}", local.said());
    assert!(
        local.agents().is_empty(),
        "without --detach no agent outlives the operator"
    );
    assert!(
        local.said().contains("operator local up "),
        "{}",
        local.said()
    );
}

#[test]
fn the_operator_killed_after_every_step_and_started_again() {
    let local = Local::new("{servers: 3, clients: 1}");
    let steps = |said: &str| {
        said.lines()
            .filter(|line| line.get(9..12) == Some("s  "))
            .count()
    };
    // Each round lets one more step be taken than the round before.
    for round in 1.. {
        let mut up = local.up();
        let over = eventually("one more step", || {
            let said = local.said();
            match (steps(&said) >= round, said.contains("steady:")) {
                (_, true) => Ok(true),
                (true, false) => Ok(false),
                (false, false) => Err(said),
            }
        });
        up.kill();
        if over {
            break;
        }
        // The cache is lost, too: every other time.
        if round % 2 == 0 && local.dir().join("demo-server-0/raft").exists() {
            let _ = fs::remove_file(local.dir().join("state.json"));
        }
    }
    let said = local.operator("up", &["--detach"]).success();
    assert!(said.contains("steady: 3 of 3"), "{said}");
    let status = local.wait_until_steady(3);
    assert_eq!(condition(&status, "Bootstrapped"), "True");
    let formed: usize = (0..3)
        .map(|n| {
            count(
                &local.dir().join(format!("demo-server-{n}.log")),
                "consul: formed cluster",
            )
        })
        .sum();
    assert_eq!(formed, 1, "one bootstrap only");
    local.operator("destroy", &["--yes"]).success();
}

fn count(log: &Path, part: &str) -> usize {
    fs::read_to_string(log)
        .unwrap_or_default()
        .lines()
        .filter(|line| line.contains(part))
        .count()
}

#[test]
fn random_kills_lose_no_acknowledged_write() {
    const ROUNDS: usize = 60;
    let local = Local::new("{servers: 3, clients: 1}");
    let seed = tests::seed();

    let mut random = Random::new(seed);
    let mut up = local.up();
    local.wait_until_steady(3);
    let mut written = Vec::new();
    for round in 0..ROUNDS {
        // Now and then the operator, too, or everybody at once.
        let agents = local.agents();
        match random.below(10) {
            0 => agents.iter().for_each(|(pid, _)| kill(*pid)),
            1 => {
                up.kill();
                up = local.up();
            }
            _ if agents.is_empty() => {}
            _ => kill(random.pick(&agents).0),
        }
        for number in 0..3 {
            let (key, value) = (format!("r{round}n{number}"), round.to_string());
            let reply = local.server(number).put(&format!("/v1/kv/{key}"), &value);
            if reply.is_ok_and(|reply| reply.status == 200 && reply.text() == "true") {
                written.push((key, value));
            }
        }
        if random.below(3) == 0 {
            local.wait_until_steady(3);
        }
    }
    local.wait_until_steady(3);
    assert!(!written.is_empty(), "nothing was ever acknowledged");
    for (key, value) in &written {
        let reply = local
            .server(0)
            .get(&format!("/v1/kv/{key}?raw&consistent"))
            .expect("an answer");
        assert_eq!(
            &reply.text(),
            value,
            "{key} was acknowledged: {}",
            local.said()
        );
    }
    let formed: usize = (0..3)
        .map(|n| {
            count(
                &local.dir().join(format!("demo-server-{n}.log")),
                "consul: formed cluster",
            )
        })
        .sum();
    assert_eq!(formed, 1, "one bootstrap only");
    assert_eq!(up.interrupt(), Some(0));
}

#[test]
fn a_second_bootstrap_server_is_repaired() {
    let local = Local::new("{servers: 3}");
    local.operator("up", &["--detach"]).success();
    let id = local.status()["status"]["clusterID"].clone();
    // A person replaces the third server by one that forms a cluster of its own.
    local.kill("demo-server-2");
    let data = local.dir().join("demo-server-2");
    let raft = data.join("raft");
    eventually("it is gone", || {
        if local.agents().len() == 2 {
            Ok(())
        } else {
            Err("still there")
        }
    });
    fs::remove_dir_all(&data).expect("its data can be removed");
    let ip: Ipv4Addr = local.block.ip(3);
    let start = || {
        let ip = ip.to_string();
        let mut second = Command::new(binary("agent"));
        second.args([
            "-server",
            "-bootstrap",
            "-node",
            "demo-server-2",
            "-bind",
            &ip,
            "-client",
            &ip,
        ]);
        second
            .arg("-data-dir")
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        second.spawn().expect("the agent starts")
    };
    let mut second = start();
    eventually("it leads a cluster of its own", || {
        // The one that was killed keeps its addresses for a moment.
        if second.try_wait().expect("a child").is_some() {
            second = start();
        }
        let identity = fs::read_to_string(raft.join("identity.json")).unwrap_or_default();
        let reply = local
            .server(2)
            .get("/v1/status/leader")
            .map(|reply| reply.text())
            .unwrap_or_default();
        if reply.contains(":8300") && identity.contains("cluster_id") {
            Ok(())
        } else {
            Err(format!("{reply} {identity}"))
        }
    });
    let status = local.status()["status"].clone();
    assert_eq!(
        (
            condition(&status, "SingleCluster"),
            condition(&status, "Ready")
        ),
        ("False", "False"),
        "{status}"
    );
    let mut up = local.up();
    let status = local.wait_until_steady(3);
    let said = local.said();
    assert!(
        said.contains("second bootstrap server: stop demo-server-2"),
        "{said}"
    );
    assert_eq!(status["clusterID"], id);
    let names = fs::read_dir(&data)
        .expect("a folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let aside: Vec<_> = names
        .filter(|name| name.starts_with("raft.aside-20"))
        .collect();
    assert_eq!(aside.len(), 1, "moved aside, not deleted: {aside:?}");
    assert!(
        local
            .agents()
            .iter()
            .all(|(_, line)| !line.contains("-bootstrap"))
    );
    let _ = second.wait();
    up.interrupt();
}

#[test]
fn a_strangers_cluster_in_gossip_is_reported_and_not_touched() {
    let local = Local::new("{servers: 3}");
    let _up = local.up();
    local.wait_until_steady(3);
    let mut stranger = tests::Agent::new(
        "stranger",
        local.block.ip(9),
        &local.folder.path().join("stranger"),
    );
    stranger.start(&["-server", "-bootstrap"]);
    stranger.wait_for_line("consul: cluster leadership acquired");
    stranger.wait_until_up();
    let path = format!("/v1/agent/join/{}", local.block.ip(1));
    assert_eq!(
        stranger.http().put(&path, "").expect("an answer").status,
        200
    );
    let status = local.wait_for("it is reported", |status| {
        status["foreign"][0]["name"] == "stranger"
    });
    assert_eq!(
        (
            condition(&status, "SingleCluster"),
            condition(&status, "Ready")
        ),
        ("False", "False"),
        "{status}"
    );
    assert_eq!(condition(&status, "Available"), "True", "{status}");
    assert_eq!(status["voters"], 3, "never added");
    stranger.kill();
    local.wait_for("it is gone again", |status| {
        condition(status, "Ready") == "True"
    });
}

#[test]
fn one_server_ends_without_the_flag_and_warns() {
    let local = Local::new("{servers: 1}");
    let output = local.operator("up", &["--detach"]);
    assert!(
        output
            .stderr
            .contains("warning: spec.servers: one server has no fault tolerance"),
        "{output:?}"
    );
    output.success();
    assert!(
        local
            .agents()
            .iter()
            .all(|(_, line)| !line.contains("-bootstrap"))
    );
    assert_eq!(
        local
            .server(0)
            .put("/v1/kv/a", "b")
            .expect("an answer")
            .status,
        200
    );
    local.operator("destroy", &["--yes"]).success();
}

#[test]
fn bad_input_is_one_sentence_and_starts_nothing() {
    let local = Local::new("{servers: 3}");
    let sentence = |output: Output| {
        let stderr = output.failure();
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        stderr
    };
    local.write("{servers: 3, client: 1}");
    let said = sentence(local.operator("up", &[]));
    assert!(
        said.contains("cluster.yaml: spec: unknown field `client`")
            && said.contains("line 5 column"),
        "{said}"
    );
    local.write("{servers: 4}");
    assert!(
        sentence(local.operator("up", &[]))
            .contains("spec.servers: servers must be 1, 3, 5 or 7, got 4")
    );
    local.write("{servers: 3}\n---\na: 1");
    assert!(sentence(local.operator("up", &[])).contains("holds 2 YAML documents"));
    local.write("{servers: 3}");
    let said = sentence(local.operator("up", &["--agent", "/no/such/agent"]));
    assert!(said.contains("/no/such/agent is not a program"), "{said}");
    let busy = std::net::TcpListener::bind(local.block.socket(2, 8300)).expect("a free port");
    let said = sentence(local.operator("up", &[]));
    assert!(
        said.contains(":8300, which demo-server-1 needs, cannot be used"),
        "{said}"
    );
    drop(busy);
    let said = sentence(run("operator", &["local", "up", "/no/such/file.yaml"]));
    assert!(said.contains("/no/such/file.yaml"), "{said}");
    let said = sentence(run("operator", &["local", "status", "--dir", "/proc"]));
    assert!(said.contains("is not the folder of a cluster"), "{said}");
    let said = sentence(run(
        "operator",
        &["local", "destroy", "--yes", "--dir", "/no/such/dir"],
    ));
    assert!(said.contains("there is no cluster in"), "{said}");
    assert!(local.agents().is_empty());
}

#[test]
fn two_operators_do_not_share_a_folder_and_what_cannot_change_is_refused() {
    let local = Local::new("{servers: 1}");
    let mut up = local.up();
    local.wait_until_steady(1);
    let said = local.operator("down", &[]).failure();
    assert!(said.contains("another operator is at work"), "{said}");
    assert_eq!(up.interrupt(), Some(0));
    local.write("{servers: 1, datacenter: dc2}");
    let said = local.operator("up", &["--detach"]).failure();
    assert!(said.contains("spec.datacenter cannot change"), "{said}");
    local.write("{servers: 5}");
    let said = local.operator("up", &["--detach"]).failure();
    assert!(
        said.contains("at most two at a time, not from 1 to 5"),
        "{said}"
    );
    assert!(local.agents().is_empty());
}
