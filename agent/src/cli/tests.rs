//! Whole commands against a scripted agent: what they send, print and exit with.

use std::io::{self, Write};

use super::*;
use crate::client::tests::{Answer, Script};

mod mesh;
mod more;

/// What a command did.
#[derive(Debug, PartialEq)]
struct Ran {
    code: u8,
    out: String,
    err: String,
    sent: Vec<String>,
    bodies: Vec<String>,
}

/// Runs `line` (split at spaces) against an agent that gives `answers`.
fn run_with(line: &str, input: &str, env: &[(&str, &str)], answers: &[Answer]) -> Ran {
    // The agent lives in a runtime of its own: a command brings its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let server = runtime.block_on(Script::start(answers));
    let address = server.address.clone();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let agent = std::thread::spawn(move || {
        runtime.block_on(async {
            let _ = stopped.await;
        });
    });
    let args: Vec<String> = line
        .split(' ')
        .filter(|a| !a.is_empty())
        .map(str::to_owned)
        .collect();
    let env = |name: &str| {
        let found = env
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, v)| (*v).to_owned());
        found.or_else(|| (name == "CONSUL_HTTP_ADDR").then(|| address.clone()))
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut io = Io {
        out: &mut out,
        err: &mut err,
        input: &mut input.as_bytes(),
        env: &env,
    };
    let code = run(&args, &mut io);
    stop.send(()).expect("the agent waits");
    agent.join().expect("the agent ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ran {
        code,
        out: text(out),
        err: text(err).replace(&server.address, "ADDR"),
        sent: server.lines(),
        bodies: server
            .seen()
            .into_iter()
            .map(|seen| text(seen.body))
            .collect(),
    }
}

/// The same without input and environment.
fn ran(line: &str, answers: &[Answer]) -> Ran {
    run_with(line, "", &[], answers)
}

/// A command that must succeed: its output, and what it sent.
fn good(line: &str, answers: &[Answer]) -> (String, Vec<String>) {
    let ran = ran(line, answers);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}");
    (ran.out, ran.sent)
}

/// A command that must fail with exit code 1: its complaint.
fn bad(line: &str, answers: &[Answer]) -> String {
    let ran = ran(line, answers);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{line}");
    ran.err
}

const MEMBERS: &str = r#"[
    {"Name":"c1","Addr":"127.0.0.9","Port":8301,"Status":1,"Tags":{"role":"node","dc":"dc1","build":"1.19.0:abc","vsn":"2"}},
    {"Name":"z","Addr":"127.0.0.3","Port":8301,"Status":4,"Tags":{"role":"consul","dc":"dc1","build":"1.19.0:","vsn":"2"}},
    {"Name":"a","Addr":"::1","Port":8301,"Status":1,"Tags":{"role":"consul","dc":"dc1","build":"1.19.0","vsn":"2","id":"x"}}
]"#;

#[test]
fn members_are_listed_servers_first_then_by_name() {
    let (out, sent) = good("members", &[(200, MEMBERS)]);
    assert_eq!(
        out,
        "Node  Address         Status  Type    Build   Protocol  DC   Partition  Segment\n\
         a     [::1]:8301      alive   server  1.19.0  2         dc1  default    <all>\n\
         z     127.0.0.3:8301  failed  server  1.19.0  2         dc1  default    <all>\n\
         c1    127.0.0.9:8301  alive   client  1.19.0  2         dc1  default    <default>\n"
    );
    assert_eq!(sent, ["GET /v1/agent/members"]);
    let (out, _) = good("members -detailed -status=failed|left", &[(200, MEMBERS)]);
    assert_eq!(
        out,
        "Node  Address         Status  Tags\n\
         z     127.0.0.3:8301  failed  build=1.19.0:,dc=dc1,role=consul,vsn=2\n"
    );
    let (_, sent) = good("members -wan", &[(200, MEMBERS)]);
    assert_eq!(sent, ["GET /v1/agent/members?wan=1"]);
    let (_, sent) = good("members -filter=Name==a", &[(200, MEMBERS)]);
    assert_eq!(sent, ["GET /v1/agent/members?filter=Name%3D%3Da"]);
    let (_, sent) = good("members -wan -filter=Status!=1", &[(200, MEMBERS)]);
    assert_eq!(sent, ["GET /v1/agent/members?wan=1&filter=Status%21%3D1"]);
    let none = ran("members -status leaving", &[(200, MEMBERS)]);
    assert_eq!(
        (none.code, none.out.as_str(), none.err.as_str()),
        (2, "", "")
    );
    assert!(bad("members -status=[", &[]).starts_with("Failed to compile status regexp: "));
    assert_eq!(
        bad("members", &[(500, "No cluster leader\n")]),
        "Error retrieving members: Unexpected response code: 500 (No cluster leader)\n"
    );
}

