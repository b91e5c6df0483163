//! `dig` and `dnsperf`: how people and load generators ask.

use std::fs;

use serde_json::json;
use tests::{Agent, Cluster, eventually};

use crate::{cluster, compatibility, run, tool};

/// Instances of the service whose answers do not fit everywhere.
const MANY: usize = 30;
/// Questions of the run of `dnsperf`: bounded by their number, not by a time.
const QUESTIONS: usize = 4000;

/// What `dig` shows of an answer.
struct Shown {
    text: String,
}

impl Shown {
    /// The word behind `status:`.
    fn status(&self) -> &str {
        self.after("status: ", ',')
    }

    fn flags(&self) -> Vec<&str> {
        self.after(";; flags: ", ';').split(' ').collect()
    }

    fn after(&self, start: &str, end: char) -> &str {
        let found = self.text.split_once(start).map(|(_, rest)| rest);
        found
            .and_then(|rest| rest.split_once(end))
            .map(|(found, _)| found)
            .unwrap_or_else(|| panic!("no {start:?} in {}", self.text))
    }

    /// Type and data of a section's records, sorted.
    fn section(&self, name: &str) -> Vec<String> {
        let start = format!(";; {name} SECTION:\n");
        let (_, rest) = self.text.split_once(&start).unwrap_or_default();
        let lines = rest.lines().take_while(|line| !line.is_empty());
        let mut records: Vec<_> = lines
            .map(|line| {
                let fields: Vec<_> = line.split_whitespace().skip(3).collect();
                fields.join(" ")
            })
            .collect();
        records.sort();
        records
    }

    fn answers(&self) -> Vec<String> {
        self.section("ANSWER")
    }
}

#[track_caller]
fn dig(agent: &Agent, words: &str) -> Shown {
    let mut command = tool("dig", "bind9-dnsutils");
    command.arg(format!("@{}", agent.ip));
    // Its own settings, and its patience, are those of the test alone.
    command.args(["-r", "-p", "8600", "+tries=3", "+time=60"]);
    Shown {
        text: run(command.args(words.split(' '))),
    }
}

/// A cluster whose catalog has something for every kind of name, and E, which says when an answer was cut.
fn named() -> Cluster {
    let mut cluster = cluster();
    let b = cluster.address("B");
    let truncate = "dns_config { enable_truncate = true }";
    cluster["E"].start(&["-retry-join", &b, "-hcl", truncate]);
    cluster["E"].wait_until_up();
    cluster["E"].wait_for_leader();
    let d = &cluster["D"];
    let web = json!({"Name": "web", "Port": 80, "Tags": ["v1"], "Connect": {"Native": true}});
    let reply = d.http().put("/v1/agent/service/register", web.to_string());
    assert_eq!(reply.expect("an answer").status, 200);
    for n in 1..=MANY {
        let node = json!({
            "Node": format!("many{n}"), "Address": format!("10.0.0.{n}"), "NodeMeta": {"rack": "r1"},
            "Service": {"Service": "many", "Port": 8000 + n},
        });
        d.put("/v1/catalog/register", &node.to_string());
    }
    let six = json!({
        "Node": "six", "Address": "fd00::6",
        "Service": {"Service": "six", "Address": "fd00::7", "Port": 6},
    });
    d.put("/v1/catalog/register", &six.to_string());
    let host = json!({
        "Node": "host", "Address": "10.1.0.1",
        "Service": {"Service": "outside", "Address": "www.example.com", "Port": 443},
    });
    d.put("/v1/catalog/register", &host.to_string());
    let gateway = json!({
        "Node": "in", "Address": "10.1.0.2",
        "Service": {"Kind": "ingress-gateway", "Service": "in", "Port": 9},
    });
    d.put("/v1/catalog/register", &gateway.to_string());
    let listener = json!({"Port": 9, "Protocol": "tcp", "Services": [{"Name": "web"}]});
    let entry = json!({"Kind": "ingress-gateway", "Name": "in", "Listeners": [listener]});
    d.put("/v1/config", &entry.to_string());
    let query = json!({"Name": "best", "Service": {"Service": "many"}});
    let reply = d
        .http()
        .request("POST", "/v1/query", query.to_string().as_bytes());
    assert_eq!(reply.expect("an answer").status, 200);
    for name in ["D", "E"] {
        eventually("the last registrations are seen", || {
            let names = ["web.service", "outside.service", "web.ingress"];
            let found = names.map(|of| dig(&cluster[name], &format!("{of}.consul SRV")));
            match found.iter().all(|shown| shown.status() == "NOERROR") {
                true => Ok(()),
                false => Err("not yet"),
            }
        });
    }
    cluster
}

