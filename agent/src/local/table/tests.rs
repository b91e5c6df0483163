use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::results::NoHeartbeat;
use super::{Rules, Source, Table};
use crate::local::definition::{Raw, ServiceDefinition};
use crate::state::{
    Answer, CONSUL_VIRTUAL, Check, CheckStatus, Command, Node, Query, Stamped, Store, VirtualStep,
};

const MINUTE: Duration = Duration::from_secs(60);

fn service(value: Value) -> ServiceDefinition {
    let raw = Raw::service(value).expect("an object");
    raw.to_service().expect("valid")
}

/// A table with its catalog and a clock.
struct Bed {
    table: Table,
    store: Store,
    now: Instant,
}

impl Bed {
    fn new() -> Self {
        let rules = Rules {
            node: "n".into(),
            output_max: 20,
            discard_output: false,
            update_interval: 5 * MINUTE,
            asks_for_tokens: false,
        };
        let (table, store) = (Table::new(rules), Store::default());
        let now = Instant::now();
        Self { table, store, now }
    }

    fn own() -> Node {
        Node {
            id: Some(uuid::Uuid::from_u128(1)),
            node: "n".into(),
            address: "127.0.0.1".into(),
            ..Node::default()
        }
    }

    fn put(&mut self, value: Value) {
        self.table
            .put_service(&service(value), Source::Api, false, self.now);
    }

    fn check(&mut self, value: Value) {
        let definition = Raw::check(value).expect("an object").to_check();
        let definition = Arc::new(definition.expect("valid"));
        self.table.put_check(definition, Source::Api, self.now);
    }

    fn apply(&mut self, command: Command) {
        let index = self.store.last_index() + 1;
        let outcome = self.store.apply(
            index,
            &Stamped {
                unix_ms: 0,
                command,
            },
        );
        assert_eq!(outcome, crate::state::Outcome::Done);
    }

    /// Sends what differs; how many commands it took.
    fn push(&mut self) -> usize {
        for sent in 0..100 {
            let Some(push) = self.table.next_push(&Self::own(), usize::MAX) else {
                return sent;
            };
            self.apply(push.command.clone());
            self.table.confirm(&push);
        }
        panic!("the catalog never agrees with the agent");
    }

    /// Looks at the catalog, then sends what differs.
    fn sync(&mut self) -> usize {
        let node = || "n".to_owned();
        let Answer::NodeServices(found) = self.store.query(&Query::NodeServices { node: node() })
        else {
            panic!()
        };
        let checks = self.rows();
        let services = found.as_ref().map_or(&[][..], |found| &found.services);
        let row = found.as_ref().map(|found| &*found.node);
        self.table.compare(&Self::own(), row, services, &checks);
        self.push()
    }

    fn rows(&self) -> Vec<Arc<Check>> {
        let Answer::Checks(checks) = self.store.query(&Query::NodeChecks { node: "n".into() })
        else {
            panic!()
        };
        checks
    }

    fn status(&self, id: &str) -> (CheckStatus, String) {
        let row = &self.table.checks[id].row;
        (row.status, row.output.clone())
    }

    fn in_catalog(&self, id: &str) -> Option<(CheckStatus, String)> {
        let rows = self.rows();
        let row = rows.iter().find(|row| row.check_id == id)?;
        Some((row.status, row.output.clone()))
    }
}

use CheckStatus::{Critical, Passing, Warning};

#[test]
fn the_address_that_stands_for_a_service_is_the_servers_to_say() {
    let mut bed = Bed::new();
    bed.apply(Command::Virtual(VirtualStep::Begin));
    bed.sync();
    let sidecar = json!({"Name": "web-proxy", "Kind": "connect-proxy", "Port": 20000,
                         "Proxy": {"DestinationServiceName": "web"}});
    bed.put(sidecar.clone());
    assert_eq!(bed.push(), 1);
    assert_eq!((bed.sync(), bed.sync()), (0, 0));
    let row = &bed.table.services["web-proxy"].row;
    assert_eq!(row.tagged_addresses[CONSUL_VIRTUAL].address, "240.0.0.1");
    bed.put(sidecar);
    assert_eq!((bed.push(), bed.sync()), (0, 0), "the same again");
}

