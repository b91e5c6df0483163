//! `/v1/connect/ca` and `/v1/agent/connect`.

use crate::ca::{self, Leaf, settings as ca_settings, spiffe};
use crate::state::CaRoot;

use super::*;

const ROOTS: &str = "/v1/connect/ca/roots";
const CONFIGURATION: &str = "/v1/connect/ca/configuration";
const AUTHORIZE: &str = "/v1/agent/connect/authorize";
const CLUSTER: Uuid = Uuid::from_u128(5);

/// What a node gives: always the same index.
pub(super) fn leaf(store: &Store, service: &str) -> Result<(SharedLeaf, bool), NodeError> {
    let config = ca::current(store)?;
    let root = store.ca_roots().iter().find(|root| root.active);
    let root = root.ok_or(ca::Error::Uninitialized)?;
    let name = spiffe::of_service(&spiffe::trust_domain(CLUSTER), "dc1", service);
    let requested = ca::request(&name, root)?;
    let now = Env::real().clock.unix_ms();
    let place = ca::Place {
        datacenter: "dc1",
        domain: "consul",
    };
    let signed = ca::sign_with(store, &config, &requested.csr, place, (now, 7))?;
    let leaf = Leaf {
        service: service.to_owned(),
        private_key: requested.private_key,
        index: 9,
        made_ms: now,
        renew_at_ms: now,
        signed,
    };
    Ok((Arc::new(leaf), false))
}

impl Bench {
    /// Gives the cluster its first root.
    pub(super) fn start_ca(&self) {
        let given = ca_settings::read(&serde_json::Map::new(), "").unwrap();
        let env = Env::real();
        let step = ca::first(&given, CLUSTER, env.clock.unix_ms(), &*env.random).unwrap();
        assert_eq!(self.fake.apply(Command::Ca(step)), Outcome::Bool(true));
    }

    fn root(&self) -> CaRoot {
        CaRoot::clone(&self.fake.shared.load().ca_roots()[0])
    }
}

fn config(config: Value) -> String {
    json!({"Provider": "consul", "Config": config}).to_string()
}

#[tokio::test]
async fn roots_are_shown_as_consul_shows_them() {
    let bench = Bench::new();
    let none = json!({"ActiveRootID": "", "TrustDomain": "", "Roots": []});
    assert_eq!(bench.get(ROOTS).await.json(), none);
    bench.start_ca();
    let row = bench.root();
    for path in [ROOTS, "/v1/agent/connect/ca/roots"] {
        let got = bench.get(path).await;
        assert_eq!(got.index(), row.modify_index);
        let shown = got.json();
        assert_eq!(shown["ActiveRootID"], row.id.as_str());
        assert_eq!(
            shown["TrustDomain"],
            "00000000-0000-0000-0000-000000000005.consul"
        );
        let root = shown["Roots"][0].as_object().unwrap();
        let names: Vec<_> = root.keys().map(String::as_str).collect();
        let wanted = [
            "ID",
            "Name",
            "SerialNumber",
            "SigningKeyID",
            "ExternalTrustDomain",
            "NotBefore",
            "NotAfter",
            "RootCert",
            "IntermediateCerts",
            "Active",
            "PrivateKeyType",
            "PrivateKeyBits",
            "CreateIndex",
            "ModifyIndex",
        ];
        assert_eq!(names, wanted);
        for (field, value) in [
            ("ID", json!(row.id)),
            ("Name", json!("Consul CA Primary Cert")),
            ("ExternalTrustDomain", json!(CLUSTER)),
            ("RootCert", json!(row.root_cert)),
            ("IntermediateCerts", Value::Null),
            ("Active", json!(true)),
            ("PrivateKeyType", json!("ec")),
            ("PrivateKeyBits", json!(256)),
        ] {
            assert_eq!(root[field], value, "{field}");
        }
        let time: jiff::Timestamp = root["NotAfter"].as_str().unwrap().parse().unwrap();
        assert_eq!(time.as_millisecond() as u64, row.not_after_ms);
        assert!(!got.body.contains("PRIVATE KEY"), "{got:?}");
    }
    let pem = bench.get(&format!("{ROOTS}?pem=true")).await;
    assert_eq!(
        pem.header("content-type"),
        "application/pem-certificate-chain"
    );
    assert_eq!(pem.body, row.root_cert);
    let bad = bench.get(&format!("{ROOTS}?pem=maybe")).await;
    bad.is(400, "The 'pem' query parameter must be a boolean value");
}