#[test]
fn dig_and_dnsperf_are_answered() {
    let cluster = named();
    records(&cluster["D"]);
    codes(&cluster["D"]);
    sizes(&cluster["D"], &cluster["E"]);
    compatibility::names_are_as_the_page_says(|name, kind| {
        let shown = dig(&cluster["D"], &format!("{name} {kind}"));
        (shown.status().to_owned(), !shown.answers().is_empty())
    });
    load(&cluster);
}

fn records(d: &Agent) {
    let ip = d.ip.to_string();
    let (a, txt) = (format!("A {ip}"), "TXT \"rack=r1\"");
    let [w, x, y, z] = d.ip.octets();
    let reverse = format!("{z}.{y}.{x}.{w}.in-addr.arpa PTR");
    for (question, wanted) in [
        ("web.service.consul A", vec![a.as_str()]),
        ("v1.web.service.consul", vec![&a]),
        (
            "_web._v1.service.dc1.consul SRV",
            vec!["SRV 1 1 80 D.node.dc1.consul."],
        ),
        ("six.service.consul AAAA", vec!["AAAA fd00::7"]),
        ("six.node.consul AAAA", vec!["AAAA fd00::6"]),
        ("six.service.consul ANY", vec!["AAAA fd00::7"]),
        (
            "outside.service.consul CNAME",
            vec!["CNAME www.example.com."],
        ),
        (
            "d.node.consul ANY",
            vec![
                &a,
                "TXT \"consul-network-segment=\"",
                "TXT \"consul-version=1.19.0\"",
            ],
        ),
        ("many1.node.consul TXT", vec![txt]),
        ("0a000005.addr.consul A", vec!["A 10.0.0.5"]),
        (&reverse, vec!["PTR D.node.dc1.consul."]),
        ("-x 10.0.0.7", vec!["PTR many7.node.dc1.consul."]),
        ("-x fd00::6", vec!["PTR six.node.dc1.consul."]),
        (
            "consul NS",
            vec![
                "NS A.node.dc1.consul.",
                "NS B.node.dc1.consul.",
                "NS C.node.dc1.consul.",
            ],
        ),
    ] {
        for transport in ["+notcp", "+tcp"] {
            let shown = dig(d, &format!("{transport} {question}"));
            assert_eq!(shown.status(), "NOERROR", "{question}");
            assert!(shown.flags().contains(&"aa"), "{}", shown.text);
            assert_eq!(shown.answers(), wanted, "{question}");
        }
    }
    let soa = dig(d, "consul SOA").answers();
    let [name, mail, serial, times @ ..] = &soa[0].split(' ').skip(1).collect::<Vec<_>>()[..]
    else {
        panic!("{soa:?}");
    };
    assert_eq!((*name, *mail), ("ns.consul.", "hostmaster.consul."));
    assert!(
        serial
            .parse::<u64>()
            .is_ok_and(|serial| serial > 1_500_000_000),
        "{serial}"
    );
    assert_eq!(times, ["3600", "600", "86400", "0"]);
    let shown = dig(d, "web.service.consul SRV");
    assert_eq!(
        shown.section("ADDITIONAL"),
        [a],
        "the target's address is there, too"
    );
    let shown = dig(d, "six.service.consul SRV");
    let target = "fd000000000000000000000000000007.addr.dc1.consul.";
    assert_eq!(shown.answers(), [format!("SRV 1 1 6 {target}")]);
    let shown = dig(d, "many1.node.consul A");
    assert_eq!(shown.section("ADDITIONAL"), [txt]);
}