#[test]
fn join_counts_and_names_what_failed() {
    let (out, sent) = good("join 127.0.0.2 127.0.0.3:8301", &[(200, ""), (200, "")]);
    assert_eq!(out, "Successfully joined cluster by contacting 2 nodes.\n");
    assert_eq!(
        sent,
        [
            "PUT /v1/agent/join/127.0.0.2",
            "PUT /v1/agent/join/127.0.0.3:8301"
        ]
    );
    let (_, sent) = good("join -wan x", &[(200, "")]);
    assert_eq!(sent, ["PUT /v1/agent/join/x?wan=1"]);
    let some = ran("join x y", &[(500, "no such host"), (200, "")]);
    assert_eq!(
        (some.code, some.out.as_str()),
        (0, "Successfully joined cluster by contacting 1 nodes.\n")
    );
    assert_eq!(
        some.err,
        "Error joining address 'x': Unexpected response code: 500 (no such host)\n"
    );
    assert_eq!(
        bad("join x", &[(500, "refused")]),
        "Error joining address 'x': Unexpected response code: 500 (refused)\nFailed to join any nodes.\n"
    );
    assert!(bad("join", &[]).starts_with("At least one address to join must be specified.\n"));
}

#[test]
fn leave_force_leave_and_reload_say_what_consul_says() {
    assert_eq!(
        good("leave", &[(200, "")]),
        (
            "Graceful leave complete\n".into(),
            vec!["PUT /v1/agent/leave".into()]
        )
    );
    assert_eq!(
        good("reload", &[(200, "")]),
        (
            "Configuration reload triggered\n".into(),
            vec!["PUT /v1/agent/reload".into()]
        )
    );
    let (_, sent) = good("force-leave -wan -prune a.dc2", &[(200, "")]);
    assert_eq!(sent, ["PUT /v1/agent/force-leave/a.dc2?wan=1&prune"]);
    let (out, sent) = good("force-leave -prune a", &[(200, "")]);
    assert_eq!(
        (out.as_str(), &sent[0][..]),
        ("", "PUT /v1/agent/force-leave/a?prune")
    );
    assert_eq!(
        bad(
            "force-leave zz",
            &[(500, "agent: No node found with name 'zz'")]
        ),
        "Error force leaving: Unexpected response code: 500 (agent: No node found with name 'zz')\n"
    );
}

#[test]
fn info_prints_sorted_blocks() {
    let self_ = r#"{"Config":{"Datacenter":"dc1","NodeName":"a","Server":true},
        "Member":{"Name":"a","Addr":"127.0.0.1","Port":8301,"Status":1,"Tags":null},
        "Stats":{"raft":{"num_peers":"2","last_log_index":"9"},"agent":{}}}"#;
    let (out, _) = good("info", &[(200, self_)]);
    assert_eq!(
        out,
        "agent:\nraft:\n\tlast_log_index = 9\n\tnum_peers = 2\n"
    );
}

