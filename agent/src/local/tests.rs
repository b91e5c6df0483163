//! The agent's own services with a disk that outlives them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use futures::future::{BoxFuture, FutureExt as _, pending, ready};
use tokio::time::Instant;

use super::definition::Raw;
use super::{Error, InNameOf, Local, NODE_MAINTENANCE, Servers, Settings, Source};
use crate::env::{Env, MemoryDisk};
use crate::node::{Error as NodeError, ReadOptions, Reply};
use crate::state::{CheckStatus, Command, Node, Outcome, Query};

struct Bed {
    env: Env,
}

impl Bed {
    fn new() -> Self {
        let disk = Arc::new(MemoryDisk::default());
        let env = Env {
            disk,
            ..Env::real()
        };
        Self { env }
    }

    fn local(&self) -> Local {
        let settings = Settings {
            node: Node {
                node: "n".into(),
                ..Node::default()
            },
            data_dir: Some(PathBuf::from("/data")),
            output_max: 4096,
            discard_output: false,
            update_interval: Duration::ZERO,
            scripts_from_api: false,
            scripts_from_files: true,
            sidecar_ports: Some((21000, 21255)),
            asks_for_tokens: false,
        };
        Local::new(self.env.clone(), settings)
    }

    /// What a restart finds, with these services in files.
    async fn opened(&self, files: &[Value]) -> Local {
        let local = self.local();
        let files: Vec<_> = files.iter().map(service).collect();
        local.open(&files, &[]).await.expect("valid");
        local
    }
}

fn service(value: &Value) -> Raw {
    Raw::service_in_file(value.clone()).expect("valid")
}

fn check(value: Value) -> Raw {
    Raw::check(value).expect("an object")
}

fn ids(local: &Local) -> (Vec<String>, Vec<String>) {
    let services = local.services().into_keys().collect();
    (services, local.checks().into_keys().collect())
}

#[tokio::test]
async fn what_the_api_registered_survives_a_restart() {
    let bed = Bed::new();
    let local = bed.opened(&[]).await;
    let web = json!({"name": "web", "id": "a/b c", "check": {"ttl": "1h"}});
    local
        .register_service(&service(&web), false)
        .await
        .expect("valid");
    local
        .register_check(&check(json!({"Name": "disk", "TTL": "1h"})))
        .await
        .expect("valid");
    let long = "x".repeat(1000);
    local
        .register_check(&check(json!({"Name": long, "TTL": "1h"})))
        .await
        .expect("valid");
    local
        .heartbeat("service:a/b c", CheckStatus::Passing, "fine")
        .await
        .expect("a TTL check");
    local.maintain(None, Some("repairs")).await.expect("valid");
    let before = ids(&local);
    drop(local);
    let local = bed.opened(&[]).await;
    assert_eq!(ids(&local), before);
    let kept = local.check("service:a/b c").expect("kept").row;
    assert_eq!(
        (kept.status, kept.output.as_str()),
        (CheckStatus::Passing, "fine")
    );
    assert_eq!(
        local.check("disk").expect("kept").row.status,
        CheckStatus::Critical
    );
    assert_eq!(
        local.check(NODE_MAINTENANCE).expect("kept").row.notes,
        "repairs"
    );
    local.deregister_service("a/b c").await.expect("there");
    local.deregister_check("disk").await.expect("there");
    local.deregister_check(&long).await.expect("there");
    local.maintain(None, None).await.expect("there");
    let local = bed.opened(&[]).await;
    assert_eq!(ids(&local), (vec![], vec![]));
}

#[tokio::test]
async fn files_win_over_what_was_kept() {
    let bed = Bed::new();
    let local = bed.opened(&[]).await;
    let web = |port: u16| json!({"name": "web", "port": port});
    local
        .register_service(&service(&web(1)), false)
        .await
        .expect("valid");
    let local = bed.opened(&[web(2)]).await;
    let own = local.service("web").expect("there");
    assert_eq!((own.row.port, own.source), (2, Source::File));
    // For good: without the file there is nothing any more.
    let local = bed.opened(&[]).await;
    assert_eq!(ids(&local).0, Vec::<String>::new());
}

#[tokio::test]
async fn a_reload_is_all_or_nothing() {
    let bed = Bed::new();
    let local = bed
        .opened(&[json!({"name": "web", "check": {"ttl": "1h"}})])
        .await;
    local
        .heartbeat("service:web", CheckStatus::Passing, "")
        .await
        .expect("a TTL check");
    let orphan = check(json!({"Name": "c", "TTL": "1h", "ServiceID": "nope"}));
    let refused = local.reload(&[], &[orphan]).expect_err("no such service");
    assert_eq!(refused.to_string(), "ServiceID \"nope\" does not exist");
    assert_eq!(ids(&local).0, ["web"]);
    let same = service(&json!({"name": "web", "check": {"ttl": "1h"}}));
    local
        .reload(&[same, service(&json!({"name": "db"}))], &[])
        .expect("valid");
    assert_eq!(ids(&local).0, ["db", "web"]);
    let kept = local.check("service:web").expect("there").row.status;
    assert_eq!(kept, CheckStatus::Passing, "it did not change");
}

