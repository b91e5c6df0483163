//! Encrypted gossip: whoever has no key is nobody, keys change while the members stay, and a running cluster is moved.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tests::{Cluster, SERVERS, run};

const AGENTS: [&str; 4] = ["A", "B", "C", "D"];

fn key() -> String {
    run("agent", &["keygen"]).success().trim().to_owned()
}

/// Three servers and the client D, with these settings in a file.
fn started(settings: &str) -> Cluster {
    let mut cluster = Cluster::new();
    let file = cluster.path("gossip.hcl");
    fs::write(&file, settings).expect("room");
    let a = cluster.address("A");
    for name in AGENTS {
        start(&mut cluster, name, &a);
    }
    cluster.wait_for_voters(&SERVERS);
    wait_for_all(&cluster);
    cluster
}

fn start(cluster: &mut Cluster, name: &str, join: &str) {
    let file = cluster.path("gossip.hcl").display().to_string();
    let role: &[&str] = match name {
        "D" => &[],
        _ => &["-server", "-bootstrap-expect", "3"],
    };
    let flags = ["-config-file", &file, "-retry-join", join];
    cluster[name].start(&[role, &flags].concat());
    cluster[name].wait_until_up();
}

fn wait_for_all(cluster: &Cluster) {
    let all = AGENTS.map(|name| (name, "alive"));
    for name in AGENTS {
        cluster.wait_for_members(name, &all);
    }
}

fn rings(cluster: &Cluster, asked: &str) -> Vec<Value> {
    let reply = cluster[asked].http().get("/v1/operator/keyring");
    let reply = reply.expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json().as_array().cloned().expect("a list")
}

#[test]
fn keys_change_under_load_and_no_member_is_lost() {
    let (old, new) = (key(), key());
    let cluster = started(&format!("encrypt = \"{old}\""));
    let found = rings(&cluster, "A");
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(
        (&found[0]["WAN"], &found[0]["NumNodes"]),
        (&true.into(), &3.into())
    );
    assert_eq!(
        (&found[1]["WAN"], &found[1]["NumNodes"]),
        (&false.into(), &4.into())
    );
    assert_eq!(found[1]["Keys"][&old], 4);
    let done = AtomicBool::new(false);
    let marks = AGENTS.map(|name| cluster[name].mark());
    let http = cluster["D"].http();
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0_u64;
            while !done.load(Ordering::Relaxed) {
                let reply = http
                    .put(&format!("/v1/kv/{written}"), "x")
                    .expect("an answer");
                assert_eq!((reply.status, reply.text().as_str()), (200, "true"));
                written += 1;
            }
            written
        });
        let verb = |flag: &str| cluster["D"].cli(&["keyring", flag]);
        let early = verb(&format!("-use={new}")).failure();
        assert!(early.contains("install it first"), "{early}");
        verb(&format!("-install={new}")).success();
        let primary = verb(&format!("-remove={old}")).failure();
        assert!(
            primary.contains("Removing the primary key is not allowed"),
            "{primary}"
        );
        verb(&format!("-use={new}")).success();
        verb(&format!("-remove={old}")).success();
        let listed = verb("-list").success();
        assert!(
            listed.contains(&format!("dc1 (LAN):\n  {new} [4/4]")),
            "{listed}"
        );
        assert!(!listed.contains(&old), "{listed}");
        // A round of gossip and of probes with the new key.
        cluster["B"].cli(&["event", "-name=after"]).success();
        tests::eventually("news arrives", || {
            let events = cluster["D"].http().get("/v1/event/list?name=after");
            match events.map_err(|e| e.to_string())?.text() {
                none if none == "[]" => Err(none),
                _ => Ok(()),
            }
        });
        done.store(true, Ordering::Relaxed);
        writer.join().expect("no panic")
    });
    assert!(written > 0);
    for (name, mark) in AGENTS.into_iter().zip(marks) {
        let lines = cluster[name].lines();
        let failed = lines[mark..]
            .iter()
            .find(|line| line.text.contains("EventMemberFailed"));
        assert!(failed.is_none(), "{name}: {failed:?}");
        let kept = fs::read_to_string(cluster[name].data.join("serf/local.keyring"));
        assert_eq!(kept.expect("it is kept"), format!("[\n  \"{new}\"\n]"));
    }
}

#[test]
fn whoever_has_another_key_or_none_stays_outside_and_both_say_why() {
    let (ours, theirs) = (key(), key());
    let mut cluster = started(&format!("encrypt = \"{ours}\""));
    let a = cluster.address("A");
    for (name, flags) in [("E", vec!["-encrypt", theirs.as_str()]), ("F", vec![])] {
        cluster[name].start(&flags);
        cluster[name].wait_until_up();
        let said = cluster[name].cli(&["join", &a]).failure();
        assert!(said.contains("closed"), "{said}");
    }
    cluster["A"].wait_for_line("No installed keys could decrypt the message");
    cluster["A"].wait_for_line("it is not encrypted, which encrypt_verify_incoming demands");
    // The other way round.
    let e = cluster.address("E");
    cluster["A"].cli(&["join", &e]).failure();
    let f = cluster.address("F");
    cluster["A"].cli(&["join", &f]).failure();
    cluster["F"].wait_for_line("it is encrypted, and this node has no key");
    wait_for_all(&cluster);
    let info = cluster["A"].cli(&["info"]).success();
    assert!(info.contains("encrypted = true"), "{info}");

    let half = cluster["D"].data.join("serf/local.keyring");
    cluster["D"].interrupt();
    fs::write(&half, "[\"half").expect("room");
    let file = cluster.path("gossip.hcl").display().to_string();
    cluster["D"].start(&["-config-file", &file]);
    let (code, log) = cluster["D"].ended();
    assert_eq!(code, Some(1));
    let said = log.stderr();
    assert!(said.contains("local.keyring cannot be read"), "{said}");
}

#[test]
fn a_plain_cluster_is_moved_one_agent_at_a_time() {
    let mut cluster = started("");
    let refused = cluster["A"].cli(&["keyring", "-list"]).failure();
    assert!(refused.contains("encryption not enabled"), "{refused}");
    let key = key();
    for (incoming, outgoing) in [(false, false), (false, true), (true, true)] {
        let settings = format!(
            "encrypt = \"{key}\"\nencrypt_verify_incoming = {incoming}\nencrypt_verify_outgoing = {outgoing}"
        );
        fs::write(cluster.path("gossip.hcl"), settings).expect("room");
        for name in AGENTS {
            let other = if name == "A" { "B" } else { "A" };
            let join = cluster.address(other);
            cluster[name].kill();
            start(&mut cluster, name, &join);
            wait_for_all(&cluster);
            cluster.wait_for_voters(&SERVERS);
        }
    }
    assert_eq!(rings(&cluster, "B")[1]["Keys"][&key], 4);
}
