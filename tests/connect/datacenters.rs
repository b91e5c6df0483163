//! Two datacenters, one of which is the other's primary: one root, one trust domain.

use serde_json::{Value, json};
use tests::{Agent, Cluster, SERVERS, eventually};

use super::{certs, leaf, roots, set_config, verify};

/// Faster than the defaults, so that a failure is seen soon.
const SETTINGS: &str = r#"primary_datacenter = "dc1"
    gossip_wan { probe_interval = "400ms" probe_timeout = "200ms" gossip_interval = "100ms" suspicion_mult = 2 }"#;

/// The line of a leader that asks for an intermediate certificate.
const ASKS: &str = "asking the primary datacenter for an intermediate certificate: ";

/// Three servers of dc2, whose primary is dc1.
fn secondary() -> Cluster {
    let mut cluster = Cluster::new();
    let first = cluster.address("A");
    for name in SERVERS {
        let flags = ["-server", "-bootstrap-expect", "3", "-retry-join", &first];
        let more = [
            "-datacenter",
            "dc2",
            "-retry-interval",
            "100ms",
            "-hcl",
            SETTINGS,
        ];
        cluster[name].start(&[&flags[..], &more].concat());
    }
    for name in SERVERS {
        cluster[name].wait_until_up();
    }
    cluster.wait_for_voters(&SERVERS);
    cluster
}

fn primary() -> Cluster {
    let mut cluster = Cluster::new();
    cluster["A"].start(&["-server", "-bootstrap", "-hcl", SETTINGS]);
    cluster["A"].wait_for_line("connect: initialized primary datacenter CA");
    cluster
}

fn join(primary: &Cluster, secondary: &Cluster) {
    let b = secondary.address("B");
    primary["A"].cli(&["join", "-wan", &b]).success();
}

/// Waits until an agent's active root is that of another one.
fn wait_for_root_of(agent: &Agent, other: &Agent) -> Value {
    eventually("the roots are the primary's", || {
        let (own, wanted) = (roots(agent), roots(other));
        let same = own["ActiveRootID"] == wanted["ActiveRootID"];
        match same && own["TrustDomain"] == wanted["TrustDomain"] && certs(&own) == certs(&wanted) {
            true => Ok(own),
            false => Err(format!("{own} and not {wanted}")),
        }
    })
}

fn intermediates(agent: &Agent) -> Vec<Value> {
    let found = roots(agent);
    let all = found["Roots"].as_array().expect("a list");
    let active = all.iter().find(|root| root["Active"] == true);
    let certs = active.expect("one is")["IntermediateCerts"].as_array();
    certs.cloned().unwrap_or_default()
}

#[test]
fn services_of_both_datacenters_have_one_root_and_one_trust_domain() {
    let mut dc2 = secondary();
    let leader = dc2.leader_among(&SERVERS);
    // Alone, it waits and says why; a root of its own would be another trust domain.
    let why = "connect: the certificate authority cannot follow datacenter dc1, will retry, and stays as it is until then: No path to datacenter";
    dc2[leader.as_str()].wait_for_line(why);
    let reply = dc2["A"].get("/v1/agent/connect/ca/leaf/web");
    assert_eq!(reply.status, 500);
    assert!(
        reply.text().contains("CA is uninitialized"),
        "{}",
        reply.text()
    );

    let dc1 = primary();
    join(&dc1, &dc2);
    let both = wait_for_root_of(&dc2["C"], &dc1["A"]);
    dc2[leader.as_str()].wait_for_line("the certificate authority follows datacenter dc1 again");
    let here = leaf(&dc1["A"], "web", "");
    let there = leaf(&dc2["B"], "web", "");
    let domain = both["TrustDomain"].as_str().expect("a name");
    for (leaf, datacenter) in [(&here, "dc1"), (&there, "dc2")] {
        let uri = format!("spiffe://{domain}/ns/default/dc/{datacenter}/svc/web");
        assert_eq!(leaf.uri, uri);
        assert_eq!(verify(&leaf.chain, &certs(&both)), Ok(()), "{datacenter}");
    }
    assert_eq!(there.chain.matches("BEGIN CERTIFICATE").count(), 2);
    assert_eq!(intermediates(&dc1["A"]), [""; 0]);
    for agent in [&dc1["A"], &dc2["C"]] {
        let chain = agent.json("/v1/discovery-chain/web").to_string();
        assert!(chain.contains(&format!(".internal.{domain}")), "{chain}");
    }

    // A new root of the primary is followed at once.
    set_config(&dc1["A"], &json!({"PrivateKeyBits": 384}));
    let rotated = wait_for_root_of(&dc2["A"], &dc1["A"]);
    // Each agent asks by the roots that it has itself.
    for name in SERVERS {
        wait_for_root_of(&dc2[name], &dc1["A"]);
    }
    assert_ne!(rotated["ActiveRootID"], both["ActiveRootID"]);
    let after = leaf(&dc2["B"], "web", "");
    assert_eq!(verify(&after.chain, &certs(&rotated)[..1]), Ok(()));
    assert_eq!(
        verify(&after.chain, &certs(&both)),
        Ok(()),
        "by the old root's signature"
    );

    // Without the primary it goes on, also under another leader.
    drop(dc1);
    dc2[leader.as_str()].kill();
    let left: Vec<&str> = SERVERS.into_iter().filter(|name| *name != leader).collect();
    dc2.leader_among(&left);
    let db = leaf(&dc2[left[0]], "db", "");
    assert_eq!(verify(&db.chain, &certs(&rotated)[..1]), Ok(()));
    let reply = dc2[left[0]].http().put(
        "/v1/connect/ca/configuration",
        json!({"Provider": "consul", "Config": {"PrivateKey": "x"}}).to_string(),
    );
    let reply = reply.expect("an answer");
    assert!(
        reply.text().contains("is changed there"),
        "{}",
        reply.text()
    );
}

