//! Usage, exports, peerings, jobs for others, and verbs of what is not there.

use super::*;

const USAGE: &str = r#"{"Usage":{"dc1":{"Nodes":2,"Services":3,"ServiceInstances":5,"BillableServiceInstances":4,
    "ConnectServiceInstances":{"connect-native":1,"connect-proxy":0}}}}"#;

#[test]
fn usage_is_printed_in_consuls_tables() {
    let (out, sent) = good("operator usage instances", &[(200, USAGE)]);
    assert_eq!(sent, ["GET /v1/operator/usage"]);
    assert_eq!(
        out,
        "Billable Service Instances Total: 4\ndc1 Billable Service Instances: 4\n\n\
         Billable Services\nServices      Service instances\n3             4\n\n\
         Nodes\nDatacenter      Count\ndc1             2\n\nTotal           2\n\n\
         Connect Services\nType                Service instances\nconnect-native      1\nconnect-proxy       0\n"
    );
    let (out, sent) = good(
        "operator usage instances -all-datacenters -billable",
        &[(200, USAGE)],
    );
    assert_eq!(sent, ["GET /v1/operator/usage?global"]);
    assert!(out.contains("Total           3             4\n"), "{out}");
    assert!(!out.contains("Connect Services"));
    assert_eq!(
        bad("operator usage instances -billable -connect", &[]),
        "Cannot specify both -billable and -connect flags\n"
    );
}

#[test]
fn an_export_is_added_to_those_that_are_there() {
    let entry = r#"{"Kind":"exported-services","Name":"default","Services":[
        {"Name":"web","Consumers":[{"Peer":"a"}]},{"Name":"db","Consumers":[{"Peer":"a"}]}],"ModifyIndex":7}"#;
    let ran = ran(
        "services export -name web -consumer-peers a,b",
        &[(200, entry), (200, "true")],
    );
    assert_eq!(
        ran.out,
        "Successfully exported service \"web\" to cluster peers \"a,b\"\n"
    );
    assert_eq!(
        ran.sent,
        [
            "GET /v1/config/exported-services/default",
            "PUT /v1/config?cas=7"
        ]
    );
    assert_eq!(
        ran.bodies[1],
        r#"{"Kind":"exported-services","Name":"default","Services":[{"Name":"web","Consumers":[{"Peer":"a"},{"Peer":"b"}]},{"Name":"db","Consumers":[{"Peer":"a"}]}]}"#
    );
    let lost = bad(
        "services export -name new -consumer-peers a",
        &[(404, "Config entry not found"), (200, "false")],
    );
    assert!(lost.contains("changed by somebody else"), "{lost}");
    let missing = bad("services export -name web", &[]);
    assert!(missing.starts_with("Missing the required -consumer-peers"));
    let exported = r#"[{"Service":"web","Consumers":{"Peers":["b","a"]}}]"#;
    let (out, _) = good("services exported-services", &[(200, exported)]);
    assert_eq!(out, "Service  Consumer Peers\nweb      a, b\n");
    let (out, _) = good("services exported-services", &[(200, "[]")]);
    assert_eq!(out, "No exported services found\n");
    let (out, _) = good("services exported-services -format=json", &[(200, "[]")]);
    assert_eq!(out, "[]\n");
}

#[test]
fn peerings_are_asked_for() {
    let (out, sent) = good("peering list", &[(200, "[]")]);
    assert_eq!(out, "There are no peering connections.\n");
    assert_eq!(sent, ["GET /v1/peerings"]);
    let none = bad(
        "peering read -name b",
        &[(404, "Peering not found for \"b\"")],
    );
    assert_eq!(none, "No peering with name b found.\n");
    let refused = bad(
        "peering generate-token -name b",
        &[(500, "peering must be enabled to use this endpoint")],
    );
    assert_eq!(
        refused,
        "Error generating peering token for b: Unexpected response code: 500 (peering must be enabled to use this endpoint)\n"
    );
    let (out, sent) = good("peering delete -name b", &[(200, "")]);
    assert_eq!(sent, ["DELETE /v1/peering/b"]);
    assert!(out.contains("for deletion"));
    assert!(bad("peering read", &[]).starts_with("Missing the required -name flag"));
}

#[test]
fn verbs_of_what_is_not_there_say_so() {
    for (line, wanted) in [
        ("troubleshoot upstreams", "Envoy"),
        ("resource list", "resource API"),
        ("snapshot agent", "Consul Enterprise"),
        ("operator utilization", "Consul Enterprise"),
    ] {
        let said = bad(line, &[]);
        assert!(said.contains(wanted), "{line}: {said}");
    }
    let (help, _) = good("resource -help", &[]);
    assert!(help.starts_with("Usage: agent resource"));
}

