//! Certificates as another library sees them: rustls' verifier.

use std::time::Duration;

use serde_json::json;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use uuid::Uuid;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::*;
use crate::env::SeededRandom;
use crate::state::{CaRoot, CaStep, Command, Outcome, Stamped, Store};

mod secondary;

const NOW: u64 = 1_800_000_000_000;
const HOUR_MS: u64 = 3_600_000;
const PLACE: Place<'_> = Place {
    datacenter: "dc1",
    domain: "consul",
};
const TTL: Duration = Duration::from_secs(72 * 3600);

struct Bed {
    store: Store,
    random: SeededRandom,
}

impl Bed {
    fn new(config: serde_json::Value) -> Self {
        let mut bed = Self {
            store: Store::default(),
            random: SeededRandom::new(1),
        };
        let given = settings::read(config.as_object().unwrap(), "").unwrap();
        let step = first(&given, Uuid::from_u128(5), NOW, &bed.random).unwrap();
        assert_eq!(bed.apply(step), Outcome::Bool(true));
        bed
    }

    fn apply(&mut self, step: CaStep) -> Outcome {
        let index = self.store.last_index() + 1;
        let stamped = Stamped {
            unix_ms: 0,
            command: Command::Ca(step),
        };
        self.store.apply(index, &stamped)
    }

    fn set(&mut self, config: serde_json::Value, now: u64) -> Result<bool, Error> {
        let update = Update {
            provider: "consul".into(),
            config: config.to_string(),
            ..Update::default()
        };
        match change(&self.store, &update, now, &self.random)? {
            None => Ok(false),
            Some((step, _)) => Ok(self.apply(step) == Outcome::Bool(true)),
        }
    }

    fn root(&self) -> CaRoot {
        let roots: Vec<_> = self.store.ca_roots().iter().filter(|r| r.active).collect();
        assert_eq!(roots.len(), 1, "one root is active");
        CaRoot::clone(roots[0])
    }

    fn leaf(&self, service: &str, now: u64) -> Signed {
        let root = self.root();
        let domain = spiffe::trust_domain(Uuid::from_u128(5));
        let requested = request(&spiffe::of_service(&domain, "dc1", service), &root).unwrap();
        sign(&requested.csr, &root, &domain, PLACE, TTL, (now, 7)).unwrap()
    }
}

/// What rustls says of a certificate and what comes behind it, to somebody who trusts these roots.
fn verify(chain: &str, roots: &[&str], at_ms: u64) -> Result<(), String> {
    let read = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let roots: Vec<_> = roots.iter().map(|pem| read(pem)).collect();
    let anchors: Vec<_> = roots
        .iter()
        .map(|der| anchor_from_trusted_cert(der).unwrap())
        .collect();
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .map(Result::unwrap)
        .collect();
    let leaf = EndEntityCert::try_from(&chain[0]).unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_millis(at_ms));
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &chain[1..],
            at,
            usage,
            None,
            None,
        )
        .map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[test]
fn a_service_is_who_it_says_for_as_long_as_its_certificate_lasts() {
    for config in [
        json!({}),
        json!({"private_key_type": "ec", "private_key_bits": 384}),
    ] {
        let bed = Bed::new(config);
        let root = bed.root();
        let leaf = bed.leaf("web", NOW);
        assert_eq!(
            leaf.uri,
            "spiffe://00000000-0000-0000-0000-000000000005.consul/ns/default/dc/dc1/svc/web"
        );
        assert_eq!(verify(&leaf.cert, &[&root.root_cert], NOW), Ok(()));
        assert_eq!(leaf.valid_before_ms, NOW + 72 * HOUR_MS);
        assert!(verify(&leaf.cert, &[&root.root_cert], NOW + 73 * HOUR_MS).is_err());
        assert!(verify(&leaf.cert, &[&root.root_cert], NOW - HOUR_MS).is_err());
        let stranger = Bed::new(json!({})).root();
        assert!(verify(&leaf.cert, &[&stranger.root_cert], NOW).is_err());
        assert_eq!(root.not_after_ms, NOW + 87_600 * HOUR_MS);
        assert_eq!(root.id.split(':').count(), 20);
    }
}