#[test]
fn what_vouches_for_the_other_datacenter_is_replaced_before_it_ends() {
    let (dc1, dc2) = (primary(), secondary());
    // Without regard to the shortest time that Consul allows.
    let short = json!({"IntermediateCertTTL": "10s", "SkipValidate": true});
    set_config(&dc1["A"], &short);
    join(&dc1, &dc2);
    let first = wait_for_root_of(&dc2["A"], &dc1["A"]);
    let leader = dc2.leader_among(&SERVERS);
    let agent = &dc2[leader.as_str()];
    let mut known = intermediates(agent);
    for _ in 0..2 {
        agent.wait_for_line(&format!("{ASKS}half of the time of the one before is over"));
        known = eventually("another intermediate certificate", || {
            let now = intermediates(agent);
            match now.len() == 1 && now != known {
                true => Ok(now),
                false => Err(format!("{now:?}")),
            }
        });
        // A service has one that lasts as long as what vouches for it.
        let web = leaf(agent, "web", "");
        assert_eq!(verify(&web.chain, &certs(&first)), Ok(()));
    }
    assert_eq!(roots(agent)["ActiveRootID"], first["ActiveRootID"]);
}

#[test]
fn with_acls_the_primary_vouches_for_whom_its_operators_trust() {
    let manager = "11111111-0000-0000-0000-000000000001";
    let acl = |tokens: &str| {
        format!("acl {{ enabled = true default_policy = \"deny\" tokens {{ {tokens} }} }}")
    };
    let mut dc1 = Cluster::new();
    let own = acl(&format!(
        "initial_management = \"{manager}\" agent = \"{manager}\""
    ));
    dc1["A"].start(&["-server", "-bootstrap", "-hcl", SETTINGS, "-hcl", &own]);
    dc1["A"].wait_for_line("connect: initialized primary datacenter CA");
    let mut dc2 = Cluster::new();
    let a = dc1.address("A");
    let start = |dc2: &mut Cluster, more: &str, tokens: &str| {
        let tokens = acl(tokens);
        let flags = ["-server", "-datacenter", "dc2", "-retry-join-wan", &a];
        let hcl = ["-hcl", SETTINGS, "-hcl", &tokens];
        let more: &[&str] = if more.is_empty() { &[] } else { &[more] };
        dc2["A"].start(&[&flags[..], &hcl, more].concat());
    };
    let opener = "11111111-0000-0000-0000-000000000002";
    let tokens = format!("agent_recovery = \"{opener}\"");
    start(&mut dc2, "-bootstrap", &tokens);
    dc2["A"].wait_for_line("lacks permission 'operator:write'");
    let path = format!("/v1/agent/token/replication?token={opener}");
    let given = dc2["A"]
        .http()
        .put(&path, format!(r#"{{"Token":"{manager}"}}"#));
    let given = given.expect("an answer");
    assert_eq!(given.status, 200, "{}", given.text());
    wait_for_root_of(&dc2["A"], &dc1["A"]);
}