#[test]
fn a_job_is_written_told_of_and_followed() {
    let id = "b54fe110-7af5-cafc-d1fb-afc8ba432b1c";
    let session = format!("{{\"ID\":\"{id}\"}}").leak() as &str;
    let keys = format!(
        r#"["_rexec/{id}/job","_rexec/{id}/n1/ack","_rexec/{id}/n1/exit","_rexec/{id}/n1/out/00000"]"#
    )
    .leak() as &str;
    let pair = |value: &str| {
        format!(
            r#"[{{"LockIndex":1,"Key":"k","Flags":0,"Value":"{value}","CreateIndex":1,"ModifyIndex":1}}]"#
        )
        .leak() as &str
    };
    let ran = ran(
        "exec -wait-repl=0s -wait=50ms -node=n1 uptime -p",
        &[
            (200, session),
            (200, "true"),
            (200, r#"{"ID":"event"}"#),
            (200, keys),
            // "up", and exit code 3.
            (200, pair("dXA=")),
            (200, pair("Mw==")),
            (200, keys),
        ],
    );
    assert_eq!(ran.code, 2, "{ran:?}");
    assert_eq!(
        ran.out,
        "    n1: up\n==> n1: finished with exit code 3\n1 / 1 node(s) completed / acknowledged\n"
    );
    assert_eq!(
        ran.bodies[1],
        r#"{"Command":"uptime -p","Args":[],"Script":null,"Wait":50000000}"#
    );
    assert_eq!(
        ran.bodies[2],
        format!("{{\"Prefix\":\"_rexec\",\"Session\":\"{id}\"}}")
    );
    assert_eq!(ran.sent[2], "PUT /v1/event/fire/_rexec?node=n1");
    let missing = bad("exec", &[]);
    assert!(missing.starts_with("Must specify a command to execute"));
}

#[test]
fn debug_refuses_what_makes_no_sense_before_it_makes_a_folder() {
    for (line, wanted) in [
        ("debug -duration=1s", "duration must be longer than 10s"),
        (
            "debug -duration=10s -interval=1s",
            "interval must be longer than 5s",
        ),
        (
            "debug -duration=10s -interval=20s",
            "duration (10s) must be longer than interval (20s)",
        ),
    ] {
        assert_eq!(
            bad(line, &[]),
            format!("Capture validation failed: {wanted}\n")
        );
    }
    let own = r#"{"Config":{"Version":"1.19.0"},"DebugConfig":{"EnableDebug":false}}"#;
    let wrong = bad("debug -capture=zz", &[(200, own)]);
    assert_eq!(wrong, "Capture validation failed: target not found: zz\n");
}

#[test]
fn a_shell_that_asks_gets_words_and_nothing_else() {
    let env = [("COMP_LINE", "agent kv ge zz"), ("COMP_POINT", "11")];
    let ran = run_with("", "", &env, &[]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "get\n"));
}

const TOKEN: &str = r#"{"AccessorID":"aa","SecretID":"ss","Description":"of web","Local":false,"CreateTime":"2026-11-27T12:00:00Z","Hash":"h=","CreateIndex":5,"ModifyIndex":6,
    "Policies":[{"ID":"p1","Name":"team"}],"ServiceIdentities":[{"ServiceName":"web"}],"NodeIdentities":[{"NodeName":"n","Datacenter":"dc1"}]}"#;