#[test]
fn requests_for_other_names_are_refused() {
    let bed = Bed::new(json!({}));
    let root = bed.root();
    let domain = spiffe::trust_domain(Uuid::from_u128(5));
    let ask = |name: &str| {
        let csr = request(name, &root).unwrap().csr;
        match sign(&csr, &root, &domain, PLACE, TTL, (NOW, 7)) {
            Err(Error::Request(why)) => why,
            other => panic!("{name}: {other:?}"),
        }
    };
    assert!(
        ask(&spiffe::of_service("other.consul", "dc1", "web")).contains("different trust domain")
    );
    assert!(ask(&spiffe::of_service(&domain, "dc2", "web")).contains("different datacenter"));
    assert!(ask("spiffe://x.consul/agent/server/dc/dc1").contains("must be a service or agent ID"));
    assert!(ask("https://example.org/").contains("must be a service or agent ID"));
    let mut csr = request(&spiffe::of_service(&domain, "dc1", "web"), &root)
        .unwrap()
        .csr;
    let signed = |csr: &[u8]| sign(csr, &root, &domain, PLACE, TTL, (NOW, 7));
    assert!(signed(&csr).is_ok());
    // Signed by somebody else than the owner of the key.
    *csr.last_mut().unwrap() ^= 1;
    assert!(matches!(signed(&csr), Err(Error::Request(why)) if why.starts_with("invalid CSR")));
    assert!(signed(b"no request").is_err());
}

#[test]
fn an_agent_is_known_by_its_id_and_by_names_that_are_no_servers() {
    let bed = Bed::new(json!({}));
    let root = bed.root();
    let domain = spiffe::trust_domain(Uuid::from_u128(5));
    let id = spiffe::of_agent(&domain, "dc1", "D");
    let ask = |dns: &[&str]| {
        let dns: Vec<String> = dns.iter().map(|&name| name.to_owned()).collect();
        let ips = [[10, 0, 0, 1].into()];
        let csr = request_of_agent(&id, &dns, &ips, &root).unwrap().csr;
        assert_eq!(subject_of(&csr), Some(Subject::Agent("D".into())));
        sign(&csr, &root, &domain, PLACE, TTL, (NOW, 7))
    };
    let signed = ask(&["localhost", "client.dc1.consul"]).unwrap();
    assert_eq!(signed.uri, id);
    assert_eq!(verify(&signed.cert, &[&root.root_cert], NOW), Ok(()));
    let der = CertificateDer::from_pem_slice(signed.cert.as_bytes()).unwrap();
    let cert = EndEntityCert::try_from(&der).unwrap();
    for name in ["localhost", "client.dc1.consul", "10.0.0.1"] {
        let name = tokio_rustls::rustls::pki_types::ServerName::try_from(name).unwrap();
        assert_eq!(cert.verify_is_valid_for_subject_name(&name), Ok(()));
    }
    let refused = ask(&["localhost", "server.dc1.consul"]).unwrap_err();
    assert!(
        refused.to_string().contains("which is a server's"),
        "{refused}"
    );
    let many: Vec<String> = (0..70).map(|n| format!("n{n}.example")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let refused = ask(&many).unwrap_err().to_string();
    assert!(refused.contains("no more than 64"), "{refused}");
    // A service has one name.
    let web = spiffe::of_service(&domain, "dc1", "web");
    let csr = request_of_agent(&web, &["localhost".into()], &[], &root)
        .unwrap()
        .csr;
    assert_eq!(subject_of(&csr), None);
    let refused = sign(&csr, &root, &domain, PLACE, TTL, (NOW, 7)).unwrap_err();
    assert!(
        refused.to_string().contains("and nothing else"),
        "{refused}"
    );
}

#[test]
fn while_roots_change_both_sides_verify_each_other() {
    let mut bed = Bed::new(json!({}));
    let (old, before) = (bed.root(), bed.leaf("web", NOW));
    // Other settings are no other root.
    assert_eq!(bed.set(json!({"LeafCertTTL": "48h"}), NOW), Ok(true));
    assert_eq!(bed.root().id, old.id);
    let later = NOW + HOUR_MS;
    assert_eq!(
        bed.set(json!({"LeafCertTTL": "48h", "PrivateKeyBits": 384}), later),
        Ok(true)
    );
    let new = bed.root();
    assert_ne!(new.id, old.id);
    let rows = bed.store.ca_roots();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1].rotated_out_at_ms, Some(later));
    assert_eq!(
        rows[1].signing_key, "",
        "a key that is not needed is not kept"
    );
    let after = bed.leaf("db", later);
    // Who has both roots verifies both; who has heard of one of them only verifies the new certificate, too.
    let both = [new.root_cert.as_str(), old.root_cert.as_str()];
    for leaf in [&before, &after] {
        assert_eq!(verify(&leaf.cert, &both, later), Ok(()));
    }
    assert_eq!(verify(&after.cert, &both[..1], later), Ok(()));
    assert_eq!(verify(&after.cert, &both[1..], later), Ok(()));
    // It is the signature by the old root that does it.
    let alone = after
        .cert
        .split_inclusive("-----END CERTIFICATE-----\n")
        .next()
        .unwrap();
    assert!(verify(alone, &both[1..], later).is_err());

    assert_eq!(
        due(&bed.store, later + 96 * HOUR_MS),
        None,
        "certificates of it may be in use"
    );
    let step = due(&bed.store, later + 96 * HOUR_MS + 1).unwrap();
    assert_eq!(bed.apply(step), Outcome::Bool(true));
    assert_eq!(bed.store.ca_roots().len(), 1);
    assert_eq!(bed.root().intermediate_certs, [""; 0]);
    assert_eq!(due(&bed.store, u64::MAX), None);
}

