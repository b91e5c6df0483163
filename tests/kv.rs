//! `/v1/kv` end to end, asked of a leader, a follower and a client: Consul's answers from each.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Cluster, Reply, SERVERS};

/// Three servers and the client D; the names are those of a leader, a follower and the client.
fn cluster_with_client() -> (Cluster, [String; 3]) {
    let mut cluster = Cluster::formed();
    let b = cluster.address("B");
    cluster["D"].start(&["-retry-join", &b]);
    cluster["D"].wait_until_up();
    cluster["D"].wait_for_leader();
    let leader = cluster.leader_among(&SERVERS);
    let follower = SERVERS
        .into_iter()
        .find(|name| *name != leader)
        .expect("three servers")
        .to_owned();
    (cluster, [leader, follower, "D".to_owned()])
}

fn entry(reply: &Reply) -> Value {
    reply.json()[0].clone()
}

#[track_caller]
fn refused(reply: &Reply, status: u16, text: &str) {
    assert_eq!((reply.status, reply.text().as_str()), (status, text));
}

#[test]
fn the_same_answers_from_leader_follower_and_client() {
    let (cluster, names) = cluster_with_client();
    for name in &names {
        let agent = &cluster[name.as_str()];
        let http = agent.http();
        let root = format!("/v1/kv/{name}");

        let absent = agent.get(&format!("{root}/absent"));
        assert_eq!((absent.status, absent.body.len()), (404, 0));
        assert!(absent.index() >= 1);

        agent.put(&format!("{root}/a?flags=42"), "hello");
        let got = agent.get(&format!("{root}/a"));
        let first = entry(&got);
        assert_eq!(first["Key"], format!("{name}/a"));
        assert_eq!(first["Value"], "aGVsbG8=");
        assert_eq!(first["Flags"], 42);
        assert_eq!(first["LockIndex"], 0);
        assert!(first.get("Session").is_none(), "{first}");
        assert_eq!(first["ModifyIndex"], got.index());
        assert_eq!(got.header("x-consul-knownleader"), Some("true"));
        assert!(got.header("x-consul-lastcontact").is_some());
        assert_eq!(got.header("content-type"), Some("application/json"));

        let raw = agent.get(&format!("{root}/a?raw"));
        assert_eq!(raw.text(), "hello");
        assert!(
            raw.header("content-type")
                .is_some_and(|t| t.starts_with("text/plain"))
        );

        for key in ["b", "dir/c", "dir/d"] {
            agent.put(&format!("{root}/{key}"), key);
        }
        let keys = agent.json(&format!("{root}/?keys&separator=/"));
        assert_eq!(
            keys,
            json!([
                format!("{name}/a"),
                format!("{name}/b"),
                format!("{name}/dir/")
            ])
        );
        let all = agent.json(&format!("{root}/?recurse"));
        assert_eq!(all.as_array().map(Vec::len), Some(4));

        // An equal write changes nothing.
        agent.put(&format!("{root}/a?flags=42"), "hello");
        assert_eq!(entry(&agent.get(&format!("{root}/a"))), first);

        let cas = |index: &Value| {
            http.put(&format!("{root}/a?cas={index}"), "cas")
                .expect("an answer")
                .text()
        };
        assert_eq!(cas(&json!(1)).trim(), "false");
        assert_eq!(cas(&json!(0)).trim(), "false");
        assert_eq!(cas(&first["ModifyIndex"]).trim(), "true");

        let deleted = http
            .delete(&format!("{root}/dir/?recurse"))
            .expect("an answer");
        assert_eq!(deleted.text().trim(), "true");
        let keys = agent.json(&format!("{root}/?keys"));
        assert_eq!(keys, json!([format!("{name}/a"), format!("{name}/b")]));
        assert_eq!(
            http.delete(&format!("{root}/absent"))
                .expect("an answer")
                .text()
                .trim(),
            "true"
        );
    }
    // What was written through one is read through the others.
    for reader in &names {
        for writer in &names {
            for mode in ["", "consistent"] {
                assert_eq!(
                    cluster[reader.as_str()]
                        .value(&format!("{writer}/a"), mode)
                        .as_deref(),
                    Some("cas")
                );
            }
        }
    }
}

#[test]
fn bad_requests_are_refused_in_consuls_words() {
    let (cluster, names) = cluster_with_client();
    for name in &names {
        let http = cluster[name.as_str()].http();
        let put = |path: &str| http.put(path, "x").expect("an answer");
        let get = |path: &str| http.get(path).expect("an answer");
        refused(&put("/v1/kv/"), 400, "Missing key name");
        refused(&get("/v1/kv/"), 400, "Missing key name");
        refused(
            &put("/v1/kv/a?acquire=x&cas=1"),
            400,
            "Conflicting flags: acquire=x&cas=1\n",
        );
        refused(
            &put("/v1/kv/a?flags=x"),
            500,
            "strconv.ParseUint: parsing \"x\": invalid syntax",
        );
        refused(
            &put("/v1/kv/a?acquire=bad"),
            500,
            "raft apply failed: invalid session \"bad\"",
        );
        refused(
            &get("/v1/kv/a?stale&consistent"),
            400,
            "Cannot specify ?stale with ?consistent, conflicting semantics.",
        );
        refused(&get("/v1/kv/a?index=x"), 400, "Invalid index");
        refused(&get("/v1/kv/a?index=1&wait=5"), 400, "Invalid wait time");
        refused(
            &get("/v1/nothing"),
            404,
            "Invalid URL path: not a recognized HTTP API endpoint",
        );
        let post = http.request("POST", "/v1/kv/a", b"x").expect("an answer");
        refused(&post, 405, "method POST not allowed");
        let large = http
            .put("/v1/kv/a", vec![b'x'; 600_000])
            .expect("an answer");
        assert_eq!(large.status, 413);
        assert!(
            large
                .text()
                .starts_with("Request body(600000 bytes) too large, max size: 524288 bytes."),
            "{}",
            large.text()
        );
        assert_eq!(
            cluster[name.as_str()].value("a", ""),
            None,
            "nothing of it was written"
        );
    }
}

