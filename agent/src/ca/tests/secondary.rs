//! A primary datacenter's authority and that of another one.

use super::super::secondary::{Next, next, request_intermediate, sign_intermediate, take};
use super::super::settings::{Given, KeyKind};
use super::*;
use crate::state::{Answer, CaRoots, Query};

const PRIMARY: Uuid = Uuid::from_u128(5);

fn given(config: serde_json::Value) -> Given {
    settings::read(config.as_object().unwrap(), "").unwrap()
}

/// The primary, and the state of the other datacenter.
struct Both {
    primary: Bed,
    other: Bed,
    given: Given,
}

impl Both {
    fn new() -> Self {
        Self {
            primary: Bed::new(json!({})),
            other: Bed {
                store: Store::default(),
                random: SeededRandom::new(2),
            },
            given: given(json!({})),
        }
    }

    /// What the primary tells: no keys.
    fn roots(&self) -> CaRoots {
        match self.primary.store.query(&Query::CaRoots) {
            Answer::CaRoots(roots) => roots,
            other => panic!("{other:?}"),
        }
    }

    fn next(&self, now: u64) -> Next {
        next(&self.other.store, &self.roots(), &self.given, now).unwrap()
    }

    /// Does what comes next, which must be a new intermediate certificate.
    fn follow(&mut self, now: u64) -> &'static str {
        let Next::Ask(kind, why) = self.next(now) else {
            panic!("{:?}", self.next(now));
        };
        let requested = request_intermediate(&self.roots(), kind).unwrap();
        let settings = current(&self.primary.store).unwrap();
        let store = &self.primary.store;
        let signed = sign_intermediate(store, &settings, &requested.csr, (now, 9)).unwrap();
        let held = (requested.private_key, signed);
        let step = take(&self.other.store, &self.roots(), held, &self.given, now).unwrap();
        assert_eq!(self.other.apply(step), Outcome::Bool(true));
        why
    }

    /// A certificate of a service of the other datacenter.
    fn leaf(&self, now: u64) -> Signed {
        let domain = spiffe::trust_domain(PRIMARY);
        let root = self.other.root();
        let name = spiffe::of_service(&domain, "dc2", "web");
        let requested = request(&name, &root).unwrap();
        let settings = current(&self.other.store).unwrap();
        let place = Place {
            datacenter: "dc2",
            domain: "consul",
        };
        sign_with(
            &self.other.store,
            &settings,
            &requested.csr,
            place,
            (now, 7),
        )
        .unwrap()
    }
}

#[test]
fn a_service_of_the_other_datacenter_is_known_by_the_primarys_root() {
    let mut both = Both::new();
    let root = both.primary.root();
    assert_eq!(both.follow(NOW), "there is none of this trust domain");
    let half = NOW + 8760 * HOUR_MS / 2;
    assert_eq!(both.next(NOW), Next::Nothing(half));
    let leaf = both.leaf(NOW);
    assert_eq!(
        leaf.uri,
        "spiffe://00000000-0000-0000-0000-000000000005.consul/ns/default/dc/dc2/svc/web"
    );
    assert_eq!(verify(&leaf.cert, &[&root.root_cert], NOW), Ok(()));
    assert_eq!(leaf.root_id, root.id);
    let own = both.other.root();
    assert_eq!((&own.id, &own.root_cert), (&root.id, &root.root_cert));
    assert_ne!(own.signing_key, root.signing_key);
    // The key of the root does not sign here.
    let alone = leaf
        .cert
        .split_inclusive("-----END CERTIFICATE-----\n")
        .next()
        .unwrap();
    assert!(verify(alone, &[&root.root_cert], NOW).is_err());

    // Before it ends there is another one; certificates of the one before stay good.
    assert!(matches!(both.next(half - 1), Next::Nothing(_)));
    assert_eq!(
        both.follow(half),
        "half of the time of the one before is over"
    );
    assert!(matches!(both.next(half), Next::Nothing(_)));
    let after = both.leaf(half);
    assert_eq!(verify(&after.cert, &[&root.root_cert], half), Ok(()));
    assert_eq!(verify(&leaf.cert, &[&root.root_cert], NOW), Ok(()));
    // Other settings of keys are followed as well.
    let update = Update {
        provider: "consul".into(),
        config: json!({"PrivateKeyBits": 384}).to_string(),
        ..Update::default()
    };
    let (step, _) = change_of_secondary(&both.other.store, &update)
        .unwrap()
        .unwrap();
    assert_eq!(both.other.apply(step), Outcome::Bool(true));
    assert!(matches!(both.next(half), Next::Ask(KeyKind::P384, _)));
    both.follow(half);
    let last = both.leaf(half);
    assert_eq!(verify(&last.cert, &[&root.root_cert], half), Ok(()));
}

#[test]
fn no_certificate_outlives_what_vouches_for_it() {
    let mut both = Both::new();
    let short = json!({"IntermediateCertTTL": "10s", "LeafCertTTL": "1h", "SkipValidate": true});
    assert_eq!(both.primary.set(short, NOW), Ok(true));
    both.follow(NOW);
    assert_eq!(both.leaf(NOW).valid_before_ms, NOW + 10_000);
    // It is not asked for again and again, although it began in the past for clocks that differ.
    assert_eq!(both.next(NOW), Next::Nothing(NOW + 5_000));
}