#[tokio::test]
async fn a_new_key_is_a_new_root_and_wakes_those_who_wait() {
    let bench = Bench::new();
    bench.start_ca();
    let old = bench.root();
    let shown = bench.get(CONFIGURATION).await.json();
    assert_eq!(
        shown,
        json!({"Provider": "consul",
               "Config": {"LeafCertTTL": "72h", "IntermediateCertTTL": "8760h", "RootCertTTL": "87600h"},
               "State": null, "ForceWithoutCrossSigning": false, "CreateIndex": 2, "ModifyIndex": 2})
    );
    // Of another time, but not of another root.
    let put = bench
        .put(CONFIGURATION, config(json!({"leaf_cert_ttl": "24h"})))
        .await;
    put.is(200, "");
    let shown = bench.get(CONFIGURATION).await.json();
    assert_eq!(shown["Config"]["LeafCertTTL"], "24h");
    let path = format!("{ROOTS}?index={}&wait=60s", old.modify_index);
    let rotate = config(json!({"LeafCertTTL": "24h", "PrivateKeyBits": 384}));
    let (woken, put) = tokio::join!(bench.get(&path), bench.put(CONFIGURATION, rotate));
    put.is(200, "");
    let roots = woken.json();
    assert_ne!(roots["ActiveRootID"], old.id.as_str());
    assert_eq!(roots["Roots"][1]["ID"], old.id.as_str());
    assert_eq!(roots["Roots"][1]["Active"], false);
    let cross = roots["Roots"][0]["IntermediateCerts"][0].as_str().unwrap();
    let pem = bench.get(&format!("{ROOTS}?pem=1")).await.body;
    assert!(pem.contains(cross) && pem.ends_with(&old.root_cert));
}

#[tokio::test]
async fn a_configuration_that_cannot_be_changes_nothing() {
    let bench = Bench::new();
    bench
        .get(CONFIGURATION)
        .await
        .is(500, "CA has not finished initializing");
    bench.start_ca();
    let before = bench.get(CONFIGURATION).await.body;
    for (body, status, why) in [
        (
            json!({"Provider": "vault", "Config": {}}),
            500,
            "unknown CA provider \"vault\"",
        ),
        (json!({"Config": {}}), 500, "unknown CA provider \"\""),
        (
            json!({"Provider": "consul", "Config": {"LeafCertTTL": "1s"}}),
            500,
            "leaf cert TTL must be greater",
        ),
        (
            json!({"Provider": "consul", "Config": {"RootCert": "x"}}),
            500,
            "RootCert needs the PrivateKey",
        ),
        (
            json!({"Provider": "consul", "Config": {"PrivateKey": "x"}}),
            500,
            "PrivateKey: not a key in PEM",
        ),
        (
            json!({"Provider": "consul", "Config": "x"}),
            400,
            "Request decode failed: ",
        ),
        (
            json!({"Provider": "consul", "State": {"a": "b"}}),
            400,
            "Provider State is read-only.",
        ),
    ] {
        let got = bench.put(CONFIGURATION, body.to_string()).await;
        assert_eq!(got.status, status, "{got:?}");
        assert!(got.body.starts_with(why), "{got:?}");
    }
    let other = format!("{CONFIGURATION}?cas=77");
    assert_eq!(bench.put(&other, config(json!({}))).await.status, 500);
    bench
        .put(&format!("{CONFIGURATION}?cas=x"), config(json!({})))
        .await
        .is(
            400,
            "Request decode failed: strconv.ParseUint: parsing \"x\": invalid syntax",
        );
    assert_eq!(bench.get(CONFIGURATION).await.body, before);
}