#[test]
fn raft_peers_are_listed_removed_and_led() {
    let configuration = r#"{"Index":4,"Servers":[
        {"ID":"i1","Node":"a","Address":"127.0.0.1:8300","Leader":true,"ProtocolVersion":"3","Voter":true,"LastIndex":12},
        {"ID":"i2","Node":"","Address":"127.0.0.2:8300","Leader":false,"ProtocolVersion":"3","Voter":false,"LastIndex":10}]}"#;
    let (out, sent) = good("operator raft list-peers -stale", &[(200, configuration)]);
    assert_eq!(
        out,
        "Node       ID  Address         State     Voter  RaftProtocol  Commit Index  Trails Leader By\n\
         a          i1  127.0.0.1:8300  leader    true   3             12            -\n\
         (unknown)  i2  127.0.0.2:8300  follower  false  3             10            2 commits\n"
    );
    assert_eq!(sent, ["GET /v1/operator/raft/configuration?stale"]);
    let (out, sent) = good(
        "operator raft remove-peer -address=127.0.0.2:8300",
        &[(200, "")],
    );
    assert_eq!(out, "Removed peer with address \"127.0.0.2:8300\"\n");
    assert_eq!(
        sent,
        ["DELETE /v1/operator/raft/peer?address=127.0.0.2%3A8300"]
    );
    assert_eq!(
        bad("operator raft remove-peer", &[]),
        "Error removing peer: an address or id is required for the peer to remove\n"
    );
    let (out, sent) = good(
        "operator raft transfer-leader -id i2 -datacenter dc2",
        &[(200, "{\"Success\":true}")],
    );
    assert_eq!(
        (out.as_str(), &sent[0][..]),
        (
            "Success\n",
            "PUT /v1/operator/raft/transfer-leader?id=i2&dc=dc2"
        )
    );
    assert!(bad("operator raft zz", &[]).starts_with("There is no command \"zz\" here."));
    assert!(bad("operator", &[]).starts_with("Usage: agent operator COMMAND"));
}

const PAIRS: &str = r#"[
    {"LockIndex":1,"Key":"p/a","Flags":7,"Value":"aGk=","Session":"s1","CreateIndex":5,"ModifyIndex":6},
    {"LockIndex":0,"Key":"p/b","Flags":0,"Value":null,"CreateIndex":8,"ModifyIndex":8}]"#;