#[test]
fn what_is_registered_is_written_once_and_then_nothing() {
    let mut bed = Bed::new();
    assert_eq!(bed.sync(), 1, "the node itself");
    bed.put(json!({"Name": "web", "Port": 80, "Tags": ["a"], "Check": {"TTL": "1m", "Status": "passing"}}));
    bed.check(json!({"Name": "disk", "TTL": "1m"}));
    assert_eq!(bed.push(), 1, "together");
    let index = bed.store.last_index();
    assert_eq!((bed.push(), bed.sync(), bed.sync()), (0, 0, 0));
    assert_eq!(bed.store.last_index(), index);
    assert_eq!(
        bed.in_catalog("service:web"),
        Some((Passing, String::new()))
    );
    // The same definition again changes nothing, and its check keeps its result.
    bed.put(json!({"Name": "web", "Port": 80, "Tags": ["a"], "Check": {"TTL": "1m"}}));
    assert_eq!(bed.status("service:web").0, Passing);
    bed.table.drop_service("web");
    assert_eq!(bed.push(), 1);
    assert_eq!(bed.in_catalog("service:web"), None);
    assert_eq!(bed.sync(), 0);
}

#[test]
fn many_services_go_together() {
    let mut bed = Bed::new();
    for n in 0..200 {
        bed.put(json!({"Name": format!("s{n}"), "Check": {"TTL": "1m"}}));
    }
    assert!(bed.push() <= 5);
    assert_eq!(bed.sync(), 0);
}