#[test]
fn an_operators_own_root_signs() {
    // Made by OpenSSL, as somebody would by hand.
    let key = include_str!("tests/own-ca.key");
    let cert = include_str!("tests/own-ca.pem");
    let mut bed = Bed::new(json!({}));
    let old = bed.root();
    let config = json!({"PrivateKey": key, "RootCert": cert});
    assert_eq!(bed.set(config.clone(), NOW), Ok(true));
    let root = bed.root();
    assert_eq!(root.root_cert.trim(), cert.trim());
    // What `openssl x509 -fingerprint -sha1` says of it.
    let fingerprint = include_str!("tests/own-ca.sha1").trim();
    assert_eq!(root.id, fingerprint);
    let leaf = bed.leaf("web", NOW);
    for trusted in [cert, &old.root_cert] {
        assert_eq!(verify(&leaf.cert, &[trusted], NOW), Ok(()));
    }
    // The same again, also with the key hidden as it is shown, changes no root.
    let hidden = json!({"PrivateKey": "hidden", "RootCert": cert});
    for same in [config, hidden] {
        assert_eq!(bed.set(same, NOW), Ok(true));
        assert_eq!(bed.root().id, root.id);
    }
    assert_eq!(bed.store.ca_roots().len(), 2);
    for (config, wanted) in [
        (json!({"PrivateKey": "x"}), "PrivateKey: not a key in PEM"),
        (
            json!({"PrivateKey": key, "RootCert": "x"}),
            "RootCert: not a certificate in PEM",
        ),
        (
            json!({"PrivateKey": key, "RootCert": leaf.cert}),
            "RootCert: it is not the certificate of a certificate authority",
        ),
        (
            json!({"PrivateKey": key, "RootCert": old.root_cert}),
            "RootCert: it does not belong to the PrivateKey",
        ),
    ] {
        let error = bed.set(config, NOW).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error}");
        assert_eq!(bed.root().id, root.id);
    }
}

#[test]
fn what_is_no_change_of_this_configuration_changes_nothing() {
    let mut bed = Bed::new(json!({}));
    let index = bed.store.ca_config().unwrap().modify_index;
    let stale = Update {
        provider: "consul".into(),
        config: "{}".into(),
        cas: Some(index + 1),
        ..Update::default()
    };
    assert_eq!(change(&bed.store, &stale, NOW, &bed.random), Ok(None));
    let vault = Update {
        provider: "vault".into(),
        ..stale.clone()
    };
    let refused = change(&bed.store, &vault, NOW, &bed.random);
    assert_eq!(refused, Err(Error::Provider("vault".into())));
    let other = change(&Store::default(), &stale, NOW, &bed.random);
    assert_eq!(other, Err(Error::Uninitialized));
    // Two leaders that begin at the same time make one root.
    let given = settings::read(&serde_json::Map::new(), "").unwrap();
    let again = first(&given, Uuid::from_u128(6), NOW, &bed.random).unwrap();
    let root = bed.root().id;
    assert_eq!(bed.apply(again), Outcome::Bool(false));
    assert_eq!(bed.root().id, root);
}