#[test]
fn kv_get_prints_values_keys_and_details() {
    let (out, sent) = good("kv get /p/a", &[(200, PAIRS)]);
    assert_eq!((out.as_str(), &sent[0][..]), ("hi\n", "GET /v1/kv/p/a"));
    assert_eq!(good("kv get -base64 p/a", &[(200, PAIRS)]).0, "aGk=\n");
    let (out, sent) = good("kv get -recurse -datacenter=dc2 p", &[(200, PAIRS)]);
    assert_eq!(
        (out.as_str(), &sent[0][..]),
        ("p/a:hi\np/b:\n", "GET /v1/kv/p?recurse&dc=dc2")
    );
    let (out, sent) = good("kv get -keys p/", &[(200, r#"["p/a","p/b"]"#)]);
    assert_eq!(
        (out.as_str(), &sent[0][..]),
        ("p/a\np/b\n", "GET /v1/kv/p/?keys&separator=%2F")
    );
    let (out, _) = good("kv get -detailed -recurse p", &[(200, PAIRS)]);
    assert_eq!(
        out,
        "CreateIndex      5\nFlags            7\nKey              p/a\nLockIndex        1\n\
         ModifyIndex      6\nSession          s1\nValue            hi\n\n\
         CreateIndex      8\nFlags            0\nKey              p/b\nLockIndex        0\n\
         ModifyIndex      8\nSession          -\nValue            \n"
    );
    assert_eq!(
        bad("kv get zz", &[(404, "")]),
        "Error! No key exists at: zz\n"
    );
    assert_eq!(
        bad("kv get zz", &[(500, "No cluster leader")]),
        "Error querying Consul agent: Unexpected response code: 500 (No cluster leader)\n"
    );
    assert!(bad("kv get", &[]).starts_with("Error! Missing KEY argument\n"));
}

#[test]
fn kv_put_writes_values_from_everywhere() {
    let put = ran("kv put -flags=42 a/b -5", &[(200, "true")]);
    assert_eq!(
        (put.code, put.out.as_str()),
        (0, "Success! Data written to: a/b\n")
    );
    assert_eq!(
        (&put.sent[0][..], &put.bodies[0][..]),
        ("PUT /v1/kv/a/b?flags=42", "-5")
    );
    let put = run_with("kv put a -", "from stdin", &[], &[(200, "true")]);
    assert_eq!(put.bodies, ["from stdin"]);
    assert_eq!(
        ran("kv put -base64 a aGk=", &[(200, "true")]).bodies,
        ["hi"]
    );
    assert!(bad("kv put -base64 a *", &[]).starts_with("Error! Cannot base 64 decode data: "));
    assert!(
        bad("kv put a @/no/such/file", &[])
            .starts_with("Error! Failed to read file /no/such/file: ")
    );
    assert_eq!(
        bad("kv put -cas -modify-index=3 a x", &[(200, "false")]),
        "Error! Did not write to a: CAS failed\n"
    );
    assert_eq!(
        bad("kv put -cas a x", &[(200, "false")]),
        "Error! Did not write to a: CAS performed with index=0 and key already exists.\n"
    );
    let (out, sent) = good("kv put -acquire -session=s1 a x", &[(200, "true")]);
    assert_eq!(
        (out.as_str(), &sent[0][..]),
        ("Success! Lock acquired on: a\n", "PUT /v1/kv/a?acquire=s1")
    );
    assert_eq!(
        bad("kv put -release -session=s1 a x", &[(200, "false")]),
        "Error! Did not release lock\n"
    );
    assert!(bad("kv put -acquire a x", &[]).starts_with("Missing -session"));
    assert!(bad("kv put a x y", &[]).starts_with("Too many arguments (expected 1 or 2, got 3)\n"));
}

#[test]
fn kv_delete_says_what_is_gone() {
    let (out, sent) = good("kv delete a", &[(200, "true")]);
    assert_eq!(
        (out.as_str(), &sent[0][..]),
        ("Success! Deleted key: a\n", "DELETE /v1/kv/a")
    );
    let (out, sent) = good("kv delete -recurse p/", &[(200, "true")]);
    assert_eq!(
        (out.as_str(), &sent[0][..]),
        (
            "Success! Deleted keys with prefix: p/\n",
            "DELETE /v1/kv/p/?recurse"
        )
    );
    assert_eq!(
        bad("kv delete -cas -modify-index=2 a", &[(200, "false")]),
        "Error! Did not delete key a: CAS failed\n"
    );
    assert!(bad("kv delete -recurse", &[]).starts_with("Error! Missing KEY argument\n"));
    assert!(
        bad("kv delete -cas a", &[]).starts_with("Must specify a -modify-index greater than 0")
    );
}

#[test]
fn monitor_prints_until_the_agent_goes() {
    let followed = ran("monitor -log-level=debug -log-json", &[(200, "one\ntwo\n")]);
    assert_eq!((followed.code, followed.out.as_str()), (1, "one\ntwo\n"));
    assert_eq!(
        followed.sent,
        ["GET /v1/agent/monitor?loglevel=debug&logjson=true"]
    );
    assert_eq!(
        bad("monitor -log-level=zz", &[(400, "Unknown log level: zz")]),
        "Error starting monitor: Unexpected response code: 400 (Unknown log level: zz)\n"
    );
}

#[test]
fn the_agent_is_named_by_flag_then_environment() {
    let nobody = [("CONSUL_HTTP_ADDR", "127.0.0.1:1")];
    let ran = run_with("members", "", &nobody, &[]);
    assert_eq!(
        ran.err,
        "Error retrieving members: Get \"http://127.0.0.1:1/v1/agent/members\": dial tcp 127.0.0.1:1: connect: connection refused\n"
    );
    for (line, env, wanted) in [
        (
            "members -http-addr=ftp://a",
            &[][..],
            "unknown scheme; expected HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix://PATH",
        ),
        (
            "members -http-addr=127.0.0.1:1",
            &[("CONSUL_HTTP_SSL", "true")],
            "Get \"https://127.0.0.1:1/v1/agent/members\": dial tcp 127.0.0.1:1: connect: connection refused",
        ),
        (
            "members -ca-file=x",
            &[],
            "Error connecting to Consul agent: cannot read certificates x: No such file or directory",
        ),
        (
            "members -namespace=x",
            &[],
            "-namespace is not supported: only \"default\" exists",
        ),
        (
            "members -token-file=/no/such",
            &[],
            "Error loading token file /no/such",
        ),
        (
            "members -zz",
            &[],
            "flag provided but not defined: -zz\nRun 'agent members -help' for its flags.",
        ),
    ] {
        let ran = run_with(line, "", env, &[]);
        assert_eq!((ran.code, ran.sent.len()), (1, 0), "{line}");
        assert!(ran.err.contains(wanted), "{line}: {}", ran.err);
    }
}

#[test]
fn words_before_the_flags_choose_the_verb() {
    let args = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let line = args("-server -bootstrap");
    assert_eq!(ask(&line), Asked::Verb("agent", &line));
    let line = args("agent -server");
    assert_eq!(ask(&line), Asked::Verb("agent", &line[1..]));
    assert_eq!(ask(&args("--version")), Asked::Verb("version", &[]));
    assert_eq!(ask(&args("-h")), Asked::Usage);
    assert_eq!(ask(&[]), Asked::Nothing);
    let unknown = ran("zz", &[]);
    assert_eq!((unknown.code, unknown.out.as_str()), (127, ""));
    assert_eq!(
        unknown.err,
        "There is no command \"zz\". Run 'agent -help' for all commands.\n"
    );
    for (verb, _) in VERBS {
        let help = ran(&format!("{verb} -help"), &[]);
        assert_eq!((help.code, help.err.as_str()), (0, ""), "{verb}");
        assert!(
            help.out.contains(&format!("Usage: agent {verb}")),
            "{}",
            help.out
        );
        let wrong = ran(&format!("{verb} -no-such-flag"), &[]);
        assert_eq!((wrong.code, wrong.out.as_str()), (1, ""), "{verb}");
    }
}

#[test]
fn version_is_what_programs_look_for() {
    let (out, _) = good("version", &[]);
    assert!(out.starts_with("Consul v1.19.0\nAgent "), "{out}");
    assert!(
        out.contains("\nProtocol 2 spoken by default, understands 2 to 3 ("),
        "{out}"
    );
    let (out, _) = good("version -format=json", &[]);
    assert!(out.starts_with("{\n   \"Version\": \"1.19.0\",\n"), "{out}");
    let version: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        version["RPC"],
        serde_json::json!({"Default": 2, "Min": 2, "Max": 3})
    );
    assert!(bad("version -format=xml", &[]).starts_with("Unknown format: xml."));
}

#[test]
fn keygen_makes_keys_of_32_bytes_each_another() {
    use base64::Engine as _;
    let key = || good("keygen", &[]).0;
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(key().trim())
        .expect("base64");
    assert_eq!(decoded.len(), 32);
    assert_ne!(key(), key());
}

#[test]
fn validate_names_file_line_and_column() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.hcl");
    let shown = path.display().to_string();
    std::fs::write(&path, "data_dir = \"/d\"\nbind_addr = \"127.0.0.1\"\n").expect("written");
    assert_eq!(
        good(&format!("validate {shown}"), &[]).0,
        "Configuration is valid!\n"
    );
    std::fs::write(&path, "data_dir = \"/d\"\nservr = true\n").expect("written");
    assert_eq!(
        bad(&format!("validate {}", dir.path().display()), &[]),
        format!("Config validation failed: {shown}:2:1: invalid config key servr\n")
    );
    assert!(
        bad("validate", &[]).starts_with("Must specify at least one config file or directory\n")
    );
}

/// A pipe that nobody reads any more, and a full disk.
struct Closed(io::ErrorKind);

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_is_an_end_and_a_full_disk_a_failure() {
    for (kind, wanted) in [
        (io::ErrorKind::BrokenPipe, 0),
        (io::ErrorKind::StorageFull, 1),
    ] {
        let mut err = Vec::new();
        let mut out = Closed(kind);
        let mut io = Io {
            out: &mut out,
            err: &mut err,
            input: &mut io::empty(),
            env: &|_| None,
        };
        assert_eq!(run(&["version".to_owned()], &mut io), wanted);
        assert_eq!(err.is_empty(), wanted == 0);
    }
}

const AUTOPILOT: &str = r#"{"CleanupDeadServers":true,"LastContactThreshold":"200ms","MaxTrailingLogs":250,"MinQuorum":0,
    "ServerStabilizationTime":"0s","RedundancyZoneTag":"","DisableUpgradeMigration":false,"UpgradeVersionTag":"",
    "CreateIndex":4,"ModifyIndex":9}"#;