#[test]
fn what_others_wrote_is_put_right() {
    let mut bed = Bed::new();
    bed.put(json!({"Name": "web", "Check": {"TTL": "1m"}}));
    bed.put(json!({"Name": "open", "EnableTagOverride": true}));
    bed.sync();
    let foreign = |id: &str, tags: &[&str]| crate::state::Service {
        id: id.into(),
        service: id.into(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        enable_tag_override: id == "open",
        ..crate::state::Service::default()
    };
    let check = |id: &str| Check {
        check_id: id.into(),
        status: Passing,
        ..Check::default()
    };
    bed.apply(Command::Register(Box::new(crate::state::Register {
        node: Bed::own(),
        skip_node_update: true,
        services: vec![
            foreign("web", &["x"]),
            foreign("alien", &[]),
            foreign("consul", &[]),
            foreign("open", &["theirs"]),
        ],
        checks: vec![check("alien check"), check(crate::state::SERF_HEALTH)],
    })));
    assert!(bed.sync() > 0);
    assert_eq!(bed.sync(), 0);
    let Answer::NodeServices(Some(found)) =
        bed.store.query(&Query::NodeServices { node: "n".into() })
    else {
        panic!()
    };
    let found: Vec<_> = found
        .services
        .iter()
        .map(|s| (s.id.as_str(), s.tags.join(",")))
        .collect();
    let wanted = [("consul", ""), ("open", "theirs"), ("web", "")];
    assert_eq!(found, wanted.map(|(id, tags)| (id, tags.to_owned())));
    assert_eq!(bed.table.services["open"].row.tags, ["theirs"]);
    assert!(bed.in_catalog("alien check").is_none());
    assert!(bed.in_catalog(crate::state::SERF_HEALTH).is_some());
    // The node was deregistered from outside.
    bed.apply(Command::Deregister(crate::state::Deregister::Node {
        node: "n".into(),
    }));
    assert_eq!(bed.sync(), 1);
    assert!(bed.in_catalog("service:web").is_some());
}

#[test]
fn what_changed_while_it_was_sent_is_sent_again() {
    let mut bed = Bed::new();
    bed.put(json!({"Name": "web", "Check": {"TTL": "1m"}}));
    let push = bed
        .table
        .next_push(&Bed::own(), usize::MAX)
        .expect("something to send");
    bed.table
        .heartbeat("service:web", Passing, "ok", bed.now, 0)
        .expect("a TTL check");
    bed.table.confirm(&push);
    bed.apply(push.command);
    assert_eq!(bed.push(), 1);
    assert_eq!(bed.in_catalog("service:web"), Some((Passing, "ok".into())));
}

#[test]
fn a_new_output_waits_and_a_new_status_does_not() {
    let mut bed = Bed::new();
    bed.check(json!({"Name": "c", "TTL": "1h", "Status": "passing"}));
    bed.sync();
    let heard = |bed: &mut Bed, status, output| {
        let now = bed.now;
        bed.table
            .heartbeat("c", status, output, now, 0)
            .expect("a TTL check");
    };
    heard(&mut bed, Passing, "one");
    assert_eq!((bed.push(), bed.sync()), (0, 0));
    bed.now += 3 * MINUTE;
    assert!(bed.table.tick(bed.now), "its time has come");
    assert_eq!(bed.push(), 1);
    assert_eq!(bed.in_catalog("c"), Some((Passing, "one".into())));
    heard(&mut bed, Warning, "two");
    assert_eq!(bed.push(), 1);
    heard(&mut bed, Warning, &"long ".repeat(5));
    let (_, output) = bed.status("c");
    assert_eq!(output, "long long long long  ... (captured 20 of 25 bytes)");
}

#[test]
fn a_ttl_that_is_missed_is_critical() {
    let mut bed = Bed::new();
    bed.check(json!({"Name": "c", "TTL": "10s"}));
    bed.table
        .heartbeat("c", Passing, "fine", bed.now, 0)
        .expect("a TTL check");
    let end = bed.now + Duration::from_secs(10);
    assert_eq!(bed.table.next_time(), Some(end));
    assert!(!bed.table.tick(end - Duration::from_millis(1)));
    assert!(bed.table.tick(end));
    let expired = "TTL expired (last output before timeout follows): fine";
    assert!(expired.starts_with(&bed.status("c").1[..20]));
    assert_eq!(bed.status("c").0, Critical);
    assert_eq!(
        bed.table.heartbeat("zz", Passing, "", end, 0),
        Err(NoHeartbeat::NoCheck)
    );
    bed.check(json!({"Name": "t", "TCP": "h:1", "Interval": "1s"}));
    assert_eq!(
        bed.table.heartbeat("t", Passing, "", end, 0),
        Err(NoHeartbeat::NoTtl)
    );
}

#[test]
fn results_count_in_a_row() {
    let mut bed = Bed::new();
    bed.check(json!({"Name": "c", "TCP": "h:1", "Interval": "1s", "SuccessBeforePassing": 2, "FailuresBeforeWarning": 2, "FailuresBeforeCritical": 3}));
    let mut after = Vec::new();
    for result in [
        Passing, Critical, Passing, Passing, Critical, Critical, Critical, Passing, Passing,
    ] {
        bed.table.report("c", result, "", bed.now, 0);
        after.push(bed.status("c").0);
    }
    assert_eq!(
        after,
        [
            Critical, Critical, Critical, Passing, Passing, Warning, Critical, Critical, Passing
        ]
    );
}

#[test]
fn a_service_that_is_critical_for_too_long_is_doomed() {
    let mut bed = Bed::new();
    bed.put(
        json!({"Name": "web", "Check": {"TTL": "1h", "DeregisterCriticalServiceAfter": "90s"}}),
    );
    let doom = bed.now + Duration::from_secs(90);
    assert_eq!(bed.table.doomed(doom - Duration::from_millis(1)), None);
    assert_eq!(bed.table.doomed(doom), Some("web".into()));
    bed.table
        .heartbeat("service:web", Passing, "", bed.now, 0)
        .expect("a TTL check");
    assert_eq!(bed.table.doomed(doom), None);
}

#[test]
fn an_alias_says_what_the_other_says() {
    let mut bed = Bed::new();
    bed.put(json!({"Name": "web", "Check": {"TTL": "1h", "Status": "passing"}}));
    bed.put(json!({"Name": "side", "Check": {"AliasService": "web"}}));
    assert_eq!(
        bed.status("service:side"),
        (Passing, "All checks passing.".into())
    );
    bed.table
        .heartbeat("service:web", Critical, "down", bed.now, 0)
        .expect("a TTL check");
    let (status, output) = bed.status("service:side");
    assert_eq!(status, Critical);
    assert_eq!(
        output,
        "Aliased check \"Service 'web' check\" failing: down"
    );
    bed.check(json!({"Name": "node alias", "AliasNode": "n"}));
    assert_eq!(
        bed.status("node alias"),
        (Passing, "No checks found.".into())
    );
}

#[test]
fn files_that_are_read_again_touch_only_what_changed() {
    let mut bed = Bed::new();
    let old = service(json!({"Name": "web", "Check": {"TTL": "1m"}}));
    bed.table.put_service(&old, Source::File, false, bed.now);
    bed.put(json!({"Name": "api", "Check": {"TTL": "1m"}}));
    assert!(bed.table.has_service(&old));
    assert!(
        !bed.table
            .has_service(&service(json!({"Name": "web", "Check": {"TTL": "2m"}})))
    );
    assert_eq!(
        bed.table.drop_unnamed(|_| false, |_| false),
        ["service:web"]
    );
    let left: Vec<_> = bed.table.services.keys().cloned().collect();
    assert_eq!(left, ["api"]);
}