#[test]
fn tokens_are_printed_and_asked_for_as_consul_does() {
    let made = ran(
        "acl token create -policy-name=team -service-identity=web:dc1,dc2 -node-identity=n:dc1 -expires-ttl=24h -description=x",
        &[(200, TOKEN)],
    );
    assert_eq!(
        made.out,
        "AccessorID:       aa\n\
         SecretID:         ss\n\
         Description:      of web\n\
         Local:            false\n\
         Create Time:      2026-11-27T12:00:00Z\n\
         Policies:\n   p1 - team\n\
         Service Identities:\n   web (Datacenters: all)\n\
         Node Identities:\n   n (Datacenter: dc1)\n"
    );
    assert_eq!(made.sent, ["PUT /v1/acl/token"]);
    let body: serde_json::Value = serde_json::from_str(&made.bodies[0]).expect("JSON");
    assert_eq!(
        body,
        serde_json::json!({
            "Description": "x", "ExpirationTTL": "24h", "Policies": [{"Name": "team"}],
            "ServiceIdentities": [{"ServiceName": "web", "Datacenters": ["dc1", "dc2"]}],
            "NodeIdentities": [{"NodeName": "n", "Datacenter": "dc1"}],
        })
    );
    let lacking = bad("acl token create", &[]);
    assert!(
        lacking.contains("Cannot create a token without"),
        "{lacking}"
    );
    assert!(bad("acl token read", &[]).contains("-accessor-id"));
    let (out, sent) = good("acl token delete -accessor-id=aa", &[(200, "true")]);
    assert_eq!(sent, ["DELETE /v1/acl/token/aa"]);
    assert_eq!(out, "Token \"aa\" deleted successfully\n");
    let missing = bad(
        "acl token read -id=zz",
        &[(403, "token does not exist: ACL not found")],
    );
    assert_eq!(
        missing,
        "Error reading token: Unexpected response code: 403 (token does not exist: ACL not found)\n"
    );
}

#[test]
fn a_token_is_changed_by_what_is_given_and_keeps_the_rest() {
    let body = |line: &str| {
        let ran = ran(line, &[(200, TOKEN), (200, TOKEN)]);
        assert_eq!(
            ran.sent,
            ["GET /v1/acl/token/aa", "PUT /v1/acl/token/aa"],
            "{}",
            ran.err
        );
        serde_json::from_str::<serde_json::Value>(&ran.bodies[1]).expect("JSON")
    };
    let replaced = body("acl token update -accessor-id=aa -policy-name=other");
    assert_eq!(replaced["Policies"], serde_json::json!([{"Name": "other"}]));
    assert_eq!(replaced["ServiceIdentities"][0]["ServiceName"], "web");
    let added = body("acl token update -accessor-id=aa -append-policy-name=other");
    assert_eq!(added["Policies"].as_array().map(Vec::len), Some(2));
}

#[test]
fn policies_are_found_by_name_and_listed_under_it() {
    let policy = r#"{"ID":"p1","Name":"team","Description":"d","Rules":"acl = \"read\"","Hash":"h","CreateIndex":1,"ModifyIndex":2}"#;
    let (out, sent) = good(
        "acl policy read -name=team",
        &[(200, policy), (200, policy)],
    );
    assert_eq!(
        sent,
        ["GET /v1/acl/policy/name/team", "GET /v1/acl/policy/p1"]
    );
    assert_eq!(
        out,
        "ID:           p1\nName:         team\nDescription:  d\nDatacenters:\nRules:\nacl = \"read\"\n"
    );
    let list = format!("[{policy}]").leak() as &str;
    let (out, _) = good("acl policy list", &[(200, list)]);
    assert_eq!(
        out,
        "team:\n   ID:           p1\n   Description:  d\n   Datacenters:\n"
    );
    assert!(bad("acl policy create", &[]).contains("-name"));
    assert!(bad("acl policy read", &[]).contains("-id or -name"));
}

#[test]
fn keys_are_listed_by_pool_and_one_thing_is_done_at_a_time() {
    let pools = r#"[{"WAN":true,"Datacenter":"dc1","Segment":"","Keys":{"a=":1,"b=":1},"PrimaryKeys":{"b=":1},"NumNodes":1},
        {"WAN":false,"Datacenter":"dc1","Segment":"","Keys":{"a=":3},"PrimaryKeys":{"a=":3},"NumNodes":3}]"#;
    let (out, sent) = good("keyring -list", &[(200, pools)]);
    assert_eq!(sent, ["GET /v1/operator/keyring"]);
    assert_eq!(
        out,
        "==> Gathering installed encryption keys...\n\nWAN:\n  a= [1/1]\n  b= [1/1]\n\ndc1 (LAN):\n  a= [3/3]\n"
    );
    let (out, _) = good("keyring -list-primary", &[(200, pools)]);
    assert!(out.contains("WAN:\n  b= [1/1]\n\n"), "{out}");
    let used = ran("keyring -use=a=", &[(200, "")]);
    assert_eq!(
        (used.code, &used.sent[..]),
        (0, &["PUT /v1/operator/keyring".to_owned()][..])
    );
    assert_eq!(used.bodies, [r#"{"Key":"a="}"#]);
    assert!(bad("keyring", &[]).contains("single action"));
    assert!(bad("keyring -list -use=a=", &[]).contains("single action"));
}