#[test]
fn operator_autopilot_shows_and_changes_the_configuration() {
    let (out, sent) = good("operator autopilot get-config", &[(200, AUTOPILOT)]);
    assert_eq!(
        out,
        "CleanupDeadServers = true\nLastContactThreshold = 200ms\nMaxTrailingLogs = 250\nMinQuorum = 0\n\
         ServerStabilizationTime = 0s\nRedundancyZoneTag = \"\"\nDisableUpgradeMigration = false\nUpgradeVersionTag = \"\"\n"
    );
    assert_eq!(sent, ["GET /v1/operator/autopilot/configuration"]);
    let line =
        "operator autopilot set-config -cleanup-dead-servers=false -server-stabilization-time=3s";
    let ran = run_with(line, "", &[], &[(200, AUTOPILOT), (200, "true")]);
    assert_eq!((ran.code, &ran.out[..]), (0, "Configuration updated!\n"));
    assert_eq!(
        ran.sent[1],
        "PUT /v1/operator/autopilot/configuration?cas=9"
    );
    let body = ran
        .bodies
        .iter()
        .find(|body| !body.is_empty())
        .expect("a body");
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(body["CleanupDeadServers"], false);
    assert_eq!(body["ServerStabilizationTime"], "3s");
    assert_eq!(body["MaxTrailingLogs"], 250);
    let line = "operator autopilot set-config -min-quorum=3";
    assert_eq!(
        bad(line, &[(200, AUTOPILOT), (200, "false")]),
        "Configuration could not be atomically updated, please try again\n"
    );
    let line = "operator autopilot set-config -last-contact-threshold=zz";
    assert!(bad(line, &[(200, AUTOPILOT)]).contains("no duration"));
}