fn codes(d: &Agent) {
    let soa = "SOA ns.consul. hostmaster.consul. ";
    for (question, status, has_soa) in [
        ("none.service.consul", "NXDOMAIN", true),
        ("none.node.consul", "NXDOMAIN", true),
        ("v2.web.service.consul", "NXDOMAIN", true),
        ("a.b.c.consul", "NXDOMAIN", true),
        ("zz.addr.consul", "NXDOMAIN", true),
        // The name is there, but nothing of that type.
        ("web.service.consul AAAA", "NOERROR", true),
        ("web.service.consul MX", "NOERROR", true),
        ("six.node.consul A", "NOERROR", true),
        ("example.com", "REFUSED", false),
        ("web.service.consul.example.com", "REFUSED", false),
        ("web.service.consul CH TXT", "REFUSED", false),
        ("+opcode=STATUS web.service.consul", "NOTIMP", false),
        ("+opcode=UPDATE web.service.consul", "NOTIMP", false),
        ("+ednsopt=65001:abcd web.service.consul", "NOERROR", false),
        (
            "+edns=1 +noednsnegotiation web.service.consul",
            "BADVERS",
            false,
        ),
        ("+cookie web.service.consul", "NOERROR", false),
        ("+dnssec +cd +ad web.service.consul", "NOERROR", false),
    ] {
        let shown = dig(d, question);
        assert_eq!(shown.status(), status, "{question}");
        let authority = shown.section("AUTHORITY");
        let found = authority.len() == 1 && authority[0].starts_with(soa);
        assert_eq!(found, has_soa, "{question}: {}", shown.text);
        let ours = matches!(status, "NXDOMAIN" | "NOERROR");
        assert_eq!(
            shown.flags().contains(&"aa"),
            ours,
            "{question}: {}",
            shown.text
        );
    }
    // Resolvers change the case of letters at random, and take only an answer to exactly that.
    for name in [
        "wEb.SeRvIcE.cOnSuL",
        "WEB.service.CONSUL",
        "web.SERVICE.consul",
    ] {
        let shown = dig(d, name);
        assert!(
            shown.text.contains(&format!(";{name}.\t")),
            "{}",
            shown.text
        );
        assert_eq!(shown.answers(), [format!("A {}", d.ip)]);
    }
}

/// `d` cuts an answer without a word, as Consul does by default; `e` says so.
fn sizes(d: &Agent, e: &Agent) {
    let question = |options: &str| format!("{options} many.service.consul SRV");
    let len = |agent, options: &str| dig(agent, &question(options)).answers().len();
    assert_eq!(
        len(d, "+noedns"),
        3,
        "as many as udp_answer_limit without EDNS"
    );
    let some = len(d, "+bufsize=1232");
    assert!((4..MANY).contains(&some), "{some} fit into 1232 bytes");
    assert_eq!(len(d, "+bufsize=4096"), MANY);
    assert_eq!(len(d, "+tcp"), MANY);
    let shown = dig(d, &question("+bufsize=1232"));
    assert!(!shown.flags().contains(&"tc"), "{}", shown.text);
    let size: usize = shown
        .after("MSG SIZE  rcvd: ", '\n')
        .parse()
        .expect("a number");
    assert!(size <= 1232, "{size}");

    let shown = dig(e, &question("+ignore +bufsize=1232"));
    assert!(shown.flags().contains(&"tc"), "{}", shown.text);
    let shown = dig(e, &question("+bufsize=1232"));
    assert!(
        shown.text.contains("Truncated, retrying in TCP mode"),
        "{}",
        shown.text
    );
    assert_eq!(shown.answers().len(), MANY);
}

/// Many questions at a time, of which none may be lost.
fn load(cluster: &Cluster) {
    let names = [
        "web.service.consul A",
        "many.service.consul SRV",
        "d.node.consul A",
        "best.query.consul A",
    ];
    let file = cluster.path("questions");
    fs::write(&file, names.join("\n") + "\n").expect("written");
    for mode in ["udp", "tcp"] {
        for name in ["A", "D"] {
            let mut command = tool("dnsperf", "dnsperf");
            command.args([
                "-s",
                &cluster.address(name),
                "-p",
                "8600",
                "-m",
                mode,
                "-t",
                "60",
            ]);
            let rounds = (QUESTIONS / names.len()).to_string();
            command
                .args(["-c", "4", "-q", "20", "-n", &rounds, "-d"])
                .arg(&file);
            // Without EDNS everything fits, and the service's answer is cut to its three records.
            let said = run(&mut command);
            for wanted in [
                format!("Queries sent:         {QUESTIONS}\n"),
                format!("Queries completed:    {QUESTIONS} (100.00%)\n"),
                "Queries lost:         0 (0.00%)\n".to_owned(),
                format!("Response codes:       NOERROR {QUESTIONS} (100.00%)\n"),
            ] {
                assert!(
                    said.contains(&wanted),
                    "{mode} of {name}: no {wanted:?} in\n{said}"
                );
            }
        }
    }
}