#[test]
fn a_new_root_of_the_primary_is_followed_and_the_end_of_an_old_one() {
    let mut both = Both::new();
    both.follow(NOW);
    let (old, before) = (both.primary.root(), both.leaf(NOW));
    let later = NOW + HOUR_MS;
    assert_eq!(
        both.primary.set(json!({"PrivateKeyBits": 384}), later),
        Ok(true)
    );
    assert_eq!(
        both.follow(later),
        "the primary datacenter has another root"
    );
    let (new, after) = (both.primary.root(), both.leaf(later));
    assert_eq!(both.other.store.ca_roots().len(), 2);
    let known = [new.root_cert.as_str(), old.root_cert.as_str()];
    for leaf in [&before, &after] {
        assert_eq!(verify(&leaf.cert, &known, later), Ok(()));
    }
    // Who has heard of one of them only, verifies the new certificate.
    assert_eq!(verify(&after.cert, &known[..1], later), Ok(()));
    assert_eq!(verify(&after.cert, &known[1..], later), Ok(()));

    let end = later + 144 * HOUR_MS + 1;
    let step = due(&both.primary.store, end).unwrap();
    assert_eq!(both.primary.apply(step), Outcome::Bool(true));
    let Next::Take(step) = both.next(end) else {
        panic!("{:?}", both.next(end));
    };
    assert_eq!(both.other.apply(step), Outcome::Bool(true));
    assert!(matches!(both.next(end), Next::Nothing(_)));
    assert_eq!(both.other.store.ca_roots().len(), 1);
    let last = both.leaf(end);
    assert_eq!(verify(&last.cert, &known[..1], end), Ok(()));
}

#[test]
fn roots_of_before_there_was_a_primary_stay_until_nobody_has_a_certificate_of_them() {
    let mut both = Both::new();
    let config = given(json!({}));
    let step = first(&config, Uuid::from_u128(6), NOW, &both.other.random).unwrap();
    assert_eq!(both.other.apply(step), Outcome::Bool(true));
    let own = both.other.root();
    both.follow(NOW);
    let rows = both.other.store.ca_roots();
    assert_eq!(rows.len(), 2);
    assert_eq!((&rows[1].id, rows[1].active), (&own.id, false));
    assert_eq!(
        (&rows[1].signing_key[..], rows[1].rotated_out_at_ms),
        ("", Some(NOW))
    );
    let domain = both.other.store.ca_config().unwrap().cluster_id;
    assert_eq!(domain, PRIMARY);
    assert!(matches!(both.next(NOW + 144 * HOUR_MS), Next::Nothing(_)));
    let Next::Take(step) = both.next(NOW + 144 * HOUR_MS + 1) else {
        panic!("the old root stays");
    };
    assert_eq!(both.other.apply(step), Outcome::Bool(true));
    assert_eq!(both.other.store.ca_roots().len(), 1);
}

#[test]
fn what_vouches_for_no_authority_says_so() {
    let mut both = Both::new();
    let none = next(&both.other.store, &CaRoots::default(), &both.given, NOW);
    assert!(matches!(none, Err(Error::Primary(why)) if why.contains("no certificate authority")));
    let settings = current(&both.primary.store).unwrap();
    let asked = request_intermediate(&both.roots(), KeyKind::P256).unwrap();
    let ask = |store: &Store, csr: &[u8]| {
        let signed = sign_intermediate(store, &settings, csr, (NOW, 9));
        signed.unwrap_err().to_string()
    };
    let web = spiffe::of_service(&spiffe::trust_domain(PRIMARY), "dc2", "web");
    let web = request(&web, &both.primary.root()).unwrap();
    for csr in [&web.csr, &{
        let elsewhere = CaRoots {
            cluster_id: Some(Uuid::from_u128(7)),
            ..both.roots()
        };
        request_intermediate(&elsewhere, KeyKind::P256).unwrap().csr
    }] {
        let refused = ask(&both.primary.store, csr);
        assert!(refused.contains("must name this trust domain"), "{refused}");
    }
    both.follow(NOW);
    let refused = ask(&both.other.store, &asked.csr);
    assert!(
        refused.contains("this datacenter's root is another's"),
        "{refused}"
    );
    // Its root is not changed there.
    let key = include_str!("own-ca.key");
    let update = Update {
        provider: "consul".into(),
        config: json!({"PrivateKey": key}).to_string(),
        ..Update::default()
    };
    let refused = change_of_secondary(&both.other.store, &update).unwrap_err();
    assert!(
        refused.to_string().contains("is changed there"),
        "{refused}"
    );
    // The primary's root is another one than that of the certificate that came.
    let held = {
        let signed = sign_intermediate(&both.primary.store, &settings, &asked.csr, (NOW, 9));
        (asked.private_key, signed.unwrap())
    };
    assert_eq!(
        both.primary.set(json!({"PrivateKeyBits": 384}), NOW),
        Ok(true)
    );
    let late = take(&both.other.store, &both.roots(), held, &both.given, NOW);
    assert!(matches!(late, Err(Error::Primary(why)) if why.contains("changed meanwhile")));
}