#[test]
fn blocking_queries_wake_on_their_own_key_only() {
    let (cluster, names) = cluster_with_client();
    for name in &names {
        let agent = &cluster[name.as_str()];
        let key = format!("blocked/{name}");
        agent.put(&format!("/v1/kv/{key}"), "1");
        let index = agent.get(&format!("/v1/kv/{key}")).index();

        // Times out unchanged.
        let start = Instant::now();
        let same = agent.get(&format!("/v1/kv/{key}?index={index}&wait=300ms"));
        assert!(
            start.elapsed() >= Duration::from_millis(300),
            "{:?}",
            start.elapsed()
        );
        assert_eq!((same.status, same.index()), (200, index));

        // Another key's change does not wake it, its own does; whoever writes.
        let http = agent.http();
        let path = format!("/v1/kv/{key}?index={index}&wait=60s");
        let waiter =
            thread::spawn(move || http.request_within(Duration::from_secs(90), "GET", &path, b""));
        cluster["A"].put(&format!("/v1/kv/beside/{name}"), "x");
        cluster["B"].put(&format!("/v1/kv/{key}"), "2");
        let woken = waiter.join().expect("no panic").expect("an answer");
        assert_eq!(entry(&woken)["Value"], "Mg==");
        assert!(woken.index() > index);

        // A deleted key, seen under its prefix.
        let index = woken.index();
        let http = agent.http();
        let path = format!("/v1/kv/blocked/?recurse&index={index}&wait=60s");
        let waiter =
            thread::spawn(move || http.request_within(Duration::from_secs(90), "GET", &path, b""));
        cluster["C"]
            .http()
            .delete(&format!("/v1/kv/{key}"))
            .expect("an answer");
        let woken = waiter.join().expect("no panic").expect("an answer");
        assert!(woken.index() > index);
    }
}

#[test]
fn without_a_quorum_only_stale_reads_are_answered() {
    let mut cluster = Cluster::formed();
    let b = cluster.address("B");
    cluster["D"].start(&["-retry-join", &b]);
    cluster["D"].wait_until_up();
    cluster["D"].wait_for_leader();
    cluster["A"].put("/v1/kv/known", "yes");
    tests::eventually("A has it itself", || {
        cluster["A"].value("known", "stale").ok_or("not yet")
    });
    for name in ["B", "C"] {
        cluster[name].kill();
    }
    for name in ["A", "D"] {
        let reply = cluster[name]
            .http()
            .put("/v1/kv/lost", "x")
            .expect("an answer");
        assert_eq!(reply.status, 500, "{}", reply.text());
    }
    assert_eq!(cluster["A"].value("known", "stale").as_deref(), Some("yes"));
    let consistent = cluster["A"].get("/v1/kv/known?consistent");
    assert_eq!(consistent.status, 500, "{}", consistent.text());

    // One of them returns: a quorum again.
    cluster["C"].start(&["-server"]);
    tests::eventually("writes are accepted", || {
        match cluster["D"].http().put("/v1/kv/again", "x") {
            Ok(reply) if reply.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

/// A follower answers lists itself; it must know of every write that the leader has acknowledged.
#[test]
fn a_list_at_a_follower_holds_what_the_leader_has_just_acknowledged() {
    let cluster = Cluster::formed();
    let leader = cluster.leader_among(&SERVERS);
    let followers: Vec<_> = SERVERS.into_iter().filter(|name| *name != leader).collect();
    for round in 0..200 {
        let key = format!("/v1/kv/list/{round:03}");
        cluster[leader.as_str()].put(&key, "x");
        let name = followers[round % followers.len()];
        let mode = ["", "&consistent"][round / followers.len() % 2];
        let listed = cluster[name].get(&format!("/v1/kv/list/?keys{mode}"));
        let keys = listed.json().as_array().map_or(0, Vec::len);
        assert_eq!(keys, round + 1, "at {name}{mode}: {}", listed.text());
        assert_eq!(listed.header("x-consul-lastcontact"), Some("0"));
    }
}

#[test]
fn a_blocking_query_at_a_follower_sees_the_write_that_it_waited_for() {
    let cluster = Cluster::formed();
    let leader = cluster.leader_among(&SERVERS);
    let follower = SERVERS
        .into_iter()
        .find(|name| *name != leader)
        .expect("three servers");
    cluster[leader.as_str()].put("/v1/kv/watched", "0");
    let mut index = cluster[follower].get("/v1/kv/watched").index();
    for round in 1..=20 {
        let path = format!("/v1/kv/watched?index={index}&wait=60s");
        let woken = thread::scope(|scope| {
            let waiting = scope.spawn(|| cluster[follower].get(&path));
            cluster[leader.as_str()].put("/v1/kv/watched", &round.to_string());
            waiting.join().expect("an answer")
        });
        assert!(woken.index() > index, "{} after {index}", woken.index());
        index = woken.index();
        let raw = cluster[follower].get("/v1/kv/watched?raw&consistent");
        assert_eq!(raw.text(), round.to_string());
    }
}