#[tokio::test]
async fn a_certificate_is_shown_as_consul_shows_it() {
    let bench = Bench::new();
    let path = "/v1/agent/connect/ca/leaf/web";
    let none = "CA is uninitialized and unable to sign certificates yet: no root certificate";
    bench.get(path).await.is(500, none);
    bench.start_ca();
    bench.calls();
    let got = bench.get(path).await;
    assert_eq!((got.index(), got.header("x-cache")), (9, "MISS"));
    let shown = got.json();
    let names: Vec<_> = shown.as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        names,
        [
            "SerialNumber",
            "CertPEM",
            "PrivateKeyPEM",
            "Service",
            "ServiceURI",
            "ValidAfter",
            "ValidBefore",
            "CreateIndex",
            "ModifyIndex"
        ]
    );
    assert_eq!(shown["Service"], "web");
    assert_eq!(
        shown["ServiceURI"],
        "spiffe://00000000-0000-0000-0000-000000000005.consul/ns/default/dc/dc1/svc/web"
    );
    assert!(
        shown["PrivateKeyPEM"]
            .as_str()
            .unwrap()
            .starts_with("-----BEGIN PRIVATE KEY-----\n")
    );
    assert_eq!(shown["SerialNumber"], "00:00:00:00:00:00:00:03");
    bench.get(&format!("{path}?index=8&wait=0")).await;
    let calls = bench.calls();
    assert_eq!(calls[0], "leaf web 0 0ns");
    assert!(calls[1].starts_with("leaf web 8 "), "{calls:?}");
    let missing = bench.get("/v1/agent/connect/ca/leaf/").await;
    missing.is(400, "Missing service name");
}

#[tokio::test]
async fn intentions_decide_who_may_connect() {
    let bench = Bench::new();
    let ask = async |source: &str| {
        let uri = spiffe::of_service("any.consul", "dc9", source);
        let body = json!({"Target": "db", "ClientCertURI": uri, "ClientCertSerial": "1"});
        bench.send("POST", AUTHORIZE, body.to_string()).await.json()
    };
    let allowed = ask("web").await;
    let wanted = json!({"Authorized": true, "Reason": "Default behavior configured by ACLs"});
    assert_eq!(allowed, wanted);
    let entry = json!({"Kind": "service-intentions", "Name": "db", "Sources": [
        {"Name": "web", "Action": "deny"}, {"Name": "*", "Action": "allow"},
        {"Name": "l7", "Permissions": [{"Action": "allow", "HTTP": {"PathExact": "/"}}]}]});
    // What is allowed by its requests needs a protocol that has some.
    let protocol = json!({"Kind": "service-defaults", "Name": "db", "Protocol": "http"});
    for entry in [protocol, entry] {
        bench
            .put("/v1/config", entry.to_string())
            .await
            .is(200, "true");
    }
    for (source, authorized, reason) in [
        (
            "web",
            false,
            "Matched L4 intention: default/web => default/db (Precedence: 9, Action: DENY)",
        ),
        (
            "other",
            true,
            "Matched L4 intention: default/* => default/db (Precedence: 8, Action: ALLOW)",
        ),
        (
            "l7",
            false,
            "Matched L7 intention: default/l7 => default/db (Precedence: 9, Permissions: 1)",
        ),
    ] {
        let wanted = json!({"Authorized": authorized, "Reason": reason});
        assert_eq!(ask(source).await, wanted);
    }
    for (body, why) in [
        (
            json!({"ClientCertURI": "x"}),
            "Target service must be specified",
        ),
        (
            json!({"Target": "db", "ClientCertURI": "x"}),
            "ClientCertURI not a valid Connect identifier",
        ),
        (
            json!({"Target": "db", "ClientCertURI": spiffe::of_authority(CLUSTER)}),
            "ClientCertURI not a valid Service identifier",
        ),
    ] {
        bench
            .send("POST", AUTHORIZE, body.to_string())
            .await
            .is(400, why);
    }
    let broken = bench.send("POST", AUTHORIZE, "{").await;
    broken.is(400, "Request decode failed: unexpected EOF");
}

#[tokio::test]
async fn without_a_mesh_there_are_no_certificates() {
    let off = Settings {
        connect: false,
        ..settings()
    };
    let bench = Bench::with(off);
    let why = "Connect must be enabled in order to use this endpoint";
    for path in [
        ROOTS,
        CONFIGURATION,
        "/v1/agent/connect/ca/roots",
        "/v1/agent/connect/ca/leaf/web",
    ] {
        bench.get(path).await.is(500, why);
    }
    bench
        .put(CONFIGURATION, config(json!({})))
        .await
        .is(500, why);
}