#[test]
fn operator_autopilot_state_prints_blocks_or_json() {
    let state = r#"{"Healthy":true,"FailureTolerance":1,"OptimisticFailureTolerance":1,"Leader":"i1","Voters":["i1"],
        "Servers":{"i1":{"ID":"i1","Name":"a","Address":"127.0.0.1:8300","NodeStatus":"alive","Version":"1.19.0","LastContact":"0s",
        "LastTerm":2,"LastIndex":9,"Healthy":true,"StableSince":"2020-11-06T13:51:44Z","ReadReplica":false,"Status":"leader",
        "Meta":{},"NodeType":"voter"}}}"#;
    let (out, sent) = good("operator autopilot state", &[(200, state)]);
    assert_eq!(sent, ["GET /v1/operator/autopilot/state"]);
    assert!(
        out.starts_with(
            "Healthy:           true\nFailure Tolerance: 1\nLeader:            i1\nVoters:\n   i1\n\nServers:\n   i1\n      Name:            a\n"
        ),
        "{out}"
    );
    let (out, _) = good("operator autopilot state -format=json", &[(200, state)]);
    let shown: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(shown["Servers"]["i1"]["Name"], "a");
    assert!(
        bad("operator autopilot state -format=zz", &[(200, state)]).contains("pretty and json")
    );
}