#[tokio::test]
async fn programs_are_run_only_for_those_who_may() {
    let bed = Bed::new();
    let local = bed.opened(&[]).await;
    let script = json!({"Name": "c", "Args": ["true"], "Interval": "1h"});
    let refused = local.register_check(&check(script.clone())).await;
    assert!(matches!(refused, Err(Error::NoScripts)));
    assert_eq!(ids(&local).1, Vec::<String>::new());
    local.reload(&[], &[check(script)]).expect("from a file");
}

#[tokio::test]
async fn checks_that_a_service_no_longer_names_stay_unless_asked() {
    let bed = Bed::new();
    let local = bed.opened(&[]).await;
    let two = json!({"name": "web", "checks": [{"ttl": "1h"}, {"ttl": "1h"}]});
    let one = json!({"name": "web", "check": {"ttl": "1h", "checkid": "only"}});
    local
        .register_service(&service(&two), false)
        .await
        .expect("valid");
    local.maintain(Some("web"), Some("")).await.expect("valid");
    local
        .register_service(&service(&one), false)
        .await
        .expect("valid");
    assert_eq!(ids(&local).1.len(), 4);
    local
        .register_service(&service(&one), true)
        .await
        .expect("valid");
    assert_eq!(ids(&local).1, ["_service_maintenance:web", "only"]);
}

#[tokio::test]
async fn a_sidecar_comes_and_goes_with_its_service_and_keeps_its_port() {
    let bed = Bed::new();
    let file = json!({"name": "db", "port": 21000, "connect": {"sidecar_service": {}}});
    let local = bed.opened(std::slice::from_ref(&file)).await;
    let port = |local: &Local, id: &str| local.service(id).expect("there").row.port;
    assert_eq!(port(&local, "db-sidecar-proxy"), 21001);
    let web = json!({"name": "web", "port": 80, "connect": {"sidecar_service": {}}});
    let web = service(&web);
    local.register_service(&web, false).await.expect("valid");
    assert_eq!(port(&local, "web-sidecar-proxy"), 21002);
    local.register_service(&web, false).await.expect("valid");
    assert_eq!(port(&local, "web-sidecar-proxy"), 21002, "its own is free");
    let file_services: Vec<_> = [file].iter().map(service).collect();
    local.reload(&file_services, &[]).expect("valid");
    assert_eq!(port(&local, "db-sidecar-proxy"), 21001);
    // Without the first one in files, its port would be free; that of the second was kept.
    let other = json!({"name": "cache", "connect": {"sidecar_service": {}}});
    let local = bed.opened(&[other]).await;
    assert_eq!(port(&local, "web-sidecar-proxy"), 21002);
    assert_eq!(
        ids(&local).0,
        ["cache", "cache-sidecar-proxy", "web", "web-sidecar-proxy"]
    );
    assert_eq!(port(&local, "cache-sidecar-proxy"), 21000);
    local.deregister_service("web").await.expect("there");
    local.reload(&[], &[]).expect("valid");
    assert_eq!(ids(&local), (vec![], vec![]));
    let local = bed.opened(&[]).await;
    assert_eq!(ids(&local), (vec![], vec![]));
}

#[tokio::test]
async fn a_service_that_is_named_like_a_sidecar_is_nobodys_sidecar() {
    let bed = Bed::new();
    let local = bed.opened(&[]).await;
    for name in ["web", "web-sidecar-proxy"] {
        let definition = service(&json!({"name": name}));
        local
            .register_service(&definition, false)
            .await
            .expect("valid");
    }
    local.deregister_service("web").await.expect("there");
    assert_eq!(ids(&local).0, ["web-sidecar-proxy"]);
}

#[tokio::test]
async fn a_sidecar_that_an_older_version_kept_in_its_service_is_made_a_service() {
    let bed = Bed::new();
    let text = json!({"Version": 1, "Definition": {
        "name": "web", "port": 80, "connect": {"SidecarService": {"Port": 20000}},
    }});
    let folder = PathBuf::from("/data/services");
    let disk = &bed.env.disk;
    disk.create_dir_all(&folder).expect("room");
    crate::env::write_atomic(&**disk, &folder.join("web"), text.to_string().as_bytes())
        .expect("room");
    for _ in 0..2 {
        let local = bed.opened(&[]).await;
        let sidecar = local.service("web-sidecar-proxy").expect("there");
        assert_eq!((sidecar.row.port, sidecar.source), (20000, Source::Api));
        assert_eq!(local.service("web").expect("there").row.mesh, None);
    }
}

/// Servers of which none answers.
struct Nobody;

impl Servers for Nobody {
    fn read(&self, _: Query, _: ReadOptions) -> BoxFuture<'_, Result<Reply, NodeError>> {
        ready(Err(NodeError::NoLeader)).boxed()
    }

    fn propose(&self, _: &InNameOf, _: Command) -> BoxFuture<'_, Result<Outcome, NodeError>> {
        ready(Err(NodeError::NoLeader)).boxed()
    }

    fn nodes(&self) -> usize {
        3
    }

    fn news(&self) -> BoxFuture<'_, ()> {
        pending().boxed()
    }
}

/// On a clock that only goes on while everybody waits for it.
#[tokio::test(start_paused = true)]
async fn nothing_keeps_an_agent_from_stopping_at_once() {
    let bed = Bed::new();
    let local = bed
        .opened(&[json!({"name": "web", "check": {"ttl": "1h"}})])
        .await;
    local.start(Arc::new(Nobody));
    // Until its tasks wait for what comes next.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let asked = Instant::now();
    local.stop().await;
    assert_eq!(asked.elapsed(), Duration::ZERO);
}
